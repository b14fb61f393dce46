"""ScriptedSource: a source that plays a script, for tests of what the camera makes of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mjrelay.camera.frame import Frame
from mjrelay.devices.holders import Holder
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import SourceBroken, Tally
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources import Show, Source, Stream

from .pictures import stamped

SILENCE = 60.0
"""In a script: send nothing for longer than any timer."""

Step = bytes | float | BaseException


class ScriptedSource(Source):
    """Plays one script each time it is opened; the last one again and again.

    Bytes are an image, a number is a pause in seconds, an exception ends the source. A script that
    begins with an exception fails to open. After its last step the source is silent.
    """

    def __init__(self, *scripts: list[Step]) -> None:
        self.label = "script:"
        self.tally = Tally()
        self.patience = 0.0
        self.watched = False
        self.handed_over = False
        self.open_now = 0
        self.opened = 0
        self._scripts = list(scripts)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        self.opened += 1
        script = self._scripts[min(self.opened, len(self._scripts)) - 1]
        if script and isinstance(script[0], BaseException):
            raise script[0]
        self.open_now += 1
        try:
            yield partial(self._play, script)
        finally:
            self.open_now -= 1

    async def _play(self, script: list[Step], show: Show) -> None:
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, bytes):
                await asyncio.sleep(0)
                show(step, time.monotonic())
            else:
                await asyncio.sleep(step)
        await asyncio.sleep(SILENCE)

    def watch(self, *, watched: bool) -> None:
        self.watched = watched

    def hand_over(self) -> None:
        self.handed_over = True

    def facts(self) -> dict[str, Any]:
        return {}


class MendableSource(ScriptedSource):
    """A source of which everything can be done, each noted between the openings.

    Attributes:
        story: "open" and the remedies, in order.
        ailing: What a remedy raises instead.
        ours: Paths of nodes it takes for its own.
        held_by: Who has its device, at each opening; the last ones for good.
    """

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.story: list[str] = []
        self.ailing: dict[Remedy, Exception] = {}
        self.ours = {"/dev/video0"}
        self.held_by: list[tuple[Holder, ...]] = [()]
        self.remedies = {
            remedy: self._remedy(remedy)
            for remedy in (Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE)
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        self.story.append("open")
        async with super().open() as stream:
            yield stream

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self.held_by[min(self.opened, len(self.held_by)) - 1]

    def hotplug(self, event: Hotplug) -> bool:
        return event.path in self.ours

    def _remedy(self, remedy: Remedy) -> Callable[[], Awaitable[None]]:
        async def apply() -> None:
            assert self.open_now == 0
            self.story.append(remedy.value)
            if remedy in self.ailing:
                raise self.ailing[remedy]

        return apply


BROKEN = SourceBroken("VIDIOC_STREAMON: Input/output error", "it may have crashed")

QUICK = {"redial_delay": 0.01, "retry_max": 0.02}
"""Options of a camera that is tried again at once."""


class RecordingSink:
    """Notes the frames it is offered."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def offer(self, frame: Frame) -> None:
        self.frames.append(frame)

    def sample(self, now: float) -> None:
        """Rates are of no interest here."""


def steps(*numbers: int) -> list[Step]:
    """A script of stamped pictures."""
    return [stamped(number) for number in numbers]


@asynccontextmanager
async def images_of(source: Source) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a source, and take its images one by one, each when it is asked for."""
    shown: asyncio.Queue[bytes] = asyncio.Queue()
    async with source.open() as stream:
        streaming = asyncio.ensure_future(stream(lambda image, _: shown.put_nowait(image)))
        try:
            yield _taken(shown, streaming)
        finally:
            streaming.cancel()
            await asyncio.wait({streaming})


async def _taken(
    shown: asyncio.Queue[bytes], streaming: "asyncio.Future[None]"
) -> AsyncIterator[bytes]:
    while True:
        image = asyncio.ensure_future(shown.get())
        either: set[asyncio.Future[Any]] = {image, streaming}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not image.done():
                await streaming
                raise AssertionError("a source ended by itself")
            yield image.result()
        finally:
            image.cancel()
