"""Read what cameras make of multipart/x-mixed-replace; write the form every client accepts.

Reading: a head between two images is a hint, never a rule, since cameras declare boundaries they
do not send, lengths they do not keep and types that are wrong. Writing: see `part`.
"""

import re

BOUNDARY = b"boundarydonotcross"
"""The name mjpg-streamer uses; its own input plugin and its clones accept no other."""

MEDIA_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
"""Unquoted and the only parameter: Fluidd takes the rest of the line literally."""

OPENING = b"--" + BOUNDARY + b"\r\n"
"""The first bytes of a stream's body."""

_CLOSING = b"\r\n" + OPENING
_PART_TYPE = b"Content-Type: image/jpeg\r\n"
# Every line is far below ffmpeg's limit of 128 bytes.
_PART_HEAD = _PART_TYPE + b"Content-Length: %d\r\nX-Timestamp: %.6f\r\n\r\n"

_DECLARED = re.compile(r"""boundary\s*=\s*("[^"]*"|'[^']*'|[^;,\s]+)""", re.IGNORECASE)
_BOUNDARY_LINE = re.compile(rb"(?:^|\n)(--[^\r\n]+)")
_BLANK_LINE = re.compile(rb"\r*\n\r*\n")
_CONTENT_TYPE = re.compile(
    rb"^(?:--\S{1,200}[ \t]+)?content-type[ \t]{0,9}:[ \t]{0,9}([^;\s]*)",
    re.IGNORECASE | re.MULTILINE,
)
_CONTENT_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,15})(?!\d)", re.IGNORECASE)


def declared_boundary(media_type: str) -> bytes:
    """The boundary a Content-Type header declares, without quotes; empty if there is none."""
    match = _DECLARED.search(media_type)
    return match[1].strip("\"' ").encode("latin-1", "replace") if match else b""


def wire_boundary(gap: bytes) -> bytes:
    """The boundary line, dashes included, in the text before an image; empty if there is none."""
    match = _BOUNDARY_LINE.search(gap)
    return match[1].rstrip() if match else b""


def content_types(gap: bytes) -> list[str]:
    """The content types of the part heads in the text between two images, in order.

    The last belongs to the image that follows; each one before it is a part without a JPEG.
    """
    heads = (_CONTENT_TYPE.search(head) for head in _BLANK_LINE.split(gap))
    return [match[1].decode("latin-1").lower() for match in heads if match]


def content_length(gap: bytes) -> int | None:
    """The length the last part head in a gap promises, or None without a plausible one."""
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
