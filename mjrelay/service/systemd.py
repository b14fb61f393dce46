"""Talking with systemd: we tell it that we are ready and alive; it keeps descriptors for us.

The protocols are those of sd_notify(3), sd_listen_fds(3) and FileDescriptorStoreMax= in
systemd.service(5). Without systemd, everything here does nothing.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import structlog

# The first of the descriptors that systemd hands over, by sd_listen_fds(3).
_FIRST_FD = 3
# The descriptors that we let systemd keep have names that begin with these, unlike the sockets of a
# socket unit.
_DEVICE, _LISTENER = "camera-", "listen-"
# Bytes of one line. systemd ignores a message of more than 4096 bytes, and one that holds a NUL.
_LONGEST = 3500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Variables that `take_variables` has removed from the environment.
_variables: dict[str, str] = {}

log = structlog.get_logger()


def take_variables() -> None:
    """Remove from the environment what only we should see, and not the programs that we start."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        if name in os.environ:
            _variables[name] = os.environ.pop(name)


def _variable(name: str) -> str:
    return _variables.get(name) or os.environ.get(name, "")


def is_there() -> bool:
    """Whether systemd has started us, and listens to what we tell it."""
    return bool(_variable("NOTIFY_SOCKET"))


def notify(*lines: str, fds: Sequence[int] = ()) -> bool:
    """Tell systemd something, such as "READY=1". Never waits; any thread may call it.

    A message that systemd cannot take now, because it is busy or gone, is sent before the next
    message, unless it is a sign of life or a status: newer ones follow anyway.

    Args:
        lines: Assignments as in sd_notify(3).
        fds: Descriptors to send with them.

    Returns:
        Whether there is a systemd to be told.
    """
    address = _variable("NOTIFY_SOCKET")
    if address:
        _outbox.send(_Message(lines, tuple(fds)), address)
    return bool(address)


@dataclass(frozen=True)
class _Message:
    """One message to systemd: assignments as in sd_notify(3), and descriptors to send with them."""

    lines: tuple[str, ...]
    fds: tuple[int, ...] = ()

    @property
    def must_arrive(self) -> bool:
        """Whether no later message will say the same."""
        return any(not line.startswith(("WATCHDOG=", "STATUS=")) for line in self.lines)

    def replaces(self, other: "_Message") -> bool:
        """Whether an unsent message need not be sent any more, because this one follows."""
        if self.lines[0] == "FDSTOREREMOVE=1":
            return self.lines[1] in other.lines  # it concerns a descriptor of the same name
        return not self.fds and self.lines[0] == other.lines[0]

    def kept(self) -> "_Message":
        """The same message with copies of its descriptors."""
        return replace(self, fds=tuple(map(os.dup, self.fds)))

    def close(self) -> None:
        """Close the descriptors of a copy."""
        for fd in self.fds:
            os.close(fd)


class _Outbox:
    """Sends messages in order. It keeps those that must arrive until they have been sent.

    Nothing waits while the lock is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address = ""
        self._unsent: list[_Message] = []

    def send(self, message: _Message, address: str) -> None:
        """Send the unsent messages, and then this one."""
        with self._lock:
            if address != self._address:
                self._address = address
                self._forget(lambda _: True)
            self._forget(message.replaces)
            try:
                with _connected(address) as sock:
                    while self._unsent:
                        _send(sock, self._unsent[0])
                        self._unsent.pop(0).close()
                    _send(sock, message)
            except OSError:
                if message.must_arrive:
                    with contextlib.suppress(OSError):  # no more files may be open
                        self._unsent.append(message.kept())

    def _forget(self, is_obsolete: Callable[[_Message], bool]) -> None:
        for message in filter(is_obsolete, self._unsent[:]):
            self._unsent.remove(message)
            message.close()


_outbox = _Outbox()


@contextlib.contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    """A socket connected to systemd, on which sending fails where it would have to wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        yield sock


def _send(sock: socket.socket, message: _Message) -> None:
    """Send a message. One that can never be sent is dropped, or it would hold up all others.

    Raises:
        BlockingIOError: systemd's queue is full.
    """
    try:
        socket.send_fds(sock, [b"\n".join(map(_sendable, message.lines))], message.fds)
    except BlockingIOError:
        raise
    except OSError:
        return


def _sendable(text: str) -> bytes:
    """A text in the form that systemd accepts: one line of UTF-8, not too long."""
    line = _CONTROL.sub(" ", text).encode(errors="replace")
    return line[:_LONGEST].decode(errors="ignore").encode()


def reloading() -> None:
    """Tell systemd that the configuration is being read again. "READY=1" ends that."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def watchdog_interval() -> float | None:
    """Seconds within which systemd expects the next "WATCHDOG=1"; None if it expects none."""
    microseconds = _variable("WATCHDOG_USEC")
    ours = _variable("WATCHDOG_PID") in ("", str(os.getpid()))
    return int(microseconds) / 1e6 if ours and microseconds.isdecimal() else None


class Kept:
    """A descriptor that systemd keeps while mjrelay is restarted: of a device or listening socket.

    So a device stays claimed, and no other program gets it in between; and clients that connect in
    between wait for the next process to answer. Any thread may call the methods; none waits.

    Args:
        name: The name under which systemd keeps it; empty if it is not to be kept.
        fd: The descriptor that the process before us has left with systemd, if any.
    """

    def __init__(self, name: str = "", fd: int | None = None) -> None:
        self._name = name
        self._fd = fd
        self._lock = threading.RLock()

    def take(self) -> int | None:
        """The descriptor of the process before us, once, to be closed by the caller; or None."""
        with self._lock:
            fd, self._fd = self._fd, None
        return fd

    def keep(self, fd: int) -> bool:
        """Have systemd keep a descriptor for the process after us, in place of any before.

        When a device is unplugged, systemd closes its descriptor by itself. (We do not set
        FDPOLL=0, which would prevent that: the dead descriptor would keep the device's number in
        use.)

        Returns:
            Whether there is a systemd that keeps it.
        """
        with self._lock:
            self.drop()
            return bool(self._name) and notify("FDSTORE=1", f"FDNAME={self._name}", fds=[fd])

    def drop(self) -> None:
        """Have systemd keep nothing any more under this name."""
        with self._lock:
            if self._name:
                notify("FDSTOREREMOVE=1", f"FDNAME={self._name}")
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class Inheritance:
    """The descriptors that systemd handed us at the start.

    Make it once only: it removes the variables that announce them from the environment.

    Attributes:
        sockets: The listening sockets of a socket unit.
    """

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._kept: dict[str, Kept] = {}
        for name, fd in _handed_over():
            try:
                os.set_inheritable(fd, False)
            except OSError:
                continue  # it is closed
            if name in self._kept:
                os.close(fd)
            elif name.startswith(_DEVICE) or (name.startswith(_LISTENER) and _is_listening(fd)):
                self._kept[name] = Kept(name, fd)
            elif _is_listening(fd):
                self.sockets.append(socket.socket(fileno=fd))
            else:
                Kept(name, fd).drop()
                log.warning(
                    "relay.not_inherited",
                    name=name,
                    reason="systemd handed over something that no client can connect to",
                    hint="in a socket unit write ListenStream= and Accept=no",
                )

    def device(self, camera: str) -> Kept:
        """The kept device of a camera."""
        return self._named(_DEVICE + camera)

    def listener(self, address: str) -> Kept:
        """The kept socket that listens on an address."""
        # sd_notify(3) allows printable ASCII but no colon.
        return self._named(_LISTENER + quote(os.fsencode(address), safe="/[]@"))

    def drop_listeners(self) -> None:
        """Drop the sockets that were not asked for: they may keep others from listening."""
        self._drop(_LISTENER)

    def drop_the_rest(self) -> None:
        """Drop all that was not asked for: the configuration no longer needs it."""
        self._drop("")

    def _drop(self, prefix: str) -> None:
        for name in [name for name in self._kept if name.startswith(prefix)]:
            self._kept.pop(name).drop()

    def _named(self, name: str) -> Kept:
        return self._kept.pop(name, None) or Kept(name)


def _handed_over() -> Iterator[tuple[str, int]]:
    """Name and number of each descriptor that systemd hands over.

    The variables are removed from the environment: they are not for the programs that we start.
    """
    pid, count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid == str(os.getpid()) and count.isdecimal():
        known = names.split(":")
        for index in range(int(count)):
            yield (known[index] if index < len(known) else ""), _FIRST_FD + index


def _is_listening(fd: int) -> bool:
    """Whether a descriptor is that of a listening stream socket."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        return (
            sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
            and sock.type == socket.SOCK_STREAM
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        )
    finally:
        sock.detach()
