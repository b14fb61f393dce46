"""Which files hold a camera's past."""

from pathlib import Path


def open_pasts() -> list[str]:
    """The files of pasts that this process has open."""
    return [
        name for name in map(_target, Path("/proc/self/fd").iterdir()) if "mjrelay-past" in name
    ]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # the folder's own, by which it was read
        return ""
