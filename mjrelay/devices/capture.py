"""Capture: an open video device, its modes, buffers and controls. The only importer of v4l2py.

Everything but `read` may block for seconds: it is called in the device's own thread.

The buffers and their mappings are ours, not v4l2py's: a mapping left over keeps the camera busy for
everybody, ourselves included, for as long as the process lives; and v4l2py leaves them when the
camera was unplugged, or failed to start (measured with linuxpy 0.25).
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
    # v4l2py is asked for by name. It only passes on linuxpy, its successor, which does the work;
    # importing it warns of that.
    warnings.filterwarnings("ignore", message="v4l2py is no longer being maintained")
    from v4l2py import device as v4l2

# It warns, at each opening, of pixel formats it does not know. We know which we want.
logging.getLogger("linuxpy").setLevel(logging.ERROR)

# One being filled, one on its way to us, and two for an event loop that is late.
_BUFFERS = 4
# Where a device takes any size within limits, these are offered.
_USUAL_SIZES = ((320, 240), (640, 480), (800, 600), (1280, 720), (1920, 1080))
# Control types whose value is one number: integer, boolean, menu, integer menu, bitmask.
_PLAIN_CONTROLS = (1, 2, 3, 9, 8)
_MENUS = {3: "name", 9: "value"}

_VIDEO = v4l2.BufferType.VIDEO_CAPTURE
_MMAP = v4l2.Memory.MMAP
# V4L2_BUF_FLAG_ERROR, …_TIMESTAMP_MASK and …_TIMESTAMP_MONOTONIC. Plain numbers, since they are
# looked at for each picture: the library's enum takes ten times as long.
_DAMAGED, _TIMESTAMP_MASK, _MONOTONIC = 0x0040, 0xE000, 0x2000
# A picture that claims to be older was stamped by a clock that is wrong.
_OLDEST = 5.0


class Buffer(NamedTuple):
    """What a camera has filled one buffer with.

    Attributes:
        data: Its bytes; none of a damaged one.
        captured: When that was, in seconds of `time.monotonic()`.
        is_damaged: The driver says that something is missing in it.
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
        menu: What its values mean, where they are choices.
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

    Every OSError names the failed request in its `filename`, as in "VIDIOC_STREAMON".

    Attributes:
        card: What the device calls itself.
        driver: Its driver, such as uvcvideo.
    """

    def __init__(self) -> None:
        self.card = self.driver = ""
        self._fd = -1
        self._maps: list[mmap.mmap] = []
        self._has_buffers = False  # of the process before us

    def open(self, path: str) -> bool:
        """Open a node. False: it gives something else than pictures, metadata for example."""
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

        Its buffers stay: to free them is to let go of the claim, and another program might get the
        camera before we have it again (measured: 25 times at one restart).
        """
        self._fd = fd
        self._has_buffers = True
        with contextlib.suppress(OSError):
            v4l2.stream_off(fd, _VIDEO)

    def is_claimed(self) -> bool:
        """Whether another program has claimed it. Asking disturbs nobody."""
        try:
            v4l2.free_buffers(self._fd, _VIDEO, _MMAP)  # we have none: there is nothing to free
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def fileno(self) -> int:
        """The descriptor, readable when a picture is there or the device is gone."""
        return self._fd

    def modes(self, wished: tuple[int, int] | None = None) -> list[Mode]:
        """What the device can be set to.

        Args:
            wished: A size to offer too, where the device takes any within limits.
        """
        with _request("VIDIOC_ENUM_FMT"):
            formats = [f.pixel_format for f in v4l2.iter_read_formats(self._fd, _VIDEO)]
        return [
            self._mode(pixel_format, size)
            for pixel_format in formats
            for size in self._sizes(pixel_format, wished)
        ]

    def configure(self, mode: Mode, rate: float | None) -> Mode:
        """Claim the device for a mode; it is ours, and busy for others, from here on.

        Returns:
            The mode that the driver chose, which may be another; `rates` holds its rate.
        """
        with _request("VIDIOC_S_FMT"):
            if not (self._has_buffers and self._is_set_to(mode)):
                if self._has_buffers:
                    v4l2.free_buffers(self._fd, _VIDEO, _MMAP)  # while there are any, it is refused
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
        """Map buffers, hand them to the driver, and let it fill them."""
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
        """Take the oldest filled buffer: one copy out of the mapping. Never blocks.

        Returns:
            What is in it, or None while none is filled.
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
        """Release everything, whatever state it is in; a second time is fine.

        Each step is taken even if one before it failed: after an unplug all of them do, and the
        mappings must go all the same.
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
        """Close our descriptor only: it streams on for the process that has a copy of it."""
        fd, maps = self._fd, self._maps
        self._fd, self._maps = -1, []
        for mapping in maps:
            mapping.close()
        if fd >= 0:
            os.close(fd)

    # Controls

    def controls(self) -> list[Control]:
        """The settings it has, in the driver's order."""
        with _request("VIDIOC_QUERY_EXT_CTRL"):
            known = [c for c in v4l2.iter_read_controls(self._fd) if c.type in _PLAIN_CONTROLS]
            return [self._control(found) for found in known]

    def control_value(self, control: Control) -> int:
        """The value it has now."""
        with _request("VIDIOC_G_CTRL"):
            return int(v4l2.get_control(self._fd, control.id))

    def set_control(self, control: Control, value: int) -> None:
        """Set it; the driver may choose the nearest value it can."""
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
                # Of a range, "max_fps" is that of the longest interval: the lowest rate.
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
    """Name the request in an OSError, for the person who reads it."""
    try:
        yield
    except OSError as error:
        error.filename = name
        raise


@contextlib.contextmanager
def _unsupported_is_fine() -> Iterator[None]:
    """Some devices have one rate and no request for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
    except ZeroDivisionError:
        pass  # a driver that does not know its rate


def _when_captured(filled: Any, now: float) -> float:
    """When a buffer was filled: as the driver stamped it, or now if that stamp cannot be right.

    Some drivers stamp by another clock; and uvcvideo may be set to, which it does not tell.
    """
    if filled.flags & _TIMESTAMP_MASK == _MONOTONIC:
        stamp = filled.timestamp
        captured: float = stamp.secs + stamp.usecs / 1e6
        if now - _OLDEST <= captured <= now:
            return captured
    return now


def _within(limits: Any, wished: tuple[int, int] | None) -> Iterator[tuple[int, int]]:
    """The sizes worth offering where any is possible between two."""
    for width, height in dict.fromkeys((*_USUAL_SIZES, *([wished] if wished else []))):
        if (
            limits.min_width <= width <= limits.max_width
            and limits.min_height <= height <= limits.max_height
            and not (width - limits.min_width) % max(limits.step_width, 1)
            and not (height - limits.min_height) % max(limits.step_height, 1)
        ):
            yield width, height


def _config_name(name: str) -> str:
    """The name as v4l2-ctl and configurations write it: "Focus, Absolute" is focus_absolute."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return "_".join(words)


def _text(value: bytes | int) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
