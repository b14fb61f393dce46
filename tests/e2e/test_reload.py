"""SIGHUP: the configuration is read again, and only what has changed notices."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.daemon import RelayProcess, eventually
from tests.support.viewer import Viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

FRONT = '[camera.front]\nsource = "testcard:?fps=20"\n'
BACK = '[camera.back]\nsource = "testcard:?fps=20"\n'
BACK_LARGER = '[camera.back]\nsource = "testcard:?fps=20&size=800x600"\n'
DOOR = '[camera.door]\nsource = "testcard:?fps=20"\n'


class ConfigFile:
    """A configuration that changes under the relay's eyes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def says(self, text: str) -> None:
        self.path.write_text(text)

    def vanishes(self) -> None:
        self.path.unlink()


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path / "mjrelay.toml")


async def names(relay: RelayProcess) -> list[str]:
    return [camera["name"] for camera in (await relay.status())["cameras"]]


async def reloaded(relay: RelayProcess, event: str = "relay.reloaded") -> None:
    """Reload, and wait for what comes of it."""
    before = len(relay.events(event))
    relay.send(signal.SIGHUP)
    await relay.until(lambda: len(relay.events(event)) > before)


@asynccontextmanager
async def watched(file: ConfigFile) -> AsyncIterator[tuple[RelayProcess, Viewer, Viewer]]:
    """The relay, and a viewer of each of its two cameras who has seen frames."""
    async with (
        RelayProcess("--config", str(file.path)) as relay,
        Viewer(relay.url, "/cameras/front/stream") as front,
        Viewer(relay.url, "/cameras/back/stream") as back,
    ):
        await back.until(lambda: len(back.frames) > 5)
        yield relay, front, back


async def test_only_what_has_changed_notices(file: ConfigFile) -> None:
    file.says(FRONT + BACK)
    async with watched(file) as (relay, front, back):
        small = back.frames[-1].size
        file.says(DOOR + FRONT + BACK_LARGER)
        await reloaded(relay)
        assert await names(relay) == ["door", "front", "back"]
        (told,) = relay.events("relay.reloaded")
        assert (told["new"], told["changed"], told["gone"]) == (["door"], ["back"], [])
        await back.until(lambda: back.frames[-1].size > 1.2 * small)
        count = len(front.frames)
        await front.until(lambda: len(front.frames) > count + 10)
        by_name = {camera["name"]: camera for camera in (await relay.status())["cameras"]}
        assert by_name["front"]["opens"] == 1
        assert by_name["back"]["opens"] == 2
        assert (by_name["back"]["width"], by_name["back"]["height"]) == (800, 600)
        assert front.end is None
        assert back.end is None
        assert (await relay.terminate()).status == 0


async def test_viewers_of_a_camera_that_is_gone_are_ended_cleanly(file: ConfigFile) -> None:
    file.says(FRONT + BACK)
    async with watched(file) as (relay, front, back):
        file.says(FRONT)
        await reloaded(relay)
        await front.until(lambda: back.end is not None)
        assert back.end == "clean"
        assert relay.events("relay.reloaded")[0]["gone"] == ["back"]
        assert await names(relay) == ["front"]
        assert "there are: front" in await relay.get("/cameras/back/snapshot")


async def test_a_faulty_file_changes_nothing_and_says_why(file: ConfigFile) -> None:
    file.says(FRONT)
    async with RelayProcess("--config", str(file.path)) as relay, Viewer(relay.url) as viewer:
        await viewer.until(lambda: len(viewer.frames) > 5)
        file.says('[camera.front]\nsource = "rtsp://front"\nliner = 1\n')
        await reloaded(relay, "relay.not_reloaded")
        (told,) = relay.events("relay.not_reloaded")
        assert len(told["faults"]) == 2
        assert "did you mean linger" in told["faults"][1]
        file.vanishes()
        await reloaded(relay, "relay.not_reloaded")
        count = len(viewer.frames)
        await viewer.until(lambda: len(viewer.frames) > count + 10)
        assert (await relay.camera())["opens"] == 1


async def test_options_of_the_server_wait_for_the_next_start(file: ConfigFile) -> None:
    file.says(FRONT)
    async with RelayProcess("--config", str(file.path)) as relay:
        file.says('[server]\nbase_path = "/cam/"\n' + FRONT)
        await reloaded(relay)
        (told,) = relay.events("relay.restart_needed")
        assert "[server]" in told["reason"]


async def test_a_file_that_hangs_does_not_hold_up_the_end(file: ConfigFile) -> None:
    file.says(FRONT)
    with contextlib.ExitStack() as stack:
        async with RelayProcess("--config", str(file.path)) as relay:
            file.vanishes()
            os.mkfifo(file.path)
            relay.send(signal.SIGHUP)
            await eventually(lambda: is_being_read(file.path, stack))
            ended = await relay.terminate()
    assert ended.status == 0
    assert ended.seconds < 2


def is_being_read(fifo: Path, stack: contextlib.ExitStack) -> bool:
    """Whether somebody reads it; who does then waits for words until the stack ends."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    stack.callback(os.close, fd)
    return True
