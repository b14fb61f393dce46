"""What systemd and we tell each other: that we are ready and alive, and what it keeps for us.

The protocols are those of sd_notify(3), sd_listen_fds(3) and FileDescriptorStoreMax= in
systemd.service(5). Without systemd all of it does nothing.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

# sd_listen_fds(3): the first descriptor that is handed over.
_FIRST_FD = 3
# What we let systemd keep is named so, to tell it from the sockets of a socket unit.
_DEVICE, _LISTENER = "camera-", "listen-"
# sd_notify(3) allows printable ASCII but no colon.
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")


def notify(*lines: str, fds: Sequence[int] = ()) -> bool:
    """Tell systemd something, such as "READY=1". One that does not listen disturbs nobody.

    Args:
        lines: Assignments as in sd_notify(3).
        fds: Descriptors that go with them.

    Returns:
        Whether there is a systemd to tell.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        socket.send_fds(sock, ["\n".join(lines).encode()], list(fds))
    return True


def reloading() -> None:
    """Tell that the configuration is being read; "READY=1" ends that."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def watchdog_interval() -> float | None:
    """Seconds within which systemd expects "WATCHDOG=1" again, or None."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if ours and microseconds.isdecimal() else None


class Kept:
    """One descriptor that systemd keeps while we are restarted: a device, or a listening socket.

    A device stays open and claimed, so that no other program gets it in between; clients that
    connect in between wait for the next process to answer.

    Args:
        name: What systemd knows it by; empty for what is not kept.
        fd: What the process before us had it keep.
    """

    def __init__(self, name: str = "", fd: int | None = None) -> None:
        self._name = name
        self._fd = fd

    def take(self) -> int | None:
        """What was kept, once. The caller closes it."""
        fd, self._fd = self._fd, None
        return fd

    def keep(self, fd: int) -> bool:
        """Keep this one for the process after us. False: there is no systemd to keep it.

        systemd lets go of a device by itself when it is unplugged. (That is why its polling stays
        on: a dead descriptor would pin the device's number.)
        """
        self.drop()
        return bool(self._name) and notify("FDSTORE=1", f"FDNAME={self._name}", fds=[fd])

    def drop(self) -> None:
        """Keep it no longer."""
        if self._name:
            notify("FDSTOREREMOVE=1", f"FDNAME={self._name}")
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Inheritance:
    """What systemd handed us at start: once, since descriptors are taken away by taking them.

    Attributes:
        sockets: The listening sockets of a socket unit.
    """

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self._kept: dict[str, Kept] = {}
        for name, fd in _handed_over():
            os.set_inheritable(fd, False)
            if not name.startswith((_DEVICE, _LISTENER)):
                self.sockets.append(socket.socket(fileno=fd))
            elif name in self._kept:
                os.close(fd)
            else:
                self._kept[name] = Kept(name, fd)

    def device(self, camera: str) -> Kept:
        """The device of a camera."""
        return self._named(_DEVICE + camera)

    def listener(self, address: str) -> Kept:
        """The socket that listens on an address."""
        return self._named(_LISTENER + _NO_NAME.sub("_", address))

    def drop_the_rest(self) -> None:
        """Let go of what nobody has asked for: the configuration no longer has it."""
        for kept in self._kept.values():
            kept.drop()
        self._kept.clear()

    def _named(self, name: str) -> Kept:
        return self._kept.pop(name, None) or Kept(name)


def _handed_over() -> Iterator[tuple[str, int]]:
    """Name and number of each descriptor we were started with. Our children must not see them."""
    pid, count, names = (os.environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid == str(os.getpid()) and count.isdecimal():
        known = names.split(":")
        for index in range(int(count)):
            yield (known[index] if index < len(known) else ""), _FIRST_FD + index
