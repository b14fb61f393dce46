"""The capture devices of this computer: what to call each, what it can do, who has it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mjrelay.devices import modes
from mjrelay.devices.capture import Capture
from mjrelay.devices.holders import Search, find_holders
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import VideoNode, stable_name, video_nodes


@dataclass(frozen=True)
class CaptureDevice:
    """A device that gives pictures.

    Attributes:
        source: What to write into a configuration: it names this device after a reboot, too.
        path: Its node for now.
        model: What it calls itself.
        bus: Where it is: "usb 1-1.2", or what its driver says.
        modes: What it can be set to; empty where we may not ask.
        holders: Who has it.
        trouble: Why it could not be asked.
    """

    source: str
    path: str
    model: str
    bus: str
    modes: tuple[Mode, ...]
    search: Search
    trouble: str | None = None

    def as_values(self) -> dict[str, Any]:
        """The device for programs."""
        return {
            "source": self.source,
            "path": self.path,
            "model": self.model,
            "bus": self.bus,
            "modes": [asdict(mode) for mode in self.modes],
            "holders": [holder.as_values() for holder in self.search.holders],
            "holders_hidden": self.search.hidden,
            "trouble": self.trouble,
        }

    def as_text(self) -> str:
        """The device for people, beginning with what to paste."""
        rows = [("model", self.model), ("node", self.path), ("bus", self.bus)]
        lines = modes.listing(self.modes)
        rows += [("modes" if index == 0 else "", line) for index, line in enumerate(lines)]
        for holder in self.search.holders:
            rows += [("held by", f"{holder}: {holder.advice}"), ("", holder.command)]
        if self.trouble:
            rows.append(("trouble", self.trouble))
        return "\n".join([self.source, *(f"  {name:<8} {value}" for name, value in rows)])


def capture_devices() -> list[CaptureDevice]:
    """Every device that gives pictures, and those that cannot be asked. Disturbs nobody."""
    return [device for node in video_nodes() if (device := _examined(node))]


def _examined(node: VideoNode) -> CaptureDevice | None:
    """Open a node and ask it; None if it gives no pictures."""
    device = Capture()
    found: Sequence[Mode] = ()
    trouble = None
    try:
        if not device.open(node.path):
            return None
        found = device.modes()
    except OSError as error:
        trouble = f"{error.filename}: {error.strerror}"
    finally:
        device.close()
    return CaptureDevice(
        source=stable_name(node) or node.path,
        path=node.path,
        model=device.card or node.name,
        bus=f"usb {node.usb.port}" if node.usb else (device.driver or "unknown"),
        modes=tuple(found),
        search=find_holders(node.number),
        trouble=trouble,
    )
