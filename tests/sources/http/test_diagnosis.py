"""What people are told of an answer without pictures, however its bytes are cut."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.configuration.address import HttpAddress, parse_address
from mjrelay.errors import GIVEN_AWAY, SLOT_TAKEN, SourceError
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from mjrelay.sources.http import diagnosis
from mjrelay.sources.http.connection import Connection
from mjrelay.sources.http.diagnosis import Evidence
from mjrelay.sources.http.response import Response
from mjrelay.sources.http.wakeups import Wakeups
from tests.support.camera import HttpHead, Pause, Reset, ScriptedCamera, Send, Silence
from tests.support.pictures import picture
from tests.support.quirks import (
    FOREIGN,
    REFUSALS,
    REPLIES,
    Reply,
    answer,
    declared,
    multipart,
)

from .opening import failure, source_of

CAMERA = HttpAddress.parse("http://me:hunter2@10.0.0.9:8080/video?chn=1&pwd=hunter2")
CATALOGUE = pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.name)


class CutConnection:
    """A connection on which these pieces come, and then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.wakeups = Wakeups(0.2)
        self._pieces = [piece for piece in pieces if piece]

    async def read(self) -> bytes:
        """As Connection."""
        return self._pieces.pop(0) if self._pieces else b""

    async def pump(self, consume: Callable[[memoryview], bool]) -> bool:
        """As Connection."""
        while self._pieces:
            if consume(memoryview(self._pieces.pop(0))):
                return True
        return False


async def explained(
    *pieces: bytes, address: HttpAddress = CAMERA, most: int = 2**23
) -> SourceError:
    """What is said of an answer that comes in these pieces; AssertionError if it holds pictures."""
    shown: list[bytes] = []
    try:
        made = cast("Connection", CutConnection([*pieces]))
        answered = await Response.begin(made, ResponseReader(), address, max_image=most)
        if not answered.head.is_success:
            return diagnosis.refusal(answered.head, address, await answered.read_start())
        await answered.show_images(lambda image, _: shown.append(image))
    except SourceError as error:
        assert not shown
        return error
    raise AssertionError(f"{len(shown)} pictures")


@CATALOGUE
async def test_whole_or_byte_by_byte_the_words_are_the_same(reply: Reply) -> None:
    whole = await explained(reply.wire)
    assert reply.error in whole.reason.lower()
    assert whole.hint
    single = await explained(*(reply.wire[i : i + 1] for i in range(len(reply.wire))))
    assert (single.reason, single.hint) == (whole.reason, whole.hint)


@given(reply=st.sampled_from(REFUSALS), cuts=st.lists(st.integers(0, 20_000), max_size=8))
async def test_cut_at_random_the_words_are_the_same(reply: Reply, cuts: list[int]) -> None:
    places = sorted({0, len(reply.wire), *(cut % (len(reply.wire) + 1) for cut in cuts)})
    error = await explained(*(reply.wire[a:b] for a, b in pairwise(places)))
    assert reply.error in error.reason.lower()


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
async def test_no_answer_with_pictures_is_taken_for_something_else(reply: Reply) -> None:
    for size in (1, 7, 100, len(reply.wire)):
        pieces = [reply.wire[at : at + size] for at in range(0, len(reply.wire), size)]
        with pytest.raises(AssertionError, match=r"\d+ pictures"):
            await explained(*pieces)


@pytest.mark.parametrize("reply", REFUSALS, ids=lambda reply: reply.name)
async def test_only_nothing_at_all_may_mean_that_the_slot_is_taken(reply: Reply) -> None:
    error = await explained(reply.wire)
    assert (SLOT_TAKEN in (error.hint or "")) == (reply.name == "nothing at all")


# ffmpeg's line


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("FLV video", "-i "),
        ("MPEG-TS video", "-i "),
        ("H.264 video", "-f h264 -i "),
        ("H.265 video", "-f hevc -i "),
        (
            "PNG pictures",
            "-re -f image2 -pattern_type none -loop 1 -framerate 2 -c:v png -i ",
        ),
    ],
)
async def test_the_line_for_ffmpeg_is_ready_to_be_copied(name: str, reading: str) -> None:
    error = await explained(answer(FOREIGN[name], "application/octet-stream"))
    assert error.reason == f"the camera sends {name}, not JPEG pictures"
    assert error.hint == (
        "choose its MJPEG address, or let ffmpeg convert it: 'exec:ffmpeg -nostdin -loglevel error "
        f"{reading}http://10.0.0.9:8080/video?chn=1&pwd=*** -an -q:v 5 -f mjpeg -'"
    )


async def test_the_line_for_rtsp_names_the_address() -> None:
    error = await explained(b"RTSP/1.0 400 Bad Request\r\n\r\n")
    assert error.reason == "10.0.0.9:8080 speaks RTSP, not HTTP"
    assert error.hint == (
        "let ffmpeg read it: 'exec:ffmpeg -nostdin -loglevel error -rtsp_transport tcp "
        "-i rtsp://10.0.0.9:8080/video?chn=1&pwd=*** -an -q:v 5 -f mjpeg -'"
    )


async def test_no_quote_in_an_address_ends_the_line() -> None:
    quoted = HttpAddress.parse("http://camera/a'b\"c\\d")
    error = await explained(answer(FOREIGN["FLV video"], None), address=quoted)
    line = (error.hint or "").partition("'")[2].removesuffix("'")
    assert "'" not in line
    assert "http://camera/a%27b%22c%5Cd" in line
    assert parse_address(line).label == line


async def test_parts_that_ffmpeg_cannot_read_are_not_offered_to_it() -> None:
    for name in ("PNG pictures", "FLV video"):
        error = await explained(answer(multipart([FOREIGN[name]])))
        assert error.hint == "choose JPEG (MJPEG) in the camera's settings"
    error = await explained(answer(multipart([FOREIGN["H.264 video"]])))
    assert "-f h264 -i http" in (error.hint or "")


async def test_sound_and_packed_files_are_nothing_for_ffmpeg() -> None:
    error = await explained(answer(FOREIGN["sound (MP3)"], "audio/mpeg"))
    assert error.hint == "use the address of its JPEG pictures"


async def test_what_comes_first_may_be_a_placeholder_of_another_kind() -> None:
    first = multipart([FOREIGN["PNG pictures"]], part_type="image/png")
    wire = HttpHead + first + multipart([picture(1)])
    with pytest.raises(AssertionError, match="1 pictures"):
        await explained(*(wire[i : i + 50] for i in range(0, len(wire), 50)))


async def test_jpegs_inside_a_container_are_taken() -> None:
    avi = b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(2000)
    with pytest.raises(AssertionError, match="1 pictures"):
        await explained(answer(avi, "video/x-msvideo"), picture(1))
    error = await explained(answer(avi, "video/x-msvideo"))
    assert error.reason == "the camera sends AVI video, not JPEG pictures"


# Pictures that are too large


@pytest.mark.parametrize("is_stream", [True, False])
async def test_pictures_over_max_frame_are_named(is_stream: bool) -> None:
    large = picture(1)[:2] + (b"\xff\xfe\xff\xf0" + bytes(65518)) * 48 + picture(1)[2:]
    wire = HttpHead + multipart([large] * 2) if is_stream else answer(large, "image/jpeg")
    error = await explained(wire, most=2**21)
    assert error.reason == "the camera's pictures are larger than max_frame (2 MiB)"
    assert error.hint == "raise max_frame"


async def test_a_camera_s_own_words_for_its_trouble_are_shown() -> None:
    """Skinah/IpCamera#41: a camera that is busy for a moment."""
    error = await explained(answer(b"Device Busy\r\n", "text/plain"))
    assert error.reason == "the camera answers with the words 'Device Busy', not with pictures"
    error = await explained(answer(b"see http://me:hunter2@other/?pwd=hunter2", "text/plain"))
    assert "hunter2" not in error.reason
    for body in (b"x" * 101, b"\x1b[2J", b"\xe9"):
        error = await explained(answer(body, "text/plain"))
        assert error.reason == "the camera sends no whole JPEG picture (text/plain)"


# Nothing came, or not enough


async def test_a_flashforge_asked_at_its_root_is_told_where_its_stream_is() -> None:
    """andycb/AdventurerClientJS#28: it accepts and never answers."""
    async with ScriptedCamera([Silence()]) as camera:
        root = camera.url.removesuffix("?action=stream")
        _, error = await failure(source_of(root, first_frame_timeout=0.1))
        _, other = await failure(source_of(camera.url, first_frame_timeout=0.1))
        assert error.hint == f"{SLOT_TAKEN}; or try {camera.url}"
    assert other.hint == f"{SLOT_TAKEN}; or, if it is just slow, raise first_frame_timeout"


@pytest.mark.parametrize("wire", [b"", answer(b"<html>", "text/html")])
async def test_who_wrote_a_host_only_is_told_the_usual_path(wire: bytes) -> None:
    error = await explained(wire, address=HttpAddress.parse("http://printer:8080"))
    assert "; or try http://printer:8080/?action=stream" in (error.hint or "")


async def test_half_a_header_is_not_nothing() -> None:
    async with ScriptedCamera([Send(b"HTTP/1.1 200 OK\r\nContent-"), Silence()]) as camera:
        _, error = await failure(source_of(camera.url, first_frame_timeout=0.1))
    assert error.reason == "the camera began an answer, and its header did not end within 0.1 s"
    assert error.hint == "what answers there may be no web server: check the port"


async def test_who_closes_without_a_word_may_speak_https() -> None:
    error = await explained(b"", address=HttpAddress.parse("http://camera:8443/x"))
    assert error.hint == f"{SLOT_TAKEN}; or, if it speaks https, write https://camera:8443/x"
    error = await explained(b"", address=HttpAddress.parse("https://camera/x"))
    assert error.hint == SLOT_TAKEN


async def test_who_resets_without_a_word_may_speak_https() -> None:
    async with ScriptedCamera([Reset()], [Send(b"HTTP/1.1 "), Pause(0.05), Reset()]) as camera:
        source = source_of(camera.url)
        _, error = await failure(source)
        assert error.reason == "the camera reset the connection"
        https = camera.url.replace("http:", "https:")
        assert error.hint == f"{SLOT_TAKEN}; or, if it speaks https, write {https}"
        _, error = await failure(source)
        assert error.hint == GIVEN_AWAY


@pytest.mark.parametrize(
    ("wire", "hint"),
    [
        (HttpHead, SLOT_TAKEN),
        (answer(b"", "image/jpeg"), SLOT_TAKEN),
        (answer(b"", "text/html"), "open the address in a browser to see what the camera sends"),
        (
            HttpHead + multipart([FOREIGN["PNG pictures"]], part_type="image/png"),
            "the camera sends PNG pictures, not JPEG pictures: choose JPEG (MJPEG) in the camera's",
        ),
        (
            answer(bytes(5000), "application/octet-stream"),
            "what it sends holds no JPEG: open the address in a browser",
        ),
        (
            HttpHead + multipart([picture(1)])[:300],
            "its network may be too slow: choose a smaller picture",
        ),
    ],
)
async def test_what_has_come_decides_what_is_said_of_the_silence_behind_it(
    wire: bytes, hint: str
) -> None:
    async with ScriptedCamera([Send(wire), Silence()]) as camera:
        source = source_of(camera.url)
        async with source.open() as stream:
            streaming: Any = stream(lambda *_: None)
            with pytest.raises(TimeoutError):
                await _for_a_moment(streaming)
            assert source.silent_hint.startswith(hint)
        assert source.silent_hint.startswith(hint), "also once it is closed, for a probe"


async def _for_a_moment(streaming: Any) -> None:
    async with asyncio.timeout(0.1):
        await streaming


def test_the_type_of_the_parts_counts_where_the_answer_names_none() -> None:
    head = ResponseHead(headers=[("content-type", declared("boundary=x"))])
    evidence = Evidence(head, CAMERA, b"--x\r\n", 5, foreign_type="video/x-flv")
    assert diagnosis.no_pictures(evidence) is None
    fault = diagnosis.no_pictures(evidence, ended=True)
    assert fault
    assert fault.reason == "the camera sends FLV video, not JPEG pictures"
