"""Ladder: which remedy a failure calls for. Pure: it decides, the camera acts.

    reopen → full release → USB reset → switched off and on → wait for hotplug

A device climbs while it fails in ways that a stronger remedy may cure, and comes down to the ground
only after seconds of healthy frames: one that dies after its first frame must climb.
"""

import enum
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from mjrelay.errors import SourceBroken, SourceBusy, SourceError, SourceStalled
from mjrelay.recovery.backoff import HEALTHY_AFTER, Backoff

_HOUR = 3600.0


class Remedy(enum.Enum):
    """What to do before the source is opened again, in the order of its cost."""

    REOPEN = "reopen"
    RELEASE = "release"
    USB_RESET = "usb_reset"
    REAUTHORIZE = "reauthorize"
    WAIT = "wait"

    @property
    def is_reset(self) -> bool:
        """Whether it makes the device leave the bus and come back: resets share one allowance."""
        return self in (Remedy.USB_RESET, Remedy.REAUTHORIZE)


_CLIMBED = (Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE)


@dataclass(frozen=True)
class Step:
    """What comes next: wait `delay` seconds, apply the remedy, open the source.

    Attributes:
        note: Why a stronger remedy is not taken, for the person who wonders.
    """

    remedy: Remedy
    delay: float
    note: str | None = None


class Allowance:
    """The resets of one camera in the last hour. It outlives a reload, which makes a new ladder."""

    def __init__(self) -> None:
        self._made: deque[float] = deque()

    def used(self, now: float) -> int:
        """How many there were in the hour before `now`."""
        while self._made and now - self._made[0] >= _HOUR:
            self._made.popleft()
        return len(self._made)

    def use(self, now: float) -> None:
        """Count one more."""
        self._made.append(now)

    def give_back(self) -> None:
        """The latest one was not made after all."""
        self._made.pop()


class Ladder:
    """Chooses the remedy for each failure of one source.

    Args:
        backoff: How long to wait before each attempt.
        remedies: Those the source offers beside being opened again. None: it is only reopened.
        allowance: Counts the resets; None for an account of its own.
        resets_per_hour: The most resets in any hour: one that does not cure a camera in several
            attempts only disturbs it.
        force: Reset a camera even while another process has it, which throws that process out.
    """

    def __init__(
        self,
        backoff: Backoff,
        *,
        remedies: Collection[Remedy] = (),
        allowance: Allowance | None = None,
        resets_per_hour: float = 0,
        force: bool = False,
    ) -> None:
        self._backoff = backoff
        self._rungs = [Remedy.REOPEN, *(r for r in _CLIMBED if r in remedies), Remedy.WAIT]
        self._offers_remedies = bool(remedies)
        self._resets_per_hour = resets_per_hour
        self._force = force
        self._rung = 0
        self._allowance = allowance or Allowance()
        self._missing: str | None = None

    def failed(
        self, error: SourceError, *, now: float, streamed_for: float = 0.0, lasted: float = 0.0
    ) -> Step:
        """What to do after a failure.

        Args:
            error: What ended the source.
            now: The time on a clock that is never set back, in seconds.
            streamed_for: Seconds for which frames had come.
            lasted: Seconds which the attempt itself took.
        """
        delay = self._backoff.failed(error, streamed_for=streamed_for, lasted=lasted)
        if streamed_for >= HEALTHY_AFTER:
            self._rung = 0
        if not self._climbs(error):
            return Step(Remedy.REOPEN, delay)
        remedy = self._next(error, now)
        if remedy is not Remedy.WAIT:
            return Step(remedy, delay)
        return Step(remedy, self._backoff.most, self._why_no_reset(now))

    def applies(self, remedy: Remedy, *, now: float) -> None:
        """Take note that a remedy is being applied: a reset counts from its beginning."""
        if remedy.is_reset:
            self._allowance.use(now)
            self._missing = None

    def not_done(self, remedy: Remedy, *, because: str | None = None) -> None:
        """Take note that the remedy of the latest `applies` could not be: it does not count.

        Args:
            remedy: Which.
            because: What a person can do to make it possible.
        """
        if remedy.is_reset:
            self._allowance.give_back()
            self._missing = because

    def _climbs(self, error: SourceError) -> bool:
        """Whether a stronger remedy may cure this."""
        if not self._offers_remedies:
            return False
        if isinstance(error, SourceBusy):
            return self._force or not error.taken
        return isinstance(error, SourceStalled | SourceBroken)

    def _next(self, error: SourceError, now: float) -> Remedy:
        """Climb to the next rung that fits. After the last one the resets begin anew."""
        while True:
            remedy = self._rungs[self._rung]
            self._rung += 1
            if remedy is Remedy.WAIT:
                self._rung = self._first_reset()
                return remedy
            if remedy is Remedy.RELEASE and isinstance(error, SourceStalled):
                continue  # it was open: nothing of ours was in its way
            if remedy.is_reset and self._resets_left(now) < 1:
                continue
            return remedy

    def _first_reset(self) -> int:
        return next(i for i, rung in enumerate(self._rungs) if rung.is_reset or rung is Remedy.WAIT)

    def _resets_left(self, now: float) -> float:
        return self._resets_per_hour - self._allowance.used(now)

    def _why_no_reset(self, now: float) -> str:
        """What to tell the person whose camera nothing has helped."""
        advice = "unplug it and plug it in again"
        if self._missing:
            return self._missing
        if not any(rung.is_reset for rung in self._rungs):
            return f"usb_reset = false keeps it from being reset: {advice}"
        if self._resets_per_hour < 1:
            return f"usb_resets_per_hour allows no reset: {advice}"
        made = self._allowance.used(now)
        if not made:
            return advice
        if self._resets_left(now) >= 1:
            return f"resetting it did not help: {advice}"
        times = "once" if made == 1 else f"{made} times"
        return f"it was reset {times} within an hour, the limit: {advice}"
