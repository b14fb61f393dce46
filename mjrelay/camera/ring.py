"""FrameRing: a camera's newest frame, and those before it, bounded in time and bytes."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator

from mjrelay.camera.frame import Frame
from mjrelay.camera.past import Past
from mjrelay.errors import MjrelayError

# The rate shown to people is that of the last few seconds.
_RATE_WINDOW = 3.0


class NoMoreFrames(MjrelayError):
    """The camera is gone: there is nothing to wait for."""


class FrameRing:
    """The newest frame of a camera, at hand for everybody, and the images of the last seconds.

    Args:
        seconds: How far back to keep images.
        max_bytes: How much they may take together.

    Attributes:
        newest: The latest frame published, however old, or None before the first.
        is_closed: No frame will come any more.
    """

    def __init__(self, *, seconds: float = 5.0, max_bytes: int = 64 * 2**20) -> None:
        self.newest: Frame | None = None
        self.is_closed = False
        self._past = Past(seconds=seconds, max_bytes=max_bytes)
        self._times: deque[float] = deque()
        self._published = asyncio.Event()

    def configure(self, *, seconds: float, max_bytes: int) -> None:
        """Set other limits, and forget the past. Readers go on waiting."""
        self._past.configure(seconds=seconds, max_bytes=max_bytes)

    def publish(self, frame: Frame) -> None:
        """Store a frame and wake the readers waiting for it. Never blocks."""
        self.newest = frame
        self._past.add(frame)
        self._times.append(frame.monotonic)
        while frame.monotonic - self._times[0] > _RATE_WINDOW:
            self._times.popleft()
        self._published.set()

    def last(self, seconds: float = math.inf) -> Iterator[tuple[float, bytes]]:
        """The images of so many seconds up to the newest frame, oldest first, with Unix times.

        They are read one by one; what is forgotten meanwhile is left out. The newest frame is there
        however little is kept.
        """
        if self.newest is None:
            return iter(())
        if not self._past:
            return iter([(self.newest.captured_at, self.newest.image)])
        return self._past.since(self.newest.monotonic - seconds)

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
        self._past.clear()
        self._published.set()

    def forget_past(self) -> None:
        """Keep the newest frame only; the memory of the others is given back."""
        self._past.clear()

    def clear(self) -> None:
        """Forget all frames: they are of another time."""
        self.newest = None
        self._past.clear()
        self._times.clear()

    def fps(self, now: float) -> float:
        """Frames per second over the last seconds before `now`; 0 when none came."""
        times = [time for time in self._times if now - time <= _RATE_WINDOW]
        if len(times) < 2:  # noqa: PLR2004 - a rate needs two moments
            return 0.0
        later = sum(time > times[0] for time in times)  # several may have come at once
        return later / max(times[-1] - times[0], 1e-6)
