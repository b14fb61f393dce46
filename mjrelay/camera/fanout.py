"""Fanout: what a camera's viewers are shown, now. The hot path of the whole program.

Each frame is offered once to every sink, in the turn of the event loop in which it is published: no
task wakes up, nothing is queued. A sink still busy with an earlier frame lets this one pass and
asks for the newest when it is free. docs/explanation/fan-out.md tells why.
"""

import asyncio
import math
from typing import Protocol

from mjrelay.camera.frame import Frame

# Chromium and WebKit show an image when the next part begins. When none comes, the same once more
# lets them show it; 250 ms is unseen and costs nothing from 4 fps up.
REPEAT_AFTER = 0.25
# Then often enough for clients and proxies that take silence for death (Mainsail after 10 s).
REPEAT_EVERY = 1.0
# How often sinks note their rate, for the status.
SAMPLE_EVERY = 1.0
# A camera that is back within this time was never seen to be gone.
OFFLINE_AFTER = 1.0


class Sink(Protocol):
    """One client's end of the fan-out."""

    def offer(self, frame: Frame) -> None:
        """Take a frame, unless still busy with an earlier one. Never blocks."""

    def sample(self, now: float) -> None:
        """Note how many frames were sent up to `now`."""


class Fanout:
    """Shows a camera's newest frame, or its offline picture, to every sink.

    Attributes:
        sinks: The clients watching, in the order they came.
        newest: The latest frame shown, if any.
    """

    def __init__(self) -> None:
        self.sinks: dict[Sink, None] = {}
        self.newest: Frame | None = None
        self._placeholder: Frame | None = None
        self._shown_at = -math.inf
        self._repeat_at = 0.0
        self._sample_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = -math.inf  # when the timer fires; no frame need move it while there is none

    def show(self, frame: Frame) -> None:
        """Offer a new frame to every sink."""
        self.newest = frame
        self._placeholder = None
        # Not from its capture on: that may be longer ago than a repetition waits.
        self._shown_at = asyncio.get_running_loop().time()
        self._repeat_at = self._shown_at + REPEAT_AFTER
        for sink in tuple(self.sinks):  # one whose client is gone leaves meanwhile
            sink.offer(frame)
        if self._repeat_at < self._due:
            self._arm()

    def current(self) -> Frame | None:
        """What there is to see now: the newest frame, the offline picture, or nothing yet."""
        if self._placeholder:
            now = asyncio.get_running_loop().time()
            if now - self._shown_at >= OFFLINE_AFTER:
                return self._placeholder
        return self.newest

    @property
    def has_placeholder(self) -> bool:
        """Whether an offline picture is there to be shown."""
        return self._placeholder is not None

    def show_placeholder(self, picture: Frame) -> None:
        """Show this picture in place of the newest frame, until there is a newer one."""
        self._placeholder = picture
        if self.current() is picture:
            self._repeat()

    def clear(self) -> None:
        """Show nothing until the next frame."""
        self.newest = self._placeholder = None

    def join(self, sink: Sink) -> None:
        """Add a client and show it at once what there is to see."""
        self.sinks[sink] = None
        if frame := self.current():
            sink.offer(frame)
        # Its browser shows this first frame only when another part follows.
        soon = asyncio.get_running_loop().time() + REPEAT_AFTER
        self._repeat_at = min(self._repeat_at, soon) if self._timer else soon
        if self.sinks:  # it may have been gone before the first frame
            self._arm()

    def leave(self, sink: Sink) -> None:
        """Remove a client; one that has left already is fine."""
        self.sinks.pop(sink, None)
        if not self.sinks and self._timer:
            self._timer.cancel()
            self._timer, self._due = None, -math.inf

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._due = self._repeat_at
        self._timer = asyncio.get_running_loop().call_at(self._repeat_at, self._tick)

    def _tick(self) -> None:
        """Repeat, unless frames came meanwhile: they only moved the time, not the timer."""
        now = asyncio.get_running_loop().time()
        if now >= self._repeat_at:
            self._repeat()
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_EVERY
            for sink in self.sinks:
                sink.sample(now)
        if self.sinks:
            self._arm()

    def _repeat(self) -> None:
        self._repeat_at = asyncio.get_running_loop().time() + REPEAT_EVERY
        if frame := self.current():
            for sink in tuple(self.sinks):
                sink.offer(frame)
