"""Answer: what a camera says to our request, and what it means when that is no picture."""

import asyncio
from collections.abc import Iterator

from mjrelay.errors import (
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
)
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
            data = await self._connection.read()
            if not data:
                raise SourceLost("the camera closed the connection without an answer", SLOT_TAKEN)
            self._pieces = self._reader.feed(data)
            self._early = self._next_piece()

    async def read(self, missing: int = 0) -> bytes | memoryview:
        """The next piece of the body; nothing at its end.

        Args:
            missing: No use in waking up for fewer bytes than these, if they come.

        Raises:
            SourceError: The connection broke, or the body cannot be read.
        """
        piece, self._early = self._early or self._next_piece(), b""
        if piece:
            await asyncio.sleep(0)  # a little gzip can become many pieces; others want a turn
        while not piece and not self._reader.ended:
            data = await self._connection.read(0 if self._reader.inflates else missing)
            if not data:
                break
            self._pieces = self._reader.feed(data)
            piece = self._next_piece()
        self._length += len(piece)
        if len(self._start) < _START:
            self._start += bytes(piece[:_START])
        return piece

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
