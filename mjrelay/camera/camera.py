"""Camera: one source, its frames, its viewers, and how it comes back."""

import asyncio
import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import structlog

from mjrelay.camera.audience import Audience
from mjrelay.camera.condition import Condition, Event, Moment, State
from mjrelay.camera.fanout import OFFLINE_AFTER, Fanout, Sink
from mjrelay.camera.frame import Frame
from mjrelay.camera.placeholder import Placeholder
from mjrelay.camera.ring import FrameRing
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import RemedyFailed, SourceError, SourceStalled, SourceUnreachable
from mjrelay.recovery.backoff import DIAL_EVERY, HEALTHY_AFTER, Backoff
from mjrelay.recovery.ladder import Allowance, Ladder, Remedy, Step
from mjrelay.sources import Source

# A silence is ended in time, by a timer. If it still lasts this much later, the timer has failed.
_STUCK_AFTER = 30.0

# Moving a timer costs more than all else that is done here for a frame. So a silence may last an
# eighth longer than is allowed, and the timer is moved that seldom.
_SLACK = 1 / 8

_NOTHING_WRONG = Step(Remedy.REOPEN, 0.0)

log = structlog.get_logger()


class Camera:
    """Owns a source for as long as it runs: opens it, publishes its frames, recovers it.

    Attributes:
        name: As configured.
        config: Its options.
        source: Where its images come from.
        condition: How it is, and why.
        audience: Who watches it.
        ring: The newest frame, and those of the last seconds.
        fanout: What viewers are shown.
        published: How many frames were published since mjrelay started.
        opens: How often the source was opened since then.
        failures: How often it failed since then, by kind.
        remedied: How often each remedy was applied since then, whether or not it helped.
    """

    def __init__(self, name: str, config: CameraConfig, source: Source) -> None:
        self.name = name
        self.fanout = Fanout()
        self.ring = FrameRing()
        self.audience = Audience()
        self.condition = Condition(_first_state(config), source.label, _now())
        self.published = 0
        self.opens = 0
        self.failures: Counter[str] = Counter()
        self.remedied: Counter[Remedy] = Counter()
        self._allowance = Allowance()
        self._asked: Remedy | None = None
        self._silence: asyncio.Timeout | None = None
        self._failed_at = 0.0
        self._retry_at: float | None = None
        self._pause: asyncio.Timeout | None = None
        self._wake = asyncio.Event()
        self._replugged = False
        self._attempt_at: float | None = None
        self._first_frame_at: float | None = None
        self._last_image = b""
        self._changed_at = 0.0
        # Set while it is known whether frames come or not.
        self._settled = asyncio.Event()
        self._set_up(config, source)

    def configure(self, config: CameraConfig, source: Source) -> None:
        """Give a camera that does not run another configuration. Its viewers stay."""
        source.succeed(self.source)
        self.condition.begin(_first_state(config), source.label, _now())
        self._set_up(config, source)

    def _set_up(self, config: CameraConfig, source: Source) -> None:
        self.config = config
        self.source = source
        self._tell_source(watched=self.audience.is_watching)
        self.audience.linger = config.linger if config.mode == "demand" else math.inf
        self.ring.configure(
            seconds=config.ring, max_bytes=config.ring_bytes, from_start=config.ring_from_start
        )
        self._settled.clear()
        self._ladder = Ladder(
            Backoff(first=config.redial_delay, most=config.retry_max, jitter=random.random),
            remedies=source.remedies,
            allowance=self._allowance,
            resets_per_hour=source.resets_per_hour,
            force=source.resets_from_others,
        )
        # A camera polled every ten seconds has not stalled after five.
        self._silence_allowed = max(config.stall_timeout, 2 / config.fps if config.fps else 0)
        self._placeholder = Placeholder(self.name, self.fanout, wanted=config.placeholder)

    async def run(self) -> None:
        """Stream, and recover, until cancelled."""
        with structlog.contextvars.bound_contextvars(camera=self.name):
            try:
                while True:
                    await self._until_wanted()
                    step = await self._stream()
                    remedy = await self._wait(step)
                    await self._mend(remedy)
            finally:
                self.ring.forget_past()
                self._tell(self.condition.rests("stopped", _now()))

    # What others ask of it

    def wake(self) -> None:
        """Try again now: the device was plugged in or came back.

        That is the strongest remedy there is: it takes the place of the one that was to come.
        """
        self._replugged = True
        self._wake.set()

    def restart(self, remedy: Remedy = Remedy.REOPEN) -> None:
        """Close the source, apply a remedy, and open it again: a person asks for it.

        An idle camera is closed already.
        """
        if self.state != "idle":
            self._asked = remedy
            self._wake.set()
            self._end_stream()

    def retire(self) -> None:
        """No frame will come any more: let nobody wait for one, now or later."""
        self.ring.close()
        self._settled.set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody is watching while this is entered: a camera on demand opens.

        Where it had been left alone and waits after a failure, it is tried sooner.
        """
        if not self.audience.wants_pictures:
            self._hurry()
        with self.audience.joined():
            if not self._source_is_watched:
                self._tell_source(watched=True)
            yield

    async def admit(self, sink: Sink) -> None:
        """Let a client watch: it sees the newest frame at once, or soon why there is none."""
        if self.condition.is_down:
            await self._show_placeholder()  # the newest frame may be hours old
        self.fanout.join(sink)
        if not await self.settled(within=OFFLINE_AFTER):
            await self._show_placeholder()

    async def settled(self, *, within: float) -> bool:
        """Wait until it is known whether frames come or not. False: not in this many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def _hurry(self) -> None:
        """Wait for the next attempt as long as after a first failure, and no longer."""
        soonest = self._failed_at + max(self.config.redial_delay, DIAL_EVERY)
        if self._retry_at and self._pause and soonest < self._retry_at:
            self._retry_at = soonest
            self._pause.reschedule(soonest)

    # How it is

    @property
    def state(self) -> State:
        """What it is doing."""
        return self.condition.state

    @property
    def summary(self) -> str:
        """Its name, its state and its trouble, in one line."""
        return ": ".join(filter(None, (self.name, self.state, self.condition.trouble)))

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt, while waiting for it."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    @property
    def frame_age(self) -> float | None:
        """Seconds since the newest frame was captured, or None before the first."""
        newest = self.ring.newest
        return None if newest is None else time.monotonic() - newest.monotonic

    @property
    def is_fresh(self) -> bool:
        """Whether frames are coming, and differ from each other."""
        age = self.frame_age
        return self.state == "streaming" and age is not None and age <= self._silence_allowed

    @property
    def is_stuck(self) -> bool:
        """Whether no frame comes without our noticing: a fault of ours, not of the camera."""
        if self._attempt_at is None:
            return False
        newest = self.ring.newest
        lately = max(self._attempt_at, newest.monotonic if newest else 0.0)
        longest = max(self._silence_allowed * (1 + _SLACK), self.source.patience)
        return time.monotonic() - lately > longest + _STUCK_AFTER

    @property
    def resets(self) -> int:
        """How often its device was made to leave the bus and come back."""
        return sum(count for remedy, count in self.remedied.items() if remedy.is_reset)

    # Its loop: wait until it is wanted, stream, wait, mend

    async def _until_wanted(self) -> None:
        """On demand: stay idle until somebody watches."""
        if self.audience.wants_pictures:
            return
        self._tell(self.condition.rests("idle", _now()))
        self._asked = None  # it is closed, and will be opened anew in any case
        self.ring.clear()
        self.fanout.clear()
        await self.audience.arrives()

    async def _stream(self) -> Step:
        """Open the source and publish its frames until it fails or is to be closed.

        Returns:
            What is to be done before it is opened again.
        """
        started = self._attempt_at = time.monotonic()
        self._forget_news()
        self._first_frame_at = None
        self._tell(self.condition.opens(_now()))
        try:
            await self._pump()
        except SourceError as error:
            step = self._failed(error, lasted=time.monotonic() - started)
        except Exception:
            # A bug met by one camera's bytes must not blind the others.
            log.exception("camera.crashed")
            step = self._crashed()
        else:
            return _NOTHING_WRONG
        finally:
            self._attempt_at = None
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + step.delay
        if self.audience.viewers:
            await self._show_placeholder()
        return step

    async def _pump(self) -> None:
        """Publish the source's frames; return when it is to be closed though nothing is wrong.

        Raises:
            SourceError: The source failed, or stalled.
        """
        async with self.source.open() as stream:
            self.opens += 1
            if self._is_done():  # a restart was asked for, or its viewers left, meanwhile
                return
            self._timer_due = 0.0
            self._ended = False
            try:
                async with asyncio.timeout(self.config.first_frame_timeout) as self._silence:
                    await stream(self._publish)
            except TimeoutError as error:
                if not (self._ended or self._is_done()):
                    raise self._stalled() from error
            finally:
                self._silence = None

    def _is_done(self) -> bool:
        """Whether the source is to be closed, though nothing is wrong with it."""
        return self._asked is not None or not self.audience.wants_pictures

    def _end_stream(self) -> None:
        """Let what is streaming end at the next turn of the loop, without an error."""
        self._ended = True
        if self._silence and not self._silence.expired():
            self._silence.reschedule(0)

    def _publish(self, image: bytes, captured: float) -> None:
        """Take an image from the source. The hot path: see docs/explanation/life-of-a-frame.md."""
        now = time.monotonic()
        if now >= self._timer_due:
            self._allow_silence(now)
        self.published += 1
        frame = Frame(self.published, time.time() - (now - captured), captured, image)
        self.ring.publish(frame)
        self.fanout.show(frame)
        if self._first_frame_at is None:
            self._first_frame_at = self._changed_at = captured
            self._tell(self.condition.streams(_now()))
        if self.config.frozen_after:
            self._notice_frozen(image, now)
        if self.condition.interruptions:
            self._notice_health()
        if not self.audience.viewers:
            self._notice_absence()

    def _allow_silence(self, now: float) -> None:
        """Let the next frames take their time from now on."""
        slack = self._silence_allowed * _SLACK
        self._timer_due = now + slack
        if self._silence and not (self._ended or self._silence.expired()):
            self._silence.reschedule(now + self._silence_allowed + slack)

    def _notice_absence(self) -> None:
        """Nobody watches: tell the source after a while, or close it."""
        if self._source_is_watched and not self.audience.is_watching:
            self._tell_source(watched=False)
        if self._is_done():
            self._end_stream()

    def _notice_health(self) -> None:
        """End an outage when frames have come for a while: a camera may come and go for ever."""
        if self.state == "streaming" and self._streamed_for() >= HEALTHY_AFTER:
            self._tell(self.condition.is_well())

    def _notice_frozen(self, image: bytes, now: float) -> None:
        """Tell a picture that no longer changes: a live sensor's noise never repeats itself."""
        if image != self._last_image:
            self._last_image = image
            self._changed_at = now
            self._tell(self.condition.streams(_now()))
        elif self.state != "frozen" and now - self._changed_at >= self.config.frozen_after:
            self._tell(
                self.condition.fails(
                    "frozen",
                    f"the picture has not changed for {self.config.frozen_after:g} s",
                    "restart the camera if it should show movement",
                    _now(),
                    kind="frozen",
                )
            )

    def _streamed_for(self) -> float:
        """Seconds between the first frame and the last; the silence after it does not count."""
        newest = self.ring.newest
        if self._first_frame_at is None or newest is None:
            return 0.0
        return newest.monotonic - self._first_frame_at

    def _stalled(self) -> SourceStalled:
        if self._first_frame_at is None:
            return SourceStalled(
                f"the camera sent no picture for {self.config.first_frame_timeout:g} s after "
                "it was opened",
                self.source.silent_hint,
            )
        return SourceStalled(
            f"the camera went silent: no picture for {self._silence_allowed:g} s",
            self.source.stalled_hint,
        )

    def _failed(self, error: SourceError, *, lasted: float) -> Step:
        """Take note of a failure; what to do about it."""
        self.failures[error.kind] += 1
        step = self._ladder.failed(
            error, now=time.monotonic(), streamed_for=self._streamed_for(), lasted=lasted
        )
        is_away = isinstance(error, SourceUnreachable)
        if not is_away and not self._asked:
            # It was there: what came and went meanwhile was its own doing, as at a reset.
            self._forget_news()
        holders = self.source.holders
        self._tell(
            self.condition.fails(
                "absent" if is_away else "recovering",
                error.reason,
                step.note or error.hint,
                _now(),
                # Another program that has it is another trouble.
                kind=(error.kind, *sorted({holder.program for holder in holders})),
                holders=holders,
            )
        )
        return step

    def _crashed(self) -> Step:
        """Take note of a fault of our own."""
        self.failures["crashed"] += 1
        reason, hint = "mjrelay met a fault of its own", "please report what the log says"
        self._tell(self.condition.fails("recovering", reason, hint, _now(), kind="crashed"))
        return Step(Remedy.REOPEN, self.config.retry_max)

    def _forget_news(self) -> None:
        """Whatever has come or gone until now is known by trying."""
        self._wake.clear()
        self._replugged = False

    async def _wait(self, step: Step) -> Remedy:
        """Wait for the time of the next attempt, or to be woken.

        Returns:
            The remedy that is left to apply.
        """
        try:
            async with asyncio.timeout(self.retry_in or 0) as self._pause:
                await self._wake.wait()
        except TimeoutError:
            pass
        finally:
            self._retry_at = self._pause = None
        return Remedy.REOPEN if self._replugged else step.remedy

    async def _mend(self, remedy: Remedy) -> None:
        """Apply the remedy that a person asked for, or else the one the latest failure calls for.

        A reset that was made and did not help has disturbed the camera: it stays on the account.
        """
        asked, self._asked = self._asked, None
        apply = self.source.remedies.get(asked or remedy)
        if apply is None:
            return
        if asked:
            remedy = asked
        elif self.audience.wants_pictures:
            self._ladder.applies(remedy, now=time.monotonic())
        else:
            return  # nobody watches: others may have it
        because = self.condition.reason or "asked for"
        log.warning("camera.remedy", remedy=remedy.value, because=because)
        try:
            await apply()
        except RemedyFailed as error:
            if error.done:
                self._note(remedy)
            elif not asked:
                self._ladder.not_done(remedy, because=None if error.is_held else error.hint)
            self._tell(
                self.condition.fails(
                    "absent" if self.state == "absent" else "recovering",
                    error.reason,
                    error.hint,
                    _now(),
                    kind=f"no {remedy.value}",
                )
            )
        except Exception:
            log.exception("camera.crashed")
            self.failures["crashed"] += 1
        else:
            self._note(remedy)

    def _note(self, remedy: Remedy) -> None:
        """Count a remedy that was applied."""
        self.remedied[remedy] += 1
        self.condition.treated(remedy.value)

    # Telling others

    def _tell(self, events: Iterable[Event]) -> None:
        """Log what there is to tell of a change, and let go of those who waited for it."""
        for event in events:
            getattr(log, event.level)(event.name, **event.facts)
        if self.condition.is_settled or self.ring.is_closed:
            self._settled.set()
        else:
            self._settled.clear()

    def _tell_source(self, *, watched: bool) -> None:
        self._source_is_watched = watched
        self.source.watch(watched=watched)

    async def _show_placeholder(self) -> None:
        newest = self.ring.newest
        condition = self.condition
        await self._placeholder.show(
            title=condition.state,
            reason=condition.reason or "waiting for the first picture",
            hint=condition.hint or "",
            since=time.time() - condition.down_for(time.monotonic()),
            size=newest.dimensions if newest else None,
        )


def _first_state(config: CameraConfig) -> State:
    return "idle" if config.mode == "demand" else "starting"


def _now() -> Moment:
    return Moment(time.monotonic(), time.time())
