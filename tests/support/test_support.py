"""The test support itself: real pictures, sound replies, fakes that are whole."""

import asyncio
import io
import socket
import struct

import pytest
from PIL import Image

from mjrelay.devices.capture import Capture
from mjrelay.devices.computer import Devices

from . import pictures
from .camera import (
    AskAuth,
    Close,
    Frames,
    HttpHead,
    Pause,
    Reset,
    ScriptedCamera,
    Send,
    Silence,
)
from .device import Desk, FakeCapture
from .quirks import HEALTHY, REFUSALS, REPLIES, Reply, multipart

REQUEST = b"GET /?action=stream HTTP/1.1\r\nHost: camera\r\n\r\n"
WHOLE = (
    pictures.picture,
    pictures.progressive,
    pictures.with_restarts,
    pictures.with_thumbnail,
    pictures.with_comment_traps,
    pictures.with_fill_bytes,
    pictures.without_tables,
    pictures.stamped,
    pictures.turned,
    pictures.with_damaged_scan,
    pictures.with_traps,
    pictures.with_thumbnails_elsewhere,
    pictures.with_unlisted_bytes,
    pictures.with_stuffing_in_the_header,
    pictures.with_length_below_two,
)


def decoded(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.parametrize("draw", WHOLE)
def test_whole_pictures_decode_and_differ(draw: pictures.Draw) -> None:
    assert decoded(draw(1)) != decoded(draw(2))
    assert draw(1).startswith(pictures.SOI)
    assert draw(1).endswith(pictures.EOI)


@pytest.mark.parametrize("draw", [pictures.without_eoi, pictures.truncated])
def test_cut_pictures_do_not_decode(draw: pictures.Draw) -> None:
    with pytest.raises(OSError, match="truncated"):
        decoded(draw(1))


def test_pictures_show_what_they_are_named_for() -> None:
    assert b"\xff\xc2" in pictures.progressive(1)
    assert b"\xff\xd1" in pictures.with_restarts(1)
    assert pictures.with_thumbnail(1).count(pictures.SOI) == 2
    assert pictures.with_comment_traps(1).count(pictures.EOI) > 2
    assert b"\xff\xff\xff\xd9" in pictures.with_fill_bytes(1)
    assert b"\xff\x00" in pictures.picture(1)
    assert b"".join(pictures.segments(pictures.picture(1))) == pictures.picture(1)


def test_standard_tables_restore_a_picture() -> None:
    restored = pictures.with_standard_tables(pictures.without_tables(1))
    assert b"\xff\xc4" not in pictures.without_tables(1)
    assert restored.count(b"\xff\xc4\x01\xa2") == 1
    assert decoded(restored) == decoded(pictures.picture(1))


@pytest.mark.parametrize("n", [0, 7, 1_000_000])
def test_a_stamp_is_read_back(n: int) -> None:
    assert pictures.stamp(pictures.stamped(n)) == n


def test_a_picture_without_a_stamp_has_none() -> None:
    with pytest.raises(ValueError, match="no stamp"):
        pictures.stamp(pictures.picture(1))


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
def test_replies_carry_images(reply: Reply) -> None:
    assert len(reply.images) >= (1 if "snapshot" in reply.name else 3)
    assert not reply.error
    for image in reply.images:
        assert decoded(image)
    assert b"".join(reply.pieces()) == reply.wire


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.name)
def test_refusals_name_their_diagnosis(reply: Reply) -> None:
    assert not reply.images
    assert reply.error
    assert reply.error == reply.error.lower()


def test_names_of_replies_are_unique() -> None:
    names = [reply.name for reply in REPLIES + REFUSALS]
    assert len(names) == len(set(names))


async def dial(
    camera: ScriptedCamera,
    request: bytes = REQUEST,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", camera.port)
    writer.write(request)
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    if reset:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    await writer.wait_closed()


async def test_camera_plays_a_reply_and_closes() -> None:
    reply = HEALTHY[0]
    async with ScriptedCamera([Send(reply.wire)]) as camera:
        reader, writer = await dial(camera)
        assert await reader.read() == reply.wire
        await hang_up(writer)
        assert camera.ends == ["ours"]
        assert camera.requests == [REQUEST]


async def test_camera_numbers_its_frames_over_connections() -> None:
    async with ScriptedCamera([Send(HttpHead), Frames(500, 2), Close()]) as camera:
        for numbers in ([1, 2], [3, 4]):
            reader, writer = await dial(camera)
            sent = multipart([pictures.stamped(n) for n in numbers])
            assert await reader.read() == HttpHead + sent
            await hang_up(writer)
        assert camera.frames_sent == 4


async def test_camera_tells_fin_from_reset() -> None:
    async with ScriptedCamera([Silence()]) as camera:
        for reset in (False, True):
            _, writer = await dial(camera)
            await camera.until(lambda: camera.open_now == 1)
            await hang_up(writer, reset=reset)
            await camera.until(lambda: camera.open_now == 0)
        assert camera.ends == ["fin", "reset"]
        assert camera.accepted == 2
        assert camera.most_open == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_camera_tells_fin_from_reset_while_it_sends(*, reset: bool) -> None:
    # So slowly that nothing is unread when the peer closes: the kernel would make RST of its FIN.
    async with ScriptedCamera([Send(HttpHead), Frames(fps=1)]) as camera:
        reader, writer = await dial(camera)
        await reader.readuntil(pictures.EOI)
        await hang_up(writer, reset=reset)
        await camera.until(lambda: camera.open_now == 0)
        assert camera.ends == ["reset" if reset else "fin"]


async def test_camera_waits_for_a_slow_peer() -> None:
    async with ScriptedCamera([Frames(100_000)]) as camera:
        reader, writer = await dial(camera)
        await reader.readuntil(b"--boundarydonotcross")
        before = -1  # The reader stops at its limit by itself.
        while before != camera.frames_sent:
            before = camera.frames_sent
            await asyncio.sleep(0.1)
        writer.transport.abort()
        await camera.until(lambda: camera.ends != [])


async def test_camera_resets() -> None:
    async with ScriptedCamera([Pause(0.01), Reset()]) as camera:
        reader, writer = await dial(camera)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.transport.abort()
        assert camera.ends == ["ours"]


async def test_camera_asks_for_credentials_once() -> None:
    challenges = 'Basic realm="camera"', 'Digest realm="camera", nonce="1"'
    async with ScriptedCamera([AskAuth(*challenges)], [Send(HttpHead)]) as camera:
        reader, writer = await dial(camera)
        refusal = await reader.read()
        assert refusal.startswith(b"HTTP/1.1 401 ")
        for challenge in challenges:
            assert f"WWW-Authenticate: {challenge}\r\n".encode() in refusal
        await hang_up(writer)
        for _ in range(2):
            reader, writer = await dial(camera)
            assert await reader.read() == HttpHead
            await hang_up(writer)


async def test_camera_with_one_slot_leaves_a_second_connection_waiting() -> None:
    async with ScriptedCamera([Send(b"first"), Silence()], [Send(b"second")], one_slot=True) as c:
        first, first_writer = await dial(c)
        assert await first.readexactly(5) == b"first"
        second, second_writer = await dial(c)
        await c.until(lambda: c.most_open == 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.read(1), 0.05)
        await hang_up(first_writer)
        assert await second.read() == b"second"
        await hang_up(second_writer)
        assert c.ends == ["fin", "ours"]
        assert c.gaps == [0.0]


async def test_camera_refuses_and_answers_again_on_its_port() -> None:
    async with ScriptedCamera([Send(HttpHead), Silence()]) as camera:
        url = camera.url
        reader, writer = await dial(camera)
        await reader.readexactly(len(HttpHead))
        await camera.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(camera)
        assert camera.open_now == 1
        await hang_up(writer)
        await camera.until(lambda: camera.open_now == 0)
        await asyncio.sleep(0.05)
        await camera.answer_again()
        reader, writer = await dial(camera)
        await reader.readexactly(len(HttpHead))
        await hang_up(writer)
        assert camera.url == url
        (gap,) = camera.gaps
        assert 0.05 <= gap < 5


async def test_camera_leaves_nothing_behind() -> None:
    tasks = asyncio.all_tasks()
    async with ScriptedCamera([Silence()], one_slot=True) as camera:
        dialled = [await dial(camera) for _ in range(3)]
        await camera.until(lambda: len(camera.requests) == 3)
        late = socket.socket()
        late.setblocking(False)
        late.connect_ex(("127.0.0.1", camera.port))
    assert asyncio.all_tasks() == tasks
    assert camera.open_now == 0
    assert camera.ends == ["ours"] * 3
    late.close()
    for _, writer in dialled:
        await hang_up(writer)


async def test_camera_reports_a_broken_script() -> None:
    class Broken:
        async def play(self, connection: object) -> None:
            raise NotImplementedError

    async def watch() -> None:
        async with ScriptedCamera([Broken()]) as camera:
            reader, writer = await dial(camera)
            assert await reader.read() == b""
            await hang_up(writer)

    with pytest.raises(NotImplementedError):
        await watch()


@pytest.mark.parametrize(("real", "fake"), [(Devices, Desk), (Capture, FakeCapture)])
def test_a_fake_stands_in_for_all_of_the_real_thing(real: type, fake: type) -> None:
    """Otherwise a test would reach for the cameras of the computer it runs on."""
    public = {name for name in vars(real) if not name.startswith("_")}
    assert public <= vars(fake).keys()
