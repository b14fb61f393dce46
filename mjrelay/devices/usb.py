"""Two remedies for a USB camera that fails: resetting its port, and logging it off and on.

Both take the camera away from every program that has it open, ours included.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mjrelay.devices.nodes import UsbDevice
from mjrelay.errors import RemedyFailed

# _IO('U', 20) of linux/usbdevice_fs.h. On some processors a bit says that it carries no data.
_NO_DATA = 1 << 29 if os.uname().machine.startswith(("mips", "ppc", "sparc", "alpha")) else 0
_USBDEVFS_RESET = _NO_DATA | ord("U") << 8 | 20
# Seconds between off and on: so every program sees the camera go, and its power supply settles.
_PAUSE = 0.5

_UNPLUG = "unplug the camera and plug it in again"
_RULE = (
    "let mjrelay's group do it: `sudo cp systemd/60-mjrelay.rules /etc/udev/rules.d/`, "
    "`sudo udevadm control --reload`, `sudo udevadm trigger --subsystem-match=usb`"
)
_ALLOW = "let the service do it: `DeviceAllow=char-usb_device rw` in its unit, or do it as root"
_NO_NODE = "give the container /dev/bus/usb, or unplug the camera and plug it in again"
_ROOT_ONLY = "only root may log a USB device off: `sudo mjrelay reset`, or " + _UNPLUG
_READ_ONLY = "the service's unit protects /sys (ProtectKernelTunables=yes): " + _UNPLUG

_RESET_HINTS = {errno.EACCES: _RULE, errno.EPERM: _ALLOW, errno.ENOENT: _NO_NODE}
_AUTHORIZE_HINTS = {errno.EACCES: _ROOT_ONLY, errno.EPERM: _ROOT_ONLY, errno.EROFS: _READ_ONLY}


@dataclass
class _Attempt:
    """One attempt at a remedy.

    Attributes:
        done: The camera was disturbed: its reset was begun, or it was logged off the bus.
    """

    done: bool = False


def reset(device: UsbDevice) -> None:
    """Reset a camera's port: its nodes vanish and come back, perhaps under other numbers.

    Blocks for 0.4 seconds as a rule, and for 95 if the camera does not answer: call it in a worker
    thread.

    Raises:
        RemedyFailed: It could not be reset; or it was, and did not come back.
    """
    failure = f"{device.model} could not be reset"
    with _raising_remedy_failed(failure, _RESET_HINTS, device) as attempt:
        node = os.open(device.bus_node, os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(node, _USBDEVFS_RESET)
        except OSError as error:
            # ENODEV says that the camera did not come back from the reset; other errors say that
            # the reset was not begun.
            attempt.done = error.errno == errno.ENODEV or not device.is_there()
            raise
        finally:
            os.close(node)


def reauthorize(device: UsbDevice) -> None:
    """Log a camera off its bus and on again, as if it were plugged in anew. Needs root.

    Blocks for a second as a rule: call it in a worker thread.

    Raises:
        RemedyFailed: It could not be logged off; or it was, and could not be logged on again.
    """
    failure = f"{device.model} could not be logged off and on"
    with _raising_remedy_failed(failure, _AUTHORIZE_HINTS, device) as attempt:
        switch = device.sysfs / "authorized"
        try:
            _off_and_on(attempt, lambda: _write(switch, "0"), lambda: _write(switch, "1"))
        except OSError as error:
            if error.errno in (*_AUTHORIZE_HINTS, errno.ENODEV) or not device.sysfs.exists():
                raise
            driver = (device.sysfs / "driver").resolve()  # unbinding removes the link
            _off_and_on(
                attempt,
                lambda: _write(driver / "unbind", device.port),
                lambda: _write(driver / "bind", device.port),
            )


def _off_and_on(attempt: _Attempt, off: Callable[[], None], on: Callable[[], None]) -> None:
    """Switch a camera off and on: on in any case, lest it stay off until the next reboot."""
    try:
        off()
        attempt.done = True
        time.sleep(_PAUSE)
    finally:
        on()


def _write(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # unlike open(), makes no file if it is gone
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


@contextmanager
def _raising_remedy_failed(
    failure: str, hints: dict[int, str], device: UsbDevice
) -> Iterator[_Attempt]:
    """Turn an OSError into RemedyFailed, with what a person can do about it."""
    if not device.is_there():  # another device may be at its port
        raise RemedyFailed(f"{failure}: it left its USB port", _UNPLUG)
    attempt = _Attempt()
    try:
        yield attempt
    except OSError as error:
        code = error.errno or 0
        has_left = code == errno.ENODEV or not device.is_there()
        why = "it left its USB port" if has_left else error.strerror
        hint = _UNPLUG if has_left else hints.get(code, _UNPLUG)
        raise RemedyFailed(f"{failure}: {why}", hint, done=attempt.done) from error
