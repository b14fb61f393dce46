"""Rights: programs that we start may do less than mjrelay itself."""

import ctypes
import os

import structlog

# linux/prctl.h
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

log = structlog.get_logger()


def withhold_capabilities() -> None:
    """Let the programs of `exec:` sources inherit none of the capabilities that systemd gave us."""
    if _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0):
        log.warning(
            "rights.not_withheld",
            reason=f"programs of exec: sources may do what mjrelay may: "
            f"{os.strerror(ctypes.get_errno())}",
            hint="run it as a user without capabilities",
        )
