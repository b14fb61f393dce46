"""The greeting prints addresses that work, for those who can use them."""

import socket
from pathlib import Path
from typing import Any

import pytest

from mjrelay import greeting as module
from mjrelay.configuration.address import ListenAddress
from mjrelay.greeting import greeting, network_addresses

HERE = ListenAddress("127.0.0.1", 8080)


def lines(*addresses: ListenAddress, camera: str = "", base_path: str = "/") -> list[str]:
    return [*greeting([(address, camera) for address in addresses], base_path)]


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """A computer with these IPv4 addresses by interface, and a name that nothing answers to."""
    addresses = {"lo": "127.0.0.1", "eth0": "192.168.1.20", "docker0": "172.17.0.1", "wlan0": ""}

    def look_up(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("a look-up may hang")

    monkeypatch.setattr(socket, "if_nameindex", lambda: [*enumerate(addresses, 1)])
    monkeypatch.setattr(module, "_ipv4", lambda _sock, name: addresses[name])
    monkeypatch.setattr(module, "_AVAHI", tmp_path / "avahi-daemon")
    monkeypatch.setattr(module, "_IF_INET6", tmp_path / "if_inet6")
    monkeypatch.setattr(socket, "gethostname", lambda: "Robot.lan")
    for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getfqdn", "getnameinfo"):
        monkeypatch.setattr(socket, name, look_up)
    return addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_who_listens_for_this_computer_only_is_told_how_to_let_others_watch(host: str) -> None:
    address = ListenAddress(host, 8081)
    assert lines(address) == [
        f"Watch at http://{address}/",
        (
            "Only this computer can watch. To let others: --listen 0.0.0.0:8081, or "
            'listen = ["0.0.0.0:8081"] in the configuration'
        ),
    ]


def test_who_has_installed_the_service_is_told_which_file_to_change() -> None:
    [_, how] = greeting([(HERE, "")], service=Path("/etc/mjrelay/mjrelay.toml"))
    assert how == (
        'Only this computer can watch. To let others: listen = ["0.0.0.0:8080"] in '
        "/etc/mjrelay/mjrelay.toml, then: sudo systemctl restart mjrelay"
    )


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_who_listens_everywhere_is_told_the_addresses_for_other_computers(host: str) -> None:
    assert lines(ListenAddress(host, 8080)) == ["Watch at http://192.168.1.20:8080/"]


def test_a_name_is_told_where_something_answers_to_it(
    computer: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "avahi-daemon").mkdir()
    computer["wlan0"] = "192.168.1.21"
    assert lines(ListenAddress("", 80)) == [
        "Watch at http://192.168.1.20:80/ or http://192.168.1.21:80/ or http://robot.local:80/"
    ]


def test_without_a_network_there_is_this_computer(computer: dict[str, str]) -> None:
    computer["eth0"] = ""
    assert lines(ListenAddress("0.0.0.0", 8080)) == ["Watch at http://localhost:8080/"]


def test_where_there_is_no_other_network_an_ipv6_address_is_told(
    computer: dict[str, str], tmp_path: Path
) -> None:
    computer["eth0"] = ""
    (tmp_path / "if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
    )
    assert lines(ListenAddress("::", 8080)) == ["Watch at http://[fd00::2]:8080/"]
    assert lines(ListenAddress("0.0.0.0", 8080)) == ["Watch at http://localhost:8080/"]


@pytest.mark.usefixtures("computer")
def test_an_address_of_this_computer_is_told_as_it_is() -> None:
    assert lines(ListenAddress("192.168.1.20", 80)) == ["Watch at http://192.168.1.20:80/"]
    assert lines(ListenAddress("fd00::2", 80)) == ["Watch at http://[fd00::2]:80/"]


def test_the_path_of_a_proxy_and_the_camera_of_a_port_are_told() -> None:
    assert lines(HERE, base_path="/webcam/")[0] == "Watch at http://127.0.0.1:8080/webcam/"
    assert lines(HERE, camera="front")[0] == "Watch front at http://127.0.0.1:8080/"


def test_a_unix_socket_is_told_as_well() -> None:
    assert lines(ListenAddress(path="/run/m.sock")) == [
        "Watch through a proxy, or: curl --unix-socket /run/m.sock http://localhost/status"
    ]


def test_who_listens_here_and_elsewhere_knows_how() -> None:
    assert len(lines(HERE, ListenAddress("192.168.1.20", 8080))) == 2


def test_this_computer_s_own_addresses_are_found() -> None:
    """Whatever they are: each can be bound, and none is of the loopback interface."""
    for address in network_addresses(with_ipv6=True):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        assert not address.startswith("127.")
        with socket.socket(family) as sock:
            sock.bind((address, 0))


def test_interfaces_that_cannot_be_listed_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError

    monkeypatch.setattr(socket, "if_nameindex", refuse)
    assert network_addresses() == []
