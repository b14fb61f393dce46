"""The command line: what may be typed, and what was meant by what may not."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mjrelay import __version__
from mjrelay.configuration.redaction import CommandRedaction, redact
from mjrelay.configuration.suggestions import (
    Mistake,
    close_to,
    explain,
    is_program,
    read_source,
    shorten,
    shown,
)
from mjrelay.configuration.tables import SYSTEM_CONFIG
from mjrelay.errors import MjrelayError

_MAX_SECONDS = 86_400.0
_MOST_PORT = 65_535
_MOST_OF_A_MESSAGE = 500

_SOURCES = """\
SOURCE is one of:
  http://HOST:PORT/PATH, https://…   a camera; http://USER:PASSWORD@HOST/… logs in
  /dev/video0, /dev/v4l/by-id/…      a camera of this computer
  usb:VVVV:PPPP[:SERIAL]             the same by its USB ids; `mjrelay devices` lists them
  testcard:                          a moving picture; testcard:?size=1280x720&fps=30
  exec:COMMAND ARG…                  a program that writes MJPEG to its standard output
Quote a SOURCE that holds ?, & or spaces. NAME=SOURCE names the camera.
"""

# What the commands and options are called elsewhere.
_COMMANDS_ELSEWHERE = {
    **dict.fromkeys(("start", "serve", "server", "stream", "relay", "watch"), "run"),
    **dict.fromkeys(("test", "try", "open"), "probe"),
    **dict.fromkeys(("list", "ls", "cameras", "detect", "scan"), "devices"),
    **dict.fromkeys(("validate", "verify", "config", "lint"), "check"),
    "install": "install-service",
    **dict.fromkeys(("uninstall", "remove"), "uninstall-service"),
    "help": "--help",
    "version": "--version",
}
# What is asked of a service.
_SERVICE = {
    **dict.fromkeys(("stop", "restart", "status", "enable", "disable"), "systemctl {} mjrelay"),
    **dict.fromkeys(("log", "logs", "journal"), "journalctl -u mjrelay"),
    "reload": "systemctl reload mjrelay",
}
_OPTIONS_ELSEWHERE = {
    **dict.fromkeys(("-V", "--ver"), "--version"),
    **dict.fromkeys(("-p", "-P"), "--port"),
    **dict.fromkeys(("-l", "-b", "--bind", "--host", "--address", "--addr"), "--listen"),
    **dict.fromkeys(("-c", "-f", "--file", "--conf", "--configuration"), "--config"),
    "--debug": "--verbose",
    **dict.fromkeys(
        ("-k", "--no-tls-verify", "--no-check-certificate", "--no-verify"), "--insecure"
    ),
    **dict.fromkeys(("-t", "--time", "--duration", "--timeout"), "--seconds"),
}
# What has no option here, and how it is written.
_IN_A_CONFIGURATION = "below [camera.NAME] in a configuration"
_NO_OPTIONS = {
    **dict.fromkeys(
        ("-r", "--resolution", "--size", "--width", "--height"),
        f'size = "640x480" {_IN_A_CONFIGURATION}',
    ),
    **dict.fromkeys(
        ("--fps", "--framerate", "--desired-fps", "--rate"), f"fps = 15 {_IN_A_CONFIGURATION}"
    ),
    **dict.fromkeys(("--mode", "--on-demand"), f'mode = "demand" {_IN_A_CONFIGURATION}'),
    **dict.fromkeys(
        ("-u", "--user", "--username", "--login", "--auth", "--password", "--pass", "--passwd"),
        "http://USER:PASSWORD@HOST/…, with your own for USER and PASSWORD",
    ),
    **dict.fromkeys(("-n", "--name"), "NAME=SOURCE"),
    **dict.fromkeys(
        ("-d", "-i", "--device", "--input", "--source", "--url", "--camera"),
        "the SOURCE alone, such as /dev/video0",
    ),
}
_UNQUOTED_COMMAND = re.compile(r"(?:[\w-]+=)?exec:\S+$", re.IGNORECASE)
# A program without exec: before it is looked for here only: behind it, words may be anything.
_FIRST_WORDS = 2
_NAME = re.compile(r"[\w-]+=(?=\w+:|/)", re.ASCII)
_CONFIG_FILE = re.compile(r"[^-].*\.toml$", re.IGNORECASE)


Options = argparse.Namespace
"""What a command line says."""


class UsageError(MjrelayError):
    """A command line that cannot be understood; the message says what to type."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        said = shorten(redact(message), _MOST_OF_A_MESSAGE)
        raise UsageError(f"{self.format_usage()}{self.prog}: error: {said}")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read a command line; None is that of this program.

    Raises:
        UsageError: It cannot be understood.
    """
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    parser = make_parser()
    try:
        options, superfluous = parser.parse_known_args(words)
    except UsageError as error:
        if meant := unquoted_command(words) or _meant(words, parser):
            raise UsageError(meant) from error
        raise
    if superfluous:
        usual = f"{shown(superfluous[0])} is too much: mjrelay {options.command} --help"
        raise UsageError(unquoted_command(words) or _meant(words, parser) or usual)
    options.words = words
    return options


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="mjrelay",
        description="One camera connection in, any number of MJPEG viewers out.",
    )
    parser.add_argument("--version", action="version", version=f"mjrelay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(commands, "run", "serve cameras until Ctrl-C", epilog=_SOURCES)
    run.add_argument("-c", "--config", type=Path, metavar="FILE", help="a TOML configuration")
    run.add_argument(
        "--listen",
        action="append",
        metavar="ADDR",
        help="HOST:PORT, [IPV6]:PORT or unix:/PATH instead of the configured ones; repeatable. "
        "0.0.0.0 lets the whole network watch",
    )
    run.add_argument("--port", type=_port, metavar="N", help="listen on this port (default: 8080)")
    run.add_argument("-v", "--verbose", action="store_true", help="log every retry as well")
    run.add_argument("sources", nargs="*", metavar="[NAME=]SOURCE")

    checking = _command(commands, "check", "print every fault of a configuration")
    checking.add_argument("-c", "--config", type=Path, metavar="FILE", help="a TOML configuration")
    checking.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the same")
    checking.add_argument(
        "--dump", action="store_true", help="print the effective configuration, without secrets"
    )

    probe = _command(commands, "probe", "open a source once and report on it", epilog=_SOURCES)
    probe.add_argument("source", metavar="SOURCE")
    probe.add_argument(
        "--seconds", type=_duration, default=5.0, metavar="N", help="watch N seconds (default: 5)"
    )
    probe.add_argument("--json", action="store_true", help="print JSON")
    for command in (run, probe):
        command.add_argument(
            "--insecure",
            action="store_true",
            help="take any certificate of an https SOURCE (tls_verify = false)",
        )

    devices = _command(commands, "devices", "list the cameras of this computer and what uses them")
    devices.add_argument("--json", action="store_true", help="print JSON")

    reset = _command(commands, "reset", "reset a USB camera, as if its cable had been pulled")
    reset.add_argument("device", metavar="DEVICE", help="/dev/video0, /dev/v4l/… or usb:VVVV:PPPP")
    reset.add_argument(
        "--force", action="store_true", help="even if another program has it open, and so loses it"
    )

    install = _command(
        commands, "install-service", "make a systemd service of this program, and start it"
    )
    install.add_argument(
        "--config", type=Path, metavar="FILE", help=f"serve this instead of {SYSTEM_CONFIG}"
    )
    uninstall = _command(commands, "uninstall-service", "stop the service and remove its files")
    for command in (install, uninstall):
        command.add_argument("--dry-run", action="store_true", help="only print what would be done")
    return parser


def _command(
    commands: "argparse._SubParsersAction[_Parser]",
    name: str,
    help: str,  # noqa: A002 - argparse's word
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _duration(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < _MAX_SECONDS:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return seconds


def _port(text: str) -> int:
    digits = text.removeprefix(":")
    if not (digits.isdecimal() and len(digits) < 6 and int(digits) <= _MOST_PORT):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(
            f"must be a port, from 0 to {_MOST_PORT}; with an address: --listen 0.0.0.0:8080"
        )
    return int(digits)


def unquoted_command(words: Sequence[str]) -> str:
    """What to type where the shell has taken a command of an `exec:` source apart; else empty."""
    for index, word in enumerate(words[:-1]):
        follower = words[index + 1]
        if follower.startswith("-") and index < _FIRST_WORDS and is_program(word):
            word = f"exec:{word}"  # noqa: PLW2901
        if _UNQUOTED_COMMAND.match(word) and (follower.startswith("-") or ":" not in follower):
            before = shlex.join(words[:index]) or "run"
            command = " ".join(CommandRedaction([word, *words[index + 1 :]]).words)
            return f"put quotes around the command: mjrelay {before} {shlex.quote(command)}"
    return ""


def _meant(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What was most likely meant by words that cannot be understood; empty if that is not known."""
    commands = _commands_of(parser)
    command = next((word for word in words if not word.startswith("-")), "")
    known = commands.get(command, parser)
    for word in words:
        if word == command and command not in commands:
            break
        if meant := _option(word.partition("=")[0], command, known, commands):
            return meant
    if command not in commands:
        return _missing_command(command, words, commands)
    if words[0] != command:
        at = words.index(command)
        ordered = [command, *words[:at], *words[at + 1 :]]
        return f"the command comes first: mjrelay {shlex.join(map(shown, ordered))}"
    file = next(filter(_CONFIG_FILE.match, words), "")
    if file and command != "check" and "--config" in _options_of(known):
        return f"did you mean --config {shlex.quote(file)}?"
    return ""


def _option(  # noqa: PLR0911 - cases
    word: str,
    command: str,
    parser: argparse.ArgumentParser,
    commands: dict[str, argparse.ArgumentParser],
) -> str:
    """What was meant by an option that there is not; empty for one that there is."""
    options = _options_of(parser)
    if not word.startswith("-") or not word.strip("-") or word in options:
        return ""
    if command not in commands and word in _options_of(commands["run"]):
        return f"{word} belongs to a command: did you mean mjrelay run {word} …?"
    meant = _OPTIONS_ELSEWHERE.get(word, word)
    if meant not in options:
        meant = close_to(word, [name for name in options if name.startswith("--")])
    if meant:
        return f"there is no {shown(word)}: did you mean {meant}?"
    short = word if word.startswith("--") else word[:2]
    if short != word and short in _OPTIONS_ELSEWHERE:
        return _option(short, command, parser, commands)
    if short in options or word[1].isdecimal():
        return ""
    if command in ("run", "probe") and (other := _NO_OPTIONS.get(short)):
        return f"there is no {short}: write {other}"
    return f"there is no {shown(short)}: {parser.prog} --help lists what there is"


def _missing_command(  # noqa: PLR0911 - cases
    word: str, words: Sequence[str], commands: dict[str, argparse.ArgumentParser]
) -> str:
    """What was meant where no command is given."""
    if not word:
        return ""
    if how := _SERVICE.get(word.lower()):
        return f"there is no command {word}; of the service: {how.format(word.lower())}"
    meant = _COMMANDS_ELSEWHERE.get(word.lower()) or close_to(word.lower(), [*commands])
    if meant:
        rest = [meant if other == word else shown(other) for other in words]
        return f"there is no command {word}: did you mean mjrelay {shlex.join(rest)}?"
    if _CONFIG_FILE.match(word):
        return f"did you mean mjrelay run --config {shlex.quote(word)}?"
    try:
        named = _NAME.match(word)
        read_source(word[named.end() :] if named else word)
    except Mistake as mistake:
        return explain(mistake, shown(word), lambda guess: f"mjrelay run {shlex.quote(guess)}")
    except ValueError:
        return f"there is no command {shown(word)}; there are: {', '.join(commands)}"
    return f"did you mean mjrelay run {shlex.quote(shown(word))}?"


def _commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [actions] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]  # noqa: SLF001
    return dict(actions.choices)


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [*parser._option_string_actions]  # noqa: SLF001
