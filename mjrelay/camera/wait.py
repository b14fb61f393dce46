"""Wait: the time from a failure to the next attempt, and what makes it shorter."""

import asyncio
import time


class Wait:
    """The wait from a failure of a source to the next attempt to open it.

    It counts from `begin` on, though the camera may have something to do before it waits.
    """

    def __init__(self) -> None:
        self._began = self._least = 0.0
        self._ends: float | None = None
        self._timeout: asyncio.Timeout | None = None
        self._woken = asyncio.Event()

    @property
    def left(self) -> float | None:
        """Seconds until it ends; None where there is nothing to wait for."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def begin(self, seconds: float, *, least: float = 0.0) -> None:
        """Begin, for so many seconds; `shorten` leaves at least `least` of them."""
        self._began, self._least = time.monotonic(), least
        self._ends = self._began + seconds

    def shorten(self, seconds: float) -> None:
        """Let it end so many seconds after it began, if that is sooner than planned."""
        soonest = self._began + max(seconds, self._least)
        if self._ends is not None and soonest < self._ends:
            self._ends = soonest
            if self._timeout and not self._timeout.expired():
                self._timeout.reschedule(soonest)

    def wake(self) -> None:
        """End it now; or the next one at once, unless that is forgotten before."""
        self._woken.set()

    def forget_wake(self) -> None:
        """Let no `wake` from before count."""
        self._woken.clear()

    async def over(self) -> None:
        """Wait until it is over; return at once where there is nothing to wait for."""
        try:
            async with asyncio.timeout(self.left or 0) as self._timeout:
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            self._ends = self._timeout = None
