"""Ladder: which remedy a failure calls for. Pure: it decides, the camera acts.

    reopen → full release → USB reset → switched off and on → wait for hotplug

Each failure that a stronger remedy may cure leads one rung up. Only after seconds of healthy frames
does the next failure begin at the bottom: a device that dies after its first frame must climb.
"""

import enum
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from mjrelay.errors import SourceBroken, SourceBusy, SourceError, SourceStalled
from mjrelay.recovery.backoff import HEALTHY_AFTER, Backoff

_HOUR = 3600.0


class Remedy(enum.Enum):
    """What to do before the source is opened again: the gentlest first."""

    REOPEN = "reopen"
    RELEASE = "release"
    USB_RESET = "usb_reset"
    REAUTHORIZE = "reauthorize"
    WAIT = "wait"

    @property
    def is_reset(self) -> bool:
        """Whether it makes the device leave the USB bus and come back."""
        return self in (Remedy.USB_RESET, Remedy.REAUTHORIZE)


_CLIMBED = (Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE)


@dataclass(frozen=True)
class Step:
    """What comes next: wait `delay` seconds, apply the remedy, open the source.

    Attributes:
        note: Why no stronger remedy is applied and what to do instead, as a hint for people.
    """

    remedy: Remedy
    delay: float
    note: str | None = None


class Allowance:
    """Counts the resets of one camera in the last hour.

    A reload of the configuration makes a new ladder, and hands this on to it.
    """

    def __init__(self) -> None:
        self._made: deque[float] = deque()

    def used(self, now: float) -> int:
        """How many resets there were in the hour before `now`, on the monotonic clock."""
        while self._made and now - self._made[0] >= _HOUR:
            self._made.popleft()
        return len(self._made)

    def use(self, now: float) -> None:
        """Count a reset."""
        self._made.append(now)

    def give_back(self) -> None:
        """Take back the latest reset: it was not made after all."""
        self._made.pop()


class Ladder:
    """Chooses the remedy for each failure of one source.

    Args:
        backoff: How long to wait before each attempt.
        remedies: Those the source offers beside being opened again; it may offer none.
        allowance: Counts the resets; by default a new one.
        resets_per_hour: The most resets in any hour: where several of them did not cure a camera,
            more would only disturb it.
        force: Reset a camera even while another process has it open. That process loses it.
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
            now: In seconds of the monotonic clock.
            streamed_for: Seconds for which frames had come.
            lasted: Seconds that the attempt itself took.
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

    def rests(self) -> None:
        """Note that a source which gave frames was closed, and nothing was wrong with it.

        Remedies go on where they were: a device may give a few frames between two failures.
        """
        self._backoff.rests()

    def applies(self, remedy: Remedy, *, now: float) -> None:
        """Note that a remedy is being applied; a reset counts from its beginning."""
        if remedy.is_reset:
            self._allowance.use(now)
            self._missing = None

    def not_done(self, remedy: Remedy, *, because: str | None = None) -> None:
        """Note that the remedy of the latest `applies` was not applied after all.

        Args:
            remedy: The remedy of that `applies`.
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
        """Climb to the next rung that fits. After the last rung, begin anew at the resets."""
        while True:
            remedy = self._rungs[self._rung]
            self._rung += 1
            if remedy is Remedy.WAIT:
                self._rung = self._first_reset()
                return remedy
            if remedy is Remedy.RELEASE and isinstance(error, SourceStalled):
                continue  # we had it open, so that nothing of ours was in the way
            if remedy.is_reset and self._resets_left(now) < 1:
                continue
            return remedy

    def _first_reset(self) -> int:
        return next(i for i, rung in enumerate(self._rungs) if rung.is_reset or rung is Remedy.WAIT)

    def _resets_left(self, now: float) -> float:
        return self._resets_per_hour - self._allowance.used(now)

    def _why_no_reset(self, now: float) -> str:
        """Why no further reset is made and what to do instead, as a hint for people."""
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
        return f"it was reset {times} within an hour, which is the limit: {advice}"
