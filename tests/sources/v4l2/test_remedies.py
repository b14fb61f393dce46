"""V4l2Source mends a device: what it can do, and what is said when that fails."""

import asyncio
import errno
import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mjrelay.camera.camera import Camera
from mjrelay.devices.holders import Holders
from mjrelay.errors import (
    RemedyFailed,
    SourceUnreachable,
)
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.device import (
    BRIEF,
    FFMPEG,
    WEBCAM,
    Desk,
    FakeDevice,
    failure,
)
from tests.support.pictures import stamped
from tests.support.serving import config_for, running, until

from .plugging import Plug, fails, idle, watch


@pytest.mark.parametrize(
    ("usb_reset", "user", "remedies"),
    [
        (True, 0, {Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE}),
        ("force", 0, {Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE}),
        (True, 1000, {Remedy.RELEASE, Remedy.USB_RESET}),
        (False, 0, {Remedy.RELEASE}),
    ],
)
def test_what_can_be_done_for_it(
    plug: Plug,
    monkeypatch: pytest.MonkeyPatch,
    usb_reset: bool | str,
    user: int,
    remedies: set[Remedy],
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert plug(FakeDevice(), usb_reset=usb_reset).remedies.keys() == remedies


@pytest.mark.parametrize(
    ("remedy", "how"), [(Remedy.USB_RESET, "reset"), (Remedy.REAUTHORIZE, "reauthorize")]
)
async def test_a_reset_is_of_the_camera_and_waits_until_it_is_back(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch, remedy: Remedy, how: str
) -> None:
    node = desk.plugged[0]
    thread: list[threading.Thread] = []

    def leave() -> None:
        thread.append(threading.current_thread())
        desk.plugged.clear()

    monkeypatch.setattr("os.geteuid", lambda: 0)
    desk.on_reset = leave
    source = plug(FakeDevice([stamped(1)]), timing=replace(BRIEF, back_within=5.0))
    await watch(source, 1)
    mending = asyncio.ensure_future(source.remedies[remedy]())
    await until(lambda: len(desk.seen) > 4)
    assert not mending.done()
    desk.plugged.append(node)
    await mending
    assert desk.resets == [(how, WEBCAM)]
    assert thread != [threading.main_thread()]
    await watch(source, 1)


async def test_a_camera_that_never_streamed_can_be_reset(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    device.fails["start"] = failure(errno.EIO)
    source = plug(device)
    await fails(source)
    await source.remedies[Remedy.USB_RESET]()
    assert desk.resets == [("reset", WEBCAM)]


async def test_a_camera_that_is_missing_is_reset_where_it_was(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    node = desk.plugged.pop()
    await fails(source)
    desk.plugged.append(node)
    await source.remedies[Remedy.USB_RESET]()
    assert desk.resets == [("reset", WEBCAM)]


async def taken_meanwhile(plug: Plug, desk: Desk, *, usb_reset: bool | str = True) -> V4l2Source:
    """Stream from a camera until another process takes it."""
    device = FakeDevice([stamped(1)])
    source = plug(device, usb_reset=usb_reset)
    await watch(source, 1)
    device.fails["configure"] = failure(errno.EBUSY)
    desk.held = Holders((FFMPEG,), hidden=False)
    return source


@pytest.mark.parametrize("remedy", [Remedy.USB_RESET, Remedy.REAUTHORIZE])
async def test_a_camera_that_somebody_has_taken_meanwhile_is_not_reset(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch, remedy: Remedy
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    source = await taken_meanwhile(plug, desk)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[remedy]()
    assert caught.value.is_held
    assert not caught.value.done
    assert caught.value.reason == f"{desk.plugged[0].path} is in use"
    assert desk.resets == []
    assert desk.device.open_now == 0
    assert not desk.searched_open


async def test_by_force_a_camera_is_reset_whoever_has_it(plug: Plug, desk: Desk) -> None:
    source = await taken_meanwhile(plug, desk, usb_reset="force")
    await source.remedies[Remedy.USB_RESET]()
    assert desk.resets == [("reset", WEBCAM)]


@pytest.mark.parametrize(
    ("usb_reset", "hint"),
    [
        (True, "a reset may help: mjrelay does it by itself while it runs, or: mjrelay reset "),
        (False, "a reset may help: mjrelay must not (usb_reset), or: mjrelay reset "),
    ],
)
def test_a_silent_camera_comes_with_how_to_reset_it(plug: Plug, usb_reset: bool, hint: str) -> None:
    source = plug(FakeDevice(), "usb:046d:0825:A", usb_reset=usb_reset)
    assert source.silent_hint == source.stalled_hint == hint + "usb:046d:0825:A"


async def test_a_camera_that_is_absent_cannot_be_reset(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    desk.plugged.clear()
    with pytest.raises(RemedyFailed, match="/dev/video0 is not there") as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.hint == "plug it in"
    assert not caught.value.done
    assert desk.resets == []


async def test_what_is_no_usb_device_cannot_be_reset(plug: Plug, desk: Desk) -> None:
    desk.plugged = [replace(desk.plugged[0], usb=None)]
    source = plug(FakeDevice([stamped(1)]))
    for _ in range(2):  # before it was ever found, and when it was
        with pytest.raises(RemedyFailed, match="no USB device"):
            await source.remedies[Remedy.USB_RESET]()
        await watch(source, 1)


async def test_a_reset_that_lasts_is_given_up_and_blocks_the_device_alone(
    plug: Plug, desk: Desk
) -> None:
    over = threading.Event()
    desk.on_reset = partial(over.wait, 10)
    device = FakeDevice([stamped(1)])
    source = plug(device, timing=replace(BRIEF, reset_timeout=0.05))
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.hint == "unplug it and plug it in again"
    assert caught.value.done, "it goes on"
    watching = asyncio.create_task(watch(source, 1))
    await asyncio.sleep(0.05)
    assert device.story.count("start") == 1
    over.set()
    assert await watching == [stamped(1)]
    assert desk.resets == [("reset", WEBCAM)]


async def test_a_reset_whose_turn_does_not_come_is_left_out(plug: Plug, desk: Desk) -> None:
    over = threading.Event()
    source = plug(FakeDevice(), timing=replace(BRIEF, reset_timeout=0.05))
    source.worker.submit(partial(over.wait, 5))
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert not caught.value.done
    over.set()
    await idle(source)
    assert desk.resets == []


async def test_a_camera_that_does_not_come_back_from_a_reset_is_given_up(
    plug: Plug, desk: Desk
) -> None:
    desk.on_reset = desk.plugged.clear
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.reason == "the camera did not come back within 0.1 s of the reset"
    assert caught.value.hint == "unplug it and plug it in again"
    assert caught.value.done


async def test_what_a_reset_lacks_is_said(plug: Plug, desk: Desk) -> None:
    desk.ails = RemedyFailed("it could not be reset: Permission denied", "do this")
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value is desk.ails


async def test_a_release_leaves_the_camera_alone_for_a_while(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device, timing=replace(BRIEF, suspended_after=0.05))
    began = time.monotonic()
    await source.remedies[Remedy.RELEASE]()
    assert time.monotonic() - began >= 0.05
    assert device.story == []


# What a camera makes of it


@pytest.mark.parametrize("late", ["nothing", "the reset", "the camera"])
async def test_no_more_resets_are_made_than_allowed(plug: Plug, desk: Desk, late: str) -> None:
    """One that returned late was made, and has disturbed the camera."""
    timing = replace(BRIEF, suspended_after=0.0)
    if late == "the reset":
        timing = replace(timing, reset_timeout=0.01)
        desk.on_reset = partial(time.sleep, 0.05)
    elif late == "the camera":
        timing = replace(timing, back_within=-1.0)
        desk.on_reset = partial(desk.finds.append, SourceUnreachable("it is away"))
    device = FakeDevice()
    device.fails["start"] = failure(errno.EIO)
    options: dict[str, Any] = {"usb_resets_per_hour": 3, "redial_delay": 0.0, "retry_max": 0.01}
    source = plug(device, timing=timing, **options)
    camera = Camera("front", config_for("/dev/video0", **options), source)
    async with running(camera):
        await until(lambda: camera.failures["broken"] >= 15)
    assert camera.failures.total() == camera.failures["broken"]
    assert camera.resets == len(desk.resets) == 3
