"""Probe: opens a source once, as the daemon would, and reports what it is like."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.holders import Holder
from mjrelay.errors import SourceError
from mjrelay.formats import jpeg
from mjrelay.sources import make_source


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
    progress(f"opening {source.label} …")
    times: list[float] = []
    sizes: list[int] = []
    dialled_at = time.monotonic()

    def note(image: bytes, captured: float) -> None:
        times.append(captured)
        sizes.append(len(image))
        if len(times) == 1 and not timer.expired():
            timer.reschedule(asyncio.get_running_loop().time() + seconds)
        report.width, report.height = jpeg.dimensions(image) or (None, None)
        progress(f"{len(times)} pictures …")

    try:
        async with source.open() as stream, asyncio.timeout(config.first_frame_timeout) as timer:
            await stream(note)
    except TimeoutError:
        if not times:
            report.reason = f"no picture came in {config.first_frame_timeout:g} s"
            report.hint = source.silent_hint
    except SourceError as error:
        report.reason, report.hint = error.reason, error.hint
    finally:
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
    return report


def _plain(value: object) -> str:
    """A text that a camera sent, without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
