"""Dialler: how long each step of a dial may take, whatever the one before took."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import SourceUnreachable
from mjrelay.sources.http import dialling
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.wakeups import Wakeups
from tests.support.camera import ScriptedCamera, Silence
from tests.support.clock import jumping

SILENT = [Silence()]


def dialler(connect_timeout: float = 3.0) -> Dialler:
    return Dialler(connect_timeout=connect_timeout, tls_verify=False, wakeups=Wakeups(0.2))


async def dial(dialler: Dialler, url: str) -> None:
    """Connect and hang up."""
    connection = await dialler.dial(HttpAddress.parse(url))
    await connection.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick camera has a fifth of a second to accept."""
    monkeypatch.setattr(dialling, "_QUICK", 0.1)
    monkeypatch.setattr(dialling, "_QUICK_TIMEOUT", 0.2)


@pytest.fixture
def slow_look_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes each look-up take longer."""
    look_up = socket.getaddrinfo

    def begin(seconds: float) -> None:
        def slow(*args: Any, **kwargs: Any) -> Any:
            time.sleep(seconds)
            return look_up(*args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", slow)

    return begin


SlowAccept = Callable[[dict[tuple[str, int], float]], None]


@pytest.fixture
def slow_accept(monkeypatch: pytest.MonkeyPatch) -> SlowAccept:
    """Makes addresses accept later than they do."""

    def begin(seconds: dict[tuple[str, int], float]) -> None:
        loop = asyncio.get_running_loop()
        connect = asyncio.SelectorEventLoop.sock_connect

        async def slow(sock: socket.socket, place: tuple[str, int]) -> None:
            await asyncio.sleep(seconds.get(place, 0))
            await connect(loop, sock, place)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "sock_connect", slow)

    return begin


@pytest.mark.usefixtures("hasty")
async def test_a_slow_look_up_after_a_quick_dial_is_waited_for(
    slow_look_up: Callable[[float], None],
) -> None:
    async with ScriptedCamera(SILENT) as camera:
        us = dialler()
        await dial(us, camera.url)
        slow_look_up(0.4)
        for _ in range(3):
            await dial(us, camera.url)
        assert camera.accepted == 4


@pytest.mark.usefixtures("hasty")
async def test_a_slow_look_up_makes_no_quick_camera_slow(
    slow_look_up: Callable[[float], None], slow_accept: SlowAccept
) -> None:
    async with ScriptedCamera(SILENT) as camera:
        us = dialler()
        slow_look_up(0.2)
        await dial(us, camera.url)
        slow_accept({("127.0.0.1", camera.port): 60})
        async with asyncio.timeout(1):
            with pytest.raises(SourceUnreachable, match="does not answer"):
                await dial(us, camera.url)


async def test_a_look_up_that_takes_too_long_is_said_to(
    slow_look_up: Callable[[float], None],
) -> None:
    slow_look_up(0.3)
    with pytest.raises(SourceUnreachable) as raised:
        await dial(dialler(0.1), "http://localhost:9/")
    assert raised.value.reason == "the name localhost was not found in 0.1 s"
    assert raised.value.hint
    assert "name server" in raised.value.hint


@pytest.mark.usefixtures("hasty")
async def test_a_camera_that_became_slow_is_reached_after_some_quick_dials(
    slow_accept: SlowAccept,
) -> None:
    async with ScriptedCamera(SILENT) as camera:
        us = dialler()
        await dial(us, camera.url)
        slow_accept({("127.0.0.1", camera.port): 0.4})
        for _ in range(5):
            with pytest.raises(SourceUnreachable, match="does not answer"):
                await dial(us, camera.url)
        await dial(us, camera.url)
        await dial(us, camera.url)  # it is known to be slow
        assert camera.accepted == 3


@jumping
async def test_one_dial_in_six_is_patient_while_a_quick_camera_is_away() -> None:
    loop = asyncio.get_running_loop()
    accepts = True

    async def found(host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]

    async def connect(sock: socket.socket, place: tuple[str, int]) -> None:
        del sock, place
        await asyncio.sleep(0 if accepts else 3600)
        raise BlockingIOError  # this test wants no connection

    async def lasts() -> float:
        began = loop.time()
        with pytest.raises(SourceUnreachable):
            await us.dial(HttpAddress.parse("http://192.0.2.1/"))
        return loop.time() - began

    us = dialler(10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialling, "_resolve", found)
        patch.setattr(loop, "sock_connect", connect)
        us._note_accept(HttpAddress.parse("http://192.0.2.1/"), after=0.5)
        accepts = False
        assert [await lasts() for _ in range(12)] == [2, 2, 2, 2, 2, 10] * 2


@pytest.mark.usefixtures("hasty")
async def test_each_address_of_a_quick_name_has_time_to_accept(
    monkeypatch: pytest.MonkeyPatch, slow_accept: SlowAccept
) -> None:
    dead = [(f"127.0.0.{last}", 9) for last in (2, 3, 4)]
    async with ScriptedCamera(SILENT) as camera:
        live = ("127.0.0.1", camera.port)
        stream = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(*stream, place) for place in (*dead, live)]
        )
        slow_accept(dict.fromkeys(dead, 60))
        us = dialler(1)
        await dial(us, f"http://camera.test:{camera.port}/")
        slow_accept({**dict.fromkeys(dead, 60), live: 0.08})
        for _ in range(3):
            await dial(us, f"http://camera.test:{camera.port}/")
        assert camera.accepted == 4


@pytest.mark.usefixtures("hasty")
async def test_that_one_host_is_quick_says_nothing_of_another(slow_accept: SlowAccept) -> None:
    async with ScriptedCamera(SILENT) as camera, ScriptedCamera(SILENT) as other:
        us = dialler()
        await dial(us, camera.url)
        slow_accept({("127.0.0.1", other.port): 0.4})
        await dial(us, other.url)
        await dial(us, other.url)
        assert other.accepted == 2


async def test_hosts_without_end_are_not_remembered() -> None:
    us = dialler()
    for port in range(1, 1000):
        us._note_accept(HttpAddress.parse(f"http://camera.test:{port}/"), after=0.1)
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


@pytest.mark.usefixtures("hasty")
async def test_the_tls_handshake_of_a_quick_camera_may_take_its_time() -> None:
    async with slow_tls(0.4) as url:
        us = dialler()
        for _ in range(2):
            await dial(us, url)
