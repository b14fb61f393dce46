"""What an answer without pictures means to the person who wrote the address."""

import re
from email.utils import parsedate_to_datetime

from mjrelay.errors import (
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.formats.http1 import ResponseHead

# A body this long without the beginning of an image is no picture stream.
_MAX_WITHOUT_IMAGE = 2**20
ENOUGH = 256
"""So many bytes of a body tell what it is."""
_SECONDS = re.compile(r"[0-9]{1,9}")
# A camera may ask to be left alone for a day, by a slip as a rule: it is asked again after this.
_MOST_RETRY_AFTER = 300.0
_OTHER_CODECS = {
    "h264": "H.264",
    "x-h264": "H.264",
    "avc": "H.264",
    "h265": "H.265",
    "x-h265": "H.265",
    "hevc": "H.265",
    "mp4": "MP4",
}


def no_pictures(
    head: ResponseHead, start: bytes, length: int, *, foreign_type: str, ended: bool
) -> SourceError | None:
    """Why there is no image in what has come of a body so far; None: it is too early to say.

    Args:
        head: The answer's.
        start: The body's first bytes, up to `ENOUGH`.
        length: How many bytes have come.
        foreign_type: Content type of the latest part that held no JPEG; empty for none.
        ended: Nothing more will come.
    """
    media_type = head.media_type.partition(";")[0].strip().lower()
    for declared in (foreign_type, media_type):
        if codec := _OTHER_CODECS.get(declared.rpartition("/")[2]):
            return SourceRefused(
                f"the camera sends {codec} video, not JPEG pictures",
                "choose its MJPEG address, or convert: exec:ffmpeg -i URL -f mjpeg -",
            )
    if not head.is_multipart:
        text = start.lstrip()
        for first, kind in ((b"<", "an HTML page"), (b"{", "JSON"), (b"[", "JSON")):
            if text.startswith(first):
                return SourceRefused(
                    f"the camera answers with {kind}, not with pictures",
                    "open the address in a browser and take the one of the picture itself",
                )
    if ended and not length:
        return SourceLost("the camera closed the connection without a picture", SLOT_TAKEN)
    if ended or length > _MAX_WITHOUT_IMAGE:
        declared = f" ({media_type[:100]})" if media_type else ""
        return SourceRefused(f"the camera sends no whole JPEG picture{declared}", LOOK_IN_BROWSER)
    return None


def unreadable(error: FramingError) -> SourceRefused:
    """What it means that an answer breaks the rules beyond what can be forgiven."""
    return SourceRefused(f"the camera's answer cannot be read: {error}", LOOK_IN_BROWSER)


def refusal(head: ResponseHead) -> SourceError:
    """What an error status means."""
    said = f"the camera answers {head.status} {head.phrase}".rstrip()
    retry_after = _retry_after(head)
    match head.status:
        case 403:
            hint = "this user, or this computer, may not watch; check the camera's settings"
        case 404:
            hint = "the path is wrong; try /?action=stream, /stream, /video or /mjpg/video.mjpg"
        case 429:
            hint = "it is asked too often: set a lower fps"
        case 502 | 504:
            hint = (
                "the web server in front of the camera runs, the camera itself does not yet: wait "
                "until it has started, or start it"
            )
            return SourceUnreachable(said, hint, retry_after=retry_after)
        case 503:
            hint = SLOT_TAKEN
        case status if status >= 500:  # noqa: PLR2004 - server errors
            hint = "the camera is in trouble: restart it if this lasts"
        case _:
            hint = LOOK_IN_BROWSER
    return SourceRefused(said, hint, retry_after=retry_after)


def _retry_after(head: ResponseHead) -> float | None:
    """Seconds for which the camera asks to be left alone; None where it does not, or not clearly.

    A date counts from the answer's own date: the clocks of cameras are wrong.
    """
    value = head.get("retry-after")
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        try:
            due = parsedate_to_datetime(value)
            seconds = (due - parsedate_to_datetime(head.get("date"))).total_seconds()
        except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
            return None
    return min(seconds, _MOST_RETRY_AFTER) if seconds > 0 else None
