"""What a JPEG is made of: markers, the tables that may be missing, the size in its header.

Names are those of ITU-T T.81, the JPEG standard, Annex B.
"""

import struct

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
IMAGE_START = b"\xff\xd8\xff"
"""SOI, and the beginning of a marker."""

# The second byte of a marker; the first is always FILL.
FILL = 0xFF
M_SOI, M_EOI, M_SOS, M_DHT, M_DQT = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB
M_APP0, M_APP1, M_APP2, M_APP13, M_APP15, M_COM = 0xE0, 0xE1, 0xE2, 0xED, 0xEF, 0xFE
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {M_DHT, 0xC8, 0xCC}
"""SOF markers: the segment that holds the picture's size."""
HUFFMAN_SEQUENTIAL = frozenset({0xC0, 0xC1})
"""Those whose pictures the standard tables decode."""
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a segment: TEM and the restart markers."""
WITH_SEGMENT = frozenset(range(0xC0, 0xFF)) - STANDALONE - {M_SOI, M_EOI}
"""Markers followed by a segment that begins with its length."""

# T.81 Annex K.3: the tables of motion JPEG, which USB cameras and AVI files leave out.
STANDARD_TABLES = bytes.fromhex(
    "ffc401a2"
    "0000010501010101010100000000000000000102030405060708090a0b"
    "0100030101010101010101010000000000000102030405060708090a0b"
    "100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1"
    "c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758"
    "595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aa"
    "b2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7"
    "f8f9fa"
    "1100020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c1"
    "09233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a5354555657"
    "58595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8"
    "a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7"
    "f8f9fa"
)

JFIF_SIZE = 18
"""Bytes of the APP0 segment that begins most pictures: JFIF, without a thumbnail."""
SIZE_END = 9
"""Where the picture's size ends, behind the beginning of a frame header."""


def frame_size(data: bytes | bytearray, start: int, stop: int) -> tuple[int, int] | None:
    """Width and height in a frame header; None where a picture cannot have them, as with 0."""
    if stop - start < SIZE_END:
        return None
    height = data[start + 5] << 8 | data[start + 6]
    width = data[start + 7] << 8 | data[start + 8]
    return (width, height) if width and height else None


def has_quantization(header: bytes) -> bool:
    """Whether an image up to its first scan defines the quantization tables its frame names.

    Without them no decoder can show it.
    """
    defined, named, position = set(), set(), len(SOI)
    while position + 4 <= len(header) and header[position] == FILL:
        marker = header[position + 1]
        if marker == FILL:
            position += 1
            continue
        stop = position + 2 + int.from_bytes(header[position + 2 : position + 4])
        segment = header[position + 4 : stop]
        if marker == M_DQT:
            defined |= _tables(segment)
        elif marker in FRAME_HEADERS:
            named |= set(segment[8::3])  # the third of three bytes for each component
        position = stop if marker in WITH_SEGMENT else position + 2
    return named <= defined


def _tables(segment: bytes) -> set[int]:
    """The numbers of the tables that a DQT segment defines."""
    numbers, at = set(), 0
    while at < len(segment):
        numbers.add(segment[at] & 0x0F)
        at += 129 if segment[at] >> 4 else 65  # 64 values of two bytes, or of one
    return numbers


def dimensions(image: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height of a JPEG in pixels, or None where its frame header cannot be found."""
    position = len(SOI)
    while position + SIZE_END <= len(image) and image[position] == FILL:
        marker = image[position + 1]
        if marker in FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", image, position + 5)
            return width, height
        if marker == FILL:
            position += 1
        else:
            position += 2 + struct.unpack_from(">H", image, position + 2)[0]
    return None
