"""How long to wait before a source is opened again. Pure: it decides, the camera waits."""

from collections.abc import Callable

from mjrelay.errors import SourceError

# Seconds from one attempt to the next while attempts cost the camera nothing, even if it has been
# away for days: somebody stands in front of a printer that has just been switched on.
DIAL_EVERY = 1.0
# Seconds from one opening to the next, at least, of a camera that ends each stream at once: with
# `redial_delay` = 0 the two would keep a processor busy.
REOPEN_EVERY = 0.05
# A source that fails within this many seconds of its first frame has not recovered: delays go on
# growing.
HEALTHY_AFTER = 5.0
# Seconds that are doubled from the second failure on, if the first delay is shorter or 0.
_LEAST = 0.5


class Backoff:
    """Delays that double with every failure, up to a limit, and differ between cameras.

    Args:
        first: Seconds to wait after the first failure: a camera that accepts one connection only
            needs them to notice that the last one has ended.
        most: The longest delay in seconds; `first` if that is longer.
        jitter: Returns a random number from 0 to 1. It shortens delays by up to a quarter, lest
            cameras on one hub retry at the same time.

    Attributes:
        most: The longest delay in seconds.
    """

    def __init__(self, *, first: float, most: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self.most = max(first, most)
        self._jitter = jitter
        self._failures = 0

    def failed(
        self, error: SourceError, *, streamed_for: float = 0.0, lasted: float = 0.0
    ) -> float:
        """Seconds to wait after a failure.

        Args:
            error: What ended the source. If another attempt costs the camera nothing, there is one
                every second, and this failure does not make later delays longer. The delay is never
                shorter than its `retry_after`.
            streamed_for: Seconds for which frames had come.
            lasted: Seconds that the attempt itself took.
        """
        return max(self._delay(error, streamed_for, lasted), error.retry_after or 0.0)

    def rests(self) -> None:
        """Note that a source which gave frames was closed, and nothing was wrong with it."""
        self._failures = 0

    def _delay(self, error: SourceError, streamed_for: float, lasted: float) -> float:
        if error.costs_nothing:
            return max(0.0, DIAL_EVERY - lasted)
        if streamed_for >= HEALTHY_AFTER:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return self._first
        doublings = min(self._failures - 1, 16)  # a thousand would overflow
        delay = min(max(self._first, _LEAST) * 2.0**doublings, self.most)
        return max(self._first, delay * (1 - self._jitter() / 4))
