"""V4l2Source: a camera of this computer, followed wherever it is plugged in.

All that may block runs in the device's own thread, in order: so a close always comes behind an open
that was given up. Pictures are read in the event loop, when the kernel says that one is there.
"""

import asyncio
import gc
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import structlog

from mjrelay.address import V4l2Address
from mjrelay.config import CameraConfig
from mjrelay.devices import faults, modes, usb
from mjrelay.devices.capture import Capture
from mjrelay.devices.finding import find_node
from mjrelay.devices.holders import Search, find_holders
from mjrelay.devices.kmsg import recent_messages
from mjrelay.devices.modes import Mode, Wanted
from mjrelay.devices.nodes import UsbDevice, VideoNode, siblings, stable_name
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import (
    RemedyFailed,
    SourceBroken,
    SourceError,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.tally import Tally
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources import Source
from mjrelay.sources.controls import Controls

T = TypeVar("T")

# A camera that answers no control request costs the kernel 5 s for each (measured), and opening
# makes two that matter.
_OPEN_TIMEOUT = 15.0
# Closing is quick unless the camera is mute; then it goes on behind our back.
_CLOSE_TIMEOUT = 1.0
# 0.4 s usually; 95 s where the camera never answers again (both measured).
_RESET_TIMEOUT = 10.0
# The kernel suspends a USB camera that nobody has had open for two seconds, and wakes it at the
# next opening: the gentlest way to let it begin anew.
_SUSPENDED_AFTER = 2.5
# When a device has just appeared, udev needs a moment to hand it to group video: seconds, on a
# computer that is busy with starting.
_RIGHTS_TIMEOUT = 6.0
_LOOK_EVERY = 0.1
# Who holds a camera is looked up anew this often: it means reading all of /proc.
_SEARCH_EVERY = 10.0
_KERNEL_SAID_WITHIN = 10.0
# While nobody watches, so often is a picture encoded: to see that the camera lives, and to have
# one for a snapshot.
_UNWATCHED_EVERY = 1.0

log = structlog.get_logger()


class V4l2Source(Source):
    """Streams from a video device.

    Args:
        address: The device's path or USB ids.
        config: The camera's options.
    """

    silent_hint = "it is opened again, and reset if that does not help"
    stalled_hint = silent_hint

    def __init__(self, address: V4l2Address, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self.remedies = {Remedy.RELEASE: self._release}
        if config.usb_reset:
            self.remedies[Remedy.USB_RESET] = partial(self._reset, usb.reset)
            if os.geteuid() == 0:  # nobody else may
                self.remedies[Remedy.REAUTHORIZE] = partial(self._reset, usb.reauthorize)
        self._address = address
        self._max_frame = config.max_frame
        self._wanted = Wanted(config.size, config.fps, config.format)
        self._controls = Controls(config.controls)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"v4l2:{self.label}")
        self._ready = asyncio.Event()
        self._device: Capture | None = None
        self._node: VideoNode | None = None
        # The camera we streamed from, so that no other is taken for it.
        self._seen: UsbDevice | None = None
        self._searched_at = -math.inf
        self._search = Search((), hidden=False)
        self._facts: dict[str, Any] = {}
        self._told: set[str] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Claim the device, start it, and yield its images."""
        device = Capture()
        try:
            try:
                mode = await self._call(partial(self._start, device), within=_OPEN_TIMEOUT)
            except TimeoutError as error:
                raise SourceBroken(
                    f"the camera does not answer: the kernel has waited for {_OPEN_TIMEOUT:g} s",
                    "unplug it and plug it in again",
                ) from error
            self._device = device
            async with aclosing(self._images(device, mode)) as images:
                yield images
        finally:
            self._device = None
            await self._close(device)

    def facts(self) -> dict[str, Any]:
        """The device, its modes and the one in use."""
        return self._facts

    def hotplug(self, event: Hotplug) -> bool:
        """Look again, if it may be ours: at the device in use, or for one that we miss."""
        ours = self._node is None or event.path in ("", self._node.path)
        if ours:
            self._ready.set()
        return ours

    async def read_controls(self) -> dict[str, Any]:
        """Its settings, as the web shows them."""
        return await self._call(partial(self._controls.read, self._opened()))

    async def change_controls(self, values: Mapping[str, int]) -> None:
        """Set some, now and after every opening."""
        await self._call(partial(self._controls.change, self._opened(), values))

    def _opened(self) -> Capture:
        if self._device is None:
            raise SourceUnreachable("the camera is not open", "try again when it streams")
        return self._device

    # In the device's thread

    async def _call(self, work: Callable[[], T], *, within: float = _OPEN_TIMEOUT) -> T:
        """Do work that may block, in the device's thread.

        Raises:
            TimeoutError: It goes on there, and what is called next waits for its turn.
        """
        known = copy_context()  # so that what is logged there names the camera
        async with asyncio.timeout(within):
            return await asyncio.get_running_loop().run_in_executor(self._thread, known.run, work)

    async def _close(self, device: Capture) -> None:
        """Close behind whatever still runs in the thread; wait for it, but not for ever."""
        # Not cancelled when the wait is: it must happen in any case.
        closing = asyncio.wrap_future(self._thread.submit(device.close))
        await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT)

    def _start(self, device: Capture) -> Mode:
        """Find, open, configure and start the device."""
        node = self._open_node(device)
        mode, has = None, []
        try:
            has = device.modes(self._wanted.size)
            self._note_facts(device, node, has)
            chosen = modes.choose(has, self._wanted)
            if chosen is None:
                raise SourceRefused(
                    f"the camera has no mode {self._wanted}",
                    f"it has: {' | '.join(modes.listing(has)) or 'none'}",
                )
            mode, rate = chosen
            mode = device.configure(mode, rate)
            self._controls.apply(device)
            device.start()
        except OSError as error:
            device.close()  # or we would find ourselves among those who hold it
            raise self._explained(error, node, mode, has) from error
        self._seen, self.holders = node.usb, ()
        self._facts["mode"] = str(mode)
        self._suggest_name(node)
        return mode

    def _open_node(self, device: Capture) -> VideoNode:
        """Open the node that gives pictures; refuse one that was named and does not."""
        try:
            named = find_node(self._address, seen=self._seen)
        except SourceError:
            self._node, self.holders = None, ()
            raise
        self._node = named
        for node in [named, *siblings(named)]:
            try:
                captures = _open_when_allowed(device, node.path)
            except OSError as error:
                raise self._explained(error, node) from error
            if not captures:
                device.close()
                continue
            if self._address.path and node is not named:
                raise SourceRefused(
                    f"{self._address.path} gives no pictures: it holds the camera's metadata",
                    f"use {stable_name(node) or node.path}",
                )
            self._node = node
            return node
        raise SourceRefused(
            f"{named.path} ({named.name}) gives no pictures",
            "`mjrelay devices` lists the cameras",
        )

    def _explained(
        self,
        error: OSError,
        node: VideoNode,
        mode: Mode | None = None,
        has: list[Mode] | None = None,
    ) -> SourceError:
        """What an error of the device means; who holds it where it is busy."""
        if error.errno == faults.BUSY:
            self._look_for_holders(node)
            self.holders = self._search.holders
            return faults.busy(error, self._search)
        self.holders = ()
        if not os.path.exists(node.path):  # noqa: PTH110 - it is a text
            return faults.gone()
        about = (f"uvcvideo {node.usb.port}", f"usb {node.usb.port}") if node.usb else ("uvcvideo",)
        kernel = recent_messages(about, within=_KERNEL_SAID_WITHIN)
        return faults.explained(error, kernel=kernel, mode=mode, has=has or [])

    def _look_for_holders(self, node: VideoNode) -> None:
        """Search, unless those found lately are still there."""
        fresh = time.monotonic() - self._searched_at < _SEARCH_EVERY
        alive = [os.path.exists(f"/proc/{h.pid}") for h in self._search.holders]  # noqa: PTH110
        if not (fresh and alive and all(alive)):
            self._search = find_holders(node.number)
            self._searched_at = time.monotonic()

    def _note_facts(self, device: Capture, node: VideoNode, has: list[Mode]) -> None:
        self._facts = {
            "device": f"{node.path} ({device.card}, {device.driver})",
            "stable name": stable_name(node),
            "usb port": node.usb.port if node.usb else None,
            "modes": modes.listing(has),
        }

    def _suggest_name(self, node: VideoNode) -> None:
        """A bare number may be another camera's after the next start: say so once."""
        name = stable_name(node)
        if name and self._address.path.startswith("/dev/video") and "name" not in self._told:
            self._told.add("name")
            log.info("camera.stable_name", source=self.label, better=name)

    # Pictures

    async def _images(self, device: Capture, mode: Mode) -> AsyncGenerator[bytes, None]:
        node = self._node
        assert node
        passes_through = mode.format in modes.PASSED_THROUGH
        if not passes_through:
            self._tell_cost(mode)
        encoded_at = -math.inf
        while True:
            await self._until_ready(device)
            try:
                data = device.read()
            except OSError as error:
                raise await self._call(partial(self._explained, error, node, mode)) from error
            if data is None:
                continue
            if not data:
                self.tally.dropped["damaged"] += 1
            elif passes_through:
                for image in self._framed(data):
                    yield image
            elif len(data) != mode.width * mode.height * 2:
                self.tally.dropped["truncated"] += 1
            elif self.watched or time.monotonic() - encoded_at >= _UNWATCHED_EVERY:
                encoded_at = time.monotonic()
                yield await self._call(partial(_encode, data, mode.size))

    async def _until_ready(self, device: Capture) -> None:
        """Wait until the device has a picture, or an error, or hotplug says to look."""
        loop = asyncio.get_running_loop()
        self._ready.clear()
        loop.add_reader(device.fileno(), self._ready.set)
        try:
            await self._ready.wait()
        finally:
            loop.remove_reader(device.fileno())  # a dead device stays readable, and would spin

    def _framed(self, data: bytes) -> list[bytes]:
        """The image in one buffer, checked and mended. Each buffer stands for itself."""
        dropped = self.tally.dropped
        already = dropped.total()
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally)
        images = framer.feed(data) or framer.finish()
        if not images and dropped.total() == already:
            dropped["not_jpeg"] += 1
        return images[:1]

    def _tell_cost(self, mode: Mode) -> None:
        if "cost" not in self._told:
            self._told.add("cost")
            log.info(
                "source.encoding",
                mode=str(mode),
                cost="each picture is encoded here while somebody watches; MJPG would cost nothing",
            )

    # Remedies

    async def _release(self) -> None:
        """Let go of everything, and stay away until the kernel has put the camera to sleep."""
        gc.collect()  # a mapping kept alive by a traceback would hold the camera
        await asyncio.sleep(_SUSPENDED_AFTER)

    async def _reset(self, act: Callable[[UsbDevice], None]) -> None:
        """Make the device leave the bus and come back, and wait until it has."""
        device = self._node.usb if self._node else self._seen
        if device is None:
            raise RemedyFailed("it is no USB device, so it cannot be reset")
        try:
            await self._call(partial(act, device), within=_RESET_TIMEOUT)
            await self._call(self._await_node, within=_RIGHTS_TIMEOUT)
        except TimeoutError as error:
            raise RemedyFailed(
                f"the camera did not come back within {_RESET_TIMEOUT:g} s of a USB reset",
                "unplug it and plug it in again",
            ) from error

    def _await_node(self) -> None:
        until = time.monotonic() + _RIGHTS_TIMEOUT
        while time.monotonic() < until:
            try:
                find_node(self._address, seen=self._seen)
            except SourceError:
                time.sleep(_LOOK_EVERY)
            else:
                return


def _open_when_allowed(device: Capture, path: str) -> bool:
    """Open a node; one that has just appeared is given a moment until it may be."""
    while True:
        try:
            return device.open(path)
        except PermissionError:
            if abs(time.time() - os.stat(path).st_ctime) > _RIGHTS_TIMEOUT:  # noqa: PTH116
                raise
            time.sleep(_LOOK_EVERY)


def _encode(data: bytes, size: tuple[int, int]) -> bytes:
    from mjrelay import pictures  # noqa: PLC0415 - Pillow, only for who needs it

    return pictures.encode_yuyv(data, size)
