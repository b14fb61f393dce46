"""The kernel's latest messages about a device: often they alone tell why a camera fails."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Longer than any record: a shorter buffer is refused.
_RECORD_SIZE = 2**13
# More than any kernel keeps: an end, should it write faster than we read.
_MAX_RECORDS = 100_000
# A hint has no room for more.
_MAX_MESSAGES = 3
# The kernel's own messages count from 0 (emergency) to 7 (debug); those of programs begin at 8.
_WARNING = 4
# Priority and facility, sequence number, microseconds since boot, flags and more; the message.
_RECORD = re.compile(r"(\d+),\d+,(\d+),[^;]*;(.*)")


def recent_messages(
    about: Sequence[str], *, within: float, path: Path = Path("/dev/kmsg")
) -> list[str]:
    """The kernel's latest messages about a device, the newest last; none if we may not read them.

    Reads all the kernel remembers, some milliseconds long: call it in a worker thread.

    Args:
        about: What a message may call the device, such as `usb 1-1`, which is not `usb 1-1.2`.
        within: How old a message may be, in seconds.
        path: Where the kernel's messages are read.
    """
    names = "|".join(map(re.escape, about))
    subject = re.compile(rf"(?<!\w)(?:{names})(?!\d|\.\d)")
    since = _now() - within
    # A dict, for its order: a message that is repeated moves to the end.
    found: dict[str, None] = {}
    for record in _records(path):
        said_at, message = _parse(record)
        if said_at >= since and subject.search(message):
            found.pop(message, None)
            found[message] = None
    return list(found)[-_MAX_MESSAGES:]


def _now() -> float:
    # The clock which the kernel stamps its messages with. Nothing adjusts it, not even NTP.
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


def _records(path: Path) -> Iterator[str]:
    """Read all records that the kernel still has."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for _ in range(_MAX_RECORDS):
            try:
                data = os.read(file, _RECORD_SIZE)
            except BrokenPipeError:  # the kernel wrote over it: the next read has the oldest left
                continue
            except OSError:  # no more, or no right to read
                return
            if not data:
                return
            yield data.decode("utf-8", "replace")
    finally:
        os.close(file)


def _parse(record: str) -> tuple[float, str]:
    """The time and the text of a message; 0 and no text if it is not a warning of the kernel's."""
    # The lines after the first are properties for programs.
    match = _RECORD.match(record)
    if not match or int(match[1]) > _WARNING:
        return 0.0, ""
    return int(match[2]) / 1e6, match[3].strip()
