"""Camera: opens one source, shows its frames to viewers, and recovers it when it fails."""

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
from mjrelay.camera.fanout import Fanout, Sink
from mjrelay.camera.frame import Frame
from mjrelay.camera.placeholder import Placeholder
from mjrelay.camera.ring import FrameRing
from mjrelay.camera.silence import Silence
from mjrelay.camera.wait import Wait
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import (
    RemedyFailed,
    SourceEnded,
    SourceError,
    SourceUnreachable,
)
from mjrelay.recovery.backoff import DIAL_EVERY, HEALTHY_AFTER, REOPEN_EVERY, Backoff
from mjrelay.recovery.ladder import Allowance, Ladder, Remedy, Step
from mjrelay.sources import Source

# A viewer who comes while nobody knows whether pictures will is told after this many seconds.
_TELL_AFTER = 1.0

_NOTHING_WRONG = Step(Remedy.REOPEN, 0.0)

log = structlog.get_logger()


class Camera:
    """Opens a source, publishes its frames, and recovers it when it fails, until it is stopped.

    Attributes:
        name: As configured.
        config: Its options.
        source: Where its images come from.
        condition: Its state, and what is wrong with it.
        audience: How many viewers it has.
        ring: Its newest frame, and for clips those of the last seconds.
        fanout: Shows each frame to every client that watches the stream.
        published: How many frames it has published since mjrelay started.
        opens: How often its source was opened since mjrelay started.
        failures: How often its source failed since mjrelay started, by kind of error.
        remedied: How often each remedy was applied since mjrelay started, whether or not it helped.
        stuck_after: A timer ends every silence that lasts too long. If a silence goes on for this
            many seconds more, the timer itself has failed.
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
        self.stuck_after = 30.0
        self._allowance = Allowance()
        self._asked: Remedy | None = None
        # The only handle on a stream that runs: a timeout that never passes by itself. To end the
        # stream it is made to pass now: for a stall, or else without an error.
        self._stream_end: asyncio.Timeout | None = None
        self._stall: SourceError | None = None
        self._silence_timer: asyncio.TimerHandle | None = None
        self._gap: asyncio.Task[None] | None = None
        self._goes_on = False  # what is opened next is the same stream as before
        self._warm_at: float | None = None
        self._replugged = False
        self._attempt_at: float | None = None
        self._first_frame_at: float | None = None
        self._last_image = b""
        self._changed_at = 0.0
        # Set while it is known whether frames come: not while idle, starting or stopped.
        self._settled = asyncio.Event()
        self._set_up(config, source)

    def configure(self, config: CameraConfig, source: Source) -> None:
        """Give the camera another configuration; it must not be running. Its viewers stay."""
        source.inherit_from(self.source)
        self._end_gap()
        self.condition.begin(_first_state(config), source.label, _now())
        self._set_up(config, source)

    def _set_up(self, config: CameraConfig, source: Source) -> None:
        self.config = config
        self.source = source
        self._retry = Wait()
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
        self._silence = Silence(
            # With fps = 0.1, a camera that is polled every 10 s has not stalled after 5 s.
            usual=max(config.stall_timeout, 2 / config.fps if config.fps else 0),
            first=config.first_frame_timeout,
            learns=source.has_own_rhythm,
        )
        self.fanout.offline_after = config.offline_after
        self._placeholder = Placeholder(self.name, self.fanout, wanted=config.placeholder)

    async def run(self) -> None:
        """Stream, and recover, until cancelled."""
        with structlog.contextvars.bound_contextvars(camera=self.name):
            try:
                async with asyncio.TaskGroup() as self._tasks:
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

        The remedy that was due next is left out: plugging in is stronger than any of them.
        """
        self._replugged = True
        self._retry.wake()

    def restart(self, remedy: Remedy = Remedy.REOPEN) -> None:
        """Close the source, apply a remedy, and open the source again, as a person has asked.

        Does nothing while the camera is idle: its source is closed already.
        """
        if self.state != "idle":
            self._asked = remedy
            self._retry.wake()
            self._end_gap()
            self._end_stream()

    def retire(self) -> None:
        """End every wait for a frame, now and later: the camera is gone."""
        self.ring.close()
        self.end_waits()

    def end_waits(self) -> None:
        """Let go of the requests that wait to know whether frames come: mjrelay ends."""
        self._settled.set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Count one more viewer while entered; a camera on demand opens for it.

        If nobody wanted the camera and it waits after a failure, it is retried as soon as after a
        first failure: `redial_delay`, 1 s at least. A camera that must be left alone for longer is.
        """
        if not self.audience.wants_pictures:
            self._retry.shorten(max(self.config.redial_delay, DIAL_EVERY))
        with self.audience.joined():
            if not self._source_is_watched:
                self._tell_source(watched=True)
            yield

    async def admit(self, sink: Sink) -> None:
        """Show a client every frame from now on: at once the newest, or soon why there is none."""
        if self.condition.is_down:
            await self._show_placeholder()  # the newest frame may be hours old
        self.fanout.join(sink)
        if not await self.settled(within=_TELL_AFTER):
            await self._show_placeholder()

    async def settled(self, *, within: float) -> bool:
        """Wait until it is known whether frames come. False if that takes over `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    # How it is

    @property
    def state(self) -> State:
        """What the camera is doing."""
        return self.condition.state

    @property
    def summary(self) -> str:
        """Its name, its state and its trouble, in one line."""
        return ": ".join(filter(None, (self.name, self.state, self.condition.trouble)))

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt, while waiting for it."""
        return self._retry.left

    @property
    def frame_age(self) -> float | None:
        """Seconds since the newest frame was captured, or None before the first."""
        newest = self.ring.newest
        return None if newest is None else time.monotonic() - newest.monotonic

    @property
    def is_fresh(self) -> bool:
        """Whether frames are coming, and differ from each other."""
        return self.state == "streaming" and time.monotonic() <= self._silence_ends()

    @property
    def is_stuck(self) -> bool:
        """Whether frames have stopped and we have not noticed: a fault of mjrelay itself."""
        if self._attempt_at is None:
            return False
        noticed = max(self._attempt_at + self.source.patience, self._silence_ends())
        return time.monotonic() - noticed > self.stuck_after

    @property
    def resets(self) -> int:
        """How often its device was reset, by any remedy, since mjrelay started."""
        return sum(count for remedy, count in self.remedied.items() if remedy.is_reset)

    # Its loop: wait until it should be open, stream, wait to retry, apply a remedy

    async def _until_wanted(self) -> None:
        """Stay idle until there is a viewer, unless the camera should be open already."""
        if self.audience.wants_pictures:
            return
        self._tell(self.condition.rests("idle", _now()))
        self._end_gap()
        self._asked = None  # a restart that was asked for: the source is closed already
        self.ring.clear()
        self.fanout.clear()
        await self.audience.arrives()

    async def _stream(self) -> Step:
        """Open the source and publish its frames until it fails or should be closed.

        Returns:
            What to do before the source is opened again.
        """
        if self._asked:  # while a remedy was applied
            return _NOTHING_WRONG
        started = self._attempt_at = time.monotonic()
        self._forget_hotplug()
        if not self._goes_on:
            self._warm_at = None
        if not self._gap:
            self._first_frame_at = None
            self._tell(self.condition.opens(_now()))
        self._goes_on = False
        try:
            await self._pump()
        except SourceEnded as error:
            return self._ended(error, lasted=time.monotonic() - started)
        except SourceError as error:
            step = self._failed(error, lasted=time.monotonic() - started)
        except Exception:
            # A bug that one camera's bytes bring to light must not stop the other cameras.
            log.exception("camera.crashed")
            step = self._crashed()
        else:
            if self._first_frame_at is not None:
                self._ladder.rests()
            return _NOTHING_WRONG
        finally:
            self._attempt_at = None
        if self.audience.viewers:
            await self._show_placeholder()
        return step

    async def _pump(self) -> None:
        """Publish the source's frames. Return when it should be closed though nothing is wrong.

        Raises:
            SourceError: The source failed, or stalled.
        """
        async with self.source.open() as stream:
            self.opens += 1
            if self._is_done():  # while it opened, a restart was asked for or all viewers left
                return
            self._stall = None
            self._silence.opened(time.monotonic())
            end = self._stream_end = asyncio.timeout(None)
            try:
                async with end:
                    self._judge_silence()
                    await stream(self._warm_up if self.config.warm_up else self._publish)
            except TimeoutError:
                if not end.expired():
                    raise  # a fault of the source
                if self._stall and not self._is_done():
                    raise self._stall from None
            finally:
                self._stream_end = None
                if self._silence_timer:
                    self._silence_timer.cancel()

    def _is_done(self) -> bool:
        """Whether the source should be closed, though nothing is wrong with it."""
        return self._asked is not None or not self.audience.wants_pictures

    def _end_stream(self) -> None:
        """Make the stream end at the next turn of the event loop, without an error."""
        self._stall = None
        self._let_end()

    def _let_end(self) -> None:
        if self._stream_end and not self._stream_end.expired():
            self._stream_end.reschedule(0)

    def _publish(self, image: bytes, captured: float) -> None:
        """Take an image from the source. The hot path: see docs/explanation/life-of-a-frame.md."""
        now, silence = time.monotonic(), self._silence
        if now - silence.came_at >= silence.notable:
            self._notice_pause(now, captured)
        silence.came_at = now
        self.published += 1
        frame = Frame(self.published, time.time() - (now - captured), captured, image)
        self.ring.publish(frame)
        self.fanout.show(frame, now)
        if self.config.frozen_after:
            self._notice_frozen(image, now)
        if self.condition.interruptions:
            self._notice_health()
        if not self.audience.viewers:
            self._notice_absence()

    def _warm_up(self, image: bytes, captured: float) -> None:
        """Take an image from a camera whose first ones after opening are not fit to be shown."""
        now = time.monotonic()
        if self._warm_at is None:
            self._warm_at = now + self.config.warm_up
        if self._warm_at == -math.inf:
            self._publish(image, captured)
        elif now >= self._warm_at:
            self._warm_at = self._silence.came_at = -math.inf  # this one is the first
            self._publish(image, captured)
        else:
            is_first = not self._silence.has_picture
            self._silence.came_at = now
            if is_first:
                self._judge_silence()
            if not self.audience.viewers:
                self._notice_absence()

    def _notice_pause(self, now: float, captured: float) -> None:
        """Take note of the first frame of a stream, and of a pause between two of its frames.

        After both another silence is allowed than before, and the timer may be due sooner.
        """
        if self._silence.has_picture:
            self._silence.note_pause(now)
        elif self._gap:  # for viewers, and for the condition, it is still the same stream
            self._end_gap()
        else:
            self._first_frame_at = self._changed_at = captured
            self._tell(self.condition.streams(_now()))
        self._silence.came_at = now
        self._judge_silence()

    # Silence

    def _silence_ends(self) -> float:
        """When the present silence will have lasted too long, as far as is known now."""
        return self._silence.ends(self.source.sign_of_life())

    def _judge_silence(self) -> None:
        """End the stream if it was silent for too long; else look again when that may be.

        So the timer is set only once in a while, and costs nothing for each frame.
        """
        if self._silence_timer:
            self._silence_timer.cancel()
        ends = self._silence_ends()
        if self._is_done():
            self._end_stream()
        elif time.monotonic() < ends:
            self._silence_timer = asyncio.get_running_loop().call_at(ends, self._judge_silence)
        else:
            self._stall = self._stalled()
            self._silence.lasted_too_long()
            self._let_end()

    def _stalled(self) -> SourceError:
        """What a silence means that has lasted too long."""
        source = self.source
        return source.miss or self._silence.stall(
            time.monotonic(),
            source.sign_of_life(),
            silent_hint=source.silent_hint,
            stalled_hint=source.stalled_hint,
        )

    # A gap: a stream that ended by itself is opened anew, and goes on

    def _ended(self, error: SourceEnded, *, lasted: float) -> Step:
        """Note that the source broke off after pictures, and return what to do about it.

        Many cameras do that, some after each picture: it is no failure as long as opening it again
        brings the next picture soon.
        """
        self._goes_on = not self._asked
        log.debug("camera.gap", reason=error.reason)
        step = Step(Remedy.REOPEN, max(self.config.redial_delay, REOPEN_EVERY - lasted))
        self._retry.begin(step.delay)
        has_frames = self._first_frame_at is not None
        if has_frames and not self._gap and self._goes_on:
            self._gap = self._tasks.create_task(
                self._watch_gap(error, since=self._silence.came_at), name=f"gap:{self.name}"
            )
        return step

    async def _watch_gap(self, error: SourceEnded, *, since: float) -> None:
        """Tell of a gap as an outage when it has lasted as long as a silence may."""
        while True:
            ends = self._silence.ends_after(since, self.source.sign_of_life())
            left = ends - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(left)
        self._gap = None
        self.failures[error.kind] += 1
        self._tell_failure(error)
        if self._attempt_at is not None:  # it goes on
            self._tell(self.condition.opens(_now()))
        if self.audience.viewers:
            await self._show_placeholder()

    def _end_gap(self) -> None:
        """Stop watching the gap, if there is one: it is over, or told in another way."""
        self._goes_on = False
        if self._gap:
            self._gap.cancel()
            self._gap = None

    def _notice_absence(self) -> None:
        """Without viewers: tell the source after a while, and close it where that is configured."""
        if self._source_is_watched and not self.audience.is_watching:
            self._tell_source(watched=False)
        if self._is_done():
            self._end_stream()

    def _notice_health(self) -> None:
        """Call the trouble over, as its outage is, only after some seconds: it may fail again."""
        if self.state == "streaming" and self._streamed_for() >= HEALTHY_AFTER:
            self._tell(self.condition.recovers())

    def _notice_frozen(self, image: bytes, now: float) -> None:
        """Notice images that no longer change: the noise of a live sensor never repeats itself."""
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
        """Seconds from the first frame of this stream to its newest, not to now."""
        newest = self.ring.newest
        if self._first_frame_at is None or newest is None:
            return 0.0
        return newest.monotonic - self._first_frame_at

    def _failed(self, error: SourceError, *, lasted: float) -> Step:
        """Note a failure, and return what to do about it."""
        self._end_gap()
        self.failures[error.kind] += 1
        step = self._ladder.failed(
            error, now=time.monotonic(), streamed_for=self._streamed_for(), lasted=lasted
        )
        if not isinstance(error, SourceUnreachable) and not self._asked:
            # The device was there: a hotplug event of the meantime was of its own doing, as at a
            # reset, and is no reason to try again at once.
            self._forget_hotplug()
        self._tell_failure(error, note=step.note)
        self._retry.begin(step.delay, least=error.retry_after or 0.0)
        return step

    def _tell_failure(self, error: SourceError, *, note: str | None = None) -> None:
        """Tell the condition why no pictures come; a note is a better hint than the error's."""
        holders = self.source.holders
        self._tell(
            self.condition.fails(
                "absent" if isinstance(error, SourceUnreachable) else "recovering",
                error.reason,
                note or error.hint,
                _now(),
                # When another program than before has the device, the log is told of it anew.
                kind=(error.kind, *sorted({holder.program for holder in holders})),
                holders=holders,
            )
        )

    def _crashed(self) -> Step:
        """Note a bug of mjrelay, and return what to do about it."""
        self._end_gap()
        self.failures["crashed"] += 1
        reason, hint = "mjrelay met a fault of its own", "please report what the log says"
        self._tell(self.condition.fails("recovering", reason, hint, _now(), kind="crashed"))
        self._retry.begin(self.config.retry_max)
        return Step(Remedy.REOPEN, self.config.retry_max)

    def _forget_hotplug(self) -> None:
        """Hotplug events from before an attempt, or of its own doing, are no reason for another."""
        self._retry.forget_wake()
        self._replugged = False

    async def _wait(self, step: Step) -> Remedy:
        """Wait until the next attempt is due, or something wakes the camera.

        Returns:
            The remedy still to be applied.
        """
        await self._retry.over()
        return Remedy.REOPEN if self._replugged else step.remedy

    async def _mend(self, remedy: Remedy) -> None:
        """Apply the remedy that a person asked for, or else the one the latest failure calls for.

        A reset that was made without success still counts towards the hourly limit: it has
        disturbed the camera.
        """
        asked, self._asked = self._asked, None
        apply = self.source.remedies.get(asked or remedy)
        if apply is None:  # to open it again, or to wait, takes nothing else
            return
        if asked:
            remedy = asked
        elif self.audience.wants_pictures:
            self._ladder.applies(remedy, now=time.monotonic())
        else:
            return  # nobody watches: leave the device to other programs
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
        """Log events of the condition, and set or clear `_settled` to match the state."""
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
            since=time.time() - condition.outage_lasts(time.monotonic()),
            size=newest.dimensions if newest else None,
        )


def _first_state(config: CameraConfig) -> State:
    return "idle" if config.mode == "demand" else "starting"


def _now() -> Moment:
    return Moment(time.monotonic(), time.time())
