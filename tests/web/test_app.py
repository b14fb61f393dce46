"""The addresses: which there are, what they answer, what holds for all of them."""

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from structlog.testing import capture_logs

from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from mjrelay.errors import ListenError, SourceRefused, SourceUnreachable
from mjrelay.web.listening import listening
from mjrelay.web.server import web_server
from tests.support.pictures import stamped
from tests.support.serving import (
    LOOPBACK,
    Served,
    camera_for,
    config_for,
    running,
    serving,
    until,
)
from tests.support.source import SILENCE, ScriptedSource, Step, steps

STREAMS = [
    "/stream",
    "/?action=stream",
    "/?action=stream_0",
    "/?action=stream&1608856928650",
    "/cameras/front/stream",
    "/webcam/?action=stream",
    "/webcam?action=stream",
    "/webcam/stream",
    "/video",
    "/mjpg/video.mjpg",
    "/stream.mjpg",
    "/api/stream.mjpeg?src=front",
    "/api/stream.mjpeg",
    "/stream?timestamp=12&cacheBust=x&_=1",
]
SNAPSHOTS = [
    "/snapshot",
    "/snapshot.jpg",
    "/?action=snapshot",
    "/?action=snapshot_0",
    "/?action=snapshot&1608856928650",
    "/cameras/front/snapshot",
    "/webcam/?action=snapshot",
    "/shot.jpg",
    "/api/frame.jpeg?src=front",
    "/snapshot?bypassCache=1790",
]
CLIPS = ["/clip", "/clip?seconds=5", "/cameras/front/clip", "/webcam/clip"]
OTHERS = [*CLIPS, "/", "/status", "/state", "/healthz", "/readyz", "/cameras/front/health"]


def named(name: str, source: ScriptedSource, **options: object) -> Camera:
    return Camera(name, config_for("testcard:", stall_timeout=30, **options), source)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    front = named("front", ScriptedSource([*steps(1), SILENCE]))
    back = named("back", ScriptedSource([*steps(2), SILENCE]))
    async with serving(front, back) as relay:
        await until(lambda: front.published and back.published)
        yield relay


@pytest.mark.parametrize("path", STREAMS)
async def test_every_stream_address_streams(served: Served, path: str) -> None:
    async with served.http.get(served.url + path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("multipart/x-mixed-replace;")
        assert "Transfer-Encoding" not in response.headers
        start = await response.content.readexactly(22)
        assert start == b"--boundarydonotcross\r\n"
        response.close()


@pytest.mark.parametrize("path", SNAPSHOTS)
async def test_every_snapshot_address_gives_one_picture(served: Served, path: str) -> None:
    answer, body = await served.get(path)
    assert answer.status == 200
    assert body == stamped(1)


async def test_cameras_are_also_counted_from_0(served: Served) -> None:
    _, body = await served.get("/?action=snapshot_1")
    assert body == stamped(2)
    _, body = await served.get("/cameras/back/snapshot")
    assert body == stamped(2)


@pytest.mark.parametrize("path", ["/cameras/side/stream", "/api/frame.jpeg?src=side"])
async def test_an_unknown_camera_is_404_and_names_those_there_are(
    served: Served, path: str
) -> None:
    answer, body = await served.get(path)
    assert answer.status == 404
    assert body == b"there is no camera 'side'; there are: front, back\n"


async def test_an_unknown_number_is_404(served: Served) -> None:
    answer, body = await served.get("/?action=stream_7")
    assert answer.status == 404
    assert b"0 is front, 1 is back" in body


async def test_errors_are_json_for_those_who_ask(served: Served) -> None:
    answer, body = await served.get("/nowhere", headers={"Accept": "application/json"})
    assert answer.status == 404
    assert json.loads(body) == {
        "error": "there is nothing at /nowhere; / shows the cameras and their addresses"
    }


async def test_other_methods_are_refused_in_words(served: Served) -> None:
    async with served.http.post(served.url + "/stream") as response:
        assert response.status == 405
        assert await response.text() == "POST is not possible at /stream; use GET\n"


@pytest.mark.parametrize("path", STREAMS + SNAPSHOTS + OTHERS)
async def test_head_is_answered_everywhere(served: Served, path: str) -> None:
    async with served.http.head(served.url + path) as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize("path", STREAMS + SNAPSHOTS + OTHERS)
async def test_options_is_answered_everywhere(served: Served, path: str) -> None:
    async with served.http.options(served.url + path) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "GET" in response.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("*",), "http://a", "*"),
        (("http://a", "http://b"), "http://b", "http://b"),
        (("http://a",), "http://evil", None),
        ((), "http://a", None),
    ],
)
async def test_cors_follows_the_configuration(
    origins: tuple[str, ...], origin: str, allowed: str | None
) -> None:
    config = ServerConfig(listen=LOOPBACK.listen, cors_origins=origins)
    async with serving(named("front", ScriptedSource(steps(1))), config=config) as served:
        for path in ("/status", "/stream", "/nowhere"):
            async with served.http.get(served.url + path, headers={"Origin": origin}) as response:
                assert response.headers.get("Access-Control-Allow-Origin") == allowed
                assert ("Vary" in response.headers) == (origins not in ((), ("*",)))
                response.close()


async def test_a_base_path_is_answered_as_well_as_the_root() -> None:
    config = ServerConfig(listen=LOOPBACK.listen, base_path="/printer/cam/")
    async with serving(named("front", ScriptedSource(steps(1))), config=config) as served:
        for path in ("/printer/cam/snapshot", "/printer/cam/?action=snapshot", "/snapshot"):
            answer, body = await served.get(path)
            assert (answer.status, body) == (200, stamped(1))
        answer, page = await served.get("/printer/cam")
        assert str(answer.url).endswith("/printer/cam/")
        assert b"<html" in page


async def test_a_camera_can_have_a_port_of_its_own() -> None:
    front, back = (
        named(name, ScriptedSource(steps(n))) for n, name in enumerate(("front", "back"))
    )
    config = ServerConfig(
        listen=LOOPBACK.listen, camera_listen={"back": ListenAddress("127.0.0.1", 0)}
    )
    async with serving(front, back, config=config) as served:
        own = Served(served.urls[1:], served.http)
        await until(lambda: back.published)
        _, body = await own.get("/?action=snapshot")
        assert body == stamped(1)
        answer, body = await own.get("/cameras/front/snapshot")
        assert answer.status == 404
        assert b"there are: back" in body


async def test_a_camera_s_own_port_shows_whichever_has_its_name_now() -> None:
    cameras = {
        name: named(name, ScriptedSource(steps(n))) for n, name in enumerate(("front", "back"))
    }
    config = ServerConfig(listen=(), camera_listen={"back": ListenAddress("127.0.0.1", 0)})
    with contextlib.ExitStack() as stack:
        listeners = await asyncio.to_thread(stack.enter_context, listening(config))
        async with (
            running(*cameras.values()),
            web_server(cameras, config, listeners),
            aiohttp.ClientSession() as http,
        ):
            own = Served([f"http://{listeners[0].address}"], http)
            answer, body = await own.get("/snapshot")
            assert (answer.status, body) == (200, stamped(1))
            cameras["back"], gone = cameras["front"], cameras.pop("back")
            answer, body = await own.get("/snapshot")
            assert (answer.status, body) == (200, stamped(0))
            cameras["back"] = gone
            del cameras["back"]
            for path in ("/snapshot", "/stream", "/cameras/back/snapshot", "/cameras/front/status"):
                answer, _ = await own.get(path)
                assert answer.status == 404
            _, body = await own.get("/status")
            assert json.loads(body)["cameras"] == []


async def test_the_status_has_every_promised_key(served: Served) -> None:
    async with served.http.get(served.url + "/stream", headers={"User-Agent": "tester"}) as stream:
        await stream.content.readexactly(22)
        _, body = await served.get("/status")
        status = json.loads(body)
        stream.close()
    assert set(status) == {"version", "uptime", "cameras"}
    front = status["cameras"][0]
    assert set(front) >= {
        "name", "state", "reason", "hint", "since", "source", "width", "height", "fps",
        "frame_bytes", "frame_age", "frames", "opens", "failures", "stalls", "usb_resets",
        "retry_in", "holders", "clients",
    }  # fmt: skip
    assert front["frames"] == {"received": 1, "published": 1, "dropped": {"truncated": 0}}
    assert (front["state"], front["width"], front["height"]) == ("streaming", 64, 48)
    [client] = front["clients"]
    assert set(client) == {
        "id", "address", "user_agent", "kind", "since", "fps", "sent", "skipped",
    }  # fmt: skip
    assert (client["user_agent"], client["kind"]) == ("tester", "stream")
    _, body = await served.get("/cameras/back/status")
    assert json.loads(body)["name"] == "back"


async def test_state_has_ustreamers_shape(served: Served) -> None:
    _, body = await served.get("/state")
    state = json.loads(body)
    assert state["ok"] is True
    assert state["result"]["source"]["resolution"] == {"width": 64, "height": 48}
    assert state["result"]["source"]["online"] is True


async def test_health_and_readiness_tell_a_working_camera_from_a_broken_one() -> None:
    gone = ScriptedSource([SourceUnreachable("10.0.0.9:80 does not answer", "switch it on")])
    front, back = named("front", ScriptedSource(steps(1))), named("back", gone)
    idle = named("idle", ScriptedSource(steps(1)), mode="demand")
    async with serving(front, back, idle) as served:
        await until(lambda: front.published and back.state == "absent")
        assert (await served.get("/healthz"))[0].status == 200
        answer, body = await served.get("/readyz")
        assert answer.status == 503
        assert body == b"back: absent: 10.0.0.9:80 does not answer: switch it on\n"
        assert (await served.get("/cameras/front/health"))[0].status == 200
        assert (await served.get("/cameras/back/health"))[0].status == 503
        assert (await served.get("/cameras/idle/health"))[0].status == 200


async def test_ready_when_every_camera_has_a_fresh_frame(served: Served) -> None:
    answer, body = await served.get("/readyz")
    assert (answer.status, body) == (200, b"ok\n")


def test_a_taken_port_is_explained() -> None:
    with listening(LOOPBACK) as [listener]:
        taken = ServerConfig(listen=(listener.address,))
        with pytest.raises(
            ListenError, match=r"the port is taken; find by whom with: sudo ss -ltnp"
        ):
            listening(taken).__enter__()


async def test_a_unix_socket_serves_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / "http.sock"
    config = ServerConfig(listen=(ListenAddress(path=str(path)),))
    camera = camera_for("testcard:?size=64x48")
    async with serving(camera, config=config):
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as http:
            async with http.get("http://relay/snapshot") as response:
                assert response.status == 200
            async with http.get("http://relay/stream") as response:
                assert await response.content.readexactly(22)
                response.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"GET /snapshot?x=\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
async def test_a_request_nobody_can_understand_is_not_logged(
    served: Served, request_head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_head)
    await asyncio.wait_for(reader.read(100), 5)
    writer.close()
    assert not caplog.records


async def test_long_cookies_and_paths_are_taken(served: Served) -> None:
    answer, _ = await served.get("/status?" + "x" * 20_000, headers={"Cookie": "y" * 20_000})
    assert answer.status == 200


async def test_who_does_not_fit_is_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_sock: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("asyncio.trsock.TransportSocket.dup", full)
    with capture_logs() as logs:
        answers = [await served.get("/stream") for _ in range(3)]
    assert all(answer.status == 503 and b"LimitNOFILE" in body for answer, body in answers)
    assert [entry["event"] for entry in logs] == ["relay.full"]


async def test_a_snapshot_waits_for_the_second_attempt_of_a_camera_that_it_opens() -> None:
    """A camera that answers the first request after a pause with 503."""
    busy = SourceRefused("the camera answers 503")
    source = ScriptedSource([busy], [*steps(1), SILENCE])
    camera = named("front", source, mode="demand")
    async with serving(camera) as relay:
        await until(lambda: camera.state == "idle")
        answer, body = await relay.get("/snapshot")
        assert answer.status == 200
        assert body == stamped(1)


async def test_a_snapshot_waits_as_long_each_time_it_opens_such_a_camera() -> None:
    busy = SourceRefused("the camera answers 503")
    failing: list[Step] = [busy]
    pictures: list[Step] = [step for number in range(100) for step in (*steps(number), 0.02)]
    source = ScriptedSource(*[failing, pictures] * 3)
    camera = named("front", source, mode="demand", linger=0, redial_delay=0.02)
    async with serving(camera) as relay:
        for _ in range(3):
            await until(lambda: camera.state == "idle")
            answer, _ = await relay.get("/snapshot")
            assert answer.status == 200


async def test_a_snapshot_does_not_wait_for_a_camera_that_is_left_alone() -> None:
    locked = SourceRefused("the camera refuses the password", retry_after=300)
    camera = named("front", ScriptedSource([locked]), mode="demand")
    async with serving(camera) as relay:
        await until(lambda: camera.state == "idle")
        answer, body = await relay.get("/snapshot")
        assert answer.status == 503
        assert b"refuses the password" in body
        assert camera.retry_in
        assert camera.retry_in > 290


async def test_a_snapshot_of_a_silent_camera_on_demand_says_why() -> None:
    silent = ScriptedSource([SILENCE])
    silent.silent_hint = "switch it on"
    camera = named("front", silent, mode="demand", first_frame_timeout=0.1, connect_timeout=0.1)
    async with serving(camera) as served:
        answer, body = await served.get("/snapshot")
    assert answer.status == 503
    assert b"switch it on" in body
