"""What is no JPEG is told by its first bytes, or by the type it is declared as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats import recognition
from tests.support.quirks import FOREIGN, multipart


@pytest.mark.parametrize("name", FOREIGN)
def test_the_first_bytes_tell(name: str) -> None:
    kind = recognition.by_bytes(FOREIGN[name][: recognition.ENOUGH])
    assert kind
    assert kind.name == name


@pytest.mark.parametrize("name", FOREIGN)
def test_the_first_bytes_of_a_part_tell(name: str) -> None:
    body = multipart([FOREIGN[name]], extra=["X-Timestamp: 1"])[: recognition.ENOUGH]
    kind = recognition.by_bytes(recognition.without_part_head(body))
    assert kind
    assert kind.name == name


def test_letters_at_the_distance_of_packets_are_no_video() -> None:
    text = b"G" + b"." * 187
    assert recognition.by_bytes(text * 2 + b"x" * 188) is None
    assert recognition.by_bytes(text) is None
    assert recognition.by_bytes(text * 3) is recognition.TS


def test_half_a_part_head_is_none() -> None:
    body = multipart([b"x"])
    for end in range(body.index(b"\r\n\r\n") + 3):
        assert not recognition.without_part_head(body[:end])


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        ("video/x-h264", "H.264 video"),
        ("video/hevc", "H.265 video"),
        ("video/mp4", "MP4 video"),
        ("video/x-flv", "FLV video"),
        ("video/mp2t", "MPEG-TS video"),
        ("application/vnd.apple.mpegurl", "an HLS playlist"),
        ("audio/basic", "sound (basic)"),
        ("image/png", "PNG pictures"),
        ("image/jpeg", ""),
        ("", ""),
    ],
)
def test_a_declared_type_stands_for_something(media_type: str, name: str) -> None:
    kind = recognition.by_type(media_type)
    assert (kind.name if kind else "") == name


@given(st.binary(max_size=1100))
def test_whatever_comes_is_recognised_or_not(start: bytes) -> None:
    recognition.by_bytes(recognition.without_part_head(start))
    recognition.by_bytes(start)


@pytest.mark.parametrize(
    "start", [b"", b"\xff\xd8\xff\xe0", b"--frame\r\n", b"BM", b"G", b"\0\0\0\1"]
)
def test_a_few_bytes_are_no_proof(start: bytes) -> None:
    assert recognition.by_bytes(start) is None


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC pictures"),
        (b"\0\0\0\x18ftypmif1", "HEIC pictures"),
        (b"\0\0\0\x18ftypavif", "AVIF pictures"),
        (b"\0\0\0\x18ftypisom", "MP4 video"),
        (b"II*\0\x08\0\0\0", "TIFF pictures"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media video"),
        (b"\0\0\1\x67\x42", "H.264 video"),
        (b"\0\0\0\1\x09\xf0", "H.264 video"),
        (b"\0\0\0\1\x41\x9a", "H.264 video"),
        (b"\0\0\0\1\x46\x01", "H.265 video"),
        (b"\xff\xfb\x90\x64", "sound (MP3)"),
        (b"\x1a\x45\xdf\xa3\x01\x42\x82\x88matroska", "Matroska video"),
        (b"\xef\xbb\xbf#EXTM3U", "an HLS playlist"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="', "a DASH playlist"),
        (b"\0\0\1\xba", "MPEG video"),
    ],
)
def test_further_kinds_are_recognised(start: bytes, name: str) -> None:
    kind = recognition.by_bytes(start)
    assert kind
    assert kind.name == name
