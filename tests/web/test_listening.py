"""Which sockets are listened on: systemd's, those it kept for us, and our own."""

import socket
from collections.abc import Iterator

import pytest

from mjrelay.address import ListenAddress
from mjrelay.config import ServerConfig
from mjrelay.service.systemd import Inheritance, Kept
from mjrelay.web.server import listening


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
    name = f"listen-127.0.0.1_{port_of(given)}"
    kept = {name: Kept(name, given.dup().detach())}
    with (
        socket.create_connection(given.getsockname()) as waiting,
        listening(config_for(address), inheriting(kept=kept)) as (listener,),
    ):
        accepted, peer = listener.sock.accept()
        accepted.close()
        assert peer == waiting.getsockname()
