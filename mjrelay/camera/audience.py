"""Audience: how many watch a camera, and whether it is wanted."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator

# A client that polls single pictures comes and goes: this long after the last viewer has left, it
# still counts as watched.
_WATCHED_FOR = 10.0


class Audience:
    """The viewers of one camera: every request that keeps it open, those for a snapshot included.

    Attributes:
        viewers: How many there are now.
        linger: Seconds for which a camera without viewers is still wanted; infinite for one that
            is always open.
    """

    def __init__(self) -> None:
        self.viewers = 0
        self.linger = math.inf
        self._left_at = -math.inf
        self._came = asyncio.Event()

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Count one more viewer while entered."""
        self.viewers += 1
        self._came.set()
        try:
            yield
        finally:
            self.viewers -= 1
            if not self.viewers:
                self._came.clear()
                self._left_at = time.monotonic()

    @property
    def is_watching(self) -> bool:
        """Whether somebody watches, or did until a moment ago."""
        return bool(self.viewers) or time.monotonic() - self._left_at < _WATCHED_FOR

    @property
    def wants_pictures(self) -> bool:
        """Whether the camera should be open."""
        return (
            bool(self.viewers)
            or self.linger == math.inf
            or time.monotonic() - self._left_at < self.linger
        )

    async def arrives(self) -> None:
        """Wait until there is a viewer."""
        await self._came.wait()
