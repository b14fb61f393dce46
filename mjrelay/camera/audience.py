"""Audience: how many viewers a camera has, and whether it should be open."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator


class Audience:
    """The viewers of one camera: every request that keeps it open, those for a snapshot included.

    Attributes:
        viewers: How many the camera has now.
        linger: Seconds for which the camera stays open without viewers; infinite for one that is
            always open.
        watched_for: Seconds after the last viewer has left in which the camera still counts as
            watched: a client that polls snapshots is a viewer only for moments.
    """

    def __init__(self) -> None:
        self.viewers = 0
        self.linger = math.inf
        self.watched_for = 10.0
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
        """Whether the camera has viewers, or had some a moment ago."""
        return bool(self.viewers) or time.monotonic() - self._left_at < self.watched_for

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
