"""V4l2Source: a device that follows a script, opened, read, lost and released."""

import asyncio
import errno
import gc
import io
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices import resetting
from mjrelay.devices.holders import Holder, Search
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import UsbDevice, VideoNode
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import (
    RemedyFailed,
    SourceBroken,
    SourceBusy,
    SourceError,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.recovery.ladder import Remedy
from mjrelay.service.systemd import Kept
from mjrelay.sources.v4l2 import opening
from mjrelay.sources.v4l2 import source as v4l2
from mjrelay.sources.v4l2.source import V4l2Source
from tests.devices.tree import open_files
from tests.support import pictures
from tests.support.device import (
    FALSE_ALARM,
    MJPG,
    WEBCAM,
    YUYV,
    FakeDevice,
    failure,
    node_at,
    setting,
    values_of,
)
from tests.support.device import Step as DeviceStep
from tests.support.pictures import stamped
from tests.support.serving import config_for, until
from tests.support.source import images_of

FFMPEG = Holder(os.getpid(), "/usr/bin/ffmpeg", None)
ENDED = Holder(2**22 + 1, "/usr/bin/ffmpeg", None)  # more than any pid
OPENED = ["open video0", "modes", "configure MJPG 30.0", "start"]


@dataclass
class Desk:
    """What is plugged in, and what the computer around it says.

    Attributes:
        nodes: The one an address leads to, and its siblings; none while it is unplugged.
        device: What is behind them.
        better: The stable name of each.
        search: Who has it.
        searches: How often that was asked.
        searched_open: Whether we had it open ourselves at that time.
        kernel: What the kernel said.
        about: Which device that was asked of.
        seen: Each camera that was asked for because we had streamed from it.
        log_facts: What the log says with everything while we look for it.
    """

    nodes: list[VideoNode]
    device: FakeDevice = field(default_factory=FakeDevice)
    better: str | None = None
    search: Search = field(default_factory=lambda: Search((), hidden=False))
    searches: int = 0
    searched_open: bool = False
    kernel: list[str] = field(default_factory=list)
    about: Sequence[str] = ()
    seen: list[UsbDevice | None] = field(default_factory=list)
    log_facts: dict[str, Any] = field(default_factory=dict)

    def remove_node(self) -> None:
        """Let the node vanish, before we are told."""
        Path(self.nodes[0].path).unlink()

    def find_node(self, address: V4l2Address, *, seen: UsbDevice | None = None) -> VideoNode:
        self.seen.append(seen)
        self.log_facts = get_contextvars()
        if not self.nodes:
            raise SourceUnreachable(f"{address.label} is not there", "plug it in")
        return self.nodes[0]

    def siblings(self, _node: VideoNode) -> list[VideoNode]:
        return self.nodes[1:]

    def stable_name(self, _node: VideoNode) -> str | None:
        return self.better

    def find_holders(self, _number: int) -> Search:
        assert threading.current_thread() is not threading.main_thread()
        self.searched_open = bool(self.device.open_now)
        self.searches += 1
        return self.search

    def still_holds(self, holder: Holder, _number: int) -> bool:
        return holder in self.search.holders and holder != ENDED

    def recent_messages(self, about: Sequence[str], *, within: float) -> list[str]:
        assert within > 0
        self.about = about
        return self.kernel


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with one webcam that has one node."""
    path = tmp_path / "video0"
    path.touch()
    desk = Desk([node_at(str(path))])
    for name in ("find_node", "siblings", "stable_name", "find_holders", "still_holds"):
        monkeypatch.setattr(opening, name, getattr(desk, name))
    monkeypatch.setattr(opening, "recent_messages", desk.recent_messages)
    monkeypatch.setattr(resetting, "find_holders", desk.find_holders)
    monkeypatch.setattr(resetting, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(v4l2, "_CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(opening, "_LOOK_EVERY", 0.01)
    return desk


@pytest.fixture
def plug(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> "Plug":
    return Plug(desk, monkeypatch)


@dataclass
class Plug:
    """Puts a device onto the desk, and makes a source for it."""

    desk: Desk
    monkeypatch: pytest.MonkeyPatch

    def __call__(
        self,
        device: FakeDevice,
        address: str = "/dev/video0",
        *,
        kept: Kept | None = None,
        **options: object,
    ) -> V4l2Source:
        self.desk.device = device
        for module in (v4l2, resetting):
            self.monkeypatch.setattr(module, "Capture", device.capture)
        return V4l2Source(V4l2Address.parse(address), config_for(address, **options), kept)


async def watch(source: V4l2Source, count: int) -> list[bytes]:
    """Open a source for some images; fewer if it fails, which is raised."""
    images = []
    async with asyncio.timeout(5), images_of(source) as arriving:
        async for image in arriving:
            images.append(image)
            if len(images) == count:
                break
    return images


async def fails(source: V4l2Source) -> SourceError:
    """Watch a source until it fails."""
    with pytest.raises(SourceError) as caught:
        await watch(source, 1000)
    return caught.value


async def idle(source: V4l2Source) -> None:
    """See that the device's thread has nothing more to do."""
    await source._call(lambda: None, within=1)


# Pictures


async def test_images_come_as_the_camera_made_them(plug: Plug) -> None:
    device = FakeDevice([stamped(1), stamped(2), stamped(3)])
    source = plug(device)
    assert await watch(source, 3) == [stamped(1), stamped(2), stamped(3)]
    assert device.story == [*OPENED, "close"]
    assert source.tally.dropped == {}


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
            b"",  # the driver's mark of a damaged one
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
        desk.remove_node()
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


async def test_a_fault_of_our_own_closes_the_device_too(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    device = FakeDevice([stamped(1)])
    source = plug(device)
    monkeypatch.setattr(source, "_framed", fail)
    with pytest.raises(ZeroDivisionError):
        await watch(source, 1)
    monkeypatch.setattr(source._opener, "_note_facts", fail)
    with pytest.raises(ZeroDivisionError):
        await watch(source, 1)
    assert device.story.count("close") == 2
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


# Lifetimes


async def test_when_the_consumer_stops_nothing_is_left(plug: Plug) -> None:
    device = FakeDevice([stamped(1), stamped(2)])
    source = plug(device)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        assert source._device
        file = source._device.fileno()
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
    assert source._device
    file = source._device.fileno()
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


async def test_a_stuck_opening_is_given_up_and_the_next_one_waits_for_its_turn(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "_OPEN_TIMEOUT", 0.1)
    device = FakeDevice([stamped(1)])
    device.stuck = "configure"
    source = plug(device)
    error = await fails(source)
    assert isinstance(error, SourceBroken)
    assert error.reason == "the camera has not answered for 0.1 s"
    assert isinstance(await fails(source), SourceBroken)
    assert device.story == OPENED[:3], "nobody else touches it meanwhile"
    monkeypatch.setattr(v4l2, "_OPEN_TIMEOUT", 5)
    watching = asyncio.create_task(watch(source, 1))
    await asyncio.sleep(0.05)
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
        source._worker.submit(partial(stuck.wait, 5))
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


# What systemd keeps


class Noted(Kept):
    """Notes what systemd is told about one camera.

    Attributes:
        story: The descriptors it is to keep, each in place of the one before; None for none.
    """

    def __init__(self, story: list[int | None]) -> None:
        super().__init__("camera-front")
        self.story = story

    def keep(self, fd: int) -> bool:
        self.story.append(fd)
        return True

    def drop(self) -> None:
        self.story.append(None)


async def test_a_device_is_kept_while_it_is_open(plug: Plug) -> None:
    story: list[int | None] = []
    source = plug(FakeDevice([stamped(1)]), kept=Noted(story))
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        assert source._device
        assert story == [source._device.fileno()]
    assert story[1:] == [None]


async def test_an_opening_that_was_given_up_keeps_nothing(plug: Plug) -> None:
    device = FakeDevice([stamped(1)])
    device.stuck = "start"
    story: list[int | None] = []
    source = plug(device, kept=Noted(story))
    watching = asyncio.create_task(watch(source, 1))
    await until(lambda: "start" in device.story)
    watching.cancel()
    await asyncio.wait([watching])
    device.answers.set()
    await idle(source)
    assert story == [None]


async def test_a_source_that_has_ended_leaves_its_successors_device_kept(plug: Plug) -> None:
    stuck = FakeDevice()
    stuck.stuck = "start"
    story: list[int | None] = []
    gone = plug(stuck, kept=Noted(story))
    watching = asyncio.create_task(watch(gone, 1))
    await until(lambda: "start" in stuck.story)
    watching.cancel()
    await asyncio.wait([watching])
    successor = plug(FakeDevice([stamped(1)]), kept=Noted(story))
    async with asyncio.timeout(5), images_of(successor) as images:
        await anext(images)
        stuck.answers.set()
        await idle(gone)
        assert successor._device
        assert story == [None, successor._device.fileno()]


# Busy


@pytest.mark.parametrize("step", ["configure", "start"])
async def test_a_busy_device_is_busy_with_who_has_it(plug: Plug, desk: Desk, step: str) -> None:
    device = FakeDevice([stamped(1)])
    device.fails[step] = failure(errno.EBUSY, "VIDIOC_S_FMT")
    desk.search = Search((FFMPEG,), hidden=False)
    source = plug(device)
    error = await fails(source)
    assert isinstance(error, SourceBusy)
    assert error.taken
    assert source.holders == (FFMPEG,)
    assert not desk.searched_open, "we would find ourselves"
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
    desk.search = Search((FFMPEG,), hidden=False)
    source = plug(device)
    await fails(source)
    device.fails["configure"] = failure(other)
    await fails(source)
    assert source.holders == ()


async def test_a_camera_that_is_unplugged_is_held_by_nobody(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    device.fails["configure"] = failure(errno.EBUSY)
    desk.search = Search((FFMPEG,), hidden=False)
    source = plug(device)
    await fails(source)
    desk.nodes.clear()
    assert isinstance(await fails(source), SourceUnreachable)
    assert source.holders == ()


async def searches_for(source: V4l2Source, desk: Desk, *holders: Holder) -> int:
    """Fail four times while these hold the camera; return how often they were searched for."""
    desk.device.fails["configure"] = failure(errno.EBUSY)
    desk.search = Search(holders, hidden=False)
    for _ in range(4):
        await fails(source)
        assert source.holders == holders
    return desk.searches


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
    assert desk.searches == 2


async def test_holders_are_searched_anew_after_a_while(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_SEARCH_EVERY", 0.0)
    assert await searches_for(plug(FakeDevice()), desk, FFMPEG) == 4


async def test_a_device_that_is_busy_before_it_is_set_is_busy_too(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    device.fails["open"] = failure(errno.EBUSY, "/dev/video0")
    desk.search = Search((), hidden=True)
    error = await fails(plug(device))
    assert isinstance(error, SourceBusy)
    assert error.taken
    assert error.hint
    assert "sudo mjrelay devices" in error.hint


# Which node


def two_nodes(desk: Desk, device: FakeDevice, *, metadata_first: bool) -> None:
    first, other = desk.nodes[0], node_at(desk.nodes[0].path + "-b", index=1)
    Path(other.path).touch()
    desk.nodes = [first, other]
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
    assert error.hint == f"use {desk.nodes[1].path}"


async def test_usb_ids_lead_to_the_node_that_gives_pictures(plug: Plug, desk: Desk) -> None:
    device = FakeDevice([stamped(1)])
    two_nodes(desk, device, metadata_first=True)
    source = plug(device, "usb:046d:0825")
    async with asyncio.timeout(5), images_of(source) as images:
        assert await anext(images) == stamped(1)
        assert source.hotplug(Hotplug("remove", desk.nodes[1].path))
        assert not source.hotplug(Hotplug("remove", desk.nodes[0].path))
    assert device.open_now == 0
    assert device.most_open == 1


async def test_a_device_that_gives_no_pictures_at_all_is_refused(plug: Plug, desk: Desk) -> None:
    device = FakeDevice()
    two_nodes(desk, device, metadata_first=True)
    device.blind.add(desk.nodes[1].path)
    error = await fails(plug(device))
    assert isinstance(error, SourceRefused)
    assert error.reason == f"{desk.nodes[0].path} (UVC Camera) gives no pictures"
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
            desk.nodes = [replace(desk.nodes[0], usb=replace(WEBCAM, port=port))]
            await watch(source, 1)
    path = desk.nodes[0].path
    assert moves(logs) == [{"port": "1-2.3", "was": "1-1", "now": path, "log_level": "info"}]


async def test_a_camera_that_does_not_start_at_another_port_has_not_moved(
    plug: Plug, desk: Desk
) -> None:
    device = FakeDevice([stamped(1)])
    source = plug(device)
    with capture_logs() as logs:
        await watch(source, 1)
        here, there = desk.nodes[0], replace(desk.nodes[0], usb=replace(WEBCAM, port="1-2"))
        desk.nodes = [there]
        device.fails["start"] = failure(errno.EIO)
        await fails(source)
        device.fails.clear()
        desk.nodes = [here]
        await watch(source, 1)
    assert moves(logs) == []


async def test_what_has_no_port_does_not_move(plug: Plug, desk: Desk) -> None:
    source = plug(FakeDevice([stamped(1)]))
    with capture_logs() as logs:
        for usb in (None, WEBCAM, None):
            desk.nodes = [replace(desk.nodes[0], usb=usb)]
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
        "device": f"{desk.nodes[0].path} (UVC Camera, uvcvideo)",
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
    desk.nodes = [node_at("/dev/null")]
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
    desk.remove_node()
    assert isinstance(await failing, SourceUnreachable)


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
        assert source.hotplug(Hotplug("remove", desk.nodes[0].path))
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
    node = desk.nodes.pop()
    await fails(source)
    assert source.hotplug(Hotplug("add", "/dev/video7")), "not found"
    desk.nodes.append(node)
    await watch(source, 1)
    assert not source.hotplug(Hotplug("add", "/dev/video7"))


# Pictures that are encoded here


def raw(brightness: int) -> bytes:
    return bytes([brightness, 128] * 64 * 48)


def brightness_of(image: bytes) -> int:
    with Image.open(io.BytesIO(image)) as picture:
        assert picture.size == (64, 48)
        value = picture.convert("L").getpixel((10, 10))
    assert isinstance(value, int)
    return value


def raw_device(*script: DeviceStep) -> FakeDevice:
    device = FakeDevice(script)
    device.modes = [YUYV]
    return device


async def test_raw_pictures_are_encoded_while_somebody_watches(plug: Plug) -> None:
    source = plug(raw_device(*(raw(10 * number) for number in range(1, 6))))
    source.watch(watched=True)
    found = [brightness_of(image) for image in await watch(source, 5)]
    assert found == [pytest.approx(10 * number, abs=2) for number in range(1, 6)]


async def test_while_nobody_watches_one_now_and_then_is_encoded(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "_UNWATCHED_EVERY", 60.0)
    device = raw_device(*(raw(10) for _ in range(5)))
    source = plug(device, stall_timeout=120.0)
    async with asyncio.timeout(5), images_of(source) as images:
        assert brightness_of(await anext(images)) == pytest.approx(10, abs=2)
        following = asyncio.ensure_future(anext(images))
        await until(lambda: device.reads == 5)
        assert not following.done()
        source.watch(watched=True)
        device.send(raw(200))
        assert brightness_of(await following) == pytest.approx(200, abs=2)
        source.watch(watched=False)
        following = asyncio.ensure_future(anext(images))
        source._unwatched_every = 0.0
        device.send(raw(100))
        assert brightness_of(await following) == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("stall_timeout", "seconds"), [(0.1, 0.05), (1.0, 0.5), (2.0, 1.0), (5.0, 1.0), (60.0, 1.0)]
)
def test_a_camera_that_nobody_watches_is_encoded_often_enough_to_look_alive(
    plug: Plug, stall_timeout: float, seconds: float
) -> None:
    assert plug(raw_device(), stall_timeout=stall_timeout)._unwatched_every == seconds


async def test_where_a_stall_is_noticed_soon_pictures_are_encoded_more_often(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "_UNWATCHED_EVERY", 60.0)
    device = raw_device(raw(10))
    async with asyncio.timeout(5), images_of(plug(device, stall_timeout=0.1)) as images:
        for _ in range(3):
            picture = asyncio.ensure_future(anext(images))
            while not picture.done():
                device.send(raw(10))
                await asyncio.sleep(0.01)
            assert brightness_of(picture.result()) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("odd", [raw(1)[:-2], raw(1) + b"xx", b"x"])
async def test_raw_pictures_of_another_size_are_dropped(plug: Plug, odd: bytes) -> None:
    source = plug(raw_device(odd, b"", raw(50)))
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


# Remedies


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
    ("remedy", "act"), [(Remedy.USB_RESET, "reset"), (Remedy.REAUTHORIZE, "reauthorize")]
)
async def test_a_reset_is_of_the_camera_and_waits_until_it_is_back(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch, remedy: Remedy, act: str
) -> None:
    acted: list[tuple[UsbDevice, bool]] = []
    node = desk.nodes[0]

    def note(device: UsbDevice) -> None:
        acted.append((device, threading.current_thread() is threading.main_thread()))
        desk.nodes.clear()

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(f"mjrelay.devices.usb.{act}", note)
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    mending = asyncio.ensure_future(source.remedies[remedy]())
    await until(lambda: len(desk.seen) > 4)
    assert not mending.done()
    desk.nodes.append(node)
    await mending
    assert acted == [(WEBCAM, False)]
    await watch(source, 1)


async def test_a_camera_that_never_streamed_can_be_reset(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted: list[UsbDevice] = []
    monkeypatch.setattr("mjrelay.devices.usb.reset", acted.append)
    device = FakeDevice()
    device.fails["start"] = failure(errno.EIO)
    source = plug(device)
    await fails(source)
    await source.remedies[Remedy.USB_RESET]()
    assert acted == [WEBCAM]


async def test_a_camera_that_is_missing_is_reset_where_it_was(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted: list[UsbDevice] = []
    monkeypatch.setattr("mjrelay.devices.usb.reset", acted.append)
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    node = desk.nodes.pop()
    await fails(source)
    desk.nodes.append(node)
    await source.remedies[Remedy.USB_RESET]()
    assert acted == [WEBCAM]


HELD = Search((FFMPEG,), hidden=False)


async def taken_meanwhile(plug: Plug, desk: Desk, *, usb_reset: bool | str = True) -> V4l2Source:
    """Stream from a camera until another process takes it."""
    device = FakeDevice([stamped(1)])
    source = plug(device, usb_reset=usb_reset)
    await watch(source, 1)
    device.fails["configure"] = failure(errno.EBUSY)
    desk.search = HELD
    return source


@pytest.mark.parametrize("remedy", [Remedy.USB_RESET, Remedy.REAUTHORIZE])
async def test_a_camera_that_somebody_has_taken_meanwhile_is_not_reset(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch, remedy: Remedy
) -> None:
    acted: list[UsbDevice] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for act in ("reset", "reauthorize"):
        monkeypatch.setattr(f"mjrelay.devices.usb.{act}", acted.append)
    source = await taken_meanwhile(plug, desk)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[remedy]()
    assert caught.value.is_held
    assert caught.value.reason == f"{desk.nodes[0].path} is in use"
    assert acted == []
    assert desk.device.open_now == 0
    assert not desk.searched_open


async def test_by_force_a_camera_is_reset_whoever_has_it(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted: list[UsbDevice] = []
    monkeypatch.setattr("mjrelay.devices.usb.reset", acted.append)
    source = await taken_meanwhile(plug, desk, usb_reset="force")
    await source.remedies[Remedy.USB_RESET]()
    assert acted == [WEBCAM]


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


async def test_a_camera_that_is_absent_cannot_be_reset(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted: list[UsbDevice] = []
    monkeypatch.setattr("mjrelay.devices.usb.reset", acted.append)
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    desk.nodes.clear()
    with pytest.raises(RemedyFailed, match="/dev/video0 is not there") as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.hint == "plug it in"
    assert acted == []


async def test_what_is_no_usb_device_cannot_be_reset(plug: Plug, desk: Desk) -> None:
    desk.nodes = [replace(desk.nodes[0], usb=None)]
    source = plug(FakeDevice([stamped(1)]))
    for _ in range(2):  # before it was ever found, and when it was
        with pytest.raises(RemedyFailed, match="no USB device"):
            await source.remedies[Remedy.USB_RESET]()
        await watch(source, 1)


async def test_a_reset_that_lasts_is_given_up_and_blocks_the_device_alone(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(v4l2, "_RESET_TIMEOUT", 0.05)
    monkeypatch.setattr("mjrelay.devices.usb.reset", lambda _device: over.wait(10))
    device = FakeDevice([stamped(1)])
    source = plug(device)
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.hint == "unplug it and plug it in again"
    watching = asyncio.create_task(watch(source, 1))
    await asyncio.sleep(0.05)
    assert device.story.count("start") == 1
    over.set()
    assert await watching == [stamped(1)]


async def test_a_camera_that_does_not_come_back_from_a_reset_is_given_up(
    plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resetting, "_BACK_WITHIN", 0.05)
    monkeypatch.setattr("mjrelay.devices.usb.reset", lambda _device: desk.nodes.clear())
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.reason == "the camera did not come back within 0.05 s of the reset"
    assert caught.value.hint == "unplug it and plug it in again"


async def test_what_a_reset_lacks_is_said(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_device: UsbDevice) -> None:
        raise RemedyFailed("it could not be reset: Permission denied", "do this")

    monkeypatch.setattr("mjrelay.devices.usb.reset", refuse)
    source = plug(FakeDevice([stamped(1)]))
    await watch(source, 1)
    with pytest.raises(RemedyFailed) as caught:
        await source.remedies[Remedy.USB_RESET]()
    assert caught.value.hint == "do this"


async def test_a_release_leaves_the_camera_alone_for_a_while(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "_SUSPENDED_AFTER", 0.05)
    device = FakeDevice([stamped(1)])
    source = plug(device)
    began = time.monotonic()
    await source.remedies[Remedy.RELEASE]()
    assert time.monotonic() - began >= 0.05
    assert device.story == []


# Controls


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
