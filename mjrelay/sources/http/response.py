"""Response: a camera's answer, from its first byte to the images in it, or why there are none."""

import asyncio
import time
from functools import partial

from mjrelay.errors import SLOT_TAKEN, FramingError, SourceError, SourceLost, Tally
from mjrelay.formats import multipart
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseHead, ResponseReader, TakeBody
from mjrelay.sources import Show
from mjrelay.sources.http.connection import Connection
from mjrelay.sources.http.diagnosis import ENOUGH, no_pictures, unreadable

# The framer gets pieces that still fit the processor's cache when their images are shown.
_STEP = 2**17


class Response:
    """An answer whose head has come, and whose body is being read.

    Attributes:
        head: The head.
        found: How many images the body has held so far.
    """

    def __init__(
        self,
        connection: Connection,
        reader: ResponseReader,
        head: ResponseHead,
        framer: JpegFramer,
    ) -> None:
        self.head = head
        self.found = 0
        self._connection = connection
        self._reader = reader
        self._framer = framer
        self._undecoded = False  # the reader holds bytes that it has not decoded yet
        self._start = b""
        self._length = 0

    @classmethod
    async def begin(cls, connection: Connection, tally: Tally, *, max_image: int) -> "Response":
        """Read an answer up to its body.

        Args:
            connection: Where it comes from.
            tally: Where to count what has to be forgiven.
            max_image: Largest image in bytes.

        Raises:
            SourceError: The connection ended first, or what came is no answer.
        """
        reader = ResponseReader(tally)
        head = None
        while head is None:
            data = await connection.read()
            if not data:
                raise SourceLost("the camera closed the connection without an answer", SLOT_TAKEN)
            try:
                head = reader.read_head(data)
            except FramingError as error:
                raise unreadable(error) from error
        boundary = multipart.declared_boundary(head.media_type)
        framer = JpegFramer(max_size=max_image, boundary=boundary, tally=tally)
        return cls(connection, reader, head, framer)

    async def show_images(self, show: Show) -> None:
        """Show the images of the body as they come, until it ends.

        Each is shown in the callback in which its last byte arrives; no task wakes up for it.

        Raises:
            SourceError: The connection broke, the body cannot be read, or holds no image.
        """
        consume = partial(self._consume, partial(self._cut, show))
        consume(b"")  # what came with the head
        while True:
            while self._undecoded:
                await asyncio.sleep(0)  # a little gzip becomes many pieces; others want a turn
                consume(b"")
            if self._reader.complete or not await self._connection.pump(consume):
                break
        for image in self._framer.finish(complete=self._reader.complete):
            self.found += 1
            show(image, time.monotonic())
        if not self.found and (fault := self._diagnose(ended=True)):
            raise fault

    def _consume(self, take: TakeBody, data: bytes | memoryview) -> bool:
        """Show the images in the next bytes. As long as none was found, judge what came instead.

        Returns:
            Whether `show_images` has something to do before more bytes are taken.
        """
        try:
            self._undecoded = self._reader.feed(data, take)
        except FramingError as error:
            raise unreadable(error) from error
        if self.found:
            missing = 0 if self._reader.decodes else self._framer.missing
            self._connection.wakeups.note_progress(self.found, missing)
        elif self._framer.between_images and (fault := self._diagnose()):
            raise fault
        return self._undecoded or self._reader.complete

    def _cut(self, show: Show, body: bytes | memoryview) -> None:
        """Cut a piece of the body into images, and show them."""
        if not self.found:
            self._length += len(body)
            self._start += bytes(body[: ENOUGH - len(self._start)])
        for at in range(0, len(body), _STEP):
            for image in self._framer.feed(body[at : at + _STEP]):
                self.found += 1
                show(image, time.monotonic())

    def _diagnose(self, *, ended: bool = False) -> SourceError | None:
        """Why there is no image in what has come so far; None: it is too early to say."""
        return no_pictures(
            self.head,
            self._start,
            self._length,
            foreign_type=self._framer.foreign_type,
            ended=ended,
        )
