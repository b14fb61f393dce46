"""Devices: all that is asked of the computer which cameras are plugged into, in one list."""

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

    Tests hand in another computer, whose devices follow a script.
    """

    def nodes(self) -> list[VideoNode]:
        """Every video node there is, whether or not it gives pictures."""
        return nodes.video_nodes()

    def find(self, address: V4l2Address, *, seen: UsbDevice | None = None) -> VideoNode:
        """The node an address names now; `seen` is the device we streamed from before.

        Raises:
            SourceError: There is none.
        """
        return finding.find_node(address, seen=seen)

    def siblings(self, node: VideoNode) -> list[VideoNode]:
        """The other nodes of the same device, the likeliest to give pictures first."""
        return nodes.siblings(node)

    def stable_name(self, node: VideoNode) -> str | None:
        """What to write into a configuration, so that it means this node after a reboot too."""
        return nodes.stable_name(node)

    def is_there(self, node: VideoNode) -> bool:
        """Whether a node has not vanished."""
        return Path(node.path).exists()

    def age(self, node: VideoNode) -> float:
        """Seconds since a node was made, or its rights were changed. Raises OSError if gone."""
        return abs(time.time() - Path(node.path).stat().st_ctime)

    def capture(self) -> Capture:
        """A way to open a node; nothing is open yet."""
        return Capture()

    def holders(self, number: int) -> Holders:
        """The processes that have a device number open or mapped, ours included."""
        return holders.find_holders(number)

    def still_holds(self, holder: Holder, number: int) -> bool:
        """Whether a process that had a device number still has it."""
        return holders.still_holds(holder, number)

    def kernel_messages(self, about: Sequence[str], *, within: float) -> list[str]:
        """What the kernel complained of in the last seconds about things with these names."""
        return kmsg.recent_messages(about, within=within)

    def reset(self, device: UsbDevice) -> None:
        """Reset a device's USB port. Raises RemedyFailed."""
        usb.reset(device)

    def reauthorize(self, device: UsbDevice) -> None:
        """Log a device off its bus and on again. Raises RemedyFailed."""
        usb.reauthorize(device)
