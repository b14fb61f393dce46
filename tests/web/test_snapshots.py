"""The last seconds as a file, over real sockets."""

import asyncio
import gc
import re
import weakref
from unittest.mock import ANY

import pytest

from mjrelay.camera.camera import Camera
from mjrelay.errors import SourceLost
from tests.support.pictures import stamp, stamped
from tests.support.serving import Served, config_for, scripted, serving, until
from tests.support.source import SILENCE, ScriptedSource, Step, steps

SOME = [*steps(1, 2), 0.3, *steps(3, 4), SILENCE]


def large(n: int) -> bytes:
    """A picture of 300 kB that carries its number."""
    padding = b"\xff\xfe\xff\xf0" + b"x" * 65518
    return stamped(n)[:2] + padding * 5 + stamped(n)[2:]


def cut(clip: bytes) -> list[bytes]:
    """The pictures of a clip."""
    return [b"\xff\xd8" + rest for rest in clip.split(b"\xff\xd8")[1:]]


def newest(camera: Camera) -> bytes:
    assert camera.ring.newest
    return camera.ring.newest.image


def steady() -> list[Step]:
    """A script with a large picture every 10 ms, for 2 s."""
    return [step for n in range(200) for step in (large(n), 0.01)]


def still(*script: Step, **options: object) -> Camera:
    """A camera that sends a few pictures, and stays."""
    options = {"ring_from_start": True, **options}
    return scripted(ScriptedSource([*script]), stall_timeout=30, **options)


async def test_a_clip_is_all_that_is_kept_one_picture_behind_the_other() -> None:
    camera = still(*SOME)
    async with serving(camera) as served:
        await until(lambda: camera.published == 4)
        answer, body = await served.get("/clip")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "video/x-motion-jpeg"
        assert "no-store" in answer.headers["Cache-Control"]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert re.fullmatch(
            r'attachment; filename="front-\d{8}T\d{6}Z\.mjpeg"',
            answer.headers["Content-Disposition"],
        )
        assert body == b"".join(stamped(n) for n in (1, 2, 3, 4))


async def test_a_clip_may_be_of_the_last_seconds_before_the_newest_picture() -> None:
    camera = still(*SOME)
    async with serving(camera) as served:
        await until(lambda: camera.published == 4)
        _, body = await served.get("/cameras/front/clip?seconds=0.2")
        assert body == stamped(3) + stamped(4)
        _, body = await served.get("/webcam/clip?seconds=0")
        assert body == stamped(4)


async def test_without_a_past_a_clip_is_the_newest_picture() -> None:
    camera = still(*SOME, ring=0.0)
    async with serving(camera) as served:
        await until(lambda: camera.published == 4)
        _, body = await served.get("/clip")
        assert body == stamped(4)


async def test_the_first_clip_is_of_the_next_seconds_and_later_ones_of_the_last() -> None:
    script: list[Step] = [step for n in range(1, 1000) for step in (stamped(n), 0.01)]
    camera = still(*script, ring_from_start=False)
    async with serving(camera) as served:
        await until(lambda: camera.published >= 5)
        assert [*camera.ring.last()] == [(ANY, newest(camera))]
        await served.http.head(f"{served.url}/clip")
        asked_at = camera.published
        _, body = await served.get("/clip?seconds=0.2")
        first = [stamp(image) for image in cut(body)]
        assert first == [*range(first[0], first[-1] + 1)]
        assert first[0] >= asked_at
        assert len(first) > 2
        _, body = await served.get("/clip?seconds=3")
        assert stamp(cut(body)[0]) in range(asked_at, first[1] + 1)


async def test_a_clip_asked_for_while_the_first_is_made_is_as_long() -> None:
    script: list[Step] = [step for n in range(1, 1000) for step in (stamped(n), 0.01)]
    camera = still(*script, ring_from_start=False)
    async with serving(camera) as served:
        await until(lambda: camera.published >= 5)
        first = asyncio.create_task(served.get("/clip?seconds=0.5"))
        asked_at = camera.published
        await until(lambda: camera.published >= asked_at + 10)
        _, body = await served.get("/clip?seconds=0.5")
        second = [stamp(image) for image in cut(body)]
        _, body = await first
        assert second[0] in range(asked_at, stamp(cut(body)[1]) + 1), "it has what was kept by then"
        assert second == [*range(second[0], second[-1] + 1)]
        assert second[-1] >= stamp(cut(body)[-1]) - 5, "and goes on to the same length"


async def test_a_clip_of_the_next_seconds_ends_with_its_camera() -> None:
    camera = still(*SOME, ring_from_start=False, ring=60.0)
    async with serving(camera) as served:
        await until(lambda: camera.published == 4)
        async with served.http.get(f"{served.url}/clip") as answer:
            assert await answer.content.readexactly(len(stamped(4))) == stamped(4)
            camera.ring.close()
            assert await answer.content.read() == b""


async def test_a_clip_opens_a_camera_on_demand() -> None:
    camera = scripted(ScriptedSource(steady()), mode="demand", linger=0.05, ring_from_start=True)
    async with serving(camera) as served:
        await until(lambda: camera.state == "idle")
        _, body = await served.get("/clip")
        assert body == large(0)
        await until(lambda: camera.state == "idle")


async def test_a_clip_without_any_picture_says_why() -> None:
    camera = scripted(ScriptedSource([SourceLost("the camera ended the stream", "wait")]))
    async with serving(camera) as served:
        await until(lambda: camera.state == "recovering")
        answer, body = await served.get("/clip")
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"front has no picture yet" in body
        assert b"the camera ended the stream: wait" in body


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf"])
async def test_seconds_must_be_a_number(seconds: str) -> None:
    async with serving(still(*SOME)) as served:
        answer, body = await served.get(f"/clip?seconds={seconds}")
        assert answer.status == 400
        assert body == b"seconds must be a number, 0 or more, as in ?seconds=5\n"


async def test_a_clip_of_an_unknown_camera_is_404() -> None:
    async with serving(still(*SOME)) as served:
        answer, _ = await served.get("/cameras/side/clip")
        assert answer.status == 404


async def test_a_file_name_has_nothing_that_means_something_elsewhere() -> None:
    camera = Camera('a"/../é', config_for("testcard:", stall_timeout=30), ScriptedSource([*SOME]))
    async with serving(camera) as served:
        answer, _ = await served.get("/clip?seconds=0.1")
        named = answer.headers["Content-Disposition"]
        assert re.search(r'filename="a_+-\d{8}T\d{6}Z\.mjpeg"$', named)


async def asking(served: Served, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked, to HTTP/1.0, and reads what it likes."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**16)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return reader, writer


async def test_a_slow_client_gets_what_is_left_and_holds_up_nobody() -> None:
    camera = still(*steady(), ring_bytes=40 * 300_000)
    async with serving(camera) as served:
        await until(lambda: camera.published > 40)
        reader, writer = await asking(served, "/clip")
        await reader.readuntil(b"\r\n\r\n")
        asked_at = camera.published
        await until(lambda: camera.published > asked_at + 60)
        answer, _ = await served.get("/snapshot")
        assert answer.status == 200
        body = await reader.read(-1)
        images = cut(body)
        numbers = [stamp(image) for image in images]
        assert numbers == sorted(numbers)
        assert 0 < len(numbers) < 40, "what the kernel took at once; the rest was over"
        assert all(image == large(number) for image, number in zip(images, numbers, strict=True))
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    camera = scripted(ScriptedSource(steady()))
    async with serving(camera) as served:
        await until(lambda: camera.published > 40)
        reader, writer = await asking(served, "/clip")
        await reader.readuntil(b"\r\n\r\n")
        assert camera.audience.viewers == 1
        writer.transport.abort()
        await until(lambda: not camera.audience.viewers)
    assert not caplog.records


async def test_a_client_that_takes_nothing_holds_up_no_shutdown_and_no_frame() -> None:
    loop = asyncio.get_running_loop()
    camera = still(*steady(), ring=0.5)
    async with serving(camera) as served:
        await until(lambda: camera.published > 40)
        _, writer = await asking(served, "/clip")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: camera.audience.viewers)
        asked_at = camera.published
        assert camera.ring.newest
        oldest = weakref.ref(camera.ring.newest)
        await until(lambda: camera.published > asked_at + 60)
        gc.collect()
        assert oldest() is None, "it is held by nobody once it is older than `ring`"
        assert camera.audience.viewers == 1, "it is still being answered"
        stopping = loop.time()
    assert loop.time() - stopping < 2
    writer.transport.abort()
