"""V4l2Source leaves nothing open, whenever it ends; and what systemd keeps for it."""

import asyncio
import errno
import gc
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from mjrelay.devices.modes import Mode
from mjrelay.errors import (
    SourceBroken,
)
from mjrelay.sources.v4l2.source import V4l2Source
from tests.devices.tree import open_files
from tests.support.device import (
    BRIEF,
    MJPG,
    YUYV,
    Desk,
    FakeDevice,
    failure,
)
from tests.support.pictures import stamped
from tests.support.serving import until
from tests.support.source import images_of

from .plugging import OPENED, Plug, fails, idle, watch


async def test_when_the_consumer_stops_nothing_is_left(plug: Plug) -> None:
    device = FakeDevice([stamped(1), stamped(2)])
    source = plug(device)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        file = device.descriptor
    assert not loop.remove_reader(file), "a dead device would spin the loop"
    assert device.story[-1] == "close"
    assert device.open_now == 0
    await idle(source)


async def test_cancelled_while_it_waits_for_a_picture_nothing_is_left(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    watching = asyncio.create_task(watch(source, 2))
    await until(lambda: device.reads)
    await asyncio.sleep(0.02)
    file = device.descriptor
    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled()
    assert not asyncio.get_running_loop().remove_reader(file)
    assert device.story == [*OPENED, "close"]
    await idle(source)


@pytest.mark.parametrize("step", ["open", "modes", "configure", "start"])
async def test_cancelled_while_the_kernel_is_stuck_the_close_comes_behind(
    plug: Plug, step: str
) -> None:
    device = FakeDevice([stamped(1)])
    device.stuck = step
    source = plug(device)
    watching = asyncio.create_task(watch(source, 1))
    await until(lambda: any(told.startswith(step) for told in device.story))
    watching.cancel()
    await asyncio.wait([watching], timeout=1)
    assert watching.cancelled(), "it does not wait for the kernel for ever"
    assert "close" not in device.story
    device.answers.set()
    await idle(source)
    assert device.story == [*OPENED, "close"]
    assert device.open_now == 0


async def test_cancelled_twice_the_close_comes_all_the_same(plug: Plug) -> None:
    device = FakeDevice()
    device.stuck = "configure"
    source = plug(device)
    watching = asyncio.create_task(watch(source, 1))
    await until(lambda: len(device.story) == 3)
    for _ in range(2):
        watching.cancel()
        await asyncio.sleep(0.01)
    await asyncio.wait([watching], timeout=1)
    device.answers.set()
    await idle(source)
    assert device.open_now == 0
    assert device.story[-1] == "close"


@pytest.mark.parametrize(("mode", "data"), [(MJPG, stamped(1)), (YUYV, bytes(64 * 48 * 2))])
async def test_cancelled_after_any_number_of_turns_nothing_is_left(
    plug: Plug, mode: Mode, data: bytes
) -> None:
    device = FakeDevice([data] * 3)
    device.modes = [mode]
    source = plug(device)
    source.watch(watched=True)
    await watch(source, 1)  # its thread runs
    files = open_files()
    for turns in (*range(40), 100, 300, 1000):
        watching = asyncio.create_task(watch(source, 1000))
        for _ in range(turns):
            await asyncio.sleep(0)
        watching.cancel()
        await asyncio.wait([watching])
        await idle(source)
        assert watching.cancelled()
        assert (device.open_now, open_files()) == (0, files), turns
        assert len(asyncio.all_tasks()) == 1


async def test_a_stuck_opening_is_given_up_and_the_next_one_waits_for_its_turn(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    device.stuck = "configure"
    source = plug(device, timing=replace(BRIEF, open_timeout=0.1))
    error = await fails(source)
    assert isinstance(error, SourceBroken)
    assert error.reason == "the camera has not answered for 0.1 s"
    assert isinstance(await fails(source), SourceBroken)
    assert device.story == OPENED[:3], "nobody else touches it meanwhile"
    successor = plug(device)
    successor.inherit_from(source)
    watching = asyncio.create_task(watch(successor, 1))
    await asyncio.sleep(0.05)
    assert device.story == OPENED[:3], "not even the source that a reload has made"
    device.answers.set()
    assert await watching == [stamped(1)]
    assert device.most_open == 1
    assert device.open_now == 0
    assert device.story == [*OPENED, "close"] * 2


async def test_a_stuck_close_is_not_waited_for(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    stuck = threading.Event()
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        source.worker.submit(partial(stuck.wait, 5))
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert device.open_now == 1
    stuck.set()
    await idle(source)
    assert device.open_now == 0


async def test_many_openings_leave_no_descriptor_and_one_thread(plug: Plug) -> None:
    device = FakeDevice([stamped(1), failure(errno.ENODEV)])
    source = plug(device)
    await fails(source)
    gc.collect()  # what earlier tests have left
    files, threads = open_files(), threading.active_count()
    for _ in range(50):
        await fails(source)
    assert open_files() <= files
    assert threading.active_count() <= threads
    assert device.story.count("close") == 51


# How long an attempt lasts


async def attempt(source: V4l2Source, first_picture_within: float) -> None:
    """Open a source as a camera does, which waits so long for the first picture."""
    async with source.open() as stream, asyncio.timeout(first_picture_within):
        await stream(lambda _image, _captured: None)


@pytest.mark.parametrize("stuck", ["open", "modes", "configure", "start", "explaining", "pictures"])
@pytest.mark.parametrize("then", ["", " close"])
async def test_its_patience_outlasts_every_attempt(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch, stuck: str, then: str
) -> None:
    device = FakeDevice([failure(errno.EIO)] if stuck == "explaining" else [])
    device.stuck = stuck + then
    if stuck == "explaining":
        monkeypatch.setattr(desk, "is_there", lambda _node: device.answers.wait(5))
    timing = replace(BRIEF, open_timeout=0.2, close_timeout=0.1)
    source = plug(device, timing=timing, first_frame_timeout=0.1)
    async with asyncio.timeout(source.patience):
        with pytest.raises((SourceBroken, TimeoutError)):
            await attempt(source, 0.1)
    device.answers.set()
    await idle(source)


def test_its_patience_is_made_of_what_an_attempt_may_take(plug: Plug) -> None:
    """To open, to show the first picture, to explain why it fails, and to close."""
    timing = replace(BRIEF, open_timeout=15.0, close_timeout=1.0)
    assert plug(FakeDevice(), timing=timing, first_frame_timeout=10.0).patience == 15 + 10 + 15 + 1


async def test_a_failure_that_cannot_be_explained_is_one_of_the_camera(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for a silence, after which it was opened again without a stronger remedy."""
    answers = threading.Event()
    monkeypatch.setattr(desk, "is_there", lambda _node: answers.wait(5))
    device = FakeDevice([stamped(1), failure(errno.EIO)])
    source = plug(device, timing=replace(BRIEF, open_timeout=0.2))
    error = await fails(source)
    assert isinstance(error, SourceBroken)
    assert error.reason == "the camera has not answered for 0.2 s"
    answers.set()
    await idle(source)
