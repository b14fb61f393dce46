"""Response: what a camera says to our request, and what it means when that is no picture."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Literal

from mjrelay.errors import (
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
    Tally,
)
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from mjrelay.sources import Show
from mjrelay.sources.http.connection import Connection

# A body this long without the beginning of an image is no picture stream.
_MAX_WITHOUT_IMAGE = 2**20
# So much is taken at a time: it is in the processor's cache still when its images are shown.
_STEP = 2**17
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


class Response:
    """An answer being read from a connection.

    Attributes:
        found: How many images it has held so far.
    """

    def __init__(self, connection: Connection, tally: Tally) -> None:
        self._connection = connection
        self._reader = ResponseReader(tally)
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._early: bytes | memoryview = b""
        self._start = b""
        self._length = 0
        self.found = 0

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
            self._early = self._first_piece(data)

    async def show_images(self, framer: JpegFramer, show: Show) -> bool:
        """Show the images in what comes, with no wake-up for each.

        Returns:
            False when all of the body has come. True now and then before: for whoever would like
            to know whether the first image has come, or what else it is that comes.

        Raises:
            SourceError: The connection broke, or the body cannot be read.
        """
        if piece := self._early or self._next_piece():
            self._early = b""
            await asyncio.sleep(0)  # a little gzip can become many pieces; others want a turn
            self._feed(framer, piece, show)
            return True
        if self.complete:
            return False
        return bool(await self._connection.take(partial(self._use, framer, show)))

    def finish(self, framer: JpegFramer, show: Show) -> None:
        """Show the image that is whole now that the body has ended, if there is one."""
        self._show(framer.finish(complete=self.complete), show)

    def _use(self, framer: JpegFramer, show: Show, data: memoryview) -> Literal[True] | None:
        """Show the images in some bytes. None: no need to wake up for that."""
        is_new = not self.found
        self._feed(framer, self._first_piece(data), show)
        if is_new:
            return True
        decodes = self._reader.decodes
        self._connection.expect(0 if decodes else framer.missing)
        return True if decodes or self._reader.complete else None

    def _feed(self, framer: JpegFramer, piece: bytes | memoryview, show: Show) -> None:
        self._length += len(piece)
        if len(self._start) < _START:
            self._start += bytes(piece[:_START])
        for at in range(0, len(piece), _STEP):
            self._show(framer.feed(piece[at : at + _STEP]), show)

    def _show(self, images: list[bytes], show: Show) -> None:
        for image in images:
            self.found += 1
            show(image, time.monotonic())

    def _first_piece(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what has come; the first piece of the body that it holds."""
        try:
            self._pieces = iter(self._reader.feed(data))
        except FramingError as error:
            raise _unreadable(error) from error
        return self._next_piece()

    def _next_piece(self) -> bytes | memoryview:
        try:
            return next(self._pieces, b"")
        except FramingError as error:
            raise _unreadable(error) from error

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


def _unreadable(error: FramingError) -> SourceRefused:
    return SourceRefused(f"the camera's answer cannot be read: {error}", LOOK_IN_BROWSER)


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
