"""Probe: opens a source once, as the daemon would, and reports what it is like."""

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from mjrelay.configuration.address import Address, HttpAddress
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.connections import Connected, connected
from mjrelay.devices.holders import Holder
from mjrelay.errors import SLOT_TAKEN, SourceError
from mjrelay.formats import jpeg
from mjrelay.sources import make_source
from mjrelay.sources.http.dialling import resolve

# Seconds from one line that tells how far the probe is to the next.
_EVERY = 1.0
# The camera's name was looked up a moment ago: it takes less than these seconds, or fails again.
_LOOK_UP_TIMEOUT = 2.0
# An answer with one of these says that the camera is busy.
_BUSY = ("503", "429")

_IS_RELAY = (
    "another mjrelay answers there: watch it directly, and chain the two only for a slow link "
    "(docs/how-to/chain-relays.md)"
)
_STREAMS_OF_RELAY = "take one of its streams: /?action=stream, or /cameras/NAME/stream"


@dataclass
class Report:
    """What a probe found.

    Attributes:
        source: The source's address without credentials.
        reachable: Whether the source answered at all.
        facts: What opening it found: for HTTP the answer's status, headers and framing.
        pictures: How many pictures came.
        seconds: Seconds from the first picture to the last.
        first_after: Seconds from the beginning to the first picture; None if none came.
        width: In pixels; None if not known.
        height: In pixels; None if not known.
        fps: Pictures per second; None for fewer than two pictures.
        frame_bytes: Bytes of the smallest, the mean and the largest picture; None if none came.
        tolerated: Deviations from the standards that were tolerated, and how often each was met.
        dropped: How many pictures were dropped, by reason.
        holders: The processes that have the device open, if that is why the probe failed.
        reason: Why the probe failed; None if it did not.
        hint: What a person can do about that.
        note: What there is to know about the source besides; None for nothing.
    """

    source: str
    reachable: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    pictures: int = 0
    seconds: float = 0.0
    first_after: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    frame_bytes: tuple[int, int, int] | None = None
    tolerated: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    holders: tuple[Holder, ...] = ()
    reason: str | None = None
    hint: str | None = None
    note: str | None = None

    def as_json(self) -> str:
        """The report as JSON, for programs."""
        values = asdict(self) | {"holders": [holder.as_values() for holder in self.holders]}
        return json.dumps(values, indent=2)

    def as_text(self) -> str:
        """The report as lines for people."""
        rows: list[tuple[str, str]] = [("source", self.source)]
        for name, value in self.facts.items():
            values = value if isinstance(value, list) else [value] if value else []
            rows += [(name if index == 0 else "", _plain(v)) for index, v in enumerate(values)]
        if self.pictures:
            rows.append(("pictures", f"{self.pictures} in {self.seconds:.1f} s"))
            rows.append(("size", f"{self.width}x{self.height}"))
        if self.fps:
            rows.append(("rate", f"{self.fps:.1f} fps"))
        if self.frame_bytes:
            least, mean, most = self.frame_bytes
            rows.append(("bytes", f"{least} to {most}, {mean} on average"))
        if self.first_after is not None:
            rows.append(("first after", f"{self.first_after:.2f} s"))
        rows += [("tolerated", f"{quirk} ({count} x)") for quirk, count in self.tolerated.items()]
        rows += [("dropped", f"{reason} ({count} x)") for reason, count in self.dropped.items()]
        rows += [("held by", f"{h.command} (pid {h.pid})") for h in self.holders]
        if self.reason:
            rows.append(("failed", self.reason))
        if self.hint:
            rows.append(("try", self.hint))
        if self.note:
            rows.append(("note", self.note))
        return "\n".join(f"{name:<12} {value}" for name, value in rows)


async def probe(
    config: CameraConfig, *, seconds: float = 5.0, progress: Callable[[str], None]
) -> Report:
    """Open a source once and watch it. A failure of the source goes into the report.

    Args:
        config: The options that the camera would have in the daemon.
        seconds: How long to watch after the first picture, in seconds.
        progress: Shows a line on how far the probe is; an empty one at the end, even if it fails.
    """
    source = make_source(config)
    source.watch(watched=True)
    report = Report(source.label)
    countdown = _Countdown(progress)
    countdown.begin(f"opening {source.label}", config.first_frame_timeout)
    times: list[float] = []
    sizes: list[int] = []
    dialled_at = time.monotonic()

    def note(image: bytes, captured: float) -> None:
        times.append(captured)
        sizes.append(len(image))
        if len(times) == 1 and not timer.expired():
            timer.reschedule(asyncio.get_running_loop().time() + seconds)
        report.width, report.height = jpeg.dimensions(image) or (None, None)
        countdown.stop()
        progress(f"{len(times)} pictures …")

    try:
        async with source.open() as stream, asyncio.timeout(config.first_frame_timeout) as timer:
            countdown.begin("waiting for a picture", config.first_frame_timeout)
            await stream(note)
    except TimeoutError:
        if not times:
            report.reason = f"no picture came in {config.first_frame_timeout:g} s"
            report.hint = source.silent_hint
    except SourceError as error:
        report.reason, report.hint = error.reason, error.hint
    finally:
        countdown.stop()
        progress("")
    report.facts = source.facts()
    report.holders = source.holders
    report.reachable = bool(times) or bool(report.facts.keys() & {"status", "device"})
    report.tolerated = dict(source.tally.tolerated)
    report.dropped = dict(source.tally.dropped)
    if times:
        report.pictures = len(times)
        report.seconds = round(times[-1] - times[0], 3)
        report.first_after = round(times[0] - dialled_at, 3)
        report.frame_bytes = (min(sizes), sum(sizes) // len(sizes), max(sizes))
        if len(times) > 1:
            report.fps = round((len(times) - 1) / max(report.seconds, 1e-3), 2)
    elif _may_be_taken(report) and (rivals := await _connected(config.source)):
        report.holders = tuple(rival.holder for rival in rivals if rival.is_certain)
        report.hint = str(rivals[0])
    _note_relay(report)
    return report


def _may_be_taken(report: Report) -> bool:
    """Whether the camera failed as one does whose only connection is taken."""
    status = report.facts.get("status", "")
    return not status or status.startswith(_BUSY) or report.hint == SLOT_TAKEN


async def _connected(source: Address) -> list[Connected]:
    """The processes of this computer that are connected to a camera across the network."""
    if not isinstance(source, HttpAddress):
        return []
    try:
        async with asyncio.timeout(_LOOK_UP_TIMEOUT):
            found = await resolve(source.host, source.port)
    except OSError:  # TimeoutError is one
        return []
    places = {place[:2] for *_, place in found}
    return await asyncio.to_thread(connected, places)


def _note_relay(report: Report) -> None:
    """Say so where another mjrelay answers."""
    if "server: mjrelay" in (header.lower() for header in report.facts.get("headers", [])):
        report.note = _IS_RELAY
        if report.hint and not report.pictures and report.facts["status"].startswith("200"):
            report.hint = _STREAMS_OF_RELAY


class _Countdown:
    """Shows how long there is to wait, second by second.

    Args:
        progress: Shows a line on how far the probe is.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, what: str, seconds: float) -> None:
        """Count down from so many seconds, in place of what was counted before."""
        self.stop()
        self._tick(what, math.ceil(seconds))

    def _tick(self, what: str, left: int) -> None:
        self._progress(f"{what} … {f'{left} s' if left > 0 else 'a moment more'}")
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_EVERY, self._tick, what, left - 1)

    def stop(self) -> None:
        """Count no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _plain(value: object) -> str:
    """A text that a camera sent, without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
