"""The capabilities that systemd gave us: in force only while we look for who has a camera.

With them every file of the computer can be read. What is in force is a thread's own affair.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import structlog

# linux/capability.h: what it takes to look into processes of other users.
_DAC_READ_SEARCH, _SYS_PTRACE = 1 << 2, 1 << 19
_LOOKING = _DAC_READ_SEARCH | _SYS_PTRACE
_THIS_THREAD = (ctypes.c_uint32 * 2)(0x20080522, 0)  # in the third version of the call
# Effective, permitted and inheritable ones; and once more, for those from number 32 on.
_Words = ctypes.c_uint32 * 6
# linux/prctl.h
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)

log = structlog.get_logger()


def withhold_capabilities() -> None:
    """Keep them from ourselves until they are needed, and from the programs of `exec:` sources.

    Call it before there are other threads.
    """
    try:
        _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        _put_in_force(_capabilities()[0] & ~_LOOKING)
    except OSError as error:
        log.warning(
            "rights.not_withheld",
            reason=f"capabilities cannot be set aside: {error.strerror}",
            hint="let the unit allow it: SystemCallFilter=capset",
        )


@contextlib.contextmanager
def looking_everywhere() -> Iterator[None]:
    """This thread may look into processes of other users while entered, if we may at all."""
    effective, permitted, *_ = _capabilities()
    _put_in_force(effective | (permitted & _LOOKING))
    try:
        yield
    finally:
        _put_in_force(effective)


def _capabilities() -> "ctypes.Array[ctypes.c_uint32]":
    words = _Words()
    _checked(_libc.capget(_THIS_THREAD, words))
    return words


def _put_in_force(effective: int) -> None:
    words = _capabilities()
    if words[0] != effective:
        words[0] = effective
        _checked(_libc.capset(_THIS_THREAD, words))


def _checked(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
