"""Answer: what a camera says to our request, and what it means when that is no picture."""

import asyncio
from collections.abc import Iterator
from functools import partial

from mjrelay.errors import (
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
)
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from mjrelay.formats.tally import Tally
from mjrelay.sources.connection import Connection

# A body this long without the beginning of an image is no picture stream.
_MAX_WITHOUT_IMAGE = 2**20
# Enough of a body to know HTML by.
_START = 256
_OTHER_CODECS = {
    "h264": "H.264",
    "x-h264": "H.264",
    "avc": "H.264",
    "h265": "H.265",
    "x-h265": "H.265",
    "hevc": "H.265",
    "mp4": "MP4",
}


class Answer:
    """An answer being read from a connection."""

    def __init__(self, connection: Connection, tally: Tally) -> None:
        self._connection = connection
        self._reader = ResponseReader(tally)
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._early: bytes | memoryview = b""
        self._start = b""
        self._length = 0
        self._found = False

    @property
    def head(self) -> ResponseHead:
        """The answer's head, once `read_head` has returned."""
        assert self._reader.head
        return self._reader.head

    @property
    def complete(self) -> bool:
        """All the bytes that were promised have arrived."""
        return self._reader.complete

    async def read_head(self) -> None:
        """Read up to the body.

        Raises:
            SourceError: The connection ended first, or what came is no answer.
        """
        while self._reader.head is None:
            data = await self._connection.take(bytes)
            if data is None:
                raise SourceLost("the camera closed the connection without an answer", SLOT_TAKEN)
            self._pieces = self._reader.feed(data)
            self._early = self._next_piece()

    async def images(self, framer: JpegFramer) -> list[bytes] | None:
        """Feed the framer with what comes, up to where there are images or the end may be near.

        Returns:
            The images, which may be none yet; None at the end of the body.

        Raises:
            SourceError: The connection broke, or the body cannot be read.
        """
        if piece := self._early or self._next_piece():
            self._early = b""
            await asyncio.sleep(0)  # a little gzip can become many pieces; others want a turn
            return self._feed(framer, piece)
        if self._reader.ended:
            return None
        return await self._connection.take(partial(self._use, framer))

    def _use(self, framer: JpegFramer, data: memoryview) -> list[bytes] | None:
        """Feed the framer. None: there is no need to wake up for that."""
        self._pieces = self._reader.feed(data)
        images = self._feed(framer, self._next_piece())
        if self._reader.decodes or not self._found:
            return images
        self._connection.expect(framer.missing)
        return images if images or self.complete else None

    def _feed(self, framer: JpegFramer, piece: bytes | memoryview) -> list[bytes]:
        self._length += len(piece)
        if len(self._start) < _START:
            self._start += bytes(piece[:_START])
        images = framer.feed(piece)
        self._found = self._found or bool(images)
        return images

    def _next_piece(self) -> bytes | memoryview:
        try:
            return next(self._pieces, b"")
        except FramingError as error:
            raise SourceRefused(
                f"the camera's answer cannot be read: {error}", LOOK_IN_BROWSER
            ) from error

    def diagnose(self, foreign_type: str, *, ended: bool = False) -> SourceError | None:
        """Why no picture was found in what has come so far; None: it is too early to say.

        Args:
            foreign_type: The content type of a multipart part that was no JPEG.
            ended: Nothing more will come.
        """
        media_type = self.head.media_type.partition(";")[0].strip().lower()
        for declared in (foreign_type, media_type):
            if codec := _OTHER_CODECS.get(declared.rpartition("/")[2]):
                return SourceRefused(
                    f"the camera sends {codec} video, not JPEG pictures",
                    "choose its MJPEG address, or convert: exec:ffmpeg -i URL -f mjpeg -",
                )
        if not self.head.is_multipart:
            start = self._start.lstrip()
            for first, kind in ((b"<", "an HTML page"), (b"{", "JSON"), (b"[", "JSON")):
                if start.startswith(first):
                    return SourceRefused(
                        f"the camera answers with {kind}, not with pictures",
                        "open the address in a browser and take the one of the picture itself",
                    )
        if ended and not self._length:
            return SourceLost("the camera closed the connection without a picture", SLOT_TAKEN)
        if ended or self._length > _MAX_WITHOUT_IMAGE:
            declared = f" ({media_type[:100]})" if media_type else ""
            return SourceRefused(
                f"the camera sends no whole JPEG picture{declared}", LOOK_IN_BROWSER
            )
        return None


def refusal(head: ResponseHead) -> SourceRefused:
    """What an error status means to the person who wrote the address."""
    said = f"the camera answers {head.status} {head.phrase}".rstrip()
    match head.status:
        case 403:
            hint = "this user, or this computer, may not watch; check the camera's settings"
        case 404:
            hint = "the path is wrong; try /?action=stream, /stream, /video or /mjpg/video.mjpg"
        case 503 | 429:
            hint = SLOT_TAKEN
        case status if status >= 500:  # noqa: PLR2004 - server errors
            hint = "the camera is in trouble: restart it if this lasts"
        case _:
            hint = LOOK_IN_BROWSER
    return SourceRefused(said, hint)
