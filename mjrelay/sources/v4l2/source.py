"""V4l2Source: a camera of this computer, followed wherever it is plugged in.

All that may block runs in the device's own thread, in order: so a close always comes behind an open
that was given up. Pictures are read in the event loop, when the kernel says that one is there.
"""

import asyncio
import gc
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import structlog

from mjrelay.configuration.address import V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices import modes, usb
from mjrelay.devices.capture import Capture
from mjrelay.devices.holders import Holder
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import UsbDevice
from mjrelay.devices.resetting import reset_unless_held
from mjrelay.devices.udev import Hotplug
from mjrelay.devices.worker import Worker
from mjrelay.errors import RemedyFailed, SourceBroken, SourceUnreachable, Tally
from mjrelay.formats.framer import JpegFramer, plain_image
from mjrelay.recovery.ladder import Remedy
from mjrelay.service.systemd import Kept
from mjrelay.sources import Show, Source, Stream
from mjrelay.sources.v4l2.controls import Controls
from mjrelay.sources.v4l2.opening import Opener

T = TypeVar("T")

# A camera that answers nothing costs the kernel 5 s for each request (measured), and opening makes
# several. After this time we say so; the thread goes on.
_OPEN_TIMEOUT = 15.0
# Closing is quick unless the camera is mute; then it goes on behind our back.
_CLOSE_TIMEOUT = 1.0
# 0.4 s usually; 95 s where the camera never answers again (both measured).
_RESET_TIMEOUT = 10.0
# The kernel suspends a USB camera that nobody has had open for two seconds, and wakes it at the
# next opening: the gentlest way to let it begin anew.
_SUSPENDED_AFTER = 2.5
# While nobody watches, so often is a picture encoded: to see that the camera lives, and to have
# one for a snapshot.
_UNWATCHED_EVERY = 1.0

log = structlog.get_logger()


class V4l2Source(Source):
    """Streams from a video device.

    Args:
        address: The device's path or USB ids.
        config: The camera's options.
        kept: The device, where systemd keeps it from one process to the next.
    """

    def __init__(
        self, address: V4l2Address, config: CameraConfig, kept: Kept | None = None
    ) -> None:
        self.label = address.label
        self.tally = Tally()
        self.remedies = {Remedy.RELEASE: self._release}
        if config.usb_reset:
            self.remedies[Remedy.USB_RESET] = partial(self._reset, usb.reset)
            if os.geteuid() == 0:  # nobody else may
                self.remedies[Remedy.REAUTHORIZE] = partial(self._reset, usb.reauthorize)
        by_itself = (
            "does it by itself while it runs" if config.usb_reset else "must not (usb_reset)"
        )
        self.silent_hint = f"a reset may help: mjrelay {by_itself}, or: mjrelay reset {self.label}"
        self.stalled_hint = self.silent_hint
        if config.usb_reset:
            self.resets_per_hour = config.usb_resets_per_hour
        else:
            self.no_reset_hint = "usb_reset = false forbids it"
        self.resets_from_others = config.usb_reset == "force"
        # A camera that nobody watches must not look silent.
        self._unwatched_every = min(_UNWATCHED_EVERY, config.stall_timeout / 2)
        self._kept = kept or Kept()
        self._max_frame = config.max_frame
        self._controls = Controls(config.controls)
        self._opener = Opener(address, config, self._controls)
        self._worker = Worker(f"v4l2:{self.label}")
        self._look: Callable[[], None] | None = None
        self._device: Capture | None = None
        # What systemd keeps is changed by both threads.
        self._keeping = threading.Lock()
        self._wanted: Capture | None = None
        self._cost_told = False
        # To open, to explain what is wrong, to close; then the first picture.
        self.patience = 2 * _OPEN_TIMEOUT + _CLOSE_TIMEOUT + config.first_frame_timeout
        self._watched = False
        self._handing_over = False
        self._encoded_at = -math.inf

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Which processes have the device, while that keeps us from it."""
        return self._opener.holders

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Open the device and start it."""
        device = self._wanted = Capture()
        try:
            try:
                mode = await self._call(partial(self._start, device), within=_OPEN_TIMEOUT)
            except TimeoutError as error:
                raise SourceBroken(
                    f"the camera has not answered for {_OPEN_TIMEOUT:g} s",
                    "unplug it and plug it in again",
                ) from error
            self._device = device
            yield partial(self._stream, device, mode)
        finally:
            self._device = None
            await self._close(device)

    def facts(self) -> dict[str, Any]:
        """The device, its modes and the one in use."""
        return self._opener.facts

    def watch(self, *, watched: bool) -> None:
        """While nobody is looking, encode a picture now and then only."""
        self._watched = watched

    def hand_over(self) -> None:
        """Leave the device with systemd when closed, for the next process."""
        self._handing_over = True

    def hotplug(self, event: Hotplug) -> bool:
        """Look again, if it may be ours: at the device in use, or for one that we miss."""
        node = self._opener.node
        ours = node is None or event.path in ("", node.path)
        if ours and self._look:
            self._look()
        return ours

    async def read_controls(self) -> dict[str, Any]:
        """Its settings, as the web shows them."""
        return await self._with_device(self._controls.read)

    async def change_controls(self, values: Mapping[str, int]) -> None:
        """Set some, now and after every opening."""
        await self._with_device(partial(self._controls.change, values=values))

    # In the device's thread

    async def _call(self, work: Callable[[], T], *, within: float = _OPEN_TIMEOUT) -> T:
        """Do work that may block, in the device's thread.

        Raises:
            TimeoutError: It goes on there, and what is called next waits for its turn.
        """
        known = copy_context()  # so that what is logged there names the camera
        async with asyncio.timeout(within):
            return await asyncio.wrap_future(self._worker.submit(partial(known.run, work)))

    async def _with_device(self, work: Callable[[Capture], T]) -> T:
        """Do something with the open device."""
        if self._device is None:
            raise SourceUnreachable("the camera is not open", "try again when it streams")
        try:
            return await self._call(partial(work, self._device))
        except OSError as error:  # it was unplugged meanwhile
            raise SourceUnreachable(f"the camera does not answer: {error.strerror}") from error

    def _start(self, device: Capture) -> Mode:
        """Start the device: the one that was kept for us, or anew."""
        with self._keeping:
            fd = self._kept.take()
        if fd is not None:
            device.adopt(fd)
        mode = self._opener.start(device)
        with self._keeping:
            if device is self._wanted:  # else it was given up, and its successor's may be kept
                self._kept.keep(device.fileno())
        return mode

    async def _close(self, device: Capture) -> None:
        """Close behind whatever still runs in the thread; wait for it, but not for ever."""
        with self._keeping:
            self._wanted = None
            if not self._handing_over:
                self._kept.drop()
        close = device.leave if self._handing_over else device.close
        # Not cancelled when the wait is: it must happen in any case.
        closing = asyncio.wrap_future(self._worker.submit(close))
        await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT)

    # Pictures

    async def _stream(self, device: Capture, mode: Mode, show: Show) -> None:
        if mode.format in modes.PASSED_THROUGH:
            # For ever: it makes something of no buffer that would be waited for.
            await self._read(device, mode, partial(self._show_framed, show))
        else:
            await self._show_encoded(device, mode, show)

    async def _read(self, device: Capture, mode: Mode, use: Callable[[bytes], T | None]) -> T:
        """Let `use` have each buffer that is not damaged, until it makes something of it.

        Raises:
            SourceError: The device failed, or is gone.
        """
        made: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if made.done():
                return
            try:
                data = _read(device)
                if data == b"":
                    self.tally.dropped["damaged"] += 1
                elif data and (result := use(data)) is not None:
                    made.set_result(result)
            except Exception as error:  # noqa: BLE001 - who waits gets it
                made.set_exception(error)

        try:
            with self._looking(device, look):
                return await made
        except _ReadFailed as failed:
            explained = partial(self._opener.explained, failed.error, device, mode)
            raise await self._call(explained) from failed.error

    @contextmanager
    def _looking(self, device: Capture, look: Callable[[], None]) -> Iterator[None]:
        """Look whenever the device has a buffer, or an error, or hotplug says so."""
        loop, fd = asyncio.get_running_loop(), device.fileno()
        self._look = partial(copy_context().run, look)  # so that the log names the camera
        loop.add_reader(fd, look)
        try:
            yield
        finally:
            loop.remove_reader(fd)  # a dead device stays readable, and would spin
            self._look = None

    def _show_framed(self, show: Show, data: bytes) -> None:
        for image in self._framed(data):
            show(image, time.monotonic())

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
        self._encoded_at = -math.inf
        while True:
            show(await self._encoded(device, mode), time.monotonic())

    async def _encoded(self, device: Capture, mode: Mode) -> bytes:
        """The next picture that is worth to be encoded."""

        def pick(data: bytes) -> bytes | None:
            if len(data) != mode.width * mode.height * 2:
                self.tally.dropped["corrupt"] += 1
                return None
            is_due = time.monotonic() - self._encoded_at >= self._unwatched_every
            return data if self._watched or is_due else None

        data = await self._read(device, mode, pick)
        self._encoded_at = time.monotonic()
        return await self._call(partial(_encode, data, mode.size))

    def _tell_cost(self, mode: Mode) -> None:
        if not self._cost_told:
            self._cost_told = True
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
        """Make the device leave the bus and come back, unless somebody else has taken it."""
        reset = partial(reset_unless_held, self._opener.find, act, force=self.resets_from_others)
        try:
            await self._call(reset, within=_RESET_TIMEOUT)
        except TimeoutError as error:
            raise RemedyFailed(
                f"the USB reset got no answer within {_RESET_TIMEOUT:g} s",
                "unplug it and plug it in again",
            ) from error


class _ReadFailed(Exception):
    """The device gave an error in place of a buffer."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _read(device: Capture) -> bytes | None:
    try:
        return device.read()
    except OSError as error:
        raise _ReadFailed(error) from error


def _encode(data: bytes, size: tuple[int, int]) -> bytes:
    from mjrelay import pictures  # noqa: PLC0415 - Pillow, only for who needs it

    return pictures.encode_yuyv(data, size)
