"""Streams and snapshots over real sockets."""

import asyncio
import json
import re
import socket
import struct

import pytest

from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from mjrelay.errors import SourceLost
from tests.support.pictures import stamp, stamped
from tests.support.serving import LOOPBACK, Served, config_for, scripted, serving, until
from tests.support.source import SILENCE, ScriptedSource, Step, steps

HEAD = """\
HTTP/1.1 200 OK
Content-Type: multipart/x-mixed-replace; boundary=boundarydonotcross
Cache-Control: no-store, no-cache, must-revalidate, max-age=0, no-transform
Pragma: no-cache
Expires: 0
Cross-Origin-Resource-Policy: cross-origin
X-Accel-Buffering: no
Date: *
Server: mjrelay
Connection: close
Access-Control-Allow-Origin: *
Access-Control-Expose-Headers: ETag, X-Timestamp, X-Age-Ms
"""
PART = re.compile(
    rb"Content-Type: image/jpeg\r\nContent-Length: (\d+)\r\nX-Timestamp: \d+\.\d{6}\r\n\r\n"
)


def steady(count: int = 2000, interval: float = 0.01, size: int = 0) -> list[Step]:
    """A script with a frame every `interval` seconds, padded by `size` bytes."""
    padding = b"\xff\xfe\xff\xf0" + b"x" * 65518
    images = (stamped(n)[:2] + padding * (size // 65520) + stamped(n)[2:] for n in range(count))
    return [step for image in images for step in (image, interval)]


class RawClient:
    """A client of one stream that reads the raw socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def get(cls, served: Served, path: str, version: str = "1.1") -> "RawClient":
        client = await cls.connected(served)
        client.ask(path, version)
        return client

    @classmethod
    async def connected(cls, served: Served) -> "RawClient":
        host, _, port = served.url.removeprefix("http://").partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def ask(self, path: str, version: str = "1.1") -> None:
        self.writer.write(f"GET {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode())

    async def head(self) -> str:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return re.sub("Date: .*", "Date: *", head).replace("\r\n", "\n")[:-1]

    async def part(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        match = PART.fullmatch(head)
        assert match, head
        image = await self.reader.readexactly(int(match[1]))
        assert await self.reader.readexactly(24) == b"\r\n--boundarydonotcross\r\n"
        return image

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_wire_format_is_as_promised(version: str) -> None:
    async with serving(scripted(ScriptedSource(steady()))) as served:
        client = await RawClient.get(served, "/stream", version)
        expected = HEAD.replace("HTTP/1.1", f"HTTP/{version}")
        if version == "1.0":
            expected = expected.replace("Connection: close\n", "")
        assert await client.head() == expected
        assert await client.reader.readexactly(22) == b"--boundarydonotcross\r\n"
        images = [await client.part() for _ in range(5)]
        assert images == sorted(set(images), key=images.index), "each frame once"
        await client.close()


async def test_advance_headers_bring_the_next_parts_head_at_once() -> None:
    async with serving(scripted(ScriptedSource([*steps(1), SILENCE]))) as served:
        client = await RawClient.get(served, "/stream?advance_headers=1")
        await client.head()
        head = b"--boundarydonotcross\r\nContent-Type: image/jpeg\r\n\r\n"
        assert await client.reader.readexactly(len(head)) == head
        image = stamped(1)
        assert await client.reader.readexactly(len(image)) == image
        assert await client.reader.readexactly(2 + len(head)) == b"\r\n" + head
        await client.close()


async def test_the_newest_frame_comes_at_once_and_again_after_250_ms() -> None:
    camera = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=30)
    async with serving(camera) as served:
        await until(lambda: camera.state == "streaming")
        client = await RawClient.get(served, "/stream")
        await client.head()
        await client.reader.readexactly(22)
        loop = asyncio.get_running_loop()
        assert await client.part() == stamped(1)
        first = loop.time()
        assert await client.part() == stamped(1)
        assert loop.time() - first == pytest.approx(0.25, abs=0.2)
        await client.close()


async def test_fps_thins_the_stream_for_one_client() -> None:
    async with serving(scripted(ScriptedSource(steady(interval=0.01)))) as served:
        client = await RawClient.get(served, "/stream?fps=10")
        await client.head()
        await client.reader.readexactly(22)
        loop = asyncio.get_running_loop()
        await client.part()
        started = loop.time()
        for _ in range(5):
            await client.part()
        assert loop.time() - started >= 0.4
        await client.close()


async def test_a_client_that_stops_reading_harms_nobody_and_resumes_at_the_newest() -> None:
    camera = scripted(ScriptedSource(steady(size=300_000, interval=0.02)))
    async with serving(camera) as served:
        slow = await RawClient.get(served, "/stream")
        await slow.head()
        await slow.reader.readexactly(22)
        await slow.part()
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        fast = await RawClient.get(served, "/stream")
        await fast.head()
        await fast.reader.readexactly(22)
        first = stamp(await fast.part())
        assert [stamp(await fast.part()) for _ in range(50)] == [*range(first + 1, first + 51)]
        newest = camera.published - 1  # the script's stamps begin at 0
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen = [stamp(await slow.part()) for _ in range(5)]
        assert seen == sorted(seen)
        assert seen[-1] >= newest, "all that was old is what the kernels held"
        client = json.loads((await served.get("/status"))[1])["cameras"][0]["clients"][0]
        assert client["skipped"] > 20
        await slow.close()
        await fast.close()


async def test_a_client_that_leaves_is_forgotten() -> None:
    camera = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=30)
    async with serving(camera) as served:
        client = await RawClient.get(served, "/stream")
        await client.head()
        await until(lambda: len(camera.fanout.sinks) == 1)
        await client.close()
        await until(lambda: not camera.fanout.sinks)


async def test_a_stream_outlives_the_camera_and_shows_why() -> None:
    camera = scripted(ScriptedSource([*steps(1), SourceLost("gone")], steady()), redial_delay=1.5)
    async with serving(camera) as served:
        client = await RawClient.get(served, "/stream")
        await client.head()
        await client.reader.readexactly(22)
        assert await client.part() == stamped(1)
        seen = [await client.part() for _ in range(4)]
        offline = [image for image in seen if image != stamped(1)]
        assert offline, "the offline picture came"
        while (await client.part()) in (*offline, stamped(1)):
            pass
        await client.close()


async def test_shutdown_ends_streams_between_parts_with_a_plain_fin() -> None:
    async with asyncio.timeout(10):
        async with serving(scripted(ScriptedSource(steady(interval=0.005)))) as served:
            clients = [await RawClient.get(served, "/stream") for _ in range(5)]
            for client in clients:
                await client.head()
                await client.reader.readexactly(22)
                await client.part()
            loop = asyncio.get_running_loop()
            stopping = loop.time()
        assert loop.time() - stopping < 2
        for client in clients:
            rest = await client.reader.read()
            assert rest == b"" or rest.endswith(b"\r\n--boundarydonotcross\r\n")
            await client.close()


async def test_who_has_connected_may_still_ask_while_it_ends() -> None:
    loop = asyncio.get_running_loop()
    async with serving(scripted(ScriptedSource(steady()))) as served:
        client = await RawClient.connected(served)
        # It came later: so the other one was accepted.
        await served.get("/healthz")
        # A network's delay.
        loop.call_later(0.02, client.ask, "/healthz")
    assert (await client.head()).startswith("HTTP/1.1 200 ")
    await client.close()


async def test_who_connects_and_asks_nothing_holds_up_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with serving(scripted(ScriptedSource(steady()))) as served:
        client = await RawClient.connected(served)
        await served.get("/healthz")
        stopping = loop.time()
    assert loop.time() - stopping < 1
    await client.close()


async def test_accepted_sockets_bound_what_the_kernel_keeps() -> None:
    camera = scripted(ScriptedSource(steady()))
    async with serving(camera) as served:
        client = await RawClient.get(served, "/stream")
        await client.head()
        await until(lambda: len(camera.fanout.sinks) == 1)
        [sink] = camera.fanout.sinks
        sock: socket.socket = sink._socket  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16384
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000
        await client.close()


async def test_a_snapshot_is_the_newest_frame() -> None:
    camera = scripted(ScriptedSource([*steps(1, 2), SILENCE]), stall_timeout=30)
    async with serving(camera) as served:
        await until(lambda: camera.published == 2)
        answer, body = await served.get("/snapshot")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert body == stamped(2)
        assert float(answer.headers["X-Timestamp"]) > 1e9
        assert int(answer.headers["X-Age-Ms"]) < 5000
        assert answer.headers["Last-Modified"].endswith("GMT")
        tag = answer.headers["ETag"]
        again, nothing = await served.get("/snapshot", headers={"If-None-Match": tag})
        assert (again.status, nothing) == (304, b"")


async def test_a_snapshot_too_old_is_refused() -> None:
    camera = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=30)
    async with serving(camera) as served:
        await until(lambda: camera.published == 1)
        await asyncio.sleep(0.05)
        answer, body = await served.get("/snapshot?max_age=0.01")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"no picture newer than" in body
        answer, _ = await served.get("/snapshot?max_age=60")
        assert answer.status == 200
        answer, body = await served.get("/snapshot?max_age=soon")
        assert answer.status == 400
        assert b"max_age must be a number" in body


async def test_a_fresh_snapshot_waits_for_the_next_frame() -> None:
    camera = scripted(ScriptedSource([*steps(1), 0.3, *steps(2), SILENCE]), stall_timeout=30)
    async with serving(camera) as served:
        await until(lambda: camera.published == 1)
        _, body = await served.get("/snapshot?fresh=1")
        assert body == stamped(2)


async def test_a_snapshot_opens_a_camera_on_demand() -> None:
    camera = scripted(ScriptedSource(steady()), mode="demand", linger=0.05)
    async with serving(camera) as served:
        answer, body = await served.get("/snapshot")
        assert answer.status == 200
        assert body.startswith(b"\xff\xd8")
        await until(lambda: camera.state == "idle")


async def test_a_snapshot_without_any_picture_says_why() -> None:
    camera = scripted(ScriptedSource([SourceLost("the camera ended the stream", "wait")]))
    async with serving(camera) as served:
        await until(lambda: camera.state == "recovering")
        answer, body = await served.get("/snapshot")
        assert answer.status == 503
        assert b"the camera ended the stream: wait" in body


async def test_a_client_gone_before_its_stream_began_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    camera = scripted(ScriptedSource(steady()))
    async with serving(camera) as served:
        host, _, port = served.url.removeprefix("http://").partition(":")
        for _ in range(50):
            sock = socket.create_connection((host, int(port)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.close()
            await asyncio.sleep(0)
        await until(lambda: not camera.fanout.sinks)
    assert not caplog.records


async def test_shutdown_is_quick_with_stuck_clients_on_several_ports() -> None:
    large = steady(20, 0.2, size=2_000_000)
    cameras = [Camera(name, config_for("testcard:"), ScriptedSource(large))
               for name in ("a", "b", "c", "d")]  # fmt: skip
    own = {camera.name: ListenAddress("127.0.0.1", 0) for camera in cameras}
    config = ServerConfig(listen=LOOPBACK.listen, camera_listen=own)
    loop = asyncio.get_running_loop()
    stuck = []
    async with serving(*cameras, config=config) as served:
        for url in served.urls:
            client = await RawClient.get(Served([url], served.http), "/stream")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            stuck.append(client)
        await until(lambda: sum(len(camera.fanout.sinks) for camera in cameras) == 5)
        _, body = await served.get("/status")
        watched = {c["name"]: len(c["clients"]) for c in json.loads(body)["cameras"]}
        assert watched == {"a": 2, "b": 1, "c": 1, "d": 1}
        stopping = loop.time()
    assert loop.time() - stopping < 2
    for client in stuck:
        client.writer.transport.abort()
