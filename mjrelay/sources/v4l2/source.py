"""V4l2Source: a camera of this computer, followed wherever it is plugged in.

All calls that may block are made in the device's own thread, one after the other. So the device is
never closed before an opening that we stopped waiting for has ended. Buffers are read in the event
loop, when the kernel says that one is filled.
"""

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import structlog

from mjrelay.configuration.address import V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices import modes
from mjrelay.devices.capture import Buffer, Capture
from mjrelay.devices.computer import Devices
from mjrelay.devices.holders import Holder
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import UsbDevice
from mjrelay.devices.resetting import reset_unless_held
from mjrelay.devices.timing import USUAL, Timing
from mjrelay.devices.udev import Hotplug
from mjrelay.devices.worker import Worker
from mjrelay.errors import RemedyFailed, SourceBroken, SourceUnreachable, Tally
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.walk import plain_image
from mjrelay.recovery.ladder import Remedy
from mjrelay.service.systemd import Kept
from mjrelay.sources import Show, Source, Stream
from mjrelay.sources.v4l2.controls import Controls, Setting
from mjrelay.sources.v4l2.encoding import Encoder
from mjrelay.sources.v4l2.opening import Opener
from mjrelay.sources.v4l2.reading import Reader, ReadFailed

T = TypeVar("T")

_REPLUG = "unplug it and plug it in again"

log = structlog.get_logger()


class V4l2Source(Source):
    """Streams from a video device.

    Args:
        address: The device's path or USB ids.
        config: The camera's options.
        kept: The descriptor of the device that systemd keeps from one process to the next.
        devices: The devices of the computer; tests hand in their own.
        timing: How long to wait for the device.

    Attributes:
        address: The device's path or USB ids. After a reload, the new source of the same address
            takes over the other attributes.
        controls: The settings that the camera should have.
        opener: Finds, opens and starts the device.
        worker: The device's thread.
        cost_told: Whether it was logged that pictures are encoded.
    """

    def __init__(
        self,
        address: V4l2Address,
        config: CameraConfig,
        kept: Kept | None = None,
        *,
        devices: Devices | None = None,
        timing: Timing = USUAL,
    ) -> None:
        self.label = address.label
        self.tally = Tally()
        # Time to open, to show the first image, to explain a failure, and to close.
        self.patience = 2 * timing.open_timeout + timing.close_timeout + config.first_frame_timeout
        self.address = address
        self._devices = devices or Devices()
        self._timing = timing
        self._offer_remedies(config)
        # At least twice per stall timeout: a camera that nobody watches must not look silent.
        self._unwatched_every = min(timing.unwatched_every, config.stall_timeout / 2)
        self._kept = kept or Kept()
        self._max_frame = config.max_frame
        self.controls = Controls(config.controls)
        self.opener = Opener(address, config, self.controls, self._devices, timing)
        self.worker = Worker(f"v4l2:{self.label}")
        self._reader: Reader | None = None
        self._device: Capture | None = None
        # Held from looking at `_current` until what follows from it is done: the event loop and the
        # device's thread both do that.
        self._kept_lock = threading.Lock()
        # The device being opened, or open; None once `open` was left.
        self._current: Capture | None = None
        self.cost_told = False
        self._watched = False
        self._handing_over = False

    def _offer_remedies(self, config: CameraConfig) -> None:
        self.remedies = {Remedy.RELEASE: self._release}
        if config.usb_reset:
            self.remedies[Remedy.USB_RESET] = partial(self._reset, self._devices.reset)
            if os.geteuid() == 0:  # nobody else may
                self.remedies[Remedy.REAUTHORIZE] = partial(self._reset, self._devices.reauthorize)
            self.resets_per_hour = config.usb_resets_per_hour
            by_itself = "does it by itself while it runs"
        else:
            self.no_reset_hint = "usb_reset = false forbids it"
            by_itself = "must not (usb_reset)"
        self.resets_from_others = config.usb_reset == "force"
        self.silent_hint = f"a reset may help: mjrelay {by_itself}, or: mjrelay reset {self.label}"
        self.stalled_hint = self.silent_hint

    def inherit_from(self, before: Source) -> None:
        """Take over what was learnt and what people have set, if the address is the same."""
        super().inherit_from(before)
        if isinstance(before, V4l2Source) and before.address == self.address:
            self.controls.inherit_from(before.controls)
            self.opener.inherit_from(before.opener)
            self.cost_told = before.cost_told
            # The old source may still be closing in this thread: our calls wait for their turn.
            self.worker = before.worker

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The processes that have the device open and so keep mjrelay from it."""
        return self.opener.holders

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Find, open and start the device while entered."""
        device = self._current = self._devices.capture()
        try:
            mode = await self._answered(partial(self._start, device))
            self._device = device
            yield partial(self._stream, device, mode)
        finally:
            self._device = None
            await self._close(device)

    def facts(self) -> dict[str, Any]:
        """The device, its modes and the mode in use, for `mjrelay probe`."""
        return self.opener.facts

    def watch(self, *, watched: bool) -> None:
        """Note whether the camera is watched; if not, only few pictures are encoded."""
        self._watched = watched

    def hand_over(self) -> None:
        """Note that mjrelay ends: closing must leave the device with systemd."""
        self._handing_over = True

    def hotplug(self, event: Hotplug) -> bool:
        """Note that a device came or went. If it may be ours, look whether ours is still there."""
        node = self.opener.node
        ours = node is None or event.path in ("", node.path)
        if ours and self._reader:
            self._reader.look()
        return ours

    async def read_controls(self) -> dict[str, Setting]:
        """The camera's controls by name."""
        return await self._with_device(self.controls.read)

    async def change_controls(self, values: Mapping[str, int]) -> None:
        """Set some controls, now and whenever the camera is opened."""
        await self._with_device(partial(self.controls.change, values=values))

    # In the device's thread

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        """Queue a call for the device's thread."""
        context = copy_context()  # so that log lines from the thread name the camera
        return self.worker.submit(partial(context.run, work))

    async def _call(self, work: Callable[[], T]) -> T:
        """Await a call in the device's thread.

        Raises:
            TimeoutError: If its turn has come, the call goes on in the thread and later calls wait
                for it; if not, it is never made.
        """
        async with asyncio.timeout(self._timing.open_timeout):
            return await asyncio.wrap_future(self._submit(work))

    async def _answered(self, work: Callable[[], T]) -> T:
        """Await a call in the device's thread. Raises SourceBroken if that takes too long."""
        try:
            return await self._call(work)
        except TimeoutError as error:
            raise SourceBroken(
                f"the camera has not answered for {self._timing.open_timeout:g} s", _REPLUG
            ) from error

    async def _with_device(self, work: Callable[[Capture], T]) -> T:
        """Await a call with the open device. Raises SourceUnreachable if it does not answer."""
        if self._device is None:
            raise SourceUnreachable("the camera is not open", "try again when it streams")
        try:
            return await self._call(partial(work, self._device))
        except TimeoutError as error:
            raise SourceUnreachable("the camera does not answer") from error
        except OSError as error:  # it was unplugged meanwhile
            raise SourceUnreachable(f"the camera does not answer: {error.strerror}") from error

    def _start(self, device: Capture) -> Mode:
        """Start the device; if systemd has kept it open for us, with that descriptor."""
        with self._kept_lock:
            fd = self._kept.take()
        if fd is not None:
            device.adopt(fd)
        mode = self.opener.start(device)
        with self._kept_lock:
            if device is self._current:  # else it was given up, and must not be kept any more
                self._kept.keep(device.fileno())
        return mode

    async def _close(self, device: Capture) -> None:
        """Close the device after the call that still runs in the thread; wait a limited time."""
        with self._kept_lock:
            self._current = None
            if not self._handing_over:
                self._kept.drop()
        close = device.leave if self._handing_over else device.close
        # asyncio.wait does not cancel it: the device is closed even if our wait is cancelled.
        closing = asyncio.wrap_future(self.worker.submit(close))
        await asyncio.wait({closing}, timeout=self._timing.close_timeout)

    # Pictures

    async def _stream(self, device: Capture, mode: Mode, show: Show) -> None:
        try:
            if mode.format in modes.PASSED_THROUGH:
                await self._show_framed(device, show)
            else:
                await self._show_encoded(device, mode, show)
        except ReadFailed as failed:
            self._device = None  # it is closed to be explained: its controls are out of reach
            explain = partial(self.opener.explain, failed.error, device, mode)
            raise await self._answered(explain) from failed.error

    @contextmanager
    def _reading(self, device: Capture, take: Callable[[Buffer], None]) -> Iterator[Reader]:
        """Hand each buffer that is not damaged to `take` while entered; count the damaged ones."""

        def take_if_whole(buffer: Buffer) -> None:
            if buffer.is_damaged:
                self.tally.dropped["damaged"] += 1
            else:
                take(buffer)

        self._reader = Reader(device, take_if_whole)
        try:
            with self._reader:
                yield self._reader
        finally:
            self._reader = None

    async def _show_framed(self, device: Capture, show: Show) -> None:
        def take(buffer: Buffer) -> None:
            for image in self._framed(buffer.data):
                show(image, buffer.captured)

        with self._reading(device, take) as reader:
            await reader.failure

    def _framed(self, data: bytes) -> list[bytes]:
        """The image in one buffer, checked and mended; none if it holds no usable image."""
        image = plain_image(data)
        if image and len(image) <= self._max_frame:
            return [image]
        dropped = self.tally.dropped
        already = dropped.total()
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally, room=len(data))
        images = framer.feed(data) or framer.finish()
        if not images and dropped.total() == already:
            dropped["not_jpeg"] += 1
        return images[:1]

    async def _show_encoded(self, device: Capture, mode: Mode, show: Show) -> None:
        self._tell_cost(mode)
        encoder = Encoder(
            mode,
            unwatched_every=self._unwatched_every,
            is_watched=lambda: self._watched,
            tally=self.tally,
        )
        with self._reading(device, encoder.take) as reader:
            await encoder.show_all(show, reader, self._answered)

    def _tell_cost(self, mode: Mode) -> None:
        if not self.cost_told:
            self.cost_told = True
            log.info(
                "source.encoding",
                mode=str(mode),
                cost="each picture is encoded here while somebody watches; MJPG would cost nothing",
            )

    # Remedies

    async def _release(self) -> None:
        """Let go of what may still hold the device; leave it alone until the kernel suspends it."""
        gc.collect()  # a mapping kept alive by a traceback would hold the camera
        await asyncio.sleep(self._timing.suspended_after)

    async def _reset(self, act: Callable[[UsbDevice], None]) -> None:
        """Reset the device with `act`, unless another program has it open."""
        resetting = self._submit(
            partial(
                reset_unless_held,
                self.opener.find,
                act,
                self._devices,
                force=self.resets_from_others,
                timing=self._timing,
            )
        )
        try:
            async with asyncio.timeout(self._timing.reset_timeout):
                await asyncio.wrap_future(resetting)
        except TimeoutError as error:
            raise RemedyFailed(
                f"the USB reset got no answer within {self._timing.reset_timeout:g} s",
                _REPLUG,
                # If its turn in the thread has come, it goes on; if not, it is never made.
                done=not resetting.cancel(),
            ) from error
