"""V4l2Source encodes raw pictures: the newest, and few while nobody watches."""

import asyncio
import io
import threading
from dataclasses import replace
from functools import partial

import pytest
from PIL import Image
from structlog.testing import capture_logs

from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.device import (
    BRIEF,
    DAMAGED,
    YUYV,
    FakeDevice,
)
from tests.support.device import Step as DeviceStep
from tests.support.pictures import stamped
from tests.support.serving import until
from tests.support.source import images_of

from .plugging import Plug, idle, watch


def raw(brightness: int) -> bytes:
    return bytes([brightness, 128] * 64 * 48)


def brightness_of(image: bytes) -> int:
    with Image.open(io.BytesIO(image)) as picture:
        assert picture.size == (64, 48)
        value = picture.convert("L").getpixel((10, 10))
    assert isinstance(value, int)
    return value


async def drained(source: V4l2Source, device: FakeDevice) -> None:
    """See that every buffer was read, and what is encoded of them was shown."""
    await until(lambda: not device.unread)
    for _ in range(2):
        await idle(source)


def raw_device(*script: DeviceStep) -> FakeDevice:
    device = FakeDevice(script)
    device.modes = [YUYV]
    return device


PASSED_OVER = "came faster than it could be encoded"
RARELY = replace(BRIEF, unwatched_every=60.0)


async def test_raw_pictures_are_encoded_while_somebody_watches(plug: Plug) -> None:
    device = raw_device()
    source = plug(device)
    source.watch(watched=True)
    async with asyncio.timeout(5), images_of(source) as images:
        for brightness in (10, 20, 30, 40, 50):
            device.send(raw(brightness))
            assert brightness_of(await anext(images)) == pytest.approx(brightness, abs=2)
    assert source.tally.tolerated == {}


async def test_of_several_filled_buffers_the_newest_is_encoded(plug: Plug) -> None:
    source = plug(raw_device(raw(10), raw(20), raw(30), DAMAGED))
    source.watch(watched=True)
    [image] = await watch(source, 1)
    assert brightness_of(image) == pytest.approx(30, abs=2)
    assert source.tally.tolerated == {PASSED_OVER: 2}
    assert source.tally.dropped == {"damaged": 1}


async def test_while_one_picture_is_encoded_only_the_newest_waits(plug: Plug) -> None:
    device = raw_device()
    source = plug(device)
    source.watch(watched=True)
    encoding = threading.Event()
    async with asyncio.timeout(5), images_of(source) as images:
        source.worker.submit(partial(encoding.wait, 5))
        device.send(raw(10))
        await until(lambda: device.reads == 2)
        device.send(raw(20), raw(30), raw(40))
        await until(lambda: source.tally.tolerated.total() == 2)
        encoding.set()
        shown = [brightness_of(await anext(images)) for _ in range(2)]
    assert shown == [pytest.approx(10, abs=2), pytest.approx(40, abs=2)]
    assert source.tally.tolerated == {PASSED_OVER: 2}
    assert source.tally.dropped == {}


async def test_while_nobody_watches_one_now_and_then_is_encoded(plug: Plug) -> None:
    device = raw_device(raw(10))
    source = plug(device, timing=RARELY, stall_timeout=120.0)
    async with asyncio.timeout(5), images_of(source) as images:
        assert brightness_of(await anext(images)) == pytest.approx(10, abs=2)
        following = asyncio.ensure_future(anext(images))
        device.send(raw(20), raw(30))
        await drained(source, device)
        assert not following.done()
        source.watch(watched=True)
        device.send(raw(200))
        assert brightness_of(await following) == pytest.approx(200, abs=2)
        source.watch(watched=False)
        following = asyncio.ensure_future(anext(images))
        device.send(raw(100))
        await drained(source, device)
        assert not following.done()
        following.cancel()
    assert source.tally.tolerated == {}, "nobody wanted them"


@pytest.mark.parametrize("stall_timeout", [0.02, 60.0])
async def test_a_camera_that_nobody_watches_looks_alive(plug: Plug, stall_timeout: float) -> None:
    """Where a stall is noticed soon, pictures are encoded more often."""
    timing = replace(BRIEF, unwatched_every=60.0 if stall_timeout < 1 else 0.01)
    device = raw_device(raw(10))
    source = plug(device, timing=timing, stall_timeout=stall_timeout)
    async with asyncio.timeout(5), images_of(source) as images:
        for _ in range(3):
            picture = asyncio.ensure_future(anext(images))
            while not picture.done():
                device.send(raw(10))
                await asyncio.sleep(0.005)
            assert brightness_of(picture.result()) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("odd", [raw(1)[:-2], raw(1) + b"xx", b"x"])
async def test_raw_pictures_of_another_size_are_dropped(plug: Plug, odd: bytes) -> None:
    source = plug(raw_device(odd, DAMAGED, raw(50)))
    source.watch(watched=True)
    [image] = await watch(source, 1)
    assert brightness_of(image) == pytest.approx(50, abs=2)
    assert source.tally.dropped == {"corrupt": 1, "damaged": 1}


async def test_the_cost_of_encoding_is_told_once(plug: Plug) -> None:
    source = plug(raw_device(raw(50)))
    with capture_logs() as logs:
        for _ in range(3):
            await watch(source, 1)
    [told] = [entry for entry in logs if entry["event"] == "source.encoding"]
    assert told["mode"] == "YUYV 64x48 at 30 fps"


async def test_pictures_passed_through_cost_nothing_to_tell(plug: Plug) -> None:
    with capture_logs() as logs:
        await watch(plug(FakeDevice([stamped(1)])), 1)
    assert "source.encoding" not in [entry["event"] for entry in logs]


async def test_what_the_driver_made_of_the_mode_counts(plug: Plug) -> None:
    device = FakeDevice([raw(50)])
    device.gives = YUYV
    source = plug(device)
    source.watch(watched=True)
    [image] = await watch(source, 1)
    assert brightness_of(image) == pytest.approx(50, abs=2)
    assert source.facts()["mode"] == "YUYV 64x48 at 30 fps"
