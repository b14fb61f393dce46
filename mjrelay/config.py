"""The configuration: a TOML file in, frozen dataclasses out, every fault at once."""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from mjrelay.address import Address, HttpAddress, TestcardAddress, parse_address, redact
from mjrelay.errors import ConfigError

SEARCHED = (Path("mjrelay.toml"), Path("/etc/mjrelay/mjrelay.toml"))
"""Where a configuration is looked for when none is named."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*$")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)$")
_DURATIONS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)$")
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 1e3, "MB": 1e6, "GB": 1e9}
# Beyond these a number is a slip of the hand.
_MAX, _MAX_BYTES = 1e9, 2**40
_ORIGIN = re.compile(r"\*$|[a-z][a-z0-9+.-]*://[^/\s]+$", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen: a host (empty: every address) and port, or a unix socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "ListenAddress":
        """Read `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `unix:/PATH`. Raises ValueError."""
        if text.startswith("unix:/"):
            return cls(path=text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        valid = colon and port.isdecimal() and len(port) < 6 and int(port) < 2**16  # noqa: PLR2004
        if not valid or (":" in host and not bracketed):
            raise ValueError(
                'an address such as "127.0.0.1:8080" (for this computer only), "0.0.0.0:8080" or '
                '"[::]:8080" (for everyone) or "unix:/PATH"'
            )
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# How each option's TOML value is read. Each reader raises ValueError with what it expected.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, str) and (match := _DURATION.match(value)):
        value = float(match[1]) * _DURATIONS[match[2]]
    return _number(value, 'seconds, as in 2.5, or a text such as "5 s" or "250 ms"')


def _positive_seconds(value: object) -> float:
    seconds = _seconds(value)
    if not seconds:
        raise ValueError("more than 0 seconds")
    return seconds


def _number(value: object, expected: str = "a number, 0 or more") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX:
        raise ValueError(expected)
    return float(value)


def _bytes(value: object) -> int:
    if isinstance(value, str) and (match := _SIZE.match(value)):
        value = float(match[1]) * _SIZES[match[2]]
    elif isinstance(value, bool) or not isinstance(value, int):
        value = 0
    if not 1 <= value < _MAX_BYTES:
        raise ValueError('a size such as "8 MiB", or a number of bytes')
    return int(value)


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(" or ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return read


def _list_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def read_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError("a list in [brackets]")
        return tuple(read(item) for item in value)

    return read_list


def _source(value: object) -> Address:
    return parse_address(_text(value))


def _listen(value: object) -> ListenAddress:
    return ListenAddress.parse(_text(value))


def _listen_table(value: object) -> dict[str, ListenAddress]:
    if not isinstance(value, dict):
        raise ValueError('a table such as { front = "0.0.0.0:8081" }')
    return {name: _listen(address) for name, address in value.items()}


def _origin(value: object) -> str:
    if not _ORIGIN.match(_text(value)):
        raise ValueError('"*" or origins such as "https://example.org"')
    return _text(value).rstrip("/")


def _base_path(value: object) -> str:
    path = _text(value)
    if not path.startswith("/") or re.search(r"[?#\s{}]|//", path):
        raise ValueError('a path such as "/webcam/"')
    return path if path.endswith("/") else path + "/"


def _option(read: Callable[[object], T], default: T) -> T:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """`[server]`: where and how we answer."""

    listen: tuple[ListenAddress, ...] = _option(
        _list_of(_listen), (ListenAddress("127.0.0.1", 8080),)
    )
    base_path: str = _option(_base_path, "/")
    camera_listen: Mapping[str, ListenAddress] = field(
        default_factory=dict, metadata={"read": _listen_table}
    )
    cors_origins: tuple[str, ...] = _option(_list_of(_origin), ("*",))


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """`[camera.NAME]`: one camera. docs/reference/configuration.md says what each option means.

    Attributes:
        password: From `password_file` or the source's URL, never from the table itself.
    """

    source: Address = field(metadata={"read": _source})
    username: str = _option(_text, "")
    password_file: str = _option(_text, "")
    http_version: str = _option(_one_of("1.0", "1.1"), "1.1")
    tls_verify: bool = _option(_flag, True)
    fps: float = _option(_number, 0.0)
    mode: str = _option(_one_of("always", "demand"), "always")
    linger: float = _option(_seconds, 30.0)
    connect_timeout: float = _option(_positive_seconds, 10.0)
    first_frame_timeout: float = _option(_positive_seconds, 10.0)
    stall_timeout: float = _option(_positive_seconds, 5.0)
    redial_delay: float = _option(_seconds, 1.0)
    retry_max: float = _option(_positive_seconds, 30.0)
    frozen_after: float = _option(_seconds, 0.0)
    max_frame: int = _option(_bytes, 8 * 2**20)
    ring: float = _option(_seconds, 5.0)
    ring_bytes: int = _option(_bytes, 64 * 2**20)
    placeholder: bool = _option(_flag, True)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a file or a command line can say; the first camera is the default one."""

    server: ServerConfig = field(default_factory=ServerConfig)
    cameras: Mapping[str, CameraConfig] = field(default_factory=dict)


Fault = tuple[str, str]
"""A dotted path such as "camera.printer.mode", and what is wrong there."""


def find_config() -> Path | None:
    """The configuration to use when none is named, or None."""
    return next((path for path in SEARCHED if os.path.lexists(path)), None)


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: With every fault: path and line, the value seen, what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    faults: list[Fault] = []
    config = _structure(tables, faults)
    config = _with_secrets(config, path.parent, faults)
    faults += check(config)
    if not config.cameras and not faults:
        faults.append(("camera", "at least one [camera.NAME] with a source is needed"))
    if faults:
        raise ConfigError(*(f"{_place(path, text, where)}: {what}" for where, what in faults))
    return config


def check(config: Config) -> Iterator[Fault]:
    """Yield what is wrong between options that are each right by themselves."""
    owners: dict[str, str] = {}
    for name, camera in config.cameras.items():
        path = f"camera.{name}"
        if not _NAME.match(name):
            yield path, "a camera's name is made of letters, digits, - and _"
        identity = camera.source.identity
        if identity and (owner := owners.setdefault(identity, name)) != name:
            yield (
                f"{path}.source",
                (
                    f"{camera.source.label} is already the source of camera {owner}; "
                    "give it one name and watch that twice: it takes one connection"
                ),
            )
        if camera.password_file and not camera.username:
            yield f"{path}.password_file", "needs a username beside it, or one in the source's URL"
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
    return {f.name: _toml(getattr(table, f.name)) for f in fields(table) if f.metadata}


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
        case _:
            return value.label


def _structure(tables: dict[str, Any], faults: list[Fault]) -> Config:
    """Turn TOML's tables into ours. What is wrong becomes a fault and keeps its default."""
    known = ["server", "camera"]
    faults += [(key, _unknown(key, known)) for key in tables if key not in known]
    server = _fill(ServerConfig, tables.get("server", {}), "server", faults)
    cameras = tables.get("camera", {})
    if not isinstance(cameras, dict):
        faults.append(("camera", "expected tables named [camera.NAME]"))
        cameras = {}
    return Config(
        server=server,
        cameras={
            name: _fill(CameraConfig, table, f"camera.{name}", faults)
            for name, table in cameras.items()
        },
    )


def _fill(kind: type[T], table: object, path: str, faults: list[Fault]) -> T:
    """Read one table into its dataclass. Faulty options keep their defaults."""
    if not isinstance(table, dict):
        faults.append((path, f"expected a table, got {_shown(table)}"))
        table = {"source": "testcard:"} if kind is CameraConfig else {}
    options = {f.name: f for f in fields(kind) if f.metadata}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in options:
            faults.append((f"{path}.{key}", _unknown(key, list(options))))
            continue
        try:
            values[key] = options[key].metadata["read"](value)
        except ValueError as error:
            faults.append((f"{path}.{key}", f"expected {error}, got {_shown(value)}"))
    if "source" in options and "source" not in values:
        if "source" not in table:
            faults.append((f"{path}.source", "is missing"))
        values["source"] = TestcardAddress()  # so that the other checks know the camera
    return kind(**values)


def _unknown(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return "there is no such option" + (f"; did you mean {close[0]}?" if close else "")


def _shown(value: object) -> str:
    """A value as the person wrote it, more or less, without credentials."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{redact(value)}"' if isinstance(value, str) else redact(str(value))


def _with_secrets(config: Config, folder: Path, faults: list[Fault]) -> Config:
    """Read the password files and the credentials inside URLs."""
    cameras = {}
    for name, camera in config.cameras.items():
        username, password = camera.username, ""
        if isinstance(camera.source, HttpAddress):
            username = username or camera.source.username
            password = camera.source.password
        if camera.password_file:
            path = folder / camera.password_file
            try:
                password = path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                faults.append((f"camera.{name}.password_file", f"cannot read {path}: {reason}"))
        cameras[name] = replace(camera, username=username, password=password)
    return replace(config, cameras=cameras)


def _place(path: Path, text: str, where: str) -> str:
    """`FILE:LINE: dotted.path`, the line where it can be told."""
    *tables, key = where.split(".")
    header = re.escape(".".join(tables))
    start = re.search(rf"^\s*\[\s*{header}\s*\]", text, re.MULTILINE) if tables else None
    own = re.search(rf"^\s*\[\s*{re.escape(where)}\s*\]", text, re.MULTILINE)
    line = own
    if start:
        end = re.compile(r"^\s*\[", re.MULTILINE).search(text, start.end())
        region = (start.end(), end.start() if end else len(text))
        line = re.compile(rf"^\s*{re.escape(key)}\s*[.=]", re.MULTILINE).search(text, *region)
        line = line or start
    if not line:
        return f"{path}: {where}"
    return f"{path}:{text.count(chr(10), 0, line.end()) + 1}: {where}"


def with_listen(config: Config, listen: tuple[ListenAddress, ...]) -> Config:
    """The same configuration, listening elsewhere."""
    return replace(config, server=replace(config.server, listen=listen))


def config_of(sources: Mapping[str, Address], listen: tuple[ListenAddress, ...]) -> Config:
    """The configuration that a command line with sources means.

    Raises:
        ConfigError: Two cameras share a source, or a name cannot be one.
    """
    cameras = {name: CameraConfig(source=address) for name, address in sources.items()}
    server = ServerConfig(listen=listen) if listen else ServerConfig()
    faults: list[Fault] = []
    config = _with_secrets(Config(server=server, cameras=cameras), Path(), faults)
    faults += check(config)
    if faults:
        raise ConfigError(*(f"{where}: {what}" for where, what in faults))
    return config
