"""The files that this process has open, and how many more it may open."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path


def descriptors() -> set[int]:
    """The number of each open file; also of the one by which they are listed."""
    return {int(each.name) for each in Path("/proc/self/fd").iterdir()}


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Let only so many more files be open."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 20, most))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
        for descriptor in taken:
            os.close(descriptor)
