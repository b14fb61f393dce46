"""Camera: one source, its frames, its viewers, and how it comes back."""

import asyncio
import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import structlog

from mjrelay.camera.fanout import OFFLINE_AFTER, Fanout, Sink
from mjrelay.camera.frame import Frame
from mjrelay.camera.placeholder import Placeholder
from mjrelay.camera.ring import FrameRing
from mjrelay.camera.watchdog import Watchdog
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.holders import Holder
from mjrelay.errors import RemedyFailed, SourceError, SourceStalled, SourceUnreachable
from mjrelay.recovery.backoff import HEALTHY_AFTER, Backoff
from mjrelay.recovery.ladder import Ladder, Remedy
from mjrelay.sources import Source

State = Literal["idle", "starting", "streaming", "frozen", "recovering", "absent", "stopped"]

# What tells one trouble from another, for the log.
Kind = str | tuple[object, ...]

# The states in which there are no frames, and something should be done about it.
_DOWN = ("recovering", "absent")

# A silence is noticed when its time is over. If it was not, so much later, nothing will notice it.
_STUCK_AFTER = 30.0

# After the last viewer pictures are taken at once for so long: who asks for snapshots asks again.
_UNWATCHED_AFTER = 10.0

log = structlog.get_logger()


class Camera:
    """Owns a source for as long as it runs: opens it, publishes its frames, recovers it.

    Attributes:
        name: As configured.
        state: What it is doing; docs/reference/http.md explains each state.
        reason: What happened, while something is wrong.
        hint: What a person can do about it.
        holders: Which processes have the device, while that keeps us from it.
        since: Unix time of the latest change of state.
        ring: The newest frame, and those of the last seconds.
        fanout: What viewers are shown.
        published: Frames published over the camera's life; so are the following counts.
        opens: How often the source was opened.
        failures: How often it failed, by kind.
        remedied: How often each remedy was applied, whether or not it helped.
    """

    def __init__(self, name: str, config: CameraConfig, source: Source) -> None:
        self.name = name
        self.fanout = Fanout()
        self.ring = FrameRing()
        self.reason: str | None = None
        self.hint: str | None = None
        self.holders: tuple[Holder, ...] = ()
        self.since = time.time()
        self.published = 0
        self.opens = 0
        self.failures: Counter[str] = Counter()
        self.remedied: Counter[Remedy] = Counter()
        self._remedy = Remedy.REOPEN
        self._asked: Remedy | None = None
        self._watchdog: Watchdog | None = None
        self._retry_at: float | None = None
        self._wake = asyncio.Event()
        self._viewers = 0
        self._watched = asyncio.Event()
        self._left_at = -math.inf
        self._first_frame_at: float | None = None
        self._last_image = b""
        self._changed_at = 0.0
        self._down_since: float | None = None
        self._attempt_at: float | None = None
        self._forget_outage()
        # Set while it is known whether frames come or not.
        self._settled = asyncio.Event()
        self.configure(config, source)

    def configure(self, config: CameraConfig, source: Source) -> None:
        """Give a camera that does not run another configuration. Its viewers stay."""
        self.config = config
        self.source = source
        self._tell_source(watched=bool(self._viewers))
        self.ring.configure(seconds=config.ring, max_bytes=config.ring_bytes)
        self.ring.clear()
        self.state: State = "idle" if config.mode == "demand" else "starting"
        self._settled.clear()
        self._ladder = Ladder(
            Backoff(first=config.redial_delay, most=config.retry_max, jitter=random.random),
            remedies=source.remedies,
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
                    await self._stream()
                    await self._wait()
                    await self._mend()
            finally:
                self.ring.forget_past()
                self._enter("stopped")

    def wake(self) -> None:
        """Cut the wait for the next attempt short: something has changed."""
        self._wake.set()

    def restart(self, remedy: Remedy = Remedy.REOPEN) -> None:
        """Close the source, apply a remedy, and open it again: a person asks for it.

        An idle camera is closed already.
        """
        if self.state == "idle":
            return
        self._asked = remedy
        self.wake()
        if self._watchdog:
            self._watchdog.release()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody is watching while this is entered: a camera on demand opens."""
        self._viewers += 1
        self._watched.set()
        if not self._source_watched:
            self._tell_source(watched=True)
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watched.clear()
                self._left_at = time.monotonic()

    async def admit(self, sink: Sink) -> None:
        """Let a client watch: it sees the newest frame at once, or soon why there is none."""
        if self.state in _DOWN:
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

    @property
    def trouble(self) -> str:
        """What happened and what to do about it, in one line; empty while all is well."""
        return ": ".join(filter(None, (self.reason, self.hint)))

    @property
    def summary(self) -> str:
        """Its name, its state and its trouble, in one line."""
        return ": ".join(filter(None, (self.name, self.state, self.trouble)))

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt, while waiting for it."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    @property
    def frame_age(self) -> float | None:
        """Seconds since the newest frame, or None before the first."""
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
        longest = max(self._silence_allowed, self.source.patience)
        return time.monotonic() - lately > longest + _STUCK_AFTER

    # One life of the source

    async def _until_wanted(self) -> None:
        """On demand: stay idle until somebody watches."""
        if self._unwanted():
            self._enter("idle")
            self._asked = None  # it is closed, and will be opened anew in any case
            self.ring.clear()
            self.fanout.clear()
            await self._watched.wait()

    def _unwanted(self) -> bool:
        return (
            self.config.mode == "demand"
            and not self._viewers
            and time.monotonic() - self._left_at >= self.config.linger
        )

    async def _stream(self) -> None:
        """Open the source and publish its frames until it fails or nobody watches."""
        started = self._attempt_at = time.monotonic()
        self._wake.clear()
        self._first_frame_at = None
        if self.state in _DOWN:
            self._attempts += 1
        else:
            self._enter("starting")
        try:
            await self._pump()
        except SourceError as error:
            self.failures[error.kind] += 1
            now = time.monotonic()
            step = self._ladder.failed(
                error, now=now, streamed_for=self._streamed_for(), lasted=now - started
            )
            self._remedy, delay = step.remedy, step.delay
            if not isinstance(error, SourceUnreachable) and not self._asked:
                # It was there: what came and went meanwhile was its own doing, as at a reset.
                self._wake.clear()
            self.holders = self.source.holders
            state: State = "absent" if isinstance(error, SourceUnreachable) else "recovering"
            # Another program that has it is another trouble.
            kind = (error.kind, *sorted({holder.command for holder in self.holders}))
            self._enter(state, error.reason, step.note or error.hint, kind=kind)
        except Exception:
            # A bug met by one camera's bytes must not blind the others.
            log.exception("camera.crashed")
            self._remedy, delay = Remedy.REOPEN, self.config.retry_max
            self.failures["crashed"] += 1
            reason, hint = "mjrelay met a fault of its own", "please report what the log says"
            self._enter("recovering", reason, hint, kind="crashed")
        else:
            return
        finally:
            self._attempt_at = None
        self._retry_at = time.monotonic() + delay
        if self._viewers:
            await self._show_placeholder()

    async def _pump(self) -> None:
        """Publish the source's frames; return when they are no longer wanted, or for a restart.

        Raises:
            SourceError: The source failed, or stalled.
        """
        async with self.source.open() as stream:
            self.opens += 1
            if self._is_done():  # a restart was asked for, or its viewers left, meanwhile
                return
            try:
                async with Watchdog(self.config.first_frame_timeout) as self._watchdog:
                    await stream(self._publish)
            except TimeoutError as error:
                if not self._is_done():
                    raise self._stalled() from error
            finally:
                self._watchdog = None

    def _is_done(self) -> bool:
        """Whether the source is to be closed, though nothing is wrong with it."""
        return self._asked is not None or self._unwanted()

    def _tell_source(self, *, watched: bool) -> None:
        self._source_watched = watched
        self.source.watch(watched=watched)

    def _publish(self, image: bytes, captured: float) -> None:
        assert self._watchdog
        now = time.monotonic()
        self._watchdog.feed(now + self._silence_allowed)
        self.published += 1
        frame = Frame(self.published, time.time() - (now - captured), captured, image)
        self.ring.publish(frame)
        self.fanout.show(frame)
        if self._first_frame_at is None:
            self._first_frame_at = self._changed_at = now
            self._enter("streaming")
        if self.config.frozen_after:
            self._notice_frozen(image, now)
        if self._interruptions and self.state == "streaming":
            self._notice_health()
        if self._source_watched and not self._viewers and now - self._left_at >= _UNWATCHED_AFTER:
            self._tell_source(watched=False)
        if self._is_done():
            self._watchdog.release()

    def _notice_health(self) -> None:
        """End an outage when frames have come for a while: a camera may come and go for ever."""
        if self._streamed_for() >= HEALTHY_AFTER:
            if self._interruptions > 1:
                self._tell_recovery()
            self._forget_outage()

    def _notice_frozen(self, image: bytes, now: float) -> None:
        """Tell a picture that no longer changes: a live sensor's noise never repeats itself."""
        if image != self._last_image:
            self._last_image = image
            self._changed_at = now
            self._enter("streaming")
        elif self.state != "frozen" and now - self._changed_at >= self.config.frozen_after:
            self._enter(
                "frozen",
                f"the picture has not changed for {self.config.frozen_after:g} s",
                "restart the camera if it should show movement",
                kind="frozen",
            )

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

    def _streamed_for(self) -> float:
        """Seconds between the first frame and the last; the silence after it does not count."""
        newest = self.ring.newest
        if self._first_frame_at is None or newest is None:
            return 0.0
        return newest.monotonic - self._first_frame_at

    async def _wait(self) -> None:
        """Wait for the time of the next attempt, or to be woken."""
        try:
            async with asyncio.timeout(self.retry_in or 0):
                await self._wake.wait()
                # The cable was pulled: that is the strongest remedy there is.
                self._ladder.not_done(self._remedy)
                self._remedy = Remedy.REOPEN
        except TimeoutError:
            pass
        finally:
            self._retry_at = None

    async def _mend(self) -> None:
        """Apply the remedy that somebody asked for, or that the latest failure calls for."""
        asked, remedy = self._asked, self._asked or self._remedy
        self._asked, self._remedy = None, Remedy.REOPEN
        apply = self.source.remedies.get(remedy)
        if apply is None:
            return
        if self._unwanted() and not asked:
            self._ladder.not_done(remedy)  # nobody watches: others may have it
            return
        log.warning("camera.remedy", remedy=remedy.value, because=self.reason or "asked for")
        try:
            await apply()
        except RemedyFailed as error:
            if error.done:
                self.remedied[remedy] += 1
            elif not asked:
                self._ladder.not_done(remedy, because=None if error.is_held else error.hint)
            state: State = self.state if self.state in _DOWN else "recovering"
            self._enter(state, error.reason, error.hint, kind=f"no {remedy.value}")
        except Exception:
            log.exception("camera.crashed")
            self.failures["crashed"] += 1
        else:
            self.remedied[remedy] += 1

    @property
    def resets(self) -> int:
        """How often its device was made to leave the bus and come back."""
        return sum(count for remedy, count in self.remedied.items() if remedy.is_reset)

    # What people see of it

    def _enter(
        self,
        state: State,
        reason: str | None = None,
        hint: str | None = None,
        *,
        kind: Kind = "",
    ) -> None:
        """Change the state, and tell the log.

        The log has each kind of trouble once in an outage, and its repetitions at debug. A camera
        that comes and goes is told to stream again when it has done so for a while.

        Args:
            state: The new state.
            reason: What happened, in trouble.
            hint: What to do about it.
            kind: The kind of trouble; empty for none.
        """
        if (state, reason, hint) == (self.state, self.reason, self.hint) and not kind:
            return
        if state != self.state:
            self.since = time.time()
        self.state, self.reason, self.hint = state, reason, hint
        if state in ("idle", "starting"):
            self._settled.clear()
        else:
            self._settled.set()
        event = f"camera.{state}"
        if kind:
            if not self._down_since:
                self._down_since = time.monotonic()
                self._interruptions += 1
            facts = {"holders": [h.as_values() for h in self.holders]} if self.holders else {}
            tell = log.debug if kind in self._told else log.warning
            tell(event, reason=reason, hint=hint, **facts)
            self._told.add(kind)
        elif state == "streaming" and self._down_since:
            self._was_down += time.monotonic() - self._down_since
            if self._interruptions == 1:
                self._tell_recovery()
        else:
            log.info(event, source=self.source.label)
            self._forget_outage()
        if not kind:
            self.holders = ()
            self._down_since = None

    def _tell_recovery(self) -> None:
        """Tell the log that frames come again, and what is told of the next trouble begins anew."""
        facts = {"attempts": self._attempts}
        if self._interruptions > 1:
            facts["interruptions"] = self._interruptions
        log.info(
            "camera.streaming",
            source=self.source.label,
            was_down=round(self._was_down, 1),
            **facts,
        )
        self._told.clear()

    def _forget_outage(self) -> None:
        self._interruptions = self._attempts = 0
        self._was_down = 0.0
        self._told: set[Kind] = set()

    async def _show_placeholder(self) -> None:
        newest = self.ring.newest
        lasted = time.monotonic() - self._down_since if self._down_since else 0.0
        await self._placeholder.show(
            title=self.state,
            reason=self.reason or "waiting for the first picture",
            hint=self.hint or "",
            since=time.time() - lasted,
            size=newest.dimensions if newest else None,
        )
