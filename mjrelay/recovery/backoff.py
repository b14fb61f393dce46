"""How long to wait before a source is opened again. Pure: it decides, the camera waits."""

from collections.abc import Callable

from mjrelay.errors import SourceError

# A dial that costs the camera nothing is repeated this often, however long it was away: people
# stand in front of a printer that has just been switched on.
DIAL_EVERY = 1.0
# A source that failed sooner than this after its first frame has not recovered yet.
HEALTHY_AFTER = 5.0
# What doubling begins with where no delay is asked for after the first failure.
_LEAST = 0.5


class Backoff:
    """Delays that double with every failure, up to a limit, and differ between cameras.

    Args:
        first: Seconds after the first failure: what a one-connection camera needs to free its slot.
        most: No delay is longer than this many seconds.
        jitter: Returns 0 to 1. Delays vary by a quarter, lest cameras on one hub retry in step.

    Attributes:
        most: The longest delay, in seconds.
    """

    def __init__(self, *, first: float, most: float, jitter: Callable[[], float]) -> None:
        self._first = first
        self.most = max(first, most)
        self._jitter = jitter
        self._failures = 0

    def failed(
        self, error: SourceError, *, streamed_for: float = 0.0, lasted: float = 0.0
    ) -> float:
        """How long to wait after a failure.

        Args:
            error: What ended the source. Where asking again costs the camera nothing, it is asked
                every second, and later delays are no longer for it: no connection was lost.
            streamed_for: Seconds for which frames had come.
            lasted: Seconds which the attempt itself took.
        """
        if error.costs_nothing:
            return max(0.0, DIAL_EVERY - lasted)
        if streamed_for >= HEALTHY_AFTER:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return self._first
        doublings = min(self._failures - 1, 16)  # a camera may fail for years
        delay = min(max(self._first, _LEAST) * 2.0**doublings, self.most)
        return max(self._first, delay * (1 - self._jitter() / 4))
