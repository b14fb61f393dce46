"""Response: a camera's answer, from its first byte to the images in it, or why there are none."""

import asyncio
import math
import time
from functools import partial
from typing import NamedTuple

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import FramingError, SourceError, SourceLost, SourceStalled
from mjrelay.formats import multipart
from mjrelay.formats.behind import behind
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseHead, ResponseReader, TakeBody
from mjrelay.formats.recognition import ENOUGH
from mjrelay.sources import Show, Source
from mjrelay.sources.http import diagnosis
from mjrelay.sources.http.connection import Connection, Consume

_NO_CONTENT = 204
# The framer gets pieces that still fit the processor's cache when their images are shown.
_STEP = 2**17
# A single picture may be followed by padding, or by another one in what is a stream after all. If a
# camera keeps the connection open, nothing more is waited for than comes within so many seconds.
_AFTER_PICTURE = 0.3


class Patience(NamedTuple):
    """How many seconds an answer with a single picture may be silent before it counts as over.

    Attributes:
        before: Until the picture begins.
        inside: In the middle of the picture.
    """

    before: float
    inside: float


class Response:
    """An answer whose head has come, and whose body is being read.

    Attributes:
        head: The head.
        found: How many images the body has held so far.
        found_at: When the latest of them was whole, in seconds of the monotonic clock.
        heard_at: When bytes last came.
        start: The first bytes of the body, as long as no image was found.
    """

    def __init__(
        self,
        connection: Connection,
        reader: ResponseReader,
        head: ResponseHead,
        framer: JpegFramer,
        address: HttpAddress,
        *,
        max_image: int,
    ) -> None:
        self.head = head
        self.found = 0
        self.found_at = -math.inf
        self.heard_at = self._began_at = time.monotonic()
        self.start = b""
        self._address = address
        self._connection = connection
        self._reader = reader
        self._framer = framer
        self._undecoded = False  # the reader holds bytes that it has not decoded yet
        self._length = 0
        self._max_image = max_image
        self._oversized_before = framer.tally.dropped["oversized"]

    @classmethod
    async def begin(
        cls,
        connection: Connection,
        reader: ResponseReader,
        address: HttpAddress,
        *,
        max_image: int,
        eoi_seen: bool = False,
    ) -> "Response":
        """Read an answer up to its body.

        Args:
            connection: Where it comes from.
            reader: What reads it; its tally counts what has to be forgiven.
            address: What was asked.
            max_image: Largest image in bytes.
            eoi_seen: An image of an earlier answer ended with EOI.

        Raises:
            SourceError: The connection ended first, or what came is no answer.
        """
        head = None
        while head is None:
            try:
                data = await connection.read()
            except SourceLost as error:
                raise diagnosis.broken(error, reader.start, address) from error
            if not data:
                raise diagnosis.closed(reader.start, address)
            try:
                head = reader.read_head(data)
            except FramingError as error:
                raise diagnosis.unreadable(error) from error
            if head is None and (fault := diagnosis.no_http(reader.start, address)):
                raise fault
        if fault := diagnosis.no_web_server(head, address):
            raise fault
        boundary = multipart.declared_boundary(head.media_type)
        framer = JpegFramer(
            max_size=max_image,
            boundary=boundary,
            behind=behind(head.media_type, head.length, max_image),
            tally=reader.tally,
            eoi_seen=eoi_seen,
        )
        return cls(connection, reader, head, framer, address, max_image=max_image)

    @property
    def eoi_seen(self) -> bool:
        """Whether an image of this answer, or of an earlier one, ended with EOI."""
        return self._framer.eoi_seen

    @property
    def is_in_vain(self) -> bool:
        """Whether it promised pictures and has brought none so far."""
        return self.head.is_success and not self.found

    @property
    def silent_hint(self) -> str:
        """What a person can do when no picture comes of it for too long."""
        return diagnosis.silent_hint(self._evidence())

    async def read_start(self) -> bytes:
        """Read the first bytes of the body: words for people, where it holds no pictures.

        Raises:
            SourceError: The connection broke, or the body cannot be read.
        """

        def keep(data: bytes | memoryview) -> None:
            self.start += bytes(data[: ENOUGH - len(self.start)])

        def consume(data: bytes | memoryview) -> bool:
            try:
                self._reader.feed(data, keep)
            except FramingError as error:
                raise diagnosis.unreadable(error) from error
            return self._reader.complete or len(self.start) >= ENOUGH

        if not consume(b""):
            await self._connection.pump(consume)
        return self.start

    @property
    def grows(self) -> bool:
        """Whether an image is under way."""
        return not self._framer.between_images

    @property
    def is_single(self) -> bool:
        """Whether it holds one image and is no stream, as far as it has come."""
        return self.found == 1 and not self.grows and not self.head.is_multipart

    async def show_images(self, show: Show, patience: Patience | None = None) -> None:
        """Show the images of the body as they come, until it ends.

        Each is shown in the callback in which its last byte arrives; no task wakes up for it.

        Args:
            show: Takes the images.
            patience: When an answer that does not end is over; None waits as long as it lasts.

        Raises:
            SourceError: The connection broke, the body cannot be read, or holds no image.
        """
        consume = partial(self._consume, partial(self._cut, show))
        consume(b"")  # what came with the head
        while True:
            while self._undecoded:
                await asyncio.sleep(0)  # a little gzip becomes many pieces; others want a turn
                consume(b"")
            if self._reader.complete or not await self._more(consume, patience):
                break
        for image in self._framer.finish(complete=self._reader.complete):
            self.found += 1
            show(image, time.monotonic())
        if not self.found and (fault := self._diagnose(ended=True)):
            raise fault

    async def _more(self, consume: Consume, patience: Patience | None) -> bool:
        """Take what comes next. False: nothing more will, or is waited for."""
        while patience:
            over_at = self._over_at(patience)
            try:
                async with asyncio.timeout(over_at - time.monotonic()):
                    return await self._connection.pump(consume)
            except TimeoutError:
                if time.monotonic() < self._over_at(patience):
                    continue  # something came meanwhile
                if self.found or self._promises_nothing:
                    return False
                raise self._too_slow(patience) from None
        return await self._connection.pump(consume)

    def _over_at(self, patience: Patience) -> float:
        """When this answer is over, if nothing more comes until then."""
        if self.grows:
            return self.heard_at + patience.inside
        if self.found:
            return self.found_at + _AFTER_PICTURE if self.is_single else math.inf
        return self._began_at + (_AFTER_PICTURE if self._promises_nothing else patience.before)

    @property
    def _promises_nothing(self) -> bool:
        """Whether the head says that there is no body, and there is none: some cameras send one."""
        return not self._length and (
            self.head.status == _NO_CONTENT or self.head.get("content-length").strip() == "0"
        )

    def _too_slow(self, patience: Patience) -> SourceStalled:
        if self.grows:
            return SourceStalled.within_picture(patience.inside, Source.stalled_hint)
        return SourceStalled(
            f"the camera sent no picture for {patience.before:g} s after it answered",
            self.silent_hint,
        )

    def _consume(self, take: TakeBody, data: bytes | memoryview) -> bool:
        """Show the images in the next bytes. As long as none was found, judge what came instead.

        Returns:
            Whether `show_images` has something to do before more bytes are taken.
        """
        try:
            self._undecoded = self._reader.feed(data, take)
        except FramingError as error:
            raise diagnosis.unreadable(error) from error
        self.heard_at = time.monotonic()
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
            self.start += bytes(body[: ENOUGH - len(self.start)])
        for at in range(0, len(body), _STEP):
            for image in self._framer.feed(body[at : at + _STEP]):
                self.found += 1
                self.found_at = time.monotonic()
                show(image, self.found_at)

    def _diagnose(self, *, ended: bool = False) -> SourceError | None:
        """Why there is no image in what has come so far; None: it is too early to say."""
        return diagnosis.no_pictures(self._evidence(), ended=ended)

    def _evidence(self) -> diagnosis.Evidence:
        dropped = self._framer.tally.dropped["oversized"] - self._oversized_before
        return diagnosis.Evidence(
            self.head,
            self._address,
            start=self.start,
            length=self._length,
            foreign_type=self._framer.foreign_type,
            too_large_for=self._max_image if dropped else None,
        )
