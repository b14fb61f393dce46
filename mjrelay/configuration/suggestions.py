"""Suggestions: what a person most likely meant by a SOURCE that is none.

Each mistake that is known is told by a sentence that says what to write, ready to be copied.
"""

import contextlib
import difflib
import ipaddress
import re
import shlex
from collections.abc import Callable

from mjrelay.configuration.address import (
    ESCAPES,
    Address,
    CommandAddress,
    HttpAddress,
    ffmpeg_command,
    parse_address,
)
from mjrelay.configuration.redaction import HIDDEN, CommandRedaction, redact, redact_address

# Characters of what a person wrote that are shown.
_MOST_SHOWN = 200
# What comes along when an address is copied from a page or a document.
_INVISIBLE = " \t\r\n\xa0\u200b\u2060\ufeff"
_QUOTES = "“”„‟«»‘’‚‹›`'\""  # noqa: RUF001

# What an address says before its path: whom to ask, and perhaps with which password.
_AUTHORITY = re.compile(r"[a-z]\w{1,9}://([^/?#]*)", re.IGNORECASE)
# A host with what is no port behind it: a user name and the beginning of a password, perhaps.
_NO_PORT = re.compile(r"(?<=://)[^/?#\s:\[]*:(?!\d{0,5}(?:[/?#\s]|$))[^/?#\s]*")
# What stands between a scheme and the rest, and what is written by mistake.
_SCHEME = re.compile(
    r"([a-z][a-z0-9]{1,7})(\s*[:;.,]{0,2}\s*[/\\]{1,4}|:)(.+)$", re.IGNORECASE | re.DOTALL
)
_TWICE = re.compile(r"(?:https?:/*)+(?=https?://)", re.IGNORECASE)
_VIDEO_SCHEMES = {
    **dict.fromkeys(("rtsp", "rtspt", "rtspu"), "rtsp"),
    **dict.fromkeys(("rtsps", "rtspx"), "rtsps"),
    **{name: name for name in ("rtmp", "rtmps", "rtmpt", "rtp", "udp", "tcp", "srt", "mmsh")},
}
# What other programs call MJPEG over HTTP.
_LIKE_HTTP = ("mjpeg", "mjpg", "jpeg")
# Two words are as close as that when one letter of four is another.
_CLOSE = 0.75
# Texts that are longer than any scheme or command are close to none, and slow to compare.
_MOST_COMPARED = 40

# A host and what may follow it, where there is no http:// before it: one with a dot or a port.
_HOST = re.compile(
    r"(?!https?/)(?:[^/?#\s]*@)?(?:[\w-]+(?:\.[\w-]+)+\.?|localhost|\[[0-9a-f:.%\w-]+\]|[\w-]+(?=:\d|/))"
    r"(?::\d{0,5})?(?=[/?#]|$)",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"(?:v4l2?:(?://)?)?/?(?:dev/)?(?:(?:video|webcam)[ _:-]?(\d{0,3})|(\d{1,2}))$", re.IGNORECASE
)
_IS_DEVICE = re.compile(r"/dev/video\d+$")
_BY_ID = re.compile(r"(?:/?(?:dev/)?(?:v4l/)?by-id/)?(usb-\S+-video-index\d+)$")
_USB_IDS = re.compile(r"(?:.*\bID )?([0-9a-f]{4}:[0-9a-f]{4})(?:$| )", re.IGNORECASE)
# Behind an IPv6 address without brackets this is a port, and no part of the address.
_LIKELY_PORT = re.compile(r"80|443|8\d{3}")
_PORT = re.compile(r":?(\d{3,5})$")
_CONFIG_FILE = re.compile(r"[^?#]*\.(?:toml|conf|cfg|ini|ya?ml)$", re.IGNORECASE)
_FILM = re.compile(
    r"(?:file:(?://)?)?(?!\d+(?:\.\d+){3}[:/])([^?#@]*\.(?:mp4|mkv|avi|mov|webm|mpg|h264))$",
    re.IGNORECASE,
)
# The name of a file that is no host, though there is a dot in it.
_NO_HOST = re.compile(r"[^/:@?#]*\.(?:jpe?g|png|gif|txt|html?|so|sh|py)$", re.IGNORECASE)
_PROGRAM = re.compile(
    r"(?:\S*/)?(?:ffmpeg|gst-launch-1\.0|(?:rpicam|libcamera)-\w+|raspivid|raspistill|gphoto2|curl"
    r"|wget)\s|[.~]{0,2}/[^\s:?]*\.(?:sh|py)(?=\s|$)"
)
# What is rather a command than an address: it has options.
_WITH_OPTIONS = re.compile(r"\s--?[a-z]", re.IGNORECASE)
# A source within another text, but not within the query of an address.
_SOURCE = re.compile(
    r"[^?]+?(?P<url>https?://[^\s\"'<>()]+)|.+?(?P<device>/dev/video\d{1,3})",
    re.IGNORECASE | re.DOTALL,
)
_IS_OURS = re.compile(r"(?:https?|exec|usb|testcard):", re.IGNORECASE)
_PATH = re.compile(r"/(?!/)|\?")
_TESTCARD = re.compile(r"test[ _-]?(?:card|pattern|picture|src)?:?", re.IGNORECASE)

_YOUR_CAMERAS = "your camera's address"
_STAND_INS = {
    "PRINTER": "your printer's address",
    "MJRELAY": "the address of the computer that mjrelay runs on",
    **dict.fromkeys(
        ("CAMERA", "HOST", "HOSTNAME", "IP", "ADDRESS", "URL", "EXAMPLE"), _YOUR_CAMERAS
    ),
}
_STAND_IN = re.compile(
    rf"(?:^|://|\s)(?:[^/?#@\s]*@)?[<{{]?({'|'.join(_STAND_INS)})(?=[>}}:/?#\s]|$)"
)
_OTHER_STAND_INS = (
    (re.compile(r"USER:PASSWORD@"), "write your user name and password for USER:PASSWORD"),
    (re.compile(r"://[^/?#]*:PORT\b"), "write the number of the port for PORT"),
    (re.compile(r"/dev/videoN$"), "write a number for N: `mjrelay devices` lists the cameras"),
    (
        re.compile(r"usb:VVVV:PPPP"),
        "write your camera's numbers for VVVV:PPPP: `mjrelay devices` lists them",
    ),
    (
        re.compile(r"://[^/?#]*\d\.[xX]+\b|://[^/?#]*\.[xX]+\.[xX]+"),
        "write your camera's own numbers for x (your router shows its address)",
    ),
    (
        re.compile(
            r"://(?:[^/?#]*@)?(?:[<{]|your[-_ ](?:ip|host|address|camera|printer)\b(?!\.))[^/?#@]*"
            r"(?:[/?#]|$)",
            re.IGNORECASE,
        ),
        "write your camera's address, such as 192.168.1.200 (your router shows it)",
    ),
    (re.compile(r"…|://\.\.\."), "write the whole address, without …"),
)


class Mistake(ValueError):
    """A value that is wrong in a way we know. Its message is a whole sentence without secrets.

    Args:
        why: What is wrong.
        guess: What to write instead, without secrets; empty where we cannot tell.
        is_sure: Whether nothing else can have been meant.
    """

    def __init__(self, why: str, guess: str = "", *, is_sure: bool = False) -> None:
        super().__init__(why)
        self._why = why
        self.guess = guess
        self._is_sure = is_sure

    def sentence(self, quote: Callable[[str], str]) -> str:
        """What to tell the person, with what to write quoted for the place where it is written."""
        if not self.guess:
            return self._why
        guess = quote(self.guess)
        note = f" ({HIDDEN} stands for what is not shown here)" if HIDDEN in guess else ""
        return (
            f"{self._why}: {f'write {guess}' if self._is_sure else f'did you mean {guess}?'}{note}"
        )


def explain(error: ValueError, value: str, quote: Callable[[str], str]) -> str:
    """What is wrong with a value, for the person who wrote it.

    Args:
        error: A Mistake, or a ValueError that says what was expected.
        value: What was written, without secrets; empty where it may not be shown.
        quote: Quotes a text for the place where it is written.
    """
    if isinstance(error, Mistake):
        return error.sentence(quote)
    return f"expected {error}, got {value}" if value else f"expected {error}"


def read_source(text: str) -> Address:
    """Read a SOURCE as a person wrote it. Raises Mistake, or ValueError with what was expected."""
    text = text.strip(_INVISIBLE)
    for recognise in _MISTAKES:
        if mistake := recognise(text):
            raise mistake
    return parse_address(text)


def shown(text: str) -> str:
    """What a person wrote as it may be shown: without secrets, and not too much of it."""
    if text.lower().startswith("exec:"):
        return shorten("exec:" + _command_shown(text[len("exec:") :]))
    if _WITH_OPTIONS.search(text):
        return shorten(_command_shown(text))
    if "://" in text:
        return shorten(_NO_PORT.sub(HIDDEN, redact_address(text)))
    if "@" in text and not _PATH.match(text):
        text = f"{HIDDEN}@{text.rpartition('@')[2]}"
    path, mark, query = text.partition("?")
    return shorten(redact(path + mark + re.sub(r"\s", "%20", query)))


def _command_shown(text: str) -> str:
    """A command without secrets. From a quote on that is not closed, its words are not known."""
    end = ""
    try:
        words = shlex.split(text)
    except ValueError:
        words, end = re.split(r"[\"'\\]", text, maxsplit=1)[0].split(), "…"
    return " ".join(CommandRedaction(words).words) + end


def shorten(text: str, most: int = _MOST_SHOWN) -> str:
    """The text, or its beginning. What is secret must have been hidden before."""
    return text if len(text) <= most else f"{text[:most]}…"


def close_to(word: str, known: list[str]) -> str:
    """The known word that is most likely meant; empty if none is close."""
    if len(word) > _MOST_COMPARED:
        return ""
    return next(iter(difflib.get_close_matches(word, known, 1, _CLOSE)), "")


def _no_text(text: str) -> Mistake | None:
    """What cannot be any kind of source."""
    if not text:
        return Mistake("a source is missing: it is empty; try testcard:")
    if "\0" in text:
        return Mistake("a source holds no NUL character")
    return None


def _quoted(text: str) -> Mistake | None:
    inside = text.strip(_QUOTES)
    if inside and inside != text and text[0] in _QUOTES:
        return Mistake("the quotes are not the shell's own, or are doubled", shown(inside))
    return None


def _stand_in(text: str) -> Mistake | None:
    if found := _STAND_IN.search(text):
        name = found[1]
        return Mistake(
            f"write {_STAND_INS[name]} for {name}, such as 192.168.1.200 (your router shows it)"
        )
    for pattern, sentence in _OTHER_STAND_INS:
        if pattern.search(text):
            return Mistake(sentence)
    return None


def _config_file(text: str) -> Mistake | None:
    if _CONFIG_FILE.match(text) and "://" not in text and not text.lower().startswith("exec:"):
        return Mistake(f"{shown(text)} is no source: did you mean --config {shlex.quote(text)}?")
    return None


def odd_device(text: str) -> Mistake | None:
    """A camera of this computer, written in another way than we do."""
    if _IS_DEVICE.match(text):
        return None
    if found := _DEVICE.match(text):
        return Mistake(
            f"{text} is no source (`mjrelay devices` lists the cameras of this computer)",
            f"/dev/video{found[1] or found[2] or 0}",
        )
    if (found := _BY_ID.match(text)) and not text.startswith("/dev/v4l/by-id/"):
        return Mistake(f"{text} is no source", f"/dev/v4l/by-id/{found[1]}")
    if found := _USB_IDS.match(text):
        return Mistake(f"{shown(text)} is no source", f"usb:{found[1].lower()}")
    return None


def _port(text: str) -> Mistake | None:
    if found := _PORT.match(text):
        return Mistake(f"{text} is no source: did you mean --port {found[1]}?")
    return None


def _password(text: str) -> Mistake | None:
    """A password that ends the host, so that another host would be asked, and shown to everyone."""
    found = _AUTHORITY.match(text)
    if not found or "@" not in text[found.end() :]:
        return None
    authority = re.sub(r"\[[^\]@]*\]", "", found[1])
    if "@" in authority or ":" in authority:
        return Mistake(
            f"this address has a /, ? or # before an @: {ESCAPES}, : as %3A, % as %25 "
            "and a space as %20; anywhere else write @ as %40"
        )
    return None


def _film(text: str) -> Mistake | None:
    found = _FILM.match(text)
    if not found or ("://" in text and not text.startswith("file:")):
        return None
    if text.lower().startswith("exec:") or _PROGRAM.match(text):
        return None
    return Mistake(
        f"{shown(text)} is a file, which ffmpeg can play",
        _ffmpeg(f"-re -stream_loop -1 -i {shlex.quote(found[1])}"),
    )


def is_program(text: str) -> bool:
    """Whether a text begins with a program that reads cameras, without the exec: before it."""
    return bool(_PROGRAM.match(f"{text} "))


def _program(text: str) -> Mistake | None:
    if not _PROGRAM.match(text):
        return None
    try:
        return Mistake("a program is written as exec:…", CommandAddress.parse(f"exec:{text}").label)
    except ValueError:
        return None


def _path(text: str) -> Mistake | None:
    """What stands behind a host, alone."""
    if _PATH.match(text) and not text.startswith("/dev/"):
        return Mistake(
            f"{shown(text)} is a path alone: write the camera's address in front of it, without a "
            "space between, as in http://192.168.1.200:8080/?action=stream"
        )
    return None


def _testcard(text: str) -> Mistake | None:
    if text.lower().startswith("testcard:"):
        return None
    if _TESTCARD.fullmatch(text) or close_to(text, ["testcard:"]):
        return Mistake(f"{text} is no source", "testcard:")
    return None


def _of_go2rtc(text: str) -> Mistake | None:
    """An address as go2rtc has ffmpeg read it: ffmpeg:rtsp://…#video=mjpeg."""
    if not text.startswith("ffmpeg:"):
        return None
    login, at, address = text.removeprefix("ffmpeg:").rpartition("@")
    return _scheme(login + at + address.partition("#")[0])


def _scheme(text: str) -> Mistake | None:
    """A scheme that is misspelled, or one that ffmpeg can open."""
    found = _SCHEME.match(text)
    rest = found[3].lstrip("/\\") if found else ""
    if not found or not rest:
        return None
    if once := _TWICE.match(text):
        return Mistake("http:// stands there twice", shown(text[once.end() :]))
    word, between = found[1].lower(), found[2]
    if "\\" in between:
        rest = rest.replace("\\", "/")
    meant = _meant_scheme(word, between, rest)
    if meant in _VIDEO_SCHEMES:
        return _video(_VIDEO_SCHEMES[meant], rest)
    is_right = word == meant and between + found[3] == "://" + rest
    return _http(meant, rest, "is misspelled") if meant and not is_right else None


def _meant_scheme(word: str, between: str, rest: str) -> str:
    """The scheme that was meant; empty if the word is rather a host or the like."""
    if word in ("http", "https"):
        return word
    if word in _VIDEO_SCHEMES:
        is_host = ":" not in between or (between == ":" and rest[0].isdecimal())
        return "" if is_host else word
    if len(between) < len(":/"):
        return ""
    return "http" if word in _LIKE_HTTP else close_to(word, ["http", "https", *_VIDEO_SCHEMES])


def _http(scheme: str, rest: str, what: str) -> Mistake | None:
    """An address of which only the scheme is wrong; None if more is."""
    guess = f"{scheme}://{rest}"
    if mistake := _password(guess):
        return mistake
    try:
        HttpAddress.parse(guess)
    except ValueError:
        return None
    return Mistake(f"{scheme}:// {what}", redact_address(guess))


def _video(scheme: str, rest: str) -> Mistake:
    if mistake := _password(f"{scheme}://{rest}"):
        return mistake
    over_tcp = "-rtsp_transport tcp " if scheme.startswith("rtsp") else ""
    command = _ffmpeg(f"{over_tcp}-i {shlex.quote(f'{scheme}://{rest}')}")
    return Mistake(
        f"mjrelay does not open {scheme}:// itself, but ffmpeg does", command, is_sure=True
    )


def _ffmpeg(from_where: str) -> str:
    """A source in which ffmpeg makes pictures of what it reads, without secrets."""
    return CommandAddress.parse(ffmpeg_command(from_where)).label


def _no_scheme(text: str) -> Mistake | None:
    """An address without http:// before it."""
    rest = re.sub(r"^:?//", "", text)
    with_brackets = _in_brackets(rest)
    if _NO_HOST.match(rest) or not (with_brackets or _HOST.match(rest)):
        return None
    scheme = "https" if re.search(r"^[^/?#]*:(?:8?443)(?=[/?#]|$)", rest) else "http"
    return _http(scheme, f"{with_brackets}/" if with_brackets else rest, "is missing")


def _no_brackets(text: str) -> Mistake | None:
    """An IPv6 address in a URL without the brackets around it."""
    found = _AUTHORITY.match(text)
    if not found or not (host := _in_brackets(found[1])):
        return None
    meant = f"{text[: found.start(1)]}{host}{text[found.end(1) :] or '/'}"
    return Mistake("an IPv6 address stands in brackets", redact(meant))


def _in_brackets(text: str) -> str:
    """An IPv6 address as a URL has it, with the port behind it; empty for anything else."""
    host, _, port = text.rpartition(":")
    for address, rest in ((host, f":{port}"), (text, "")):
        if rest and not _LIKELY_PORT.fullmatch(port):
            continue
        with contextlib.suppress(ValueError):
            return f"[{ipaddress.IPv6Address(address)}]{rest}"
    return ""


def _within(text: str) -> Mistake | None:
    """A source with other words around it, or as part of what other programs call a source."""
    found = _SOURCE.match(text)
    if not found or "@" in text[found.end() :] or _IS_OURS.match(text):
        return None
    return Mistake("a source stands alone", redact_address(found["url"] or found["device"]))


_MISTAKES = (
    *(_no_text, _quoted, _stand_in, _config_file, odd_device, _port, _password, _no_brackets),
    *(_program, _film, _testcard, _of_go2rtc, _scheme, _no_scheme, _within, _path),
)
