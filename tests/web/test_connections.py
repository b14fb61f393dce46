"""Raw requests against the real server: with aiohttp's parser in C, and with the one in Python."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import http_parser

from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from tests.support.pictures import stamped
from tests.support.serving import Served, config_for, serving, until
from tests.support.source import SILENCE, ScriptedSource, steps
from tests.web.test_requests import AMBIGUOUS, MENDED

PARSERS = {
    "c": http_parser.HttpRequestParser,
    "python": http_parser.HttpRequestParserPy,
}
STREAM = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"
SNAPSHOT = b"GET /snapshot HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSING = b"GET /snapshot HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=PARSERS, autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.web_protocol.HttpRequestParser", PARSERS[request.param])


def camera(name: str = "front", **options: object) -> Camera:
    script = [*steps(1), SILENCE]
    return Camera(
        name, config_for("testcard:", stall_timeout=30, **options), ScriptedSource(script)
    )


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    front = camera()
    async with serving(front) as relay:
        await until(lambda: front.published)
        yield relay


@contextlib.asynccontextmanager
async def connected(
    served: Served,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status of the next answer, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    return int(head.split()[1]), await reader.readexactly(length)


async def asked(served: Served, *pieces: bytes) -> tuple[int, bytes]:
    """Send pieces one after the other; return the first answer."""
    async with connected(served) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await answer(reader)


@pytest.mark.parametrize(
    "came", [came for came in MENDED if b"snapshot" in came and not came.startswith(b"HEAD")]
)
async def test_a_mended_request_gets_its_picture(served: Served, came: bytes) -> None:
    status, body = await asked(served, came)
    assert status == 200
    assert body == stamped(1)


@pytest.mark.parametrize("came", [came for came in MENDED if b"action=stream" in came])
async def test_a_mended_request_gets_its_stream(served: Served, came: bytes) -> None:
    """Like this ask robotology/yarp MjpegCarrier.cpp and jacksonliam/mjpg-streamer mjpg-proxy.c."""
    async with connected(served) as (reader, writer):
        writer.write(came)
        head = await reader.readuntil(b"\r\n\r\n--boundarydonotcross\r\n")
        assert head.startswith(b"HTTP/1.0 200 ")
        for _ in range(2):
            part = await reader.readuntil(b"\r\n--boundarydonotcross\r\n")
            assert stamped(1) in part


@pytest.mark.parametrize("came", AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_not_answered(
    served: Served, came: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The parser in Python waits for the end of some of these heads: then nothing is said."""
    async with connected(served) as (reader, writer):
        writer.write(came)
        writer.write_eof()
        said = await reader.read()
        assert not said or said.startswith(b"HTTP/1.0 400 ")
        assert said.count(b"HTTP/1.0 ") <= 2, "the refusal, and the advice in it"
    assert not caplog.records


@pytest.mark.parametrize(
    "came",
    [
        b"hello\r\n\r\n",
        b"GET HTTP/1.0\r\n\r\n",
        b"GET  HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /snapshot HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
        b"GET /snapshot HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        b"GET /snapshot HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
        b"GET /snapshot HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding:chunked\r\n\r\n",
    ],
)
async def test_what_nobody_can_read_is_refused_in_a_sentence(served: Served, came: bytes) -> None:
    async with connected(served) as (reader, writer):
        writer.write(came)
        status, body = await answer(reader)
        assert status == 400
        assert body.startswith(b"mjrelay cannot read this request: ")
        assert body.endswith(b"; one that it can read begins with: GET /?action=stream HTTP/1.0\n")
        assert body.count(b"\n") == 1
        assert await reader.read() == b"", "what follows is not answered"


async def test_a_nul_in_a_packet_of_its_own_ends_nothing(served: Served) -> None:
    """As jacksonliam/mjpg-streamer mjpg-proxy.c may send it."""
    async with connected(served) as (reader, writer):
        writer.write(b"GET /?action=stream HTTP/1.0\r\n\r\n")
        await reader.readuntil(b"--boundarydonotcross\r\n")
        writer.write(b"\0")
        await reader.readuntil(b"--boundarydonotcross\r\n")
        await reader.readuntil(b"--boundarydonotcross\r\n")


async def test_nuls_between_requests_of_one_connection_are_passed_over(served: Served) -> None:
    async with connected(served) as (reader, writer):
        for _ in range(3):
            writer.write(SNAPSHOT + b"\0")
            assert await answer(reader) == (200, stamped(1))


async def test_pipelined_requests_are_all_answered(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(b"\0".join([SNAPSHOT] * 100))
        for _ in range(100):
            assert await answer(reader) == (200, stamped(1))


async def test_a_body_passes_untouched_and_more_requests_may_follow(served: Served) -> None:
    body = b'{"a": "\n\0\r"}'
    change = b"PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\n"
    whole = b"%bContent-Length: %d\r\n\r\n%b" % (change, len(body), body)
    chunked = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        change,
        len(body),
        body,
    )
    async with connected(served) as (reader, writer):
        for request in (SNAPSHOT, whole, chunked, whole):
            for i in range(len(request)):
                writer.write(request[i : i + 1])
            status, said = await answer(reader)
            assert status == (200 if request is SNAPSHOT else 400)
            assert request is SNAPSHOT or said.startswith(b"expected JSON with whole numbers")


async def test_a_client_may_wait_until_its_body_is_wanted(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(
            b"PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await answer(reader))[0] == 404, "a test card has no controls"


@pytest.mark.parametrize("fields", [1, 3])
async def test_a_long_head_is_read(served: Served, fields: int) -> None:
    cookies = b"".join(b"Cookie: " + b"x" * 50_000 + b"\r\n" for _ in range(fields))
    came = b"GET /snapshot HTTP/1.1\r\nHost: h\r\n" + cookies + b"\r\n"
    assert await asked(served, came[:60_000], came[60_000:]) == (200, stamped(1))


async def test_a_mended_request_is_the_last_of_its_connection(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(b"GET /snapshot HTTP/1.1\nHost: h\nConnection: keep-alive\n\n")
        writer.write(b"GET /status HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await answer(reader) == (200, stamped(1))
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("came", "count"),
    [
        (SNAPSHOT, 1),
        (CLOSING, 1),
        (b"GET /snapshot HTTP/1.0\r\n\r\n\0", 1),
        (SNAPSHOT * 3, 3),
        (SNAPSHOT * 40, 40),
        # What the end of the client's side ends, too.
        (b"GET /snapshot\n", 1),
        (b"GET /snapshot", 1),
        (b"GET /snapshot HTTP/1.0\r\n", 1),
        (SNAPSHOT[:-2], 1),
    ],
)
async def test_a_client_that_ends_its_side_gets_all_its_answers(came: bytes, count: int) -> None:
    """As aio-libs/aiohttp#3659 and golang/go#18527 report of `nc -N` and others.

    The camera is only opened for the client, so that its end comes before the answer.
    """
    async with (
        serving(camera(mode="demand")) as served,
        connected(served) as (reader, writer),
    ):
        writer.write(came)
        writer.write_eof()
        for _ in range(count):
            assert await answer(reader) == (200, stamped(1))
        assert await reader.read() == b"", "the connection ends behind them"


async def test_a_change_is_made_for_a_client_that_ends_its_side(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(
            b"POST /cameras/front/restart HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
        )
        writer.write_eof()
        assert await answer(reader) == (202, b"front is being opened again\n")
        assert await reader.read() == b""


async def test_a_stream_goes_on_for_a_client_that_ends_its_side(served: Served) -> None:
    """As with jacksonliam/mjpg-streamer, which reads nothing behind the request."""
    async with connected(served) as (reader, writer):
        writer.write(STREAM)
        writer.write_eof()
        for _ in range(4):
            await reader.readuntil(b"--boundarydonotcross\r\n")


async def test_a_client_that_ended_its_side_and_left_is_noticed() -> None:
    front = camera()
    async with serving(front) as served:
        async with connected(served) as (reader, writer):
            writer.write(STREAM)
            writer.write_eof()
            await reader.readuntil(b"--boundarydonotcross\r\n")
            await until(lambda: front.fanout.sinks)
        await until(lambda: not front.fanout.sinks)
        _, body = await served.get("/status")
        assert json.loads(body)["cameras"][0]["clients"] == []


async def test_a_client_that_left_is_noticed_where_there_is_nothing_to_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of its side is all that tells of a client that left: it may still wait as well."""
    monkeypatch.setattr("mjrelay.web.streams._GONE_AFTER", 0.05)
    source = ScriptedSource([SILENCE])
    front = Camera("front", config_for("testcard:", placeholder=False, mode="demand"), source)
    async with serving(front) as served, connected(served) as (staying, writer):
        writer.write(STREAM)
        await staying.readuntil(b"--boundarydonotcross\r\n")
        async with connected(served) as (reader, leaving):
            leaving.write(STREAM)
            leaving.write_eof()
            await until(lambda: len(front.fanout.sinks) == 2)
            await reader.readuntil(b"--boundarydonotcross\r\n")
            assert await reader.read() == b""
        await until(lambda: len(front.fanout.sinks) == 1)


@pytest.mark.parametrize(
    "came",
    [
        b"",
        b"\r\n\0",
        SNAPSHOT + b"\0",  # answered before it ends its side
        b"PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{",
        b"PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ],
)
async def test_a_connection_with_nothing_to_answer_ends_with_the_clients_side(
    served: Served, came: bytes
) -> None:
    async with connected(served) as (reader, writer):
        writer.write(came)
        if came.startswith(b"GET"):
            await answer(reader)
        else:
            await served.get("/healthz")
        writer.write_eof()
        assert await reader.read() == b""


async def test_a_unix_socket_reads_requests_alike(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("run") / "http.sock"
    config = ServerConfig(listen=(ListenAddress(path=str(path)),))
    front = camera()
    async with serving(front, config=config):
        await until(lambda: front.published)
        for came in (b"GET /snapshot\n", b"GET /snapshot HTTP/1.0\r\n\r\n\0"):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(came)
            writer.write_eof()
            assert await answer(reader) == (200, stamped(1))
            assert await reader.read() == b""
            writer.close()


async def test_half_a_head_holds_up_no_end() -> None:
    async with serving(camera()) as served:
        reader, writer = await asyncio.open_connection(*served.url[7:].split(":"))
        writer.write(b"GET /snapshot HTTP/1.0\r\n")
        await served.get("/healthz")
        stopping = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopping < 1
    assert await reader.read() == b""
    writer.close()
