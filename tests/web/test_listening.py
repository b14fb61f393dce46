"""Which sockets are listened on: systemd's, those it kept for us, and our own."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from mjrelay.errors import ListenError
from mjrelay.service.systemd import Inheritance, Kept
from mjrelay.web import listening as sockets
from mjrelay.web.listening import listening


@pytest.fixture
def given() -> Iterator[socket.socket]:
    """A socket that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def config_for(*addresses: str) -> ServerConfig:
    return ServerConfig(listen=tuple(ListenAddress.parse(address) for address in addresses))


def inheriting(*sockets: socket.socket, kept: dict[str, Kept] | None = None) -> Inheritance:
    inheritance = Inheritance()
    inheritance.sockets = [sock.dup() for sock in sockets]
    if kept:
        inheritance._kept = kept
    return inheritance


def kept_for(address: str, sock: socket.socket) -> dict[str, Kept]:
    """A socket that systemd kept under the name of an address."""
    name = f"listen-{address.replace(':', '%3A')}"
    return {name: Kept(name, sock.dup().detach())}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_a_socket_of_systemd_comes_first_and_is_not_listened_on_again(
    given: socket.socket, host: str
) -> None:
    wanted = config_for(f"127.0.0.1:{port_of(given)}", f"{host}:0")
    with listening(wanted, inheriting(given)) as listeners:
        assert listeners[0].address.port == port_of(given)
        assert len(listeners) == 2


def test_a_socket_for_everyone_covers_every_address_of_its_port() -> None:
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        wanted = config_for(f"127.0.0.1:{port_of(everywhere)}")
        with listening(wanted, inheriting(everywhere)) as listeners:
            assert len(listeners) == 1


def test_a_socket_that_was_kept_goes_on_with_those_who_wait(given: socket.socket) -> None:
    address = f"127.0.0.1:{port_of(given)}"
    kept = kept_for(address, given)
    with (
        socket.create_connection(given.getsockname()) as waiting,
        listening(config_for(address), inheriting(kept=kept)) as (listener,),
    ):
        accepted, peer = listener.sock.accept()
        accepted.close()
        assert peer == waiting.getsockname()


ANY, ANY_IPV6 = "0.0.0.0", "[::]"
has_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


def everywhere(*, ipv4: bool, ipv6: bool) -> socket.socket:
    """A socket for everyone, at a port that nobody has in the other family either."""
    if ipv4 and ipv6:
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    mine, other = (socket.AF_INET, socket.AF_INET6) if ipv4 else (socket.AF_INET6, socket.AF_INET)
    while True:
        sock = socket.create_server(("", 0), family=mine)
        with contextlib.suppress(OSError):
            socket.create_server(("", port_of(sock)), family=other).close()
            return sock
        sock.close()


@has_ipv6
@pytest.mark.parametrize(
    ("ipv4", "ipv6", "host", "is_listened_on_too"),
    [
        (True, False, "127.0.0.1", False),
        (True, False, ANY, False),
        (True, False, "", False),  # nobody can beside it
        (True, False, "[::1]", True),
        (True, True, "127.0.0.1", False),
        (True, True, "[::1]", False),
        (True, True, "", False),
        (False, True, "[::1]", False),
        (False, True, "127.0.0.1", True),
        (False, True, ANY, True),
    ],
)
def test_a_socket_for_everyone_covers_its_families(
    ipv4: bool, ipv6: bool, host: str, is_listened_on_too: bool
) -> None:
    with everywhere(ipv4=ipv4, ipv6=ipv6) as sock:
        wanted = config_for(f"{host}:{port_of(sock)}")
        with listening(wanted, inheriting(sock)) as listeners:
            assert len(listeners) == 1 + is_listened_on_too


def test_a_socket_without_a_file_is_taken_up() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0mjrelay-test-{os.getpid()}")
        sock.listen()
        with listening(config_for(), inheriting(sock)) as (listener,):
            assert str(listener.address) == f"unix:@mjrelay-test-{os.getpid()}"


@pytest.mark.parametrize("host", ["127.0.0.1", ANY])
def test_a_socket_of_systemd_shows_the_camera_whose_address_it_has(host: str) -> None:
    with socket.create_server((host, 0)) as sock:
        front = ListenAddress("127.0.0.1", port_of(sock))
        back = ListenAddress("127.0.0.1", 0)
        wanted = ServerConfig(listen=(), camera_listen={"front": front, "back": back})
        with listening(wanted, inheriting(sock)) as listeners:
            assert [listener.camera for listener in listeners] == ["front", "back"]


def test_a_socket_of_systemd_that_two_shall_have_shows_all() -> None:
    with socket.create_server((ANY, 0)) as everyones:
        wanted = ServerConfig(
            listen=(ListenAddress("127.0.0.1", port_of(everyones)),),
            camera_listen={"front": ListenAddress("127.0.0.2", port_of(everyones))},
        )
        with listening(wanted, inheriting(everyones)) as (listener,):
            assert listener.camera == ""


def test_a_kept_socket_of_another_address_is_let_go(given: socket.socket) -> None:
    address = f"127.0.0.1:{port_of(given)}"
    given.close()
    with (
        socket.create_server((ANY, 0)) as other,
        listening(config_for(address), inheriting(kept=kept_for(address, other))) as (listener,),
    ):
        assert port_of(listener.sock) == listener.address.port
        assert str(listener.address) == address


def test_a_kept_socket_is_not_in_the_way_of_what_the_configuration_says_now(
    given: socket.socket,
) -> None:
    kept = kept_for(f"127.0.0.1:{port_of(given)}", given)
    address = f"{ANY}:{port_of(given)}"
    given.close()
    with listening(config_for(address), inheriting(kept=kept)) as (listener,):
        assert str(listener.address) == address


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A systemd, and a relay that does not wait long between its tries."""
    monkeypatch.setattr(sockets, "_LISTEN_EVERY", 0.01)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


async def test_under_systemd_a_taken_port_is_waited_for(
    given: socket.socket, told: socket.socket
) -> None:
    address = f"127.0.0.1:{port_of(given)}"
    with contextlib.ExitStack() as stack, capture_logs() as logs:
        listening_soon = asyncio.create_task(
            asyncio.to_thread(stack.enter_context, listening(config_for(address)))
        )
        status = (await asyncio.to_thread(told.recv, 4096)).decode()
        assert status.startswith(f"STATUS=waiting: cannot listen on {address}: the port is taken")
        assert not listening_soon.done()
        given.close()
        (listener,) = await listening_soon
        assert str(listener.address) == address
    assert [entry["event"] for entry in logs] == ["relay.waiting"]
    assert "STATUS=" + f"waiting: {logs[0]['reason']}" == status


def test_under_systemd_a_taken_port_is_not_waited_for_for_ever(
    given: socket.socket, told: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_LISTEN_PATIENCE", 0.1)
    with (
        pytest.raises(ListenError, match="the port is taken"),
        listening(config_for(f"127.0.0.1:{port_of(given)}")),
    ):
        pass
    assert told.recv(4096)


def in_no_folder(tmp_path: Path) -> Path:
    return tmp_path / "none" / "http.sock"


def in_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "http.sock"


def with_a_long_name(tmp_path: Path) -> Path:
    return tmp_path / ("a" * 100)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (in_no_folder, "No such file or directory; make its folder first: mkdir -p {folder}"),
        (in_a_file, "Not a directory"),
        (with_a_long_name, "AF_UNIX path too long; choose a path of at most 107 characters"),
    ],
)
def test_what_is_wrong_with_a_unix_socket_is_said(
    place: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    path = place(tmp_path)
    with pytest.raises(ListenError) as caught, listening(config_for(f"unix:{path}")):
        pass
    assert str(caught.value) == f"cannot listen on unix:{path}: {said.format(folder=path.parent)}"


def not_found(*_arguments: object, **_options: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def nonsense(*_arguments: object, **_options: object) -> None:
    "a..b".encode("idna")


@pytest.mark.parametrize(
    ("find", "said"),
    [(not_found, "Name or service not known"), (nonsense, "that is no host name")],
)
def test_a_host_that_cannot_be_found_should_be_an_address(
    find: Callable[..., None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", find)
    with pytest.raises(ListenError) as caught, listening(config_for("a..b:0")):
        pass
    assert str(caught.value) == (
        f"cannot listen on a..b:0: {said}; write an IP address, such as 0.0.0.0"
    )
