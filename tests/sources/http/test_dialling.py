"""Dialler: how long each step of a dial may take, whatever the one before took.

All times but those of TLS are those of a clock that jumps.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trustme

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import SourceLost, SourceRefused, SourceUnreachable
from mjrelay.sources.http import dialling
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.wakeups import Wakeups
from tests.support.clock import jumping

CAMERA, OTHER = "http://camera.test/", "http://other.test/"
NEVER = 3600.0


def dialler() -> Dialler:
    return Dialler(connect_timeout=10, tls_verify=False, wakeups=Wakeups(0.2))


class Network:
    """Names that are looked up, and hosts that accept, after some seconds.

    Attributes:
        look_up: Seconds that a look-up takes.
        accept: Seconds that each address takes to accept, by the name of its host.
    """

    def __init__(self, server: socket.socket) -> None:
        self.look_up = 0.0
        self.accept = {"camera.test": [0.5], "other.test": [0.5]}
        self._server = server

    async def resolve(self, host: str, _port: int) -> list[Any]:
        await asyncio.sleep(self.look_up)
        places = [(host, index) for index, _ in enumerate(self.accept[host])]
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]

    async def connect(self, sock: socket.socket, place: tuple[str, int]) -> None:
        await asyncio.sleep(self.accept[place[0]][place[1]])
        with contextlib.suppress(BlockingIOError):
            sock.connect(self._server.getsockname())

    async def lasts(self, dialler: Dialler, url: str = CAMERA) -> float | None:
        """How many seconds it takes to be connected; None if the dial is in vain."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            (await dialler._connect(HttpAddress.parse(url))).close()
            return round(loop.time() - began, 3)
        self.gave_up_after = round(loop.time() - began, 3)
        return None


@contextmanager
def network() -> Iterator[Network]:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        made = Network(server)
        patch.setattr(dialling, "resolve", made.resolve)
        patch.setattr(asyncio.get_running_loop(), "sock_connect", made.connect)
        yield made


@jumping
async def test_a_slow_look_up_after_a_quick_dial_is_waited_for() -> None:
    with network() as net:
        us = dialler()
        assert await net.lasts(us) == 0.5
        net.look_up = 9
        assert [await net.lasts(us) for _ in range(20)] == [9.5] * 20


@jumping
async def test_a_slow_look_up_makes_no_quick_camera_slow() -> None:
    with network() as net:
        us = dialler()
        net.look_up = 5
        assert await net.lasts(us) == 5.5
        net.accept["camera.test"] = [NEVER]
        assert await net.lasts(us) is None
        assert net.gave_up_after == 7


@jumping
async def test_a_look_up_that_takes_too_long_is_said_to() -> None:
    with network() as net:
        net.look_up = 11
        with pytest.raises(SourceUnreachable) as raised:
            await dialler().dial(HttpAddress.parse(CAMERA))
    assert raised.value.reason == "the name camera.test was not found in 10 s"
    assert raised.value.hint
    assert "name server" in raised.value.hint


@jumping
async def test_a_camera_that_became_slow_is_reached_after_some_quick_dials() -> None:
    with network() as net:
        us = dialler()
        await net.lasts(us)
        net.accept["camera.test"] = [6]
        assert [await net.lasts(us) for _ in range(5)] == [None] * 5
        assert [await net.lasts(us) for _ in range(20)] == [6] * 20


@jumping
async def test_one_dial_in_six_is_patient_while_a_quick_camera_is_away() -> None:
    with network() as net:
        us = dialler()
        await net.lasts(us)
        net.accept["camera.test"] = [NEVER]
        lasted = []
        for _ in range(12):
            assert await net.lasts(us) is None
            lasted.append(net.gave_up_after)
        assert lasted == [2, 2, 2, 2, 2, 10] * 2


@pytest.mark.parametrize("dead", [1, 3, 5])
@jumping
async def test_each_address_of_a_quick_name_has_time_to_accept(dead: int) -> None:
    with network() as net:
        us = dialler()
        net.accept["camera.test"] = [NEVER] * dead + [0.9]
        for _ in range(20):
            assert await net.lasts(us) is not None


@jumping
async def test_a_slow_camera_is_given_all_the_time_there_is() -> None:
    with network() as net:
        us = dialler()
        net.accept["camera.test"] = [9]
        assert [await net.lasts(us) for _ in range(3)] == [9] * 3


@pytest.mark.parametrize("other", [OTHER, "http://camera.test:8080/", "https://camera.test/"])
@jumping
async def test_that_one_host_and_port_is_quick_says_nothing_of_another(other: str) -> None:
    with network() as net:
        us = dialler()
        await net.lasts(us)
        net.accept = {host: [6] for host in net.accept}
        assert [await net.lasts(us, other) for _ in range(3)] == [6] * 3


@jumping
async def test_hosts_without_end_are_not_remembered() -> None:
    with network() as net:
        us = dialler()
        for port in range(1, 100):
            await net.lasts(us, f"http://camera.test:{port}/")
        assert len(us._in_vain) < 20


@asynccontextmanager
async def slow_tls(seconds: float) -> AsyncIterator[str]:
    """A server that accepts at once, and answers the TLS handshake after a while."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(seconds)
        await writer.start_tls(context)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/"


async def test_the_tls_handshake_of_a_quick_camera_may_take_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dialling, "_QUICK_TIMEOUT", 0.2)
    async with slow_tls(0.4) as url:
        us = dialler()
        for _ in range(2):
            await (await us.dial(HttpAddress.parse(url))).close()


# The wrong scheme


@asynccontextmanager
async def plain(answer: bytes) -> AsyncIterator[int]:
    """A web server without TLS, which answers whatever comes at once, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"<html>", b"--boundary\r\n", b"\xff\xd8\xff\xe0\0"],
)
async def test_https_at_a_port_for_http_is_named(answer: bytes) -> None:
    async with plain(answer) as port:
        with pytest.raises(SourceRefused) as raised:
            await dialler().dial(HttpAddress.parse(f"https://127.0.0.1:{port}/video?pwd=hunter2"))
    assert raised.value.reason == f"127.0.0.1:{port} speaks plain http, not https"
    assert raised.value.hint == f"write http://127.0.0.1:{port}/video?pwd=***"


async def test_https_at_a_port_that_closes_may_be_for_http() -> None:
    async with plain(b"") as port:
        with pytest.raises(SourceLost) as raised:
            await dialler().dial(HttpAddress.parse(f"https://127.0.0.1:{port}/video"))
    assert raised.value.reason == f"127.0.0.1:{port} broke off the TLS handshake"
    assert raised.value.hint == (
        f"if it speaks plain http, write http://127.0.0.1:{port}/video; else "
        "its only connection may be taken: close other viewers of this camera"
    )
