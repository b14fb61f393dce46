"""A computer with cameras, made of files: /sys and /dev below a temporary folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path

# Devices every computer has stand for the cameras: making real ones takes root.
STAND_INS = ("null", "zero", "full", "random", "urandom")


def open_files() -> int:
    """How many descriptors we have open."""
    return len([*Path("/proc/self/fd").iterdir()])


def device_number(name: str) -> int:
    return Path("/dev", name).stat().st_rdev


@dataclass
class Tree:
    """The folder, and which device stands for which node."""

    root: Path
    numbers: dict[str, int] = field(default_factory=dict)

    def usb(
        self, port: str, *, ids: str = "046d:0825", serial: str = "A B", model: str = "Webcam C270"
    ) -> Path:
        """Plug in a USB device without video nodes as yet."""
        device = self.root / "sys/devices/pci0000:00/usb1" / port
        device.mkdir(parents=True)
        vendor, product = ids.split(":")
        files = {
            "idVendor": vendor,
            "idProduct": product,
            "busnum": "1",
            "devnum": "7",
            "authorized": "1",
            "product": model,
            "serial": serial,
        }
        for name, text in files.items():
            if text:
                (device / name).write_text(text + "\n")
        return device

    def node(self, name: str, parent: Path | None = None, *, index: int = 0) -> str:
        """Add a video node below a device, or one that has none."""
        parent = parent or self.root / "sys/devices/virtual"
        directory = parent / "video4linux" / name
        directory.mkdir(parents=True)
        stand_in = STAND_INS[len(self.numbers)]
        number = self.numbers[name] = device_number(stand_in)
        (directory / "dev").write_text(f"{os.major(number)}:{os.minor(number)}\n")
        (directory / "index").write_text(f"{index}\n")
        (directory / "name").write_text(f"driver's {name}\n")
        entry = self.root / "sys/class/video4linux" / name
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.symlink_to(directory)
        self.link(f"/dev/{name}", f"/dev/{stand_in}")
        return f"/dev/{name}"

    def camera(self, port: str, *names: str, **usb: str) -> Path:
        """Plug in a camera with some nodes, each on the device's first interface."""
        device = self.usb(port, **usb)
        for index, name in enumerate(names):
            self.node(name, device / f"{port}:1.0", index=index)
        return device

    def link(self, path: str, target: str) -> str:
        """Make a link, as udev does, or a node."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
        return path

    def unplug(self, name: str) -> None:
        """Remove a node, as the kernel and udev do."""
        (self.root / "sys/class/video4linux" / name).unlink()
        (self.root / "dev" / name).unlink()
