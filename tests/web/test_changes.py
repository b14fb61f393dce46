"""Controls over HTTP: who may read them, who may set them, and what is answered."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import ListenAddress
from mjrelay.configuration.tables import ServerConfig
from mjrelay.devices.holders import Holder
from mjrelay.errors import SourceBusy, SourceUnreachable
from mjrelay.recovery.ladder import Remedy
from mjrelay.web.changes import _is_loopback
from tests.support.serving import LOOPBACK, Served, config_for, scripted, serving, until
from tests.support.source import SILENCE, ScriptedSource, Step, steps

ONLY_FROM_HERE = "cameras can only be changed from the computer that mjrelay runs on"
EXPECTED = 'expected JSON with whole numbers by name, such as {"brightness": 128}\n'


class ControlledSource(ScriptedSource):
    """A source with a brightness, that can be reset."""

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.resets = 0
        self.remedies = {Remedy.USB_RESET: self._reset}
        self.values: dict[str, int] = {"brightness": 7}
        self.trouble: Exception | None = None
        self.held_by: tuple[Holder, ...] = ()

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self.held_by

    async def _reset(self) -> None:
        assert self.open_now == 0
        self.resets += 1

    async def read_controls(self) -> dict[str, Any]:
        if self.trouble:
            raise self.trouble
        return {name: {"value": value} for name, value in self.values.items()}

    async def change_controls(self, values: Mapping[str, int]) -> None:
        if self.trouble:
            raise self.trouble
        if unknown := values.keys() - self.values:
            raise ValueError(f"there is no control {min(unknown)}; there are: brightness")
        self.values.update(values)


@pytest.fixture
def source() -> ControlledSource:
    return ControlledSource([*steps(1), SILENCE])


@pytest.fixture
async def served(source: ControlledSource) -> AsyncIterator[Served]:
    camera = Camera("front", config_for("testcard:", stall_timeout=30), source)
    other = Camera("card", config_for("testcard:"), ScriptedSource([*steps(2), SILENCE]))
    async with serving(camera, other) as relay:
        await until(lambda: camera.published)
        yield relay


async def change(
    served: Served, body: str | bytes, name: str = "front", **headers: str
) -> tuple[int, str]:
    """PATCH the controls; returns the status and the body."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    url = f"{served.url}/cameras/{name}/controls"
    async with served.http.patch(url, data=body, headers=named) as response:
        return response.status, await response.text()


# Reading


async def test_the_controls_of_a_camera(served: Served) -> None:
    answer, body = await served.get("/cameras/front/controls")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"brightness": {"value": 7}}


async def test_a_camera_without_controls_is_404(served: Served) -> None:
    answer, body = await served.get("/cameras/card/controls")
    assert answer.status == 404
    assert body == b"card has no controls: only cameras of this computer have them\n"
    assert await change(served, '{"brightness": 1}', "card") == (404, body.decode())


async def test_a_camera_that_is_not_there_is_404(served: Served) -> None:
    assert (await change(served, "{}", "side"))[0] == 404


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (SourceUnreachable("the camera is not open"), "the camera is not open"),
        (SourceUnreachable("it is gone", "plug it in"), "it is gone"),
        (TimeoutError(), "the camera does not answer"),
    ],
)
async def test_a_camera_that_does_not_answer_is_503(
    served: Served, source: ControlledSource, trouble: Exception, reason: str
) -> None:
    source.trouble = trouble
    answer, body = await served.get("/cameras/front/controls")
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert body.decode() == f"front is streaming: {reason}; try again when it streams\n"
    assert await change(served, '{"brightness": 1}') == (503, body.decode())


async def test_reading_is_for_everyone(served: Served) -> None:
    answer, _ = await served.get(
        "/cameras/front/controls",
        headers={"Origin": "http://evil.example", "X-Forwarded-For": "192.0.2.1"},
    )
    assert answer.status == 200


# Setting


async def test_a_change_answers_with_all(served: Served, source: ControlledSource) -> None:
    source.values["gain"] = 1
    status, body = await change(served, '{"brightness": 128}')
    assert status == 200
    assert json.loads(body) == {"brightness": {"value": 128}, "gain": {"value": 1}}
    assert source.values == {"brightness": 128, "gain": 1}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "brightness=1",
        "[1]",
        "1",
        "null",
        '{"brightness": "1"}',
        '{"brightness": 1.5}',
        '{"brightness": null}',
        '{"brightness": {"value": 1}}',
        '{"brightness": NaN}',
        '{"brightness": 1',
        "[" * 100_000,
    ],
)
async def test_a_body_that_says_nothing_is_400(
    served: Served, source: ControlledSource, body: str
) -> None:
    assert await change(served, body) == (400, EXPECTED)
    assert source.values == {"brightness": 7}


async def test_a_body_that_is_no_text_is_400(served: Served, source: ControlledSource) -> None:
    assert await change(served, b"\xff\xfe{") == (400, EXPECTED)
    assert source.values == {"brightness": 7}


async def test_whatever_charset_a_body_claims_json_has_its_own(served: Served) -> None:
    status, body = await change(served, '{"brightness": 1}', Content_Type="text/plain; charset=foo")
    assert (status, json.loads(body)) == (200, {"brightness": {"value": 1}})


@pytest.mark.parametrize(("word", "number"), [("true", 1), ("false", 0)])
async def test_true_and_false_are_numbers(
    served: Served, source: ControlledSource, word: str, number: int
) -> None:
    status, body = await change(served, f'{{"brightness": {word}}}')
    assert (status, json.loads(body)) == (200, {"brightness": {"value": number}})
    assert type(source.values["brightness"]) is int


async def test_what_the_camera_cannot_have_is_400_in_its_words(served: Served) -> None:
    assert await change(served, '{"gain": 1}') == (
        400,
        "there is no control gain; there are: brightness\n",
    )


async def test_errors_are_json_for_those_who_ask(served: Served) -> None:
    status, body = await change(served, "[]", Accept="application/json")
    assert (status, json.loads(body)) == (400, {"error": EXPECTED.strip()})


# Who may set


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "https://evil.example:8080"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "http://192.168.1.5:8080"},
        {"Origin": "null"},  # a page without a site, such as a sandboxed frame
        {"Origin": "file://"},
        {"Origin": "evil"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Forwarded": "for=192.0.2.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "192.0.2.1"},
    ],
)
async def test_a_change_from_elsewhere_is_403(
    served: Served, source: ControlledSource, headers: dict[str, str]
) -> None:
    status, body = await change(served, '{"brightness": 1}', **headers)
    assert status == 403
    assert body.startswith(ONLY_FROM_HERE)
    assert source.values == {"brightness": 7}


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"],
)
async def test_a_page_of_this_computer_may(served: Served, origin: str) -> None:
    assert (await change(served, '{"brightness": 1}', Origin=origin))[0] == 200


async def test_a_proxy_is_known_however_it_writes_its_headers(served: Served) -> None:
    status, _ = await change(served, "{}", **{"x-forwarded-for": "192.0.2.1"})
    assert status == 403


@pytest.mark.parametrize("action", ["restart", "reset"])
@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"X-Forwarded-For": "192.0.2.1"}]
)
async def test_a_restart_from_elsewhere_is_403(
    served: Served, source: ControlledSource, action: str, headers: dict[str, str]
) -> None:
    url = f"{served.url}/cameras/front/{action}"
    async with served.http.post(url, headers=headers) as response:
        assert response.status == 403
    assert (source.opened, source.resets) == (1, 0)


def own_address() -> str:
    """An address of this computer that is not loopback, as a neighbour would reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this computer has no address but loopback")
        return str(probe.getsockname()[0])


async def test_a_neighbour_may_not(source: ControlledSource) -> None:
    config = ServerConfig(listen=(ListenAddress(own_address(), 0),))
    camera = Camera("front", config_for("testcard:"), source)
    async with serving(camera, config=config) as served:
        assert (await change(served, '{"brightness": 1}'))[0] == 403
    assert source.values == {"brightness": 7}


@pytest.mark.parametrize(
    ("listen", "reach"), [("[::1]:0", "[::1]"), ("[::]:0", "127.0.0.1"), ("[::]:0", "[::1]")]
)
async def test_loopback_is_here_over_ipv6_and_as_ipv4_within_it(
    source: ControlledSource, listen: str, reach: str
) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this computer has no IPv6")
    config = ServerConfig(listen=(ListenAddress.parse(listen),))
    camera = Camera("front", config_for("testcard:"), source)
    async with serving(camera, config=config) as served:
        port = served.url.rpartition(":")[2]
        there = Served([f"http://{reach}:{port}"], served.http)
        assert (await change(there, '{"brightness": 1}'))[0] == 200


async def test_a_unix_socket_is_here(source: ControlledSource, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    config = ServerConfig(listen=(*LOOPBACK.listen, ListenAddress(path=path)))
    camera = Camera("front", config_for("testcard:"), source)
    async with (
        serving(camera, config=config) as served,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http,
    ):
        there = Served([served.url], http)
        assert (await change(there, '{"brightness": 1}'))[0] == 200
        assert (await change(there, '{"brightness": 2}', X_Forwarded_For="192.0.2.1"))[0] == 403
    assert source.values == {"brightness": 1}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("fe80::1%eth0", False),
        ("::", False),
    ],
)
def test_which_addresses_are_loopback(host: str, loopback: bool) -> None:
    assert _is_loopback(host) is loopback


async def test_a_change_while_the_camera_is_away_is_not_kept(
    served: Served, source: ControlledSource
) -> None:
    source.trouble = SourceUnreachable("the camera is not open")
    await change(served, '{"brightness": 1}')
    source.trouble = None
    await asyncio.sleep(0)
    assert source.values == {"brightness": 7}


# Restarting


async def post(served: Served, path: str) -> tuple[int, str]:
    async with served.http.post(served.url + path) as response:
        return response.status, await response.text()


async def test_a_restart_opens_the_camera_again(served: Served, source: ControlledSource) -> None:
    assert await post(served, "/cameras/front/restart") == (202, "front is being opened again\n")
    await until(lambda: source.opened == 2)
    assert (source.open_now, source.resets) == (1, 0)


async def test_a_reset_resets_the_device_and_opens_it_again(
    served: Served, source: ControlledSource
) -> None:
    assert await post(served, "/cameras/front/reset") == (202, "front is being reset\n")
    await until(lambda: source.opened == 2)
    assert (source.open_now, source.resets) == (1, 1)


async def test_what_cannot_be_reset_is_409(served: Served) -> None:
    assert await post(served, "/cameras/card/reset") == (
        409,
        "card cannot be reset: only USB cameras can be reset\n",
    )
    assert (await post(served, "/cameras/card/restart"))[0] == 202


async def test_a_camera_that_another_has_is_not_reset_but_409() -> None:
    busy = SourceBusy("Device or resource busy", "held by ffmpeg (pid 812): sudo kill 812")
    source = ControlledSource([busy], [*steps(1), SILENCE])
    source.held_by = (Holder(812, "/usr/bin/ffmpeg", None),)
    config = config_for("testcard:", stall_timeout=30, redial_delay=60, retry_max=60)
    camera = Camera("front", config, source)
    async with serving(camera) as served:
        await until(lambda: camera.condition.holders and camera.retry_in)
        answer = f"front cannot be reset: {busy.reason}: {busy.hint}\n"
        assert await post(served, "/cameras/front/reset") == (409, answer)
        assert (source.opened, source.resets) == (1, 0)
        assert (await post(served, "/cameras/front/restart"))[0] == 202
        await until(lambda: camera.state == "streaming")
        assert (await post(served, "/cameras/front/reset"))[0] == 202, "nobody has it any more"
        await until(lambda: source.resets)


async def test_a_camera_that_another_has_is_reset_by_force() -> None:
    source = ControlledSource([SourceBusy("Device or resource busy")], [*steps(1), SILENCE])
    source.held_by = (Holder(812, "/usr/bin/ffmpeg", None),)
    camera = scripted(source, stall_timeout=30, redial_delay=60, retry_max=60, usb_reset="force")
    async with serving(camera) as served:
        await until(lambda: camera.condition.holders and camera.retry_in)
        assert (await post(served, "/cameras/front/reset"))[0] == 202
        await until(lambda: source.resets)


@pytest.mark.parametrize("action", ["restart", "reset"])
async def test_only_a_post_restarts(served: Served, source: ControlledSource, action: str) -> None:
    answer, body = await served.get(f"/cameras/front/{action}")
    assert answer.status == 405
    assert body.decode() == f"GET is not possible at /cameras/front/{action}; use POST\n"
    assert source.opened == 1


@pytest.mark.parametrize("action", ["restart", "reset"])
async def test_a_camera_that_is_idle_is_left_alone(source: ControlledSource, action: str) -> None:
    camera = Camera("front", config_for("testcard:", mode="demand", linger=0), source)
    async with serving(camera) as served:
        assert await post(served, f"/cameras/front/{action}") == (
            409,
            "front is closed: it is opened for its first viewer\n",
        )
        with camera.watched():
            await until(lambda: camera.state == "streaming")
    assert (source.opened, source.resets) == (1, 0)
