"""FrameRing: a camera's newest frame and, once a clip was asked for, those of the last seconds."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator

from mjrelay.camera.frame import Frame
from mjrelay.errors import MjrelayError

# The frame rate that people see is that of this many last seconds.
_RATE_WINDOW = 3.0
# A frame takes some memory beside its image, so that it counts as at least this many bytes.
_LEAST_SPACE = 500
# Seconds for which the past is kept after a clip was asked for, in case another one is.
_KEPT_AFTER_A_CLIP = 600.0


class NoMoreFrames(MjrelayError):
    """The ring is closed: the camera is gone from the configuration."""


class FrameRing:
    """The newest frame of a camera; and its past, for clips: the frames of the last seconds.

    Keeping the past takes about a fifth of all the CPU time spent on a frame (measured: its memory
    is never in the processor's cache). So it is kept only from the first clip on, or from the start
    where the configuration asks for that.

    Args:
        seconds: How far back the past goes; 0 keeps none.
        max_bytes: How much memory the past may take.
        from_start: Keep the past from now on, and not only from the first `want_past` on.

    Attributes:
        newest: The latest frame published, however old, or None before the first.
        is_closed: No frame will come any more.
    """

    def __init__(
        self, *, seconds: float = 5.0, max_bytes: int = 64 * 2**20, from_start: bool = True
    ) -> None:
        self.newest: Frame | None = None
        self.is_closed = False
        self._past: deque[Frame] = deque()
        self._times: deque[float] = deque()
        self._waiting: set[asyncio.Future[None]] = set()
        self.configure(seconds=seconds, max_bytes=max_bytes, from_start=from_start)

    def configure(self, *, seconds: float, max_bytes: int, from_start: bool) -> None:
        """Forget all frames, and set other limits. Readers go on waiting."""
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._kept_until = math.inf if from_start else -math.inf
        self._kept_since = -math.inf
        self.clear()

    def publish(self, frame: Frame) -> None:
        """Store a frame and wake the readers waiting for it. Never blocks."""
        self.newest = frame
        self._times.append(frame.monotonic)
        while frame.monotonic - self._times[0] > _RATE_WINDOW:
            self._times.popleft()
        if frame.monotonic < self._kept_until:
            self._keep(frame)
        elif self._kept_since > -math.inf:
            self._kept_since = -math.inf
            self.forget_past()
        if self._waiting:
            self._wake_readers()

    def last(self, seconds: float = math.inf) -> Iterator[tuple[float, bytes]]:
        """Yield the Unix time and image of each frame, oldest first, up to the one newest now.

        Each frame is looked up when the caller asks for it, so that a slow caller keeps one frame
        at most alive; frames forgotten by then are left out. Without a past it is the newest frame
        alone.

        Args:
            seconds: How far back from the newest frame to begin.
        """
        if self.newest is None:
            return
        oldest, end = self.newest.monotonic - seconds, self.newest.seq
        seq = next((frame.seq for frame in self._past if frame.monotonic >= oldest), end)
        while (found := self._at_or_after(seq)) and found.seq <= end:
            seq = found.seq + 1
            yield found.captured_at, found.image

    def want_past(self, seconds: float, now: float) -> float:
        """Keep the past for the next ten minutes.

        Args:
            seconds: How many seconds of it a clip is to have.
            now: In seconds of `time.monotonic()`.

        Returns:
            How many of these seconds were not kept before, and have still to come.
        """
        if now >= self._kept_until:
            self._kept_since = now
        self._kept_until = max(self._kept_until, now + _KEPT_AFTER_A_CLIP)
        kept = now - self._kept_since
        return max(0.0, min(seconds, self._seconds) - kept)

    async def newer_than(self, seq: int) -> Frame:
        """Wait, for ever if need be, until the newest frame has a number above `seq`; return it.

        Raises:
            NoMoreFrames: The ring is closed.
        """
        while (frame := self.newest) is None or frame.seq <= seq:
            if self.is_closed:
                raise NoMoreFrames
            # Each reader awaits a future of its own, lest one that is cancelled cancel the others.
            published = asyncio.get_running_loop().create_future()
            self._waiting.add(published)
            try:
                await published
            finally:
                self._waiting.discard(published)
        return frame

    def close(self) -> None:
        """Tell the readers that no frame will come any more."""
        self.is_closed = True
        self.forget_past()
        self._wake_readers()

    def forget_past(self) -> None:
        """Keep the newest frame only."""
        self._past.clear()
        self._size = 0

    def clear(self) -> None:
        """Forget all frames."""
        self.newest = None
        self._times.clear()
        self.forget_past()

    def fps(self, now: float) -> float:
        """Frames per second over the last seconds before `now`, on the monotonic clock."""
        times = [time for time in self._times if now - time <= _RATE_WINDOW]
        if len(times) < 2:  # noqa: PLR2004 - a rate needs two moments
            return 0.0
        later = sum(time > times[0] for time in times)  # several may share the first moment
        return later / max(times[-1] - times[0], 1e-6)

    def _wake_readers(self) -> None:
        for published in self._waiting:
            if not published.done():
                published.set_result(None)
        self._waiting.clear()

    def _keep(self, frame: Frame) -> None:
        """Add a frame to the past, and drop the oldest beyond the limits of time and memory."""
        self._past.append(frame)
        self._size += _space(frame)
        oldest = frame.monotonic - self._seconds
        while self._past and (self._past[0].monotonic < oldest or self._size > self._max_bytes):
            self._size -= _space(self._past.popleft())

    def _at_or_after(self, seq: int) -> Frame | None:
        """The oldest frame kept with this number or a later one. Numbers have no gaps."""
        if not self._past:
            return self.newest if self.newest and self.newest.seq >= seq else None
        index = max(0, seq - self._past[0].seq)
        return self._past[index] if index < len(self._past) else None


def _space(frame: Frame) -> int:
    return max(len(frame.image), _LEAST_SPACE)
