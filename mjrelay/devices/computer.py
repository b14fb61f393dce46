"""Devices: everything we ask of the computer about its cameras, in one class."""

import time
from collections.abc import Sequence
from pathlib import Path

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices import finding, holders, kmsg, nodes, usb
from mjrelay.devices.capture import Capture
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.nodes import UsbDevice, VideoNode


class Devices:
    """The video devices of this computer. Every method may block: call it in a worker thread.

    Tests replace it by one whose devices follow a script.
    """

    def nodes(self) -> list[VideoNode]:
        """Every video node, whether or not it gives pictures."""
        return nodes.video_nodes()

    def find(self, address: V4l2Address, *, seen: UsbDevice | None = None) -> VideoNode:
        """The node that an address names now: see `finding.find_node`, also for its errors."""
        return finding.find_node(address, seen=seen)

    def siblings(self, node: VideoNode) -> list[VideoNode]:
        """The other nodes of the same device, the likeliest to give pictures first."""
        return nodes.siblings(node)

    def stable_name(self, node: VideoNode) -> str | None:
        """A SOURCE that will name this node after a reboot too; None if there is none."""
        return nodes.stable_name(node)

    def is_there(self, node: VideoNode) -> bool:
        """Whether a node still exists."""
        return Path(node.path).exists()

    def age(self, node: VideoNode) -> float:
        """Seconds since a node was made or its rights changed. Raises OSError if it is gone."""
        return abs(time.time() - Path(node.path).stat().st_ctime)

    def capture(self) -> Capture:
        """A new `Capture`, which has nothing open yet."""
        return Capture()

    def holders(self, number: int) -> Holders:
        """The processes that have a device number open or mapped, ours included."""
        return holders.find_holders(number)

    def still_holds(self, holder: Holder, number: int) -> bool:
        """Whether a process that had a device number still has it."""
        return holders.still_holds(holder, number)

    def kernel_messages(self, about: Sequence[str], *, within: float) -> list[str]:
        """The kernel's warnings of the last `within` seconds about these devices."""
        return kmsg.recent_messages(about, within=within)

    def reset(self, device: UsbDevice) -> None:
        """Reset a device's USB port. Raises RemedyFailed."""
        usb.reset(device)

    def reauthorize(self, device: UsbDevice) -> None:
        """Log a device off its bus and on again. Raises RemedyFailed."""
        usb.reauthorize(device)
