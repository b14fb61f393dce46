"""Nodes: the video nodes of this computer, and the USB devices behind them, read from sysfs.

sysfs needs no udev, and is there in containers too. Functions that take a `root`, the folder that
holds /sys and /dev, read files: call them in a worker thread.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mjrelay.configuration.address import V4l2Address

ROOT = Path("/")
"""The folder that holds /sys and /dev; tests have one of their own."""
# The characters of a serial number that udev writes as _ in the names of its links.
_ODD = re.compile(r"(?![\w#+.:=@-])[\x00-\x7f]")


@dataclass(frozen=True)
class UsbDevice:
    """A USB device, as its descriptors describe it.

    Attributes:
        sysfs: Its folder in /sys.
        port: Where it is plugged in, as the kernel writes it: `1-1.2`.
        vendor: The USB vendor id: four lower-case hexadecimal digits.
        product: The USB product id: four lower-case hexadecimal digits.
        serial: Its serial number. It may be empty, hold spaces, or be the same for every device of
            the model.
        model: Its name for people.
    """

    sysfs: Path
    port: str
    vendor: str
    product: str
    serial: str
    model: str

    @property
    def address(self) -> str:
        """A SOURCE that names it at any port: `usb:VVVV:PPPP`, and `:SERIAL` if it has one."""
        return ":".join(filter(None, ("usb", self.vendor, self.product, _cleaned(self.serial))))

    @property
    def bus_node(self) -> Path:
        """Its node in /dev/bus/usb, a new one each time it is plugged in. OSError: it is gone."""
        bus, number = (int((self.sysfs / name).read_text()) for name in ("busnum", "devnum"))
        return Path(f"/dev/bus/usb/{bus:03d}/{number:03d}")

    def is_there(self) -> bool:
        """Whether the device, or another one of the same model, is at its port now."""
        try:
            ids = _read(self.sysfs / "idVendor"), _read(self.sysfs / "idProduct")
        except OSError:
            return False
        return ids == (self.vendor, self.product)

    def is_like(self, other: "UsbDevice") -> bool:
        """Whether only the port distinguishes this device from another."""
        return replace(self, sysfs=other.sysfs, port=other.port, model=other.model) == other

    def goes_by(self, address: V4l2Address) -> bool:
        """Whether a `usb:` address names it. The serial may be written as in udev's links."""
        names = ("", self.serial, _cleaned(self.serial))
        return (self.vendor, self.product) == (address.vendor, address.product) and (
            address.serial in names
        )


@dataclass(frozen=True)
class VideoNode:
    """One video node. Most cameras have two, and only one of them gives pictures.

    Attributes:
        path: The path to open: `/dev/video0`.
        sysfs: Its folder in /sys.
        name: The driver's name for it.
        index: Its place among the nodes of the same device, from 0.
        number: The device number, which is `st_rdev` of the path.
        usb: The USB device behind it; None for cameras on other buses.
    """

    path: str
    sysfs: Path
    name: str
    index: int
    number: int
    usb: UsbDevice | None


def video_nodes(root: Path = ROOT) -> list[VideoNode]:
    """Every video node, whether or not it gives pictures, in the order of the device numbers."""
    nodes = (_node(entry, root) for entry in (root / "sys/class/video4linux").glob("video*"))
    return sorted(filter(None, nodes), key=lambda node: node.number)


def siblings(node: VideoNode, root: Path = ROOT) -> list[VideoNode]:
    """The other nodes of the same device, the likeliest to give pictures first."""
    if node.usb is None:
        return []
    return [other for other in nodes_of(node.usb, video_nodes(root)) if other != node]


def stable_name(node: VideoNode, root: Path = ROOT) -> str | None:
    """The SOURCE that will name this node after a reboot too; None if there is none.

    It is a link by id or a `usb:` address; if another camera has the same ids, a link by port.
    """
    nodes = video_nodes(root)
    usb = node.usb
    if usb and not any(usb.is_like(other) for other in devices_of(nodes) if other != usb):
        if link := _link("by-id", node.number, root):
            return link
        if node in nodes_of(usb, nodes)[:1]:
            return usb.address
    return _link("by-path", node.number, root)


def _node(entry: Path, root: Path) -> VideoNode | None:
    """Read one entry of /sys/class/video4linux; None if it vanishes meanwhile."""
    try:
        sysfs = entry.resolve(strict=True)
        major, minor = _read(sysfs / "dev").split(":")
        number = os.makedev(int(major), int(minor))
        return VideoNode(
            path=_path_of(number, sysfs.name, root),
            sysfs=sysfs,
            name=_read(sysfs / "name", sysfs.name),
            index=int(_read(sysfs / "index", "0")),
            number=number,
            usb=_usb_device(sysfs),
        )
    except (OSError, ValueError):
        return None


def _usb_device(sysfs: Path) -> UsbDevice | None:
    for parent in sysfs.parents:
        if (parent / "idVendor").exists():
            vendor, product = _read(parent / "idVendor"), _read(parent / "idProduct")
            model = _read(parent / "product", f"camera {vendor}:{product}")
            serial = _read(parent / "serial", "")
            return UsbDevice(parent, parent.name, vendor, product, serial, model)
    return None


def _path_of(number: int, name: str, root: Path) -> str:
    """The path of a device number. In a container its name may differ from the kernel's."""
    usual = f"/dev/{name}"
    others = (f"/dev/{path.name}" for path in sorted((root / "dev").glob("video*")))
    return next((path for path in (usual, *others) if _number(path, root) == number), usual)


def _number(path: str, root: Path) -> int | None:
    try:
        return under(root, path).stat().st_rdev
    except OSError:
        return None


def _link(kind: str, number: int, root: Path) -> str | None:
    links = (f"/dev/v4l/{kind}/{link.name}" for link in (root / "dev/v4l" / kind).glob("*"))
    return min((link for link in links if _number(link, root) == number), default=None)


def devices_of(nodes: Iterable[VideoNode]) -> list[UsbDevice]:
    """The USB devices to which these nodes belong, each once."""
    return list(dict.fromkeys(node.usb for node in nodes if node.usb))


def nodes_of(device: UsbDevice, nodes: Iterable[VideoNode]) -> list[VideoNode]:
    """Those of these nodes that belong to a device, the likeliest to give pictures first."""
    mine = (node for node in nodes if node.usb == device)
    return sorted(mine, key=lambda node: (node.index, node.number))


def _cleaned(text: str) -> str:
    return _ODD.sub("_", "_".join(text.split()))


def _read(path: Path, usual: str | None = None) -> str:
    """The text of a file in sysfs. If it is missing: `usual`, or OSError where that is None."""
    if usual is not None and not path.exists():
        return usual
    text = path.read_bytes().decode("utf-8", "replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def under(root: Path, path: str) -> Path:
    """An absolute path, moved below another root."""
    return root / path.lstrip("/")
