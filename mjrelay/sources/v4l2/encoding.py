"""Encoder: makes JPEG images of a camera's raw pictures, always of the newest one."""

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
"""Awaits a call that is made in the device's thread."""


class Encoder:
    """Encodes the pictures of one stream: all while the camera is watched, else a few.

    Pictures may come faster than they can be encoded. So each new picture replaces the one that
    still waits to be encoded, and the images shown are as new as can be.

    Args:
        mode: The mode that the device was set to.
        unwatched_every: Seconds from one encoded picture to the next while nobody watches.
        is_watched: Tells whether the camera is watched.
        tally: Counts the pictures that are not encoded.
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
        """Let a picture wait to be encoded, if it is whole and due."""
        width, height = self._size
        if len(picture.data) != width * height * 2:
            self._tally.dropped["corrupt"] += 1
        elif self._is_watched() or time.monotonic() - self._taken_at >= self._unwatched_every:
            if self._newest:
                self._tally.tolerated[_PASSED_OVER] += 1
            self._newest = picture
            self._changed.set()

    async def show_all(self, show: Show, reader: Reader, in_thread: InThread) -> None:
        """Encode and show pictures until the reader fails, and raise its failure.

        Args:
            show: Takes each image.
            reader: Hands its buffers to `take`.
            in_thread: Makes a call in the device's thread: encoding would hold up the event loop.
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
    from mjrelay import pictures  # noqa: PLC0415 - loads Pillow, which few cameras need

    return pictures.encode_yuyv(data, size)
