"""The commands: run, check, probe, devices, reset, install-service, uninstall-service."""

import asyncio
import contextlib
import gc
import io
import itertools
import json
import logging
import os
import re
import resource
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mjrelay.command_line import Options, UsageError, parse, unquoted_command
from mjrelay.configuration.address import Address, ListenAddress, V4l2Address
from mjrelay.configuration.suggestions import (
    Mistake,
    explain,
    is_program,
    odd_device,
    read_source,
    shown,
)
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
from mjrelay.greeting import greeting

if TYPE_CHECKING:
    from mjrelay.web.listening import Listener

OK, FAILED, USAGE = 0, 1, 2

_NAMED_SOURCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\s*=\s*(.+)$", re.DOTALL)
# The same in several words, or without the =.
_NAME_APART = re.compile(
    r"(?!run |mjrelay )([A-Za-z][\w-]*) ?=? ((?:https?|usb|testcard):\S*|/dev/\S*)$", re.ASCII
)
_ODDLY_NAMED_SOURCE = re.compile(
    r"([^=:/?#]*)=((?:https?|rtsps?|usb|testcard|exec):.*|/dev/.*|\s*)$", re.DOTALL | re.IGNORECASE
)
_NAMED_WITH_COLON = re.compile(
    r"(?!(?:https?|rtsps?|usb|testcard|exec|ffmpeg):)([A-Za-z0-9][\w-]*):"
    r"((?:https?|rtsps?|usb|testcard|exec):.*)$",
    re.DOTALL | re.IGNORECASE,
)
_SOURCE_FOR_A_FILE = re.compile(r"(?:https?|rtsps?):/|(?:exec|usb|testcard):|/dev/video\d")
_NOTHING_TO_DO = f"""\
There is nothing to relay yet. Try a moving test picture:

    mjrelay run testcard:

or your camera:

    mjrelay run 'http://PRINTER:8080/?action=stream'

or write a configuration to ./mjrelay.toml or {SYSTEM_CONFIG}.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a person typed may hold bytes that are no text; so may what a camera sends.
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parse(arguments)
    except UsageError as error:
        sys.exit(_complain(str(error), status=USAGE))
    say_why = _tell_the_log if options.command == "run" else _complain
    try:
        sys.exit(_run(options))
    except ConfigError as error:
        sys.exit(say_why(*error.faults, status=USAGE))
    except ListenError as error:
        sys.exit(say_why(str(error), status=FAILED))
    except ImportError as error:
        sys.exit(say_why(f"mjrelay is not installed completely: {error}", status=FAILED))
    except BrokenPipeError:
        sys.stderr.close()  # the program that read our output has ended
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(options: Options) -> int:
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
        both = "give either sources or --config, not both"
        raise ConfigError(unquoted_command(options.words) or both)
    _refuse_source(options.config, "mjrelay run SOURCE, without --config")
    if options.insecure and not options.sources:
        raise ConfigError(
            "--insecure is for sources on the command line: in a configuration, write "
            "tls_verify = false below [camera.NAME]"
        )
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
        _greet(listeners, config.server.base_path)
        # The modules that are loaded by now stay. If the garbage collector searched them when many
        # clients come at once, that would hold up all of them for 25 ms (measured).
        gc.freeze()
        asyncio.run(serve())
    return OK


def _allow_many_clients() -> None:
    """Raise the limit of open files as far as we may: each client takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _greet(listeners: "list[Listener]", base_path: str) -> None:
    """On a terminal, say where to watch."""
    if sys.stderr.isatty():
        for line in greeting(
            [(listener.address, listener.camera) for listener in listeners], base_path
        ):
            print(line, file=sys.stderr)


def _configured(options: Options, path: Path | None) -> Config:
    """The configuration that a `run` command line asks for.

    Args:
        options: The command line.
        path: The file to read; None if the command line names sources instead.
    """
    listen = _listen_addresses(options.listen or [], options.port)
    if path is None:
        sources = _named_sources(options.sources)
        return config_of(sources, listen, tls_verify=not options.insecure)
    config = load_config(path)
    return with_listen(config, listen) if listen else config


def _listen_addresses(texts: list[str], port: int | None) -> tuple[ListenAddress, ...]:
    """The addresses of --listen and --port: the port is that of an address without one."""
    if port is not None and not texts:
        texts = [str(port)]
    addresses, faults = [], []
    for text in texts:
        try:
            addresses.append(ListenAddress.parse(text, usual_port=port))
        except ValueError as error:
            faults.append(f"--listen: expected {error}, got {shown(text)}")
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
        which = f"source {number}: " if len(texts) > 1 else ""
        try:
            if not name:
                _refuse_odd_name(source)
            sources[name or next(free)] = read_source(source)
        except ValueError as error:
            before = f"{name}=" if name else ""
            quote = partial(_quoted, before)
            faults.append(which + explain(error, shown(source), quote))
    if faults and (apart := _NAME_APART.match(" ".join(texts))):
        together = Mistake("NAME=SOURCE is one word", f"{apart[1]}={shown(apart[2])}")
        raise ConfigError(together.sentence(shlex.quote))
    if faults and (meant := unquoted_command(texts)):
        raise ConfigError(meant)
    if faults:
        raise ConfigError(*faults)
    return sources


def _quoted(before: str, text: str) -> str:
    """A text with what stands before it, as it is typed into a shell."""
    return shlex.quote(before + text)


def _refuse_odd_name(text: str) -> None:
    """Raise Mistake for a source with a name in front of it that is none."""
    if match := _NAMED_WITH_COLON.match(text):
        raise Mistake("a name is written with =", f"{match[1]}={shown(match[2])}")
    match = _ODDLY_NAMED_SOURCE.match(text)
    if not match or is_program(text):
        return
    name, source = match.groups()
    if not source:
        raise Mistake(
            f"{shown(text)} lacks a source: write NAME=SOURCE without spaces around the ="
        )
    good = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_") or "camera"
    raise Mistake("a name has letters, digits, - and _", f"{good}={shown(source)}")


def _refuse_source(path: Path | None, what_to_type: str) -> None:
    """Raise ConfigError for a source that was given in place of a file."""
    if path and _SOURCE_FOR_A_FILE.match(str(path)) and not os.path.lexists(path):
        raise ConfigError(f"{shown(str(path))} is a source and no file: type {what_to_type}")


def _check(options: Options) -> int:
    if options.config and options.file:
        raise ConfigError("give one FILE, with --config or without")
    path = options.config or options.file or find_config()
    _refuse_source(path, "mjrelay probe SOURCE")
    if path is None:
        return _complain(
            f"There is no configuration at ./mjrelay.toml or {SYSTEM_CONFIG}; "
            "name one: mjrelay check FILE",
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


def _probe(options: Options) -> int:
    from mjrelay.probe import Report, probe  # noqa: PLC0415
    from mjrelay.service.logs import set_up_logs  # noqa: PLC0415

    set_up_logs(logging.WARNING)  # all else is in the report
    [(_, address)] = _named_sources([options.source]).items()
    config = config_of({"camera": address}, (), tls_verify=not options.insecure)

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


def _devices(options: Options) -> int:
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


def _reset(options: Options) -> int:
    from mjrelay.devices.computer import Devices  # noqa: PLC0415 - v4l2py: 0.1 s to load
    from mjrelay.devices.resetting import reset_unless_held  # noqa: PLC0415

    try:
        address = V4l2Address.parse(options.device)
    except ValueError as error:
        meant = odd_device(options.device)
        expected = f"expected /dev/videoN or {error}, got {shown(options.device)}"
        raise ConfigError(meant.sentence(shlex.quote) if meant else expected) from error
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


def _change_service(options: Options) -> int:
    from mjrelay.installing import service, steps  # noqa: PLC0415 - for these commands only

    try:
        computer = steps.this_computer(dry_run=options.dry_run)
        if options.command == "install-service":
            service.install(computer, service.this_program(), options.config)
            _invite(options.config or SYSTEM_CONFIG)
        else:
            service.uninstall(computer)
    except steps.InstallError as error:
        return _complain(str(error), status=FAILED)
    return OK


def _invite(path: Path) -> None:
    """Say where to watch what the service serves, and how to let others watch."""
    with contextlib.suppress(ConfigError):  # there is none yet: it was a dry run
        server = load_config(path, with_secrets=False).server
        alone = [(address, camera) for camera, address in server.camera_listen.items()]
        every = [(address, "") for address in server.listen]
        print(*greeting([*every, *alone], server.base_path, service=path), sep="\n")


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
