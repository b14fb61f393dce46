"""The sockets to listen on: a socket unit's, those that systemd kept for us, and our own."""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from mjrelay.errors import ListenError
from mjrelay.service import systemd
from mjrelay.service.systemd import Inheritance, Kept

# At most this many unsent bytes of a connection may wait in the kernel. Without a limit its send
# buffer grows to megabytes, and a slow client sees frames from seconds ago (measured: the limit
# reduces 3.2 s to 0.3 s, and costs nothing).
_NOTSENT_LOWAT = 16 * 2**10
# A client whose kernel has not acknowledged or accepted a byte for this many seconds is gone.
# Browsers that pause and will be back, such as one in the background, pause for less.
DEAD_AFTER = 120.0
# How many connections may wait to be accepted: all browsers may come back in the same second.
BACKLOG = 1024
# Under systemd, seconds to wait for an address that another process has or the computer has not got
# yet: if we ended instead, and were started again and again, that would fill the journal. Shorter
# than the time after which systemd gives up on our start (TimeoutStartSec=).
_LISTEN_PATIENCE = 30.0
# Seconds from one try to the next meanwhile.
_LISTEN_EVERY = 0.5

_EVERY_IPV4, _EVERY_IPV6 = "0.0.0.0", "::"  # noqa: S104

_AN_IP = "write an IP address, such as 0.0.0.0"
_WRITABLE = "choose a place this user may write (the service may write to /run/mjrelay only)"

log = structlog.get_logger()


@dataclass(frozen=True)
class Listener:
    """A socket that listens.

    Attributes:
        address: Where it listens. If the kernel was to choose the port, the port it chose.
        camera: The name of the only camera shown there; empty for all cameras.
    """

    address: ListenAddress
    sock: socket.socket
    camera: str = ""


@contextlib.contextmanager
def listening(
    config: ServerConfig, inheritance: Inheritance | None = None
) -> Iterator[list[Listener]]:
    """Listen on every configured address while entered.

    The sockets of a systemd socket unit come first, and cover the configured addresses on which
    they listen. Sockets that the process before us left with systemd are used again, so that
    clients which have connected to them meanwhile are served.

    Raises:
        ListenError: An address cannot be listened on.
    """
    inheritance = inheritance or Inheritance()
    deadline = time.monotonic() + (_LISTEN_PATIENCE if systemd.is_there() else 0)
    wanted = [("", address) for address in config.listen] + list(config.camera_listen.items())
    with contextlib.ExitStack() as stack:
        listeners = []
        for sock in inheritance.sockets:
            stack.enter_context(sock)
            tune(sock)
            listeners.append(Listener(_address_of(sock), sock, _owner(sock, wanted)))
        missing = [
            (camera, address, inheritance.listener(str(address)))
            for camera, address in wanted
            if not any(_covers(sock, address) for sock in inheritance.sockets)
        ]
        inheritance.drop_listeners()
        for camera, address, kept in missing:
            sock = _taken_up(kept, address) or _listen_patiently(address, deadline)
            stack.enter_context(sock)
            will_be_kept = kept.keep(sock.fileno())
            if address.path and not will_be_kept:
                stack.callback(Path(address.path).unlink, missing_ok=True)
            port = 0 if address.path else sock.getsockname()[1]
            listeners.append(Listener(replace(address, port=port), sock, camera))
        yield listeners


def _address_of(sock: socket.socket) -> ListenAddress:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        # A name that begins with a NUL is no file's: we write it with an @, as systemd does.
        return ListenAddress(path=os.fsdecode(name).replace("\0", "@"))
    return ListenAddress(*name[:2])


def _owner(sock: socket.socket, wanted: list[tuple[str, ListenAddress]]) -> str:
    """The camera that alone is to be shown on a socket; empty if all or several are."""
    owners = {camera for camera, address in wanted if _covers(sock, address)}
    return owners.pop() if len(owners) == 1 else ""


def _covers(sock: socket.socket, wanted: ListenAddress) -> bool:
    """Whether a socket listens on an address, perhaps among others: then no second one can."""
    given = _address_of(sock)
    if given.port != wanted.port:
        return False
    if _is_at(sock, wanted):
        return True
    family, host = _numeric(wanted)
    if given.host == _EVERY_IPV6:
        only_ipv6 = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return family == socket.AF_INET6 or (family == socket.AF_INET and not only_ipv6)
    return given.host == _EVERY_IPV4 and (family == socket.AF_INET or host == _EVERY_IPV6)


def _is_at(sock: socket.socket, wanted: ListenAddress) -> bool:
    """Whether a socket listens on exactly this address."""
    given = _address_of(sock)
    if given.path or wanted.path:
        return given == wanted
    return given.host == _numeric(wanted)[1] and wanted.port in (0, given.port)


def _numeric(address: ListenAddress) -> tuple[int, str]:
    """The family and the numeric IP address of a host; AF_UNSPEC if it has none."""
    if not address.path:
        with contextlib.suppress(OSError, UnicodeError):
            family, resolved = _resolved(address)
            return family, resolved[0]
    return socket.AF_UNSPEC, ""


def _taken_up(kept: Kept, wanted: ListenAddress) -> socket.socket | None:
    """The socket that systemd kept for an address, if there is one and it listens there."""
    if (fd := kept.take()) is None:
        return None
    sock = socket.socket(fileno=fd)
    if _is_at(sock, wanted):
        return sock
    sock.close()
    return None


def _listen_patiently(address: ListenAddress, deadline: float) -> socket.socket:
    """Listen; while that fails, try again until `deadline`, in seconds of the monotonic clock."""
    tries = 0
    while True:
        try:
            return _listen(address)
        except ListenError as error:
            if time.monotonic() >= deadline:
                raise
            tries += 1
            if tries == 2:  # noqa: PLR2004 - systemd may take a moment to close what we dropped
                log.warning("relay.waiting", reason=str(error))
                systemd.notify(f"STATUS=waiting: {error}")
        time.sleep(_LISTEN_EVERY)


def _listen(address: ListenAddress) -> socket.socket:
    try:
        if address.path:
            return _listen_unix(Path(address.path))
        return _listen_tcp(address)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {_reason(address, error)}") from error
    except UnicodeError as error:
        raise ListenError(f"cannot listen on {address}: that is no host name; {_AN_IP}") from error


def _listen_tcp(address: ListenAddress) -> socket.socket:
    """Listen on a host; an empty one and [::] take both IPv4 and IPv6."""
    family, resolved = _resolved(address)
    sock = socket.create_server(
        resolved, family=family, backlog=BACKLOG, dualstack_ipv6=resolved[0] == _EVERY_IPV6
    )
    tune(sock)
    return sock


def _resolved(address: ListenAddress) -> tuple[int, Any]:
    """The family of an address, and the form in which a socket takes it."""
    host = address.host or (_EVERY_IPV6 if socket.has_dualstack_ipv6() else _EVERY_IPV4)
    family, _, _, _, resolved = socket.getaddrinfo(
        host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, resolved


def tune(sock: socket.socket, *, dead_after: float = DEAD_AFTER) -> None:
    """Set a listening socket's options, which every connection accepted from it inherits.

    Args:
        sock: The listening socket. One that is not TCP is left as it is.
        dead_after: A connection ends after so many seconds without a sign of life from the client.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(dead_after * 1000))


def _listen_unix(path: Path) -> socket.socket:
    """Listen on a unix socket that every user of this computer may use, like a loopback port."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket() and not _is_served(path):
            path.unlink()  # left by a process that was killed
        sock.bind(str(path))
        path.chmod(0o666)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _reason(address: ListenAddress, error: OSError) -> str:
    why = error.strerror or str(error)
    if isinstance(error, socket.gaierror):
        return f"{why}; {_AN_IP}"
    if address.path:
        return _unix_reason(Path(address.path), error, why)
    if error.errno == errno.EADDRINUSE:
        return (
            f"the port is taken; find by whom with: sudo ss -ltnp 'sport = :{address.port}', "
            "or choose another with `listen` in the configuration, or --listen"
        )
    if error.errno == errno.EACCES and 0 < address.port < 1024:  # noqa: PLR2004 - privileged
        return (
            "ports below 1024 need root; choose a higher one with `listen` in the configuration, "
            "or --listen, or let systemd listen: mjrelay.socket"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "this computer has no such address; 0.0.0.0 takes all it has"
    return why


def _unix_reason(path: Path, error: OSError, why: str) -> str:
    remedies: dict[int | None, str] = {
        errno.ENOENT: f"make its folder first: mkdir -p {path.parent}",
        errno.EACCES: _WRITABLE,
        errno.EROFS: _WRITABLE,
        None: "choose a path of at most 107 characters",
    }
    if error.errno == errno.EADDRINUSE:
        return "another process serves it"
    return f"{why}; {remedies[error.errno]}" if error.errno in remedies else why
