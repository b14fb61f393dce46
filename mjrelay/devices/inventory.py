"""The capture devices of a computer: what to call each, what it can do, which processes have it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mjrelay.devices import modes
from mjrelay.devices.computer import Devices
from mjrelay.devices.holders import Holders
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import VideoNode


@dataclass(frozen=True)
class CaptureDevice:
    """A device that gives pictures.

    Attributes:
        source: What to write into a configuration: it names this device after a reboot, too.
        path: Its node for now.
        model: What it calls itself.
        bus: Where it is: "usb 1-1.2", or the name of its driver.
        modes: What it can be set to; empty where it could not be asked.
        holders: Which processes have it.
        trouble: Why it could not be asked.
    """

    source: str
    path: str
    model: str
    bus: str
    modes: tuple[Mode, ...]
    holders: Holders
    trouble: str | None = None

    def as_values(self) -> dict[str, Any]:
        """The device for programs."""
        return {
            "source": self.source,
            "path": self.path,
            "model": self.model,
            "bus": self.bus,
            "modes": [asdict(mode) for mode in self.modes],
            "holders": [holder.as_values() for holder in self.holders.found],
            "holders_hidden": self.holders.hidden,
            "trouble": self.trouble,
        }

    def as_text(self) -> str:
        """The device for people, beginning with what to paste."""
        rows = [("model", self.model), ("node", self.path), ("bus", self.bus)]
        lines = modes.listing(self.modes)
        rows += [("modes" if index == 0 else "", line) for index, line in enumerate(lines)]
        for holder in self.holders.found:
            rows += [("held by", f"{holder}: {holder.advice}"), ("", holder.command)]
        if self.trouble:
            rows.append(("trouble", self.trouble))
        return "\n".join([self.source, *(f"  {name:<8} {value}" for name, value in rows)])


def capture_devices(devices: Devices) -> list[CaptureDevice]:
    """Every device that gives pictures, and those that cannot be asked. Disturbs nobody."""
    return [device for node in devices.nodes() if (device := _examined(node, devices))]


def _examined(node: VideoNode, devices: Devices) -> CaptureDevice | None:
    """Open a node and ask it; None if it gives no pictures."""
    device = devices.capture()
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
        source=devices.stable_name(node) or node.path,
        path=node.path,
        model=device.card or node.name,
        bus=f"usb {node.usb.port}" if node.usb else (device.driver or "unknown"),
        modes=tuple(found),
        holders=devices.holders(node.number),
        trouble=trouble,
    )
