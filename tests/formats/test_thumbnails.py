"""Pictures are cut out of segments, and what else they hold stays."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.thumbnails import lists_images, without_picture
from tests.support.pictures import (
    APP0,
    APP1,
    APP2,
    APP12,
    APP13,
    APP14,
    COM,
    EOI,
    SOI,
    first_of_several,
    insert,
    picture,
    segment,
    segments,
    turned,
    with_thumbnail,
    with_thumbnails_elsewhere,
)

SMALL = picture(1, (16, 16))
ORDERS = pytest.mark.parametrize("order", [">", "<"])
ORIENTATION, MAKER = 0x0112, 0x010F


def mended(image: bytes) -> bytes:
    """What the framer makes of an image."""
    [out] = JpegFramer().feed(image)
    return out


def facts(image: bytes) -> tuple[int | None, str | None]:
    """What Pillow reads of the picture's Exif data: its orientation and its maker."""
    with Image.open(io.BytesIO(image)) as opened:
        exif = opened.getexif()
        return exif.get(ORIENTATION), exif.get(MAKER)


@ORDERS
def test_the_orientation_stays_when_a_thumbnail_is_cut_out(order: str) -> None:
    # raspberrypi/picamera2#1015, feelfreelinux/octo4a#279
    image = mended(turned(1, SMALL, order))
    assert facts(image) == (6, "a camera")
    assert image == turned(1, SMALL, order, cut=True)
    assert SOI not in image[2:]


@ORDERS
def test_what_stands_behind_a_thumbnail_stays_where_it_is(order: str) -> None:
    image = mended(turned(1, SMALL, order, behind=b"maker's notes"))
    assert facts(image) == (6, "a camera")
    assert len(image) == len(turned(1, SMALL, order, behind=b"maker's notes"))
    assert b"maker's notes" in image
    assert SOI not in image[2:]


@ORDERS
def test_another_picture_in_the_exif_data_leaves_the_orientation_only(order: str) -> None:
    for notes in (SMALL, EOI, b"notes" + SOI):
        image = mended(turned(1, SMALL, order, behind=notes))
        assert facts(image) == (6, None)
        assert SOI not in image[2:]


def test_exif_data_without_a_thumbnail_stays() -> None:
    assert mended(turned(1)) == turned(1)


def test_exif_data_of_nothing_but_a_thumbnail_is_left_out() -> None:
    assert mended(with_thumbnail(1)) == picture(1)


@pytest.mark.parametrize(
    "tiff",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"MM\0*\0\0\0\x08\0\0\0\0\0\x09",
        b"MM\0*\0\0\0\x08\0\0\xff\xff\xff\xff",
    ],
)
def test_exif_data_that_cannot_be_read_is_left_out_with_its_thumbnail(tiff: bytes) -> None:
    assert without_picture(segment(APP1, b"Exif\0\0" + tiff + SMALL)) == b""


def test_thumbnails_are_cut_out_of_every_segment_that_can_hold_one() -> None:
    # openpreserve/jhove#303 (JFXX), moxiecode/plupload#764 (APP13)
    framer = JpegFramer()
    assert framer.feed(with_thumbnails_elsewhere(1)) == [picture(1)]
    assert framer.tally.tolerated == {"thumbnail inside the image": 4}


def test_the_end_of_an_image_in_a_comment_or_a_resource_misleads_nobody() -> None:
    for marker in (COM, APP13):
        assert mended(insert(picture(1), segment(marker, b"a" + EOI))) == picture(1)


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (APP2, b"ICC_PROFILE\0\1\1" + b"\xff\xd8\xff\xe0 a colour \xff\xd9"),
        (APP2, b"ICC_PROFILE\0\1\1" + b"\xff\xd8" * 20_000),
        (APP14, b"Adobe\0\x64\0\0\xff\xd9\1"),
    ],
)
def test_what_tells_the_colours_stays(marker: int, payload: bytes) -> None:
    framer = JpegFramer()
    image = insert(picture(1), segment(marker, payload))
    assert framer.feed(image) == [image]
    assert not framer.tally.tolerated


@pytest.mark.parametrize(
    ("marker", "payload"),
    [
        (APP1, b"http://ns.adobe.com/xap/1.0/\0<x/>\xff\xd8"),
        (APP1, b"http://ns.adobe.com/xap/1.0/\0<x/>\xff\xd9"),
        (APP2, b"urn:iso:std:iso:ts:22028:-1\0\xff\xd9"),
        (APP12, b"\xff\xd8\xff\xff\xff\xd8\xff"),
        (APP12, SMALL[:9]),
    ],
)
def test_what_only_looks_like_a_picture_is_cut_out_where_nobody_needs_it(
    marker: int, payload: bytes
) -> None:
    """openpreserve/jhove#303: who looks for FFD8 and FFD9 alone is misled by XMP as well."""
    framer = JpegFramer()
    image = insert(picture(1), segment(marker, payload))
    assert framer.feed(image) == [picture(1)]
    assert framer.tally.tolerated == {"thumbnail inside the image": 1}


def test_a_list_of_images_is_cut_out_with_the_images() -> None:
    framer = JpegFramer()
    assert framer.feed(first_of_several(1)) == [picture(1)]
    assert framer.tally.tolerated == {"list of images behind the image": 1}


def test_only_the_first_of_several_images_lists_them() -> None:
    [listing] = [piece for piece in segments(first_of_several(1)) if piece[1] == APP2]
    assert lists_images(listing)
    assert not lists_images(segment(APP2, b"MPF\0" + b"MM\0*\0\0\0\x08\0\0"))
    assert not lists_images(segment(APP0, b"JFIF\0"))


@given(
    st.sampled_from([APP0, APP1, APP2, APP12, APP13, COM]),
    st.sampled_from([b"", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0", b"JFXX\0", b"MPF\0"]),
    st.lists(st.sampled_from([SOI, EOI, SMALL, b"\xff"]) | st.binary(max_size=40), max_size=5),
)
def test_of_any_segment_there_is_less_or_as_much_afterwards(
    marker: int, begin: bytes, pieces: list[bytes]
) -> None:
    whole = segment(marker, begin + b"".join(pieces))
    left = without_picture(whole)
    assert len(left) <= max(len(whole), 36)  # an orientation is short
    if left:
        assert left[:2] == whole[:2]
        assert struct.unpack_from(">H", left, 2) == (len(left) - 2,)
