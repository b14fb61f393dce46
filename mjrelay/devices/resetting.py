"""Resetting a camera without taking it away from anybody. It may block for seconds."""

import errno
import time
from collections.abc import Callable

from mjrelay.devices.capture import Capture
from mjrelay.devices.holders import describe, find_holders
from mjrelay.devices.nodes import UsbDevice, VideoNode, siblings
from mjrelay.errors import RemedyFailed, SourceError

# Usually it is back when the reset returns; udev makes its links a moment later, on a busy computer
# seconds later.
_BACK_WITHIN = 6.0
_LOOK_EVERY = 0.1
_NOT_ASKED = (errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def reset_unless_held(
    find: Callable[[UsbDevice | None], VideoNode],
    act: Callable[[UsbDevice], None],
    *,
    force: bool = False,
) -> VideoNode:
    """Reset a camera, and wait until it is back.

    Args:
        find: Finds its node, and after the reset that of the same device; raises SourceError
            while it is not there.
        act: Resets a USB device.
        force: Even if another process has it, which throws that process out.

    Returns:
        Its node, which may have another number now.

    Raises:
        RemedyFailed: Somebody has it, it is no USB device, it cannot be reset, or it did not come
            back.
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
        _refuse_if_held(node)
    act(node.usb)
    until = time.monotonic() + _BACK_WITHIN
    while True:
        try:
            return find(node.usb)
        except SourceError as error:
            if time.monotonic() > until:
                raise RemedyFailed(
                    f"the camera did not come back within {_BACK_WITHIN:g} s of the reset",
                    "unplug it and plug it in again",
                ) from error
            time.sleep(_LOOK_EVERY)


def _refuse_if_held(node: VideoNode) -> None:
    """Raise RemedyFailed if another process has a camera, or may have it: any node of it."""
    for each in (node, *siblings(node)):
        if _may_be_claimed(each.path):
            search = find_holders(each.number)
            if search.holders or search.hidden:
                raise RemedyFailed(f"{each.path} is in use", describe(search), is_held=True)


def _may_be_claimed(path: str) -> bool:
    """Whether somebody has claimed a node, or we are not able to ask."""
    device = Capture()
    try:
        return device.open(path) and device.is_claimed()
    except OSError as error:  # most likely of a camera that needs the reset
        return error.errno in _NOT_ASKED
    finally:
        device.close()
