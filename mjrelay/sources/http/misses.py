"""Misses: polls that brought no picture. Pure: the source has the clock."""

import math

from mjrelay.errors import SourceError


class Misses:
    """The misses in a row, since the latest picture. False while there are none.

    Args:
        pause: Seconds from a miss to the next poll, from the second in a row on. After the first
            one the camera is asked at the next beat: it was busy for a moment, as a rule.

    Attributes:
        ask_at: When the camera may be asked again, in seconds of the monotonic clock.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self.forget()

    def __bool__(self) -> bool:
        """Whether the latest answer was a miss."""
        return self._latest is not None

    def forget(self) -> None:
        """Begin anew: a picture came, or the camera was opened."""
        self._latest: SourceError | None = None
        self.ask_at = -math.inf

    def note(self, error: SourceError, now: float) -> None:
        """Take note of a miss; it may say how long the camera wants to be left alone."""
        pause = self._pause if self._latest else 0.0
        self.ask_at = now + max(pause, error.retry_after or 0.0)
        self._latest = error

    def latest(self, now: float) -> SourceError | None:
        """The latest of them, with what is left of its `retry_after`; None where there is none."""
        if self._latest and self._latest.retry_after:
            self._latest.retry_after = max(0.0, self.ask_at - now)
        return self._latest
