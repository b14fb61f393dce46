"""The listening sockets, and the server behind them."""

import asyncio
import contextlib
import errno
import logging
import socket
import weakref
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mjrelay.address import ListenAddress
from mjrelay.camera import Camera
from mjrelay.config import ServerConfig
from mjrelay.errors import ListenError
from mjrelay.service.systemd import Inheritance
from mjrelay.web.app import Handler, make_app
from mjrelay.web.streams import Clients, is_full

# Of unsent bytes the kernel keeps no more than this ready: else its send buffer grows to megabytes
# and a slow client sees frames from seconds ago (measured: 3.2 s became 0.3 s, at no cost).
_NOTSENT_LOWAT = 16 * 2**10
# A client whose kernel has not acknowledged or accepted a byte for so many seconds is gone. Longer
# than any pause of a browser worth waiting for.
DEAD_AFTER = 120.0
# Half a wall of browsers may come back in the same second.
_BACKLOG = 1024
# aiohttp waits this long, twice, for handlers that do not return: those of clients that do not take
# the part being sent.
_SHUTDOWN_TIMEOUT = 0.5
# Who has connected may be so many seconds away from asking: some networks are. Nobody listens any
# more meanwhile, so that the process after us has the others.
_MAY_ASK_WITHIN = 0.25
_LOOK_EVERY = 0.005
# Browsers send localhost the cookies of everything that ever ran there.
_MAX_LINE = 64 * 2**10


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether an error of aiohttp's is more than a request nobody could understand."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logging.getLogger("aiohttp.server").addFilter(_is_our_fault)


@dataclass(frozen=True)
class Listener:
    """A socket that listens.

    Attributes:
        address: Where, with the port the kernel chose if it was asked to.
        camera: The only camera shown there; empty for all.
    """

    address: ListenAddress
    sock: socket.socket
    camera: str = ""


@contextlib.contextmanager
def listening(
    config: ServerConfig, inheritance: Inheritance | None = None
) -> Iterator[list[Listener]]:
    """Listen on every configured address while entered.

    The sockets of a systemd socket unit come first; what they listen on is not listened on again.
    Those we had systemd keep are taken up as they are, with the clients that wait there.

    Raises:
        ListenError: An address cannot be listened on.
    """
    inheritance = inheritance or Inheritance()
    wanted = [("", address) for address in config.listen] + list(config.camera_listen.items())
    with contextlib.ExitStack() as stack:
        listeners = []
        for sock in inheritance.sockets:
            stack.enter_context(sock)
            tune(sock)
            listeners.append(Listener(_address_of(sock), sock))
        given = [listener.address for listener in listeners]
        for camera, address in wanted:
            if any(_covers(other, address) for other in given):
                continue
            kept = inheritance.listener(str(address))
            fd = kept.take()
            sock = stack.enter_context(_listen(address) if fd is None else socket.socket(fileno=fd))
            will_be_kept = kept.keep(sock.fileno())
            if address.path:
                if not will_be_kept:
                    stack.callback(Path(address.path).unlink, missing_ok=True)
                listeners.append(Listener(address, sock, camera))
            else:
                port = sock.getsockname()[1]
                listeners.append(Listener(ListenAddress(address.host, port), sock, camera))
        yield listeners


def _address_of(sock: socket.socket) -> ListenAddress:
    name = sock.getsockname()
    return ListenAddress(path=name) if isinstance(name, str) else ListenAddress(*name[:2])


def _covers(given: ListenAddress, wanted: ListenAddress) -> bool:
    """Whether who listens on one address listens on the other, too."""
    everywhere = given.host in ("", "::", "0.0.0.0")  # noqa: S104
    return given == wanted or (everywhere and given.port == wanted.port and not wanted.path)


class _Newcomers:
    """Tells which connections have asked for nothing yet."""

    def __init__(self) -> None:
        # By their transports: aiohttp's own objects cannot be referred to weakly.
        self._have_asked: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note who asks."""
        if request.transport:
            self._have_asked.add(request.transport)
        return await handler(request)

    async def have_asked(self, runners: Collection[web.AppRunner]) -> None:
        """Wait until each has asked, or had the time to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAY_ASK_WITHIN):
                # asyncio takes some turns for who has connected just now.
                await asyncio.sleep(_LOOK_EVERY)
                while any(map(self._is_awaited, runners)):  # noqa: ASYNC110 - aiohttp tells nobody
                    await asyncio.sleep(_LOOK_EVERY)

    def _is_awaited(self, runner: web.AppRunner) -> bool:
        connections = runner.server.connections if runner.server else []
        return any(c.transport and c.transport not in self._have_asked for c in connections)


@contextlib.asynccontextmanager
async def web_server(
    cameras: Mapping[str, Camera], config: ServerConfig, listeners: list[Listener]
) -> AsyncIterator[Clients]:
    """Serve while entered; who watches.

    Leaving ends every stream between two parts, and answers everybody it has let in.
    """
    clients = Clients()
    loop = asyncio.get_running_loop()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what asyncio has no caller for: a connection that cannot be accepted."""
        error = context.get("exception")
        if is_full(error):
            clients.note_full(error)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
    runners: dict[str, web.AppRunner] = {}
    newcomers = _Newcomers()
    try:
        for listener in listeners:
            only = listener.camera
            if only not in runners:
                app = make_app(
                    {only: cameras[only]} if only else cameras,
                    clients,
                    base_path=config.base_path,
                    cors_origins=config.cors_origins,
                )
                app.middlewares.insert(0, newcomers.note)
                runners[only] = web.AppRunner(
                    app,
                    # Else a client that leaves while its camera is silent would stay for ever.
                    handler_cancellation=True,
                    access_log=None,
                    shutdown_timeout=_SHUTDOWN_TIMEOUT,
                    max_line_size=_MAX_LINE,
                    max_field_size=_MAX_LINE,
                )
                await runners[only].setup()
            await web.SockSite(runners[only], listener.sock, backlog=_BACKLOG).start()
        yield clients
    finally:
        for listener in listeners:
            # Not closed yet: asyncio drops who has connected and is not served yet.
            loop.remove_reader(listener.sock)
        await newcomers.have_asked(runners.values())
        clients.finish_all()
        loop.set_exception_handler(None)
        await asyncio.gather(*(runner.cleanup() for runner in runners.values()))


def _listen(address: ListenAddress) -> socket.socket:
    try:
        if address.path:
            return _listen_unix(Path(address.path))
        return _listen_tcp(address)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {_reason(address, error)}") from error
    except UnicodeError as error:
        raise ListenError(f"cannot listen on {address}: that is no host name") from error


def _listen_tcp(address: ListenAddress) -> socket.socket:
    """Listen on a host; an empty one and [::] take both IPv4 and IPv6."""
    host = address.host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104
    family, _, _, _, resolved = socket.getaddrinfo(
        host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.create_server(
        resolved, family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::"
    )
    tune(sock)
    return sock


def tune(sock: socket.socket, *, dead_after: float = DEAD_AFTER) -> None:
    """Set what every connection accepted from a listening TCP socket inherits.

    Args:
        sock: The listening socket.
        dead_after: Seconds without a sign of life from a client's kernel.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(dead_after * 1000))


def _listen_unix(path: Path) -> socket.socket:
    """Listen on a unix socket that everyone on this machine may use, as a port on loopback."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _is_served(path):
            path.unlink()  # left by a process that was killed
        sock.bind(str(path))
        path.chmod(0o666)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _reason(address: ListenAddress, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        if address.path:
            return "another process serves it"
        return (
            f"the port is taken; find by whom with: ss -ltnp 'sport = :{address.port}', "
            "or choose another with --listen"
        )
    if error.errno == errno.EACCES and 0 < address.port < 1024:  # noqa: PLR2004 - privileged
        return "ports below 1024 need root; choose a higher one with --listen"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this computer has no such address; 0.0.0.0 takes all it has"
    return error.strerror or str(error)
