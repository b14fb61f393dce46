"""Wakeups: how few of them a camera's pictures need.

The kernel would wake us up for every piece of a picture. It can be told to wait until some number
of bytes is there (SO_RCVLOWAT). So a picture that says how long it is wakes us up once, when it is
whole. While nobody watches, pictures are coalesced as well: half of what an unwatched picture costs
is the wake-up.

Some cameras send the next picture only when all of the last one was acknowledged. The kernel
acknowledges the end of a picture at once when it is read, and otherwise up to 40 ms later: such a
camera sent 13 pictures a second in place of 30 (measured). So the rate is compared, and a camera
that suffers is never coalesced again.
"""

import asyncio
import contextlib
import socket

import structlog

# The kernel may hold back at most this much: half of what the inbox has room for, since a full
# inbox holds the camera back.
_MOST_AWAITED = 2**19
# A camera may promise more than it sends: what has not come after this time may never come.
_LATE = 0.1
# How long the rate is measured before pictures are coalesced, and while they are.
_SETTLED_AFTER = 10.0
_JUDGED_AFTER = 5.0
# Less than this share of the rate before is harm. A rate varies by itself, with the light for one.
_ENOUGH = 0.8

log = structlog.get_logger()


class Wakeups:
    """Decides when the kernel wakes us up for what a camera sends, through all its connections.

    Args:
        pause: Seconds that a picture may wait for others while nobody watches.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._watched = False
        self._does_harm = False
        self._coalesces = False
        self._socket: socket.socket | None = None
        self._awaited = 0
        self._overdue: asyncio.TimerHandle | None = None
        # Pictures are counted since then.
        self._since: float | None = None
        self._pictures_then = 0
        self._rate_before: float | None = None

    def attach(self, connection: socket.socket | None) -> None:
        """Begin with a new connection; with none under TLS, where nobody knows how much comes."""
        self._socket = connection

    def detach(self) -> None:
        """Let go of the connection: it is about to be closed."""
        self._at_once()
        self._socket = None

    def watch(self, *, watched: bool) -> None:
        """Take note whether somebody is looking: for them no picture waits."""
        self._watched = watched
        if watched and self._coalesces:
            self._at_once()

    def note_progress(self, pictures: int, missing: int) -> None:
        """Decide what to be woken up for next; called at each wake-up, from the first picture on.

        Args:
            pictures: How many this connection has brought.
            missing: Bytes until the next one is whole; 0 where that is not known.
        """
        if self._socket is None:
            return
        if not self._watched or self._since is None:
            self._compare_rates(pictures)
        if self._coalesces:
            self._await(_MOST_AWAITED, within=self._pause)
        elif missing or self._awaited:
            self._await(min(missing, _MOST_AWAITED), within=_LATE)

    def _compare_rates(self, pictures: int) -> None:
        """Begin to coalesce when the rate is known, and see that it does not fall."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since, self._pictures_then = now, pictures
        seconds = now - self._since
        if self._coalesces:
            if self._rate_before and seconds >= _JUDGED_AFTER:
                self._judge((pictures - self._pictures_then) / seconds, self._rate_before)
        elif seconds >= _SETTLED_AFTER and not self._watched and not self._does_harm:
            self._coalesces = True
            self._rate_before = (pictures - self._pictures_then) / seconds
            self._since, self._pictures_then = now, pictures

    def _judge(self, rate: float, before: float) -> None:
        """Stop coalescing for good if fewer pictures come than did."""
        self._rate_before = None
        if rate < _ENOUGH * before:
            log.debug("source.not_coalesced", fps=round(rate, 1), before=round(before, 1))
            self._does_harm = True
            self._at_once()

    def _at_once(self) -> None:
        """Be woken up for whatever comes, and measure the rate anew."""
        self._coalesces = False
        self._since = self._rate_before = None
        self._await(0)

    def _await(self, count: int, *, within: float = 0.0) -> None:
        """Have the kernel wake us up for so many bytes, or when a time has passed; 0: for any."""
        if self._overdue:
            self._overdue.cancel()
            self._overdue = None
        if count:
            self._overdue = asyncio.get_running_loop().call_later(within, self._await, 0)
        if self._socket is None or count == self._awaited:
            return
        self._awaited = count
        with contextlib.suppress(OSError):
            # Lowering it makes the kernel look again (Linux 4.18 and later).
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(count, 1))
