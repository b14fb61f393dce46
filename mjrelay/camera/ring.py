"""FrameRing: a camera's newest frame and, once somebody wants them, those of the last seconds."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator

from mjrelay.camera.frame import Frame
from mjrelay.errors import MjrelayError

# The rate shown to people is that of the last few seconds.
_RATE_WINDOW = 3.0
# A frame takes memory beside its image: tiny frames must not fill it with that.
_LEAST_SPACE = 500
# After a clip was asked for, the past is kept this long for the next one.
_KEPT_AFTER_A_CLIP = 600.0


class NoMoreFrames(MjrelayError):
    """The camera is gone: there is nothing to wait for."""


class FrameRing:
    """The newest frame of a camera, at hand for everybody; and its past, for clips.

    To keep the past costs about a fifth of what a frame costs altogether (measured: its memory is
    never in the processor's cache). So it is kept only from the first clip on, or from the start
    where the configuration asks for that.

    Args:
        seconds: How far back the past goes; 0 keeps none.
        max_bytes: How much memory it may take.
        from_start: Keep it from now on. Else it is kept once somebody asked for it.

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
        """The images up to the newest frame of this moment, oldest first, with their Unix times.

        Each is looked up when it is asked for, so that a slow reader holds on to one frame at most;
        what has been forgotten by then is left out. The newest frame is there however little is
        kept.

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
        """Have the past kept for a while from now on.

        Args:
            seconds: How much of it is wanted.
            now: The time on the monotonic clock.

        Returns:
            How many seconds of that were not kept, since nobody had wanted them: they have still to
            come.
        """
        if now >= self._kept_until:
            self._kept_since = now
        self._kept_until = max(self._kept_until, now + _KEPT_AFTER_A_CLIP)
        kept = now - self._kept_since
        return max(0.0, min(seconds, self._seconds) - kept)

    async def newer_than(self, seq: int) -> Frame:
        """The newest frame, once it is newer than frame number `seq`; waits for ever if need be.

        Raises:
            NoMoreFrames: The ring is closed.
        """
        while (frame := self.newest) is None or frame.seq <= seq:
            if self.is_closed:
                raise NoMoreFrames
            # A future for each reader: to cancel one of them must not cancel the others.
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
        """Forget all frames: they are of another time."""
        self.newest = None
        self._times.clear()
        self.forget_past()

    def fps(self, now: float) -> float:
        """Frames per second over the last seconds before `now`; 0 when none came."""
        times = [time for time in self._times if now - time <= _RATE_WINDOW]
        if len(times) < 2:  # noqa: PLR2004 - a rate needs two moments
            return 0.0
        later = sum(time > times[0] for time in times)  # several may have come at once
        return later / max(times[-1] - times[0], 1e-6)

    def _wake_readers(self) -> None:
        for published in self._waiting:
            if not published.done():
                published.set_result(None)
        self._waiting.clear()

    def _keep(self, frame: Frame) -> None:
        """Add a frame to the past, and drop what is too old or too much by then."""
        self._past.append(frame)
        self._size += _space(frame)
        oldest = frame.monotonic - self._seconds
        while self._past and (self._past[0].monotonic < oldest or self._size > self._max_bytes):
            self._size -= _space(self._past.popleft())

    def _at_or_after(self, seq: int) -> Frame | None:
        """The first frame from this number on that is still there. Numbers have no gaps."""
        if not self._past:
            return self.newest if self.newest and self.newest.seq >= seq else None
        index = max(0, seq - self._past[0].seq)
        return self._past[index] if index < len(self._past) else None


def _space(frame: Frame) -> int:
    return max(len(frame.image), _LEAST_SPACE)
