"""What people see: pictures in a real browser, compared pixel by pixel.

Chromium is driven over its DevTools protocol. It shows a multipart image only once the next part
has begun, which is why the relay repeats the newest frame to a silent camera's viewers.
"""

import asyncio
import base64
import contextlib
import functools
import io
import itertools
import json
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.support.camera import Connection, HttpHead, ScriptedCamera, Send, Silence
from tests.support.daemon import RelayProcess, eventually, running
from tests.support.pictures import stamped
from tests.support.quirks import multipart
from tests.support.viewer import Viewer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(60),
]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
START_TIMEOUT = 30.0

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]


class Page:
    """A browser's page, told what to do over the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript to a JSON value."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def go(self, url: str) -> None:
        """Open a page; its pictures may come later."""
        await self.call("Page.navigate", url=url)
        await eventually(
            lambda: self._is_at(url),
            within=10,
        )

    async def _is_at(self, url: str) -> bool:
        state = "[location.href, document.readyState]"
        where, ready = await self.evaluate(state)
        return bool(where == url and ready != "loading")

    async def screenshot(self) -> Image.Image:
        """What the page shows."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """An empty page of a browser of its own."""
    if not shutil.which("chromium"):
        pytest.skip("needs chromium: apt install chromium")
    profile = tmp_path / "profile"
    port_file = profile / "DevToolsActivePort"

    def port() -> str:
        with contextlib.suppress(OSError, ValueError):
            number, _path = port_file.read_text(encoding="ascii").splitlines()
            return number
        return ""

    async with running("chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"):
        await eventually(lambda: bool(port()), START_TIMEOUT)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port()}") as session:
            async with session.get("/json/list") as answer:
                targets = json.loads(await answer.text())
            (target,) = [target for target in targets if target["type"] == "page"]
            url = target["webSocketDebuggerUrl"]
            # A screenshot is a message of megabytes.
            async with session.ws_connect(url, max_msg_size=2**27) as socket:
                yield Page(socket)


@functools.cache
def plain(colour: Colour) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(file, "JPEG", quality=95)
    return file.getvalue()


@dataclass(frozen=True)
class Steps:
    """Send each picture put into a queue, once."""

    queue: asyncio.Queue[bytes]

    async def play(self, connection: Connection) -> None:
        """Send them until the connection ends."""
        while True:
            await connection.send(multipart([await self.queue.get()]))


async def picture_box(page: Page) -> Box:
    """Where the page shows its largest picture, left, top, right, bottom; empty if nowhere yet."""
    box = await page.evaluate(
        "[...document.querySelectorAll('img, canvas, video')]"
        ".map(element => element.getBoundingClientRect())"
        ".map(r => [r.left, r.top, Math.min(r.right, innerWidth), Math.min(r.bottom, innerHeight)])"
        ".sort((a, b) => (b[2] - b[0]) * (b[3] - b[1]) - (a[2] - a[0]) * (a[3] - a[1]))[0]"
    )
    left, top, right, bottom = (int(side) for side in box or (0, 0, 0, 0))
    return left, top, right, bottom


def is_test_card(image: Image.Image) -> bool:
    """Whether a picture has the bars of the test card, and not just one colour or two."""
    if image.width < 100 or image.height < 50:
        return False
    bars = [(192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0)]
    colours = image.getcolors(image.width * image.height) or []
    return all(any(is_near(colour, bar) for _, colour in colours) for bar in bars)


def is_near(colour: Any, wanted: Colour) -> bool:
    return all(abs(a - b) < 24 for a, b in zip(colour, wanted, strict=True))


async def test_the_page_shows_the_moving_test_card(page: Page, tmp_path: Path) -> None:
    async with RelayProcess("testcard:?fps=10") as relay:
        await page.go(f"{relay.url}/")
        shots: list[Image.Image] = []

        async def shows_another() -> bool:
            shot = (await page.screenshot()).crop(await picture_box(page))
            if is_test_card(shot) and shot not in shots:
                shots.append(shot)
            return len(shots) == 3

        await eventually(shows_another, within=15)
        (await page.screenshot()).save(tmp_path / "page.png")


async def test_a_silent_camera_s_newest_frame_is_shown(page: Page) -> None:
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    colours: list[Colour] = [(200, 0, 0), (0, 0, 200), (0, 160, 0), (200, 200, 0)]
    async with (
        ScriptedCamera([Send(HttpHead), Steps(queue), Silence()]) as camera,
        RelayProcess(camera.url) as relay,
    ):
        queue.put_nowait(plain((90, 90, 90)))
        await page.go(f"{relay.url}/healthz")  # a page of the same origin, without pictures
        await page.evaluate(
            "document.body.innerHTML ="
            "'<img src=/stream width=320 height=240 style=\"position:fixed;left:0;top:0\">'"
        )

        async def shows(colour: Colour) -> bool:
            return is_near((await page.screenshot()).getpixel((160, 120)), colour)

        await eventually(lambda: shows((90, 90, 90)), within=10)
        latencies = []
        for colour in colours:
            await asyncio.sleep(1)  # silence, in which the frame before was repeated
            queue.put_nowait(plain(colour))
            begun = time.monotonic()
            await eventually(functools.partial(shows, colour), within=4)
            latencies.append(time.monotonic() - begun)
        assert statistics.median(latencies) < 0.8, latencies
        assert camera.accepted == 1


def came_twice(viewer: Viewer, number: int) -> bool:
    return sum(frame.stamp == number for frame in viewer.frames) == 2


async def test_a_frame_after_silence_comes_once_more_a_quarter_second_later() -> None:
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    async with (
        ScriptedCamera([Send(HttpHead), Steps(queue)]) as camera,
        RelayProcess(camera.url) as relay,
        Viewer(relay.url) as viewer,
    ):
        delays = []
        for number in range(1, 5):
            # Silences of different lengths, in which the frame before was repeated.
            await asyncio.sleep(0.3 * number)
            queue.put_nowait(stamped(number))
            await viewer.until(functools.partial(came_twice, viewer, number))
            delays.append(viewer.frames[-1].age)
        assert min(delays) > 0.2
        assert statistics.median(delays) < 0.5, delays
