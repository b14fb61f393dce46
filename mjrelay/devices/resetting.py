"""Resetting a camera without taking it from another program."""

import errno
import time
from collections.abc import Callable

from mjrelay.devices.computer import Devices
from mjrelay.devices.nodes import UsbDevice, VideoNode
from mjrelay.devices.timing import USUAL, Timing
from mjrelay.errors import RemedyFailed, SourceError

# Errors of opening a node that leave open whether another process has claimed the camera.
_NOT_ASKED = (errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def reset_unless_held(
    find: Callable[[UsbDevice | None], VideoNode],
    act: Callable[[UsbDevice], None],
    devices: Devices,
    *,
    force: bool = False,
    timing: Timing = USUAL,
) -> VideoNode:
    """Reset a camera, and wait until it is back. Blocks for seconds.

    Args:
        find: Given None, finds the camera's node; given the device that was reset, finds the node
            of that one. Raises SourceError if it is not there.
        act: Resets a USB device.
        devices: The devices of the computer.
        force: Reset it even if another process has it open. That process loses it.
        timing: How long to wait until it is back.

    Returns:
        Its node, which may have another number now.

    Raises:
        RemedyFailed: Another process has the camera open, it is no USB device, or it cannot be
            reset; or it was reset and did not come back.
    """
    try:
        node = find(None)
    except SourceError as error:
        raise RemedyFailed(error.reason, error.hint) from error
    if node.usb is None:
        raise RemedyFailed(
            f"{node.path} is no USB device, so it cannot be reset",
            "unplug it or restart the computer; `mjrelay devices` lists the USB cameras",
        )
    if not force:
        _refuse_if_held(node, devices)
    act(node.usb)
    return _back(find, node.usb, timing)


def _back(
    find: Callable[[UsbDevice | None], VideoNode], device: UsbDevice, timing: Timing
) -> VideoNode:
    """Wait until a camera is back after its reset."""
    until = time.monotonic() + timing.back_within
    while True:
        try:
            return find(device)
        except SourceError as error:
            if time.monotonic() > until:
                raise RemedyFailed(
                    f"the camera did not come back within {timing.back_within:g} s of the reset",
                    "unplug it and plug it in again",
                    done=True,
                ) from error
            time.sleep(timing.look_every)


def _refuse_if_held(node: VideoNode, devices: Devices) -> None:
    """Raise RemedyFailed if another process has any node of a camera open, or may have."""
    for each in (node, *devices.siblings(node)):
        if _may_be_claimed(each.path, devices):
            holders = devices.holders(each.number)
            if holders.may_exist:
                raise RemedyFailed(f"{each.path} is in use", str(holders), is_held=True)


def _may_be_claimed(path: str, devices: Devices) -> bool:
    """Whether a process has claimed a node, or we cannot find out."""
    device = devices.capture()
    try:
        return device.open(path) and device.is_claimed()
    except OSError as error:  # other errors than these are likely what the reset should cure
        return error.errno in _NOT_ASKED
    finally:
        device.close()
