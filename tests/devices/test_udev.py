"""Hotplug: through the real libudev where there is netlink, else through a monitor of our own."""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pyudev

from mjrelay.devices.udev import Hotplug, HotplugUnavailable, hotplug_events, listen
from tests.devices.tree import open_files

NETLINK_KOBJECT_UEVENT = 15
UDEV_GROUP = 2
# How udev hashes "video4linux", for its filter in the kernel.
VIDEO4LINUX = 0xE9CF3931


@pytest.fixture
def control(tmp_path: Path) -> Path:
    """The socket of an udev that runs."""
    control = tmp_path / "control"
    control.touch()
    return control


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


@dataclass
class Device:
    """What udev tells of one."""

    action: str
    device_node: str | None


class Monitor:
    """A monitor as pyudev has them, which hears what the test writes.

    Args:
        news: What it says one after the other: a device, nothing or an error.
    """

    def __init__(self, *news: Device | OSError | None) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._news = list(news)
        self._ours.setblocking(False)
        self._theirs.send(b"x")

    def poll(self, timeout: float) -> Device | None:
        assert timeout == 0
        news = self._news.pop(0)
        if not self._news:
            self._ours.recv(1)
        if isinstance(news, OSError):
            raise news
        return news

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@contextlib.contextmanager
def hearing(*news: Device | OSError | None) -> Iterator[AsyncGenerator[Hotplug, None]]:
    with contextlib.closing(Monitor(*news)) as monitor:
        yield hotplug_events(lambda: monitor)


async def test_cameras_come_and_go() -> None:
    news = (
        Device("add", "/dev/video0"),
        Device("change", "/dev/video0"),
        None,
        Device("add", None),
        Device("remove", "/dev/video0"),
    )
    with hearing(*news) as events:
        assert await anext(events) == Hotplug("add", "/dev/video0")
        assert await anext(events) == Hotplug("remove", "/dev/video0")
        await events.aclose()


async def test_lost_news_mean_to_look_at_everything() -> None:
    full = OSError(errno.ENOBUFS, "No buffer space available")
    with hearing(full, Device("add", "/dev/video0")) as events:
        assert await anext(events) == Hotplug("rescan")
        assert await anext(events) == Hotplug("add", "/dev/video0")
        await events.aclose()


async def test_a_broken_monitor_ends_it() -> None:
    with (
        hearing(OSError("Error while polling fd")) as events,
        pytest.raises(HotplugUnavailable, match="broke off: Error while polling"),
    ):
        await anext(events)


async def test_a_cancelled_wait_leaves_no_reader() -> None:
    with hearing(None) as events:
        task = asyncio.create_task(anext(events))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        readers = asyncio.get_running_loop()._selector.get_map().values()  # type: ignore[attr-defined]
        assert len(readers) == 1  # the loop's own


def no_libudev(_name: str) -> None:
    return None


async def test_without_libudev_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyudev._ctypeslib.utils.find_library", no_libudev)
    with pytest.raises(HotplugUnavailable, match="install libudev1"):
        await anext(hotplug_events())


async def test_without_netlink_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(pyudev.Monitor, "from_netlink", refuse)
    with pytest.raises(HotplugUnavailable, match=r"not supported .*AF_NETLINK"):
        await anext(hotplug_events())


async def test_without_udev_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(HotplugUnavailable, match="udev is not running here"):
        await anext(hotplug_events(partial(listen, tmp_path / "control")))


@contextlib.contextmanager
def daemon() -> Iterator[socket.socket]:
    """Speak in udev's place: only root may, and only root is believed."""
    if os.geteuid() != 0:
        pytest.skip("only root can speak in udev's place")
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as voice:
            yield voice
    except PermissionError as error:
        pytest.skip(f"no netlink here: {error.strerror}")


def announce(connection: socket.socket, action: str, name: str) -> None:
    """Send news as udev sends it."""
    properties = {
        "ACTION": action,
        "DEVPATH": f"/devices/virtual/video4linux/{name}",
        "SUBSYSTEM": "video4linux",
        "DEVNAME": f"/dev/{name}",
        "SEQNUM": "1",
    }
    text = b"".join(f"{key}={value}\0".encode() for key, value in properties.items())
    hashes = struct.pack("!IIII", VIDEO4LINUX, 0, 0, 0)
    header = b"libudev\0" + struct.pack("!I", 0xFEEDCAFE) + struct.pack("=III", 40, 40, len(text))
    with contextlib.suppress(ConnectionRefusedError):  # some listener's buffer is full
        connection.sendto(header + hashes + text, (0, UDEV_GROUP))


async def test_real_news_are_heard(control: Path) -> None:
    with daemon() as voice:
        async with aclosing(hotplug_events(partial(listen, control))) as events:
            first = asyncio.create_task(anext(events))
            await asyncio.sleep(0.3)
            announce(voice, "add", "video7")
            assert await first == Hotplug("add", "/dev/video7")
            announce(voice, "remove", "video7")
            assert await anext(events) == Hotplug("remove", "/dev/video7")


def listen_with_little_room(control: Path) -> Any:
    """Listen, with room for two or three news."""
    monitor = listen(control)
    with socket.socket(fileno=os.dup(monitor.fileno())) as ears:
        ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    return monitor


async def test_real_news_that_are_lost_are_noticed(control: Path) -> None:
    with daemon() as voice:
        async with aclosing(hotplug_events(partial(listen_with_little_room, control))) as events:
            first = asyncio.create_task(anext(events))
            await asyncio.sleep(0.3)
            announce(voice, "add", "video0")
            await first
            for _ in range(20):
                announce(voice, "add", "video1")
            assert await anext(events) == Hotplug("rescan")
            assert await anext(events) == Hotplug("add", "/dev/video1")
