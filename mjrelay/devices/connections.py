"""Connections: the processes of this computer that are connected to a camera across the network.

Most such cameras take one connection. The kernel lists every connection with the user it belongs
to; which process has it can be seen only where we may look into that process.
"""

import contextlib
import ipaddress
import os
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mjrelay.devices.holders import Holder, describe

# A line of /proc/net/tcp: number, our address, theirs, state, queues, timer, retransmits, user,
# timeout, inode.
_CONNECTION = re.compile(
    r"^ *\d+: \S+ ([0-9A-F]+):([0-9A-F]{4}) (\S\S) \S+ \S+ \S+ +(\d+) +\d+ (\d+)", re.MULTILINE
)
_ESTABLISHED = "01"
_SOCKET = re.compile(r"socket:\[(\d+)\]$")
_USERS = re.compile(r"^Uid:\s+\d+\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Connected:
    """A process that is connected to a camera.

    Attributes:
        holder: The process.
        is_certain: False: a mjrelay whose user has such a connection, but we may not look into it.
    """

    holder: Holder
    is_certain: bool

    def __str__(self) -> str:
        """A sentence for people: who has the camera, and what to do about it."""
        verb = "has" if self.is_certain else "may have"
        if self.holder.is_relay:
            return (
                f"{self.holder} of this computer {verb} the camera: watch it there, or stop that "
                f"meanwhile: {self.holder.command_to_end}"
            )
        return f"{self.holder} of this computer {verb} the camera: {self.holder.command_to_end}"


def connected(places: Collection[tuple[str, int]], proc: Path = Path("/proc")) -> list[Connected]:
    """The processes that are connected to one of these addresses and ports, but for our own.

    Reads some files of each process of the computer: call it in a worker thread.

    Args:
        places: The camera's IP addresses with its port.
        proc: The folder /proc.
    """
    wanted = {(_plain(host), port) for host, port in places}
    processes = {path: describe(path, proc) for path in _processes(proc)}
    relays = [path for path, holder in processes.items() if holder and holder.is_relay]
    # A process in a container has connections of its own: only its own list holds them.
    users: dict[str, str] = {}
    for folder in (proc, *relays):
        users |= _connections(folder / "net", wanted)
    found = []
    for path, holder in processes.items():
        if holder is None:
            continue
        sockets = _sockets(path)
        if sockets is None:
            may_have = holder.is_relay and _user(path) in users.values()
            found += [Connected(holder, is_certain=False)] if may_have else []
        elif sockets & users.keys():
            found.append(Connected(holder, is_certain=True))
    return sorted(found, key=lambda one: (not one.is_certain, not one.holder.is_relay))


def _processes(proc: Path) -> Iterator[Path]:
    try:
        paths = [path for path in proc.iterdir() if path.name.isdecimal()]
    except OSError:
        return
    for path in sorted(paths, key=lambda path: int(path.name)):
        if int(path.name) != os.getpid():
            yield path


def _connections(net: Path, wanted: Collection[tuple[str, int]]) -> dict[str, str]:
    """The connections to these places: the user of each, by the inode of its socket."""
    tables = ""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            tables += (net / name).read_text()
    return {
        inode: user
        for address, port, state, user, inode in _CONNECTION.findall(tables)
        if state == _ESTABLISHED and (_written(address), int(port, 16)) in wanted
    }


def _written(address: str) -> str:
    """An address as people write it, from the kernel's words of 32 bits in its own order."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return _plain(str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))))


def _plain(host: str) -> str:
    """An IP address without its zone, and as IPv4 where it is one in the form of IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _sockets(process: Path) -> set[str] | None:
    """The inodes of a process's sockets; None where we may not look."""
    found = set()
    try:
        for file in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found |= {*_SOCKET.findall(str(file.readlink()))}
    except OSError:
        return None
    return found


def _user(process: Path) -> str:
    """The number of the user a process runs as; empty if it has ended."""
    try:
        found = _USERS.search((process / "status").read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""
