"""What a failed request to a device means, and what a person can do about it."""

import errno
import os
import pwd
from collections.abc import Sequence

from mjrelay.devices.holders import Holders
from mjrelay.devices.modes import Mode, lower
from mjrelay.errors import (
    MORE_FILES,
    SourceBroken,
    SourceBusy,
    SourceError,
    SourceRefused,
    SourceUnreachable,
)

GONE = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
"""The errors of any request to a device that was unplugged or reset."""
BUSY = errno.EBUSY

_SHORTAGES = {
    errno.EPERM: "allow it: DeviceAllow=char-81 rw in the unit, or --device for a container",
    errno.EMFILE: MORE_FILES,
    errno.ENFILE: MORE_FILES,
    errno.ENOMEM: "there is no memory left: choose a smaller size, or end other programs",
}
_SETTING_UP = ("VIDIOC_S_FMT", "VIDIOC_S_PARM", "VIDIOC_REQBUFS", "VIDIOC_STREAMON")
_CABLE = "check the cable and, if it hangs on a hub, the hub's power supply"


def reason(error: OSError, kernel: Sequence[str] = ()) -> str:
    """One line: the request that failed, its error, and the kernel's messages on the device."""
    said = f" (kernel: {'; '.join(kernel)})" if kernel else ""
    return f"{error.filename or 'the camera'}: {error.strerror or error}{said}"


def source_error(
    error: OSError,
    *,
    kernel: Sequence[str] = (),
    mode: Mode | None = None,
    has: Sequence[Mode] = (),
) -> SourceError:
    """The source error for a failed request to a device, unless that is busy.

    Args:
        error: The failure. Its `filename` is the name of the request.
        kernel: The kernel's latest messages about the device.
        mode: The mode that was set or tried.
        has: The modes that the device has.
    """
    if error.errno in GONE:
        return gone()
    what = reason(error, kernel)
    if error.errno == errno.ENOSPC:
        what += f": the USB bus has no room for {mode}"
    if hint := _no_fault_of_the_camera(error, mode, has):
        return SourceRefused(what, hint)
    return SourceBroken(what, _CABLE)


def _no_fault_of_the_camera(error: OSError, mode: Mode | None, has: Sequence[Mode]) -> str | None:
    """The hint for an error that no reset would cure; None for every other error."""
    if error.errno == errno.EACCES:
        return _how_to_be_allowed()
    if error.errno == errno.ENOSPC:
        return _less(mode, has)
    if error.errno == errno.EINVAL and error.filename in _SETTING_UP:
        return "try another size, fps or format" + (f" than {mode}" if mode else "")
    return _SHORTAGES.get(error.errno or 0)


def gone() -> SourceUnreachable:
    """The source error of a device that is no longer there."""
    return SourceUnreachable("the camera was unplugged or reset", "plug it in again")


def busy(error: OSError, holders: Holders) -> SourceBusy:
    """The source error for a device that another program has claimed."""
    return SourceBusy(reason(error), str(holders), taken=holders.may_exist)


def _how_to_be_allowed() -> str:
    if os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()):
        return "give the service the group: SupplementaryGroups=video in its unit"
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container
        return "run mjrelay as a user of group video"
    return f"run: sudo usermod -aG video {user}  and log in again"


def _less(mode: Mode | None, modes: Sequence[Mode]) -> str:
    smaller = lower(modes, mode) if mode else None
    other = "plug the camera into another port, best one of another USB controller"
    if smaller is None:
        return other
    return f'set size = "{smaller.width}x{smaller.height}" or a lower fps, or {other}'
