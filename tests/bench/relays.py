"""How each relay is started, and where it serves."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mjrelay
from tests.bench.programs import Programs, running

_START_TIMEOUT = 20.0
_POLL_EVERY = 0.005
_STAMPED = b"\xff\xd8\xff\xfe\x00\x27bench "
_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Service:
    """How to run a relay once.

    Attributes:
        commands: Its processes; most relays have one for all cameras.
        targets: Where each camera is then served, as PORT/PATH.
    """

    commands: list[list[str]]
    targets: list[str]


@dataclass(frozen=True)
class Relay:
    """A relay that can be measured.

    Attributes:
        name: What the report calls it.
        service: How to run it: given the camera's port, and free ports, one for each time the
            relay is told of the camera.
        environment: What its processes have in theirs.
    """

    name: str
    service: Callable[[int, list[int]], Service]
    environment: dict[str, str]


def mjrelay_of(name: str, checkout: Path) -> Relay:
    """The mjrelay of a checkout."""

    def service(camera: int, ports: list[int]) -> Service:
        command = [sys.executable, "-m", "mjrelay", "run", "--listen", f"127.0.0.1:{ports[0]}"]
        names = [f"c{number}" for number in range(len(ports))]
        command += [f"{name}=http://127.0.0.1:{camera}/{name}" for name in names]
        return Service([command], [f"{ports[0]}/cameras/{name}/stream" for name in names])

    environment = {
        "PYTHONPATH": str(checkout),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # it starts with its bytecode there, as when installed
    }
    return Relay(name, service, environment)


def ours() -> Relay:
    """The mjrelay of this checkout."""
    return mjrelay_of("mjrelay", Path(mjrelay.__file__).parents[1])


def floor(programs: Programs) -> Relay:
    """The least a relay can do: a process for each camera."""

    def service(camera: int, ports: list[int]) -> Service:
        commands = [[programs.floor, str(port), str(camera)] for port in ports]
        return Service(commands, [f"{port}/" for port in ports])

    return Relay("floor", service, {})


def _mjpg_streamer(camera: int, ports: list[int]) -> Service:
    source = f"input_http.so -H 127.0.0.1 -p {camera} -u /"
    commands = [
        ["mjpg_streamer", "-i", source, "-o", f"output_http.so -p {port}"] for port in ports
    ]
    return Service(commands, [f"{port}/?action=stream" for port in ports])


def _go2rtc(camera: int, ports: list[int]) -> Service:
    names = [f"c{number}" for number in range(len(ports))]
    config = {
        "api": {"listen": f"127.0.0.1:{ports[0]}"},
        "rtsp": {"listen": ""},
        "webrtc": {"listen": ""},
        "streams": {name: f"http://127.0.0.1:{camera}/{name}" for name in names},
    }
    targets = [f"{ports[0]}/api/stream.mjpeg?src={name}" for name in names]
    return Service([["go2rtc", "-config", json.dumps(config)]], targets)


# ustreamer reads V4L2 devices only, so it cannot be given this camera.
_PEERS = {"mjpg_streamer": _mjpg_streamer, "go2rtc": _go2rtc}


def peers() -> tuple[list[Relay], list[str]]:
    """Other relays that are installed, and the names of those that are not."""
    here = [Relay(name, service, {}) for name, service in _PEERS.items() if shutil.which(name)]
    return here, [name for name in _PEERS if not shutil.which(name)]


@dataclass(frozen=True)
class Started:
    """A relay that serves.

    Attributes:
        pids: Its processes.
        targets: Where each camera is served, as PORT/PATH.
    """

    pids: list[int]
    targets: list[str]


@contextlib.contextmanager
def started(
    relay: Relay, camera_port: int, *, cameras: int = 1, prefix: Sequence[str] = ()
) -> Iterator[Started]:
    """A relay whose processes have been started; it may not serve yet.

    Args:
        relay: Which.
        camera_port: Where the camera is.
        cameras: How many cameras it is told of: all are this one.
        prefix: What runs it, such as strace with its options.
    """
    service = relay.service(camera_port, _free_ports(cameras))
    with contextlib.ExitStack() as stack:
        pids = []
        for command in service.commands:
            process = running([*prefix, *command], relay.environment, output=subprocess.DEVNULL)
            pids.append(stack.enter_context(process).pid)
        yield Started(pids, service.targets)


def await_frame(target: str) -> None:
    """Connect, as often as it takes, until one frame of the camera has come entirely.

    Raises:
        TimeoutError: None came.
    """
    port, slash, path = target.partition("/")
    request = f"GET {slash}{path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))) as s:
            s.settimeout(_START_TIMEOUT)
            s.sendall(request)
            if _receives_frame(s):
                return
        time.sleep(_POLL_EVERY)
    raise TimeoutError(f"no frame from {target}")


def _receives_frame(client: socket.socket) -> bool:
    data = b""
    while piece := client.recv(2**18):
        data += piece
        head, stamp, rest = data.partition(_STAMPED)
        lengths = _LENGTH.findall(head)
        if stamp and lengths and len(stamp) + len(rest) >= int(lengths[-1]):
            return True
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [sock.getsockname()[1] for sock in sockets]
