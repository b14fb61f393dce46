"""The commands: run, check, probe, devices, reset, install-service, uninstall-service."""

import argparse
import asyncio
import gc
import itertools
import json
import logging
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mjrelay import __version__
from mjrelay.configuration.address import Address, ListenAddress, V4l2Address, parse_address
from mjrelay.configuration.redaction import redact
from mjrelay.configuration.tables import (
    SYSTEM_CONFIG,
    Config,
    config_of,
    dump,
    find_config,
    load_config,
    with_listen,
)
from mjrelay.errors import ConfigError, ListenError, RemedyFailed

OK, FAILED, USAGE = 0, 1, 2

_MAX_SECONDS = 86_400.0

_NAMED_SOURCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)=(.+)$", re.DOTALL)
_NOTHING_TO_DO = f"""\
There is nothing to relay yet. Try a moving test picture:

    mjrelay run testcard:

or your camera:

    mjrelay run 'http://PRINTER:8080/?action=stream'

or write a configuration to ./mjrelay.toml or {SYSTEM_CONFIG}.
"""
_SOURCES = """\
SOURCE is one of:
  http://HOST:PORT/PATH, https://…   a camera; http://USER:PASSWORD@HOST/… logs in
  /dev/video0, /dev/v4l/by-id/…      a camera of this computer
  usb:VVVV:PPPP[:SERIAL]             the same by its USB ids; `mjrelay devices` lists them
  testcard:                          a moving picture; testcard:?size=1280x720&fps=30
  exec:COMMAND ARG…                  a program that writes MJPEG to its standard output
Quote a SOURCE that holds ?, & or spaces. NAME=SOURCE names the camera.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    options = _parser().parse_args(arguments)
    say_why = _tell_the_log if options.command == "run" else _complain
    try:
        sys.exit(_run(options))
    except ConfigError as error:
        sys.exit(say_why(*error.faults, status=USAGE))
    except ListenError as error:
        sys.exit(say_why(str(error), status=FAILED))
    except BrokenPipeError:
        sys.stderr.close()  # the program that read our output has ended
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mjrelay",
        description="One camera connection in, any number of MJPEG viewers out.",
    )
    parser.add_argument("--version", action="version", version=f"mjrelay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(commands, "run", "serve cameras until SIGTERM or SIGINT", epilog=_SOURCES)
    run.add_argument("-c", "--config", type=Path, metavar="FILE", help="a TOML configuration")
    run.add_argument(
        "--listen",
        action="append",
        metavar="ADDR",
        help="HOST:PORT, [IPV6]:PORT or unix:/PATH instead of the configured ones; repeatable",
    )
    run.add_argument("-v", "--verbose", action="store_true", help="log every retry as well")
    run.add_argument("sources", nargs="*", metavar="[NAME=]SOURCE")

    checking = _command(commands, "check", "print every fault of a configuration")
    checking.add_argument("-c", "--config", type=Path, metavar="FILE", help="a TOML configuration")
    checking.add_argument(
        "--dump", action="store_true", help="print the effective configuration, without secrets"
    )

    probe = _command(commands, "probe", "open a source once and report on it", epilog=_SOURCES)
    probe.add_argument("source", metavar="SOURCE")
    probe.add_argument(
        "--seconds", type=_duration, default=5.0, metavar="N", help="watch N seconds (default: 5)"
    )
    probe.add_argument("--json", action="store_true", help="print JSON")

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


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < _MAX_SECONDS:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return seconds


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
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


def _run(options: argparse.Namespace) -> int:
    others = {
        "check": _check,
        "probe": _probe,
        "devices": _devices,
        "reset": _reset,
        "install-service": _change_service,
        "uninstall-service": _change_service,
    }
    if command := others.get(options.command):
        return command(options)
    if options.sources and options.config:
        raise ConfigError("give either sources or --config, not both")
    path = None if options.sources else options.config or find_config()
    if not options.sources and path is None:
        return _complain(_NOTHING_TO_DO, status=USAGE)
    return _serve(
        lambda: _configured(options, path), can_reload=path is not None, verbose=options.verbose
    )


def _serve(read: Callable[[], Config], *, can_reload: bool, verbose: bool) -> int:
    """Serve the cameras of a configuration.

    Args:
        read: Reads the configuration, at first and at each reload.
        can_reload: Whether it comes from a file, so that SIGHUP means to read it again.
        verbose: Whether to log at level debug.
    """
    if can_reload:
        # Until the relay handles it: the file is about to be read anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from mjrelay.service.logs import set_up_logs  # noqa: PLC0415
    from mjrelay.service.rights import withhold_capabilities  # noqa: PLC0415

    set_up_logs(logging.DEBUG if verbose else logging.INFO)
    withhold_capabilities()
    config = read()
    from mjrelay.relay import Orders, relay  # noqa: PLC0415 - aiohttp: 0.3 s to load
    from mjrelay.service.systemd import Inheritance, take_variables  # noqa: PLC0415
    from mjrelay.web.listening import listening  # noqa: PLC0415

    async def serve() -> None:
        orders = Orders()
        with orders.taken_from_signals(can_reload=can_reload):
            reread = read if can_reload else None
            await relay(config, listeners, orders, reread=reread, inheritance=inheritance)

    _allow_many_clients()
    take_variables()
    inheritance = Inheritance()
    with listening(config.server, inheritance) as listeners:
        _greet([listener.address for listener in listeners])
        # The modules that are loaded by now stay. If the garbage collector searched them when many
        # clients come at once, that would hold up all of them for 25 ms (measured).
        gc.freeze()
        asyncio.run(serve())
    return OK


def _allow_many_clients() -> None:
    """Raise the limit of open files as far as we may: each client takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _greet(addresses: list[ListenAddress]) -> None:
    """On a terminal, print the addresses to open in a browser."""
    if sys.stderr.isatty():
        for address in addresses:
            if not address.path:
                host = address.host if address.host not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104
                print(f"Watch at http://{ListenAddress(host, address.port)}/", file=sys.stderr)


def _configured(options: argparse.Namespace, path: Path | None) -> Config:
    """The configuration that a `run` command line asks for.

    Args:
        options: The command line.
        path: The file to read; None if the command line names sources instead.
    """
    listen = _listen_addresses(options.listen or [])
    if path is None:
        return config_of(_named_sources(options.sources), listen)
    config = load_config(path)
    return with_listen(config, listen) if listen else config


def _listen_addresses(texts: list[str]) -> tuple[ListenAddress, ...]:
    addresses, faults = [], []
    for text in texts:
        try:
            addresses.append(ListenAddress.parse(text))
        except ValueError as error:
            faults.append(f"--listen: expected {error}, got {text}")
    if faults:
        raise ConfigError(*faults)
    return tuple(addresses)


def _named_sources(texts: list[str]) -> dict[str, Address]:
    """Name the sources: as written before a `=`, else camera, camera2 and so on."""
    named = [match.groups() if (match := _NAMED_SOURCE.match(t)) else ("", t) for t in texts]
    given = [name for name, _ in named if name]
    numbers = itertools.count(1)
    usual = ("camera" if number == 1 else f"camera{number}" for number in numbers)
    free = (name for name in usual if name not in given)
    faults = [f"two cameras are named {name}" for name in set(given) if given.count(name) > 1]
    sources = {}
    for number, (name, source) in enumerate(named, 1):
        try:
            sources[name or next(free)] = parse_address(source)
        except ValueError as error:
            faults.append(f"source {number}: expected {error}, got {redact(source)}")
    if faults:
        raise ConfigError(*faults)
    return sources


def _check(options: argparse.Namespace) -> int:
    path = options.config or find_config()
    if path is None:
        return _complain(
            f"There is no configuration at ./mjrelay.toml or {SYSTEM_CONFIG}; "
            "name one with --config FILE.",
            status=USAGE,
        )
    config = load_config(path)
    if options.dump:
        import tomli_w  # noqa: PLC0415 - for this command only

        print(tomli_w.dumps(dump(config)), end="")
    else:
        names = ", ".join(config.cameras)
        print(f"{path}: no faults; cameras: {names}")
    return OK


def _probe(options: argparse.Namespace) -> int:
    from mjrelay.probe import Report, probe  # noqa: PLC0415
    from mjrelay.service.logs import set_up_logs  # noqa: PLC0415

    set_up_logs(logging.WARNING)  # all else is in the report
    [(_, address)] = _named_sources([options.source]).items()
    config = config_of({"camera": address}, ())

    async def probing() -> Report:
        # A program that the probe has started must be ended with it.
        task = asyncio.current_task()
        assert task
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await probe(config.cameras["camera"], seconds=options.seconds, progress=_progress)

    try:
        report = asyncio.run(probing())
    except asyncio.CancelledError:
        return FAILED
    print(report.as_json() if options.json else report.as_text())
    return OK if report.pictures else FAILED


def _devices(options: argparse.Namespace) -> int:
    from mjrelay.devices.computer import Devices  # noqa: PLC0415 - v4l2py: 0.1 s to load
    from mjrelay.devices.inventory import capture_devices  # noqa: PLC0415

    devices = capture_devices(Devices())
    if options.json:
        print(json.dumps([device.as_values() for device in devices], indent=2))
        return OK
    for device in devices:
        print(device.as_text(), end="\n\n")
    if not devices:
        print("There is no camera here. Plug one in, or see what the kernel says: sudo dmesg")
    elif any(device.holders.hidden for device in devices):
        print("Run as root to see what other users' programs hold: sudo mjrelay devices")
    return OK


def _reset(options: argparse.Namespace) -> int:
    from mjrelay.devices.computer import Devices  # noqa: PLC0415 - v4l2py: 0.1 s to load
    from mjrelay.devices.resetting import reset_unless_held  # noqa: PLC0415

    try:
        address = V4l2Address.parse(options.device)
    except ValueError as error:
        raise ConfigError(f"expected /dev/videoN or {error}, got {options.device}") from error
    devices = Devices()
    _progress(f"resetting {address.label} …")
    try:
        node = reset_unless_held(
            lambda seen: devices.find(address, seen=seen),
            devices.reset,
            devices,
            force=options.force,
        )
    except RemedyFailed as error:
        _progress("")
        hints = [error.hint] if error.hint else []
        if error.is_held:
            hints.append("to reset it anyway: --force")
        return _complain(error.reason, *hints, status=FAILED)
    _progress("")
    print(f"{node.usb.model if node.usb else node.name} was reset and is at {node.path}")
    return OK


def _change_service(options: argparse.Namespace) -> int:
    from mjrelay.installing import service, steps  # noqa: PLC0415 - for these commands only

    try:
        computer = steps.this_computer(dry_run=options.dry_run)
        if options.command == "install-service":
            service.install(computer, service.this_program(), options.config)
        else:
            service.uninstall(computer)
    except steps.InstallError as error:
        return _complain(str(error), status=FAILED)
    return OK


def _progress(text: str) -> None:
    """On a terminal, replace the line that tells how far the work is."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _complain(*sentences: str, status: int) -> int:
    """Print sentences to standard error. Returns the exit status, for the caller to return."""
    for sentence in sentences:
        print(sentence.rstrip("\n"), file=sys.stderr)
    return status


def _tell_the_log(*faults: str, status: int) -> int:
    """Complain; in systemd's journal as a log line, so that `journalctl -p err` shows it."""
    import structlog  # noqa: PLC0415 - only where there is something to complain about

    from mjrelay.service.logs import is_journal, set_up_logs  # noqa: PLC0415

    if not is_journal():
        return _complain(*faults, status=status)
    set_up_logs(logging.INFO)
    structlog.get_logger().error("relay.not_started", faults=list(faults))
    return status
