"""Making a service of a program that pip, pipx or uv installed, and taking it away again.

What is to be done is decided first, as a list of steps; then it is done, or only told.
"""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mjrelay
from mjrelay.config import load_config
from mjrelay.errors import MjrelayError

CONFIG = Path("/etc/mjrelay/mjrelay.toml")
_UNITS = Path("/etc/systemd/system")
_RULES = Path("/etc/udev/rules.d/60-mjrelay.rules")
_USERS = Path("/etc/sysusers.d/mjrelay.conf")
_SERVICE, _SOCKET = "mjrelay.service", "mjrelay.socket"

# Where the Debian package has its unit; it does all of this by itself.
_PACKAGED = (Path("/usr/lib/systemd/system") / _SERVICE, Path("/lib/systemd/system") / _SERVICE)
_RUNS_SYSTEMD = Path("/run/systemd/system")
# What ProtectHome= and PrivateTmp= keep from the service.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108

_SHIPPED_START = "ExecStart=/usr/bin/mjrelay run --config /etc/mjrelay/mjrelay.toml\n"

Say = Callable[[str], None]
Start = Callable[[Sequence[str]], int]


class InstallError(MjrelayError):
    """The service cannot be installed or removed; the message says why and what to do."""


@dataclass(frozen=True)
class Write:
    """A file to write.

    Attributes:
        only_if_none: One that is there belongs to its user.
    """

    path: Path
    text: str
    only_if_none: bool = False


@dataclass(frozen=True)
class Remove:
    """A file to remove, or a folder with nothing left in it.

    Attributes:
        only_if: Remove it only while it has this text; None for any.
    """

    path: Path
    only_if: str | None = None


@dataclass(frozen=True)
class Run:
    """A command to run.

    Attributes:
        hint: What to do when it fails; empty where that does no harm.
    """

    words: tuple[str, ...]
    hint: str = ""


Step = Write | Remove | Run


@dataclass(frozen=True)
class Computer:
    """What the steps are done to.

    Attributes:
        root: Where its files begin.
        say: Told each step.
        start: Runs a command and returns its status.
        dry_run: Only tell.
    """

    root: Path
    say: Say
    start: Start
    dry_run: bool = False

    def at(self, path: Path) -> Path:
        """Where a file of it is."""
        return self.root / path.relative_to("/")


def this_computer(*, dry_run: bool) -> Computer:
    """The one we run on.

    Raises:
        InstallError: We may not change it.
    """
    if not dry_run and os.geteuid() != 0:
        raise InstallError("only root may do that: put sudo before it; --dry-run needs no rights")
    return Computer(Path("/"), print, _start, dry_run)


def install(computer: Computer, program: Sequence[Path], config: Path | None = None) -> None:
    """Install, enable and start the service; doing it again does no harm.

    Args:
        computer: Where.
        program: What the service starts, and then everything else that takes.
        config: What it serves; None for the usual one, which is made if there is none.

    Raises:
        InstallError: It cannot be, or a command failed.
        ConfigError: The configuration has faults; nothing was done.
    """
    _refuse_without_systemd(computer)
    config = config.absolute() if config else CONFIG
    _refuse_what_is_hidden([*program, config])
    if config != CONFIG or computer.at(config).exists():
        load_config(computer.at(config))
    _carry_out(_installation(program[0], config), computer)


def uninstall(computer: Computer) -> None:
    """Stop the service and remove what installing it made, but for a configuration with changes.

    Raises:
        InstallError: The service is not ours to remove.
    """
    _refuse_without_systemd(computer)
    _carry_out(_removal(), computer)


def this_program() -> list[Path]:
    """The program that runs, by the path people start it by, and all it needs.

    Links are left as they are: what they lead to may have another name after an upgrade.

    Raises:
        InstallError: It was not installed.
    """
    started = Path(sys.argv[0]).absolute()
    if started.name != "mjrelay":  # python -m mjrelay
        started = Path(sysconfig.get_path("scripts")) / "mjrelay"
    if not os.access(started, os.X_OK):
        raise InstallError(f"there is no {started}: install mjrelay first, as with {_FOR_ALL}")
    return [started, Path(sys.prefix), Path(sys.base_prefix), _package()]


def _package() -> Path:
    return Path(mjrelay.__file__).parent


_FOR_ALL = "`sudo pipx install --global mjrelay`"
_ELSEWHERE = (
    f"install mjrelay for all users, with {_FOR_ALL} or `sudo UV_TOOL_DIR=/opt/uv "
    "UV_TOOL_BIN_DIR=/usr/local/bin uv tool install --python /usr/bin/python3 mjrelay`, "
    "and then run: sudo /usr/local/bin/mjrelay install-service"
)


def _refuse_without_systemd(computer: Computer) -> None:
    if not computer.at(_RUNS_SYSTEMD).is_dir():
        raise InstallError("this computer does not run systemd")
    if any(computer.at(path).exists() for path in _PACKAGED):
        raise InstallError(
            "the Debian package has installed the service; use systemctl to start it, and "
            "`sudo apt purge mjrelay` to remove it"
        )


def _refuse_what_is_hidden(paths: Iterable[Path]) -> None:
    for path in paths:
        for seen in (path, path.resolve()):
            hidden = next((folder for folder in _HIDDEN if seen.is_relative_to(folder)), None)
            if hidden:
                remedy = (
                    f"copy it: sudo cp {path} {CONFIG}" if path.suffix == ".toml" else _ELSEWHERE
                )
                raise InstallError(f"the service cannot see {hidden}, where {seen} is: {remedy}")


def _installation(program: Path, config: Path) -> list[Step]:
    start = f"ExecStart={_quoted(program)} run --config {_quoted(config)}\n"
    steps: list[Step] = [
        Write(_USERS, _shipped("mjrelay.sysusers.conf")),
        Write(_RULES, _shipped(_RULES.name)),
        Write(_UNITS / _SERVICE, _shipped(_SERVICE).replace(_SHIPPED_START, start)),
        Write(_UNITS / _SOCKET, _shipped(_SOCKET)),
    ]
    if config == CONFIG:
        steps.append(Write(CONFIG, _shipped(CONFIG.name), only_if_none=True))
    return [
        *steps,
        Run(("systemd-sysusers", str(_USERS)), "make a system user named mjrelay"),
        Run(("udevadm", "control", "--reload")),
        Run(("udevadm", "trigger", "--subsystem-match=usb", "--action=change")),
        Run(("systemctl", "daemon-reload"), "see what it says above"),
        Run(("systemctl", "enable", _SERVICE), "see what it says above"),
        # Not --now: one that runs has to become the one that was installed. systemd keeps its
        # cameras meanwhile.
        Run(("systemctl", "restart", _SERVICE), f"see: journalctl -u {_SERVICE} -o cat -n 20"),
    ]


def _removal() -> list[Step]:
    return [
        Run(("systemctl", "disable", "--now", _SERVICE, _SOCKET)),
        *(Remove(_UNITS / name) for name in (_SERVICE, _SOCKET)),
        Remove(_RULES),
        Remove(_USERS),
        Remove(CONFIG, only_if=_shipped(CONFIG.name)),
        Remove(CONFIG.parent),
        Remove(_UNITS / f"{_SERVICE}.d"),
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", "reset-failed", _SERVICE)),
        Run(("udevadm", "control", "--reload")),
        Run(("userdel", "mjrelay")),
    ]


def _quoted(path: Path) -> str:
    """A path as a word of ExecStart=."""
    text = str(path).replace("%", "%%").replace("$", "$$").replace("\\", r"\\").replace('"', r"\"")
    return f'"{text}"' if set(text) & set(" \t'\"\\") else text


def _shipped(name: str) -> str:
    """The text of a file that comes with the program: in a wheel's share/mjrelay or a checkout."""
    checkout = _package().parent
    for path in (checkout / "systemd" / name, checkout / name):
        if path.is_file():
            return path.read_text("utf-8")
    for file in importlib.metadata.files("mjrelay") or ():
        if file.match(f"share/mjrelay/{name}"):
            return Path(str(file.locate())).read_text("utf-8")
    raise InstallError(f"mjrelay was installed without its file {name}: install it again")


def _carry_out(steps: Iterable[Step], computer: Computer) -> None:
    for step in steps:
        match step:
            case Write():
                _write(step, computer)
            case Remove():
                _remove(step, computer)
            case Run():
                _run(step, computer)


def _write(step: Write, computer: Computer) -> None:
    path = computer.at(step.path)
    there = path.read_text("utf-8") if path.exists() else None
    if there == step.text:
        computer.say(f"unchanged  {step.path}")
    elif there is not None and step.only_if_none:
        computer.say(f"kept       {step.path}")
    else:
        computer.say(f"write      {step.path}")
        if not computer.dry_run:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(step.text, "utf-8")
            # Whatever root's umask: the service's user reads it.
            path.chmod(0o644)


def _remove(step: Remove, computer: Computer) -> None:
    path = computer.at(step.path)
    if path.is_dir():
        _remove_folder(step.path, computer)
    elif path.exists():
        if step.only_if not in (None, path.read_text("utf-8")):
            return  # the folder says so
        computer.say(f"remove     {step.path}")
        if not computer.dry_run:
            path.unlink()


def _remove_folder(folder: Path, computer: Computer) -> None:
    if any(computer.at(folder).iterdir()):
        computer.say(f"kept       {folder}, with what you wrote there: sudo rm -r {folder}")
    else:
        computer.say(f"remove     {folder}")
        if not computer.dry_run:
            computer.at(folder).rmdir()


def _run(step: Run, computer: Computer) -> None:
    computer.say(f"run        {' '.join(step.words)}")
    if not computer.dry_run and computer.start(step.words) and step.hint:
        raise InstallError(f"that failed: {step.hint}")


def _start(words: Sequence[str]) -> int:
    try:
        return subprocess.run(words, check=False).returncode  # noqa: S603 - our own commands
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return 127
