"""Roster: what a reload means for cameras, and for those who wait for their pictures."""

import asyncio
import contextlib
import gc
import itertools
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import aiohttp
import pytest

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import CameraConfig
from mjrelay.roster import Changes, Roster
from mjrelay.service.systemd import Kept
from mjrelay.web.clients import Client, Clients
from mjrelay.web.listening import listening
from mjrelay.web.server import web_server
from mjrelay.web.sinks import SocketSink
from tests.support.pictures import stamped
from tests.support.serving import LOOPBACK, config_for, until
from tests.support.source import SILENCE, ScriptedSource, Step, steps

ONE_PICTURE = config_for("testcard:", stall_timeout=30)
OTHER = config_for("testcard:?size=320x240", stall_timeout=30)


@dataclass
class Served:
    """A roster with a web server in front of it."""

    roster: Roster
    clients: Clients
    url: str
    http: aiohttp.ClientSession

    async def fit(self, configs: Mapping[str, CameraConfig]) -> Changes:
        """Reload, as the relay does."""
        changes = await self.roster.fit(configs)
        for camera in changes.gone:
            self.clients.finish(camera)
        return changes

    async def streams(self, name: str) -> None:
        """Let a camera stream."""
        await until(lambda: self.roster.cameras[name].state == "streaming")

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, str]:
        """What is answered: its status, body and ETag."""
        async with self.http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.read(), answer.headers.get("ETag", "")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    sockets = listening(LOOPBACK)
    listeners = await asyncio.to_thread(sockets.__enter__)
    try:
        async with asyncio.TaskGroup() as tasks:
            roster = Roster(tasks, lambda _name: Kept())
            async with (
                web_server(roster.cameras, LOOPBACK, listeners) as clients,
                aiohttp.ClientSession() as http,
            ):
                yield Served(roster, clients, f"http://{listeners[0].address}", http)
                roster.end()
    finally:
        await asyncio.to_thread(sockets.__exit__, None, None, None)


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source gives one picture, and is silent then."""
    numbers = itertools.count(1)

    def make(*_arguments: object) -> ScriptedSource:
        return ScriptedSource(steps(next(numbers)))

    monkeypatch.setattr("mjrelay.roster.make_source", make)


@pytest.mark.usefixtures("_scripted")
async def test_what_has_changed_is_told() -> None:
    async with serving() as served:
        changes = await served.fit({"a": ONE_PICTURE, "b": ONE_PICTURE, "c": ONE_PICTURE})
        assert changes == Changes(new=["a", "b", "c"], changed=[], gone=[])
        gone = served.roster.cameras["a"]
        changes = await served.fit({"d": ONE_PICTURE, "c": OTHER, "b": ONE_PICTURE})
        assert changes == Changes(new=["d"], changed=["c"], gone=[gone])
        assert [*served.roster.cameras] == ["d", "c", "b"]


@pytest.mark.usefixtures("_scripted")
async def test_a_reload_that_fails_half_way_has_changed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail_for_the_second(config: CameraConfig, _kept: Kept) -> ScriptedSource:
        if config == OTHER:
            raise ImportError("an upgrade has replaced it")
        return ScriptedSource(steps(9))

    async with serving() as served:
        await served.fit({"a": ONE_PICTURE, "b": ONE_PICTURE, "c": ONE_PICTURE})
        for name in "abc":
            await served.streams(name)
        before = dict(served.roster.cameras)
        monkeypatch.setattr("mjrelay.roster.make_source", fail_for_the_second)
        changed = config_for("testcard:?fps=5", stall_timeout=30)
        with pytest.raises(ImportError):
            await served.fit({"a": changed, "b": OTHER, "d": changed})
        assert served.roster.cameras == before
        assert {camera.state for camera in before.values()} == {"streaming"}
        assert {camera.opens for camera in before.values()} == {1}
        monkeypatch.setattr("mjrelay.roster.make_source", lambda *_: ScriptedSource(steps(9)))
        changes = await served.fit({"a": changed, "b": OTHER, "d": changed})
        assert (changes.new, changes.changed) == (["d"], ["a", "b"])
        for name in "abd":
            await served.streams(name)


async def test_a_source_that_takes_long_to_make_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = threading.Event()

    def make_slowly(*_: object) -> ScriptedSource:
        assert made.wait(5)
        return ScriptedSource(steps(2))

    async with serving() as served:
        reloading = asyncio.create_task(served.fit({"a": ONE_PICTURE}))
        monkeypatch.setattr("mjrelay.roster.make_source", make_slowly)
        assert (await served.get("/healthz"))[0] == 200
        assert not reloading.done()
        made.set()
        await reloading
        await served.streams("a")


async def test_a_snapshot_that_waits_for_the_first_picture_survives_a_reload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripts: Iterator[list[Step]] = iter([[SILENCE], steps(2)])
    monkeypatch.setattr("mjrelay.roster.make_source", lambda *_: ScriptedSource(next(scripts)))
    async with serving() as served:
        await served.fit({"a": ONE_PICTURE})
        waiting = asyncio.create_task(served.get("/cameras/a/snapshot"))
        await until(lambda: served.roster.cameras["a"].audience.viewers)
        await served.fit({"a": OTHER})
        status, body, _ = await asyncio.wait_for(waiting, 5)
        assert (status, body) == (200, stamped(2))


@pytest.mark.parametrize(
    ("path", "told"), [("snapshot", b"has no picture yet"), ("clip", b"has no picture yet")]
)
async def test_a_request_that_waits_for_the_first_picture_is_answered_at_the_end(
    path: str, told: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mjrelay.roster.make_source", lambda *_: ScriptedSource([SILENCE]))
    async with serving() as served:
        await served.fit({"a": ONE_PICTURE})
        waiting = asyncio.create_task(served.get(f"/cameras/a/{path}"))
        await until(lambda: served.roster.cameras["a"].audience.viewers)
        served.roster.end()
        status, body, _ = await asyncio.wait_for(waiting, 5)
        assert status == 503
        assert told in body


@pytest.mark.usefixtures("_scripted")
async def test_two_reloads_at_once_are_done_one_after_the_other() -> None:
    async with serving() as served:
        await served.fit({"a": ONE_PICTURE})
        await asyncio.gather(
            served.fit({"a": OTHER, "b": ONE_PICTURE}), served.fit({"b": OTHER, "c": ONE_PICTURE})
        )
        assert [*served.roster.cameras] == ["b", "c"]
        for name in "bc":
            await served.streams(name)


@pytest.mark.usefixtures("_scripted")
async def test_a_reload_keeps_what_was_learnt_of_a_camera() -> None:
    async with serving() as served:
        await served.fit({"a": ONE_PICTURE})
        await served.streams("a")
        camera = served.roster.cameras["a"]
        camera.source.tally.dropped["truncated"] = 7
        await served.fit({"a": OTHER})
        await served.streams("a")
        assert served.roster.cameras["a"] is camera
        assert camera.source.tally.dropped["truncated"] == 7
        assert camera.opens == 2


@pytest.mark.usefixtures("_scripted")
async def test_cameras_that_are_gone_leave_nothing_behind() -> None:
    gone: list[weakref.ref[Camera]] = []
    async with serving() as served:
        for number in range(5):
            name = f"camera{number}"
            await served.fit({name: ONE_PICTURE})
            await served.streams(name)
            gone.append(weakref.ref(served.roster.cameras[name]))
            async with served.http.get(f"{served.url}/cameras/{name}/stream") as stream:
                await stream.content.readuntil(b"\xff\xd9")
                await served.fit({})
                await stream.content.read()  # to its end

        def are_free() -> bool:
            gc.collect()
            return not any(camera() for camera in gone)

        await until(are_free)


async def test_who_comes_while_its_camera_goes_is_ended_too() -> None:
    clients = Clients()
    camera = Camera("front", ONE_PICTURE, ScriptedSource())
    clients.finish(camera)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = SocketSink(ours, camera.fanout)
        with clients.including(Client("127.0.0.1", "", sink), camera):
            assert sink.ended.done()
        assert not clients.of(camera)


async def fresh_after_a_reload(cameras: dict[str, CameraConfig]) -> tuple[int, bytes]:
    """What is answered to who waits for a fresh picture while these become the cameras."""
    async with serving() as served:
        await served.fit({"front": ONE_PICTURE})
        await served.streams("front")
        asked = asyncio.create_task(served.get("/cameras/front/snapshot?fresh=1"))
        await until(lambda: served.roster.cameras["front"].audience.viewers)
        await served.fit(cameras)
        status, body, _ = await asyncio.wait_for(asked, 5)
        return status, body


@pytest.mark.usefixtures("_scripted")
async def test_who_waits_for_a_fresh_picture_gets_that_of_the_changed_camera() -> None:
    assert await fresh_after_a_reload({"front": OTHER}) == (200, stamped(2))


@pytest.mark.usefixtures("_scripted")
async def test_who_waits_for_a_fresh_picture_of_a_camera_that_goes_is_told_at_once() -> None:
    assert await fresh_after_a_reload({}) == (
        404,
        b"camera front is gone: the configuration no longer has it\n",
    )


@pytest.mark.usefixtures("_scripted")
async def test_a_camera_that_was_put_back_has_other_pictures() -> None:
    async with serving() as served:
        await served.fit({"front": ONE_PICTURE})
        await served.streams("front")
        _, _, tag = await served.get("/cameras/front/snapshot")
        assert (await served.get("/cameras/front/snapshot", **{"If-None-Match": tag}))[0] == 304
        await served.fit({})
        await served.fit({"front": ONE_PICTURE})
        await served.streams("front")
        status, body, _ = await served.get("/cameras/front/snapshot", **{"If-None-Match": tag})
        assert (status, body) == (200, stamped(2))
