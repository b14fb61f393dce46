"""Pictures that we draw or encode: the test card, the offline picture, and raw pictures of cameras.

This is the only module that imports Pillow. It is imported only when such a picture is needed, so
that a relay whose cameras are well never pays for it.
"""

import io
import time
from functools import cache

from PIL import Image, ImageDraw, ImageFont

_BARS = ("#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0")
_DARK, _LIGHT, _DIM, _ACCENT = "#14171c", "#f2f4f7", "#9aa4b2", "#ffb454"
_QUALITY = 80
_MIN_FONT = 10


def test_card(size: tuple[int, int], number: int, captured_at: float) -> bytes:
    """Draw one image of the test card: with its number and time, so that lag and loss show.

    Args:
        size: Width and height in pixels.
        number: The frame's number.
        captured_at: Unix time in seconds.
    """
    width, height = size
    image = _bars(size).copy()
    draw = ImageDraw.Draw(image)
    clock = time.strftime("%H:%M:%S", time.localtime(captured_at))
    font = _font(height // 12)
    text = f"{clock}.{int(captured_at % 1 * 1000):03d}   frame {number}"
    draw.rectangle((0, height * 0.4, width, height * 0.6), fill=_DARK)
    draw.text((width / 2, height / 2), text, fill=_LIGHT, font=font, anchor="mm")
    radius = height / 12
    x = radius + number * width / 60 % max(width - 2 * radius, 1)
    y = height * 0.8
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_LIGHT)
    return _jpeg(image)


test_card.__test__ = False  # type: ignore[attr-defined]  # pytest: no test


def offline_picture(
    size: tuple[int, int], *, camera: str, title: str, reason: str, hint: str, since: str
) -> bytes:
    """Draw the picture that is shown in place of a camera's own.

    Args:
        size: Width and height in pixels: the camera's own, so that the layout of pages stays.
        camera: The camera's name.
        title: One or two words for its state.
        reason: What happened.
        hint: What to do about it; may be empty.
        since: When it happened, as a text for people.
    """
    width, height = size
    image = Image.new("RGB", size, _DARK)
    draw = ImageDraw.Draw(image)
    margin = width // 16
    y = height * 0.18
    for text, scale, colour in (
        (f"{camera}: {title}", 13, _ACCENT),
        (reason, 20, _LIGHT),
        (hint, 24, _DIM),
        (since, 24, _DIM),
    ):
        font = _font(height // scale)
        for line in _wrapped(draw, text, font, width - 2 * margin):
            draw.text((margin, y), line, fill=colour, font=font)
            y += font.size * 1.35
        y += height / 24
    return _jpeg(image)


def encode_yuyv(data: bytes, size: tuple[int, int]) -> bytes:
    """Make a JPEG of a picture in YUYV, the raw format of USB cameras.

    The bytes are Y U Y V …: every other one is brightness (Y), and between them the two colour
    values (U, V) take turns. Pillow can split bytes that take turns, as an image of brightness and
    transparency ("LA"): first Y from UV, and then U from V.

    Args:
        data: Two bytes a pixel.
        size: Width and height in pixels.
    """
    width, height = size
    brightness, colours = Image.frombytes("LA", size, data).split()
    planes = Image.frombytes("LA", (width // 2, height), colours.tobytes()).split()
    blue, red = (plane.resize(size, Image.Resampling.NEAREST) for plane in planes)
    return _jpeg(Image.merge("YCbCr", (brightness, blue, red)))


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()


@cache
def _bars(size: tuple[int, int]) -> Image.Image:
    width, height = size
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for index, colour in enumerate(_BARS):
        left, right = index * width // len(_BARS), (index + 1) * width // len(_BARS)
        draw.rectangle((left, 0, right, height), fill=colour)
    return image


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(size, _MIN_FONT))
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _wrapped(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float
) -> list[str]:
    """Break a text into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
