"""Inventory: this computer's cameras, their modes, and the processes that have them open."""

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
        source: The SOURCE to write into a configuration. If possible, it names this device after
            a reboot, too.
        path: The path of its node now.
        model: Its name for itself.
        bus: Where it is plugged in, "usb 1-1.2"; for other buses the name of its driver.
        modes: What it can be set to; empty if it could not be asked.
        holders: The processes that have it open or mapped.
        trouble: Why it could not be asked; None if it could.
    """

    source: str
    path: str
    model: str
    bus: str
    modes: tuple[Mode, ...]
    holders: Holders
    trouble: str | None = None

    def as_values(self) -> dict[str, Any]:
        """The device in plain values, for JSON."""
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
        """The device as lines for people. The first line is the SOURCE to copy."""
        rows = [("model", self.model), ("node", self.path), ("bus", self.bus)]
        lines = modes.listing(self.modes)
        rows += [("modes" if index == 0 else "", line) for index, line in enumerate(lines)]
        for holder in self.holders.found:
            rows += [("held by", f"{holder}: {holder.advice}"), ("", holder.command)]
        if self.trouble:
            rows.append(("trouble", self.trouble))
        return "\n".join([self.source, *(f"  {name:<8} {value}" for name, value in rows)])


def capture_devices(devices: Devices) -> list[CaptureDevice]:
    """Every device that gives pictures or cannot be asked whether it does. Disturbs nobody."""
    return [device for node in devices.nodes() if (device := _examined(node, devices))]


def _examined(node: VideoNode, devices: Devices) -> CaptureDevice | None:
    """Open a node and ask for its modes; None if it gives no pictures."""
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
