"""V4l2Source sets controls at every opening, and while it is open."""

import asyncio
import errno
from typing import Any

import pytest

from mjrelay.errors import (
    SourceUnreachable,
)
from tests.support.device import (
    FakeDevice,
    failure,
    setting,
    values_of,
)
from tests.support.pictures import stamped
from tests.support.source import images_of

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
