"""systemd's protocols, spoken with a socket that stands for systemd."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mjrelay.service import systemd
from mjrelay.service.systemd import Inheritance, Kept


class Manager:
    """Stands for systemd: hears what it is told, and keeps what it is given."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def heard(self) -> list[tuple[list[str], list[int]]]:
        """Every message since the last time: its lines, and the descriptors that came with it."""
        messages: list[tuple[list[str], list[int]]] = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, 4096, 8)
            except BlockingIOError:
                return messages
            messages.append((data.decode().split("\n"), fds))

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    yield manager
    manager.close()


def hand_over(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[int]:
    """Start as if systemd had handed us pipes under these names; return their other ends."""
    pairs = [os.pipe() for _ in names]
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(names)))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(names))
    given = iter([read for read, _ in pairs])
    monkeypatch.setattr(systemd, "_handed_over", lambda: [(name, next(given)) for name in names])
    return [write for _, write in pairs]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    assert not Kept("camera-front").keep(0)


def test_systemd_is_told(manager: Manager) -> None:
    assert systemd.notify("READY=1", "STATUS=front: streaming")
    assert manager.heard() == [(["READY=1", "STATUS=front: streaming"], [])]


def test_a_systemd_that_has_gone_disturbs_nobody(manager: Manager) -> None:
    manager.close()
    systemd.notify("READY=1")


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0mjrelay-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@mjrelay-test-{os.getpid()}")
        systemd.notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_a_reload_carries_its_time(manager: Manager) -> None:
    systemd.reloading()
    ((lines, _),) = manager.heard()
    assert lines[0] == "RELOADING=1"
    assert lines[1].removeprefix("MONOTONIC_USEC=").isdecimal()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_or_not(
    environment: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == interval


def test_a_device_is_kept_in_place_of_the_one_before(manager: Manager) -> None:
    reading, writing = os.pipe()
    assert Kept("camera-front").keep(reading)
    forgotten, stored = manager.heard()
    assert forgotten == (["FDSTOREREMOVE=1", "FDNAME=camera-front"], [])
    assert stored[0] == ["FDSTORE=1", "FDNAME=camera-front"]
    (fd,) = stored[1]
    assert os.path.sameopenfile(fd, reading)
    for descriptor in (fd, reading, writing):
        os.close(descriptor)


def test_polling_stays_on(manager: Manager) -> None:
    """With FDPOLL=0 systemd would hold a dead device, whose number then stays taken."""
    reading, writing = os.pipe()
    Kept("camera-front").keep(reading)
    for lines, fds in manager.heard():
        assert not any(line.startswith("FDPOLL") for line in lines)
        for fd in fds:
            os.close(fd)
    os.close(reading)
    os.close(writing)


def test_what_was_kept_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, "camera-front", "camera-back")
    inheritance = Inheritance()
    kept = inheritance.device("front")
    fd = kept.take()
    assert fd is not None
    assert is_open(fd)
    assert not os.get_inheritable(fd)
    assert kept.take() is None
    os.close(fd)
    inheritance.drop_the_rest()


def test_what_nobody_wants_any_more_is_let_go(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(monkeypatch, "camera-front", "listen-127.0.0.1_8080")
    inheritance = Inheritance()
    gone = inheritance.device("front")
    inheritance.drop_the_rest()
    assert manager.heard() == [(["FDSTOREREMOVE=1", "FDNAME=listen-127.0.0.1_8080"], [])]
    fd = gone.take()
    assert fd is not None
    os.close(fd)


def test_a_name_that_comes_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, "camera-front", "camera-front")
    kept = Inheritance().device("front")
    fd = kept.take()
    assert fd is not None
    os.close(fd)


def test_a_listener_is_known_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, "listen-___8080")
    fd = Inheritance().listener("[::]:8080").take()
    assert fd is None
    hand_over(monkeypatch, "listen-_____8080")
    fd = Inheritance().listener("[::]:8080").take()
    assert fd is not None
    os.close(fd)


@pytest.mark.parametrize(
    ("environment", "handed_over"),
    [
        ({}, []),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, []),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}, []),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, [("", 3)]),
        (
            {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:camera-b"},
            [("a", 3), ("camera-b", 4)],
        ),
    ],
)
def test_descriptors_are_for_whom_they_are_meant(
    environment: dict[str, str], handed_over: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert list(systemd._handed_over()) == handed_over
    assert not any(name.startswith("LISTEN_") for name in os.environ)
