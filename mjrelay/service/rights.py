"""What the programs we start may do: less than we."""

import ctypes

# linux/prctl.h
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def keep_capabilities() -> None:
    """Keep the capabilities that systemd gave us from the programs of `exec:` sources.

    Ours remain; a kernel without ambient capabilities (before 4.3) has none to clear.
    """
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
