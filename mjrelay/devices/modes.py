"""Modes: which of a device's formats, sizes and rates to use. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

PASSED_THROUGH = ("MJPG", "JPEG")
"""Pixel formats whose buffers hold JPEG images already."""
ENCODED = ("YUYV",)
"""Pixel formats that we encode into JPEG images."""

# Pixels and pictures per second to use where the configuration asks for none: sharp enough to see
# a 3D print fail, small enough for USB 2 and Wi-Fi.
_USUAL_AREA = 1280 * 720
_USUAL_RATE = 30.0
# Rates that differ by less count as the same: 29.97 is 30.
_SAME_RATE = 0.5


@dataclass(frozen=True)
class Mode:
    """One way to use a device.

    Attributes:
        format: Four letters, as in MJPG.
        width: In pixels.
        height: In pixels.
        rates: Pictures per second that can be set; empty if the device does not tell.
        between: Every rate between the lowest and the highest of `rates` can be set.
    """

    format: str
    width: int
    height: int
    rates: tuple[float, ...] = ()
    between: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def __str__(self) -> str:
        rates = (" to " if self.between else ", ").join(f"{rate:g}" for rate in self.rates)
        return f"{self.format} {self.width}x{self.height}" + (f" at {rates} fps" if rates else "")


@dataclass(frozen=True)
class Wanted:
    """The mode that the configuration asks for.

    Attributes:
        size: Width and height in pixels; None leaves the choice to us.
        fps: Pictures per second; 0 leaves the choice to us.
        format: The pixel format in four letters; empty leaves the choice to us.
    """

    size: tuple[int, int] | None = None
    fps: float = 0.0
    format: str = ""

    def __str__(self) -> str:
        size = "{}x{}".format(*self.size) if self.size else ""
        rate = f"at {self.fps:g} fps" if self.fps else ""
        return " ".join(filter(None, (self.format, size, rate))) or "that can be shown"


def choose(modes: Iterable[Mode], wanted: Wanted) -> tuple[Mode, float | None] | None:
    """The mode to use and the rate to set, or None if no mode fits.

    JPEG is preferred to formats that we must encode; then the size nearest to 1280x720; then the
    highest rate up to 30. The rate is None if the device does not tell its rates.

    Args:
        modes: Those the device has.
        wanted: The mode that the configuration asks for.
    """
    usable = [mode for mode in modes if mode.format in (*PASSED_THROUGH, *ENCODED)]
    fitting = [mode for mode in usable if _fits(mode, wanted)]
    if not fitting:
        return None
    best = min(fitting, key=_preference)
    return best, _rate(best, wanted.fps)


def lower(modes: Iterable[Mode], mode: Mode) -> Mode | None:
    """The next smaller mode of the same format, which takes less of the USB bus; None if none."""
    area = mode.width * mode.height
    smaller = [m for m in modes if m.format == mode.format and m.width * m.height < area]
    return max(smaller, key=lambda m: m.width * m.height, default=None)


def listing(modes: Sequence[Mode]) -> list[str]:
    """All modes as lines for people, one for each pixel format."""
    lines = []
    for name, group in groupby(modes, key=lambda mode: mode.format):
        sizes = [str(mode).removeprefix(name).strip() for mode in group]
        lines.append(f"{name} {'; '.join(sizes)}")
    return lines


def _fits(mode: Mode, wanted: Wanted) -> bool:
    return (
        wanted.size in (None, mode.size)
        and wanted.format in ("", mode.format)
        and (not wanted.fps or not mode.rates or _nearest(mode, wanted.fps) is not None)
    )


def _nearest(mode: Mode, fps: float) -> float | None:
    if mode.between and min(mode.rates) <= fps <= max(mode.rates):
        return fps
    nearest = min(mode.rates, key=lambda rate: abs(rate - fps))
    return nearest if abs(nearest - fps) <= _SAME_RATE else None


def _rate(mode: Mode, fps: float) -> float | None:
    if fps:
        return _nearest(mode, fps) if mode.rates else fps
    if mode.between and min(mode.rates) <= _USUAL_RATE <= max(mode.rates):
        return _USUAL_RATE
    usual = [rate for rate in mode.rates if rate <= _USUAL_RATE + _SAME_RATE]
    return max(usual, default=min(mode.rates, default=None))


def _preference(mode: Mode) -> tuple[bool, bool, int, float]:
    """A key to sort modes by, the best first: JPEG, not above the usual size, near it, fast."""
    area = mode.width * mode.height
    return (
        mode.format in ENCODED,
        area > _USUAL_AREA,
        abs(area - _USUAL_AREA),
        -min(max(mode.rates, default=0.0), _USUAL_RATE),
    )
