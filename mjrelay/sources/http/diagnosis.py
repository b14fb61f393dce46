"""What an answer without pictures means to the person who wrote the address."""

import re
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from mjrelay.configuration.address import HttpAddress, ffmpeg_command
from mjrelay.configuration.redaction import redact
from mjrelay.errors import (
    GIVEN_AWAY,
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceStalled,
    SourceUnreachable,
)
from mjrelay.formats import recognition
from mjrelay.formats.http1 import ResponseHead
from mjrelay.formats.jpeg import IMAGE_START
from mjrelay.formats.recognition import Kind

# A body this long without the beginning of an image is no picture stream.
_MAX_WITHOUT_IMAGE = 2**20
_SECONDS = re.compile(r"[0-9]{1,9}")
# A camera may ask to be left alone for a day, by a slip as a rule: it is asked again after this.
_MOST_RETRY_AFTER = 300.0
# What a body begins with is believed after so many bytes, where pictures could still follow: behind
# the parts of another kind that a camera shows first, or inside a container.
_SURE = 2**16
# A camera's own words for its trouble, such as "Device Busy", are shown up to this length.
_SHORT = 100
_STREAM_PATH = "/?action=stream"

# What speaks first, or answers in its own way, at ports that are no web server's.
_GREETINGS = {
    b"SSH-": "SSH",
    b"RFB ": "VNC",
    b"220 ": "FTP or e-mail",
    b"220-": "FTP or e-mail",
}
_TLS_ALERT = b"\x15\x03"
# What nginx, Apache and Go say about a plain request at a port for https, in lower case.
_WANTS_HTTPS = (
    b"plain http request was sent to https port",
    b"speaking plain http to an ssl-enabled",
    b"sent an http request to an https server",
    b"requires tls",
)


@dataclass(frozen=True)
class Evidence:
    """What has come of an answer that holds no image so far.

    Attributes:
        head: Its head.
        address: What was asked.
        start: The body's first bytes, up to `recognition.ENOUGH`.
        length: How many bytes of the body have come.
        foreign_type: Content type of the latest part that held no JPEG; empty for none.
        too_large_for: The largest image allowed in bytes, if there was a larger one.
    """

    head: ResponseHead
    address: HttpAddress
    start: bytes = b""
    length: int = 0
    foreign_type: str = ""
    too_large_for: int | None = None

    @property
    def media_type(self) -> str:
        """The declared type, in lower case and without parameters."""
        return self.head.media_type.partition(";")[0].strip().lower()


def no_pictures(evidence: Evidence, *, ended: bool = False) -> SourceError | None:
    """Why there is no image in what has come of a body so far; None: it is too early to say.

    Args:
        evidence: What has come.
        ended: Nothing more will come.
    """
    is_sure = ended or evidence.length > _SURE
    if kind := _kind(evidence, is_sure=is_sure):
        return SourceRefused(*_words(kind, evidence))
    if not evidence.head.is_multipart and (page := _page(evidence, ended=ended)):
        return SourceRefused(
            f"the camera answers with {page}, not with pictures",
            "open the address in a browser and take the one of the picture itself"
            + _or_stream(evidence.address),
        )
    if ended and not evidence.length:
        reason = "the camera closed the connection without a picture"
        return SourceLost(reason, _nothing_said(evidence))
    if not ended and evidence.length <= _MAX_WITHOUT_IMAGE:
        return None
    if evidence.too_large_for:
        return SourceRefused(*_too_large(evidence.too_large_for))
    declared = f" ({evidence.media_type[:100]})" if evidence.media_type else ""
    return SourceRefused(f"the camera sends no whole JPEG picture{declared}", LOOK_IN_BROWSER)


def silent_hint(evidence: Evidence) -> str:
    """What a person can do when an answer has begun and brings no picture for too long."""
    if not evidence.length:
        return _nothing_said(evidence)
    if evidence.too_large_for:
        reason, hint = _too_large(evidence.too_large_for)
    elif kind := _kind(evidence, is_sure=True):
        reason, hint = _words(kind, evidence)
    elif IMAGE_START in evidence.start:
        return "its network may be too slow: choose a smaller picture in the camera's settings"
    else:
        reason, hint = "what it sends holds no JPEG", LOOK_IN_BROWSER
    return f"{reason}: {hint}"


def _nothing_said(evidence: Evidence) -> str:
    """The hint for a head without a body. Cameras whose slot is taken answer like this."""
    is_stream = evidence.head.is_multipart or evidence.media_type in ("", "image/jpeg")
    return SLOT_TAKEN if is_stream else LOOK_IN_BROWSER


def _kind(evidence: Evidence, *, is_sure: bool) -> Kind | None:
    """What an answer without an image holds instead, if that is known.

    Args:
        evidence: What has come.
        is_sure: So much has come that no image is to be expected any more.
    """
    types = [declared for declared in (evidence.foreign_type, evidence.media_type) if declared]
    for declared in types:
        if kind := recognition.by_codec(declared):
            return kind
    if IMAGE_START in evidence.start:
        return None
    is_multipart = evidence.head.is_multipart
    start = evidence.start
    kind = recognition.by_bytes(recognition.without_part_head(start) if is_multipart else start)
    if kind is None and is_sure:
        kind = next(filter(None, map(recognition.by_type, types)), None)
    can_follow = is_multipart or (kind and kind.may_hold_jpegs)
    return kind if is_sure or not can_follow else None


def _words(kind: Kind, evidence: Evidence) -> tuple[str, str]:
    """The reason and the hint for something that is no JPEG."""
    reason = f"the camera sends {kind.name}, not JPEG pictures"
    if kind.ffmpeg is None:
        return reason, "use the address of its JPEG pictures"
    if evidence.head.is_multipart and not kind.reads_parts:
        return reason, "choose JPEG (MJPEG) in the camera's settings"
    convert = _ffmpeg(f"{kind.ffmpeg}-i {_unquoted(evidence.address.label)}")
    return reason, f"choose its MJPEG address, or let ffmpeg convert it: {convert}"


def _ffmpeg(reading: str) -> str:
    """A source that has ffmpeg read something, in quotes for a shell and for TOML."""
    return f"'{ffmpeg_command(reading)}'"


def _unquoted(url: str) -> str:
    """A URL without the characters that mean something between quotes."""
    return url.replace("'", "%27").replace('"', "%22").replace("\\", "%5C")


def _page(evidence: Evidence, *, ended: bool) -> str:
    """What a body with text for people or programs is; empty if it is neither."""
    text = evidence.start.strip()
    if text.startswith(b"<"):
        return "an HTML page"
    if text.startswith((b"{", b"[")):
        return "JSON"
    is_short = ended and 0 < evidence.length <= _SHORT
    if is_short and text.isascii() and (words := text.decode("ascii")).isprintable():
        return f"the words {redact(words)!r}"
    return ""


def _too_large(limit: int) -> tuple[str, str]:
    size = f"{limit / 2**20:g} MiB" if limit % 2**10 == 0 else f"{limit} bytes"
    return f"the camera's pictures are larger than max_frame ({size})", "raise max_frame"


# Before there is a head


def no_answer(start: bytes, address: HttpAddress, patience: float) -> SourceError:
    """What it means that no head of an answer came for so many seconds.

    Args:
        start: The first bytes that came all the same.
        address: What was asked.
        patience: In seconds.
    """
    if start:
        return SourceRefused(
            f"the camera began an answer, and its header did not end within {patience:g} s",
            "what answers there may be no web server: check the port",
        )
    is_slow = "; or, if it is just slow, raise first_frame_timeout"
    return SourceStalled(
        f"the camera accepted the connection but sent no answer for {patience:g} s",
        SLOT_TAKEN + (_or_stream(address) or is_slow),
    )


def closed(start: bytes, address: HttpAddress) -> SourceLost:
    """What it means that the connection was closed before there was a head."""
    if start:
        return SourceLost("the camera closed the connection within its answer's header", GIVEN_AWAY)
    return SourceLost("the camera closed the connection without an answer", _not_a_word(address))


def broken(error: SourceLost, start: bytes, address: HttpAddress) -> SourceLost:
    """What it means that the connection broke, as an error says, before there was a head."""
    if start or error.hint != GIVEN_AWAY:
        return error
    return SourceLost(error.reason, _not_a_word(address))


def _not_a_word(address: HttpAddress) -> str:
    """The hint for a connection that ended before anything came."""
    hint = SLOT_TAKEN + _or_stream(address)
    return hint if address.tls else f"{hint}; or, if it speaks https, write {_https(address)}"


def _or_stream(address: HttpAddress) -> str:
    """What to add to a hint where only a host was written: some cameras stream at one path only."""
    if address.target != "/":
        return ""
    return f"; or try {replace(address, target=_STREAM_PATH).label}"


def no_http(start: bytes, address: HttpAddress) -> SourceError | None:
    """What answers there, if its first bytes are not those of a web server."""
    if start.startswith(_TLS_ALERT) and not address.tls:
        return speaks_https(address)
    for greeting, protocol in _GREETINGS.items():
        if start.startswith(greeting):
            return SourceRefused(
                f"what answers at {_where(address)} is no web server: it speaks {protocol}",
                "check the port",
            )
    return None


def no_web_server(head: ResponseHead, address: HttpAddress) -> SourceError | None:
    """What answers there, if its head is not a web server's."""
    if not head.protocol.startswith("RTSP"):
        return None
    url = f"rtsp://{address.authority}{address.target}"
    convert = _ffmpeg(f"-rtsp_transport tcp -i {_unquoted(redact(url))}")
    return SourceRefused(
        f"{_where(address)} speaks RTSP, not HTTP", f"let ffmpeg read it: {convert}"
    )


def speaks_https(address: HttpAddress) -> SourceRefused:
    """A port for https was asked in plain HTTP."""
    return SourceRefused(
        f"{_where(address)} speaks https, not plain http", f"write {_https(address)}"
    )


def speaks_http(address: HttpAddress) -> SourceRefused:
    """A port for plain HTTP was asked with https."""
    return SourceRefused(
        f"{_where(address)} speaks plain http, not https", f"write {_http(address)}"
    )


def no_handshake(address: HttpAddress, what: str) -> SourceLost:
    """A TLS handshake that came to nothing: a plain web server waits, or closes."""
    return SourceLost(
        f"{_where(address)} {what}",
        f"if it speaks plain http, write {_http(address)}; else {SLOT_TAKEN}",
    )


def _where(address: HttpAddress) -> str:
    return f"{address.host}:{address.port}"


def _https(address: HttpAddress) -> str:
    return replace(address, tls=True).label


def _http(address: HttpAddress) -> str:
    return replace(address, tls=False).label


def unreadable(error: FramingError) -> SourceRefused:
    """What it means that an answer breaks the rules beyond what can be forgiven."""
    return SourceRefused(f"the camera's answer cannot be read: {error}", LOOK_IN_BROWSER)


def status_of(head: ResponseHead) -> str:
    """An answer's status as people may see it: some cameras repeat there what they were asked."""
    return redact(f"{head.status} {head.phrase}".rstrip())


def refusal(head: ResponseHead, address: HttpAddress, rest: bytes = b"") -> SourceError:
    """What an error status means.

    Args:
        head: The answer's.
        address: What was asked.
        rest: The beginning of the body, where it was read.
    """
    said = f"the camera answers {status_of(head)}"
    text = rest.lower()
    if not address.tls and any(words in text for words in _WANTS_HTTPS):
        return speaks_https(address)
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
