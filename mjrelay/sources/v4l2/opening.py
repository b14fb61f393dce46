"""Opener: find a video device, open it, make it ours; and say why that cannot be.

All of it may block: it runs in the device's thread.
"""

import math
import os
import time
from pathlib import Path
from typing import Any

import structlog

from mjrelay.configuration.address import V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices import failures, modes
from mjrelay.devices.capture import Capture
from mjrelay.devices.finding import find_node
from mjrelay.devices.holders import Holder, Search, find_holders, still_holds
from mjrelay.devices.kmsg import recent_messages
from mjrelay.devices.modes import Mode, Wanted
from mjrelay.devices.nodes import UsbDevice, VideoNode, siblings, stable_name
from mjrelay.errors import SourceError, SourceRefused
from mjrelay.sources.v4l2.controls import Controls

# When a device has just appeared, udev needs a moment to hand it to group video: seconds, on a
# computer that is busy with starting.
_RIGHTS_TIMEOUT = 6.0
_LOOK_EVERY = 0.1
# Who holds a camera is looked up anew this often: it means reading all of /proc.
_SEARCH_EVERY = 10.0
_KERNEL_SAID_WITHIN = 10.0

log = structlog.get_logger()


class Opener:
    """One address's way to a device that streams.

    Args:
        address: The device's path or USB ids.
        config: The camera's options.
        controls: Its settings as they should be.

    Attributes:
        node: The node found latest; None while there is none.
        holders: Which processes have the device, while that keeps us from it.
        facts: What was found, for `mjrelay probe`.
    """

    def __init__(self, address: V4l2Address, config: CameraConfig, controls: Controls) -> None:
        self.node: VideoNode | None = None
        self.holders: tuple[Holder, ...] = ()
        self.facts: dict[str, Any] = {}
        self._address = address
        self._wanted = Wanted(config.size, config.fps, config.format)
        self._controls = controls
        # The camera we streamed from: a bare number is followed to it, and to no other.
        self._seen: UsbDevice | None = None
        self._searched_at = -math.inf
        self._search = Search((), hidden=False)
        self._name_told = False

    def start(self, device: Capture) -> Mode:
        """Find, open, configure and start the device. The caller closes it, whatever happens.

        Raises:
            SourceError: With what is in the way.
        """
        node = self._open_node(device)
        has: list[Mode] = []
        mode: Mode | None = None
        try:
            has = device.modes(self._wanted.size)
            self._note_facts(device, node, has)
            mode, rate = self._chosen(has)
            mode = device.configure(mode, rate)
            self._controls.apply(device)
            device.start()
        except OSError as error:
            raise self.explained(error, device, mode, has) from error
        self._tell_of_another_port(node)
        self._seen, self.holders = node.usb, ()
        self.facts["mode"] = str(mode)
        self._suggest_name(node)
        return mode

    def explained(
        self,
        error: OSError,
        device: Capture,
        mode: Mode | None = None,
        has: list[Mode] | None = None,
    ) -> SourceError:
        """What an error of the device means, who holds it where it is busy. Closes the device."""
        device.close()  # or we would find ourselves among those who hold it
        node = self.node
        self.holders = ()
        if node is None or not Path(node.path).exists():
            return failures.gone()
        if error.errno == failures.BUSY:
            self._look_for_holders(node)
            self.holders = self._search.holders
            return failures.busy(error, self._search)
        about = (f"uvcvideo {node.usb.port}", f"usb {node.usb.port}") if node.usb else ("uvcvideo",)
        kernel = recent_messages(about, within=_KERNEL_SAID_WITHIN)
        return failures.explained(error, kernel=kernel, mode=mode, has=has or [])

    def find(self, seen: UsbDevice | None = None) -> VideoNode:
        """The node there is now. Raises SourceError while there is none.

        Args:
            seen: The device it was behind, where that is known better than by us.
        """
        return find_node(self._address, seen=seen or self._seen)

    def _open_node(self, device: Capture) -> VideoNode:
        """Open the node that gives pictures; refuse one that was named and does not."""
        self.node, self.holders = None, ()
        named = self.find()
        for node in [named, *siblings(named)]:
            self.node = node
            try:
                captures = _open_when_allowed(device, node.path)
            except OSError as error:
                raise self.explained(error, device) from error
            if not captures:
                device.close()
            elif self._address.path and node is not named:
                raise SourceRefused(
                    f"{self._address.path} gives no pictures: it holds the camera's metadata",
                    f"use {stable_name(node) or node.path}",
                )
            else:
                return node
        raise SourceRefused(
            f"{named.path} ({named.name}) gives no pictures",
            "`mjrelay devices` lists the cameras",
        )

    def _chosen(self, has: list[Mode]) -> tuple[Mode, float | None]:
        chosen = modes.choose(has, self._wanted)
        if chosen is None:
            raise SourceRefused(
                f"the camera has no mode {self._wanted}",
                f"it has: {' | '.join(modes.listing(has)) or 'none'}",
            )
        return chosen

    def _look_for_holders(self, node: VideoNode) -> None:
        """Search, unless those found lately are still there."""
        fresh = time.monotonic() - self._searched_at < _SEARCH_EVERY
        still = [still_holds(holder, node.number) for holder in self._search.holders]
        if not (fresh and still and all(still)):
            self._search = find_holders(node.number)
            self._searched_at = time.monotonic()

    def _note_facts(self, device: Capture, node: VideoNode, has: list[Mode]) -> None:
        self.facts = {
            "device": f"{node.path} ({device.card}, {device.driver})",
            "stable name": stable_name(node),
            "usb port": node.usb.port if node.usb else None,
            "modes": modes.listing(has),
        }

    def _tell_of_another_port(self, node: VideoNode) -> None:
        """Nothing but the port tells some cameras from their twins."""
        if self._seen and node.usb and node.usb.port != self._seen.port:
            log.info("camera.moved", port=node.usb.port, was=self._seen.port, now=node.path)

    def _suggest_name(self, node: VideoNode) -> None:
        """A bare number may be another camera's after the next start: say so once."""
        name = self.facts["stable name"]
        if name and self._address.path.startswith("/dev/video") and not self._name_told:
            self._name_told = True
            log.info("camera.stable_name", source=self._address.label, better=name, now=node.path)


def _open_when_allowed(device: Capture, path: str) -> bool:
    """Open a node; one that has just appeared is given a moment until it may be."""
    while True:
        try:
            return device.open(path)
        except PermissionError:
            if abs(time.time() - os.stat(path).st_ctime) > _RIGHTS_TIMEOUT:  # noqa: PTH116
                raise
            time.sleep(_LOOK_EVERY)
