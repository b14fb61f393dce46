"""Tell what a camera sends that is no JPEG, by its first bytes or by the type it declares.

Only what leads to good advice is told apart.
"""

import re
from dataclasses import dataclass

ENOUGH = 1024
"""So many bytes of a body tell what it is: a part's head, and more than two packets of MPEG-TS."""

_PACKET = 188  # bytes of a packet of MPEG-TS; each begins with _SYNC
_SYNC = b"\x47"
_START_CODE = re.compile(rb"\x00?\x00\x00\x01(?=(.)(.))", re.DOTALL)
_PART_HEAD = re.compile(rb"\s*(?:--[^\r\n]*\r*\n)?(?:[!-9;-~]+[ \t]*:[^\r\n]*\r*\n)+\r*\n")
# The first thing in a video, as H.264 and H.265 number what they are made of: parameters, a
# delimiter, a message or a picture.
_H264_UNITS = frozenset({1, 5, 6, 7, 9})
_H265_UNITS = frozenset({32, 33, 34, 35, 39})
_POLL = "-re -f image2 -pattern_type none -loop 1 -framerate 2 -c:v "


@dataclass(frozen=True)
class Kind:
    """Something that is no JPEG.

    Attributes:
        name: What a camera sends, as in "the camera sends FLV video".
        ffmpeg: What ffmpeg must be told in front of the address to read it from there, if anything;
            None if ffmpeg makes no pictures of it.
        may_hold_jpegs: Whether JPEGs may come inside it after a while.
        reads_parts: Whether ffmpeg reads it from between the parts of a multipart stream as well.
    """

    name: str
    ffmpeg: str | None = ""
    may_hold_jpegs: bool = False
    reads_parts: bool = False


H264 = Kind("H.264 video", "-f h264 ", reads_parts=True)
H265 = Kind("H.265 video", "-f hevc ", reads_parts=True)
TS, HLS, DASH = Kind("MPEG-TS video"), Kind("an HLS playlist"), Kind("a DASH playlist")
MP4, AVI = Kind("MP4 video", may_hold_jpegs=True), Kind("AVI video", may_hold_jpegs=True)
WEBM, MATROSKA = Kind("WebM video"), Kind("Matroska video", may_hold_jpegs=True)
FLV, MPEG = Kind("FLV video"), Kind("MPEG video")
PNG, WEBP = Kind("PNG pictures", _POLL + "png "), Kind("WebP pictures", _POLL + "webp ")
GIF, BMP = Kind("GIF pictures", _POLL + "gif "), Kind("BMP pictures", _POLL + "bmp ")
TIFF, HEIC = Kind("TIFF pictures", _POLL + "tiff "), Kind("HEIC pictures", None)
OGG, ASF = Kind("an Ogg file"), Kind("Windows Media video")


def _sound(name: str) -> Kind:
    return Kind(f"sound ({name})", None)


def _file(name: str) -> Kind:
    return Kind(f"a packed file ({name})", None)


# Where in the body, which bytes.
_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"FLV\x01", FLV),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (8, b"WEBPVP8", WEBP),
    (8, b"WAVEfmt ", _sound("WAV")),
    (8, b"AVI LIST", AVI),
    (4, b"ftypavif", Kind("AVIF pictures", None)),
    (4, b"ftyphei", HEIC),
    (4, b"ftypmif1", HEIC),
    (4, b"ftyp", MP4),
    (4, b"styp", MP4),
    (0, b"OggS", OGG),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ASF),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"ID3", _sound("MP3")),
    (0, b"fLaC", _sound("FLAC")),
    (0, b"#!AMR", _sound("AMR")),
    (0, b"PK\x03\x04", _file("zip")),
    (0, b"\x1f\x8b\x08", _file("gzip")),
    (0, b"Rar!\x1a", _file("rar")),
    (0, b"\0\0\x01\xba", MPEG),
    (0, b"\0\0\x01\xb3", MPEG),
)
# FF and a byte like these begin MPEG audio: layer III and II, and AAC.
_AUDIO_SYNC = {
    **dict.fromkeys(b"\xfb\xfa\xf3\xf2\xe3\xe2", _sound("MP3")),
    **dict.fromkeys(b"\xfd\xfc\xf5\xf4", _sound("MP2")),
    **dict.fromkeys(b"\xf1\xf0\xf9\xf8", _sound("AAC")),
}
_MATROSKA_START = b"\x1a\x45\xdf\xa3"

_CODECS = {
    **dict.fromkeys(("h264", "x-h264", "avc"), H264),
    **dict.fromkeys(("h265", "x-h265", "hevc"), H265),
    "mp4": MP4,
}
_TYPES = {
    **dict.fromkeys(("video/x-flv", "video/flv"), FLV),
    **dict.fromkeys(("video/mp2t", "video/mpeg-ts", "video/x-mpegts"), TS),
    "video/webm": WEBM,
    "video/x-matroska": MATROSKA,
    **dict.fromkeys(
        ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl"), HLS
    ),
    "application/dash+xml": DASH,
    "image/png": PNG,
    "image/webp": WEBP,
    "image/gif": GIF,
    "image/bmp": BMP,
}


def by_codec(media_type: str) -> Kind | None:
    """What a declared type stands for that no JPEG was ever seen to come under."""
    return _CODECS.get(media_type.rpartition("/")[2])


def by_type(media_type: str) -> Kind | None:
    """What a declared type stands for. Cameras declare wrong types: the bytes know better."""
    known = by_codec(media_type) or _TYPES.get(media_type)
    if known is None and media_type.startswith("audio/"):
        return _sound(media_type.removeprefix("audio/")[:20])
    return known


def by_bytes(start: bytes) -> Kind | None:
    """What begins with these bytes, up to `ENOUGH`; None: something else, or too little of it."""
    finders = (_signed, _matroska, _playlist, _bitmap, _sound_stream, _transport, _elementary)
    return next(filter(None, (find(start) for find in finders)), None)


def _signed(start: bytes) -> Kind | None:
    signed = (kind for place, mark, kind in _SIGNATURES if start.startswith(mark, place))
    return next(signed, None)


def _matroska(start: bytes) -> Kind | None:
    if not start.startswith(_MATROSKA_START):
        return None
    return WEBM if b"webm" in start[:64] else MATROSKA


def _playlist(start: bytes) -> Kind | None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"#EXTM3U"):
        return HLS
    return DASH if text.startswith(b"<") and b"<MPD" in text else None


def _bitmap(start: bytes) -> Kind | None:
    """Two letters alone would be too little: four bytes behind the length are always 0."""
    return BMP if start.startswith(b"BM") and start[6:10] == bytes(4) else None


def _sound_stream(start: bytes) -> Kind | None:
    return _AUDIO_SYNC.get(start[1]) if start[:1] == b"\xff" and len(start) > 1 else None


def _transport(start: bytes) -> Kind | None:
    syncs = start[: 3 * _PACKET : _PACKET]
    return TS if len(syncs) > 1 and syncs == _SYNC * len(syncs) else None


def _elementary(start: bytes) -> Kind | None:
    """H.264 or H.265 as it is, which begins with a start code and the head of a unit."""
    code = _START_CODE.match(start)
    if code is None:
        return None
    first, second = code[1][0], code[2][0]
    if second == 1 and first % 2 == 0 and first >> 1 in _H265_UNITS:
        return H265
    is_forbidden = first & 0x80
    return H264 if not is_forbidden and first & 0x1F in _H264_UNITS else None


def without_part_head(start: bytes) -> bytes:
    """What follows the first part's head in a multipart body; empty if that is not there yet."""
    head = _PART_HEAD.match(start)
    return start[head.end() :] if head else b""
