"""V4l2Source finds the node that gives pictures, and opens it when it may."""

import asyncio
import errno
from dataclasses import replace

import pytest
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay.devices.udev import Hotplug
from mjrelay.errors import (
    SourceRefused,
    SourceUnreachable,
)
from tests.support.device import (
    MJPG,
    WEBCAM,
    YUYV,
    Desk,
    FakeDevice,
    failure,
    node_at,
)
from tests.support.pictures import stamped
from tests.support.serving import until
from tests.support.source import images_of

from .plugging import Plug, fails, watch

# Which node


def two_nodes(desk: Desk, device: FakeDevice, *, metadata_first: bool) -> None:
    first, other = desk.plugged[0], node_at(desk.plugged[0].path + "-b", index=1)
    desk.plugged = [first, other]
    device.blind.add((first if metadata_first else other).path)


async def test_a_metadata_node_is_refused_and_the_right_one_named(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    two_nodes(desk, device, metadata_first=True)
    desk.better = "/dev/v4l/by-id/usb-Webcam-video-index0"
    error = await fails(plug(device))
    assert isinstance(error, SourceRefused)
    assert error.reason == ("/dev/video0 gives no pictures: it holds the camera's metadata")
    assert error.hint == "use /dev/v4l/by-id/usb-Webcam-video-index0"
    assert device.story == ["open video0", "close", "open video0-b", "close"]


async def test_without_a_stable_name_the_right_node_is_named_by_its_path(
    plug: Plug, desk: Desk
) -> None:
    device = FakeDevice()
    two_nodes(desk, device, metadata_first=True)
    error = await fails(plug(device))
    assert error.hint == f"use {desk.plugged[1].path}"


async def test_usb_ids_lead_to_the_node_that_gives_pictures(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    two_nodes(desk, device, metadata_first=True)
    source = plug(device, "usb:046d:0825")
    async with asyncio.timeout(5), images_of(source) as images:
        assert await anext(images) == stamped(1)
        assert source.hotplug(Hotplug("remove", desk.plugged[1].path))
        assert not source.hotplug(Hotplug("remove", desk.plugged[0].path))
    assert device.open_now == 0
    assert device.most_open == 1


async def test_a_device_that_gives_no_pictures_at_all_is_refused(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    two_nodes(desk, device, metadata_first=True)
    device.blind.add(desk.plugged[1].path)
    error = await fails(plug(device))
    assert isinstance(error, SourceRefused)
    assert error.reason == f"{desk.plugged[0].path} (UVC Camera) gives no pictures"
    assert device.story.count("close") == 2


async def test_the_camera_streamed_from_is_looked_for_again(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    for _ in range(2):
        await watch(source, 1)
    assert desk.seen == [None, WEBCAM]


async def test_a_camera_that_never_streamed_is_not_held_on_to(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    device.fails["start"] = failure(errno.EIO)
    source = plug(device)
    for _ in range(2):
        await fails(source)
    assert desk.seen == [None, None]


def moves(logs: list[EventDict]) -> list[dict[str, object]]:
    """What the log says of other ports."""
    return [
        {key: entry[key] for key in ("port", "was", "now", "log_level")}
        for entry in logs
        if entry["event"] == "camera.moved"
    ]


async def test_a_camera_at_another_port_is_told(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]), "usb:046d:0825")
    with capture_logs() as logs:
        for port in ("1-1", "1-1", "1-2.3", "1-2.3"):
            desk.plugged = [replace(desk.plugged[0], usb=replace(WEBCAM, port=port))]
            await watch(source, 1)
    path = desk.plugged[0].path
    assert moves(logs) == [{"port": "1-2.3", "was": "1-1", "now": path, "log_level": "info"}]


async def test_a_camera_that_does_not_start_at_another_port_has_not_moved(
    plug: Plug, desk: Desk
) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    with capture_logs() as logs:
        await watch(source, 1)
        here, there = desk.plugged[0], replace(desk.plugged[0], usb=replace(WEBCAM, port="1-2"))
        desk.plugged = [there]
        device.fails["start"] = failure(errno.EIO)
        await fails(source)
        device.fails.clear()
        desk.plugged = [here]
        await watch(source, 1)
    assert moves(logs) == []


async def test_what_has_no_port_does_not_move(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    with capture_logs() as logs:
        for usb in (None, WEBCAM, None):
            desk.plugged = [replace(desk.plugged[0], usb=usb)]
            await watch(source, 1)
    assert moves(logs) == []


async def test_the_stable_name_is_suggested_once(plug: Plug, desk: Desk) -> None:
    desk.better = "usb:046d:0825:A"
    source = plug(FakeDevice([stamped(1)]))
    with capture_logs() as logs:
        for _ in range(3):
            await watch(source, 1)
    assert [entry["better"] for entry in logs if entry["event"] == "camera.stable_name"] == [
        "usb:046d:0825:A"
    ]


async def test_what_its_thread_logs_names_the_camera(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    with bound_contextvars(camera="front"):
        await watch(source, 1)
    assert desk.log_facts == {"camera": "front"}


@pytest.mark.parametrize(
    ("address", "better"),
    [("usb:046d:0825", "x"), ("/dev/v4l/by-id/x", "/dev/v4l/by-id/x"), ("/dev/video0", None)],
)
async def test_no_name_is_suggested_where_there_is_no_better_one(
    plug: Plug, desk: Desk, address: str, better: str | None
) -> None:
    desk.better = better
    with capture_logs() as logs:
        await watch(plug(FakeDevice([stamped(1)]), address), 1)
    assert "camera.stable_name" not in [entry["event"] for entry in logs]


async def test_facts(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    device.modes = [MJPG, YUYV]
    desk.better = "usb:046d:0825:A"
    source = plug(device)
    await watch(source, 1)
    assert source.facts() == {
        "device": f"{desk.plugged[0].path} (UVC Camera, uvcvideo)",
        "stable name": "usb:046d:0825:A",
        "usb port": "1-1",
        "modes": ["MJPG 64x48 at 30 fps", "YUYV 64x48 at 30 fps"],
        "mode": "MJPG 64x48 at 30 fps",
    }


# Rights


async def test_a_node_that_has_just_appeared_is_given_time_until_it_may_be_opened(
    plug: Plug,
) -> None:
    device = FakeDevice([stamped(1)])
    device.fails["open"] = failure(errno.EACCES, "/dev/video0")
    watching = asyncio.create_task(watch(plug(device), 1))
    await until(lambda: len(device.paths) > 2)
    device.fails.clear()
    assert await watching == [stamped(1)]
    assert device.most_open == 1


async def test_a_node_that_was_there_all_along_is_refused_with_what_to_do(
    plug: Plug, desk: Desk
) -> None:
    desk.nodes_age = 60.0
    device = FakeDevice()
    device.fails["open"] = failure(errno.EACCES, "/dev/video0")
    error = await fails(plug(device))
    assert isinstance(error, SourceRefused)
    assert error.reason == "/dev/video0: Permission denied"
    assert error.hint
    assert "usermod -aG video" in error.hint
    assert len(device.paths) == 1


async def test_a_node_that_goes_while_its_rights_are_waited_for_is_unreachable(
    plug: Plug, desk: Desk
) -> None:
    device = FakeDevice()
    device.fails["open"] = failure(errno.EACCES, "/dev/video0")
    failing = asyncio.create_task(fails(plug(device)))
    await until(lambda: device.paths)
    desk.vanished = True
    assert isinstance(await failing, SourceUnreachable)
