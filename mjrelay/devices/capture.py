"""Capture: an open video device, its modes, buffers and controls. The only importer of v4l2py.

Every method but `read` may block for seconds, and is called in the device's own thread.

We map and unmap the buffers ourselves: a mapping that is left over keeps the camera busy for every
program, ours included, until the process ends; and v4l2py leaves mappings over when the camera was
unplugged or failed to start (measured with linuxpy 0.25).
"""

import contextlib
import errno
import logging
import mmap
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from mjrelay.devices.modes import Mode

with warnings.catch_warnings():
    # The requirements name v4l2py. It only passes on linuxpy, its successor, which does the work,
    # and warns of that when it is imported.
    warnings.filterwarnings("ignore", message="v4l2py is no longer being maintained")
    from v4l2py import device as v4l2

# At each opening linuxpy warns of pixel formats that it does not know; we use only some it knows.
logging.getLogger("linuxpy").setLevel(logging.ERROR)

# Buffers to ask for: the driver fills one, another waits to be read, and two are in reserve for
# when the event loop is late.
_BUFFERS = 4
# Sizes to offer for a device that takes any size within limits: width and height in pixels.
_USUAL_SIZES = ((320, 240), (640, 480), (800, 600), (1280, 720), (1920, 1080))
# Control types whose value is one number: integer, boolean, menu, integer menu, bitmask.
_PLAIN_CONTROLS = (1, 2, 3, 9, 8)
_MENUS = {3: "name", 9: "value"}

_VIDEO = v4l2.BufferType.VIDEO_CAPTURE
_MMAP = v4l2.Memory.MMAP
# V4L2_BUF_FLAG_ERROR, …_TIMESTAMP_MASK and …_TIMESTAMP_MONOTONIC. Plain numbers, since they are
# compared for each picture, and comparing the library's enums takes ten times as long.
_DAMAGED, _TIMESTAMP_MASK, _MONOTONIC = 0x0040, 0xE000, 0x2000
# A buffer that claims to be older than this many seconds was stamped by a clock that is wrong.
_OLDEST = 5.0


class Buffer(NamedTuple):
    """The contents of one filled buffer.

    Attributes:
        data: Its bytes; empty if it is damaged.
        captured: When the picture in it was captured, in seconds of `time.monotonic()`.
        is_damaged: The driver says that part of the picture is missing.
    """

    data: bytes
    captured: float
    is_damaged: bool = False


@dataclass(frozen=True)
class Control:
    """One setting of a camera.

    Attributes:
        name: As in `controls = { name = … }`.
        kind: integer, boolean, menu, integer_menu or bitmask.
        inactive: Another control, usually an automatic one, decides its value.
        menu: The meaning of each value, if the values are choices; else empty.
        id: The number by which the driver knows it.
    """

    name: str
    kind: str
    minimum: int
    maximum: int
    step: int
    default: int
    inactive: bool
    menu: dict[int, str]
    id: int


class Capture:
    """A video device from opening to closing.

    Every OSError holds the name of the failed request as its `filename`: "VIDIOC_STREAMON".

    Attributes:
        card: What the device calls itself.
        driver: Its driver, such as uvcvideo.
    """

    def __init__(self) -> None:
        self.card = self.driver = ""
        self._fd = -1
        self._maps: list[mmap.mmap] = []
        self._has_buffers = False  # those of the process before us, after `adopt`

    def open(self, path: str) -> bool:
        """Open a node. Returns whether it gives pictures, and not metadata, for example."""
        with _request(path):
            if not self._has_adopted(path):
                self.close()
                self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with _request("VIDIOC_QUERYCAP"):
            found = v4l2.read_capabilities(self._fd)
        self.card = found.card.decode(errors="replace")
        self.driver = found.driver.decode(errors="replace")
        able = found.device_caps or found.capabilities
        return bool(able & v4l2.Capability.VIDEO_CAPTURE and able & v4l2.Capability.STREAMING)

    def adopt(self, fd: int) -> None:
        """Take over a device that the process before us had open, and end its stream.

        Its buffers stay: freeing them would give up our claim to the device, and another program
        might claim it before we do so again (measured: 25 times at one restart).
        """
        self._fd = fd
        self._has_buffers = True
        with contextlib.suppress(OSError):
            v4l2.stream_off(fd, _VIDEO)

    def is_claimed(self) -> bool:
        """Whether another program has claimed the device. Asking does not disturb that program."""
        try:
            v4l2.free_buffers(self._fd, _VIDEO, _MMAP)  # we have none, so that this frees nothing
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def fileno(self) -> int:
        """The descriptor, readable when a picture is there or the device is gone."""
        return self._fd

    def modes(self, wished: tuple[int, int] | None = None) -> list[Mode]:
        """What the device can be set to.

        Args:
            wished: A size to offer beside the usual ones, if the device takes any within limits.
        """
        with _request("VIDIOC_ENUM_FMT"):
            formats = [f.pixel_format for f in v4l2.iter_read_formats(self._fd, _VIDEO)]
        return [
            self._mode(pixel_format, size)
            for pixel_format in formats
            for size in self._sizes(pixel_format, wished)
        ]

    def configure(self, mode: Mode, rate: float | None) -> Mode:
        """Claim the device for a mode: from here on it is busy for every other program.

        Args:
            mode: The format and size to ask for.
            rate: Pictures per second to ask for; None leaves the rate as it is.

        Returns:
            The mode that the driver chose, which may be another. `rates` holds the one rate it set.
        """
        with _request("VIDIOC_S_FMT"):
            if not (self._has_buffers and self._is_set_to(mode)):
                if self._has_buffers:
                    v4l2.free_buffers(self._fd, _VIDEO, _MMAP)  # with buffers, S_FMT is refused
                v4l2.set_format(self._fd, _VIDEO, mode.width, mode.height, mode.format)
            self._has_buffers = False
            got = v4l2.get_format(self._fd, _VIDEO)
        rates: tuple[float, ...] = ()
        with _request("VIDIOC_S_PARM"), _unsupported_is_fine():
            if rate:
                v4l2.set_fps(self._fd, _VIDEO, rate)
            rates = (round(float(v4l2.get_fps(self._fd, _VIDEO)), 2),)
        return Mode(got.pixel_format.human_str(), got.width, got.height, rates)

    def start(self) -> None:
        """Request and map buffers, hand them to the driver, and start the stream."""
        with _request("VIDIOC_REQBUFS"):
            count = v4l2.request_buffers(self._fd, _VIDEO, _MMAP, _BUFFERS).count
        for index in range(count):
            with _request("VIDIOC_QUERYBUF"):
                buffer = v4l2.query_buffer(self._fd, _VIDEO, _MMAP, index)
            with _request("mmap"):
                self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.m.offset))
            self._enqueue(index)
        with _request("VIDIOC_STREAMON"):
            v4l2.stream_on(self._fd, _VIDEO)

    def read(self) -> Buffer | None:
        """Copy the oldest filled buffer, and give it back to the driver. Never blocks.

        Returns:
            Its contents, or None while no buffer is filled.
        """
        try:
            with _request("VIDIOC_DQBUF"):
                filled = v4l2.dequeue_buffer(self._fd, _VIDEO, _MMAP)
        except BlockingIOError:
            return None
        try:
            captured = _when_captured(filled, time.monotonic())
            if filled.flags & _DAMAGED:
                return Buffer(b"", captured, is_damaged=True)
            return Buffer(self._maps[filled.index][: filled.bytesused], captured)
        finally:
            self._enqueue(filled.index)

    def close(self) -> None:
        """Release everything, in whatever state the device is. Closing twice does no harm.

        A request that fails does not keep the next from being made: after an unplug all of them
        fail, and the mappings must be removed all the same.
        """
        fd, maps = self._fd, self._maps
        self._fd, self._maps, self._has_buffers = -1, [], False
        if fd < 0:
            return
        if maps:
            with contextlib.suppress(OSError):
                v4l2.stream_off(fd, _VIDEO)
        for mapping in maps:
            mapping.close()
        with contextlib.suppress(OSError):
            v4l2.free_buffers(fd, _VIDEO, _MMAP)
        os.close(fd)

    def leave(self) -> None:
        """Close only our descriptor: the device streams on for a process that has a copy of it."""
        fd, maps = self._fd, self._maps
        self._fd, self._maps = -1, []
        for mapping in maps:
            mapping.close()
        if fd >= 0:
            os.close(fd)

    # Controls

    def controls(self) -> list[Control]:
        """The device's controls, in the driver's order."""
        with _request("VIDIOC_QUERY_EXT_CTRL"):
            known = [c for c in v4l2.iter_read_controls(self._fd) if c.type in _PLAIN_CONTROLS]
            return [self._control(found) for found in known]

    def control_value(self, control: Control) -> int:
        """The value that a control has now."""
        with _request("VIDIOC_G_CTRL"):
            return int(v4l2.get_control(self._fd, control.id))

    def set_control(self, control: Control, value: int) -> None:
        """Set a control. The driver may set a value near by instead."""
        with _request("VIDIOC_S_CTRL"):
            v4l2.set_control(self._fd, control.id, value)

    def _control(self, found: Any) -> Control:
        menu: dict[int, str] = {}
        if label := _MENUS.get(found.type):
            query = v4l2.raw.v4l2_querymenu()
            query.id = found.id
            choices = v4l2.iter_read(
                self._fd,
                v4l2.IOC.QUERYMENU,
                query,
                start=found.minimum,
                stop=found.maximum + 1,
                ignore_einval=True,
            )
            menu = {choice.index: _text(getattr(choice, label)) for choice in choices}
        return Control(
            name=_config_name(_text(found.name)),
            kind=v4l2.ControlType(found.type).name.lower(),
            minimum=found.minimum,
            maximum=found.maximum,
            step=found.step,
            default=found.default_value,
            inactive=bool(found.flags & v4l2.ControlFlag.INACTIVE),
            menu=menu,
            id=found.id,
        )

    # Modes

    def _sizes(
        self, pixel_format: Any, wished: tuple[int, int] | None
    ) -> Iterator[tuple[int, int]]:
        with _request("VIDIOC_ENUM_FRAMESIZES"):
            for size in v4l2.iter_read_frame_sizes(self._fd, pixel_format):
                if size.type == v4l2.FrameSizeType.DISCRETE:
                    yield size.info.width, size.info.height
                else:
                    yield from _within(size.info, wished)

    def _mode(self, pixel_format: Any, size: tuple[int, int]) -> Mode:
        rates: list[float] = []
        between = False
        with _request("VIDIOC_ENUM_FRAMEINTERVALS"):
            for interval in v4l2.iter_read_frame_intervals(self._fd, pixel_format, *size):
                between = interval.type != v4l2.FrameIntervalType.DISCRETE
                # Of a range, the library's max_fps belongs to the longest interval: it is the
                # lowest rate.
                limits = (interval.max_fps, interval.min_fps) if between else (interval.min_fps,)
                rates += [round(float(rate), 2) for rate in limits if rate]
        return Mode(pixel_format.human_str(), *size, tuple(rates), between and bool(rates))

    def _is_set_to(self, mode: Mode) -> bool:
        got = v4l2.get_format(self._fd, _VIDEO)
        now = (got.pixel_format.human_str(), got.width, got.height)
        return now == (mode.format, mode.width, mode.height)

    def _has_adopted(self, path: str) -> bool:
        return self._fd >= 0 and os.fstat(self._fd).st_rdev == os.stat(path).st_rdev  # noqa: PTH116

    def _enqueue(self, index: int) -> None:
        with _request("VIDIOC_QBUF"):
            v4l2.enqueue_buffer(self._fd, _VIDEO, _MMAP, 0, index)


@contextlib.contextmanager
def _request(name: str) -> Iterator[None]:
    """Put the name of the request into an OSError, for the person who reads the message."""
    try:
        yield
    except OSError as error:
        error.filename = name
        raise


@contextlib.contextmanager
def _unsupported_is_fine() -> Iterator[None]:
    """Ignore that a device has no request for its rate: some have one rate only."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
    except ZeroDivisionError:
        pass  # a driver that does not know its rate


def _when_captured(filled: Any, now: float) -> float:
    """When a picture was captured: the driver's time stamp, or `now` if that cannot be right.

    Some drivers take the time from another clock; and uvcvideo does not tell if it was set to.
    """
    if filled.flags & _TIMESTAMP_MASK == _MONOTONIC:
        stamp = filled.timestamp
        captured: float = stamp.secs + stamp.usecs / 1e6
        if now - _OLDEST <= captured <= now:
            return captured
    return now


def _within(limits: Any, wished: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """The usual sizes and the wished one, as far as a device's limits and steps allow them."""
    for width, height in dict.fromkeys((*_USUAL_SIZES, *([wished] if wished else []))):
        if (
            limits.min_width <= width <= limits.max_width
            and limits.min_height <= height <= limits.max_height
            and not (width - limits.min_width) % max(limits.step_width, 1)
            and not (height - limits.min_height) % max(limits.step_height, 1)
        ):
            yield width, height


def _config_name(name: str) -> str:
    """A control's name as v4l2-ctl writes it: "Focus, Absolute" becomes focus_absolute."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return "_".join(words)


def _text(value: bytes | int) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
