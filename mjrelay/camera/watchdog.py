"""Watchdog: ends a wait in which nothing has happened for too long."""

import asyncio
from types import TracebackType
from typing import Self


class Watchdog:
    """While entered, raises TimeoutError unless it is fed in time; or ends quietly when told to.

    Feeding moves a time, not a timer: it can be done for every frame.

    Args:
        patience: Seconds until it is to be fed first.
    """

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._is_released = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._until = self._loop.time() + self._patience
        self._arm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._disarm()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if not self._is_released:
                raise
            return True
        return False

    def feed(self, until: float) -> None:
        """Raise at a moment of the loop's clock, the monotonic one, unless fed again before."""
        self._until = until
        if until < self._due:
            self._arm()

    def release(self) -> None:
        """End what is entered at the next turn of the loop, without an error."""
        self._is_released = True
        self._expire()

    def _check(self) -> None:
        if self._loop.time() >= self._until:
            self._expire()
        else:
            self._arm()

    def _expire(self) -> None:
        if not self._timeout.expired():
            self._timeout.reschedule(0)

    def _arm(self) -> None:
        self._disarm()
        self._due = self._until
        self._timer = self._loop.call_at(self._due, self._check)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
