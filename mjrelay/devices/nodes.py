"""Which capture devices there are, read from sysfs: no udev needed, and containers have it too.

Every function takes the `root` under which /sys and /dev are found, and reads files: call them in
a worker thread.
"""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mjrelay.address import V4l2Address
from mjrelay.errors import SourceRefused, SourceUnreachable

_ROOT = Path("/")
_V4L_MAJOR = 81
# A hint is drawn into the offline picture: some boards have twenty nodes.
_MOST_NAMED = 4
# A name the kernel hands out by order of arrival: it may belong to another camera tomorrow.
_NUMBERED = re.compile(r"/dev/video\d+")
# What udev writes as _ where it makes a link of a serial number.
_ODD = re.compile(r"(?![\w#+.:=@-])[\x00-\x7f]")


@dataclass(frozen=True)
class UsbDevice:
    """A USB device, as its descriptors tell.

    Attributes:
        sysfs: Its directory in /sys.
        port: Where it is plugged in, as the kernel writes it: `1-1.2`.
        vendor: Four lower-case hexadecimal digits; so is `product`.
        serial: May be empty, hold spaces, or be the same for every device of its model.
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
        """The SOURCE that names it at any port: `usb:VVVV:PPPP`, then `:SERIAL` if it has one."""
        return ":".join(filter(None, ("usb", self.vendor, self.product, _cleaned(self.serial))))

    @property
    def bus_node(self) -> Path:
        """Its node in /dev/bus/usb; another one after every plugging in. Raises OSError if gone."""
        bus, number = (int((self.sysfs / name).read_text()) for name in ("busnum", "devnum"))
        return Path(f"/dev/bus/usb/{bus:03d}/{number:03d}")

    def is_there(self) -> bool:
        """Whether it, or one of its model, is at its port now."""
        try:
            ids = _read(self.sysfs / "idVendor"), _read(self.sysfs / "idProduct")
        except OSError:
            return False
        return ids == (self.vendor, self.product)

    def is_like(self, other: "UsbDevice") -> bool:
        """Whether nothing but the port tells the two apart."""
        return replace(self, sysfs=other.sysfs, port=other.port, model=other.model) == other

    def goes_by(self, address: V4l2Address) -> bool:
        """Whether a `usb:` address names it, its serial as it is or as udev's links write it."""
        names = ("", self.serial, _cleaned(self.serial))
        return (self.vendor, self.product) == (address.vendor, address.product) and (
            address.serial in names
        )


@dataclass(frozen=True)
class VideoNode:
    """One node of a camera. Most have two, and only one of them captures.

    Attributes:
        path: What to open: `/dev/video0`.
        sysfs: Its directory in /sys.
        name: What its driver calls it.
        index: Which of its device's nodes it is, from 0.
        number: The device number, as `st_rdev` of the path has it.
        usb: The USB device behind it; None for cameras on other buses.
    """

    path: str
    sysfs: Path
    name: str
    index: int
    number: int
    usb: UsbDevice | None


def video_nodes(root: Path = _ROOT) -> list[VideoNode]:
    """Every video node the kernel has, capturing or not, by device number."""
    nodes = (_node(entry, root) for entry in (root / "sys/class/video4linux").glob("video*"))
    return sorted(filter(None, nodes), key=lambda node: node.number)


def siblings(node: VideoNode, root: Path = _ROOT) -> list[VideoNode]:
    """The other nodes of the same device, the likeliest to capture first."""
    if node.usb is None:
        return []
    return [other for other in _nodes_of(node.usb, video_nodes(root)) if other != node]


def stable_name(node: VideoNode, root: Path = _ROOT) -> str | None:
    """The SOURCE that will name this node after a reboot too; None if there is none.

    A link by id or a `usb:` address as long as no second camera has the same, else the link by
    port.
    """
    nodes = video_nodes(root)
    usb = node.usb
    if usb and not any(usb.is_like(other) for other in _devices(nodes) if other != usb):
        if link := _link("by-id", node.number, root):
            return link
        if node in _nodes_of(usb, nodes)[:1]:
            return usb.address
    return _link("by-path", node.number, root)


def node_at(path: str, root: Path = _ROOT) -> VideoNode:
    """The node a path in /dev leads to, whatever the path is called.

    Raises:
        SourceUnreachable: There is nothing, or a node whose camera is gone.
        SourceRefused: There is something else.
    """
    try:
        status = _under(root, path).stat()
    except OSError as error:
        raise SourceUnreachable(f"{path} is not there", _who_is_there(root)) from error
    number = status.st_rdev if stat.S_ISCHR(status.st_mode) else 0
    for node in video_nodes(root):
        if node.number == number:
            return node
    # What a container was given stays there when the camera goes.
    if os.major(number) == _V4L_MAJOR:
        raise SourceUnreachable(f"there is no camera behind {path}", _who_is_there(root))
    raise SourceRefused(f"{path} is not a camera", _who_is_there(root))


def find_node(
    address: V4l2Address, *, seen: UsbDevice | None = None, root: Path = _ROOT
) -> VideoNode:
    """The node an address names now.

    A `usb:` address leads to the first of the device's nodes; `siblings` has the rest. A link is
    trusted. A bare /dev/videoN is followed to the camera that was there before.

    Args:
        address: What the configuration says.
        seen: The USB device this source streamed from before.
        root: Where /sys and /dev are found.

    Raises:
        SourceUnreachable: It is not there, or several cameras answer to the address.
        SourceRefused: The address names something else than a camera.
    """
    if not address.path:
        return _find_usb(address, seen, root)
    if seen and _NUMBERED.fullmatch(address.path):
        return _follow(address.path, seen, root)
    return node_at(address.path, root)


def _find_usb(address: V4l2Address, seen: UsbDevice | None, root: Path) -> VideoNode:
    nodes = video_nodes(root)
    matching = [device for device in _devices(nodes) if device.goes_by(address)]
    at_home = [device for device in matching if seen and device.port == seen.port]
    chosen = at_home or matching
    if not chosen:
        raise SourceUnreachable(f"{address.label} is not there", _who_is_there(root))
    firsts = [_nodes_of(device, nodes)[0] for device in chosen]
    if len(firsts) > 1:
        ports = " and ".join(device.port for device in chosen)
        names = [stable_name(node, root) or node.path for node in firsts]
        raise SourceUnreachable(
            f"several cameras are {address.label}, at the USB ports {ports}",
            f"choose one by its port: {' or '.join(names)}",
        )
    return firsts[0]


def _follow(path: str, seen: UsbDevice, root: Path) -> VideoNode:
    """The camera that was at a number before: there, or wherever it is now."""
    try:
        here = node_at(path, root)
    except SourceUnreachable:
        here = None
    nodes = video_nodes(root)
    ours = [device for device in _devices(nodes) if device.is_like(seen)]
    at_home = [device for device in ours if device.port == seen.port]
    if here and here.usb and here.usb in (at_home or ours):
        return here
    # At another port only a serial number tells it from its twins.
    found = at_home or [device for device in ours if device.serial]
    if len(found) == 1:
        return _nodes_of(found[0], nodes)[0]
    if here is None:
        return node_at(path, root)  # which says so
    other = here.usb.model if here.usb else here.name
    raise SourceUnreachable(
        f"another camera ({other}) is at {path} now",
        f"plug {seen.model} in again, or restart mjrelay to use the other one",
    )


def _node(entry: Path, root: Path) -> VideoNode | None:
    """Read one entry of /sys/class/video4linux; None if it went away meanwhile."""
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
    """The path with a device number. A container may call it otherwise than the kernel does."""
    usual = f"/dev/{name}"
    others = (f"/dev/{path.name}" for path in sorted((root / "dev").glob("video*")))
    return next((path for path in (usual, *others) if _number(path, root) == number), usual)


def _number(path: str, root: Path) -> int | None:
    try:
        return _under(root, path).stat().st_rdev
    except OSError:
        return None


def _link(kind: str, number: int, root: Path) -> str | None:
    links = (f"/dev/v4l/{kind}/{link.name}" for link in (root / "dev/v4l" / kind).glob("*"))
    return min((link for link in links if _number(link, root) == number), default=None)


def _devices(nodes: Iterable[VideoNode]) -> list[UsbDevice]:
    return list(dict.fromkeys(node.usb for node in nodes if node.usb))


def _nodes_of(device: UsbDevice, nodes: Iterable[VideoNode]) -> list[VideoNode]:
    mine = (node for node in nodes if node.usb == device)
    return sorted(mine, key=lambda node: (node.index, node.number))


def _who_is_there(root: Path) -> str:
    """The cameras that are there, as a hint."""
    nodes = video_nodes(root)
    # Not those of other buses: a Raspberry Pi has a dozen, of its codecs.
    firsts = [n for n in nodes if n.usb and n == _nodes_of(n.usb, nodes)[0]]
    names = [stable_name(node, root) or node.path for node in firsts][:_MOST_NAMED]
    if not names:
        return "plug the camera in; `mjrelay devices` lists those that are there"
    return f"plug the camera in, or use one that is there: {', '.join(names)}"


def _cleaned(text: str) -> str:
    return _ODD.sub("_", "_".join(text.split()))


def _read(path: Path, usual: str | None = None) -> str:
    """One line of sysfs. What is missing there is as `usual`, or raises OSError."""
    if usual is not None and not path.exists():
        return usual
    text = path.read_bytes().decode("utf-8", "replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
