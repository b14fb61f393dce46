"""Past: a camera's frames of the last seconds, in a file in memory that is used again in place.

Each frame is written once, at the place of those that are over by then: memory that the kernel has
given already. Objects of the heap would each begin in memory that no processor's cache has.
"""

import errno
import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from mjrelay.camera.frame import Frame

# What is noted of a frame takes memory too: tiny frames must not fill it either.
_LEAST_SPACE = 500
# What could not be had may be there later; to ask for each frame would cost more than the frame.
_RETRY_AFTER = 60.0

_FULL = "let more files be open, with LimitNOFILE= in the unit or ulimit -n"
_NO_MEMORY = "end other programs, or keep less: `ring` and `ring_bytes` in the configuration"
_HINTS: dict[int | None, str] = {errno.EMFILE: _FULL, errno.ENFILE: _FULL}

log = structlog.get_logger()


class _Kept(NamedTuple):
    """Where a frame is."""

    seq: int
    captured_at: float
    monotonic: float
    place: int
    length: int


class Past:
    """The latest frames added, oldest first; it ends with the last one, or is empty.

    The file is made for the first frame. Where there is no room for it, nothing is kept, and the
    log says so once.

    Args:
        seconds: How far back to keep frames; 0 keeps none, and makes no file.
        max_bytes: How large the file may be.
    """

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        self._kept: deque[_Kept] = deque()
        self._fd = -1
        self._close: Callable[[], object] | None = None
        self.configure(seconds=seconds, max_bytes=max_bytes)

    def configure(self, *, seconds: float, max_bytes: int) -> None:
        """Forget all, and set other limits."""
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._retry_at = -math.inf
        self._told = False
        self.clear()

    def clear(self) -> None:
        """Forget all, and give the memory and the descriptor back. The next frame begins anew."""
        self._kept.clear()
        self._next = self._size = 0
        if self._close:
            self._close()
            self._close = None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, frame: Frame) -> None:
        """Keep a frame, of a higher number than those before, at the cost of those that are over.

        Never fails: where there is no room, all is forgotten.
        """
        if not self._seconds or frame.monotonic < self._retry_at:
            return
        space = max(len(frame.image), _LEAST_SPACE)
        if space > self._max_bytes:
            self._kept.clear()
            return
        try:
            self._write(frame, space)
        except OSError as error:
            self.clear()
            self._retry_at = frame.monotonic + _RETRY_AFTER
            self._tell(error)

    def since(self, moment: float) -> Iterator[tuple[float, bytes]]:
        """What is kept now from a moment of the monotonic clock on: Unix times and images.

        Each image is read when it is asked for. One that is over by then is left out.
        """
        return self._read([kept for kept in self._kept if kept.monotonic >= moment])

    def _read(self, wanted: list[_Kept]) -> Iterator[tuple[float, bytes]]:
        for kept in wanted:
            if self._kept and self._kept[0].seq <= kept.seq:
                yield kept.captured_at, os.pread(self._fd, kept.length, kept.place)

    def _write(self, frame: Frame, space: int) -> None:
        if not self._close:
            self._open()
        place = self._make_room(space, frame.monotonic - self._seconds)
        length = len(frame.image)
        if os.pwrite(self._fd, frame.image, place) < length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._kept.append(_Kept(frame.seq, frame.captured_at, frame.monotonic, place, length))

    def _open(self) -> None:
        self._fd = os.memfd_create("mjrelay-past", os.MFD_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._fd)

    def _make_room(self, space: int, oldest: float) -> int:
        """Forget what is older than a moment, and what is in the way; where there is room then.

        Frames lie one behind the other, round and round. The file grows only at its end, and only
        while the frames at its beginning are not over yet.
        """
        kept = self._kept
        while kept and kept[0].monotonic < oldest:
            kept.popleft()
        if self._next + space > self._size:
            self._forget_from(self._next, self._size)  # the rest of the round before
            fits_in_front = not kept or kept[0].place >= space
            if fits_in_front or self._next + space > self._max_bytes:
                self._next = 0
        place, self._next = self._next, self._next + space
        self._size = max(self._size, self._next)
        self._forget_from(place, self._next)
        return place

    def _forget_from(self, begin: int, end: int) -> None:
        """Forget the oldest frames as long as they lie in a part of the file."""
        while self._kept and begin <= self._kept[0].place < end:
            self._kept.popleft()

    def _tell(self, error: OSError) -> None:
        if not self._told:
            hint = _HINTS.get(error.errno, _NO_MEMORY)
            log.warning("past.left_out", reason=error.strerror, hint=hint)
        self._told = True
