"""Fanout: shows a camera's frames to all who watch its stream. The hot path of the whole program.

Each frame is offered once to every sink, in the turn of the event loop in which it is published: no
task wakes up, nothing is queued. A sink still busy with an earlier frame skips this one, and asks
for the newest frame when it is free. docs/explanation/fan-out.md tells why.
"""

import asyncio
import math
from typing import Protocol

from mjrelay.camera.frame import Frame

# Chromium and WebKit show an image only when the next part begins. If no frame has come for this
# many seconds, the newest is sent again, to make them show it. Nobody sees so short a delay, and
# cameras with 4 fps or more never cause it.
REPEAT_AFTER = 0.25
# After that, it is sent again at this interval in seconds: clients and proxies take a silent stream
# for a dead one (Mainsail after 10 s).
REPEAT_EVERY = 1.0
# Seconds between two notes of each sink's rate, for the status.
SAMPLE_EVERY = 1.0


class Sink(Protocol):
    """One client's end of the fan-out."""

    def offer(self, frame: Frame) -> None:
        """Take a frame, unless still busy with an earlier one. Never blocks."""

    def sample(self, now: float) -> None:
        """Note how many frames were sent up to `now`, in seconds of the event loop's clock."""


class Fanout:
    """Shows a camera's newest frame, or its offline picture, to every sink.

    Attributes:
        sinks: The clients watching, in the order they came.
        newest: The latest frame shown, if any.
        offline_after: Seconds for which it stays before the offline picture takes its place.
    """

    def __init__(self) -> None:
        self.sinks: dict[Sink, None] = {}
        self.newest: Frame | None = None
        self.offline_after = 1.0
        self._placeholder: Frame | None = None
        self._shown_at = -math.inf
        self._repeat_at = 0.0
        self._sample_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = -math.inf  # when the timer fires; without a timer, before every other time

    def show(self, frame: Frame, now: float) -> None:
        """Offer a new frame to every sink.

        Args:
            frame: The frame.
            now: The time on the loop's clock. Not the frame's own: its capture may be longer ago
                than a repetition waits.
        """
        self.newest = frame
        self._placeholder = None
        self._shown_at = now
        self._repeat_at = now + REPEAT_AFTER
        for sink in tuple(self.sinks):  # a copy: a sink whose client is gone leaves in `offer`
            sink.offer(frame)
        if self._repeat_at < self._due:
            self._arm()

    def current(self) -> Frame | None:
        """What to show now: the newest frame, the offline picture, or None before the first."""
        if self._placeholder:
            now = asyncio.get_running_loop().time()
            if self.newest is None or now - self._shown_at >= self.offline_after:
                return self._placeholder
        return self.newest

    @property
    def has_placeholder(self) -> bool:
        """Whether there is an offline picture, even if it is not shown yet."""
        return self._placeholder is not None

    def show_placeholder(self, picture: Frame) -> None:
        """Show this offline picture in place of the newest frame, until the next frame."""
        self._placeholder = picture
        if self.current() is picture:
            self._repeat()

    def clear(self) -> None:
        """Show nothing until the next frame."""
        self.newest = self._placeholder = None

    def join(self, sink: Sink) -> None:
        """Add a sink, and offer it at once what there is to show."""
        self.sinks[sink] = None
        if frame := self.current():
            sink.offer(frame)
        # The client's browser shows this first frame only when another part follows.
        soon = asyncio.get_running_loop().time() + REPEAT_AFTER
        self._repeat_at = min(self._repeat_at, soon) if self._timer else soon
        if self.sinks:  # the client may be gone already: then `offer` has removed its sink
            self._arm()

    def leave(self, sink: Sink) -> None:
        """Remove a sink, if it has not left already."""
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
        """Repeat the newest frame if that is due.

        Frames that came since the timer was set have moved `_repeat_at`, but not the timer.
        """
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
