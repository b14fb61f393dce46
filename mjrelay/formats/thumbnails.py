"""Cut out the pictures that a JPEG carries in its segments beside its own.

Programs that look for FFD8 and FFD9 alone, such as Home Assistant and Mainsail, take a thumbnail
for the picture. How the picture is to be turned stays known.
"""

import struct

from mjrelay.formats import jpeg
from mjrelay.formats.jpeg import EOI, IMAGE_START, SOI

LIST_OF_IMAGES = "list of images behind the image"

_INDEX = b"MPF\0"  # CIPA DC-007, Multi-Picture Format
_EXIF = b"Exif\0\0"
_PROFILE = b"ICC_PROFILE\0"
_JFIF, _ADOBE = b"JFIF\0", b"Adobe"
_HEAD = 4  # a segment's marker and length
_TIFF = _HEAD + len(_EXIF)

# TIFF 6.0: the tags, and the types of their values.
_ORIENTATION, _THUMBNAIL, _THUMBNAIL_LENGTH = 0x0112, 0x0201, 0x0202
_SHORT = 3
_AS_IT_LIES = 1

_Directory = dict[int, tuple[int, int]]  # tag -> type and value


def suspicion(data: bytes | bytearray, start: int, stop: int) -> str:
    """What may have to be cut out of an application segment or comment, in the tally's words.

    Only when its image is whole is it worth while to find out, with `without_picture`. Empty where
    there is nothing.
    """
    if data[start + 1] == jpeg.M_APP2 and data.startswith(_INDEX, start + _HEAD):
        return LIST_OF_IMAGES
    if data.find(SOI, start + _HEAD, stop) >= 0 or data.find(EOI, start + _HEAD, stop) >= 0:
        return "thumbnail inside the image"
    return ""


def without_picture(segment: bytes) -> bytes:
    """An application segment or comment without the picture inside.

    Returns:
        The segment itself where it holds none; empty where nothing else of use would be left.
    """
    marker, payload = segment[1], segment[_HEAD:]
    if marker == jpeg.M_APP1 and payload.startswith(_EXIF):
        return _exif_without_thumbnail(segment)
    # Without these the colours would change. What all others hold is of no use to those who look at
    # the image, and misleads them where it holds so much as one of the two markers.
    if payload.startswith((_PROFILE, _JFIF, _ADOBE)) and not _holds_image(payload):
        return segment
    return b""


def lists_images(segment: bytes) -> bool:
    """Whether a segment is a list of images, as the first of several has it."""
    number_of_images = (b"\xb0\x01", b"\x01\xb0")  # the tag, in either order of bytes
    return segment.startswith(_INDEX, _HEAD) and any(tag in segment for tag in number_of_images)


def _holds_image(payload: bytes) -> bool:
    """Whether the beginning of an image is inside: SOI, and a segment that leads to a marker.

    The two bytes of SOI alone may stand in any data, such as a colour profile.
    """
    start = payload.find(IMAGE_START)
    while 0 <= start < len(payload) - 6:
        marker = payload[start + 3]
        stop = start + 4 + int.from_bytes(payload[start + 4 : start + 6])
        if marker in jpeg.WITH_SEGMENT and payload[stop : stop + 1] == b"\xff":
            return True
        start = payload.find(IMAGE_START, start + len(SOI))
    return False


def _exif_without_thumbnail(segment: bytes) -> bytes:
    """An Exif segment without its thumbnail; if that is not enough, with the orientation only."""
    tiff = bytearray(segment[_TIFF:])
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        main, link = _directory(tiff, order, _number(tiff, order, 4))
        orientation = _as_short(main.get(_ORIENTATION), order)
        _cut_thumbnail(tiff, order, link)
    except struct.error:  # an offset leads out of the segment
        return b""
    if main and SOI not in tiff and EOI not in tiff:
        return _segment(bytes(tiff))
    return _only(orientation) if orientation != _AS_IT_LIES else b""


def _directory(tiff: bytes | bytearray, order: str, at: int) -> tuple[_Directory, int]:
    """What a directory says, and where it says at which place the next one is."""
    (count,) = struct.unpack_from(order + "H", tiff, at)
    link = at + 2 + 12 * count
    _number(tiff, order, link)
    entries = struct.iter_unpack(order + "HH4xI", tiff[at + 2 : link])
    return {tag: (kind, value) for tag, kind, value in entries}, link


def _cut_thumbnail(tiff: bytearray, order: str, link: int) -> None:
    """Make the directory of the thumbnail unknown, and its bytes zero or, at the end, gone."""
    if not (at := _number(tiff, order, link)):
        return
    entries, _ = _directory(tiff, order, at)
    _, start = entries.get(_THUMBNAIL, (0, 0))
    _, length = entries.get(_THUMBNAIL_LENGTH, (0, 0))
    struct.pack_into(order + "I", tiff, link, 0)
    stop = start + length
    if not tiff.startswith(SOI, start):
        return
    if stop >= len(tiff):
        del tiff[start:]
    else:
        tiff[start:stop] = bytes(length)


def _number(tiff: bytes | bytearray, order: str, at: int) -> int:
    (number,) = struct.unpack_from(order + "I", tiff, at)
    return int(number)


def _as_short(entry: tuple[int, int] | None, order: str) -> int:
    """An entry's value: a short one stands in the first half of its field."""
    kind, value = entry or (_SHORT, 0)
    short = value >> 16 if kind == _SHORT and order == ">" else value & 0xFFFF
    return short if _AS_IT_LIES < short <= 8 else _AS_IT_LIES  # noqa: PLR2004 - the last of Exif's


def _only(orientation: int) -> bytes:
    """The shortest Exif segment that says how the picture is to be turned."""
    head = struct.pack(">2sHI", b"MM", 42, 8)
    return _segment(head + struct.pack(">HHHIHHI", 1, _ORIENTATION, _SHORT, 1, orientation, 0, 0))


def _segment(tiff: bytes) -> bytes:
    head = struct.pack(">BBH", jpeg.FILL, jpeg.M_APP1, 2 + len(_EXIF) + len(tiff))
    return head + _EXIF + tiff
