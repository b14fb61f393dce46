"""Camera: restarts and resets that a person asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from mjrelay.errors import (
    RemedyFailed,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources import Stream
from tests.support.serving import running, scripted, until
from tests.support.source import (
    BROKEN,
    QUICK,
    SILENCE,
    MendableSource,
    ScriptedSource,
    Step,
    steps,
)


async def test_a_restart_closes_and_opens_without_a_failure() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart()
        await until(lambda: camera.published == 2)
        assert source.open_now == 1
    assert source.story == ["open", "open"]
    assert not camera.failures


async def test_a_reset_that_was_asked_for_comes_between() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.published == 2)
    assert source.story == ["open", "usb_reset", "open"]
    assert camera.resets == 1


async def test_a_reset_that_was_asked_for_is_made_once() -> None:
    source = MendableSource(
        [*steps(1), SILENCE], [*steps(2), SourceLost("gone")], [*steps(3), SILENCE]
    )
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.published == 3)
    assert source.story == ["open", "usb_reset", "open", "open"]


async def test_a_restart_cuts_the_wait_short() -> None:
    source = MendableSource([BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, redial_delay=60, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.state == "streaming")
    assert source.story == ["open", "usb_reset", "open"]


async def test_a_reset_that_was_asked_for_and_fails_gives_no_allowance_back() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=1)
    async with running(camera):
        await until(lambda: camera.resets == 1)
        source.ailing[Remedy.USB_RESET] = RemedyFailed("no rights")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: source.story.count("usb_reset") == 2)
        source.ailing.clear()
        told = len(source.story)
        await until(lambda: len(source.story) > told + 12)
    assert camera.resets == 1


async def test_a_reset_that_was_asked_for_and_fails_is_no_news_of_a_stream() -> None:
    source = MendableSource([*steps(1), SILENCE])
    source.ailing[Remedy.USB_RESET] = RemedyFailed("no rights", "copy the udev rule")
    camera = scripted(source, stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.state == "streaming")
            camera.restart(Remedy.USB_RESET)
            await until(lambda: camera.published == 2)
            assert (camera.state, camera.condition.reason) == ("streaming", None)
    warned = [
        (entry["event"], entry.get("reason")) for entry in logs if "warning" in entry.values()
    ]
    assert warned == [("camera.remedy", None), ("camera.recovering", "no rights")]


class SlowSource(MendableSource):
    """Its opening takes until it answers.

    Attributes:
        answers: Set this to let it open.
        dialled: Openings begun.
    """

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.answers = asyncio.Event()
        self.dialled = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        self.dialled += 1
        await self.answers.wait()
        async with super().open() as stream:
            yield stream


async def test_a_restart_during_the_opening_hides_no_later_stall() -> None:
    source = SlowSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=0.1, redial_delay=30)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart()
        source.answers.set()
        await until(lambda: camera.failures["stalled"] == 1)
    assert source.story == ["open", "open"]
    assert camera.published == 1


@pytest.mark.parametrize("remedy", [Remedy.REOPEN, Remedy.USB_RESET])
async def test_a_restart_asked_for_while_an_attempt_fails_does_not_wait(remedy: Remedy) -> None:
    source = SlowSource([BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30, redial_delay=60, retry_max=60)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart(remedy)
        source.answers.set()
        await until(lambda: camera.state == "streaming")
    done = [remedy.value] if remedy in source.remedies else []
    assert source.story == ["open", *done, "open"]
    assert camera.failures == {"broken": 1}


async def test_a_restart_asked_for_while_a_missing_camera_is_looked_for_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 60.0)
    source = SlowSource([SourceUnreachable("it is not there")], [*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30, redial_delay=60, retry_max=60)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart()
        source.answers.set()
        await until(lambda: camera.state == "streaming")


@pytest.mark.parametrize("then", [[*steps(1), SILENCE], [BROKEN]])
async def test_a_restart_asked_for_during_a_remedy_opens_the_camera_once(then: list[Step]) -> None:
    source = MendableSource([BROKEN], [BROKEN], then)
    camera = scripted(source, redial_delay=0.01, retry_max=60, stall_timeout=30)
    applying, applied = asyncio.Event(), asyncio.Event()

    async def release() -> None:
        applying.set()
        await applied.wait()

    source.remedies = {Remedy.RELEASE: release}
    async with running(camera):
        await asyncio.wait_for(applying.wait(), 5)
        camera.restart()
        applied.set()
        await until(lambda: camera.opens == 1 or camera.failures["broken"] == 3)
        await asyncio.sleep(0.05)
        assert source.opened == 3


async def test_a_reload_as_a_failure_is_shown_leaves_nothing_to_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = asyncio.Event()

    async def show(*_: object, **__: object) -> None:
        shown.set()
        await asyncio.sleep(60)

    monkeypatch.setattr("mjrelay.camera.placeholder.Placeholder.show", show)
    locked = SourceRefused("the camera refuses the password", retry_after=300)
    camera = scripted(ScriptedSource([locked]))
    with camera.watched():
        async with running(camera):
            await asyncio.wait_for(shown.wait(), 5)
        after = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=60)
        camera.configure(after.config, after.source)
        async with running(camera):
            await until(lambda: camera.state == "streaming")
            assert camera.retry_in is None
