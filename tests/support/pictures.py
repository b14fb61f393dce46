"""Sample JPEG pictures, each a small real image that shows one peculiarity of cameras' JPEGs.

All are whole (SOI to EOI) and decode, unless their name says what they lack. The number `n`
makes pictures differ from each other. Markers are named as in ITU-T T.81.
"""

import functools
import io
import struct
from collections.abc import Callable

from PIL import Image, ImageDraw

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
DHT = 0xC4
DQT = 0xDB
SOS = 0xDA
APP0 = 0xE0
APP1 = 0xE1
APP2 = 0xE2
APP12 = 0xEC
APP13 = 0xED
APP14 = 0xEE
COM = 0xFE

STAMP = b"frame "

Draw = Callable[[int], bytes]
"""What draws a picture by its number, as most functions here do."""


@functools.cache
def picture(n: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """Draw baseline, with the standard Huffman tables, as most cameras do."""
    return _draw(n, size)


@functools.cache
def progressive(n: int = 0) -> bytes:
    """Draw in several scans, with tables between them."""
    return _draw(n, progressive=True)


@functools.cache
def with_restarts(n: int = 0) -> bytes:
    """Draw with restart markers inside the scan."""
    return _draw(n, restart_marker_rows=1)


def with_thumbnail(n: int = 0) -> bytes:
    """Add an Exif segment which holds a whole JPEG of its own to `picture(n)`."""
    return insert(picture(n), segment(APP1, _exif(_small(n))))


def turned(
    n: int = 0,
    thumbnail: bytes = b"",
    order: str = ">",
    *,
    behind: bytes = b"",
    cut: bool = False,
) -> bytes:
    """Add an Exif segment that says the picture lies on its side, maybe with a thumbnail.

    Args:
        n: The picture's number.
        thumbnail: A JPEG for the second directory; without one there is just the first.
        order: Of the bytes in a number: ">", as Motorola has it, or "<", as Intel has it.
        behind: What stands behind the thumbnail, such as a maker's notes.
        cut: As it is with the thumbnail cut out: nothing leads to the second directory.
    """
    exif = _turned_exif(thumbnail, order)
    if cut:
        link = _SECOND.to_bytes(4, "big" if order == ">" else "little")
        exif = exif.replace(link, bytes(4), 1)
        exif = exif.replace(thumbnail, bytes(len(thumbnail)) if behind else b"")
    return insert(picture(n), segment(APP1, exif + behind))


def with_thumbnails_elsewhere(n: int = 0) -> bytes:
    """Add a thumbnail as JFIF extension, as Photoshop's resource, and in a comment."""
    small = _small(n)
    resource = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(small)) + small
    return insert(
        picture(n),
        segment(APP0, b"JFXX\0\x10" + small),
        segment(APP13, b"Photoshop 3.0\0" + resource),
        segment(APP12, b"preview" + small),
        segment(COM, small),
    )


def first_of_several(n: int = 0) -> bytes:
    """Add the list that the first image of a Multi-Picture file has."""
    return insert(picture(n), segment(APP2, b"MPF\0" + _LIST))


_LIST = b"MM\0*\0\0\0\x08" + struct.pack(">HHHI4sHHII", 2, 0xB000, 7, 4, b"0100", 0xB001, 4, 1, 2)


def with_unlisted_bytes(n: int = 0, junk: bytes = bytes(608)) -> bytes:
    """Put bytes behind a comment which its length leaves out."""
    return insert(picture(n), segment(COM, bytes(4092)) + junk)


def with_stuffing_in_the_header(n: int = 0) -> bytes:
    """Put FF00 where markers must stand: behind SOI, and between two segments."""
    soi, first, *rest = segments(picture(n))
    return b"".join([soi, b"\xff\0", first, b"\xff\0\xff\0", *rest])


def with_length_too_large(n: int = 0, surplus: int = 300) -> bytes:
    """Let a comment claim what follows it: `surplus` bytes of the tables, or even of the scan."""
    comment = bytearray(segment(COM, bytes(100)))
    comment[2:4] = (len(comment) - 2 + surplus).to_bytes(2)
    return insert(picture(n), bytes(comment))


def with_length_below_two(n: int = 0) -> bytes:
    """Give segments a length that does not even count itself."""
    return insert(picture(n), b"\xff\xfe\0\0", b"\xff\xec\0\1text")


def with_damaged_scan(n: int = 0) -> bytes:
    """Put a marker that means nothing into a scan with restarts, as a lost packet does."""
    jpeg = with_restarts(n)
    middle = jpeg.index(b"\xff\xd0") + 9
    return jpeg[:middle] + b"\xff\x9f" + jpeg[middle + 2 :]


_TRAP = b"ends \xff\xd9 begins \xff\xd8\xff\xe0 scans \xff\xda\x00\x02 ends \xff\xd9"


def with_traps(n: int = 0) -> bytes:
    """Add colour profiles that hold what looks like EOI, SOI and SOS, and is none of them."""
    profile = b"ICC_PROFILE\0\1\1"
    return insert(picture(n), segment(APP2, profile + _TRAP), segment(APP2, profile + EOI + SOI))


def with_comment_traps(n: int = 0) -> bytes:
    """Add comments that hold what looks like EOI, SOI and SOS."""
    return insert(picture(n), segment(COM, _TRAP), segment(COM, EOI + SOI), segment(COM, EOI))


def with_fill_bytes(n: int = 0) -> bytes:
    """Put extra FF bytes before markers, as T.81 B.1.1.2 allows."""
    soi, *headers, scan = segments(picture(n))
    filled = [b"\xff" * count + header for count, header in enumerate(headers)]
    return b"".join([soi, *filled, b"\xff", scan.removesuffix(EOI), b"\xff\xff", EOI])


def without_tables(n: int = 0) -> bytes:
    """Take the Huffman tables out of `picture(n)`, as UVC cameras do."""
    return b"".join(piece for piece in segments(picture(n)) if piece[1] != DHT)


def with_standard_tables(jpeg: bytes) -> bytes:
    """Make a picture whole again: `standard_tables()` go immediately before its SOS."""
    *headers, scan = segments(jpeg)
    return b"".join([*headers, standard_tables(), scan])


@functools.cache
def standard_tables() -> bytes:
    """Return the tables of T.81 Annex K.3 as one DHT segment, in the order 00, 01, 10, 11.

    libjpeg uses just these unless asked to optimize, so they are taken from one of its pictures.
    """
    tables = [piece[4:] for piece in segments(picture()) if piece[1] == DHT]
    return segment(DHT, b"".join(sorted(tables)))


def without_eoi(n: int = 0) -> bytes:
    """End after the whole scan."""
    return picture(n).removesuffix(EOI)


def truncated(n: int = 0) -> bytes:
    """End in the middle of the scan."""
    jpeg = picture(n)
    return jpeg[: len(jpeg) - len(segments(jpeg)[-1]) // 2]


def stamped(n: int) -> bytes:
    """Draw a picture that carries its number, however large, for `stamp` to read."""
    return insert(picture(n % 8), segment(COM, STAMP + b"%d" % n))


def stamp(jpeg: bytes) -> int:
    """Return the number in a picture made by `stamped`; ValueError if it carries none."""
    for piece in segments(jpeg):
        if piece[1] == COM and piece[4:].startswith(STAMP):
            return int(piece[4:].removeprefix(STAMP))
    message = "this picture carries no stamp"
    raise ValueError(message)


def segments(jpeg: bytes) -> list[bytes]:
    """Split a picture into SOI, each segment up to the first SOS, and all the rest.

    They join to the same picture; a piece's marker is its `[1]`. Fill bytes are not understood.
    """
    pieces, at = [jpeg[:2]], 2
    while jpeg[at + 1] != SOS:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        pieces.append(jpeg[at:end])
        at = end
    return [*pieces, jpeg[at:]]


def segment(marker: int, payload: bytes) -> bytes:
    """Write one marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def insert(jpeg: bytes, *added: bytes) -> bytes:
    """Put segments behind the first one, where cameras put theirs."""
    soi, first, *rest = segments(jpeg)
    return b"".join([soi, first, *added, *rest])


def _draw(n: int, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    image = Image.new("RGB", size, (n * 37 % 256, n * 59 % 256, n * 83 % 256))
    canvas = ImageDraw.Draw(image)
    for x in range(0, size[0], 4):  # detail, so that the scan has FF bytes to stuff
        canvas.line((x, 0, size[0] - x, size[1]), (x * 4 % 256, 255 - x % 256, x * n % 256))
    canvas.text((2, 2), str(n), fill="white")
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


@functools.cache
def _small(n: int) -> bytes:
    return picture(n, (16, 16))


_MAKER = b"a camera\0"
_SECOND = 8 + 2 + 2 * 12 + 4 + len(_MAKER)  # behind the first directory and its text


def _turned_exif(thumbnail: bytes, order: str) -> bytes:
    """Exif data: the orientation, a text, and a second directory with a thumbnail."""
    mark = b"MM" if order == ">" else b"II"
    orientation = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    maker = struct.pack(order + "HHII", 0x010F, 2, len(_MAKER), _SECOND - len(_MAKER))
    tiff = mark + struct.pack(order + "HIH", 42, 8, 2) + orientation + maker
    tiff += struct.pack(order + "I", _SECOND if thumbnail else 0) + _MAKER
    if thumbnail:
        where = _SECOND + 2 + 2 * 12 + 4
        tiff += struct.pack(order + "HHHII", 2, 0x0201, 4, 1, where)
        tiff += struct.pack(order + "HHIII", 0x0202, 4, 1, len(thumbnail), 0) + thumbnail
    return b"Exif\0\0" + tiff


def _exif(thumbnail: bytes) -> bytes:
    """Exif data with an empty first directory and a second one that points to a thumbnail."""
    tiff = struct.pack(">2sHI HI", b"MM", 42, 8, 0, 14)
    directory = struct.pack(
        ">H HHIHxx HHII HHII I",
        3,
        *(0x0103, 3, 1, 6),  # compression: JPEG
        *(0x0201, 4, 1, 56),  # where the thumbnail begins
        *(0x0202, 4, 1, len(thumbnail)),
        0,
    )
    return b"Exif\0\0" + tiff + directory + thumbnail
