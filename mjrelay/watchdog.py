"""Watchdog: ends a wait in which nothing has happened for too long."""

import asyncio
from types import TracebackType
from typing import Self


class Watchdog:
    """While entered, raises TimeoutError unless it is fed in time.

    Feeding moves a time, not a timer: it can be done for every frame.

    Args:
        patience: Seconds until it is to be fed first.
    """

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + patience
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._disarm()
        await self._timeout.__aexit__(kind, error, traceback)

    def feed(self, until: float) -> None:
        """Be quiet until a moment of the monotonic clock."""
        self._until = until
        if until < self._due:
            self._arm()

    def bite(self) -> None:
        """Raise now."""
        if not self._timeout.expired():
            self._timeout.reschedule(0)

    def _look(self) -> None:
        if self._loop.time() >= self._until:
            self.bite()
        else:
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        self._due = self._until
        self._timer = self._loop.call_at(self._due, self._look)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
