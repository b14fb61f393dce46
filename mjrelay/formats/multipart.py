"""Read what cameras make of multipart/x-mixed-replace; write the form every client accepts.

Reading: a head between two images is a hint, never a rule, since cameras declare boundaries they
do not send, lengths they do not keep and types that are wrong. Writing: see `part`.
"""

import re

BOUNDARY = b"boundarydonotcross"
"""The name mjpg-streamer uses; its own input plugin and its clones accept no other."""

MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
"""Unquoted and the only parameter: Fluidd takes the rest of the line literally."""

IMAGE_TYPE = "image/"
"""Begins the content types of pictures."""
_MAYBE_IMAGES = (IMAGE_TYPE, "application/octet-stream")

OPENING = b"--" + BOUNDARY + b"\r\n"
"""The first bytes of a stream's body."""

_CLOSING = b"\r\n" + OPENING
_PART_TYPE = b"Content-Type: image/jpeg\r\n"
# Every line is far below ffmpeg's limit of 128 bytes.
_PART_HEAD = _PART_TYPE + b"Content-Length: %d\r\nX-Timestamp: %.6f\r\n\r\n"

_DECLARED = re.compile(r"""boundary\s*=\s*("[^"]*"|'[^']*'|[^;,\s]+)""", re.IGNORECASE)
_BOUNDARY_LINE = re.compile(rb"(?:^|\n)(--\S+)")
_BEFORE_BOUNDARY = re.compile(rb"\r?\n(?:--)?\Z")
# A line that stands for a boundary, whatever it is: cameras change it, and declare another.
_ANY_BOUNDARY = re.compile(rb"\n--[!-~][ -~\t]{0,300}\r{0,2}\n")
_BLANK_LINE = re.compile(rb"\r*\n\r*\n")
_CONTENT_TYPE = re.compile(
    rb"^(?:--\S{1,200}[ \t]+)?content-type[ \t]{0,9}:[ \t]{0,9}([^;\s]*)",
    re.IGNORECASE | re.MULTILINE,
)
_USUAL_LENGTH = b"\nContent-Length:"
_CONTENT_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,15})(?!\d)", re.IGNORECASE)


def declared_boundary(media_type: str) -> bytes:
    """The boundary a Content-Type header declares, without quotes; empty if there is none."""
    match = _DECLARED.search(media_type)
    return match[1].strip("\"' ").encode("latin-1", "replace") if match else b""


def wire_boundary(gap: bytes) -> bytes:
    """The boundary, dashes included, in the text before an image; empty if there is none.

    What follows it on its line may differ from part to part.
    """
    match = _BOUNDARY_LINE.search(gap)
    return match[1] if match else b""


def content_types(gap: bytes) -> list[str]:
    """The content types of the part heads in the text between two images, in order.

    The last belongs to the image that follows; each one before it is a part without a JPEG.
    """
    heads = (_CONTENT_TYPE.search(head) for head in _BLANK_LINE.split(gap))
    return [match[1].decode("latin-1").lower() for match in heads if match]


def foreign_types(gap: bytes) -> list[str]:
    """Those content types of the part heads in a text that are none of images, or of anything."""
    return [kind for kind in content_types(gap) if not kind.startswith(_MAYBE_IMAGES)]


def is_foreign(gap: bytes) -> bool:
    """Whether the last part head in a gap is not the head of the JPEG that seems to follow.

    Cameras give pictures any type. But where it is none of an image, the picture follows its head
    at once: anywhere else FFD8 is other data, and in sound it is wherever it stands.
    """
    kinds = content_types(gap)
    if not kinds or kinds[-1].startswith(_MAYBE_IMAGES):
        return False
    last_line = gap.rstrip(b"\r\n").rpartition(b"\n")[2]
    follows_head = gap.endswith(b"\n") and b":" in last_line and last_line.isascii()
    return kinds[-1].startswith("audio/") or not follows_head


def latest_boundary(text: bytes, boundary: bytes) -> int:
    """Where the last boundary in a text begins, or -1: the known one, or any other."""
    lines = [match.start() for match in _ANY_BOUNDARY.finditer(text)]
    return max([text.rfind(boundary) if boundary else -1, *lines])


def find_boundary_line(data: bytearray, start: int, stop: int) -> int:
    """Find a line that stands for a boundary, whatever it is; -1 where there is none."""
    match = _ANY_BOUNDARY.search(data, start, stop)
    return match.start() if match else -1


def line_end_before(data: bytearray, boundary: int, begin: int) -> int:
    """Where the line end before a boundary begins, which belongs to it."""
    line_end = _BEFORE_BOUNDARY.search(data, max(begin, boundary - 4), boundary)
    return line_end.start() if line_end else boundary


def content_length(gap: bytes) -> int | None:
    """The length the last part head in a gap promises, or None without a plausible one."""
    # To begin where it stands is faster than to search for it with each way of writing it.
    if usual := _CONTENT_LENGTH.match(gap, gap.rfind(_USUAL_LENGTH) + 1):
        return int(usual[1]) or None
    lengths = _CONTENT_LENGTH.findall(gap)
    return int(lengths[-1]) or None if lengths else None


Part = tuple[tuple[bytes, ...], int]
"""One image as a client receives it, in a single write: the pieces to write, apart so that the
image need not be copied, and how many bytes they are."""


def part(captured_at: float, image: bytes) -> Part:
    """An image with its head and the next boundary line.

    That line follows at once: Firefox, Mainsail and Fluidd show an image when they see what comes
    after it. Content-Length is exact: go2rtc, Mainsail and ROS need it.

    Args:
        captured_at: When it was captured, in Unix seconds.
        image: The JPEG, SOI to EOI.
    """
    head = _PART_HEAD % (len(image), captured_at)
    return (head, image, _CLOSING), len(head) + len(image) + len(_CLOSING)


ADVANCE_OPENING = OPENING + _PART_TYPE + b"\r\n"
"""`OPENING` for clients that asked for `advance_headers`."""

_ADVANCE_CLOSING = b"\r\n" + ADVANCE_OPENING


def advance_part(image: bytes) -> Part:
    """One image followed by the next part's whole head, for `?advance_headers=1`.

    Chromium and WebKit show an image once the next head has arrived (Chromium bug 527446). The
    next length cannot be known yet, hence no Content-Length, and hence only on request.
    """
    return (image, _ADVANCE_CLOSING), len(image) + len(_ADVANCE_CLOSING)
