"""The configuration: a TOML file in, frozen dataclasses out, every fault at once."""

import codecs
import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from mjrelay.configuration import readers, slips, suggestions
from mjrelay.configuration.address import (
    USUAL_HOST,
    USUAL_PORT,
    Address,
    HttpAddress,
    ListenAddress,
    TestcardAddress,
)
from mjrelay.configuration.headers import Header, read_headers
from mjrelay.errors import ConfigError

SYSTEM_CONFIG = Path("/etc/mjrelay/mjrelay.toml")
"""The configuration of the service."""
SEARCHED = (Path("mjrelay.toml"), SYSTEM_CONFIG)
"""Where a configuration is looked for when none is named: the first that exists is used."""

# At most 64 characters: systemd keeps a camera's device under this name, and limits its length.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# A person may have written a secret itself there.
_NEVER_SHOWN = ("password_file", "headers")
# What editors of Windows put at the beginning of a file, and the encoding that it tells of.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
T = TypeVar("T")


def _option(read: Callable[[object], T], default: T) -> T:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """`[server]`: where to listen and how to answer."""

    listen: tuple[ListenAddress, ...] = _option(
        readers.list_of(readers.listen), (ListenAddress(USUAL_HOST, USUAL_PORT),)
    )
    base_path: str = _option(readers.base_path, "/")
    camera_listen: Mapping[str, ListenAddress] = field(
        default_factory=dict, metadata={"read": readers.listen_table}
    )
    cors_origins: tuple[str, ...] = _option(readers.list_of(readers.origin), ("*",))


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """`[camera.NAME]`: one camera. docs/reference/configuration.md says what each option means.

    Attributes:
        size: Width and height in pixels; None leaves the choice to us.
        format: The pixel format, MJPG or YUYV; empty leaves the choice to us.
        password: From `password_file` or the source's URL, never from the table itself.
        ring_from_start: Whether the table holds the option `ring`. If it does, the past is kept
            from the start, and otherwise only from the first clip on.
    """

    source: Address = field(metadata={"read": readers.source})
    username: str = _option(readers.text, "")
    password_file: str = _option(readers.text, "")
    http_version: str = _option(readers.one_of("1.0", "1.1"), "1.1")
    headers: Mapping[str, Header] = field(default_factory=dict, metadata={"read": read_headers})
    tls_verify: bool = _option(readers.flag, True)
    size: tuple[int, int] | None = _option(readers.picture_size, None)
    fps: float = _option(readers.number, 0.0)
    format: str = _option(readers.pixel_format, "")
    usb_reset: bool | str = field(default=True, metadata={"read": readers.usb_reset})
    usb_resets_per_hour: float = _option(readers.number, 6.0)
    controls: Mapping[str, int] = field(default_factory=dict, metadata={"read": readers.controls})
    mode: str = _option(readers.one_of("always", "demand"), "always")
    linger: float = _option(readers.seconds, 30.0)
    connect_timeout: float = _option(readers.positive_seconds, 10.0)
    first_frame_timeout: float = _option(readers.positive_seconds, 10.0)
    stall_timeout: float = _option(readers.positive_seconds, 5.0)
    redial_delay: float = _option(readers.seconds, 1.0)
    retry_max: float = _option(readers.positive_seconds, 30.0)
    frozen_after: float = _option(readers.seconds, 0.0)
    max_frame: int = _option(readers.size, 8 * 2**20)
    warm_up: float = _option(readers.seconds, 0.0)
    ring: float = _option(readers.seconds, 5.0)
    ring_bytes: int = _option(readers.size, 64 * 2**20)
    placeholder: bool = _option(readers.flag, True)
    offline_after: float = _option(readers.seconds, 1.0)
    password: str = field(default="", repr=False)
    ring_from_start: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a file or a command line can say. The first camera is the default one."""

    server: ServerConfig = field(default_factory=ServerConfig)
    cameras: Mapping[str, CameraConfig] = field(default_factory=dict)


Fault = tuple[str, str]
"""The path of an option, such as "camera.printer.mode", and what is wrong there."""


def find_config() -> Path | None:
    """The configuration to use when none is named, or None."""
    return next((path for path in SEARCHED if os.path.lexists(path)), None)


def load_config(path: Path, *, with_secrets: bool = True) -> Config:
    """Read and check a configuration file.

    Args:
        path: The file's.
        with_secrets: False leaves the password files unread.

    Raises:
        ConfigError: With every fault: path and line, the value seen, what was expected.
    """
    try:
        text = _read(path)
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        line, cause = slips.cause(text, error)
        where = f"{path}:{line}" if line else path
        raise ConfigError(f"{where}: is not valid TOML: {cause}") from error
    faults: list[Fault] = []
    config = _structure(tables, faults)
    config = _with_secrets(config, path.parent if with_secrets else None, faults)
    faults += check(config)
    if not config.cameras and not faults:
        faults.append(("camera", "at least one [camera.NAME] with a source is needed"))
    if faults:
        raise ConfigError(*(f"{_place(path, text, where)}: {what}" for where, what in faults))
    return config


def check(config: Config) -> Iterator[Fault]:
    """Yield the faults of options that are right by themselves, but not together."""
    owners: dict[str, str] = {}
    for name, camera in config.cameras.items():
        path = f"camera.{name}"
        if not _NAME.fullmatch(name):
            yield path, "a camera's name is made of letters, digits, - and _, 64 of them at most"
        identity = camera.source.identity
        if identity and (owner := owners.setdefault(identity, name)) != name:
            yield (
                f"{path}.source",
                (
                    f"{camera.source.label} is already the source of camera {owner}; remove one "
                    "of the two: a camera is read once, however many watch it"
                ),
            )
        if camera.password_file and not camera.username:
            yield f"{path}.password_file", "needs a username beside it, or one in the source's URL"
        if camera.username and any(name.lower() == "authorization" for name in camera.headers):
            yield f"{path}.headers", "Authorization is set here and by username: remove one of them"
    for name in config.server.camera_listen:
        if name not in config.cameras:
            known = ", ".join(config.cameras) or "none"
            yield f"server.camera_listen.{name}", f"there is no such camera; there are: {known}"
    if not config.server.listen:
        yield "server.listen", 'at least one address is needed, such as "127.0.0.1:8080"'
    addresses = [*config.server.listen, *config.server.camera_listen.values()]
    for address in {a for a in addresses if addresses.count(a) > 1 and (a.port or a.path)}:
        yield "server.listen", f"{address} is used twice"


def dump(config: Config) -> dict[str, Any]:
    """The effective configuration as TOML tables, without secrets."""
    return {
        "server": _dump_table(config.server),
        "camera": {name: _dump_table(camera) for name, camera in config.cameras.items()},
    }


def _dump_table(table: ServerConfig | CameraConfig) -> dict[str, Any]:
    values = {f.name: getattr(table, f.name) for f in fields(table) if f.metadata}
    if isinstance(table, CameraConfig):
        values["size"] = "{}x{}".format(*table.size) if table.size else readers.AUTO
        values["format"] = table.format or readers.AUTO
    return {name: _toml(value) for name, value in values.items()}


def _toml(value: Any) -> Any:
    match value:
        case bool() | int() | float() | str():
            return value
        case tuple():
            return [_toml(item) for item in value]
        case dict():
            return {key: _toml(item) for key, item in value.items()}
        case ListenAddress():
            return str(value)
        case Header():
            return value.shown
        case _:
            return value.label


def _structure(tables: dict[str, Any], faults: list[Fault]) -> Config:
    """Make our tables of TOML's. Add to `faults`; options with faults keep their defaults."""
    known = {"server": _options(ServerConfig), "camera": _options(CameraConfig)}
    faults += [
        (_first_table(key, value), slips.unknown_option("", key, value, known))
        for key, value in tables.items()
        if key not in known
    ]
    server = _fill(ServerConfig, tables.get("server", {}), "server", known, faults)
    cameras = tables.get("camera", {})
    nameless = "expected tables named [camera.NAME], such as [camera.printer]"
    if isinstance(cameras, dict):
        nameless = slips.nameless_camera(cameras, known["camera"])
    if nameless:
        faults.append(("camera", nameless))
        cameras = {}
    return Config(
        server=server,
        cameras={
            name: _fill(CameraConfig, table, f"camera.{name}", known, faults)
            for name, table in cameras.items()
        },
    )


def _first_table(key: str, value: object) -> str:
    """The path of the first table within a table that there is not: its head can be found."""
    tables = value if isinstance(value, dict) else {}
    return next((f"{key}.{name}" for name, inner in tables.items() if isinstance(inner, dict)), key)


def _options(kind: type[Any]) -> list[str]:
    return [option.name for option in fields(kind) if option.metadata]


def _fill(
    kind: type[T],
    table: object,
    path: str,
    options: Mapping[str, list[str]],
    faults: list[Fault],
) -> T:
    """Make a `kind` of one TOML table. Options with faults keep their defaults."""
    if not isinstance(table, dict):
        faults.append((path, f"expected a table, got {_shown(table)}"))
        table = {"source": "testcard:"} if kind is CameraConfig else {}
    known = {f.name: f for f in fields(kind) if f.metadata}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            which = path.partition(".")[0]
            faults.append((f"{path}.{key}", slips.unknown_option(which, key, value, options)))
            continue
        try:
            values[key] = known[key].metadata["read"](value)
        except ValueError as error:
            shown = "" if key in _NEVER_SHOWN else _shown(value)
            what = suggestions.explain(error, shown, slips.quoted)
            faults.append((f"{path}.{key}", what))
    if "source" in known and "source" not in values:
        if "source" not in table and not table.keys() & {*slips.SOURCES}:
            faults.append((f"{path}.source", "is missing"))
        values["source"] = TestcardAddress()  # so that this camera's other options are checked
    if "ring" in known:
        values["ring_from_start"] = "ring" in table
    return kind(**values)


def _shown(value: object) -> str:
    """A value much as it stands in the file, without credentials."""
    if isinstance(value, list):
        return suggestions.shorten(f"[{', '.join(map(_shown, value))}]")
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return slips.quoted(suggestions.shown(value))
    return suggestions.shown(str(value))


def _with_secrets(config: Config, folder: Path | None, faults: list[Fault]) -> Config:
    """Set cameras' user names, passwords and headers: from URLs and, given a folder, files."""
    cameras = {}
    for name, camera in config.cameras.items():
        username, password = camera.username, ""
        if isinstance(camera.source, HttpAddress):
            username = username or camera.source.username
            password = camera.source.password
        if camera.password_file and folder:
            path = _secret_file(folder, camera.password_file)
            try:
                password = _read(path).rstrip("\r\n")
            except ValueError as error:
                faults.append((f"camera.{name}.password_file", f"cannot read {path}: {error}"))
        headers = _with_files(camera.headers, folder, f"camera.{name}.headers", faults)
        cameras[name] = replace(camera, username=username, password=password, headers=headers)
    return replace(config, cameras=cameras)


def _with_files(
    headers: Mapping[str, Header], folder: Path | None, where: str, faults: list[Fault]
) -> Mapping[str, Header]:
    """Read the headers whose values are in files, given a folder."""
    read = dict(headers)
    for name, header in headers.items():
        if header.file and folder:
            path = _secret_file(folder, header.file)
            try:
                read[name] = header.read(_read(path))
            except ValueError as error:
                faults.append((f"{where}.{name}", f"cannot read {path}: {error}"))
    return read


def _secret_file(folder: Path, name: str) -> Path:
    """The path of a secret's file: among systemd's credentials, or beside the configuration."""
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY") or folder, name)
    with contextlib.suppress(ValueError):  # the name holds a NUL
        if os.access(credential, os.R_OK):
            return credential
    return folder / name


def _read(path: Path) -> str:
    """A file's text. Raises ValueError with why it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror) from error
    mark, encoding = next((m for m in _MARKS if content.startswith(m[0])), (b"", "utf-8"))
    try:
        text = content.removeprefix(mark).decode(encoding)
    except ValueError as error:
        raise ValueError("it is not UTF-8 text; let your editor save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _place(path: Path, text: str, where: str) -> str:
    """`FILE:LINE: dotted.path`, with the line of the option or its table, if that can be found."""
    names = where.split(".")
    while names:
        line = _line_of(text, names)
        if line:
            return f"{path}:{line}: {suggestions.shown(where)}"
        names.pop()
    return f"{path}: {suggestions.shown(where)}"


def _line_of(text: str, names: list[str]) -> int:
    """The number of the line that begins a table or sets an option; 0 if it is not found."""
    parts = [rf"[\"']?{re.escape(name)}[\"']?" for name in names]
    dot = r"[ \t]*\.[ \t]*"
    for depth in range(len(parts), -1, -1):
        # As [a.b] with c = …, as [a] with b.c = …, or as a.b.c = …
        start, end = 0, len(text)
        if depth:
            header = rf"^[ \t]*\[\[?[ \t]*{dot.join(parts[:depth])}[ \t]*\]"
            table = re.search(header, text, re.MULTILINE)
            if not table:
                continue
            start = table.end()
            following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, start)
            end = following.start() if following else end
        if depth == len(parts):
            return text.count("\n", 0, start) + 1
        key = re.compile(rf"^[ \t]*{dot.join(parts[depth:])}[ \t]*=", re.MULTILINE)
        if found := key.search(text, start, end):
            return text.count("\n", 0, found.end()) + 1
    return 0


def with_listen(config: Config, listen: tuple[ListenAddress, ...]) -> Config:
    """The same configuration, but for its addresses to listen on."""
    return replace(config, server=replace(config.server, listen=listen))


def config_of(
    sources: Mapping[str, Address], listen: tuple[ListenAddress, ...], *, tls_verify: bool = True
) -> Config:
    """The configuration for a command line that names sources.

    Args:
        sources: By the names of the cameras.
        listen: Where to listen; empty for the default.
        tls_verify: Whether the certificate of an https source must be one that can be verified.

    Raises:
        ConfigError: Two cameras share a source, or a camera's name is not allowed.
    """
    cameras = {
        name: CameraConfig(source=address, tls_verify=tls_verify)
        for name, address in sources.items()
    }
    server = ServerConfig(listen=listen) if listen else ServerConfig()
    faults: list[Fault] = []
    config = _with_secrets(Config(server=server, cameras=cameras), Path(), faults)
    faults += check(config)
    if faults:
        raise ConfigError(*(f"{where}: {what}" for where, what in faults))
    return config
