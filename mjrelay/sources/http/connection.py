"""Connection: an open TCP or TLS connection to a camera, and what its end means."""

import asyncio
import mmap
from collections.abc import Callable
from typing import cast

from mjrelay.errors import GIVEN_AWAY, SourceLost
from mjrelay.sources.http.wakeups import Wakeups

# How long a camera may take to answer our FIN before we stop waiting for its own. Within the two
# seconds a shutdown may last.
CLOSE_TIMEOUT = 1.0
# Room for several pictures of most cameras. Memory is used only for the part that is filled.
_INBOX_SIZE = 2**20

Consume = Callable[[memoryview], bool]
"""Given bytes that have come, which it must use up before it returns. True: it wants no more."""


class Connection(asyncio.BufferedProtocol):
    """An open connection. A `Dialler` makes it; `close` ends it fully.

    What the camera has sent and nobody has taken yet waits in one buffer for the connection's life.
    When it is full, the camera is held back. (asyncio's streams make a new buffer for every read,
    which costs more than the reading.)

    Args:
        wakeups: Decides when the kernel wakes us up for what comes.

    Attributes:
        wakeups: The same, to be told of each wake-up.
        abort: Ends it at once, with no goodbye to the camera; fine where nothing has begun.
    """

    def __init__(self, wakeups: Wakeups) -> None:
        self.abort: Callable[[], None] = _do_nothing
        self.wakeups = wakeups
        self._closed = asyncio.get_running_loop().create_future()
        # Mapped, not a bytearray: pages that were never written take no memory.
        self._space = memoryview(mmap.mmap(-1, _INBOX_SIZE))
        self._filled = 0
        self._ended = False
        self._loss: SourceLost | None = None
        self._consume: Consume | None = None
        self._pumped: asyncio.Future[bool] | None = None

    def send(self, data: bytes) -> None:
        """Send a request. If that fails, reading the answer tells why."""
        self._transport.write(data)

    async def read(self) -> bytes:
        """Wait for the next bytes. Empty: the camera closed the connection.

        Raises:
            SourceLost: The connection broke.
        """
        came = bytearray()

        def take(data: memoryview) -> bool:
            came.extend(data)
            return True

        await self.pump(take)
        return bytes(came)

    async def pump(self, consume: Consume) -> bool:
        """Let `consume` have what has come, and all that comes, until it wants no more.

        It is called in the very callback in which bytes arrive: no task wakes up for it.

        Returns:
            Whether it wants no more; False when the camera closed the connection.

        Raises:
            SourceLost: The connection broke.
            Exception: Whatever `consume` raised.
        """
        if self._filled and self._hand_over(consume):
            return True
        if self._loss:
            raise self._loss
        if self._ended:
            return False
        self._consume, self._pumped = consume, asyncio.get_running_loop().create_future()
        try:
            return await self._pumped
        finally:
            self._consume = None

    async def close(self) -> bool:
        """Send our FIN and wait for the camera's, so that its slot is free when this returns.

        A camera that ignores the FIN is given up after a second; then the kernel resets it.

        Returns:
            Whether the camera has ended the connection as well.
        """
        self.wakeups.detach()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._transport.can_write_eof():
                    self._transport.write_eof()
                    await self.pump(_drop)
        except (TimeoutError, OSError, SourceLost):
            pass  # dead or deaf: closing is all that is left
        finally:
            is_answered = self._ended
            self._transport.close()
            await self._closed
            # An answer or an error that is remembered refers to us; the buffer need not stay.
            self._space = memoryview(b"")
        # With TLS asyncio says goodbye, and tells us of a camera that does not answer.
        return is_answered or (self._has_tls and self._loss is None)

    def _hand_over(self, consume: Consume) -> bool:
        data = self._space[: self._filled]
        self._filled = 0
        try:
            return consume(data)
        finally:
            if len(data) == _INBOX_SIZE:
                self._transport.resume_reading()

    def _end_pump(self, outcome: bool | Exception) -> None:
        self._consume = None
        if self._pumped is None or self._pumped.done():
            return
        if isinstance(outcome, Exception):
            self._pumped.set_exception(outcome)
        else:
            self._pumped.set_result(outcome)

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self.abort = self._transport.abort
        self._has_tls = transport.get_extra_info("ssl_object") is not None
        self.wakeups.attach(None if self._has_tls else transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - it is a hint
        """Where the next bytes are to be put: behind those that wait."""
        return self._space[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what has been put there, if somebody pumps."""
        self._filled += nbytes
        if self._filled == _INBOX_SIZE:
            self._transport.pause_reading()
        if self._consume:
            try:
                if self._hand_over(self._consume):
                    self._end_pump(True)
            except Exception as error:  # noqa: BLE001 - raised again in the task that awaits `pump`
                self._end_pump(error)

    def eof_received(self) -> None:
        """Note that the camera has closed; asyncio then closes our end."""
        self._ended = True
        self._end_pump(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection, and why it broke if it was not closed."""
        self._ended = True
        if exc:
            self._loss = _loss(exc)
        self._end_pump(self._loss or False)
        if not self._closed.done():
            self._closed.set_result(None)


def _drop(_: memoryview) -> bool:
    return False


def _do_nothing() -> None:
    pass


def _loss(error: Exception) -> SourceLost:
    """What the end of a connection means that was not closed."""
    if isinstance(error, ConnectionResetError):
        lost = SourceLost("the camera reset the connection", GIVEN_AWAY)
    else:
        reason = (isinstance(error, OSError) and error.strerror) or error
        lost = SourceLost(f"the connection broke: {reason}")
    lost.__cause__ = error.with_traceback(None)  # asyncio's own frames refer to the buffer
    return lost
