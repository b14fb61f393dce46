"""Connection: the one TCP or TLS connection to a camera, and what its failures mean."""

import asyncio
import contextlib
import functools
import os
import socket
import ssl
import threading
from typing import Any

from mjrelay.address import HttpAddress
from mjrelay.errors import (
    GIVEN_AWAY,
    SLOT_TAKEN,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)

# How long a camera may take to answer our FIN before we stop waiting for its own. Within the two
# seconds a shutdown may last.
_CLOSE_TIMEOUT = 1.0
# A picture of most cameras.
_INBOX_SIZE = 2**18


class _Inbox(asyncio.BufferedProtocol):
    """What the camera has sent and nobody has read yet, in one buffer for the connection's life.

    A full one holds the camera back. (asyncio's streams make a new buffer for every read, which
    costs more than the reading.)
    """

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._space = memoryview(bytearray(_INBOX_SIZE))
        self._filled = 0
        self._ended = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def read(self) -> memoryview:
        """Everything there is, once there is something; nothing at the end.

        Returns:
            A view of the buffer, to be used up before anything else is awaited.

        Raises:
            OSError: The connection broke.
        """
        while not (self._filled or self._ended):
            self._news.clear()
            await self._news.wait()
        if self._error and not self._filled:
            raise self._error
        data = self._space[: self._filled]
        self._filled = 0
        self._transport.resume_reading()
        return data

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - of no use
        return self._space[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == len(self._space):
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """Note that the camera has closed; our end closes by itself then."""
        self._ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._news.set()
        if not self.closed.done():
            self.closed.set_result(None)


class Connection:
    """An open connection. Made by `dial`; `close` ends it fully."""

    def __init__(self, transport: asyncio.Transport, inbox: _Inbox) -> None:
        self._transport = transport
        self._inbox = inbox
        self._patience = 1

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
                "ssl_shutdown_timeout": _CLOSE_TIMEOUT,
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

    async def read(self, patience: int = 1) -> memoryview:
        """The next bytes, or none when the camera closed the connection.

        Args:
            patience: Do not wake up for fewer bytes than this. Only a hint: fewer may come.

        Returns:
            A view, to be used up before anything else is awaited.

        Raises:
            SourceLost: The connection broke.
        """
        self._wait_for(patience)
        try:
            return await self._inbox.read()
        except ConnectionResetError as error:
            raise SourceLost("the camera reset the connection", GIVEN_AWAY) from error
        except OSError as error:
            raise SourceLost(f"the connection broke: {error.strerror or error}") from error

    async def close(self) -> None:
        """Send our FIN and wait for the camera's, so that its slot is free when this returns.

        A camera that ignores the FIN is given up after a second; then the kernel resets it.
        """
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                if self._transport.can_write_eof():
                    self._wait_for(1)
                    self._transport.write_eof()
                    while await self._inbox.read():
                        pass
        except (TimeoutError, OSError):
            pass  # dead or deaf: closing is all that is left
        finally:
            self._transport.close()
            await self._inbox.closed

    def _wait_for(self, count: int) -> None:
        """Let the kernel report no fewer bytes than these, unless the connection ends."""
        count = min(max(count, 1), _INBOX_SIZE)
        if count == self._patience or self._transport.get_extra_info("ssl_object"):
            return
        self._patience = count
        with contextlib.suppress(OSError):
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


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
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_connection(_Inbox, sock=sock, **tls)
    except BaseException:
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
    return SourceUnreachable(
        f"no way to {where}: {reason}",
        "check that the camera is on and in this network",
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
