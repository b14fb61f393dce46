"""Dialling: from a camera's address to an open connection, or to the reason why there is none."""

import asyncio
import contextlib
import functools
import os
import socket
import ssl
import threading
from typing import Any

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import (
    MORE_FILES,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    is_full,
)
from mjrelay.sources.http import diagnosis
from mjrelay.sources.http.connection import CLOSE_TIMEOUT, Connection
from mjrelay.sources.http.wakeups import Wakeups

# A camera that accepted within a second when it was dialled last gets two seconds to accept. The
# kernel sends SYNs at 0 s and 1 s, then with growing pauses, and could miss the moment at which the
# camera returns by many seconds. Dialled anew every two seconds, it gets a SYN every second.
_QUICK = 1.0
_QUICK_TIMEOUT = 2.0
# A camera may have become slow. So after this many quick dials in vain, one has the full patience.
_QUICK_DIALS = 5
# A camera could redirect to ever new hosts: when there are this many, all are forgotten.
_MOST_QUICK = 16
# What OpenSSL calls an answer in plain words, such as a web server's "400 Bad Request".
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")


class Dialler:
    """Connects to a camera, and remembers which hosts accept quickly.

    Args:
        connect_timeout: Seconds for the name and the TCP handshake, and again for that of TLS.
        tls_verify: Whether to trust only certificates that can be verified.
        wakeups: Decides when the kernel wakes us up for what comes.
    """

    def __init__(self, *, connect_timeout: float, tls_verify: bool, wakeups: Wakeups) -> None:
        self._connect_timeout = connect_timeout
        self._tls_verify = tls_verify
        self._wakeups = wakeups
        # By the host and port of a camera that was quick: dials since then, if all were in vain.
        self._in_vain: dict[tuple[str, int], int] = {}

    async def dial(self, address: HttpAddress) -> Connection:
        """Connect to a camera.

        Raises:
            SourceUnreachable: The dial cost the camera nothing.
            SourceRefused: Its certificate or its TLS is not acceptable.
            SourceLost: It accepted the connection and broke it.
        """
        where = f"{address.host}:{address.port}"
        try:
            sock = await self._connect(address)
        except TimeoutError as error:
            raise SourceUnreachable(
                f"{where} does not answer",
                "check that the camera is on, in this network, and that the address is right",
            ) from error
        except OSError as error:
            raise _unreachable(where, address.host, error) from error
        try:
            return await self._open(sock, address)
        except ssl.SSLCertVerificationError as error:
            raise SourceRefused(
                f"the certificate of {where} is not trusted: {error.verify_message}",
                "if it is the camera's own and this network is safe, set tls_verify = false below "
                "[camera.NAME], or on the command line give --insecure",
            ) from error
        except ssl.SSLError as error:
            if error.reason in _NO_TLS:
                raise diagnosis.speaks_http(address) from error
            raise SourceRefused(
                f"TLS with {where} failed: {error.reason or error}",
                "try http:// instead, or tls_verify = false for an old camera",
            ) from error
        except ConnectionAbortedError as error:  # how asyncio says that it took too long
            what = f"did not finish the TLS handshake in {self._connect_timeout:g} s"
            raise diagnosis.no_handshake(address, what) from error
        except OSError as error:
            raise diagnosis.no_handshake(address, "broke off the TLS handshake") from error

    async def _connect(self, address: HttpAddress) -> socket.socket:
        """Connect to the first address of a host that accepts, one after the other.

        Each may take its share of the time that is left: a name may have a dead address before a
        live one. The look-up takes of the same time, but is never hurried.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_timeout
        try:
            async with asyncio.timeout_at(deadline):
                found = await resolve(address.host, address.port)
        except TimeoutError as error:
            raise SourceUnreachable(
                f"the name {address.host} was not found in {self._connect_timeout:g} s",
                "check this computer's name server, or use the camera's IP address",
            ) from error
        most = self._next_patience(address)
        failure: OSError = TimeoutError()
        for index, (family, kind, protocol, _, place) in enumerate(found):
            began = loop.time()
            share = (deadline - began) / (len(found) - index)
            try:
                async with asyncio.timeout(min(share, most)):
                    sock = await _connected(socket.socket(family, kind, protocol), place)
            except OSError as error:
                failure = error
            else:
                self._note_accept(address, after=loop.time() - began)
                return sock
        raise failure

    def _next_patience(self, address: HttpAddress) -> float:
        """How many seconds each address of a host may take to accept, this time."""
        where = address.host, address.port
        if where not in self._in_vain:
            return self._connect_timeout
        self._in_vain[where] += 1
        is_patient = self._in_vain[where] % (_QUICK_DIALS + 1) == 0
        return self._connect_timeout if is_patient else _QUICK_TIMEOUT

    def _note_accept(self, address: HttpAddress, *, after: float) -> None:
        """Take note how many seconds a host took to accept."""
        if len(self._in_vain) >= _MOST_QUICK:
            self._in_vain.clear()
        self._in_vain.pop((address.host, address.port), None)
        if after < _QUICK:
            self._in_vain[address.host, address.port] = 0

    async def _open(self, sock: socket.socket, address: HttpAddress) -> Connection:
        """Make a connection of a socket; with https, after the TLS handshake."""
        tls: dict[str, Any] = {}
        if address.tls:
            tls = {
                "ssl": _tls_context(verify=self._tls_verify),
                "server_hostname": address.host,
                "ssl_handshake_timeout": self._connect_timeout,
                "ssl_shutdown_timeout": CLOSE_TIMEOUT,
            }
        connection = Connection(self._wakeups)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, sock=sock, **tls)
        except BaseException:
            # One that is given up just after the TLS handshake would say goodbye for a second, and
            # meanwhile keep every new socket from having the number of this one.
            connection.abort()
            sock.close()  # a handshake that fails leaves it open
            raise
        return connection


async def _connected(sock: socket.socket, place: Any) -> socket.socket:
    """The socket, connected; closed where that fails."""
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
        _refuse_ourselves(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _refuse_ourselves(sock: socket.socket) -> None:
    """Raise for a socket connected to itself.

    TCP does that when nobody listens and the kernel chose that very port for our end. It would
    keep a camera on this computer from listening there.
    """
    if sock.getsockname() == sock.getpeername():
        raise ConnectionRefusedError


async def resolve(host: str, port: int) -> list[Any]:
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
        MORE_FILES if is_full(error) else "check that the camera is on and in this network",
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
