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
import signal
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable
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


async def pictures(page: Page) -> list[Image.Image]:
    """What the page shows of each of its pictures, without their round corners."""
    boxes = await page.evaluate(
        "[...document.images].map(image => image.getBoundingClientRect())"
        ".map(r => [r.left + 4, r.top + 4,"
        " Math.min(r.right, innerWidth) - 4, Math.min(r.bottom, innerHeight) - 4])"
    )
    shot = await page.screenshot()
    return [shot.crop((left, top, right, bottom)) for left, top, right, bottom in boxes]


async def until_moving(page: Page, cameras: int = 1) -> None:
    """Wait until each camera's picture has been three different ones of the test card."""
    seen: list[list[Image.Image]] = [[] for _ in range(cameras)]

    async def all_moved() -> bool:
        for shots, shot in zip(seen, await pictures(page), strict=False):
            if is_test_card(shot) and shot not in shots:
                shots.append(shot)
        return all(len(shots) >= 3 for shots in seen)

    await eventually(all_moved, within=15)


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
        await until_moving(page)
        (await page.screenshot()).save(tmp_path / "page.png")


async def hide_and_show(page: Page) -> None:
    """Have another tab before the page's for a moment."""
    other = await page.call("Target.createTarget", url="about:blank")
    await eventually(lambda: page.evaluate("document.hidden"))
    await page.call("Target.closeTarget", targetId=other["targetId"])
    await eventually(lambda: page.evaluate("!document.hidden"))


async def test_the_page_shows_more_cameras_than_a_browser_has_connections(page: Page) -> None:
    metrics = {"width": 1000, "height": 2400, "deviceScaleFactor": 1, "mobile": False}
    await page.call("Emulation.setDeviceMetricsOverride", **metrics)
    async with RelayProcess(*(f"c{number}=testcard:?fps=2" for number in range(7))) as relay:
        await page.go(f"{relay.url}/")
        await until_moving(page, cameras=7)
        assert not await says_no_answer(page)


@pytest.fixture
async def restartable(page: Page, tmp_path: Path) -> Callable[[], RelayProcess]:
    """What makes relays of two cameras, the second on demand, all on the same port.

    The page is wide enough to show both.
    """
    metrics = {"width": 1000, "height": 600, "deviceScaleFactor": 1, "mobile": False}
    await page.call("Emulation.setDeviceMetricsOverride", **metrics)
    config = tmp_path / "mjrelay.toml"
    config.write_text(
        '[camera.always]\nsource = "testcard:?fps=10"\n'
        '[camera.demand]\nsource = "testcard:?fps=10"\nmode = "demand"\n',
        encoding="utf-8",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return functools.partial(RelayProcess, "--config", str(config), port=port)


async def says_no_answer(page: Page) -> bool:
    """Whether words on the screen, not further down, say so."""
    return bool(
        await page.evaluate(
            "[...document.querySelectorAll('[role=alert]')].some(element =>"
            " element.innerText.startsWith('The relay does not answer.')"
            " && element.checkVisibility()"
            " && element.getBoundingClientRect().bottom < innerHeight / 3)"
        )
    )


async def test_the_page_goes_on_after_a_restart_between_two_of_its_looks_at_the_status(
    page: Page, restartable: Callable[[], RelayProcess]
) -> None:
    async with restartable() as relay:
        await page.go(f"{relay.url}/")
        await page.evaluate("window.wasNotReloaded = true")
        await until_moving(page, cameras=2)
        await relay.terminate()
    async with restartable():
        await until_moving(page, cameras=2)
        assert await page.evaluate("window.wasNotReloaded")


async def test_the_page_says_that_a_killed_relay_is_away_and_goes_on_when_it_is_back(
    page: Page, restartable: Callable[[], RelayProcess], tmp_path: Path
) -> None:
    async with restartable() as relay:
        await page.go(f"{relay.url}/")
        await page.evaluate("window.wasNotReloaded = true")
        await until_moving(page, cameras=2)
        await relay.terminate(by=signal.SIGKILL)
    await eventually(lambda: says_no_answer(page))
    (await page.screenshot()).save(tmp_path / "away.png")
    assert not any(is_test_card(picture) for picture in await pictures(page))  # they are dim
    await hide_and_show(page)
    await eventually(lambda: page.evaluate("[...document.images].every(image => image.complete)"))
    (await page.screenshot()).save(tmp_path / "shown.png")
    assert all(picture.getcolors(maxcolors=1) for picture in await pictures(page))  # none is broken
    async with restartable():
        await until_moving(page, cameras=2)
        assert not await says_no_answer(page)
        assert await page.evaluate("window.wasNotReloaded")


async def test_the_page_says_that_the_relay_hangs(
    page: Page, restartable: Callable[[], RelayProcess]
) -> None:
    async with restartable() as relay:
        await page.go(f"{relay.url}/")
        await eventually(lambda: page.evaluate("document.images.length === 2"))
        with relay.held_up():
            await eventually(lambda: says_no_answer(page), within=8)


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
