"""Holders: the processes that have a device open or its buffers mapped.

Either keeps the device busy for all others, even in a child that only inherited it.
"""

import itertools
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mjrelay.configuration.address import CommandAddress

# Characters of a command line that are shown.
_MAX_COMMAND = 200
_PF_KTHREAD = 0x00200000
_CONTAINER = re.compile(r"(docker|libpod)-([0-9a-f]{12})[0-9a-f]*\.scope")
# A line of /proc/PID/maps: addresses, permissions, offset, device, inode, path. Only lines
# of shared mappings match: a device's buffers are mapped shared.
_MAPPED = re.compile(r"^\S+ ...s \S+ \S+ \S+ +(/.*)$", re.MULTILINE)
# Kinds of file systems whose server may be dead: then any question about a file hangs.
_REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "glusterfs", "lustre")
_OCTAL = re.compile(r"\\([0-7]{3})")
# The name of an interpreter says little. The first of its arguments that looks like a file is the
# program that it runs.
_FILE = re.compile(r"^[^-].*(/|\.\w+$)")
_INTERPRETER = re.compile(r"(python|node|perl|ruby|bash|sh|java)[\d.]*$")

# mjrelay's own program, and how many words an interpreter may have before it.
_RELAY, _MOST_BEFORE_PROGRAM = "mjrelay", 3
# The control group that systemd put a process into, in a line of cgroup v2 or v1.
_SYSTEMD_GROUP = re.compile(r"^(?:0:|\d+:name=systemd):(/.*)$", re.MULTILINE)
# The first process namespace, which the kernel always gives this number. It holds every process;
# from inside of any other one, as in a container, most processes cannot be seen.
_EVERY_PROCESS = "pid:[4026531836]"


@dataclass(frozen=True)
class Holder:
    """A process that has a device open or mapped.

    Attributes:
        pid: Its process id.
        command: Its command line without secrets, or `[name]` if it has none.
        unit: The systemd unit in which it runs; None if there is none, or it is a child of ours.
        of_user: Whether that unit belongs to a user's own systemd.
    """

    pid: int
    command: str
    unit: str | None
    of_user: bool = False

    @property
    def is_relay(self) -> bool:
        """Whether it is a mjrelay that serves cameras, so that one can watch there."""
        words = self.command.split(" ")[: _MOST_BEFORE_PROGRAM + 2]
        return any(PurePath(w).name == _RELAY and v == "run" for w, v in itertools.pairwise(words))

    @property
    def program(self) -> str:
        """The name of its program; after an interpreter's name, that of the file it runs."""
        if self.is_relay:
            return _RELAY
        words = [word.strip("'") for word in self.command.split(" ")]
        name = PurePath(words[0]).name
        if _INTERPRETER.match(name):
            file = next((word for word in words[1:] if _FILE.search(word)), "")
            name = f"{name} {PurePath(file).name}".strip()
        return name

    @property
    def advice(self) -> str:
        """What to do so that it closes the device: a command, if possible."""
        if self.pid == os.getpid():
            return "two cameras of the configuration are this device: remove one"
        if self.pid == 1 or self.unit == "init.scope":
            return "systemd keeps it for a service: restart or stop that service"
        return f"{'watch it there, or: ' if self.is_relay else ''}{self.command_to_end}"

    @property
    def command_to_end(self) -> str:
        """The command that ends it."""
        if self.unit and self.unit.endswith(".service"):
            return f"{'systemctl --user' if self.of_user else 'sudo systemctl'} stop {self.unit}"
        if container := _CONTAINER.fullmatch(self.unit or ""):
            return f"{'docker' if container[1] == 'docker' else 'podman'} stop {container[2]}"
        return f"sudo kill {self.pid}"

    def as_values(self) -> dict[str, Any]:
        """The process in plain values, as `/status` shows it."""
        return {"pid": self.pid, "command": self.command, "unit": self.unit}

    def __str__(self) -> str:
        if self.pid == os.getpid():
            return "mjrelay itself (this process)"
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.program} (pid {self.pid}{unit})"


@dataclass(frozen=True)
class Holders:
    """The processes that have a device open or mapped.

    Attributes:
        found: Those that were found.
        hidden: Whether there are processes that we may not look into: one of them may have it.
    """

    found: tuple[Holder, ...]
    hidden: bool

    @property
    def may_exist(self) -> bool:
        """Whether a process has the device, or may have it."""
        return bool(self.found) or self.hidden

    def __str__(self) -> str:
        """A sentence for people: which processes have the device, and what to do about each."""
        if self.found:
            return "held by " + "; by ".join(f"{h}: {h.advice}" for h in self.found)
        if self.hidden:
            return (
                "no process that we may look into holds it: "
                "`sudo mjrelay devices`, outside of any container, shows the others"
            )
        return "no process holds it any more"


def find_holders(number: int, proc: Path = Path("/proc")) -> Holders:
    """Find every process that has a device open or mapped, ours included.

    Reads some files of each process of the computer: call it in a worker thread.

    Args:
        number: The device number (`st_rdev`).
        proc: The folder /proc.
    """
    holders = []
    try:
        remote = _remote_folders(proc)
        processes = [path for path in proc.iterdir() if path.name.isdecimal()]
        hidden = _sees_few(proc)
    except OSError:  # no more files may be open
        return Holders((), hidden=True)
    for process in sorted(processes, key=lambda path: int(path.name)):
        try:
            if _holds(process, number, remote):
                holders.append(_holder(process, proc))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        except OSError:  # we have no right to look, or too many files open
            hidden = hidden or _can_hold(process)
    return Holders(tuple(holders), hidden)


def still_holds(holder: Holder, number: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process that had a device still has it. False if we cannot tell."""
    process = proc / str(holder.pid)
    try:
        return _holds(process, number, _remote_folders(proc))
    except OSError:
        return False


def _sees_few(proc: Path) -> bool:
    """Whether /proc leaves out processes: those of other users, or outside of our container."""
    try:
        space = str((proc / "self/ns/pid").readlink())
    except OSError:
        return True
    return space != _EVERY_PROCESS or not (proc / "1").exists()


def _holds(process: Path, number: int, remote: tuple[str, ...]) -> bool:
    """Whether a process has a device open or mapped.

    Args:
        process: The process's folder in /proc.
        number: The device number.
        remote: Folders of other computers, where a question about a file may hang.
    """
    files = (process / "fd").iterdir()
    if any(_is_device(file, number) for file in files if _is_local(file, remote)):
        return True
    text = (process / "maps").read_bytes().decode("utf-8", "replace")
    paths = {path for path in _MAPPED.findall(text) if not path.startswith(remote)}
    return any(_is_device(process / f"root{path}", number) for path in paths)


def _is_local(file: Path, remote: tuple[str, ...]) -> bool:
    """Whether a descriptor leads to a path on this computer, about which no question hangs.

    The path need not begin with /dev: in a container a camera's node may be elsewhere.
    """
    try:
        path = str(file.readlink())
    except FileNotFoundError:  # closed meanwhile
        return False
    return path.startswith("/") and not path.startswith(remote)


def _remote_folders(proc: Path) -> tuple[str, ...]:
    """The folders where file systems of other computers are mounted."""
    lines = (line.split(" ") for line in (proc / "self/mounts").read_text().splitlines())
    folders = [folder for _, folder, kind, *_ in lines if kind.startswith(_REMOTE)]
    # In this file a space, tab or backslash is written as \040, \011 or \134.
    return tuple(_OCTAL.sub(lambda code: chr(int(code[1], 8)), f"{f}/") for f in folders)


def _is_device(path: Path, number: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == number


def _can_hold(process: Path) -> bool:
    """Whether a process can have files open: not if it is the kernel's own, or has ended."""
    try:
        # The name in parentheses may hold anything, parentheses too.
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    state, flags = fields[0], int(fields[6])
    return state not in "ZX" and not flags & _PF_KTHREAD


def describe(process: Path, proc: Path = Path("/proc")) -> Holder | None:
    """Who a process is; None if it has ended."""
    try:
        return _holder(process, proc)
    except OSError:
        return None


def _holder(process: Path, proc: Path) -> Holder:
    unit, of_user = _unit(process)
    pid = int(process.name)
    # A child of ours runs in our own unit, which nobody should be advised to stop.
    ours = unit == _unit(proc / "self")[0] and pid != os.getpid()
    return Holder(pid, _command(process), None if ours else unit, of_user)


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    arguments = tuple(word for word in words if word)
    if not arguments:
        return f"[{(process / 'comm').read_text(errors='replace').strip()}]"
    text = CommandAddress(arguments).label.removeprefix("exec:")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_MAX_COMMAND]


def _unit(process: Path) -> tuple[str | None, bool]:
    """The innermost service or scope of a process, and whether a user's own systemd runs it."""
    try:
        paths = _SYSTEMD_GROUP.findall((process / "cgroup").read_text(errors="replace"))
    except OSError:
        return None, False
    for path in paths:
        units = [part for part in path.split("/") if part.endswith((".service", ".scope"))]
        if units:
            return units[-1], any(unit.startswith("user@") for unit in units[:-1])
    return None, False
