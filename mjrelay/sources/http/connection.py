"""Connection: the one TCP or TLS connection to a camera, and what its failures mean."""

import asyncio
import contextlib
import errno
import functools
import mmap
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import (
    GIVEN_AWAY,
    MORE_FILES,
    SLOT_TAKEN,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)

T = TypeVar("T")

# How long a camera may take to answer our FIN before we stop waiting for its own. Within the two
# seconds a shutdown may last.
CLOSE_TIMEOUT = 1.0
# Some pictures of most cameras. Only what is used of it takes memory.
_INBOX_SIZE = 2**20
# So much may be waited for: a full inbox holds the camera back.
_MOST_EXPECTED = _INBOX_SIZE // 2
# What was expected and has not come after this time may never come: cameras promise too much.
_LATE = 0.1


class _Broken(Exception):
    """The connection broke: an error of its own, not of whoever takes what it brings."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Inbox(asyncio.BufferedProtocol):
    """What the camera has sent and nobody has used yet, in one buffer for the connection's life.

    A full one holds the camera back. (asyncio's streams make a new buffer for every read, which
    costs more than the reading.)
    """

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        # Not of the heap, which would clear and so use all of it.
        self._space = memoryview(mmap.mmap(-1, _INBOX_SIZE))
        self._filled = 0
        self._ended = False
        self._error: Exception | None = None
        self._use: Callable[[memoryview], Any] | None = None
        self._used: asyncio.Future[Any] | None = None
        self._transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """Take nothing any more; without a goodbye to the camera."""
        if self._transport:
            self._transport.abort()

    async def take(self, use: Callable[[memoryview], T | None]) -> T | None:
        """Let `use` have what has come, and what comes, until it makes something of it.

        It is called at once when something comes, and its caller wakes up only for a result.

        Args:
            use: Given a view of the buffer, which it must use up before it returns.

        Returns:
            What `use` returned; None when the connection has ended.

        Raises:
            _Broken: The connection broke.
        """
        if self._filled and (result := self._offer(use)) is not None:
            return result
        if self._error:
            raise _Broken(self._error)
        if self._ended:
            return None
        self._use, self._used = use, asyncio.get_running_loop().create_future()
        try:
            outcome: T | None = await self._used
        finally:
            self._use = None
        return outcome

    def _offer(self, use: Callable[[memoryview], T | None]) -> T | None:
        data = self._space[: self._filled]
        self._filled = 0
        try:
            return use(data)
        finally:
            if len(data) == _INBOX_SIZE:
                assert self._transport
                self._transport.resume_reading()

    def _settle(self, result: Any, error: Exception | None = None) -> None:
        self._use = None
        if self._used is None or self._used.done():
            return
        if error:
            self._used.set_exception(error)
        else:
            self._used.set_result(result)

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - of no use
        return self._space[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == _INBOX_SIZE:
            assert self._transport
            self._transport.pause_reading()
        if self._use:
            try:
                result = self._offer(self._use)
            except Exception as error:  # noqa: BLE001 - who waits gets it
                self._settle(None, error)
            else:
                if result is not None:
                    self._settle(result)

    def eof_received(self) -> None:
        """Note that the camera has closed; our end closes by itself then."""
        self._ended = True
        self._settle(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._settle(None, _Broken(exc) if exc else None)
        if not self.closed.done():
            self.closed.set_result(None)


class Connection:
    """An open connection. Made by `dial`; `close` ends it fully."""

    def __init__(self, transport: asyncio.Transport, inbox: _Inbox) -> None:
        self._transport = transport
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket = transport.get_extra_info("socket")
        self.can_wait = not transport.get_extra_info("ssl_object")
        """What comes can be let wait. With TLS nobody knows how many bytes come."""
        self._expected = 0
        self._overdue: asyncio.TimerHandle | None = None
        self._pause = 0.0

    @classmethod
    async def dial(
        cls, address: HttpAddress, *, connect_timeout: float, tls_timeout: float, tls_verify: bool
    ) -> "Connection":
        """Connect to a camera.

        Args:
            address: Where it is.
            connect_timeout: Seconds for the name and the TCP handshake.
            tls_timeout: Seconds for the TLS handshake.
            tls_verify: Whether to trust only certificates that can be verified.

        Raises:
            SourceUnreachable: The dial cost the camera nothing.
            SourceRefused: Its certificate or its TLS is not acceptable.
            SourceLost: It accepted the connection and broke it.
        """
        where = f"{address.host}:{address.port}"
        tls: dict[str, Any] = {}
        if address.tls:
            tls = {
                "ssl": _tls_context(verify=tls_verify),
                "server_hostname": address.host,
                "ssl_handshake_timeout": tls_timeout,
                "ssl_shutdown_timeout": CLOSE_TIMEOUT,
            }
        try:
            sock = await _connect(address.host, address.port, connect_timeout)
        except TimeoutError as error:
            raise SourceUnreachable(
                f"{where} does not answer",
                "check that the camera is on, in this network, and that the address is right",
            ) from error
        except OSError as error:
            raise _unreachable(where, address.host, error) from error
        try:
            return cls(*await _open(sock, tls))
        except ssl.SSLCertVerificationError as error:
            raise SourceRefused(
                f"the certificate of {where} is not trusted: {error.verify_message}",
                "if it is the camera's own and this network is safe, set tls_verify = false",
            ) from error
        except ssl.SSLError as error:
            raise SourceRefused(
                f"TLS with {where} failed: {error.reason or error}",
                "try http:// instead, or tls_verify = false for an old camera",
            ) from error
        except OSError as error:
            raise SourceLost(f"{where} broke off the TLS handshake", SLOT_TAKEN) from error

    def send(self, data: bytes) -> None:
        """Send a request. If that fails, reading the answer tells why."""
        self._transport.write(data)

    async def take(self, use: Callable[[memoryview], T | None]) -> T | None:
        """Let `use` have what the camera has sent and sends, until it makes something of it.

        Args:
            use: Called as soon as something has come, with a view that is valid only meanwhile.

        Returns:
            What `use` returned; None when the camera closed the connection.

        Raises:
            SourceLost: The connection broke.
        """
        try:
            return await self._inbox.take(use)
        except _Broken as broken:
            error = broken.error
            if isinstance(error, ConnectionResetError):
                raise SourceLost("the camera reset the connection", GIVEN_AWAY) from error
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise SourceLost(f"the connection broke: {reason}") from error

    def expect(self, count: int) -> None:
        """Let the kernel be silent until so many bytes are there, the end is, or a moment is over.

        Each piece of a picture would be a wake-up. While pictures are coalesced the count is of no
        matter.
        """
        if self._pause:
            self._set_low_water(_MOST_EXPECTED, within=self._pause)
        elif count or self._expected:
            self._set_low_water(min(count, _MOST_EXPECTED), within=_LATE)

    def coalesce(self, pause: float) -> None:
        """Let what comes wait for more, from now on: each picture is a wake-up, too.

        Args:
            pause: Seconds that the first byte may wait; 0 ends it.
        """
        self._pause = pause
        self._set_low_water(_MOST_EXPECTED if pause else 0, within=pause)

    def _set_low_water(self, count: int, *, within: float = 0.0) -> None:
        """Let the kernel wake us up for so many bytes, or when a time is over; 0: for any."""
        if not self.can_wait:
            return
        if self._overdue:
            self._overdue.cancel()
            self._overdue = None
        if count:
            self._overdue = self._loop.call_later(within, self._set_low_water, 0)
        if count == self._expected:
            return
        self._expected = count
        with contextlib.suppress(OSError):
            # Lowering it makes the kernel look again (Linux 4.18 and later).
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(count, 1))

    async def close(self) -> None:
        """Send our FIN and wait for the camera's, so that its slot is free when this returns.

        A camera that ignores the FIN is given up after a second; then the kernel resets it.
        """
        self.coalesce(0)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if self._transport.can_write_eof():
                    self._transport.write_eof()
                    await self._inbox.take(lambda _: None)
        except (TimeoutError, OSError, _Broken):
            pass  # dead or deaf: closing is all that is left
        finally:
            self._transport.close()
            await self._inbox.closed


async def _connect(host: str, port: int, timeout: float) -> socket.socket:  # noqa: ASYNC109
    """Connect to the first address of a host that accepts, one after the other.

    Each may take its share of the time that is left: a name may have a dead address before a live
    one.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    failure: OSError = TimeoutError()
    async with asyncio.timeout_at(deadline):
        found = await _resolve(host, port)
    for index, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout((deadline - loop.time()) / (len(found) - index)):
                await loop.sock_connect(sock, address)
            _refuse_ourselves(sock)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
    raise failure


def _refuse_ourselves(sock: socket.socket) -> None:
    """Raise for a socket connected to itself.

    TCP does that when nobody listens and the kernel chose that very port for our end. It would
    keep a camera on this computer from listening there.
    """
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError


async def _open(sock: socket.socket, tls: dict[str, Any]) -> tuple[asyncio.Transport, _Inbox]:
    loop, inbox = asyncio.get_running_loop(), _Inbox()
    try:
        return await loop.create_connection(lambda: inbox, sock=sock, **tls)
    except BaseException:
        # One that is given up just after the TLS handshake would say goodbye for a second, and
        # meanwhile keep every new socket from having the number of this one.
        inbox.abort()
        sock.close()  # a handshake that fails leaves it open
        raise


async def _resolve(host: str, port: int) -> list[Any]:
    """Look a name up in a thread that may be left behind: a resolver can hang for half a minute.

    The loop's own executor would make the shutdown wait for it.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def tell(result: list[Any] | OSError) -> None:
        if answer.done():
            return
        if isinstance(result, OSError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def look_up() -> None:
        result: list[Any] | OSError
        try:
            result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            result = error
        except UnicodeError:
            result = socket.gaierror(socket.EAI_NONAME, "not a host name")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=look_up, name=f"resolve:{host}", daemon=True).start()
    return await answer


def _unreachable(where: str, host: str, error: OSError) -> SourceError:
    if isinstance(error, socket.gaierror):
        return SourceUnreachable(
            f"the name {host} cannot be found",
            "check its spelling, or use the camera's IP address",
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceUnreachable(
            f"{where} refuses connections",
            "the camera may be starting, or its web server listens on another port",
        )
    # asyncio puts words of its own in place of the kernel's.
    reason = os.strerror(error.errno) if error.errno else str(error)
    is_full = error.errno in (errno.EMFILE, errno.ENFILE)
    return SourceUnreachable(
        f"no way to {where}: {reason}",
        MORE_FILES if is_full else "check that the camera is on and in this network",
    )


@functools.cache  # reading the trusted certificates takes longer than a dial
def _tls_context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        # Cameras outlive their ciphers.
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
