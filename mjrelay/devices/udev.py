"""Hotplug: tells which cameras come and go. The only importer of pyudev, which has no types."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mjrelay.errors import MjrelayError

_UDEV_CONTROL = Path("/run/udev/control")


class HotplugUnavailable(MjrelayError):
    """Nothing tells us which cameras come and go; the message says why."""


@dataclass(frozen=True)
class Hotplug:
    """A camera came or went.

    Attributes:
        action: "add" or "remove": a node came or went. "rescan": events were lost, so that every
            camera may have come or gone.
        path: The node's path, such as `/dev/video0`; empty with "rescan".
    """

    action: Literal["add", "remove", "rescan"]
    path: str = ""


def listen(control: Path = _UDEV_CONTROL) -> Any:
    """Subscribe to udev, and return pyudev's monitor. Blocks a while to load a library.

    Args:
        control: A socket that exists while udev runs.

    Raises:
        HotplugUnavailable: libudev, udev or netlink is missing.
    """
    try:
        import pyudev  # noqa: PLC0415 - not needed without a camera of this computer

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("video4linux")
        monitor.start()
    except ImportError as error:
        raise HotplugUnavailable("libudev is not installed: install libudev1") from error
    except OSError as error:
        raise HotplugUnavailable(
            f"udev cannot be listened to: {error.strerror or error} "
            "(in a systemd unit, RestrictAddressFamilies= must name AF_NETLINK)"
        ) from error
    if not control.exists():
        raise HotplugUnavailable("udev is not running here; in a container mount /run/udev")
    return monitor


async def hotplug_events(listen: Callable[[], Any] = listen) -> AsyncGenerator[Hotplug, None]:
    """Yield what happens to video nodes from the first step of the iteration on.

    Close it with `aclosing`. In a container whose host passes no events on, it yields nothing: we
    cannot know that it should.

    Args:
        listen: Subscribes to udev; called in a thread.

    Raises:
        HotplugUnavailable: libudev, udev or netlink is missing, or the connection broke.
    """
    monitor = await asyncio.to_thread(listen)
    while True:
        await _readable(monitor.fileno())
        event = _next(monitor)
        if event:
            yield event


async def _readable(file: int) -> None:
    """Wait until a descriptor is readable. Watched once, a dead one cannot keep the loop busy."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(file, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(file)


def _next(monitor: Any) -> Hotplug | None:
    """Read one event; None if it says neither that a node came nor that one went."""
    try:
        device = monitor.poll(timeout=0)
    except OSError as error:
        # The kernel had more events for us than its queue holds. pyudev may raise another error
        # for that; asking the socket for its error tells, and clears it.
        if errno.ENOBUFS not in (error.errno, _pending_error(monitor.fileno())):
            raise HotplugUnavailable(f"udev broke off: {error.strerror or error}") from error
        return Hotplug("rescan")
    if device is None or device.action not in ("add", "remove") or not device.device_node:
        return None
    return Hotplug(device.action, device.device_node)


def _pending_error(file: int) -> int:
    with socket.socket(fileno=os.dup(file)) as connection:
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
