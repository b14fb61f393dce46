"""V4l2Source passes on what a device fills its buffers with, and looks when it is told to."""

import asyncio
import errno
import time

import pytest

from mjrelay.devices.capture import Buffer
from mjrelay.devices.modes import Mode
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import (
    SourceUnreachable,
)
from tests.support import pictures
from tests.support.device import (
    DAMAGED,
    FALSE_ALARM,
    MJPG,
    YUYV,
    Desk,
    FakeDevice,
    failure,
)
from tests.support.pictures import stamped
from tests.support.serving import until
from tests.support.source import images_of

from .plugging import OPENED, Plug, fails, watch

# Pictures


async def test_images_come_as_the_camera_made_them(plug: Plug) -> None:
    device = FakeDevice([stamped(1), stamped(2), stamped(3)])
    source = plug(device)
    assert await watch(source, 3) == [stamped(1), stamped(2), stamped(3)]
    assert device.story == [*OPENED, "close"]
    assert source.tally.dropped == {}


@pytest.mark.parametrize(("mode", "data"), [(MJPG, stamped(1)), (YUYV, bytes(64 * 48 * 2))])
async def test_a_picture_is_shown_with_the_time_of_its_capture(
    plug: Plug, mode: Mode, data: bytes
) -> None:
    captured = time.monotonic() - 0.5
    device = FakeDevice([Buffer(data, captured)])
    device.modes = [mode]
    shown: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(5), plug(device).open() as stream:
        streaming = asyncio.ensure_future(stream(lambda _, when: shown.set_result(when)))
        assert await shown == captured
        streaming.cancel()
        await asyncio.wait([streaming])


async def test_a_fault_of_whoever_takes_the_images_is_not_the_device_s(plug: Plug) -> None:
    def fail(_: bytes, __: float) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async with asyncio.timeout(5), plug(FakeDevice([stamped(1)])).open() as stream:
        with pytest.raises(OSError, match="no room"):
            await stream(fail)


async def test_images_come_while_they_are_made(plug: Plug) -> None:
    device = FakeDevice()
    async with asyncio.timeout(5), images_of(plug(device)) as images:
        for number in range(5):
            device.send(stamped(number))
            assert await anext(images) == stamped(number)


async def test_buffers_without_a_whole_picture_are_dropped_and_counted(plug: Plug) -> None:
    device = FakeDevice(
        [
            stamped(1),
            DAMAGED,
            pictures.truncated(2),
            bytes(1000),
            b"\xff\xd8\xff",
            FALSE_ALARM,
            stamped(3),
        ]
    )
    source = plug(device)
    assert await watch(source, 2) == [stamped(1), stamped(3)]
    assert source.tally.dropped["damaged"] == 1
    assert source.tally.dropped["truncated"] >= 1
    assert source.tally.dropped["not_jpeg"] >= 1
    assert source.tally.dropped.total() == 4


async def test_pictures_are_mended(plug: Plug) -> None:
    """Cameras leave out the usual tables; drivers pad what a camera sent."""
    device = FakeDevice([pictures.without_tables(1), stamped(2) + bytes(2000)])
    first, second = await watch(plug(device), 2)
    assert first == pictures.with_standard_tables(pictures.without_tables(1))
    assert second == stamped(2)


async def test_each_buffer_stands_for_itself(plug: Plug) -> None:
    picture = stamped(1)
    device = FakeDevice([picture[:900], picture[900:], stamped(2)])
    assert await watch(plug(device), 1) == [stamped(2)]


async def test_of_two_pictures_in_a_buffer_the_first_counts(plug: Plug) -> None:
    device = FakeDevice([stamped(1) + stamped(2), stamped(3)])
    assert await watch(plug(device), 2) == [stamped(1), stamped(3)]


async def test_a_picture_that_is_too_large_is_dropped(plug: Plug) -> None:
    device = FakeDevice([pictures.picture(1, (640, 480)), stamped(2)])
    source = plug(device, max_frame=5000)
    assert await watch(source, 1) == [stamped(2)]
    assert source.tally.dropped.total() == 1


async def test_a_false_alarm_is_waited_out(plug: Plug) -> None:
    device = FakeDevice([FALSE_ALARM, FALSE_ALARM])
    async with asyncio.timeout(5), images_of(plug(device)) as images:
        picture = asyncio.ensure_future(anext(images))
        await until(lambda: device.reads == 2)
        device.send(stamped(1))
        assert await picture == stamped(1)


async def test_nobody_looks_at_a_silent_device(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    async with asyncio.timeout(5), images_of(plug(device)) as images:
        await anext(images)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(images), 0.1)
    assert device.reads == 1


# Hotplug


async def test_the_removal_of_its_node_wakes_it_and_that_of_others_does_not(
    plug: Plug, desk: Desk
) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        waiting = asyncio.ensure_future(anext(images))
        await asyncio.sleep(0.02)
        assert not source.hotplug(Hotplug("remove", "/dev/video7"))
        assert not source.hotplug(Hotplug("add", "/dev/video7"))
        await asyncio.sleep(0.02)
        assert device.reads == 1
        assert source.hotplug(Hotplug("remove", desk.plugged[0].path))
        await until(lambda: device.reads == 2)
        assert source.hotplug(Hotplug("rescan"))
        await until(lambda: device.reads == 3)
        device.send(failure(errno.ENODEV))
        with pytest.raises(SourceUnreachable):
            await waiting


async def test_whatever_comes_may_be_the_camera_that_is_missing(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    assert source.hotplug(Hotplug("add", "/dev/video7")), "never looked"
    await watch(source, 1)
    assert not source.hotplug(Hotplug("add", "/dev/video7"))
    node = desk.plugged.pop()
    await fails(source)
    assert source.hotplug(Hotplug("add", "/dev/video7")), "not found"
    desk.plugged.append(node)
    await watch(source, 1)
    assert not source.hotplug(Hotplug("add", "/dev/video7"))
