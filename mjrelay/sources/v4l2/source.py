"""V4l2Source: a camera of this computer, followed wherever it is plugged in.

All that may block runs in the device's own thread, in order: so a close always comes behind an open
that was given up. Pictures are read in the event loop, when the kernel says that one is there.
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
from mjrelay.formats.framer import JpegFramer, plain_image
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
        kept: The device, where systemd keeps it from one process to the next.
        devices: Those of another computer than this one, for tests.
        timing: How long to wait for what.

    Attributes:
        address: As given. Its successor after a reload needs this and the following.
        controls: Its settings as they should be.
        opener: Finds and opens the device.
        worker: The device's thread.
        cost_told: Whether the log was told that its pictures are encoded.
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
        # To open, to show the first picture, to explain why it fails, to close.
        self.patience = 2 * timing.open_timeout + timing.close_timeout + config.first_frame_timeout
        self.address = address
        self._devices = devices or Devices()
        self._timing = timing
        self._offer_remedies(config)
        # A camera that nobody watches must not look silent.
        self._unwatched_every = min(timing.unwatched_every, config.stall_timeout / 2)
        self._kept = kept or Kept()
        self._max_frame = config.max_frame
        self.controls = Controls(config.controls)
        self.opener = Opener(address, config, self.controls, self._devices, timing)
        self.worker = Worker(f"v4l2:{self.label}")
        self._reader: Reader | None = None
        self._device: Capture | None = None
        # What systemd keeps is changed by both threads.
        self._keeping = threading.Lock()
        # What is to be kept when it has been opened; None once that was given up.
        self._opening: Capture | None = None
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

    def succeed(self, before: Source) -> None:
        """Take over what was learnt, and what people have set, where the camera is the same."""
        super().succeed(before)
        if isinstance(before, V4l2Source) and before.address == self.address:
            self.controls.succeed(before.controls)
            self.opener.succeed(before.opener)
            self.cost_told = before.cost_told
            # It may still be closing: what comes next waits for its turn.
            self.worker = before.worker

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Which processes have the device, while that keeps us from it."""
        return self.opener.holders

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Open the device and start it."""
        device = self._opening = self._devices.capture()
        try:
            mode = await self._answered(partial(self._start, device))
            self._device = device
            yield partial(self._stream, device, mode)
        finally:
            self._device = None
            await self._close(device)

    def facts(self) -> dict[str, Any]:
        """The device, its modes and the one in use."""
        return self.opener.facts

    def watch(self, *, watched: bool) -> None:
        """While nobody is looking, encode a picture now and then only."""
        self._watched = watched

    def hand_over(self) -> None:
        """Leave the device with systemd when closed, for the next process."""
        self._handing_over = True

    def hotplug(self, event: Hotplug) -> bool:
        """Look again, if it may be ours: at the device in use, or for one that we miss."""
        node = self.opener.node
        ours = node is None or event.path in ("", node.path)
        if ours and self._reader:
            self._reader.look()
        return ours

    async def read_controls(self) -> dict[str, Setting]:
        """Its settings, as the web shows them."""
        return await self._with_device(self.controls.read)

    async def change_controls(self, values: Mapping[str, int]) -> None:
        """Set some, now and after every opening."""
        await self._with_device(partial(self.controls.change, values=values))

    # In the device's thread

    def _submit(self, work: Callable[[], T]) -> "Future[T]":
        """Let work that may block wait for its turn in the device's thread."""
        known = copy_context()  # so that what is logged there names the camera
        return self.worker.submit(partial(known.run, work))

    async def _call(self, work: Callable[[], T]) -> T:
        """Do work in the device's thread.

        Raises:
            TimeoutError: It goes on there, and what is called next waits for its turn.
        """
        async with asyncio.timeout(self._timing.open_timeout):
            return await asyncio.wrap_future(self._submit(work))

    async def _answered(self, work: Callable[[], T]) -> T:
        """Do work in the device's thread. Raises SourceBroken if that takes too long."""
        try:
            return await self._call(work)
        except TimeoutError as error:
            raise SourceBroken(
                f"the camera has not answered for {self._timing.open_timeout:g} s", _REPLUG
            ) from error

    async def _with_device(self, work: Callable[[Capture], T]) -> T:
        """Do something with the open device."""
        if self._device is None:
            raise SourceUnreachable("the camera is not open", "try again when it streams")
        try:
            return await self._call(partial(work, self._device))
        except TimeoutError as error:
            raise SourceUnreachable("the camera does not answer") from error
        except OSError as error:  # it was unplugged meanwhile
            raise SourceUnreachable(f"the camera does not answer: {error.strerror}") from error

    def _start(self, device: Capture) -> Mode:
        """Start the device: the one that was kept for us, or anew."""
        with self._keeping:
            fd = self._kept.take()
        if fd is not None:
            device.adopt(fd)
        mode = self.opener.start(device)
        with self._keeping:
            if device is self._opening:  # else it was given up, and its successor's may be kept
                self._kept.keep(device.fileno())
        return mode

    async def _close(self, device: Capture) -> None:
        """Close behind whatever still runs in the thread; wait for it, but not for ever."""
        with self._keeping:
            self._opening = None
            if not self._handing_over:
                self._kept.drop()
        close = device.leave if self._handing_over else device.close
        # Not cancelled when the wait is: it must happen in any case.
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
            explain = partial(self.opener.explain, failed.error, device, mode)
            raise await self._answered(explain) from failed.error

    @contextmanager
    def _reading(self, device: Capture, take: Callable[[Buffer], None]) -> Iterator[Reader]:
        """Let `take` have each buffer that is not damaged."""

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
        """The image in one buffer, checked and mended. Each buffer stands for itself."""
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
        """Let go of everything, and stay away until the kernel has put the camera to sleep."""
        gc.collect()  # a mapping kept alive by a traceback would hold the camera
        await asyncio.sleep(self._timing.suspended_after)

    async def _reset(self, act: Callable[[UsbDevice], None]) -> None:
        """Make the device leave the bus and come back, unless another program has taken it."""
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
                # One that has begun goes on; one whose turn has not come is left out.
                done=not resetting.cancel(),
            ) from error
