"""ffmpeg as the camera, ffmpeg and curl among the clients."""

import asyncio
import contextlib
import functools
import io
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.support.camera import ScriptedCamera, Send
from tests.support.daemon import RelayProcess, eventually, run, run_mjrelay, running
from tests.support.quirks import answer
from tests.support.viewer import PartReader, Viewer, all_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt install ffmpeg"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt install curl"),
]

SIZE = (320, 240)
FPS = 15
# How ffmpeg tells what it saw: a line for each picture.
CHECKSUMS = ("-fps_mode", "passthrough", "-f", "framemd5", "-")


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        number: int = sock.getsockname()[1]
        return number


@contextlib.asynccontextmanager
async def ffmpeg_camera(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A camera that takes exactly one connection, and ends with it."""
    picture = f"testsrc=size={SIZE[0]}x{SIZE[1]}:rate={FPS}"
    options = ("-v", "error", "-re", "-f", "lavfi", "-i", picture, "-f", "mpjpeg", "-listen", "1")
    async with running("ffmpeg", *options, camera_url(port)) as process:
        yield process


def camera_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/?action=stream"


@functools.cache  # Every client gets the same bytes: decode them once.
def decodes(jpeg: bytes) -> None:
    """Raise unless all of a picture decodes."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
        assert image.size == SIZE


def checksums(told: str) -> list[str]:
    """The pictures ffmpeg saw."""
    return [line.split(",")[-1] for line in told.splitlines() if line[0] != "#"]


def only_file(folder: Path) -> Path:
    """The one file in a folder."""
    [file] = folder.iterdir()
    return file


def shows_frames(viewer: Viewer, count: int) -> bool:
    """Whether the latest so many it got were the camera's."""
    latest = viewer.frames[-count:]
    return len(latest) == count and not any(frame.is_placeholder for frame in latest)


async def streaming(relay: RelayProcess) -> None:
    """Wait for the first frame: the offline picture before it has a size of its own."""
    await relay.camera_until(lambda camera: camera["state"] == "streaming", within=15)


async def test_thirty_clients_get_whole_frames_in_order(port: int) -> None:
    async with ffmpeg_camera(port), RelayProcess(camera_url(port)) as relay, AsyncExitStack() as s:
        await streaming(relay)
        viewers = [await s.enter_async_context(Viewer(relay.url, check=decodes)) for _ in range(30)]
        # A viewer fails on any frame that does not decode or is older than the one before.
        await all_until(viewers, lambda viewer: shows_frames(viewer, 3 * FPS))
        camera = await relay.camera()
        assert camera["opens"] == 1
        assert (camera["width"], camera["height"]) == SIZE
        assert len(camera["clients"]) == 30


async def test_ffmpeg_and_curl_are_clients(port: int, tmp_path: Path) -> None:
    saved = tmp_path / "stream"
    async with ffmpeg_camera(port), RelayProcess(camera_url(port)) as relay:
        stream = relay.url + "/?action=stream"
        await streaming(relay)
        ffmpeg, curl = await asyncio.gather(
            run(
                *("ffmpeg", "-v", "warning", "-f", "mpjpeg", "-i", stream),
                *("-frames:v", "30", *CHECKSUMS),
            ),
            run("curl", "-sS", "--no-buffer", "--max-time", "3", "-o", str(saved), stream),
        )
    assert (ffmpeg.status, ffmpeg.err) == (0, "")
    seen = checksums(ffmpeg.out)
    # Not all differ: the first frame may come once more, if it waited for the second.
    assert len(seen) == 30
    assert len(set(seen)) >= 29
    assert curl.status == 28, curl.err  # its time was over, as it must be with a live stream
    received = list(PartReader(decodes).feed(saved.read_bytes()))
    assert len(received) >= FPS
    assert not any(frame.is_placeholder for frame in received)


async def test_a_clip_is_a_video_of_the_last_seconds(port: int, tmp_path: Path) -> None:
    async with ffmpeg_camera(port), RelayProcess(camera_url(port)) as relay:
        await relay.camera_until(lambda camera: camera["frames"]["published"] > 3 * FPS, within=20)
        clip = f"{relay.url}/clip?seconds=2"
        options = ("-sS", "--fail", "--remote-name", "--remote-header-name")
        curl = await run("curl", *options, clip, cwd=tmp_path)
        assert (curl.status, curl.err) == (0, "")
        read = await run("ffmpeg", "-v", "warning", "-f", "mjpeg", "-i", clip, *CHECKSUMS)
    assert (read.status, read.err) == (0, "")
    assert len(set(checksums(read.out))) == pytest.approx(2 * FPS, abs=FPS / 2)

    saved = only_file(tmp_path)
    assert saved.suffix == ".mjpeg"
    pictures = saved.read_bytes().count(b"\xff\xd8\xff")
    assert pictures == pytest.approx(2 * FPS, abs=FPS / 2)
    # As docs/how-to/the-last-seconds.md has it.
    video = tmp_path / "clip.mp4"
    source = ("-f", "mjpeg", "-framerate", str(FPS), "-i", str(saved))
    made = await run("ffmpeg", "-v", "error", *source, "-pix_fmt", "yuv420p", str(video))
    assert (made.status, made.err) == (0, "")
    seen = await run("ffmpeg", "-v", "error", "-i", str(video), *CHECKSUMS)
    assert len(checksums(seen.out)) == pictures


async def test_clients_stay_while_the_camera_is_restarted(port: int) -> None:
    async with AsyncExitStack() as stack:
        camera = await stack.enter_async_context(ffmpeg_camera(port))
        relay = await stack.enter_async_context(RelayProcess(camera_url(port)))
        await streaming(relay)
        viewers = [
            await stack.enter_async_context(Viewer(relay.url, check=decodes)) for _ in range(30)
        ]
        await all_until(viewers, lambda viewer: shows_frames(viewer, FPS))

        camera.kill()
        await all_until(viewers, lambda viewer: viewer.frames[-1].is_placeholder)
        told = await relay.camera()
        assert told["state"] in ("recovering", "absent")
        assert told["reason"]

        await stack.enter_async_context(ffmpeg_camera(port))
        await all_until(viewers, lambda viewer: shows_frames(viewer, FPS))
        ids = {client["id"] for client in (await relay.camera())["clients"]}
        assert ids == {client["id"] for client in told["clients"]}
        assert len(ids) == 30

        assert (await relay.terminate()).status == 0
        await eventually(lambda: all(viewer.end == "clean" for viewer in viewers))


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("-c:v flv1 -f flv", "FLV video"),
        ("-c:v mpeg2video -f mpegts", "MPEG-TS video"),
        ("-frames:v 1 -c:v png -f image2pipe", "PNG pictures"),
        ("-frames:v 1 -c:v bmp -f image2pipe", "BMP pictures"),
    ],
)
async def test_the_line_that_a_hint_offers_shows_the_camera(encoding: str, name: str) -> None:
    picture = f"testsrc=size={SIZE[0]}x{SIZE[1]}:rate={FPS}:duration=4"
    options = ("-v", "error", "-f", "lavfi", "-i", picture, *encoding.split(), "-")
    made = await asyncio.create_subprocess_exec("ffmpeg", *options, stdout=-1)
    body, _ = await made.communicate()
    wire = answer(body, "application/octet-stream", f"Content-Length: {len(body)}")
    async with ScriptedCamera([Send(wire)]) as camera:
        refused = await run_mjrelay("probe", camera.url)
        assert f"the camera sends {name}, not JPEG pictures" in refused.out
        [line] = re.findall("'(exec:.*)'", refused.out)
        shown = await run_mjrelay("probe", "--seconds", "1", line)
    assert f"size         {SIZE[0]}x{SIZE[1]}" in shown.out
