"""Pictures: a camera's raw colours come out as they went in."""

import io

import pytest
from PIL import Image

from mjrelay.pictures import encode_yuyv
from tests.support.pictures import EOI, SOI

Colour = tuple[int, int, int]

# BT.601 with all 256 steps, as JPEG has it: brightness, blue, red.
WHITE, BLACK, GREY = (255, 128, 128), (0, 128, 128), (100, 128, 128)
RED, GREEN, BLUE = (76, 85, 255), (150, 44, 21), (29, 255, 107)


def yuyv(rows: list[list[Colour]]) -> bytes:
    """Write rows of pixels as a camera does; both of a pair have the colour of the first."""
    data = bytearray()
    for row in rows:
        for first, second in zip(row[::2], row[1::2], strict=True):
            data += bytes([first[0], first[1], second[0], first[2]])
    return bytes(data)


def decoded(jpeg: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft(mode, None)
        return image.convert(mode)


def plain(colour: Colour, size: tuple[int, int] = (16, 16)) -> bytes:
    return encode_yuyv(yuyv([[colour] * size[0]] * size[1]), size)


@pytest.mark.parametrize("colour", [WHITE, BLACK, GREY, RED, GREEN, BLUE, (120, 60, 200)])
def test_a_colour_comes_out_as_it_went_in(colour: Colour) -> None:
    image = decoded(plain(colour), "YCbCr")
    for place in ((0, 0), (1, 0), (7, 9), (15, 15)):
        assert image.getpixel(place) == pytest.approx(colour, abs=4)


@pytest.mark.parametrize(
    ("colour", "seen"),
    [
        (RED, (255, 0, 0)),
        (GREEN, (0, 255, 0)),
        (BLUE, (0, 0, 255)),
        (WHITE, (255, 255, 255)),
        (BLACK, (0, 0, 0)),
    ],
)
def test_people_see_the_colour_that_was_there(colour: Colour, seen: Colour) -> None:
    assert decoded(plain(colour), "RGB").getpixel((8, 8)) == pytest.approx(seen, abs=8)


def test_each_place_has_its_own_colour() -> None:
    """Four fields, 16 pixels wide and high: the left and right one, the upper and lower one."""
    rows = [[RED] * 16 + [GREEN] * 16] * 16 + [[BLUE] * 16 + [WHITE] * 16] * 16
    image = decoded(encode_yuyv(yuyv(rows), (32, 32)), "YCbCr")
    for place, colour in (((8, 8), RED), ((24, 8), GREEN), ((8, 24), BLUE), ((24, 24), WHITE)):
        assert image.getpixel(place) == pytest.approx(colour, abs=4)


def test_both_pixels_of_a_pair_have_their_own_brightness_and_one_colour() -> None:
    rows = [[(40, 90, 160), (180, 90, 160)] * 8] * 16
    image = decoded(encode_yuyv(yuyv(rows), (16, 16)), "YCbCr")
    for x in range(16):
        assert image.getpixel((x, 8)) == pytest.approx((180 if x % 2 else 40, 90, 160), abs=12)


def test_brightness_is_sharp() -> None:
    rows = [[WHITE if x < 9 else BLACK for x in range(16)]] * 16
    image = decoded(encode_yuyv(yuyv(rows), (16, 16)), "L")
    row = [image.getpixel((x, 8)) for x in range(16)]
    assert row == [pytest.approx(255 if x < 9 else 0, abs=30) for x in range(16)]


@pytest.mark.parametrize("size", [(2, 1), (64, 48), (640, 480), (1280, 720), (18, 3)])
def test_any_size_gives_a_whole_picture(size: tuple[int, int]) -> None:
    jpeg = plain(GREY, size)
    assert jpeg.startswith(SOI)
    assert jpeg.endswith(EOI)
    image = decoded(jpeg, "YCbCr")
    assert image.size == size
    assert image.getpixel((size[0] - 1, size[1] - 1)) == pytest.approx(GREY, abs=4)


@pytest.mark.parametrize("length", [0, 511])
def test_a_buffer_that_was_cut_short_is_no_picture(length: int) -> None:
    with pytest.raises(ValueError, match="data"):
        encode_yuyv(bytes(length), (16, 16))
