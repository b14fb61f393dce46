"""Camera: one source, its frames, its viewers, and how it comes back."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import structlog

from mjrelay.config import CameraConfig
from mjrelay.errors import SourceError, SourceStalled
from mjrelay.fanout import Fanout
from mjrelay.formats import jpeg
from mjrelay.frames import Frame
from mjrelay.recovery.backoff import Backoff
from mjrelay.ring import FrameRing
from mjrelay.sources import Source

State = Literal["idle", "starting", "streaming", "frozen", "recovering", "absent", "stopped"]

_USUAL_SIZE = (640, 480)
_TITLES: dict[State, str] = {
    "starting": "connecting",
    "recovering": "no picture",
    "absent": "not found",
}

log = structlog.get_logger()


class Camera:
    """Owns a source for as long as it runs: opens it, publishes its frames, recovers it.

    Attributes:
        name: As configured.
        state: See docs/reference/http.md; changed only by `run`.
        reason: What happened, while something is wrong.
        hint: What a person can do about it.
        since: Unix time of the latest change of state.
        ring: The newest frames.
        fanout: What viewers are shown.
        opens, failures, stalls: Counts over the camera's life; failures by kind.
    """

    def __init__(self, name: str, config: CameraConfig, source: Source) -> None:
        self.name = name
        self.config = config
        self.source = source
        self.ring = FrameRing(seconds=config.ring, max_bytes=config.ring_bytes)
        self.fanout = Fanout()
        self.state: State = "idle" if config.mode == "demand" else "starting"
        self.reason: str | None = None
        self.hint: str | None = None
        self.since = time.time()
        self.published = 0
        self.opens = 0
        self.failures: Counter[str] = Counter()
        self.stalls = 0
        self._backoff = Backoff(
            first=config.redial_delay,
            most=config.retry_max,
            jitter=random.random,
        )
        self._retry_at: float | None = None
        self._viewers = 0
        self._left_at = 0.0
        self._watched = asyncio.Event()
        self._wake = asyncio.Event()
        self._first_frame_at: float | None = None
        self._changed_at = 0.0

    async def run(self) -> None:
        """Stream, and recover, until cancelled."""
        with structlog.contextvars.bound_contextvars(camera=self.name):
            try:
                while True:
                    await self._until_wanted()
                    await self._wait(await self._stream())
            finally:
                self._enter("stopped")

    def wake(self) -> None:
        """Cut a wait for the next attempt short: something has changed."""
        self._wake.set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """While entered, somebody is watching: an idle camera opens."""
        self._viewers += 1
        self._watched.set()
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watched.clear()
                self._left_at = time.monotonic()

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt, while waiting for it."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    @property
    def is_fresh(self) -> bool:
        """Whether frames are coming and differ from each other."""
        newest = self.ring.newest
        return (
            self.state == "streaming"
            and newest is not None
            and time.monotonic() - newest.monotonic <= self._patience
        )

    # One life of the source

    async def _stream(self) -> float:
        """Open the source and publish its frames until it fails or nobody watches.

        Returns:
            How many seconds to wait before the next attempt.
        """
        self._wake.clear()
        self._first_frame_at = None
        if self.state not in ("recovering", "absent"):
            self._enter("starting")
            self._show_offline_later()
        try:
            await self._pump()
        except SourceError as error:
            return await self._failed(error)
        except Exception:
            # A bug met by one camera's bytes must not blind the others.
            log.exception("camera.crashed")
            self.failures["crashed"] += 1
            await self._go_offline("recovering", "mjrelay met a fault of its own", "see the log")
            return self.config.retry_max
        return 0.0

    async def _pump(self) -> None:
        """Publish the source's frames; return when nobody watches a camera on demand.

        Raises:
            SourceError: The source failed, or stalled.
        """
        loop = asyncio.get_running_loop()
        self.opens += 1
        async with self.source.open() as images:
            first = self.config.first_frame_timeout
            try:
                async with asyncio.timeout(first) as watchdog:
                    async for image in images:
                        watchdog.reschedule(loop.time() + self._patience)
                        self._publish(image)
                        if self._unwanted():
                            return
            except TimeoutError as error:
                raise self._stalled() from error

    def _publish(self, image: bytes) -> None:
        now = time.monotonic()
        newest = self.ring.newest
        self.published += 1
        frame = Frame.of(image, seq=self.published, captured_at=time.time(), monotonic=now)
        if newest is None or newest.image != frame.image:
            self._changed_at = now
        self.ring.publish(frame)
        self.fanout.show(frame)
        if self._first_frame_at is None:
            self._first_frame_at = now
            self._changed_at = now
            self._online()
        frozen_after = self.config.frozen_after
        if frozen_after and (now - self._changed_at >= frozen_after) != (self.state == "frozen"):
            self._enter("streaming" if self.state == "frozen" else "frozen")
