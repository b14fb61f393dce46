"""Heads between images are read as cameras write them; parts are written as clients want them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats import multipart

IMAGE = b"\xff\xd8image\xff\xd9"

# Written


def test_the_media_type_has_an_unquoted_boundary_and_nothing_else() -> None:
    assert multipart.MEDIA_TYPE == "multipart/x-mixed-replace; boundary=boundarydonotcross"


def whole(part: multipart.Part) -> bytes:
    return b"".join(part[0])


def test_a_stream_opens_with_a_boundary_line() -> None:
    assert multipart.OPENING == b"--boundarydonotcross\r\n"


def test_a_part_is_these_bytes() -> None:
    part = multipart.part(1700000000.123456, IMAGE)
    assert whole(part) == (
        b"Content-Type: image/jpeg\r\n"
        b"Content-Length: 9\r\n"
        b"X-Timestamp: 1700000000.123456\r\n"
        b"\r\n"
        b"\xff\xd8image\xff\xd9\r\n"
        b"--boundarydonotcross\r\n"
    )
    assert part[1] == len(whole(part))
    assert any(piece is IMAGE for piece in part[0])  # no copy


def test_the_timestamp_always_has_six_decimals() -> None:
    assert b"X-Timestamp: 1700000000.000000\r\n" in whole(multipart.part(1700000000, IMAGE))


@given(st.floats(0, 1e11))
def test_every_line_of_a_head_is_shorter_than_ffmpeg_can_take(when: float) -> None:
    lines = (multipart.OPENING + whole(multipart.part(when, IMAGE))).split(b"\r\n")
    assert max(map(len, lines)) < 128 - len("\r\n")


def test_a_stream_with_advance_headers_opens_with_a_whole_head() -> None:
    assert multipart.ADVANCE_OPENING == (
        b"--boundarydonotcross\r\nContent-Type: image/jpeg\r\n\r\n"
    )


def test_an_advance_part_ends_with_the_next_head() -> None:
    part = multipart.advance_part(IMAGE)
    assert whole(part) == (
        b"\xff\xd8image\xff\xd9\r\n--boundarydonotcross\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    assert part[1] == len(whole(part))


# Read


@pytest.mark.parametrize(
    ("media_type", "boundary"),
    [
        ("multipart/x-mixed-replace;boundary=frame", b"frame"),
        ("multipart/x-mixed-replace; boundary=--frame", b"--frame"),
        ('multipart/x-mixed-replace; boundary="frame"', b"frame"),
        ("multipart/x-mixed-replace; boundary='frame'", b"frame"),
        ('multipart/x-mixed-replace; boundary="a frame"', b"a frame"),
        ("multipart/x-mixed-replace; boundary = frame", b"frame"),
        ("multipart/x-mixed-replace; BOUNDARY=frame", b"frame"),
        ("multipart/x-mixed-replace; boundary=frame; charset=utf-8", b"frame"),
        ("multipart/x-mixed-replace; charset=utf-8; boundary=frame", b"frame"),
        ('"multipart/x-mixed-replace;boundary=frame"', b"frame"),
        ("multipart/x-mixed-replace; boundary=fr\xe4me", b"fr\xe4me"),
        ("multipart/x-mixed-replace; boundary=", b""),
        ("multipart/x-mixed-replace", b""),
        ("image/jpeg", b""),
        ("", b""),
    ],
)
def test_a_boundary_is_declared_in_many_ways(media_type: str, boundary: bytes) -> None:
    assert multipart.declared_boundary(media_type) == boundary


@pytest.mark.parametrize(
    ("gap", "boundary"),
    [
        (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", b"--frame"),
        (b"\r\n--frame\r\n\r\n", b"--frame"),
        (b"\n--frame \n\n", b"--frame"),
        (b"junk\r\n--frame\r\n--frame\r\n\r\n", b"--frame"),
        (b"\r\n----frame\r\n\r\n", b"----frame"),
        (b"Content-Type: image/jpeg\r\n\r\n", b""),
        (b"not at its start --frame\r\n", b""),
        (b"\r\n--\r\n", b""),
        (b"", b""),
    ],
)
def test_the_boundary_on_the_wire_is_a_line_that_begins_with_dashes(
    gap: bytes, boundary: bytes
) -> None:
    assert multipart.wire_boundary(gap) == boundary


@pytest.mark.parametrize(
    ("gap", "types"),
    [
        (b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", ["image/jpeg"]),
        (b"--frame\ncontent-type :IMAGE/JPEG\n\n", ["image/jpeg"]),
        (b"--frame\r\nContent-Type: image/jpeg;size=9\r\n\r\n", ["image/jpeg"]),
        (b"--frame Content-Type: image/jpeg\r\n\r\n", ["image/jpeg"]),
        (b"Content-Type: text/plain\r\n\r\nhi\r\n--f\r\nContent-Type: a/b\r\n\r\n", None),
        (b"--frame\r\nX-Content-Type: text/plain\r\n\r\n", []),
        (b"--frame\r\nContent-Type:\r\n\r\n", [""]),
        (b"--frame\r\n\r\n", []),
        (b"", []),
    ],
)
def test_a_head_tells_the_type_of_its_part(gap: bytes, types: list[str] | None) -> None:
    assert multipart.content_types(gap) == (["text/plain", "a/b"] if types is None else types)


@pytest.mark.parametrize(
    ("gap", "length"),
    [
        (b"Content-Length: 12\r\n\r\n", 12),
        (b"content-length:12\n\n", 12),
        (b"Content-Length:        12\r\n\r\n", 12),
        (b"Content-Length: 5\r\n\r\nhello\r\n--f\r\nContent-Length: 12\r\n\r\n", 12),
        (b"Content-Length: 0\r\n\r\n", None),
        (b"Content-Length: -1\r\n\r\n", None),
        (b"Content-Length: many\r\n\r\n", None),
        (b"Content-Type: image/jpeg\r\n\r\n", None),
        (b"", None),
    ],
)
def test_a_length_is_believed_when_it_can_be_one(gap: bytes, length: int | None) -> None:
    assert multipart.content_length(gap) == length


def test_a_length_of_thousands_of_digits_is_none() -> None:
    assert multipart.content_length(b"Content-Length: " + b"9" * 5000) is None


@given(st.binary(max_size=300))
def test_reading_anything_raises_nothing(gap: bytes) -> None:
    multipart.wire_boundary(gap)
    multipart.content_types(gap)
    multipart.content_length(gap)
    multipart.declared_boundary(gap.decode("latin-1"))
