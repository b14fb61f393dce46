"""Opener: finds a video device, opens it, claims and starts it; or tells why that failed.

Every method may block, and is called in the device's thread.
"""

import math
import time
from typing import Any

import structlog

from mjrelay.configuration.address import V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices import failures, modes
from mjrelay.devices.capture import Capture
from mjrelay.devices.computer import Devices
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.modes import Mode, Wanted
from mjrelay.devices.nodes import UsbDevice, VideoNode
from mjrelay.devices.timing import Timing
from mjrelay.errors import SourceError, SourceRefused
from mjrelay.sources.v4l2.controls import Controls

log = structlog.get_logger()


class Opener:
    """Opens and starts the device of one address.

    Args:
        address: The device's path or USB ids.
        config: The camera's options.
        controls: The settings that the camera should have.
        devices: The devices of the computer.
        timing: How long to wait for the device.

    Attributes:
        node: The node that was found last; None if none was found.
        holders: The processes that have the device open and so keep mjrelay from it.
        facts: What was found, for `mjrelay probe`.
        seen: The device that was streamed from last. An address like /dev/video0, whose number may
            pass to another camera, leads to this device only.
        name_suggested: Whether a better address was logged.
    """

    def __init__(
        self,
        address: V4l2Address,
        config: CameraConfig,
        controls: Controls,
        devices: Devices,
        timing: Timing,
    ) -> None:
        self.node: VideoNode | None = None
        self.holders: tuple[Holder, ...] = ()
        self.facts: dict[str, Any] = {}
        self._address = address
        self._wanted_mode = Wanted(config.size, config.fps, config.format)
        self._controls = controls
        self._devices = devices
        self._timing = timing
        self.seen: UsbDevice | None = None
        self._searched_at = -math.inf
        self._found_holders = Holders((), hidden=False)
        self.name_suggested = False

    def inherit_from(self, before: "Opener") -> None:
        """Take over what the opener before a reload has learnt of the same address."""
        self.seen = before.seen
        self.name_suggested = before.name_suggested

    def start(self, device: Capture) -> Mode:
        """Find, open, configure and start the device. The caller closes it, whatever happens.

        Raises:
            SourceError: The device cannot be found or started.
        """
        node = self._open_node(device)
        has: list[Mode] = []
        mode: Mode | None = None
        try:
            has = device.modes(self._wanted_mode.size)
            name = self._devices.stable_name(node)
            self._note_facts(device, node, name, has)
            mode, rate = self._chosen(has)
            mode = device.configure(mode, rate)
            self._controls.apply(device)
            device.start()
        except OSError as error:
            raise self.explain(error, device, mode, has) from error
        self._tell_of_another_port(node)
        self.seen, self.holders = node.usb, ()
        self.facts["mode"] = str(mode)
        self._suggest(name, node)
        return mode

    def explain(
        self,
        error: OSError,
        device: Capture,
        mode: Mode | None = None,
        has: list[Mode] | None = None,
    ) -> SourceError:
        """The source error for a failed request. Closes the device first.

        If the device is busy, this searches for the processes that have it open.
        """
        device.close()  # or we would find ourselves among its holders
        node = self.node
        self.holders = ()
        if node is None or not self._devices.is_there(node):
            return failures.gone()
        if error.errno == failures.BUSY:
            self._look_for_holders(node)
            self.holders = self._found_holders.found
            return failures.busy(error, self._found_holders)
        about = (f"uvcvideo {node.usb.port}", f"usb {node.usb.port}") if node.usb else ("uvcvideo",)
        kernel = self._devices.kernel_messages(about, within=self._timing.kernel_said_within)
        return failures.source_error(error, kernel=kernel, mode=mode, has=has or [])

    def find(self, seen: UsbDevice | None = None) -> VideoNode:
        """Find the node that the address names now. Raises SourceError if there is none.

        Args:
            seen: The device that should be behind it; by default the one streamed from last.
        """
        return self._devices.find(self._address, seen=seen or self.seen)

    def _open_node(self, device: Capture) -> VideoNode:
        """Open the node that gives pictures. Refuse a path to another node of the same device."""
        self.node, self.holders = None, ()
        named = self.find()
        for node in [named, *self._devices.siblings(named)]:
            self.node = node
            try:
                gives_pictures = self._open_when_allowed(device, node)
            except OSError as error:
                raise self.explain(error, device) from error
            if not gives_pictures:
                device.close()
            elif self._address.path and node is not named:
                raise SourceRefused(
                    f"{self._address.path} gives no pictures: it holds the camera's metadata",
                    f"use {self._devices.stable_name(node) or node.path}",
                )
            else:
                return node
        raise SourceRefused(
            f"{named.path} ({named.name}) gives no pictures",
            "`mjrelay devices` lists the cameras",
        )

    def _open_when_allowed(self, device: Capture, node: VideoNode) -> bool:
        """Open a node. If it has just appeared, wait until udev allows us to."""
        while True:
            try:
                return device.open(node.path)
            except PermissionError:
                if self._devices.age(node) > self._timing.rights_timeout:
                    raise
                time.sleep(self._timing.look_every)

    def _chosen(self, has: list[Mode]) -> tuple[Mode, float | None]:
        chosen = modes.choose(has, self._wanted_mode)
        if chosen is None:
            raise SourceRefused(
                f"the camera has no mode {self._wanted_mode}",
                f"it has: {' | '.join(modes.listing(has)) or 'none'}",
            )
        return chosen

    def _look_for_holders(self, node: VideoNode) -> None:
        """Search for holders, unless those of a recent search still have the device."""
        is_fresh = time.monotonic() - self._searched_at < self._timing.search_every
        known = self._found_holders.found
        still = [self._devices.still_holds(holder, node.number) for holder in known]
        if not (is_fresh and still and all(still)):
            self._found_holders = self._devices.holders(node.number)
            self._searched_at = time.monotonic()

    def _note_facts(
        self, device: Capture, node: VideoNode, name: str | None, has: list[Mode]
    ) -> None:
        self.facts = {
            "device": f"{node.path} ({device.card}, {device.driver})",
            "stable name": name,
            "usb port": node.usb.port if node.usb else None,
            "modes": modes.listing(has),
        }

    def _tell_of_another_port(self, node: VideoNode) -> None:
        """Log that the camera is at another port: it might be another one of the same model."""
        if self.seen and node.usb and node.usb.port != self.seen.port:
            log.info("camera.moved", port=node.usb.port, was=self.seen.port, now=node.path)

    def _suggest(self, name: str | None, node: VideoNode) -> None:
        """Log a better address, once: /dev/videoN may be another camera after a reboot."""
        if name and self._address.path.startswith("/dev/video") and not self.name_suggested:
            self.name_suggested = True
            log.info("camera.stable_name", source=self._address.label, better=name, now=node.path)
