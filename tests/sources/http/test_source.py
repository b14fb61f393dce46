"""HttpSource against a camera that follows a script, over real sockets."""

import asyncio
import contextlib
import errno
import gzip
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
import trustme

from mjrelay.errors import (
    SourceLost,
    SourceRefused,
    SourceStalled,
    SourceUnreachable,
)
from mjrelay.formats.http1 import ResponseReader, TakeBody
from mjrelay.sources.http import connection, source, wakeups
from tests.support.camera import (
    Close,
    Frames,
    HttpHead,
    Pause,
    Reset,
    Script,
    ScriptedCamera,
    Send,
    Silence,
    Step,
)
from tests.support.pictures import picture, stamp, without_eoi
from tests.support.quirks import MULTIPART, REFUSALS, REPLIES, Reply, answer, multipart
from tests.support.source import ScriptedSource, images_of

from .opening import failure, source_of, succeeding, take

HEALTHY = REPLIES[0]
ENDLESS: Script = [Send(HttpHead), Frames(fps=100)]
ONE_PICTURE: Script = [Send(answer(picture(1), "image/jpeg", f"Content-Length: {len(picture(1))}"))]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
async def test_every_answer_seen_in_the_field_gives_its_images(reply: Reply) -> None:
    async with ScriptedCamera([Send(reply.wire), Close()]) as camera:
        source = source_of(camera.url, fps=100)
        assert tuple(await take(source, len(reply.images))) == reply.images


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.name)
async def test_an_answer_without_pictures_is_explained(reply: Reply) -> None:
    async with ScriptedCamera([Send(reply.wire), Close()]) as camera:
        images, error = await failure(source_of(camera.url))
    assert not images
    assert reply.error in error.reason.lower()
    assert error.hint


async def test_closing_ends_with_a_fin_and_waits_for_the_cameras() -> None:
    async with ScriptedCamera(ENDLESS) as camera:
        await take(source_of(camera.url), 3)
        await camera.until(lambda: camera.ends == ["fin"], within=1)
        assert camera.open_now == 0


async def test_the_next_dial_waits_for_the_old_connection_and_redial_delay() -> None:
    async with ScriptedCamera(ENDLESS, one_slot=True) as camera:
        source = source_of(camera.url, redial_delay=0.2)
        for _ in range(3):
            assert await take(source, 2)
        assert camera.most_open == 1
        assert len(camera.gaps) == 2
        assert min(camera.gaps) >= 0.19


async def test_a_reload_dials_no_sooner_than_redial_delay() -> None:
    async with ScriptedCamera(ENDLESS, one_slot=True) as camera:
        first = source_of(camera.url, redial_delay=0.02)
        await take(first, 1)
        second = succeeding(first, camera.url, fps=5, redial_delay=0.3)
        await take(second, 1)
        await take(succeeding(second, camera.url + "&other", redial_delay=0.3), 1)
    assert len(camera.gaps) == 2
    assert min(camera.gaps) >= 0.29


async def test_another_camera_is_dialled_at_once() -> None:
    async with ScriptedCamera(ENDLESS) as camera, ScriptedCamera(ENDLESS) as other:
        before = source_of(camera.url, redial_delay=60)
        await take(before, 1)
        async with asyncio.timeout(5):
            await take(succeeding(before, other.url, redial_delay=60), 1)


async def test_a_source_may_follow_one_of_another_kind() -> None:
    before = ScriptedSource([])
    after = source_of("http://127.0.0.1:9/")
    after.inherit_from(before)
    assert after.tally is before.tally


async def test_a_camera_that_is_deaf_to_our_fin_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.1)
    async with ScriptedCamera(ENDLESS, deaf=True) as camera, asyncio.timeout(5):
        await take(source_of(camera.url), 1)
        assert camera.open_now == 1


async def test_cancelling_while_the_camera_is_silent_leaves_nothing_open() -> None:
    async with ScriptedCamera([Silence()]) as camera:
        task = asyncio.create_task(take(source_of(camera.url), 1))
        await camera.until(lambda: len(camera.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await camera.until(lambda: camera.open_now == 0, within=1)
        assert camera.ends == ["fin"]


async def test_a_camera_that_accepts_and_says_nothing_may_be_taken() -> None:
    async with ScriptedCamera([Silence()]) as camera:
        _, error = await failure(source_of(camera.url, first_frame_timeout=0.1))
    assert isinstance(error, SourceStalled)
    assert "no answer for 0.1 s" in error.reason
    assert error.hint == (
        "its only connection may be taken: close other viewers of this camera; or, if it is just "
        "slow, raise first_frame_timeout"
    )


async def test_a_closed_port_is_unreachable() -> None:
    async with ScriptedCamera() as camera:
        await camera.refuse()
        _, error = await failure(source_of(camera.url))
    assert isinstance(error, SourceUnreachable)
    assert "refuses connections" in error.reason


async def test_a_host_that_is_away_is_unreachable_in_the_kernels_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def no_route(_sock: socket.socket, address: object) -> None:
        raise OSError(errno.EHOSTUNREACH, f"Connect call failed {address}")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", no_route)
    _, error = await failure(source_of("http://127.0.0.1:9/"))
    assert isinstance(error, SourceUnreachable)
    assert error.reason == "no way to 127.0.0.1:9: No route to host"


async def test_a_connection_to_ourselves_is_a_closed_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def connect_to_itself(sock: socket.socket, address: tuple[str, int]) -> None:
        sock.bind(address)
        await connect(sock, address)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(loop, "sock_connect", connect_to_itself)
    _, error = await failure(source_of(f"http://127.0.0.1:{port}/", first_frame_timeout=0.5))
    assert isinstance(error, SourceUnreachable)
    assert "refuses connections" in error.reason


async def test_an_unknown_name_is_unreachable() -> None:
    _, error = await failure(source_of("http://no-such-camera.invalid/"))
    assert isinstance(error, SourceUnreachable)
    assert error.reason == "the name no-such-camera.invalid cannot be found"


async def test_a_reset_is_a_lost_source() -> None:
    async with ScriptedCamera([Send(HttpHead), Frames(count=3, fps=100), Reset()]) as camera:
        images, error = await failure(source_of(camera.url))
    assert [stamp(image) for image in images] == [1, 2, 3]
    assert isinstance(error, SourceLost)
    assert error.reason == "the camera reset the connection"


async def test_a_stream_that_ends_is_a_lost_source() -> None:
    async with ScriptedCamera([Send(HttpHead), Frames(count=2, fps=100), Close()]) as camera:
        images, error = await failure(source_of(camera.url))
    assert len(images) == 2
    assert isinstance(error, SourceLost)
    assert error.reason == "the camera ended the stream"


async def test_a_camera_with_single_pictures_is_polled_one_connection_at_a_time() -> None:
    async with ScriptedCamera([*ONE_PICTURE, Close()], one_slot=True) as camera:
        source = source_of(camera.url, fps=20)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await take(source, 5) == [picture(1)] * 5
        assert loop.time() - started >= 4 / 20 - 0.01
        assert camera.most_open == 1
        assert source.facts()["framing"] == "one picture per answer, polled"


async def test_a_single_picture_is_taken_though_the_camera_keeps_the_connection() -> None:
    async with ScriptedCamera([*ONE_PICTURE, Silence()]) as camera:
        assert await take(source_of(camera.url, fps=50), 3) == [picture(1)] * 3


def large_picture() -> bytes:
    """A picture of 3 MB."""
    filler = b"\xff\xfe\xff\xf0" + bytes(65518)
    return picture(1)[:2] + filler * 48 + picture(1)[2:]


async def test_images_larger_than_what_is_waited_for_arrive_in_pieces() -> None:
    large = large_picture()
    wire = HttpHead + multipart([large, large])
    pieces = [Send(wire[at : at + 200_000]) for at in range(0, len(wire), 200_000)]
    async with ScriptedCamera([*pieces, Silence()]) as camera:
        assert await take(source_of(camera.url), 2) == [large, large]


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of the body came each time: each was a wake-up."""
    sizes: list[int] = []
    feed = ResponseReader.feed

    def noted(reader: ResponseReader, data: bytes | memoryview, sink: TakeBody) -> bool:
        sizes.append(len(data))
        return feed(reader, data, sink)

    monkeypatch.setattr(ResponseReader, "feed", noted)
    return sizes


async def test_a_picture_that_says_how_long_it_is_wakes_us_up_when_it_is_whole(
    fed: list[int],
) -> None:
    crumbs = cut_up(multipart([picture(2)]), 40)
    first = [Send(HttpHead), Send(multipart([picture(1)]))]
    async with (
        ScriptedCamera([*first, *crumbs, Silence()]) as camera,
        images_of(source_of(camera.url)) as images,
    ):
        assert await anext(images) == picture(1)
        before = len(fed)
        assert await anext(images) == picture(2)
        assert len(fed) - before <= 5  # its head, the rest of it, and what a busy computer adds


def one_by_one(numbers: Iterable[int]) -> list[Step]:
    """Send pictures, with time between them."""
    parts = (Send(multipart([picture(number)])) for number in numbers)
    return [step for part in parts for step in (part, Pause(0.02))]


async def test_a_fault_of_whoever_takes_the_pictures_is_not_the_camera_s() -> None:
    def fail(_: bytes, __: float) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "of another")

    steps: list[Step] = [Send(HttpHead), Pause(0.05), *one_by_one([1]), Silence()]
    async with ScriptedCamera(steps) as camera, source_of(camera.url).open() as stream:
        with pytest.raises(ConnectionResetError, match="of another"):
            await stream(fail)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures may soon wait for each other, and then for long."""
    monkeypatch.setattr(source, "_UNWATCHED_PAUSE", 30)
    monkeypatch.setattr(wakeups, "_SETTLED_AFTER", 0.1)


@pytest.mark.usefixtures("hasty")
async def test_while_nobody_watches_pictures_are_taken_together(fed: list[int]) -> None:
    steps = [Send(HttpHead), *one_by_one([1]), Pause(0.2), *one_by_one(range(2, 12)), Silence()]
    async with ScriptedCamera(steps) as camera, asyncio.timeout(5):
        source = source_of(camera.url, watched=False, stall_timeout=1)
        assert await take(source, 11) == [*map(picture, range(1, 12))]
    assert len(fed) <= 5  # the head, the first, the others, and what a busy computer adds


@pytest.mark.usefixtures("hasty")
async def test_chunks_are_taken_together_too(fed: list[int]) -> None:
    def chunk(numbers: Iterable[int]) -> Send:
        data = multipart([picture(number) for number in numbers])
        return Send(b"%x\r\n%b\r\n" % (len(data), data))

    head = Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    later: list[Step] = [s for n in range(2, 12) for s in (chunk([n]), Pause(0.02))]
    steps: list[Step] = [head, chunk([1]), Pause(0.2), *later, Silence()]
    async with ScriptedCamera(steps) as camera:
        source = source_of(camera.url, watched=False, stall_timeout=1)
        async with asyncio.timeout(5):
            assert await take(source, 11) == [*map(picture, range(1, 12))]
    assert len(fed) <= 5


async def test_the_rate_of_a_camera_is_measured_from_its_first_picture_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(
        wakeups.Wakeups, "note_progress", lambda _, pictures, __: counted.append(pictures)
    )
    pictures = one_by_one([1, 2])
    steps: list[Step] = [Send(HttpHead), Send(b"--frame\r\n"), Pause(0.1), *pictures, Silence()]
    async with ScriptedCamera(steps) as camera:
        await take(source_of(camera.url), 2)
    assert counted == [1, 2]


@pytest.mark.parametrize("length", ["", "Content-Length: {}"])
async def test_a_large_compressed_picture_comes_whole(length: str) -> None:
    large = large_picture()
    body = gzip.compress(large)
    headers = ["Content-Encoding: gzip", length.format(len(body))]
    wire = answer(body, "image/jpeg", *filter(None, headers))
    async with ScriptedCamera([Send(wire), Close()]) as camera:
        source = source_of(camera.url)
        assert await take(source, 1) == [large]
    assert source.tally.tolerated == {"compressed though not asked for": 1}


@pytest.mark.usefixtures("hasty")
async def test_who_begins_to_watch_waits_for_nothing() -> None:
    settled = [*one_by_one([1]), Pause(0.2), *one_by_one([2])]
    numbers = [*settled, *one_by_one([3, 4]), Pause(1), *one_by_one([5])]
    async with ScriptedCamera([Send(HttpHead), *numbers, Silence()]) as camera:
        source = source_of(camera.url, watched=False, stall_timeout=60)
        async with asyncio.timeout(5), images_of(source) as images:
            assert [await anext(images) for _ in range(2)] == [picture(1), picture(2)]
            third = asyncio.ensure_future(anext(images))
            assert not (await asyncio.wait({third}, timeout=0.6))[0], "it waits for others"
            source.watch(watched=True)
            assert await third == picture(3)
            assert [await anext(images) for _ in range(2)] == [picture(4), picture(5)]


@pytest.mark.usefixtures("hasty")
async def test_a_camera_that_nobody_watches_does_not_look_silent() -> None:
    steps = [Send(HttpHead), *one_by_one([1]), Pause(0.2), *one_by_one([2, 3]), Silence()]
    async with ScriptedCamera(steps) as camera, asyncio.timeout(5):
        source = source_of(camera.url, watched=False, stall_timeout=0.2)
        assert await take(source, 3) == [picture(1), picture(2), picture(3)]


@pytest.mark.parametrize("honest", [0, 1, 2])
@pytest.mark.parametrize("length", [1, 10**5, 10**6, 10**12])
async def test_a_picture_comes_soon_though_its_length_is_a_lie(honest: int, length: int) -> None:
    lie = multipart([picture(2)], length=lambda _: length)
    truth: list[Step] = [Send(multipart([picture(1)])), Pause(0.02)]
    steps = [Send(HttpHead), *truth * honest, *cut_up(lie, 2), Silence()]
    async with ScriptedCamera(steps) as camera, images_of(source_of(camera.url)) as images:
        async with asyncio.timeout(2):
            for _ in range(honest):
                assert await anext(images) == picture(1)
            assert await anext(images) == picture(2)


async def test_what_was_cut_short_holds_nothing_back() -> None:
    cut = multipart([picture(2)])[:700]
    good = multipart([picture(1)])
    begin: list[Step] = [Send(HttpHead), Send(good), Pause(0.02)]
    async with (
        ScriptedCamera([*begin, Send(cut), Pause(0.02), Send(good), Silence()]) as camera,
        images_of(source_of(camera.url)) as images,
    ):
        async with asyncio.timeout(2):
            assert [await anext(images) for _ in range(2)] == [picture(1)] * 2


async def test_a_single_picture_without_its_end_is_taken_though_the_connection_stays() -> None:
    image = without_eoi(1)
    head = answer(b"", "image/jpeg", f"Content-Length: {len(image)}")
    async with ScriptedCamera([Send(head + image), Silence()]) as camera:
        assert await take(source_of(camera.url), 1) == [picture(1)]


def cut_up(data: bytes, count: int) -> list[Step]:
    """Send some bytes in pieces, with time between them."""
    size = -(-len(data) // count)
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return [step for piece in pieces for step in (Send(piece), Pause(0.005))]


async def test_a_gzip_bomb_is_neither_kept_nor_held_against_others() -> None:
    bomb = gzip.compress(bytes(64 * 2**20))
    head = answer(b"", MULTIPART, "Content-Encoding: gzip")
    async with ScriptedCamera([Send(head + bomb), Close()]) as camera:
        tracemalloc.start()
        _, error = await failure(source_of(camera.url))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "no whole JPEG picture" in error.reason
    assert most < 8 * 2**20


async def test_a_gzip_bomb_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 64 * 2**20
    bomb = gzip.compress(multipart([picture(1)]) + bytes(size))
    turn = 0
    worked_in: list[int] = []
    feed = ResponseReader.feed

    async def count() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    def noted(reader: ResponseReader, data: bytes | memoryview, sink: TakeBody) -> bool:
        worked_in.append(turn)
        return feed(reader, data, sink)

    monkeypatch.setattr(ResponseReader, "feed", noted)
    head = answer(b"", MULTIPART, "Content-Encoding: gzip")
    async with ScriptedCamera([Send(head), Pause(0.05), Send(bomb), Close()]) as camera:
        counter = asyncio.ensure_future(count())
        images, _ = await failure(source_of(camera.url))
        counter.cancel()
    assert images == [picture(1)]
    assert len(worked_in) >= size / 2**18
    assert len(set(worked_in)) >= len(worked_in) - 2  # a piece that comes may meet one that waited


@asynccontextmanager
async def tls_camera() -> AsyncIterator[str]:
    """A healthy camera behind a certificate of its own; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEALTHY.wire)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/"


async def test_https_with_the_cameras_own_certificate_is_taken_on_request() -> None:
    async with tls_camera() as url:
        source = source_of(url, tls_verify=False)
        assert tuple(await take(source, len(HEALTHY.images))) == HEALTHY.images


async def test_https_with_an_unknown_certificate_is_refused_in_words() -> None:
    async with tls_camera() as url:
        _, error = await failure(source_of(url))
    assert isinstance(error, SourceRefused)
    assert "certificate of localhost" in error.reason
    assert error.hint
    assert "tls_verify = false" in error.hint


async def test_a_tls_handshake_without_answer_is_given_up() -> None:
    async with ScriptedCamera([Silence()]) as camera:
        url = camera.url.replace("http://", "https://")
        _, error = await failure(source_of(url, connect_timeout=0.2))
    assert isinstance(error, SourceLost)
    assert "TLS handshake" in error.reason


async def test_http_at_a_port_for_https_is_named() -> None:
    async with tls_camera() as url:
        _, error = await failure(source_of(url.replace("https://", "http://")))
    assert url in (error.hint or "")
