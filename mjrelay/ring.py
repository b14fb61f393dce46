"""FrameRing: a camera's newest frames, bounded in time and bytes."""

import asyncio
from collections import deque

from mjrelay.errors import MjrelayError
from mjrelay.frames import Frame

# The rate shown to people is that of the last few seconds.
_RATE_WINDOW = 3.0


# A frame's objects, beside its image: tiny frames must not fill the memory either.
_OVERHEAD = 500


class NoMoreFrames(MjrelayError):
    """The camera is gone: there is nothing to wait for."""


class FrameRing:
    """The newest frames of a camera, oldest first; always at least the newest one.

    Args:
        seconds: How far back to keep frames.
        max_bytes: How much they may hold together.

    Attributes:
        is_closed: No frame will come any more.
    """

    def __init__(self, *, seconds: float = 5.0, max_bytes: int = 64 * 2**20) -> None:
        self.is_closed = False
        self.configure(seconds=seconds, max_bytes=max_bytes)
        self._bytes = 0
        self._frames: deque[Frame] = deque()
        self._times: deque[float] = deque()
        self._published = asyncio.Event()

    def configure(self, *, seconds: float, max_bytes: int) -> None:
        """Set other limits, which the next frame meets. Readers go on waiting."""
        self._seconds = seconds
        self._max_bytes = max_bytes

    @property
    def newest(self) -> Frame | None:
        """The latest frame published, however old, or None before the first."""
        return self._frames[-1] if self._frames else None

    def publish(self, frame: Frame) -> None:
        """Store a frame and wake the readers waiting for it. Never blocks."""
        self._frames.append(frame)
        self._bytes += _cost(frame)
        while len(self._frames) > 1 and (
            self._bytes > self._max_bytes
            or frame.monotonic - self._frames[0].monotonic > self._seconds
        ):
            self._bytes -= _cost(self._frames.popleft())
        self._times.append(frame.monotonic)
        while frame.monotonic - self._times[0] > _RATE_WINDOW:
            self._times.popleft()
        self._published.set()

    async def newer_than(self, seq: int) -> Frame:
        """The newest frame, once it is newer than frame number `seq`; waits for ever if need be.

        Raises:
            NoMoreFrames: The ring is closed.
        """
        while (frame := self.newest) is None or frame.seq <= seq:
            if self.is_closed:
                raise NoMoreFrames
            self._published.clear()
            await self._published.wait()
        return frame

    def close(self) -> None:
        """Tell the readers that no frame will come any more."""
        self.is_closed = True
        self._published.set()

    def clear(self) -> None:
        """Forget all frames: they are of another time."""
        self._frames.clear()
        self._times.clear()
        self._bytes = 0

    def fps(self, now: float) -> float:
        """Frames per second over the last seconds before `now`; 0 when none came."""
        times = [time for time in self._times if now - time <= _RATE_WINDOW]
        if len(times) < 2:  # noqa: PLR2004 - a rate needs two moments
            return 0.0
        return (len(times) - 1) / max(times[-1] - times[0], 1e-6)


def _cost(frame: Frame) -> int:
    return len(frame.image) + _OVERHEAD
