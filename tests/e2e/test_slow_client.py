"""One client's slowness is its own: no other client, and no memory of the relay, pays for it."""

import asyncio
import functools
import io
import itertools
import os
import statistics
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.support.camera import Connection, HttpHead, ScriptedCamera, Send
from tests.support.daemon import RelayProcess
from tests.support.pictures import COM, STAMP, insert, segment
from tests.support.quirks import multipart
from tests.support.viewer import Viewer, all_until

FULL = os.environ.get("MJRELAY_FULL") == "1"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150 if FULL else 60)]

FPS = 30
FRAME_BYTES = 100_000
OTHERS = 20
ASLEEP = 60.0 if FULL else 15.0
# What has reached a client's kernel gets old there, out of the relay's reach. Linux lets it grow to
# megabytes for a client that has been quick; one that asks for so little keeps less than a frame.
SMALL_BUFFER = 2**14
# Queueing for one sleeping client would take 45 MB in 15 s. The ring, kept short here, and the
# allocator's habits take less than this.
GROWTH = 8 * 2**20


@functools.cache
def noise() -> bytes:
    """A picture of about FRAME_BYTES that does not compress, as a camera's at night."""
    file = io.BytesIO()
    image = Image.effect_noise((640, 480), 40).convert("RGB")
    image.save(file, "JPEG", quality=56)
    return file.getvalue()


@dataclass(frozen=True)
class BigFrames:
    """Send large pictures, numbered as those of `Frames`."""

    async def play(self, connection: Connection) -> None:
        """Send them until the connection ends."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            number = STAMP + b"%d" % connection.camera.next_number()
            await connection.send(multipart([insert(noise(), segment(COM, number))]))
            due = max(due + 1 / FPS, loop.time())
            await asyncio.sleep(due - loop.time())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A relay whose memory is soon as large as it gets."""
    path = tmp_path / "mjrelay.toml"
    path.write_text('[camera.big]\nsource = "SOURCE"\nring = "1 s"\n', encoding="utf-8")
    return path


def configure(config: Path, camera: ScriptedCamera) -> str:
    text = config.read_text(encoding="utf-8").replace("SOURCE", camera.url)
    config.write_text(text, encoding="utf-8")
    return str(config)


async def test_a_sleeping_client_disturbs_nobody_and_wakes_to_the_present(config: Path) -> None:
    assert FRAME_BYTES * 0.9 < len(noise()) < FRAME_BYTES * 1.1
    async with (
        ScriptedCamera([Send(HttpHead), BigFrames()]) as camera,
        RelayProcess("--config", configure(config, camera)) as relay,
        AsyncExitStack() as stack,
    ):
        others = [await stack.enter_async_context(Viewer(relay.url)) for _ in range(OTHERS)]
        sleeper = await stack.enter_async_context(Viewer(relay.url, receive_buffer=SMALL_BUFFER))
        greedy = await stack.enter_async_context(Viewer(relay.url))
        await all_until((*others, sleeper, greedy), lambda viewer: len(viewer.frames) >= 2 * FPS)

        sleeper.pause()
        greedy.pause()
        memory = relay.rss()
        seen = [len(viewer.frames) for viewer in others]
        await asyncio.sleep(ASLEEP)
        assert relay.rss() - memory < GROWTH
        for viewer, before in zip(others, seen, strict=True):
            stamps = [frame.stamp for frame in viewer.frames[before:]]
            assert len(stamps) > ASLEEP * FPS * 0.8
            assert stamps == [*range(stamps[0] or 0, (stamps[0] or 0) + len(stamps))]

        slept_until = len(sleeper.frames)
        sleeper.resume()
        await sleeper.until(lambda: len(sleeper.frames) >= slept_until + 2 * FPS)
        half_sent, *fresh = sleeper.frames[slept_until:]
        assert half_sent.age > ASLEEP - 2
        assert fresh[0].age < 1
        assert statistics.median(frame.age for frame in fresh) < 0.5

        greedy.resume()
        await greedy.until(lambda: greedy.frames[-1].age < 1, within=3)

        assert sleeper.end is greedy.end is None
        clients = (await relay.camera())["clients"]
        assert len(clients) == OTHERS + 2
        assert max(client["skipped"] for client in clients) > ASLEEP * FPS * 0.8


@pytest.mark.parametrize("receive_buffer", [None, SMALL_BUFFER])
async def test_a_slow_client_sees_fewer_frames_but_none_late(
    config: Path, receive_buffer: int | None
) -> None:
    async with (
        ScriptedCamera([Send(HttpHead), BigFrames()]) as camera,
        RelayProcess("--config", configure(config, camera)) as relay,
        Viewer(relay.url) as quick,
        Viewer(relay.url, rate=FRAME_BYTES * FPS / 3, receive_buffer=receive_buffer) as slow,
    ):
        await slow.until(lambda: len(slow.frames) >= 3 * FPS, within=30)
        ages = [frame.age for frame in slow.frames[FPS:]]
        assert statistics.median(ages) < 0.5, ages
        stamps = slow.stamps
        assert all(later > earlier for earlier, later in itertools.pairwise(stamps))
        assert len(stamps) < (stamps[-1] - stamps[0]) / 2
        assert quick.stamps == [*range(quick.stamps[0], quick.stamps[-1] + 1)]
