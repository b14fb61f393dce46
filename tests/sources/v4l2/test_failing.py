"""V4l2Source says what is wrong with a device, and who has it."""

import asyncio
import errno
import os
import threading
from dataclasses import replace

import pytest

from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.modes import Mode
from mjrelay.errors import (
    SourceBroken,
    SourceBusy,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.device import (
    BRIEF,
    ENDED,
    FFMPEG,
    Desk,
    FakeCapture,
    FakeDevice,
    failure,
)
from tests.support.pictures import stamped
from tests.support.source import images_of

from .plugging import OPENED, Plug, fails, idle, watch

# Failures


async def test_a_device_that_goes_is_unreachable_at_once(plug: Plug) -> None:
    device = FakeDevice([stamped(1), failure(errno.ENODEV)])
    error = await fails(plug(device))
    assert isinstance(error, SourceUnreachable)
    assert device.story == [*OPENED, "close"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
async def test_whatever_a_device_answers_it_is_gone_if_its_node_is(
    plug: Plug, desk: Desk, code: int
) -> None:
    device = FakeDevice([])
    source = plug(device)
    async with asyncio.timeout(5), images_of(source) as images:
        desk.vanished = True
        device.send(failure(code))
        with pytest.raises(SourceUnreachable, match="unplugged"):
            await anext(images)


async def test_a_device_that_fails_is_broken_and_the_kernel_is_quoted(
    plug: Plug, desk: Desk
) -> None:
    desk.kernel = ["uvcvideo 1-1:1.1: Non-zero status (-71)"]
    error = await fails(plug(FakeDevice([stamped(1), failure(errno.EIO)])))
    assert isinstance(error, SourceBroken)
    assert error.reason == (
        "VIDIOC_DQBUF: Input/output error (kernel: uvcvideo 1-1:1.1: Non-zero status (-71))"
    )
    assert desk.about == ("uvcvideo 1-1", "usb 1-1")


@pytest.mark.parametrize(
    ("step", "closes"),
    [("open", 0), ("querycap", 1), ("modes", 1), ("configure", 1), ("controls", 1), ("start", 1)],
)
@pytest.mark.parametrize("code", [errno.EIO, errno.EBUSY, errno.ENODEV, errno.ENOSPC])
async def test_whichever_step_fails_the_device_is_closed_once(
    plug: Plug, step: str, closes: int, code: int
) -> None:
    device = FakeDevice([stamped(1)])
    device.fails[step] = failure(code, step)
    source = plug(device, controls={"brightness": 1})
    await fails(source)
    assert device.story.count("close") == closes
    assert device.open_now == 0
    await idle(source)
    device.fails.clear()
    assert await watch(source, 1) == [stamped(1)]
    assert device.open_now == 0
    assert device.most_open == 1


@pytest.mark.parametrize("method", ["modes", "start", "read"])
async def test_a_fault_of_our_own_closes_the_device_too(
    plug: Plug, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    device = FakeDevice([stamped(1)])
    monkeypatch.setattr(FakeCapture, method, fail)
    with pytest.raises(ZeroDivisionError):
        await watch(plug(device), 1)
    assert device.story[-1] == "close"
    assert device.open_now == 0


async def test_a_missing_mode_is_refused_with_those_there_are(plug: Plug) -> None:
    device = FakeDevice()
    device.modes = [Mode("MJPG", 640, 480, (30.0, 15.0)), Mode("YUYV", 640, 480)]
    error = await fails(plug(device, size=(1920, 1080), fps=30.0))
    assert isinstance(error, SourceRefused)
    assert error.reason == "the camera has no mode 1920x1080 at 30 fps"
    assert error.hint == "it has: MJPG 640x480 at 30, 15 fps | YUYV 640x480"
    assert device.story == ["open video0", "modes", "close"]


async def test_a_full_bus_is_refused_with_a_smaller_mode(plug: Plug) -> None:
    device = FakeDevice()
    device.modes = [Mode("MJPG", 1280, 720, (30.0,)), Mode("MJPG", 640, 480)]
    device.fails["start"] = failure(errno.ENOSPC, "VIDIOC_STREAMON")
    error = await fails(plug(device))
    assert isinstance(error, SourceRefused)
    assert error.hint
    assert error.hint.startswith('set size = "640x480"')


# Busy


@pytest.mark.parametrize("step", ["configure", "start"])
async def test_a_busy_device_is_busy_with_who_has_it(plug: Plug, desk: Desk, step: str) -> None:
    device = FakeDevice([stamped(1)])
    device.fails[step] = failure(errno.EBUSY, "VIDIOC_S_FMT")
    desk.held = Holders((FFMPEG,), hidden=False)
    source = plug(device)
    error = await fails(source)
    assert isinstance(error, SourceBusy)
    assert error.taken
    assert source.holders == (FFMPEG,)
    assert not desk.searched_open, "we would find ourselves"
    assert desk.searched_in is not threading.main_thread()
    device.fails.clear()
    await watch(source, 1)
    assert not source.holders


async def test_busy_with_nobody_there(plug: Plug) -> None:
    device = FakeDevice()
    device.fails["configure"] = failure(errno.EBUSY)
    error = await fails(plug(device))
    assert isinstance(error, SourceBusy)
    assert not error.taken
    assert error.hint == "no process holds it any more"


@pytest.mark.parametrize("other", [errno.EIO, errno.ENODEV])
async def test_another_failure_ends_the_talk_of_holders(plug: Plug, desk: Desk, other: int) -> None:
    device = FakeDevice()
    device.fails["configure"] = failure(errno.EBUSY)
    desk.held = Holders((FFMPEG,), hidden=False)
    source = plug(device)
    await fails(source)
    device.fails["configure"] = failure(other)
    await fails(source)
    assert source.holders == ()


async def test_a_camera_that_is_unplugged_is_held_by_nobody(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    device.fails["configure"] = failure(errno.EBUSY)
    desk.held = Holders((FFMPEG,), hidden=False)
    source = plug(device)
    await fails(source)
    desk.plugged.clear()
    assert isinstance(await fails(source), SourceUnreachable)
    assert source.holders == ()


async def searches_for(source: V4l2Source, desk: Desk, *holders: Holder) -> int:
    """Fail four times while these hold the camera; return how often they were searched for."""
    desk.device.fails["configure"] = failure(errno.EBUSY)
    desk.held = Holders(holders, hidden=False)
    for _ in range(4):
        await fails(source)
        assert source.holders == holders
    return len(desk.searched)


@pytest.mark.parametrize(
    ("holders", "searches"),
    [((FFMPEG,), 1), ((ENDED,), 4), ((FFMPEG, ENDED), 4), ((), 4)],
)
async def test_holders_are_searched_anew_when_one_has_ended(
    plug: Plug, desk: Desk, holders: tuple[Holder, ...], searches: int
) -> None:
    assert await searches_for(plug(FakeDevice()), desk, *holders) == searches


async def test_holders_that_have_let_go_are_searched_anew(plug: Plug, desk: Desk) -> None:
    """They live on, and another one has it."""
    source = plug(FakeDevice())
    await searches_for(source, desk, FFMPEG)
    other = Holder(os.getppid(), "/opt/vlc", None)
    await searches_for(source, desk, other)
    assert len(desk.searched) == 2


async def test_holders_are_searched_anew_after_a_while(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice(), timing=replace(BRIEF, search_every=0.0))
    assert await searches_for(source, desk, FFMPEG) == 4


async def test_a_device_that_is_busy_before_it_is_set_is_busy_too(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    device.fails["open"] = failure(errno.EBUSY, "/dev/video0")
    desk.held = Holders((), hidden=True)
    error = await fails(plug(device))
    assert isinstance(error, SourceBusy)
    assert error.taken
    assert error.hint
    assert "sudo mjrelay devices" in error.hint
