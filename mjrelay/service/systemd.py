"""What systemd and we tell each other: that we are ready and alive, and what it keeps for us.

The protocols are those of sd_notify(3), sd_listen_fds(3) and FileDescriptorStoreMax= in
systemd.service(5). Without systemd all of it does nothing.
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

# sd_listen_fds(3): the first descriptor that is handed over.
_FIRST_FD = 3
# The names of what we let systemd keep begin so, to tell it from the sockets of a socket unit.
_DEVICE, _LISTENER = "camera-", "listen-"
# systemd ignores a message of more than 4096 bytes, and one with a NUL.
_LONGEST = 3500
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What was taken out of the environment.
_variables: dict[str, str] = {}

log = structlog.get_logger()


def take_variables() -> None:
    """Take what is for us alone out of the environment: programs that we start must not see it."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        if name in os.environ:
            _variables[name] = os.environ.pop(name)


def _variable(name: str) -> str:
    return _variables.get(name) or os.environ.get(name, "")


def is_there() -> bool:
    """Whether systemd has started us and listens."""
    return bool(_variable("NOTIFY_SOCKET"))


def notify(*lines: str, fds: Sequence[int] = ()) -> bool:
    """Tell systemd something, such as "READY=1". Never waits; any thread may call it.

    What systemd cannot take now, because it is busy or gone, disturbs nobody. It is told before the
    next message, unless it is only a sign of life or a status: those come again by themselves.

    Args:
        lines: Assignments as in sd_notify(3).
        fds: Descriptors that go with them.

    Returns:
        Whether there is a systemd to be told.
    """
    address = _variable("NOTIFY_SOCKET")
    if address:
        _outbox.send(_Message(lines, tuple(fds)), address)
    return bool(address)


@dataclass(frozen=True)
class _Message:
    """What is told at once.

    Attributes:
        lines: Its assignments.
        fds: Descriptors that go with them.
    """

    lines: tuple[str, ...]
    fds: tuple[int, ...] = ()

    @property
    def must_arrive(self) -> bool:
        """Whether nothing else will say the same later."""
        return any(not line.startswith(("WATCHDOG=", "STATUS=")) for line in self.lines)

    def replaces(self, other: "_Message") -> bool:
        """Whether another one, not told yet, need not be told before this one."""
        if self.lines[0] == "FDSTOREREMOVE=1":
            return self.lines[1] in other.lines  # whatever was to be done under that name
        return not self.fds and self.lines[0] == other.lines[0]

    def kept(self) -> "_Message":
        """The same with descriptors of its own."""
        return replace(self, fds=tuple(map(os.dup, self.fds)))

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            os.close(fd)


class _Outbox:
    """Sends messages in their order, and those that must arrive again until they could be sent.

    The lock is never held while anything is waited for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address = ""
        self._unsent: list[_Message] = []

    def send(self, message: _Message, address: str) -> None:
        """Send what is unsent, and then a message."""
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
    """A socket that leads to systemd, and refuses what would have to wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        yield sock


def _send(sock: socket.socket, message: _Message) -> None:
    """Send a message. One that can never be sent is dropped: it would be in the way of others.

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
    """A text as systemd takes it: one line of UTF-8, not too long."""
    line = _CONTROL.sub(" ", text).encode(errors="replace")
    return line[:_LONGEST].decode(errors="ignore").encode()


def reloading() -> None:
    """Tell that the configuration is being read; "READY=1" ends that."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def watchdog_interval() -> float | None:
    """Seconds within which systemd expects "WATCHDOG=1" again, or None."""
    microseconds = _variable("WATCHDOG_USEC")
    ours = _variable("WATCHDOG_PID") in ("", str(os.getpid()))
    return int(microseconds) / 1e6 if ours and microseconds.isdecimal() else None


class Kept:
    """One descriptor that systemd keeps while we are restarted: a device, or a listening socket.

    A device stays open and claimed, so that no other program gets it in between; clients that
    connect in between wait for the next process to answer. Any thread may use it; nothing waits.

    Args:
        name: What systemd knows it by; empty for what is not kept.
        fd: What the process before us had it keep.
    """

    def __init__(self, name: str = "", fd: int | None = None) -> None:
        self._name = name
        self._fd = fd
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """The kept descriptor, which the caller closes; None if there is none, or none any more."""
        with self._lock:
            fd, self._fd = self._fd, None
        return fd

    def keep(self, fd: int) -> bool:
        """Keep this one for the process after us. False: there is no systemd that would.

        systemd lets go of a device by itself when it is unplugged. (That is why its polling stays
        on: a dead descriptor would pin the device's number.)
        """
        with self._lock:
            self._drop()
            return bool(self._name) and notify("FDSTORE=1", f"FDNAME={self._name}", fds=[fd])

    def drop(self) -> None:
        """Keep it no longer."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._name:
            notify("FDSTOREREMOVE=1", f"FDNAME={self._name}")
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Inheritance:
    """What systemd handed us at start. Made once: reading it takes it out of the environment.

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
        """The device of a camera."""
        return self._named(_DEVICE + camera)

    def listener(self, address: str) -> Kept:
        """The socket that listens on an address."""
        # sd_notify(3) allows printable ASCII but no colon.
        return self._named(_LISTENER + quote(os.fsencode(address), safe="/[]@"))

    def drop_listeners(self) -> None:
        """Let go of the sockets nobody has asked for: they are in the way of others."""
        self._drop(_LISTENER)

    def drop_the_rest(self) -> None:
        """Let go of what nobody has asked for: the configuration no longer has it."""
        self._drop("")

    def _drop(self, prefix: str) -> None:
        for name in [name for name in self._kept if name.startswith(prefix)]:
            self._kept.pop(name).drop()

    def _named(self, name: str) -> Kept:
        return self._kept.pop(name, None) or Kept(name)


def _handed_over() -> Iterator[tuple[str, int]]:
    """Name and number of each descriptor we were started with. Our children must not see them."""
    pid, count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid == str(os.getpid()) and count.isdecimal():
        known = names.split(":")
        for index in range(int(count)):
            yield (known[index] if index < len(known) else ""), _FIRST_FD + index


def _is_listening(fd: int) -> bool:
    """Whether clients can connect to what is behind a descriptor."""
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
