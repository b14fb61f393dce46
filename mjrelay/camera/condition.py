"""Condition: the state of a camera, since when and why, its outages, and what to log of them.

Pure: no clock, no log, no event loop. What happens is told with its time; what comes back are the
events to log, and the camera logs them. The status, the page and systemd's status line read the
attributes.

An **outage** is a time without pictures, or with one that does not change; it ends with the next
picture. **Trouble** is what one or more outages belong to, each an **interruption**: it is over
when pictures have come for some seconds, and only decides what is logged. A camera is **down**
while it gives no pictures and should.

The seven states, and which may follow which:

    idle        on demand, and nobody watches
    starting    being opened; whether pictures will come is not known yet
    streaming   pictures come
    frozen      pictures come, and all are the same
    recovering  it failed, and will be tried again
    absent      it is not there: not plugged in, or not reachable
    stopped     the relay ends, or the configuration no longer has the camera

A camera that is down (recovering or absent) keeps that state while it is opened again, until
pictures come: viewers want to know why there are none, not that mjrelay tries once more.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from mjrelay.devices.holders import Holder

State = Literal["idle", "starting", "streaming", "frozen", "recovering", "absent", "stopped"]

DOWN: tuple[State, ...] = ("recovering", "absent")
"""The states of a camera that should give pictures and gives none."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "idle": frozenset({"starting", "stopped"}),
    "starting": frozenset({"streaming", "recovering", "absent", "idle", "stopped"}),
    "streaming": frozenset({"frozen", "recovering", "absent", "starting", "idle", "stopped"}),
    "frozen": frozenset({"streaming", "recovering", "absent", "starting", "idle", "stopped"}),
    "recovering": frozenset({"streaming", "absent", "idle", "stopped"}),
    "absent": frozenset({"streaming", "recovering", "idle", "stopped"}),
    "stopped": frozenset({"starting", "idle"}),
}
"""Which states may follow each. Only the tests use it: all in tests/camera check their cameras."""

OUTAGES_KEPT = 50

Kind = str | tuple[str, ...]
"""Troubles of the same kind are logged once. (Their texts may differ each time, in a number.)"""


class Moment(NamedTuple):
    """One moment on two clocks, in seconds: `time.monotonic()` for durations, and Unix time."""

    monotonic: float
    unix: float


class Event(NamedTuple):
    """A line for the log.

    Attributes:
        level: The log level.
        name: The event, as docs/reference/logging.md lists it.
        facts: The keys and values of the line.
    """

    level: Literal["debug", "info", "warning"]
    name: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Outage:
    """A time in which the camera gave no pictures, or always the same one.

    Attributes:
        began: When it began, in Unix seconds.
        reason: What happened first.
        ended: When pictures came again or the camera was closed, in Unix seconds; None while the
            outage lasts.
        lasted: Seconds from beginning to end; 0 while the outage lasts.
        remedy: The last remedy that was applied; None where opening the camera again was enough.
    """

    began: float
    reason: str
    ended: float | None = None
    lasted: float = 0.0
    remedy: str | None = None


class Condition:
    """The state of one camera, and what is wrong with it.

    Args:
        state: The first state, idle or starting.
        source: The source's address as people may see it, for the log.
        moment: Now.

    Attributes:
        state: What the camera is doing.
        reason: What happened; None while nothing is wrong.
        hint: What a person can do about it; None where we do not know, or nothing is wrong.
        holders: The processes that have the device open and so keep mjrelay from it.
        since: When the state last changed, in Unix seconds.
        outages: The latest outages, oldest first; the last of them may not have ended.
        interruptions: How often pictures were interrupted since the camera was last well.
    """

    def __init__(self, state: State, source: str, moment: Moment) -> None:
        self.outages: deque[Outage] = deque(maxlen=OUTAGES_KEPT)
        self._outage_since: float | None = None
        self.begin(state, source, moment)

    def begin(self, state: State, source: str, moment: Moment) -> None:
        """Begin anew with another configuration. The list of outages stays."""
        self._source = source
        self._forget_trouble()
        self._change(state, moment)

    @property
    def is_down(self) -> bool:
        """Whether the camera should give pictures and gives none."""
        return self.state in DOWN

    @property
    def is_settled(self) -> bool:
        """Whether it is known if pictures come: not while idle, starting or stopped."""
        return self.state not in ("idle", "starting", "stopped")

    @property
    def trouble(self) -> str:
        """What happened and what to do about it, in one line; empty while all is well."""
        return ": ".join(filter(None, (self.reason, self.hint)))

    def outage_lasts(self, now: float) -> float:
        """Seconds since the present outage began; 0 while all is well.

        Args:
            now: In seconds of `time.monotonic()`.
        """
        return 0.0 if self._outage_since is None else now - self._outage_since

    def opens(self, moment: Moment) -> list[Event]:
        """The camera is being opened."""
        if self.is_down:
            self._attempts += 1
            return []
        return self.rests("starting", moment)

    def rests(self, state: Literal["idle", "starting", "stopped"], moment: Moment) -> list[Event]:
        """The camera gives no pictures, and nothing is wrong with that."""
        if state == self.state:
            return []
        self._end_outage(moment)
        self._change(state, moment)
        self._forget_trouble()
        return [Event("info", f"camera.{state}", {"source": self._source})]

    def streams(self, moment: Moment) -> list[Event]:
        """Pictures come.

        The log is told of it after the first interruption, and not after the next ones until
        `recovers`: a camera that comes and goes would fill the log.
        """
        if self.state == "streaming":
            return []
        was_in_trouble = self._outage_since is not None
        self._end_outage(moment)
        self._change("streaming", moment)
        if not was_in_trouble:
            self._forget_trouble()
            return [Event("info", "camera.streaming", {"source": self._source})]
        return [self._recovery_event()] if self.interruptions == 1 else []

    def recovers(self) -> list[Event]:
        """Pictures have come for long enough: the camera is well, and its next failure is news."""
        events = [self._recovery_event()] if self.interruptions > 1 else []
        self._forget_trouble()
        return events

    def fails(
        self,
        state: Literal["frozen", "recovering", "absent"],
        reason: str,
        hint: str | None,
        moment: Moment,
        *,
        kind: Kind,
        holders: tuple[Holder, ...] = (),
    ) -> list[Event]:
        """Something is wrong with the camera.

        Each kind of trouble is a warning once until the recovery is logged, and its repetitions are
        logged at level debug.
        """
        if self._outage_since is None:
            self._outage_since = moment.monotonic
            self.interruptions += 1
            self.outages.append(Outage(moment.unix, reason))
        self._change(state, moment, reason, hint, holders)
        facts: dict[str, Any] = {"reason": reason, "hint": hint}
        if holders:
            facts["holders"] = [holder.as_values() for holder in holders]
        level: Literal["debug", "warning"] = "debug" if kind in self._warned_kinds else "warning"
        self._warned_kinds.add(kind)
        return [Event(level, f"camera.{state}", facts)]

    def treated(self, remedy: str) -> None:
        """A remedy was applied: note it in the present outage, if there is one."""
        if self._outage_since is not None:
            self.outages[-1] = replace(self.outages[-1], remedy=remedy)

    def _change(
        self,
        state: State,
        moment: Moment,
        reason: str | None = None,
        hint: str | None = None,
        holders: tuple[Holder, ...] = (),
    ) -> None:
        if state != getattr(self, "state", None):
            self.since = moment.unix
        self.state: State = state
        self.reason, self.hint, self.holders = reason, hint, holders

    def _end_outage(self, moment: Moment) -> None:
        """End the present outage, if there is one."""
        if self._outage_since is None:
            return
        lasted = moment.monotonic - self._outage_since
        self._total_down += lasted
        self._outage_since = None
        self.outages[-1] = replace(self.outages[-1], ended=moment.unix, lasted=lasted)

    def _recovery_event(self) -> Event:
        """The event of pictures coming again. From here on each kind of trouble is news again."""
        facts: dict[str, Any] = {
            "source": self._source,
            "was_down": round(self._total_down, 1),
            "attempts": self._attempts,
        }
        if self.interruptions > 1:
            facts["interruptions"] = self.interruptions
        self._warned_kinds.clear()
        return Event("info", "camera.streaming", facts)

    def _forget_trouble(self) -> None:
        self.interruptions = self._attempts = 0
        self._total_down = 0.0
        self._warned_kinds: set[Kind] = set()
