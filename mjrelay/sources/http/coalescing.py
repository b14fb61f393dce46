"""Coalescing: a camera's pictures a few at a time while nobody watches, if it does not mind.

Half of what a picture costs that nobody watches is to be woken up for it.

Some cameras send the next picture only when all of the last one was acknowledged. The kernel
acknowledges the end of a picture at once when it is read, and else up to 40 ms later: such a camera
sent 13 pictures a second in place of 30 (measured). It is found out, and let alone.
"""

import asyncio
from collections.abc import Callable

import structlog

from mjrelay.sources.http.connection import Connection

# The rate is measured for so long before pictures wait, and for so long while they do.
_SETTLED_AFTER = 10.0
_JUDGED_AFTER = 5.0
# Less than this share of the rate before is harm. A rate varies by itself, with the light for one.
_ENOUGH = 0.8

log = structlog.get_logger()


class Coalescing:
    """Decides when what a connection brings may wait for more.

    Args:
        pause: Seconds a picture may wait for others.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._watched = False
        self._does_harm = False
        self._connection: Connection | None = None
        self._count: Callable[[], int] = int
        self._since, self._before = 0.0, 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody is looking, for whom no picture shall wait."""
        return self._watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        if watched == self._watched:
            return
        self._watched = watched
        if self._connection and watched:
            self._stop()
        elif self._connection:
            self._start_soon()

    def begin(self, connection: Connection, count: Callable[[], int]) -> None:
        """Take up a connection that has brought its first picture; again and again is fine.

        Args:
            connection: Where pictures come from.
            count: How many pictures it has brought so far.
        """
        if connection is self._connection or not connection.can_wait:
            return
        self._connection, self._count = connection, count
        self._note()
        if not self._watched:
            self._start_soon()

    def end(self) -> None:
        """Let go of the connection, if there is one."""
        self._cancel()
        self._connection, self._count = None, int

    def _start_soon(self) -> None:
        """Start once it is known how many pictures come."""
        self._after(_SETTLED_AFTER - self._noted_for(), self._start)

    def _start(self) -> None:
        assert self._connection
        if self._does_harm:
            return
        rate = self._rate()
        self._note()
        self._connection.coalesce(self._pause)
        self._after(_JUDGED_AFTER, self._judge, rate)

    def _stop(self) -> None:
        assert self._connection
        self._cancel()
        self._connection.coalesce(0)
        self._note()

    def _judge(self, rate: float) -> None:
        """Stop for good if fewer pictures come than did."""
        if self._rate() < _ENOUGH * rate:
            log.debug("source.not_coalesced", fps=round(self._rate(), 1), before=round(rate, 1))
            self._does_harm = True
            self._stop()

    def _note(self) -> None:
        """Begin to count pictures."""
        self._since, self._before = asyncio.get_running_loop().time(), self._count()

    def _noted_for(self) -> float:
        return asyncio.get_running_loop().time() - self._since

    def _rate(self) -> float:
        """Pictures per second since they were last noted."""
        return (self._count() - self._before) / self._noted_for()

    def _after(self, seconds: float, act: Callable[..., None], *arguments: float) -> None:
        self._cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, act, *arguments)

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
