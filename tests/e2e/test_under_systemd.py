"""The program as systemd starts it: what it tells, and to whom."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import daemon
from tests.support.daemon import RelayProcess, eventually, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

FRONT = '[camera.front]\nsource = "testcard:?fps=20"\n'


class Manager:
    """Stands for systemd: hears what it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.lines: list[str] = []

    def status(self) -> str:
        """The latest status."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines += self._sock.recv(4096).decode().split("\n")
        said = [line for line in self.lines if line.startswith("STATUS=")]
        return said[-1].removeprefix("STATUS=") if said else ""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A systemd that starts every program of the test."""
    path = tmp_path / "notify"
    monkeypatch.setitem(daemon._ENVIRONMENT, "NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)
        yield Manager(sock)


async def test_the_status_begins_with_why_a_reload_was_in_vain(
    manager: Manager, tmp_path: Path
) -> None:
    file = tmp_path / "mjrelay.toml"
    file.write_text(FRONT)
    async with RelayProcess("--config", str(file)) as relay:
        await eventually(lambda: manager.status().startswith("front: "))
        file.write_text(FRONT + "liner = 1\ncolour = 2\n")
        relay.send(signal.SIGHUP)
        why = f"configuration not reloaded: {file}:3: camera.front.liner: there is no such option"
        await eventually(lambda: manager.status().startswith(why))
        assert "(and 1 more: see the log) | front: " in manager.status()
        file.write_text(FRONT)
        relay.send(signal.SIGHUP)
        await eventually(lambda: manager.status().startswith("front: "))
        assert (await relay.terminate()).status == 0
        manager.status()
        assert [line for line in manager.lines if line == "READY=1"] == ["READY=1"] * 3


@pytest.mark.usefixtures("manager")
async def test_programs_know_nothing_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(daemon._ENVIRONMENT, "WATCHDOG_USEC", "20000000")
    seen = tmp_path / "environment"
    program = tmp_path / "camera.sh"
    program.write_text(f"env > {seen}.part; mv {seen}.part {seen}; exec sleep 60\n")
    async with RelayProcess(f"exec:sh {program}"):
        await eventually(seen.exists)
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "PATH" in names
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"}


async def test_a_name_that_is_no_text_can_be_told(manager: Manager) -> None:
    async with RelayProcess("exec:/nope/\udcff") as relay:
        await eventually(lambda: "/nope/" in manager.status(), 15)
        assert (await relay.terminate()).status == 0


async def test_who_waits_for_a_port_ends_at_once(manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = (sys.executable, "-m", "mjrelay", "run", "--listen", address, "testcard:")
        async with running(*command) as process:
            await eventually(lambda: manager.status().startswith("waiting: cannot listen"), 20)
            begun = time.monotonic()
            process.terminate()
            assert await process.wait() == -signal.SIGTERM
            assert time.monotonic() - begun < 2


async def test_a_signal_to_reload_that_comes_too_early_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "mjrelay.toml"
    os.mkfifo(file)
    command = (sys.executable, "-m", "mjrelay", "run", "--config", str(file))
    async with running(*command, "--listen", "127.0.0.1:0") as process:
        with await asyncio.to_thread(file.open, "w") as writing:  # it is being read
            process.send_signal(signal.SIGHUP)
            writing.write(FRONT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 1)


@pytest.mark.parametrize(
    ("text", "status", "fault"),
    [
        ('[server]\nlisten = ["127.0.0.1:{port}"]\n' + FRONT, 1, "the port is taken"),
        (FRONT + "liner = 1\n", 2, "there is no such option"),
    ],
)
async def test_what_stops_the_start_is_an_error_in_the_journal(
    text: str, status: int, fault: str, tmp_path: Path
) -> None:
    file, journal = tmp_path / "mjrelay.toml", tmp_path / "journal"
    with socket.create_server(("127.0.0.1", 0)) as taken, journal.open("wb") as stderr:
        file.write_text(text.replace("{port}", str(taken.getsockname()[1])))
        seen = os.fstat(stderr.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mjrelay", "run", "--config", str(file),
            stderr=stderr,
            env={**daemon._ENVIRONMENT, "JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"},
        )  # fmt: skip
        assert await asyncio.wait_for(process.wait(), 20) == status
    (line,) = journal.read_text().splitlines()
    assert line.startswith("<3>")
    entry = json.loads(line.removeprefix("<3>"))
    assert entry["event"] == "relay.not_started"
    assert fault in entry["faults"][0]
