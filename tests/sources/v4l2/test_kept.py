"""What systemd keeps for a camera: its device while that is open, and nothing in vain."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mjrelay.roster import Roster
from mjrelay.service.systemd import Kept
from mjrelay.sources import keeps_device, make_source
from tests.support.device import (
    FakeDevice,
)
from tests.support.pictures import stamped
from tests.support.serving import config_for, until
from tests.support.source import images_of

from .plugging import OPENED, Plug, idle, watch


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def running(source: str, mode: str, kept: Kept) -> AsyncIterator[None]:
    """A roster with one camera, whose device systemd keeps."""
    async with asyncio.TaskGroup() as tasks:
        roster = Roster(tasks, lambda _name: kept)
        await roster.fit({"front": config_for(source, mode=mode)})
        yield
        roster.end()


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("testcard:", "always"),
        ("http://127.0.0.1:9/", "always"),
        ("exec:sleep 60", "always"),
        ("/dev/video-none", "demand"),
    ],
)
async def test_what_will_not_be_taken_at_once_is_let_go(
    source: str, mode: str, systemd: socket.socket
) -> None:
    reading, writing = os.pipe()
    async with running(source, mode, Kept("camera-front", reading)):
        assert systemd.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=camera-front"
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")  # nobody has the other end
    os.close(writing)


def test_a_video_device_waits_for_its_opening(systemd: socket.socket) -> None:
    reading, writing = os.pipe()
    kept = Kept("camera-front", reading)
    config = config_for("/dev/video0")
    assert keeps_device(config)
    make_source(config, kept)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    assert kept.take() == reading
    os.close(reading)
    os.close(writing)


class Noted(Kept):
    """Notes what systemd is told about one camera.

    Attributes:
        story: The descriptors it is to keep, each in place of the one before; None for none.
    """

    def __init__(self, story: list[int | None], fd: int | None = None) -> None:
        super().__init__("camera-front", fd)
        self.story = story

    def keep(self, fd: int) -> bool:
        self.story.append(fd)
        return True

    def drop(self) -> None:
        self.story.append(None)


async def test_a_device_is_kept_while_it_is_open(plug: Plug) -> None:
    story: list[int | None] = []
    device = FakeDevice([stamped(1)])
    source = plug(device, kept=Noted(story))
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        assert story == [device.descriptor]
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
    device = FakeDevice([stamped(1)])
    successor = plug(device, kept=Noted(story))
    async with asyncio.timeout(5), images_of(successor) as images:
        await anext(images)
        stuck.answers.set()
        await idle(gone)
        assert story == [None, device.descriptor]


async def test_a_device_that_was_kept_is_taken_over_and_left_to_the_next_process(
    plug: Plug,
) -> None:
    reading, writing = os.pipe()
    story: list[int | None] = []
    device = FakeDevice([stamped(1)])
    source = plug(device, kept=Noted(story, reading))
    async with asyncio.timeout(5), images_of(source) as images:
        await anext(images)
        source.hand_over()
    assert device.story == ["adopt", *OPENED, "leave"]
    assert None not in story, "it stays with systemd"
    os.close(writing)


async def test_after_a_reload_the_device_is_kept_anew(plug: Plug) -> None:
    story: list[int | None] = []
    before = plug(FakeDevice([stamped(1)]), kept=Noted(story))
    await watch(before, 1)
    after = plug(FakeDevice([stamped(1)]), kept=Noted(story))
    after.inherit_from(before)
    await watch(after, 1)
    kept, dropped = story[::2], story[1::2]
    assert all(kept)
    assert dropped == [None, None]
