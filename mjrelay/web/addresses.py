"""Addresses: what a path asks for, and which paths of other programs ask for the same."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

STREAM, SNAPSHOT = "stream", "snapshot"


class Alias(NamedTuple):
    """A path of another program at which the default camera is answered.

    Attributes:
        path: In lower case, with `.mjpg` and `.jpg`.
        what: STREAM or SNAPSHOT.
        known_from: The programs and cameras that have it.
    """

    path: str
    what: str
    known_from: str


ALIASES = (
    Alias("/stream.mjpg", STREAM, "camera-streamer, Prusa ESP32-CAM"),
    Alias("/snapshot.jpg", SNAPSHOT, "camera-streamer, Tasmota"),
    Alias("/video", STREAM, "IP Webcam for Android, DroidCam"),
    Alias("/videofeed", STREAM, "IP Webcam for Android"),
    Alias("/mjpegfeed", STREAM, "DroidCam"),
    Alias("/shot.jpg", SNAPSHOT, "IP Webcam for Android"),
    Alias("/photo.jpg", SNAPSHOT, "IP Webcam for Android"),
    Alias("/photoaf.jpg", SNAPSHOT, "IP Webcam for Android"),
    Alias("/video_feed", STREAM, "CamUI, programs made with Flask"),
    Alias("/mjpeg", STREAM, "octo4a"),
    Alias("/mjpeg/1", STREAM, "esp32-mjpeg-multiclient"),
    Alias("/jpg", SNAPSHOT, "esp32-mjpeg-multiclient"),
    Alias("/jpeg", SNAPSHOT, "Eloquent ESP32-CAM"),
    Alias("/capture", SNAPSHOT, "CameraWebServer of the ESP32-CAM"),
    Alias("/cam-hi.jpg", SNAPSHOT, "esp32cam for Arduino"),
    Alias("/cam-mid.jpg", SNAPSHOT, "esp32cam for Arduino"),
    Alias("/cam-lo.jpg", SNAPSHOT, "esp32cam for Arduino"),
    Alias("/saved-photo.jpg", SNAPSHOT, "Prusa ESP32-CAM"),
    Alias("/wc.jpg", SNAPSHOT, "Tasmota"),
    Alias("/cam.mjpg", STREAM, "esp32cam for Arduino, programs made with OpenCV"),
    Alias("/cam.jpg", SNAPSHOT, "mjpg-streamer with WXP_COMPAT"),
    Alias("/0/stream", STREAM, "Motion, as Duet's plugin has it"),
    Alias("/0/current", SNAPSHOT, "Motion"),
    Alias("/mjpg/video.mjpg", STREAM, "Axis"),
    Alias("/axis-cgi/mjpg/video.cgi", STREAM, "Axis"),
    Alias("/jpg/image.jpg", SNAPSHOT, "Axis"),
    Alias("/axis-cgi/jpg/image.cgi", SNAPSHOT, "Axis"),
    Alias("/video.mjpg", STREAM, "many cameras"),
    Alias("/image.jpg", SNAPSHOT, "D-Link, TRENDnet"),
    Alias("/image/jpeg.cgi", SNAPSHOT, "D-Link, TRENDnet"),
    Alias("/video.cgi", STREAM, "D-Link, TRENDnet"),
    Alias("/video/mjpg.cgi", STREAM, "D-Link, TRENDnet"),
    Alias("/mjpeg.cgi", STREAM, "D-Link"),
    Alias("/videostream.cgi", STREAM, "Foscam"),
    Alias("/snapshot.cgi", SNAPSHOT, "Foscam"),
    Alias("/snap.jpg", SNAPSHOT, "UniFi"),
)
# The camera of these is named in the query; without a name, they mean the default one.
ALIASES_WITH_SRC = (
    Alias("/api/stream.mjpg", STREAM, "go2rtc"),
    Alias("/api/frame.jpg", SNAPSHOT, "go2rtc"),
)
# The cameras of these are counted from 1.
ALIASES_WITH_NUMBER = (
    Alias("/cam_N.mjpg", STREAM, "webcamXP, mjpg-streamer with WXP_COMPAT"),
    Alias("/cam_N.jpg", SNAPSHOT, "webcamXP, mjpg-streamer with WXP_COMPAT"),
    Alias("/N/stream", STREAM, "Motion"),
    Alias("/N/current", SNAPSHOT, "Motion"),
    Alias("/picture/N/current", SNAPSHOT, "motionEye"),
)

PAGE = ""
_OF_DEFAULT = (STREAM, SNAPSHOT, "clip", "state")
_OF_NAMED = (STREAM, SNAPSHOT, "clip", "status", "health", "controls", "restart", "reset")
_OF_ALL = (PAGE, "status", "healthz", "readyz")
# Other spellings of the same ending.
_ENDINGS = {".mjpeg": ".mjpg", ".jpeg": ".jpg"}

_NUMBERED = [
    (re.compile(re.escape(alias.path).replace("N", "([1-9][0-9]{0,3})")), alias.what)
    for alias in ALIASES_WITH_NUMBER
]
_ACTION = re.compile(r"(?:^|[?&;])action=(\w*)", re.ASCII | re.IGNORECASE)
_ACTIONS = re.compile(f"({STREAM}|{SNAPSHOT})(?:_([0-9]{{0,4}}))?")
# A longer path is no slip of the pen, and takes long to compare with others.
_MAX_SLIP = 64


class Place(NamedTuple):
    """What a path asks for.

    Attributes:
        path: The path as it should be written.
        what: The answer: PAGE, STREAM, SNAPSHOT, or the path's last word.
        camera: The name of its camera, or the number; None: it is about all cameras.
        has_src: Whether the query may name another camera.
    """

    path: str
    what: str
    camera: str | int | None = None
    has_src: bool = False


def _known() -> Iterator[Place]:
    for what in _OF_ALL:
        yield Place(f"/{what}", what)
    for what in _OF_DEFAULT:
        yield Place(f"/{what}", what, 0)
    for alias in ALIASES:
        yield Place(alias.path, alias.what, 0)
    for alias in ALIASES_WITH_SRC:
        yield Place(alias.path, alias.what, 0, has_src=True)


_KNOWN = {place.path: place for place in _known()}


def find(path: str, bases: Iterable[str]) -> Place | None:
    """What a path asks for; None if nothing.

    Slashes too many, and a base that comes twice, are passed over: addresses are glued together
    from parts. Capitals do not matter, but in the name of a camera.

    Args:
        path: A path, unescaped.
        bases: The paths below which every address exists as well as at the root.
    """
    if exact := _KNOWN.get(path):
        return exact
    _, segments = _split(path, bases)
    match segments:
        case [cameras, name, *rest] if cameras.lower() == "cameras" and len(rest) <= 1:
            what = "".join(rest).lower()
            known = what in (PAGE, *_OF_NAMED)
            return Place(f"/cameras/{name}/{what}", what, name) if known else None
    tidy = "/" + "/".join(segments).lower()
    for ending, usual in _ENDINGS.items():
        if tidy.endswith(ending):
            tidy = tidy.removesuffix(ending) + usual
    for pattern, what in _NUMBERED:
        if numbered := pattern.fullmatch(tidy):
            return Place(tidy, what, int(numbered[1]) - 1)
    return _KNOWN.get(tidy)


def _split(path: str, bases: Iterable[str]) -> tuple[list[str], list[str]]:
    """The segments of a path that belong to a base, perhaps repeated, and those behind it."""
    segments = [segment for segment in path.split("/") if segment]
    prefixes = [base.strip("/").lower().split("/") for base in bases if base.strip("/")]
    length = 0
    while prefix := next((p for p in prefixes if _stands_at(length, segments, p)), None):
        length += len(prefix)
    return segments[:length], segments[length:]


def _stands_at(index: int, segments: list[str], prefix: list[str]) -> bool:
    return [segment.lower() for segment in segments[index : index + len(prefix)]] == prefix


def with_action(place: Place, query: str) -> Place | None:
    """What is asked for by a path with a query; None if the query has an action nobody knows.

    The action is the word behind `action=`. Programs append to addresses what belongs elsewhere,
    as in `?action=stream?t=1`.

    Args:
        place: What the path asks for.
        query: The query, unescaped.
    """
    written = _ACTION.search(query)
    if not (written and written[1]) or place.what not in (PAGE, STREAM, SNAPSHOT):
        return place
    action = _ACTIONS.fullmatch(written[1].lower())
    if not action:
        return None if place.what == PAGE else place
    camera = place.camera
    if not isinstance(camera, str) and (action[2] or camera is None):
        camera = int(action[2] or 0)
    return place._replace(what=action[1], camera=camera)


def nearest(path: str, bases: Iterable[str], cameras: Iterable[str]) -> str | None:
    """The address that a path without an answer may have meant."""
    if len(path) > _MAX_SLIP:
        return None
    base, segments = _split(path, bases)
    own = "/" + "/".join(segments).lower()
    of_cameras = (f"/cameras/{name}/{what}" for name in cameras for what in (STREAM, SNAPSHOT))
    near = difflib.get_close_matches(own, [*_KNOWN, *of_cameras], n=1)
    return "".join(f"/{segment}" for segment in base) + near[0] if near else None
