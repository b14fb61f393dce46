"""Readers of options: how each kind of TOML value is understood.

A reader returns the value, or raises ValueError with what it expected.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from mjrelay.configuration.address import Address, ListenAddress
from mjrelay.configuration.slips import quoted
from mjrelay.configuration.suggestions import read_source, shown

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)$")
_DURATIONS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)$")
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9}
# Numbers and sizes in bytes from these on are taken for a slip of the hand.
_MAX, _MAX_BYTES = 1e9, 2**40
_PICTURE_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})$")
_ORIGIN = re.compile(r"\*$|[a-z][a-z0-9+.-]*://[^/\s]+$", re.IGNORECASE)

AUTO = "auto"
"""Leaves the choice of a size or format to us."""

T = TypeVar("T")


def text(value: object) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    return value


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def seconds(value: object) -> float:
    """A duration, in seconds."""
    if isinstance(value, str) and (match := _DURATION.match(value)):
        value = float(match[1]) * _DURATIONS[match[2]]
    return number(value, 'seconds, as in 2.5, or a text such as "5 s" or "250 ms"')


def positive_seconds(value: object) -> float:
    """A duration above 0, in seconds."""
    if not (duration := seconds(value)):
        raise ValueError("more than 0 seconds")
    return duration


def number(value: object, expected: str = "a number, 0 or more") -> float:
    """A number, 0 or more. The error says `expected`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX:
        raise ValueError(expected)
    return float(value)


def size(value: object) -> int:
    """A size, in bytes."""
    if isinstance(value, str) and (match := _SIZE.match(value)):
        value = float(match[1]) * _SIZES[match[2]]
    elif isinstance(value, bool) or not isinstance(value, int):
        value = 0
    if not 1 <= value < _MAX_BYTES:
        raise ValueError('a size such as "8 MiB", or a number of bytes')
    return int(value)


def one_of(*choices: str) -> Callable[[object], str]:
    """Make a reader that accepts only these words."""

    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(" or ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return read


def list_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Make a reader of lists, whose items `read` reads."""

    def read_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            such = f", such as [{quoted(shown(value))}]" if isinstance(value, str) else ""
            raise ValueError(f"a list in [brackets]{such}")
        return tuple(read(item) for item in value)

    return read_list


def source(value: object) -> Address:
    """The SOURCE of a camera."""
    return read_source(text(value))


def picture_size(value: object) -> tuple[int, int] | None:
    """Width and height in pixels, or None to let us choose."""
    if value == AUTO:
        return None
    match = _PICTURE_SIZE.match(text(value))
    if not match:
        raise ValueError('"auto" or a size such as "1280x720"')
    return int(match[1]), int(match[2])


def pixel_format(value: object) -> str:
    """The format in which a device gives its pictures; empty to let us choose."""
    known = one_of(AUTO, "MJPG", "YUYV")(value)
    return "" if known == AUTO else known


def usb_reset(value: object) -> bool | str:
    """Whether a camera may be reset; "force": even while another program has it open."""
    if value != "force" and not isinstance(value, bool):
        raise ValueError('true, false or "force"')
    return value


def controls(value: object) -> dict[str, int]:
    """Settings of the camera, by name."""
    if not isinstance(value, dict) or not all(isinstance(v, int) for v in value.values()):
        raise ValueError("a table of whole numbers such as { brightness = 128 }")
    return {name: int(setting) for name, setting in value.items()}


def listen(value: object) -> ListenAddress:
    """An address to listen on."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f'a text in quotes such as "0.0.0.0:{value}"')
    return ListenAddress.parse(text(value))


def listen_table(value: object) -> dict[str, ListenAddress]:
    """Addresses to listen on, by the name of the camera shown there."""
    if not isinstance(value, dict):
        raise ValueError('a table such as { front = "0.0.0.0:8081" }')
    return {name: listen(address) for name, address in value.items()}


def origin(value: object) -> str:
    """A web origin, or "*" for all."""
    known = text(value).rstrip("/")
    if not _ORIGIN.match(known):
        raise ValueError('"*" or origins such as "https://example.org"')
    return known


def base_path(value: object) -> str:
    """A path that begins and ends with a slash."""
    path = text(value)
    if not path.startswith("/") or re.search(r"[?#\s{}]|//", path):
        raise ValueError('a path such as "/webcam/"')
    return path if path.endswith("/") else path + "/"
