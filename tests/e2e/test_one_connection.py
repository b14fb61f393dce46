"""Whatever the clients do, the camera has one connection, well treated."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.camera import (
    STREAM,
    Close,
    Frames,
    HttpHead,
    Script,
    ScriptedCamera,
    Send,
    Silence,
)
from tests.support.daemon import RelayProcess, eventually
from tests.support.viewer import Viewer, all_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

VIEWERS = 30
POLLERS = 4
# The default `redial_delay`, less what a busy machine may take to show the camera a FIN.
PAUSE = 1.0 - 0.15


async def poll(relay: RelayProcess, *paths: str) -> None:
    """Ask for things over and over, each time on a new connection."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(relay.url, connector=connector) as session:
        for path in itertools.cycle(paths):
            async with session.get(path) as answer:
                await answer.read()
                assert answer.status in (200, 503)


async def crowd(stack: AsyncExitStack, relay: RelayProcess) -> list[Viewer]:
    """Let many watch, take snapshots and ask for the status until the stack is left."""
    paths = ("/snapshot?fresh=1", "/snapshot", "/status", "/?action=snapshot", "/readyz", "/")
    pollers = [asyncio.create_task(poll(relay, *paths)) for _ in range(POLLERS)]

    async def leave() -> None:
        for poller in pollers:
            poller.cancel()
        for result in await asyncio.gather(*pollers, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError | aiohttp.ClientConnectionError)

    stack.push_async_callback(leave)
    return [await stack.enter_async_context(Viewer(relay.url)) for _ in range(VIEWERS)]


async def all_see(viewers: list[Viewer], stamp: int) -> None:
    """Wait until every viewer has seen a frame at least so new."""
    await all_until(viewers, lambda viewer: max(viewer.stamps, default=0) >= stamp)


async def test_a_crowd_costs_the_camera_one_connection() -> None:
    async with (
        ScriptedCamera(one_slot=True) as camera,
        RelayProcess(camera.url) as relay,
        AsyncExitStack() as stack,
    ):
        viewers = await crowd(stack, relay)
        await all_see(viewers, 75)
        ended = await relay.terminate()
        assert ended.status == 0
        assert ended.seconds < 2
        await camera.until(lambda: camera.ends != [])
        assert camera.ends == ["fin"]
        await eventually(lambda: all(viewer.end == "clean" for viewer in viewers))
        assert camera.accepted == camera.most_open == 1


DROPS: Script = (Send(HttpHead), Frames(count=100), Close())
STALLS: Script = (Send(HttpHead), Frames(count=100), Silence())


@pytest.mark.parametrize(("script", "end"), [(DROPS, "ours"), (STALLS, "fin")])
async def test_the_camera_is_dialled_again_only_after_the_end(script: Script, end: str) -> None:
    async with (
        ScriptedCamera(script, STREAM, one_slot=True) as camera,
        RelayProcess(camera.url) as relay,
        AsyncExitStack() as stack,
    ):
        viewers = await crowd(stack, relay)
        await all_see(viewers, 100)
        await all_see(viewers, 125)
        assert camera.ends == [end]
        (gap,) = camera.gaps
        assert gap >= PAUSE
        assert camera.accepted == 2
        assert camera.most_open == 1
        assert (await relay.terminate()).status == 0
        await eventually(lambda: all(viewer.end == "clean" for viewer in viewers))
        await camera.until(lambda: len(camera.ends) == 2)
        assert camera.ends == [end, "fin"]


async def test_the_camera_is_let_go_while_it_says_nothing() -> None:
    async with (
        ScriptedCamera([Silence()], one_slot=True) as camera,
        RelayProcess(camera.url) as relay,
        Viewer(relay.url) as viewer,
    ):
        await camera.until(lambda: len(camera.requests) == 1)
        await viewer.until(lambda: viewer.frames != [])
        assert viewer.frames[0].is_placeholder
        ended = await relay.terminate()
        assert ended.status == 0
        assert ended.seconds < 2
        await camera.until(lambda: camera.ends == ["fin"])
        await eventually(lambda: viewer.end == "clean")


async def sends_another(camera: ScriptedCamera) -> None:
    sent = camera.frames_sent
    await camera.until(lambda: camera.frames_sent > sent)


async def test_viewers_that_break_off_disturb_nobody() -> None:
    async with (
        ScriptedCamera([Send(HttpHead), Frames()]) as camera,
        RelayProcess(camera.url) as relay,
        Viewer(relay.url) as steady,
    ):
        for _ in range(3):
            viewers: list[Viewer] = []
            async with AsyncExitStack() as stack:
                for _ in range(5):
                    viewer = await stack.enter_async_context(Viewer(relay.url))
                    viewer.reset_at_exit()
                    viewers.append(viewer)
                await all_until(viewers, lambda viewer: len(viewer.frames) > 3)
                with relay.held_up():
                    # The relay meets a new frame and the resets in the same turn of its loop.
                    await stack.aclose()
                    await sends_another(camera)
            await relay.camera_until(lambda camera: len(camera["clients"]) == 1)
            assert relay.events("camera.crashed") == []
        await all_see([steady], camera.frames_sent + 25)
        assert camera.accepted == 1
