"""Making a service of a program that pip, pipx or uv installed, and taking it away again."""

import importlib.metadata
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import mjrelay
from mjrelay.configuration.tables import SYSTEM_CONFIG, load_config
from mjrelay.installing.steps import Computer, InstallError, Remove, Run, Step, Write, carry_out

_UNITS = Path("/etc/systemd/system")
_RULES = Path("/etc/udev/rules.d/60-mjrelay.rules")
_USERS = Path("/etc/sysusers.d/mjrelay.conf")
_SERVICE, _SOCKET = "mjrelay.service", "mjrelay.socket"

_WRITTEN = (_UNITS / _SERVICE, _UNITS / _SOCKET, _RULES, _USERS)
_STARTER = "starter.toml"
_USER = "mjrelay"

# Where the Debian package has its unit; it does all of this by itself.
_PACKAGED = (Path("/usr/lib/systemd/system") / _SERVICE, Path("/lib/systemd/system") / _SERVICE)
_RUNS_SYSTEMD = Path("/run/systemd/system")
_AS_IT_SAYS = "see what it says above; mend that and run this again"
_AS_THE_LOG_SAYS = f"see: sudo journalctl -u {_SERVICE} -o cat -n 20"
# What ProtectHome= and PrivateTmp= keep from the service.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108


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
    if _is_packaged(computer):
        raise InstallError(_THE_PACKAGES)
    config = config.absolute() if config else SYSTEM_CONFIG
    _refuse_what_is_hidden([*program, config])
    if config != SYSTEM_CONFIG or computer.has(config):
        # The secrets may be credentials, which the service alone is given.
        load_config(computer.at(config), with_secrets=False)
    carry_out(_installation(computer, program[0], config), computer)


def uninstall(computer: Computer) -> None:
    """Stop the service and remove what installing it made, but for a configuration with changes.

    Raises:
        InstallError: The service is not ours to remove.
    """
    _refuse_without_systemd(computer)
    packaged = _is_packaged(computer)
    if packaged and not computer.has(_USERS):
        raise InstallError(_THE_PACKAGES)
    steps = _removal_beside_the_package() if packaged else _removal(computer)
    carry_out(steps, computer)
    if not any(isinstance(step, Run) for step in steps):
        computer.say("nothing left to remove")


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


_FOR_ALL = "`sudo pipx install --global .`"
_ELSEWHERE = (
    f"install mjrelay for all users: in its folder, {_FOR_ALL} or `sudo UV_TOOL_DIR=/opt/uv "
    "UV_TOOL_BIN_DIR=/usr/local/bin uv tool install --python /usr/bin/python3 .`, "
    "and then run: sudo /usr/local/bin/mjrelay install-service"
)


_THE_PACKAGES = (
    "the Debian package has installed the service; use systemctl to start it, and "
    "`sudo apt purge mjrelay` to remove it"
)


def _refuse_without_systemd(computer: Computer) -> None:
    if not computer.at(_RUNS_SYSTEMD).is_dir():
        raise InstallError(
            "this computer does not run systemd, so there is no service to make: let what starts "
            "programs here start `mjrelay run --config FILE`; in a container, make that its command"
        )


def _is_packaged(computer: Computer) -> bool:
    return any(computer.has(path) for path in _PACKAGED)


def _refuse_what_is_hidden(paths: Iterable[Path]) -> None:
    for path in paths:
        for seen in (path, path.resolve()):
            hidden = next((folder for folder in _HIDDEN if seen.is_relative_to(folder)), None)
            if hidden:
                is_config = path.suffix == ".toml"
                remedy = f"copy it: sudo cp {path} {SYSTEM_CONFIG}" if is_config else _ELSEWHERE
                raise InstallError(f"the service cannot see {hidden}, where {seen} is: {remedy}")


def _installation(computer: Computer, program: Path, config: Path) -> list[Step]:
    steps: list[Step] = [
        Write(_USERS, _shipped("mjrelay.sysusers.conf")),
        Write(_RULES, _shipped(_RULES.name)),
        Write(_UNITS / _SERVICE, _unit(program, config)),
        Write(_UNITS / _SOCKET, _shipped(_SOCKET)),
    ]
    if config == SYSTEM_CONFIG:
        steps.append(Write(SYSTEM_CONFIG, _shipped(_STARTER), only_if_none=True))
    if not _has_user(computer):
        by_hand = (
            f"make the service's user: `sudo useradd --system --groups video {_USER}`, "
            "then run this again"
        )
        steps.append(Run(("systemd-sysusers", str(_USERS)), by_hand))
    return [
        *steps,
        Run(("udevadm", "control", "--reload")),
        Run(("udevadm", "trigger", "--subsystem-match=usb", "--action=change")),
        Run(("systemctl", "daemon-reload"), _AS_IT_SAYS),
        Run(("systemctl", "enable", _SERVICE), _AS_IT_SAYS),
        # Not --now: one that runs has to become the one that was installed. systemd keeps its
        # cameras meanwhile.
        Run(("systemctl", "restart", _SERVICE), _AS_THE_LOG_SAYS),
    ]


def _removal(computer: Computer) -> list[Step]:
    """What takes away all that there is of the service; no commands where nothing is."""
    units = [name for name in (_SERVICE, _SOCKET) if computer.has(_UNITS / name)]
    files = [Remove(path) for path in _WRITTEN if computer.has(path)]
    theirs = [
        Remove(SYSTEM_CONFIG, only_if=_shipped(_STARTER)),
        Remove(SYSTEM_CONFIG.parent),
        *(Remove(_UNITS / f"{name}.d") for name in (_SERVICE, _SOCKET)),
    ]
    has_user = _has_user(computer)
    if not files and not has_user:
        return [*theirs]
    return [
        *([Run(("systemctl", "disable", "--now", *units), _AS_IT_SAYS)] if units else []),
        *files,
        *theirs,
        Run(("systemctl", "daemon-reload"), _AS_IT_SAYS),
        # A pattern, since it is no fault that there is none.
        Run(("systemctl", "reset-failed", "mjrelay.*")),
        Run(("udevadm", "control", "--reload")),
        # Last: as long as there is a user, doing it again does the commands again.
        *([Run(("userdel", _USER), f"see what it still runs: ps -u {_USER}")] if has_user else []),
    ]


def _removal_beside_the_package() -> list[Step]:
    """What makes way for the package's own files, which ours hide; all else is the package's."""
    return [
        *map(Remove, _WRITTEN),
        Run(("systemctl", "daemon-reload"), _AS_IT_SAYS),
        Run(("udevadm", "control", "--reload")),
        Run(("systemctl", "try-restart", _SERVICE), _AS_THE_LOG_SAYS),
    ]


def _has_user(computer: Computer) -> bool:
    """Whether the service's user is where systemd-sysusers and userdel have theirs."""
    passwd = computer.at(Path("/etc/passwd"))
    return passwd.exists() and bool(
        re.search(rb"^%b:" % _USER.encode(), passwd.read_bytes(), re.MULTILINE)
    )


def _unit(program: Path, config: Path) -> str:
    """The service, with a start of its own."""
    shipped = _shipped(_SERVICE)
    [start] = re.findall(r"^ExecStart=.*$", shipped, re.MULTILINE)
    # A $ begins a variable in arguments only.
    argument = _quoted(config).replace("$", "$$")
    return shipped.replace(start, f"ExecStart={_quoted(program)} run --config {argument}")


def _quoted(path: Path) -> str:
    """A path as a word of ExecStart=."""
    text = str(path).replace("%", "%%").replace("\\", r"\\").replace('"', r"\"")
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
