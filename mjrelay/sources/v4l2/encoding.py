"""Encoder: makes JPEG images of a camera's raw pictures, always of the newest."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

from mjrelay.devices.capture import Buffer
from mjrelay.devices.modes import Mode
from mjrelay.errors import Tally
from mjrelay.sources import Show
from mjrelay.sources.v4l2.reading import Reader

_PASSED_OVER = "came faster than it could be encoded"

InThread = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""Does work in the device's thread, and waits for it."""


class Encoder:
    """Encodes one stream's pictures while somebody watches, and now and then while nobody does.

    Encoding may take longer than the camera takes for a picture. So each that comes replaces the
    one that still waits: what is shown is as new as can be.

    Args:
        mode: What the device was set to.
        unwatched_every: Seconds from one encoded picture to the next while nobody watches.
        is_watched: Tells whether anybody does.
        tally: Where pictures are counted that are not shown.
    """

    def __init__(
        self, mode: Mode, *, unwatched_every: float, is_watched: Callable[[], bool], tally: Tally
    ) -> None:
        self._size = mode.size
        self._unwatched_every = unwatched_every
        self._is_watched = is_watched
        self._tally = tally
        self._newest: Buffer | None = None
        self._changed = asyncio.Event()
        self._taken_at = -math.inf

    def take(self, picture: Buffer) -> None:
        """Let a picture wait to be encoded, if it is worth that."""
        width, height = self._size
        if len(picture.data) != width * height * 2:
            self._tally.dropped["corrupt"] += 1
        elif self._is_watched() or time.monotonic() - self._taken_at >= self._unwatched_every:
            if self._newest:
                self._tally.tolerated[_PASSED_OVER] += 1
            self._newest = picture
            self._changed.set()

    async def show_all(self, show: Show, reader: Reader, in_thread: InThread) -> None:
        """Encode and show pictures until the reading fails, which is raised.

        Args:
            show: What to do with each image.
            reader: It hands its buffers to `take`.
            in_thread: Where to encode: the event loop has no time for that.
        """
        reader.failure.add_done_callback(lambda _: self._changed.set())
        while not reader.failure.done():
            reader.drain()
            if picture := self._newest:
                self._newest = None
                self._taken_at = time.monotonic()
                image = await in_thread(partial(_encode, picture.data, self._size))
                show(image, picture.captured)
            else:
                self._changed.clear()
                await self._changed.wait()
        reader.failure.result()


def _encode(data: bytes, size: tuple[int, int]) -> bytes:
    from mjrelay import pictures  # noqa: PLC0415 - Pillow, only where it is needed

    return pictures.encode_yuyv(data, size)
