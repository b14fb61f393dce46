"""The daemon in the test's own process: what it survives, and what it leaves behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay import relay, roster
from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import CameraConfig, Config, ServerConfig
from mjrelay.relay import Orders
from mjrelay.sources import Stream
from mjrelay.web.listening import listening
from tests.support.serving import LOOPBACK, config_for, until
from tests.support.source import ScriptedSource, steps


class Device(ScriptedSource):
    """A source that notes how it was closed."""

    def __init__(self) -> None:
        super().__init__(steps(1))
        self.was_handed_over: bool | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        async with super().open() as stream:
            try:
                yield stream
            finally:
                self.was_handed_over = self.handed_over


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The source of every camera."""
    device = Device()
    monkeypatch.setattr(roster, "make_source", lambda *_: device)
    return device


@pytest.fixture
def logs() -> list[EventDict]:
    return []


@contextlib.asynccontextmanager
async def relaying(
    logs: list[EventDict], reread: Callable[[], Config]
) -> AsyncIterator[tuple[Orders, "asyncio.Task[None]"]]:
    """A relay with one camera, until it is told to stop."""
    orders = Orders()
    config = Config(server=LOOPBACK, cameras={"front": config_for("testcard:")})
    with contextlib.ExitStack() as stack:
        listeners = await asyncio.to_thread(stack.enter_context, listening(LOOPBACK))
        logs_now = stack.enter_context(capture_logs())
        task = asyncio.create_task(relay.relay(config, listeners, orders, reread=reread))
        try:
            await until(lambda: events(logs_now, "camera.streaming"))
            yield orders, task
        finally:
            orders.stop.set()
            await asyncio.wait([task])
            logs += logs_now


def events(logs: list[EventDict], name: str) -> list[EventDict]:
    return [entry for entry in logs if entry["event"] == name]


def same() -> Config:
    return Config(server=LOOPBACK, cameras={"front": config_for("testcard:")})


async def test_who_is_told_to_stop_hands_its_cameras_over(
    device: Device, logs: list[EventDict]
) -> None:
    async with relaying(logs, same) as (_, task):
        pass
    assert task.exception() is None
    assert device.was_handed_over


async def test_who_crashes_hands_its_cameras_over(
    device: Device, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = asyncio.Event()

    async def crashing(_cameras: Mapping[str, Camera]) -> None:
        await crash.wait()
        raise RuntimeError

    monkeypatch.setattr(relay._Voice, "keep_telling", crashing)
    async with relaying(logs, same) as (_, task):
        crash.set()
        await asyncio.wait([task])
    assert isinstance(task.exception(), ExceptionGroup)
    assert device.was_handed_over


async def test_who_is_cancelled_hands_its_cameras_over(
    device: Device, logs: list[EventDict]
) -> None:
    async with relaying(logs, same) as (_, task):
        task.cancel()
    assert task.cancelled()
    assert device.was_handed_over


@pytest.mark.usefixtures("device")
async def test_a_reload_that_crashes_changes_nothing(logs: list[EventDict]) -> None:
    results: list[Config | Exception] = [PermissionError("nobody may read that"), same()]

    def reread() -> Config:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async with relaying(logs, reread) as (orders, _):
        with capture_logs() as told:
            orders.reload.set()
            await until(lambda: events(told, "relay.not_reloaded"))
            orders.reload.set()
            await until(lambda: events(told, "relay.reloaded"))
    (entry,) = events(told, "relay.not_reloaded")
    assert entry["log_level"] == "error"
    assert entry["exc_info"]


@pytest.mark.usefixtures("device")
async def test_who_has_no_systemd_is_not_sent_to_systemctl(logs: list[EventDict]) -> None:
    changed = ServerConfig(listen=LOOPBACK.listen, base_path="/cam/")
    async with relaying(logs, lambda: Config(server=changed, cameras=same().cameras)) as (
        orders,
        _,
    ):
        with capture_logs() as told:
            orders.reload.set()
            await until(lambda: events(told, "relay.reloaded"))
    (entry,) = events(told, "relay.restart_needed")
    assert entry["hint"] == "they take effect at the next start"


def test_a_stuck_camera_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("front", "back")
    cameras = {
        name: Camera(name, CameraConfig(source=config_for("testcard:").source), ScriptedSource([]))
        for name in names
    }
    stuck: set[str] = set()
    monkeypatch.setattr(Camera, "is_stuck", property(lambda camera: camera.name in stuck))
    voice = relay._Voice(cameras)
    with capture_logs() as told:
        for now in ({"front"}, {"front"}, {"front", "back"}, set[str](), {"front"}):
            stuck = now
            alive = list(voice._signs_of_life())
            assert alive == ([] if now else ["WATCHDOG=1"])
    assert [entry["cameras"] for entry in told] == [["front"], ["back"], ["front"]]
