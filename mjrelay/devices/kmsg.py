"""The kernel's latest messages about a device: often only they tell why a camera fails."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Bytes to read at once, more than any record has: the kernel refuses a buffer that is too short.
_RECORD_SIZE = 2**13
# More records than any kernel keeps: so reading ends even if it writes faster than we read.
_MAX_RECORDS = 100_000
# The hint that shows the messages has no room for more.
_MAX_MESSAGES = 3
# The kernel's own messages have the levels 0 (emergency) to 7 (debug); for those of programs the
# number is 8 or more.
_WARNING = 4
# Level, sequence number, microseconds since boot, flags and more; then the message.
_RECORD = re.compile(r"(\d+),\d+,(\d+),[^;]*;(.*)")


def recent_messages(
    about: Sequence[str], *, within: float, path: Path = Path("/dev/kmsg")
) -> list[str]:
    """The kernel's latest warnings about a device, the newest last; none if we may not read them.

    Reads all messages that the kernel keeps, which takes milliseconds: call it in a worker thread.

    Args:
        about: Names of the device in messages, such as `usb 1-1`, which does not find `usb 1-1.2`.
        within: How old a message may be, in seconds.
        path: The file of the kernel's messages.
    """
    names = "|".join(map(re.escape, about))
    subject = re.compile(rf"(?<!\w)(?:{names})(?!\d|\.\d)")
    since = _now() - within
    # An ordered set: a message that is repeated moves to the end.
    found: dict[str, None] = {}
    for record in _records(path):
        said_at, message = _parse(record)
        if said_at >= since and subject.search(message):
            found.pop(message, None)
            found[message] = None
    return list(found)[-_MAX_MESSAGES:]


def _now() -> float:
    # The clock of the kernel's time stamps, which unlike time.monotonic() is not adjusted by NTP.
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
            except BrokenPipeError:  # the kernel has overwritten this record: go on with the next
                continue
            except OSError:  # no more, or no right to read
                return
            if not data:
                return
            yield data.decode("utf-8", "replace")
    finally:
        os.close(file)


def _parse(record: str) -> tuple[float, str]:
    """The time and text of a record; 0 and no text if it is no warning or error of the kernel."""
    # The lines after the first are properties for programs.
    match = _RECORD.match(record)
    if not match or int(match[1]) > _WARNING:
        return 0.0, ""
    return int(match[2]) / 1e6, match[3].strip()
