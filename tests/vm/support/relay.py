"""The relay as its users run it: under systemd, by the unit and the udev rules we ship."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from .machine import PROJECT, SLACK, eventually, must, run
from .viewer import StreamViewer

UNIT = "mjrelay.service"
SOCKET = "mjrelay.socket"
PORT = 8080

# The kernel holds whoever waits for a camera that answers nothing.
_STOP_TIMEOUT = 120.0
_CONFIG = Path("/etc/mjrelay/mjrelay.toml")
_UNITS = Path("/run/systemd/system")
_DROP_INS = _UNITS / f"{UNIT}.d"
_SCENARIO = _DROP_INS / "scenario.conf"
_RULES = Path("/run/udev/rules.d/60-mjrelay.rules")

# The installed program is this checkout, and it is restarted sooner, as that happens often here.
_DROP_IN = f"""\
[Service]
ExecStart=
ExecStart=/usr/bin/python3 -B -m mjrelay run --config {_CONFIG}
Environment=PYTHONPATH={PROJECT}
RestartSec=100ms
WatchdogSec=6
TimeoutAbortSec=1
"""

# Short, so that a fault is noticed at once; the defaults are for cameras that are slow.
QUICK: Mapping[str, Any] = {
    "stall_timeout": 1.5,
    "first_frame_timeout": 3.0,
    "redial_delay": 0.2,
    "retry_max": 2.0,
}

AS_ROOT = """\
[Service]
DynamicUser=no
User=root
CapabilityBoundingSet=~
AmbientCapabilities=
ProtectKernelTunables=no
"""
"""A drop-in: what it takes to log a camera off its bus and on again."""
LEAVES_CHILDREN = """\
[Service]
KillMode=process
"""
"""A drop-in: when it ends, its children do not."""
KERNEL_MESSAGES = (PROJECT / "systemd/kernel-messages.conf").read_text(encoding="utf-8")
"""The drop-in we ship: it may read what the kernel says."""

Options = Mapping[str, Any]
Viewers = tuple[StreamViewer, StreamViewer]


def install() -> None:
    """Put the units and the rules where systemd and udev find them."""
    for folder in (_DROP_INS, _RULES.parent, _CONFIG.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for unit in (UNIT, SOCKET):
        shutil.copy(PROJECT / "systemd" / unit, _UNITS / unit)
    (_DROP_INS / "checkout.conf").write_text(_DROP_IN, encoding="utf-8")
    shutil.copy(PROJECT / "systemd" / _RULES.name, _RULES)
    must("systemd-sysusers", PROJECT / "systemd" / "mjrelay.sysusers.conf")
    # The service may not write there, and to compile at each start takes seconds when emulated.
    must(sys.executable, "-m", "compileall", "-q", PROJECT / "mjrelay")
    must("systemctl", "daemon-reload")
    must("udevadm", "control", "--reload")


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """A computer without the relay, to install it there; in the end nothing of that may be left."""
    run("systemctl", "stop", UNIT)
    for path in (_UNITS / UNIT, _UNITS / SOCKET, _RULES):
        path.unlink()
    for folder in (_DROP_INS, _CONFIG.parent):
        shutil.rmtree(folder)
    must("userdel", "mjrelay")
    must("systemctl", "daemon-reload")
    before = _with_our_name()
    try:
        yield
        left = set(_with_our_name()) - set(before)
        assert not left, f"left: {left}"
        assert "not-found" in must("systemctl", "show", "-P", "LoadState", UNIT)
    finally:
        install()


def _with_our_name() -> list[str]:
    """Everything of the computer, but for this checkout, that has our name: files, user, group."""
    places = ("/etc", "/usr", "/var", "/run")
    accounts = [run("getent", base, "mjrelay").stdout for base in ("passwd", "group")]
    return [*must("find", *places, "-xdev", "-name", "*mjrelay*").split(), *accounts]


class RelayService:
    """The service, running with some cameras.

    Args:
        cameras: What each `[camera.NAME]` says beyond the short timeouts.
        drop_in: What its unit says beyond the one we ship.
        config: Where its configuration is.
        started: Whether it is started at once.
    """

    def __init__(
        self,
        cameras: Mapping[str, Options],
        drop_in: str = "",
        *,
        config: Path = _CONFIG,
        started: bool = True,
    ) -> None:
        self._cameras = cameras
        self._drop_in = drop_in
        self._config = config
        self._started = started

    def __enter__(self) -> Self:
        """Write the configuration, and start."""
        self._cursor = _journal_cursor()
        if self._drop_in:
            _SCENARIO.write_text(self._drop_in, encoding="utf-8")
            must("systemctl", "daemon-reload")
        self.configure(self._cameras)
        if self._started:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        run("systemctl", "stop", UNIT, within=_STOP_TIMEOUT)
        run("systemctl", "reset-failed", UNIT)
        if self._drop_in:
            _SCENARIO.unlink()
            must("systemctl", "daemon-reload")

    def configure(self, cameras: Mapping[str, Options]) -> None:
        """Write another configuration, for the next start."""
        self._first = next(iter(cameras))
        tables = {name: {**QUICK, **options} for name, options in cameras.items()}
        config = {"server": {"listen": [f"127.0.0.1:{PORT}"]}, "camera": tables}
        self._config.write_text(tomli_w.dumps(config), encoding="utf-8")

    def start(self) -> None:
        """Start, and wait until it answers."""
        must("systemctl", "start", UNIT)
        self.await_answer()

    def restart(self) -> None:
        """Stop and start it."""
        must("systemctl", "restart", UNIT)
        self.await_answer()

    def stop(self) -> float:
        """Stop it, and return how long that took."""
        begun = time.monotonic()
        must("systemctl", "stop", UNIT, within=_STOP_TIMEOUT)
        return time.monotonic() - begun

    def kill(self) -> float:
        """Kill it as the kernel would, wait for the next one, and say when it was killed."""
        victim = self.pid
        os.kill(victim, signal.SIGKILL)
        killed = time.time()
        # Not by asking systemd for the next one: what asks often makes that one slower to start.
        eventually(lambda: not Path(f"/proc/{victim}").exists(), "it is gone")
        self.await_answer()
        return killed

    def await_answer(self) -> None:
        """Wait until it answers requests."""
        eventually(self._answers, "the relay answers", 10 * SLACK)

    @property
    def pid(self) -> int:
        """Its main process; 0 while there is none."""
        return int(must("systemctl", "show", "-P", "MainPID", UNIT))

    @property
    def user(self) -> str:
        """Whose process it is."""
        return must("ps", "-o", "user=", "-p", str(self.pid)).strip()

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged since it was started first; a line that is no JSON is an `event`."""
        return [_parsed(line) for line in self._journal()]

    @property
    def complaints(self) -> list[str]:
        """What it, or systemd about it, has logged as a warning or worse."""
        return self._journal("-p", "warning")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged under a name."""
        return [entry for entry in self.log if entry["event"] == name]

    @property
    def remedies(self) -> list[str]:
        """The rungs of the ladder it has taken, in order."""
        return [entry["remedy"] for entry in self.events("camera.remedy")]

    def camera(self, name: str | None = None) -> dict[str, Any]:
        """What its status says about a camera; the first one unless named."""
        status, camera = self.request("GET", f"/cameras/{name or self._first}/status")
        assert status == http.HTTPStatus.OK, camera
        assert isinstance(camera, dict)
        return camera

    def request(self, method: str, path: str, body: Options | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10 * SLACK)
        with contextlib.closing(connection):
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    def until(
        self,
        holds: Callable[[dict[str, Any]], bool],
        what: str,
        within: float = 15.0,
        camera: str | None = None,
    ) -> dict[str, Any]:
        """Wait until the status of a camera says something, and return it."""
        seen: dict[str, Any] = {}

        def held() -> bool:
            seen.update(self.camera(camera))
            return holds(seen)

        try:
            eventually(held, what, within)
        except AssertionError as error:
            raise AssertionError(f"{error}; the status says {seen}") from error
        return seen

    def until_state(
        self, state: str, within: float = 15.0, camera: str | None = None
    ) -> dict[str, Any]:
        """Wait until a camera is in a state, and return its status."""
        return self.until(lambda status: status["state"] == state, f"state {state}", within, camera)

    def until_failing(self, reason: str, within: float = 15.0) -> dict[str, Any]:
        """Wait until the first camera fails for a reason, and return its status."""
        return self.until(lambda status: reason in (status["reason"] or ""), reason, within)

    def until_tried(self, times: int, camera: str | None = None, within: float = 60.0) -> None:
        """Wait until it has opened a camera in vain so many times more."""
        enough: int = self.camera(camera)["failures"] + times

        def tried() -> bool:
            failures: int = self.camera(camera)["failures"]
            return failures >= enough

        eventually(tried, f"{times} failures more", within)

    @contextlib.contextmanager
    def watched(self, camera: str | None = None, *, reconnects: bool = False) -> Iterator[Viewers]:
        """Two viewers of a camera, who must not be disturbed."""
        name = camera or self._first
        with (
            StreamViewer(PORT, name, reconnects=reconnects) as one,
            StreamViewer(PORT, name, reconnects=reconnects) as other,
        ):
            yield one, other

    def _journal(self, *options: str) -> list[str]:
        shown = ("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "--after-cursor")
        return must(*shown, self._cursor, *options).splitlines()

    def _answers(self) -> bool:
        try:
            status, _ = self.request("GET", "/healthz")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK


def _journal_cursor() -> str:
    shown = must("journalctl", "-n", "1", "-o", "json", "--no-pager")
    cursor: str = json.loads(shown)["__CURSOR"]
    return cursor


def _parsed(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {"event": line}
    return entry if isinstance(entry, dict) else {"event": line}
