"""systemd's protocols, spoken with a socket that stands for systemd."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

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


def hand_over(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Start as if systemd had handed us a listening socket under each of these names."""
    give(
        monkeypatch,
        *((name, socket.create_server(("127.0.0.1", 0)).detach()) for name in names),
    )


def give(monkeypatch: pytest.MonkeyPatch, *given: tuple[str, int]) -> None:
    """Start as if systemd had handed us these descriptors."""
    monkeypatch.setattr(systemd, "_handed_over", lambda: given)


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
    Kept("camera-front").keep(0)


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
    hand_over(monkeypatch, "camera-front", "listen-127.0.0.1%3A8080")
    inheritance = Inheritance()
    gone = inheritance.device("front")
    inheritance.drop_the_rest()
    assert manager.heard() == [(["FDSTOREREMOVE=1", "FDNAME=listen-127.0.0.1%3A8080"], [])]
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
    hand_over(monkeypatch, "listen-[%3A%3A]%3A8080", "listen-unix%3A/u/a/b")
    inheritance = Inheritance()
    assert inheritance.listener("[::]:8081").take() is None
    assert inheritance.listener("unix:/u/a_b").take() is None
    for address in ("[::]:8080", "unix:/u/a/b"):
        fd = inheritance.listener(address).take()
        assert fd is not None
        os.close(fd)


def a_pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def a_closed_one() -> int:
    fd = a_pipe()
    os.close(fd)
    return fd


def a_datagram_socket() -> int:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()


def a_connection() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


@pytest.mark.parametrize("name", ["mjrelay.socket", "stored", "listen-127.0.0.1%3A8080", ""])
@pytest.mark.parametrize("make", [a_pipe, a_datagram_socket, a_connection])
def test_what_no_client_can_connect_to_is_let_go(
    name: str, make: Callable[[], int], monkeypatch: pytest.MonkeyPatch, manager: Manager
) -> None:
    fd = make()
    give(monkeypatch, (name, fd))
    with capture_logs() as logs:
        inheritance = Inheritance()
    assert not inheritance.sockets
    assert not is_open(fd)
    assert [(entry["event"], entry["name"]) for entry in logs] == [("relay.not_inherited", name)]
    told = [lines for lines, _ in manager.heard()]
    assert told == ([["FDSTOREREMOVE=1", f"FDNAME={name}"]] if name else [])


@pytest.mark.parametrize("name", ["mjrelay.socket", "camera-front", "listen-127.0.0.1%3A8080"])
def test_a_descriptor_that_is_closed_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, (name, a_closed_one()))
    inheritance = Inheritance()
    assert not inheritance.sockets
    assert inheritance.device("front").take() is None


def test_a_socket_of_a_unit_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, "mjrelay.socket")
    (sock,) = Inheritance().sockets
    with sock:
        assert not sock.get_inheritable()


def test_listeners_can_be_let_go_before_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(monkeypatch, "camera-front", "listen-127.0.0.1%3A8080")
    inheritance = Inheritance()
    inheritance.drop_listeners()
    assert inheritance.listener("127.0.0.1:8080").take() is None
    fd = inheritance.device("front").take()
    assert fd is not None
    os.close(fd)


def test_programs_that_we_start_are_not_told_of_systemd(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_variables", {})
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    systemd.take_variables()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    assert systemd.is_there()
    assert systemd.watchdog_interval() == 20
    assert systemd.notify("READY=1")
    assert manager.heard() == [(["READY=1"], [])]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exec:/nope/\udcff", "exec:/nope/?"),
        ("one\nREADY=1\0two", "one READY=1 two"),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 3000, None),
    ],
)
def test_any_text_can_be_told(manager: Manager, text: str, told: str | None) -> None:
    assert systemd.notify("WATCHDOG=1", f"STATUS={text}")
    (((alive, status), _),) = manager.heard()
    assert alive == "WATCHDOG=1"
    assert len(f"{alive}\n{status}".encode()) < 4096
    assert status == f"STATUS={told}" if told else text.startswith(status.removeprefix("STATUS="))


# A systemd that is busy


class Unwaiting(socket.socket):
    """A socket that may not be used where it could wait."""

    def sendmsg(self, *message: Any) -> int:
        assert not self.getblocking()
        return super().sendmsg(*message)


@pytest.fixture
def busy(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> Manager:
    """A systemd whose queue is full until it hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(os.environ["NOTIFY_SOCKET"])
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"noise")
    monkeypatch.setattr(socket, "socket", Unwaiting)
    return manager


def told(manager: Manager) -> list[list[str]]:
    """The lines of each message, without the noise; what comes with them is closed."""
    messages = [(lines, fds) for lines, fds in manager.heard() if lines != ["noise"]]
    for _, fds in messages:
        for fd in fds:
            os.close(fd)
    return [lines for lines, _ in messages]


READY, STOPPING = ["READY=1", "STATUS=a"], ["STOPPING=1"]
REMOVED = ["FDSTOREREMOVE=1", "FDNAME=camera-front"]
STORED = ["FDSTORE=1", "FDNAME=camera-front"]


@pytest.mark.parametrize("message", [READY, STOPPING, REMOVED, ["RELOADING=1", "MONOTONIC_USEC=1"]])
def test_what_must_arrive_is_told_before_the_next(busy: Manager, message: list[str]) -> None:
    assert systemd.notify(*message)
    assert told(busy) == []
    systemd.notify("WATCHDOG=1", "STATUS=b")
    systemd.notify("WATCHDOG=1", "STATUS=c")
    assert told(busy) == [message, ["WATCHDOG=1", "STATUS=b"], ["WATCHDOG=1", "STATUS=c"]]


def test_what_comes_again_by_itself_is_not_repeated(busy: Manager) -> None:
    systemd.notify("WATCHDOG=1", "STATUS=a")
    systemd.notify("STATUS=waiting")
    assert told(busy) == []
    systemd.notify("WATCHDOG=1", "STATUS=b")
    assert told(busy) == [["WATCHDOG=1", "STATUS=b"]]


def test_the_order_stays(busy: Manager) -> None:
    """Ready before reloading would end no reload."""
    systemd.reloading()
    systemd.notify(*READY)
    systemd.notify("WATCHDOG=1", "STATUS=b")
    assert told(busy) == []
    systemd.notify("WATCHDOG=1", "STATUS=c")
    ((reloading, _), ready, alive) = told(busy)
    assert (reloading, ready, alive) == ("RELOADING=1", READY, ["WATCHDOG=1", "STATUS=c"])


def test_one_that_never_hears_costs_no_memory(busy: Manager) -> None:
    for number in range(100):
        systemd.notify("RELOADING=1", f"MONOTONIC_USEC={number}")
        systemd.notify(*READY)
        Kept("camera-front").drop()
    assert told(busy) == []
    systemd.notify("STATUS=b")
    assert told(busy) == [["RELOADING=1", "MONOTONIC_USEC=99"], READY, REMOVED, ["STATUS=b"]]


def test_one_that_is_back_is_told(manager: Manager, tmp_path: Path) -> None:
    """While it executes itself anew, nobody listens."""
    manager.close()
    (tmp_path / "notify").unlink()
    systemd.notify(*READY)
    again = Manager(tmp_path / "notify")
    systemd.notify("STATUS=b")
    assert told(again) == [READY, ["STATUS=b"]]
    again.close()


def test_a_device_is_kept_even_if_that_is_told_later(busy: Manager) -> None:
    reading, writing = os.pipe()
    assert Kept("camera-front").keep(reading)
    os.close(reading)
    assert told(busy) == []
    systemd.notify("STATUS=b")
    (_, (lines, (fd,)), _) = busy.heard()
    assert lines == STORED
    os.write(writing, b"x")
    assert os.read(fd, 1) == b"x"
    os.close(fd)
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")  # ours is closed, since it was sent
    os.close(writing)


def test_a_device_that_is_dropped_again_is_not_kept(busy: Manager) -> None:
    reading, writing = os.pipe()
    kept = Kept("camera-front")
    kept.keep(reading)
    os.close(reading)
    kept.drop()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)
    assert told(busy) == []
    systemd.notify("STATUS=b")
    assert told(busy) == [REMOVED, ["STATUS=b"]]


def test_one_device_replaces_another_of_the_same_name_only(busy: Manager) -> None:
    front, back = Kept("camera-front"), Kept("camera-back")
    for kept in (front, back, front):
        kept.keep(0)
    assert told(busy) == []
    systemd.notify("STATUS=b")
    other = [[line.replace("front", "back") for line in lines] for lines in (REMOVED, STORED)]
    assert told(busy) == [*other, REMOVED, STORED, ["STATUS=b"]]


def test_what_cannot_be_kept_because_too_many_files_are_open_is_not(
    busy: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", full)
    Kept("camera-front").keep(0)
    assert told(busy) == []
    systemd.notify("STATUS=b")
    assert told(busy) == [REMOVED, ["STATUS=b"]]


def test_what_can_never_be_sent_is_in_nobodys_way(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = socket.send_fds

    def forbidden(sock: socket.socket, buffers: list[bytes], fds: tuple[int, ...]) -> int:
        if fds:
            raise OSError(errno.EACCES, "Permission denied")  # as a security module may
        return send(sock, buffers, fds)

    monkeypatch.setattr(socket, "send_fds", forbidden)
    Kept("camera-front").keep(0)
    systemd.notify(*READY)
    assert told(manager) == [REMOVED, READY]


def test_any_thread_may_keep_and_drop(manager: Manager) -> None:
    """And what is told last under each name is its end, however they meet."""
    names = [f"camera-{number}" for number in range(4)]
    heard: list[list[str]] = []
    with ThreadPoolExecutor(len(names)) as pool:
        working = [pool.submit(keep_and_drop, name) for name in names]
        while not all(future.done() for future in working):
            heard += told(manager)
    for future in working:
        future.result()
    while ["STATUS=b"] not in heard:
        systemd.notify("STATUS=b")
        heard += told(manager)
    last = {name: verb for verb, name in (lines for lines in heard if len(lines) == 2)}
    assert last == {f"FDNAME={name}": "FDSTOREREMOVE=1" for name in names}


def keep_and_drop(name: str) -> None:
    kept = Kept(name)
    for _ in range(100):
        kept.keep(0)
        kept.drop()


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
