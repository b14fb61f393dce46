"""Who on this computer is connected to a camera across the network."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mjrelay.devices.connections import connected
from mjrelay.devices.holders import Holder

CLIENT = """\
import socket, sys
sock = socket.create_connection((sys.argv[-2], int(sys.argv[-1])))
sock.recv(1)
"""


@contextlib.contextmanager
def running(script: Path, *arguments: str) -> Iterator[int]:
    """Run a script that connects to a camera; yields its process id."""
    script.write_text(CLIENT)
    process = subprocess.Popen([sys.executable, script, *arguments])
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_relay_that_is_connected_is_found(tmp_path: Path, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as camera:
        port = camera.getsockname()[1]
        with (
            running(tmp_path / "mjrelay", "run", host, str(port)) as pid,
            contextlib.closing(camera.accept()[0]),
        ):
            [found] = connected({(host, port)})
            assert (found.holder.pid, found.is_certain) == (pid, True)
            assert found.holder.is_relay
            assert f"(pid {pid}" in str(found)
            assert " of this computer has the camera: watch it there, or stop that" in str(found)
            assert connected({(host, port + 1), ("192.0.2.1", port)}) == []
        assert connected({(host, port)}) == []


def test_another_program_that_is_connected_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:
        port = camera.getsockname()[1]
        with (
            running(tmp_path / "viewer.py", "127.0.0.1", str(port)) as pid,
            contextlib.closing(camera.accept()[0]),
        ):
            [found] = connected({("127.0.0.1", port)})
    assert str(found).endswith(f"of this computer has the camera: sudo kill {pid}")


def test_we_ourselves_are_not_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as camera:
        port = camera.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert connected({("127.0.0.1", port)}) == []


# A computer whose processes we may not look into

ROW = (
    "   0: 0100007F:9C40 {address}:1F90 {state} 00000000:00000000 00:00000000 00000000"
    "  {user}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
)
IPV4 = "C801A8C0" if sys.byteorder == "little" else "C0A801C8"
MAPPED = f"0000000000000000{'FFFF0000' if sys.byteorder == 'little' else '0000FFFF'}{IPV4}"
CAMERA = {("192.168.1.200", 8080)}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    return tmp_path


def list_connection(
    proc: Path, table: str = "net/tcp", *, address: str = IPV4, state: str = "01", user: int = 998
) -> None:
    path = proc / table
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "  sl  local_address rem_address …\n"
        + ROW.format(address=address, state=state, user=user, inode=4711)
    )


def start(proc: Path, pid: int, command: str, user: int = 998) -> None:
    """A process of which we may know all but what it has open."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    (folder / "status").write_text(f"Name:\tx\nUid:\t{user}\t{user}\t{user}\t{user}\n")
    (folder / "cgroup").write_text("0::/system.slice/mjrelay.service\n")


@pytest.mark.parametrize("address", [IPV4, MAPPED])
def test_a_relay_whose_user_is_connected_may_have_the_camera(proc: Path, address: str) -> None:
    list_connection(proc, "net/tcp6" if address == MAPPED else "net/tcp", address=address)
    start(proc, 812, "/usr/bin/python3 -I /usr/bin/mjrelay run --config x")
    start(proc, 813, "/usr/bin/ffmpeg")
    [found] = connected(CAMERA, proc)
    assert str(found) == (
        "mjrelay (pid 812, mjrelay.service) of this computer may have the camera: watch it there, "
        "or stop that meanwhile: sudo systemctl stop mjrelay.service"
    )


def test_a_relay_of_another_user_has_it_not(proc: Path) -> None:
    list_connection(proc, user=1000)
    start(proc, 812, "mjrelay run")
    assert connected(CAMERA, proc) == []


@pytest.mark.parametrize("command", ["mjrelay probe http://x/", "ffmpeg", "vi mjrelay.toml"])
def test_what_is_no_relay_is_not_suspected(proc: Path, command: str) -> None:
    list_connection(proc)
    start(proc, 812, command)
    assert connected(CAMERA, proc) == []


def test_a_connection_that_is_not_open_counts_for_nothing(proc: Path) -> None:
    list_connection(proc, state="06")
    start(proc, 812, "mjrelay run")
    assert connected(CAMERA, proc) == []


def test_a_relay_in_a_container_has_a_list_of_its_own(proc: Path) -> None:
    start(proc, 812, "mjrelay run")
    list_connection(proc, "812/net/tcp")
    [found] = connected(CAMERA, proc)
    assert found.holder == Holder(812, "mjrelay run", "mjrelay.service")


def test_a_relay_that_we_may_look_into_is_not_suspected(proc: Path) -> None:
    list_connection(proc)
    start(proc, 812, "mjrelay run")
    (proc / "812/fd").mkdir()
    assert connected(CAMERA, proc) == []


def test_a_process_that_ends_meanwhile_is_none(proc: Path) -> None:
    list_connection(proc)
    (proc / "812").mkdir()
    assert connected(CAMERA, proc) == []


def test_without_proc_nobody_is_found(tmp_path: Path) -> None:
    assert connected(CAMERA, tmp_path / "nowhere") == []
