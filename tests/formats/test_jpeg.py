"""What a JPEG's header says of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats.jpeg import dimensions, has_quantization
from tests.formats.test_framer import GOOD, UNTOUCHED
from tests.support import pictures
from tests.support.pictures import (
    DQT,
    EOI,
    SOI,
    picture,
    segment,
    segments,
    with_thumbnail,
    without_tables,
)


@pytest.mark.parametrize("draw", [*UNTOUCHED, with_thumbnail, without_tables])
def test_dimensions_are_read_from_the_frame_header(draw: pictures.Draw) -> None:
    assert dimensions(draw(1)) == (64, 48)


def test_width_comes_before_height() -> None:
    assert dimensions(memoryview(picture(1, (80, 24)))) == (80, 24)


@pytest.mark.parametrize("image", [b"", SOI, SOI + EOI, GOOD[:30], SOI + b"text" * 9])
def test_without_a_frame_header_there_are_no_dimensions(image: bytes) -> None:
    assert dimensions(image) is None


@given(st.binary(max_size=200))
def test_dimensions_of_anything_raise_nothing(data: bytes) -> None:
    dimensions(SOI + data)


def header(draw: pictures.Draw) -> list[bytes]:
    """The segments of a picture before its first scan."""
    return segments(draw(1))[:-1]


@pytest.mark.parametrize("draw", [*UNTOUCHED[:-1], with_thumbnail, without_tables])
def test_a_picture_defines_its_quantization(draw: pictures.Draw) -> None:
    assert has_quantization(b"".join(header(draw)))


@pytest.mark.parametrize("lost", [0, 1])
def test_without_one_of_its_quantization_tables_a_picture_is_none(lost: int) -> None:
    pieces = header(picture)
    tables = [piece for piece in pieces if piece[1] == DQT]
    assert not has_quantization(b"".join(piece for piece in pieces if piece != tables[lost]))


def test_quantization_tables_may_share_a_segment_and_have_two_bytes() -> None:
    soi, *pieces = header(picture)
    kept = [piece for piece in pieces if piece[1] != DQT]
    both = segment(DQT, b"\x10" + bytes(128) + b"\x01" + bytes(64))
    assert has_quantization(b"".join([soi, b"\xff", both, b"\xff\x01", *kept]))


@given(st.binary(max_size=200))
def test_of_anything_it_is_known_whether_it_defines_quantization(data: bytes) -> None:
    assert has_quantization(SOI + data) in (True, False)
