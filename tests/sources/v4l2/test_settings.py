"""V4l2Source sets controls at every opening and while it is open; and what outlives a reload."""

import asyncio
import errno
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mjrelay.devices.nodes import UsbDevice
from mjrelay.errors import SourceBroken, SourceUnreachable
from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.device import (
    BRIEF,
    WEBCAM,
    YUYV,
    Desk,
    FakeDevice,
    failure,
    setting,
    values_of,
)
from tests.support.pictures import stamped
from tests.support.serving import until
from tests.support.source import ScriptedSource, images_of

from .plugging import OPENED, Plug, watch


async def test_controls_are_set_at_every_opening_before_it_starts(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    device.has(setting("brightness", 7))
    source = plug(device, controls={"brightness": 50})
    await watch(source, 1)
    assert device.story == [*OPENED[:3], "controls", "set brightness 50", "start", "close"]
    device.has(setting("brightness", 7))  # as after it was plugged in again
    await watch(source, 1)
    assert values_of(device) == {"brightness": 50}


async def test_controls_are_there_while_it_is_open(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    device.has(setting("brightness", 7))
    source = plug(device)
    values: dict[str, Any] = {"brightness": 50}
    with pytest.raises(SourceUnreachable):
        await source.read_controls()
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        assert (await source.read_controls())["brightness"]["value"] == 7
        await source.change_controls(values)
        assert values_of(device) == values
    with pytest.raises(SourceUnreachable):
        await source.change_controls(values)
    device.has(setting("brightness", 7))
    await watch(source, 1)
    assert values_of(device) == values, "wanted from then on"


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EIO])
async def test_a_camera_that_goes_while_its_controls_are_asked_for_is_unreachable(
    plug: Plug, code: int
) -> None:
    device = FakeDevice([stamped(1)])
    device.has(setting("gain", 7))
    source = plug(device)
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        device.fails["controls"] = failure(code, "VIDIOC_QUERY_EXT_CTRL")
        with pytest.raises(SourceUnreachable):
            await source.read_controls()
        with pytest.raises(SourceUnreachable):
            await source.change_controls({"gain": 9})
    assert values_of(device) == {"gain": 7}


async def test_a_camera_that_takes_too_long_over_its_controls_is_unreachable(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device, timing=replace(BRIEF, open_timeout=0.3))
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        device.stuck = "controls"
        with pytest.raises(SourceUnreachable) as caught:
            await source.read_controls()
        assert caught.value.reason == "the camera does not answer"
        device.answers.set()


# A reload


async def set_up(plug: Plug, device: FakeDevice) -> V4l2Source:
    """A camera that was watched once, and whose brightness a person has set to 50."""
    source = plug(device)
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        await source.change_controls({"brightness": 50})
    device.has(setting("brightness", 7))
    return source


@pytest.mark.parametrize(
    ("address", "controls", "brightness"),
    [
        ("/dev/video0", {}, 50),
        ("/dev/video0", {"brightness": 9}, 9),  # it is the newer word
        ("/dev/video1", {}, 7),  # another camera
    ],
)
async def test_what_a_person_has_set_outlives_a_reload(
    plug: Plug, address: str, controls: dict[str, int], brightness: int
) -> None:
    device = FakeDevice([stamped(1)])
    device.has(setting("brightness", 7))
    before = await set_up(plug, device)
    after = plug(device, address, controls=controls)
    after.inherit_from(before)
    await watch(after, 1)
    assert values_of(device) == {"brightness": brightness}


@pytest.mark.parametrize(("address", "seen"), [("/dev/video0", WEBCAM), ("/dev/video1", None)])
async def test_the_camera_streamed_from_is_followed_after_a_reload(
    plug: Plug, desk: Desk, address: str, seen: UsbDevice | None
) -> None:
    before = plug(FakeDevice([stamped(1)]))
    await watch(before, 1)
    after = plug(FakeDevice([stamped(1)]), address)
    after.inherit_from(before)
    await watch(after, 1)
    assert desk.seen == [None, seen]


async def test_what_was_told_of_a_camera_is_not_told_again_after_a_reload(
    plug: Plug, desk: Desk
) -> None:
    desk.better = "usb:046d:0825:A"
    device = FakeDevice([bytes(64 * 48 * 2)])
    device.modes = [YUYV]
    before, after = plug(device), plug(device)
    with capture_logs() as logs:
        await watch(before, 1)
        after.inherit_from(before)
        await watch(after, 1)
    events = [entry["event"] for entry in logs]
    assert sorted(events) == ["camera.stable_name", "source.encoding"]


async def test_counts_go_on_whatever_the_source_was(plug: Plug) -> None:
    before = ScriptedSource()
    before.tally.dropped["truncated"] = 7
    after = plug(FakeDevice([stamped(1)]))
    after.inherit_from(before)
    assert after.tally.dropped == {"truncated": 7}
    await watch(after, 1)


async def test_while_a_failure_is_explained_settings_are_out_of_reach(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    explaining, explained = threading.Event(), threading.Event()

    def ask_slowly(_: Sequence[str], **__: float) -> list[str]:
        explaining.set()
        assert explained.wait(5)
        return []

    monkeypatch.setattr(desk, "kernel_messages", ask_slowly)
    device = FakeDevice([stamped(1)])
    source = plug(device, timing=replace(BRIEF, open_timeout=5.0))
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        device.send(failure(errno.EIO))
        await until(explaining.is_set)
        with pytest.raises(SourceUnreachable, match="not open"):
            await source.read_controls()
        explained.set()
        with pytest.raises(SourceBroken):
            await anext(images)
