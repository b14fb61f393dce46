"""Finding: which video node an address means now, and what to say when there is none.

Reads files: call it in a worker thread.
"""

import os
import re
import stat
from pathlib import Path

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.nodes import (
    ROOT,
    UsbDevice,
    VideoNode,
    devices_of,
    nodes_of,
    stable_name,
    under,
    video_nodes,
)
from mjrelay.errors import SourceRefused, SourceUnreachable

_V4L_MAJOR = 81
# A hint names at most this many cameras, since it must fit into the offline picture.
_MOST_NAMED = 4
# The kernel gives these names by order of arrival: tomorrow one may belong to another camera.
_NUMBERED = re.compile(r"/dev/video\d+")


def find_node(
    address: V4l2Address, *, seen: UsbDevice | None = None, root: Path = ROOT
) -> VideoNode:
    """The node that an address names now.

    A `usb:` address leads to the first of the device's nodes; `siblings` gives the others. A path
    leads to the node that is there; but a plain /dev/videoN, of which another camera may have got
    the number, leads to the camera that was there before.

    Args:
        address: The path or USB ids in the configuration.
        seen: The USB device that was streamed from before, if any.
        root: The folder that holds /sys and /dev.

    Raises:
        SourceUnreachable: The camera is not there, or the address fits several cameras.
        SourceRefused: The address names something other than a camera.
    """
    if not address.path:
        return _find_usb(address, seen, root)
    if seen and _NUMBERED.fullmatch(address.path):
        return _follow(address.path, seen, root)
    return node_at(address.path, root)


def node_at(path: str, root: Path = ROOT) -> VideoNode:
    """The node that a path leads to, be it a node itself or a link.

    Raises:
        SourceUnreachable: Nothing is at the path, or a node whose camera is gone.
        SourceRefused: Something other than a camera is there.
    """
    try:
        status = under(root, path).stat()
    except OSError as error:
        raise SourceUnreachable(f"{path} is not there", _cameras_there(root)) from error
    number = status.st_rdev if stat.S_ISCHR(status.st_mode) else 0
    for node in video_nodes(root):
        if node.number == number:
            return node
    # In a container, a node that was handed in stays when its camera is unplugged.
    if os.major(number) == _V4L_MAJOR:
        raise SourceUnreachable(f"there is no camera behind {path}", _cameras_there(root))
    raise SourceRefused(f"{path} is not a camera", _cameras_there(root))


def _find_usb(address: V4l2Address, seen: UsbDevice | None, root: Path) -> VideoNode:
    nodes = video_nodes(root)
    matching = [device for device in devices_of(nodes) if device.goes_by(address)]
    at_same_port = [device for device in matching if seen and device.port == seen.port]
    chosen = at_same_port or matching
    if not chosen:
        raise SourceUnreachable(f"{address.label} is not there", _cameras_there(root))
    first_nodes = [nodes_of(device, nodes)[0] for device in chosen]
    if len(first_nodes) > 1:
        ports = " and ".join(device.port for device in chosen)
        names = [stable_name(node, root) or node.path for node in first_nodes]
        raise SourceUnreachable(
            f"several cameras are {address.label}, at the USB ports {ports}",
            f"choose one by its port: {' or '.join(names)}",
        )
    return first_nodes[0]


def _follow(path: str, seen: UsbDevice, root: Path) -> VideoNode:
    """The node of the camera that had a /dev/videoN before, under whatever number it has now."""
    try:
        here = node_at(path, root)
    except SourceUnreachable:
        here = None
    nodes = video_nodes(root)
    ours = [device for device in devices_of(nodes) if device.is_like(seen)]
    at_same_port = [device for device in ours if device.port == seen.port]
    if here and here.usb and here.usb in (at_same_port or ours):
        return here
    # At another port, only a serial number distinguishes our camera from others of its model.
    found = at_same_port or [device for device in ours if device.serial]
    if len(found) == 1:
        return nodes_of(found[0], nodes)[0]
    if here is None:
        return node_at(path, root)  # raises the error for that
    other = here.usb.model if here.usb else here.name
    raise SourceUnreachable(
        f"another camera ({other}) is at {path} now",
        f"plug {seen.model} in again, or restart mjrelay to use the other one",
    )


def _cameras_there(root: Path) -> str:
    """A hint that names the cameras which are plugged in."""
    nodes = video_nodes(root)
    # USB only: a Raspberry Pi has a dozen other nodes, which belong to its codecs.
    first_nodes = [n for n in nodes if n.usb and n == nodes_of(n.usb, nodes)[0]]
    names = [stable_name(node, root) or node.path for node in first_nodes][:_MOST_NAMED]
    if not names:
        return "plug the camera in; `mjrelay devices` lists those that are there"
    return f"plug the camera in, or use one that is there: {', '.join(names)}"
