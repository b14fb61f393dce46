"""Installing mjrelay as a systemd service after pip, pipx or uv, and uninstalling that."""

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

# The unit of the Debian package, which installs the service by itself.
_PACKAGED = (Path("/usr/lib/systemd/system") / _SERVICE, Path("/lib/systemd/system") / _SERVICE)
_RUNS_SYSTEMD = Path("/run/systemd/system")
_AS_IT_SAYS = "see what it says above; mend that and run this again"
_AS_THE_LOG_SAYS = f"see: sudo journalctl -u {_SERVICE} -o cat -n 20"
# Folders that ProtectHome= and PrivateTmp= hide from the service.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108


def install(computer: Computer, program: Sequence[Path], config: Path | None = None) -> None:
    """Install, enable and start the service; doing it again does no harm.

    Args:
        computer: The computer to change.
        program: The program that the service starts, and then everything that program needs.
        config: The configuration to serve; None for /etc/mjrelay/mjrelay.toml, which is written if
            it is missing.

    Raises:
        InstallError: The service cannot be installed, or a command failed.
        ConfigError: The configuration has faults; nothing was done.
    """
    _refuse_without_systemd(computer)
    if _is_packaged(computer):
        raise InstallError(_THE_PACKAGES)
    config = config.absolute() if config else SYSTEM_CONFIG
    _refuse_what_is_hidden([*program, config])
    if config != SYSTEM_CONFIG or computer.has(config):
        # Without secrets: they may be systemd credentials, which only the service is given.
        load_config(computer.at(config), with_secrets=False)
    carry_out(_installation(computer, program[0], config), computer)


def uninstall(computer: Computer) -> None:
    """Stop the service and remove what `install` made, but not a configuration that was changed.

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
    """The path by which this program was started, and then everything the program needs.

    Links are not followed: after an upgrade they may lead elsewhere.

    Raises:
        InstallError: There is no such program, since mjrelay is not installed.
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
        # Not enable --now, which would leave an older version running. systemd keeps the cameras'
        # devices during the restart.
        Run(("systemctl", "restart", _SERVICE), _AS_THE_LOG_SAYS),
    ]


def _removal(computer: Computer) -> list[Step]:
    """The steps that remove what there is of the service; no commands if there is nothing."""
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
        # A pattern, which need not match: without one, the command fails if no unit has failed.
        Run(("systemctl", "reset-failed", "mjrelay.*")),
        Run(("udevadm", "control", "--reload")),
        # Last: if a step before it fails, there is still a user, and the next try runs all again.
        *([Run(("userdel", _USER), f"see what it still runs: ps -u {_USER}")] if has_user else []),
    ]


def _removal_beside_the_package() -> list[Step]:
    """The steps that remove only our own files, which hide those of the Debian package."""
    return [
        *map(Remove, _WRITTEN),
        Run(("systemctl", "daemon-reload"), _AS_IT_SAYS),
        Run(("udevadm", "control", "--reload")),
        Run(("systemctl", "try-restart", _SERVICE), _AS_THE_LOG_SAYS),
    ]


def _has_user(computer: Computer) -> bool:
    """Whether /etc/passwd has the service's user: systemd-sysusers and userdel write there."""
    passwd = computer.at(Path("/etc/passwd"))
    return passwd.exists() and bool(
        re.search(rb"^%b:" % _USER.encode(), passwd.read_bytes(), re.MULTILINE)
    )


def _unit(program: Path, config: Path) -> str:
    """The text of the service's unit, which starts this program with this configuration."""
    shipped = _shipped(_SERVICE)
    [start] = re.findall(r"^ExecStart=.*$", shipped, re.MULTILINE)
    # In the program's path, unlike in its arguments, a $ begins no variable.
    argument = _quoted(config).replace("$", "$$")
    return shipped.replace(start, f"ExecStart={_quoted(program)} run --config {argument}")


def _quoted(path: Path) -> str:
    """A path, quoted as one word of ExecStart=."""
    text = str(path).replace("%", "%%").replace("\\", r"\\").replace('"', r"\"")
    return f'"{text}"' if set(text) & set(" \t'\"\\") else text


def _shipped(name: str) -> str:
    """The text of a file that comes with mjrelay: in a checkout, or a wheel's share/mjrelay."""
    checkout = _package().parent
    for path in (checkout / "systemd" / name, checkout / name):
        if path.is_file():
            return path.read_text("utf-8")
    for file in importlib.metadata.files("mjrelay") or ():
        if file.match(f"share/mjrelay/{name}"):
            return Path(str(file.locate())).read_text("utf-8")
    raise InstallError(f"mjrelay was installed without its file {name}: install it again")
