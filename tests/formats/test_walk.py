"""The walk through one image: what it finds in bytes that were cut already, and what it mends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.walk import plain_image, shorten_segment
from tests.formats.test_framer import UNTOUCHED
from tests.support import pictures
from tests.support.pictures import (
    APP1,
    COM,
    EOI,
    SOI,
    SOS,
    insert,
    picture,
    segment,
    segments,
    with_length_too_large,
    with_restarts,
    with_thumbnail,
    with_unlisted_bytes,
    without_eoi,
    without_tables,
)

# Bytes that were cut already


@pytest.mark.parametrize("draw", UNTOUCHED)
@pytest.mark.parametrize("behind", [b"", bytes(100), b"\xff\xd9", picture(2)])
def test_a_plain_image_is_what_the_framer_makes_of_it(draw: pictures.Draw, behind: bytes) -> None:
    data = draw(1) + behind
    assert plain_image(data) in (None, *JpegFramer().feed(data)[:1])


def test_a_usual_picture_is_plain_and_not_copied() -> None:
    data = picture(1)
    assert plain_image(data) is data
    assert plain_image(data + bytes(1000)) == data


@given(st.data())
def test_a_broken_image_is_not_plain(data: st.DataObject) -> None:
    image = bytearray(data.draw(st.sampled_from([picture(1), with_restarts(1)])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    del image[data.draw(st.integers(1, len(image))) :]
    plain = plain_image(bytes(image))
    assert plain in (None, *JpegFramer().feed(bytes(image))[:1])


@pytest.mark.parametrize("scan", [b"", b"\1", b"\1\1\0\0\x3f\0\0"])
def test_a_scan_header_of_a_wrong_length_begins_no_scan(scan: bytes) -> None:
    data = b"".join(segments(picture(1))[:-1]) + segment(SOS, scan)
    assert plain_image(data) is None
    assert JpegFramer().feed(data + EOI) == []


def test_what_needs_mending_is_not_plain() -> None:
    for draw in (without_tables, without_eoi, with_thumbnail, with_unlisted_bytes):
        assert plain_image(draw(1)) is None
    assert plain_image(b"") is None
    assert plain_image(b"\xff\xd8\xff") is None


# Segments that claim too much


@pytest.mark.parametrize("surplus", [1, 70, 300, 700, 1000])
def test_a_segment_that_claims_too_much_gets_its_true_length(surplus: int) -> None:
    assert shorten_segment(with_length_too_large(1, surplus)) == with_length_too_large(1, 0)


def test_a_segment_may_claim_more_than_there_is() -> None:
    assert shorten_segment(with_length_too_large(1, 60_000)) == with_length_too_large(1, 0)


def test_where_no_segment_claims_too_much_there_is_nothing_to_shorten() -> None:
    for image in (picture(1), SOI + EOI, SOI, picture(1)[:300], with_length_too_large(1, 40)[:150]):
        assert shorten_segment(image) is None


def test_a_thumbnail_is_not_taken_for_what_a_segment_claims_too_much() -> None:
    exif = segment(APP1, bytes(50) + picture(1, (16, 16)))
    cut = insert(picture(1), exif[:2] + b"\xff\xff" + exif[4:])
    assert shorten_segment(cut[: cut.rindex(SOI)] + picture(1, (16, 16))) is None


def test_guesses_at_the_true_length_are_few() -> None:
    comment = segment(COM, b"\xff\xc4\0\2" * 16_000)
    assert shorten_segment(insert(picture(1), comment[:-1])) is None


@given(st.binary(max_size=300), st.integers(0, 400))
def test_whatever_comes_a_segment_is_shortened_or_not(data: bytes, at: int) -> None:
    image = picture(1)[:at] + data + picture(1)[at:]
    shortened = shorten_segment(image)
    assert shortened is None or len(shortened) == len(image)
