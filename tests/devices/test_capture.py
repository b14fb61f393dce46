"""Capture: from opening to closing, on a kernel that is made of a file and some answers."""

import errno
import mmap
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mjrelay.devices.capture import Capture
from mjrelay.devices.modes import Mode, Wanted, choose

PAGE = mmap.PAGESIZE
CAPTURES = 0x04000001  # V4L2_CAP_VIDEO_CAPTURE, V4L2_CAP_STREAMING
METADATA = 0x04800000
HAS_DEVICE_CAPS = 0x80000000
DAMAGED = 0x0040  # V4L2_BUF_FLAG_ERROR
UNKNOWN, MONOTONIC, COPIED = 0x0000, 0x2000, 0x4000  # V4L2_BUF_FLAG_TIMESTAMP_…
QUEUED_AT_START = 0x10000  # V4L2_BUF_FLAG_TSTAMP_SRC_SOE: when its exposure began, not its transfer
INACTIVE = 0x0010
NEXT = 0x80000000 | 0x40000000
INTEGER, BOOLEAN, MENU, BUTTON, CLASS, STRING, INTEGER_MENU = 1, 2, 3, 4, 6, 7, 9

Filled = tuple[int, int, int]
"""A buffer: its index, the bytes in it, its flags."""


def fourcc(name: str) -> int:
    return int.from_bytes(name.encode(), "little")


class Kernel:
    """Answers requests as a driver does; its device is a file, so that it can be mapped.

    Attributes:
        fails: Error numbers by request.
        asked: Requests that change something, in order.
        sizes: What each format can be set to.
        filled: The buffers that are filled.
        stamp: The time the driver stamps them with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"".join(bytes([number]) * PAGE for number in range(4)))
        self.capabilities = CAPTURES
        self.fails: dict[str, int] = {}
        self.asked: list[str] = []
        self.sizes: dict[str, list[tuple[int, ...]]] = {"MJPG": [(640, 480)]}
        self.intervals: list[tuple[int, int]] = [(1, 30), (1, 15)]
        self.interval_range: list[tuple[int, int]] = []
        self.rate = (1, 30)
        self.format = (0, 0, 0)
        self.filled: list[Filled] = []
        self.stamp = 0.0
        self.controls: list[dict[str, Any]] = []
        self.menu: dict[int, bytes | int] = {}
        self.values: dict[int, int] = {}

    def answer(self, _file: int, request: Any, argument: Any = None) -> None:
        """Stand in for the ioctl of the library."""
        name = request.name
        if name in self.fails:
            raise OSError(self.fails[name], os.strerror(self.fails[name]))
        getattr(self, f"_{name.lower()}")(argument)

    def _querycap(self, found: Any) -> None:
        found.card, found.driver = b"UVC Camera", b"uvcvideo"
        found.capabilities = HAS_DEVICE_CAPS | CAPTURES
        found.device_caps = self.capabilities

    def _enum_fmt(self, found: Any) -> None:
        found.pixelformat = fourcc(_nth([*self.sizes], found.index))

    def _enum_framesizes(self, found: Any) -> None:
        name = found.pixel_format.to_bytes(4, "little").decode()
        size = _nth(self.sizes[name], found.index)
        if len(size) == 2:
            found.type, (found.m1.discrete.width, found.m1.discrete.height) = 1, size
            return
        found.type, limits = 3, found.m1.stepwise
        limits.min_width, limits.max_width, limits.step_width = size[:3]
        limits.min_height, limits.max_height, limits.step_height = size[3:]

    def _enum_frameintervals(self, found: Any) -> None:
        if self.interval_range:
            _nth(["the only one"], found.index)
            shortest, longest = self.interval_range
            found.type = 3
            for limit, interval in (
                (found.m1.stepwise.min, shortest),
                (found.m1.stepwise.max, longest),
                (found.m1.stepwise.step, shortest),
            ):
                limit.numerator, limit.denominator = interval
            return
        interval = _nth(self.intervals, found.index)
        found.type, (found.m1.discrete.numerator, found.m1.discrete.denominator) = 1, interval

    def _s_fmt(self, wanted: Any) -> None:
        pix = wanted.fmt.pix
        self.asked.append("S_FMT")
        self.format = (pix.width, pix.height, pix.pixelformat)

    def _g_fmt(self, found: Any) -> None:
        found.fmt.pix.width, found.fmt.pix.height, found.fmt.pix.pixelformat = self.format

    def _s_parm(self, wanted: Any) -> None:
        interval = wanted.parm.capture.timeperframe
        self.rate = (interval.numerator, interval.denominator)

    def _g_parm(self, found: Any) -> None:
        interval = found.parm.capture.timeperframe
        interval.numerator, interval.denominator = self.rate

    def _reqbufs(self, wanted: Any) -> None:
        self.asked.append(f"REQBUFS {wanted.count}")

    def _querybuf(self, found: Any) -> None:
        found.length, found.m.offset = PAGE, found.index * PAGE

    def _qbuf(self, buffer: Any) -> None:
        self.asked.append(f"QBUF {buffer.index}")

    def _dqbuf(self, found: Any) -> None:
        if not self.filled:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        found.index, found.bytesused, found.flags = self.filled.pop(0)
        found.timestamp.secs = int(self.stamp)
        found.timestamp.usecs = int(self.stamp % 1 * 1e6)

    def _streamon(self, _: Any) -> None:
        self.asked.append("STREAMON")

    def _streamoff(self, _: Any) -> None:
        self.asked.append("STREAMOFF")

    def _query_ext_ctrl(self, found: Any) -> None:
        after = found.id & ~NEXT
        following = [facts for facts in self.controls if facts["id"] > after]
        if not following:
            raise OSError(errno.EINVAL, "Invalid argument")
        for name, value in following[0].items():
            setattr(found, name, value)

    def _querymenu(self, found: Any) -> None:
        if found.index not in self.menu:
            raise OSError(errno.EINVAL, "Invalid argument")
        choice = self.menu[found.index]
        setattr(found.m1, "name" if isinstance(choice, bytes) else "value", choice)

    def _g_ctrl(self, control: Any) -> None:
        control.value = self.values[control.id]

    def _s_ctrl(self, control: Any) -> None:
        self.values[control.id] = control.value


def _nth(items: list[Any], index: int) -> Any:
    if index >= len(items):
        raise OSError(errno.EINVAL, "Invalid argument")
    return items[index]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel; whatever the test does, in the end its device is neither open nor mapped."""
    kernel = Kernel(tmp_path / "video0")
    monkeypatch.setattr("linuxpy.video.device.ioctl", kernel.answer)
    yield kernel
    assert not held(kernel)


@pytest.fixture
def capture(kernel: Kernel) -> Iterator[Capture]:
    """A capture whose device is open."""
    capture = Capture()
    assert capture.open(str(kernel.path))
    yield capture
    capture.close()


def held(kernel: Kernel) -> bool:
    """Whether we have the device open or mapped: either keeps a camera busy."""
    files = Path("/proc/self/fd").iterdir()
    is_open = any(file.readlink() == kernel.path for file in files if file.is_symlink())
    return is_open or str(kernel.path) in Path("/proc/self/maps").read_text()


def control(number: int, name: bytes, kind: int = INTEGER, **facts: int) -> dict[str, Any]:
    usual = {"minimum": 0, "maximum": 255, "step": 1, "default_value": 128, "flags": 0}
    return {"id": number, "name": name, "type": kind, **usual, **facts}


# Opening


def test_a_device_tells_what_it_is(capture: Capture) -> None:
    assert (capture.card, capture.driver) == ("UVC Camera", "uvcvideo")


def test_the_descriptor_is_not_for_programs_we_start_and_never_blocks(capture: Capture) -> None:
    assert not os.get_inheritable(capture.fileno())
    assert not os.get_blocking(capture.fileno())


@pytest.mark.parametrize(
    ("capabilities", "captures"),
    [(CAPTURES, True), (METADATA, False), (0x04000000, False), (0x00000001, False), (0, True)],
)
def test_a_node_gives_pictures_or_something_else(
    kernel: Kernel, capabilities: int, captures: bool
) -> None:
    """A node's own capabilities count; those of the whole device where it has none."""
    kernel.capabilities = capabilities
    capture = Capture()
    assert capture.open(str(kernel.path)) is captures
    capture.close()


@pytest.mark.parametrize("code", [0, errno.EBUSY, errno.ENODEV])
def test_whether_it_is_claimed(kernel: Kernel, capture: Capture, code: int) -> None:
    if code:
        kernel.fails["REQBUFS"] = code
    assert capture.is_claimed() is (code == errno.EBUSY)


def test_a_node_that_is_not_there(kernel: Kernel) -> None:
    path = f"{kernel.path}-gone"
    with pytest.raises(FileNotFoundError) as caught:
        Capture().open(path)
    assert caught.value.filename == path


# Modes


def test_modes(kernel: Kernel, capture: Capture) -> None:
    kernel.sizes = {"YUYV": [(640, 480)], "MJPG": [(1280, 720), (640, 480)]}
    kernel.intervals = [(1, 30), (1001, 30000), (2, 15)]
    rates = (30.0, 29.97, 7.5)
    assert capture.modes() == [
        Mode("YUYV", 640, 480, rates),
        Mode("MJPG", 1280, 720, rates),
        Mode("MJPG", 640, 480, rates),
    ]


def test_of_a_range_of_sizes_the_usual_ones_and_the_wished_one_are_offered(
    kernel: Kernel, capture: Capture
) -> None:
    kernel.sizes = {"MJPG": [(64, 1280, 16, 64, 960, 8)]}
    kernel.intervals = []
    sizes = [(320, 240), (640, 480), (800, 600), (1280, 720)]
    assert [mode.size for mode in capture.modes()] == sizes
    assert [mode.size for mode in capture.modes((1024, 768))] == [*sizes, (1024, 768)]
    assert [mode.size for mode in capture.modes((640, 480))] == sizes
    for wished in ((1023, 768), (2000, 900), (16, 16)):  # odd, too large, too small
        assert [mode.size for mode in capture.modes(wished)] == sizes
    assert {mode.rates for mode in capture.modes()} == {()}


def test_a_range_of_rates_is_offered_as_such(kernel: Kernel, capture: Capture) -> None:
    kernel.interval_range = [(1, 30), (1, 1)]
    [mode] = capture.modes()
    assert mode.between
    assert str(mode) == "MJPG 640x480 at 1 to 30 fps"
    assert choose([mode], Wanted(fps=15)) == (mode, 15)


def test_a_mode_is_set_and_what_became_of_it_returned(kernel: Kernel, capture: Capture) -> None:
    assert capture.configure(Mode("MJPG", 640, 480, (30.0, 15.0)), 15.0) == Mode(
        "MJPG", 640, 480, (15.0,)
    )
    assert kernel.format == (640, 480, fourcc("MJPG"))
    assert kernel.rate == (1, 15)


def test_the_driver_may_choose_otherwise(
    kernel: Kernel, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.format, kernel.rate = (320, 240, fourcc("YUYV")), (1, 5)
    for name in ("_s_fmt", "_s_parm"):
        monkeypatch.setattr(Kernel, name, lambda _self, _wanted: None)
    assert capture.configure(Mode("MJPG", 640, 480), 30.0) == Mode("YUYV", 320, 240, (5.0,))


@pytest.mark.parametrize("request_name", ["S_PARM", "G_PARM"])
@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EINVAL])
def test_a_device_without_rates_is_fine(
    kernel: Kernel, capture: Capture, request_name: str, code: int
) -> None:
    kernel.fails[request_name] = code
    assert capture.configure(Mode("MJPG", 640, 480), 30.0) == Mode("MJPG", 640, 480)


def test_a_driver_that_does_not_know_its_rate_is_fine(kernel: Kernel, capture: Capture) -> None:
    kernel.rate = (0, 0)
    assert capture.configure(Mode("MJPG", 640, 480), None).rates == ()


@pytest.mark.parametrize(
    ("request_name", "work"),
    [
        ("ENUM_FMT", Capture.modes),
        ("ENUM_FRAMESIZES", Capture.modes),
        ("ENUM_FRAMEINTERVALS", Capture.modes),
        ("S_FMT", lambda capture: capture.configure(Mode("MJPG", 640, 480), 30.0)),
        ("S_PARM", lambda capture: capture.configure(Mode("MJPG", 640, 480), 30.0)),
        ("REQBUFS", Capture.start),
        ("QUERYBUF", Capture.start),
        ("QBUF", Capture.start),
        ("STREAMON", Capture.start),
        ("DQBUF", Capture.read),
        ("QUERY_EXT_CTRL", Capture.controls),
    ],
)
@pytest.mark.parametrize("code", [errno.ENODEV, errno.EBUSY, errno.EIO])
def test_an_error_names_its_request_and_leaves_nothing_behind(
    kernel: Kernel,
    capture: Capture,
    request_name: str,
    work: Callable[[Capture], object],
    code: int,
) -> None:
    kernel.fails[request_name] = code
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is looked at
        work(capture)
    assert caught.value.errno == code
    assert caught.value.filename == f"VIDIOC_{request_name}"
    capture.close()
    assert not held(kernel)


def test_a_device_that_opens_and_answers_nothing_is_closed(kernel: Kernel) -> None:
    kernel.fails["QUERYCAP"] = errno.ENODEV
    capture = Capture()
    with pytest.raises(OSError, match="VIDIOC_QUERYCAP"):
        capture.open(str(kernel.path))
    capture.close()
    assert not held(kernel)


# Buffers


def test_every_buffer_is_handed_to_the_driver_before_it_starts(
    kernel: Kernel, capture: Capture
) -> None:
    capture.start()
    assert kernel.asked == ["REQBUFS 4", "QBUF 0", "QBUF 1", "QBUF 2", "QBUF 3", "STREAMON"]


def test_a_buffer_is_copied_and_handed_back(kernel: Kernel, capture: Capture) -> None:
    capture.start()
    kernel.asked.clear()
    kernel.filled = [(2, 100, 0), (0, PAGE, 0), (1, 0, 0)]
    for data in (b"\x02" * 100, bytes(PAGE), b""):
        buffer = capture.read()
        assert buffer
        assert (buffer.data, buffer.is_damaged) == (data, False)
    assert kernel.asked == ["QBUF 2", "QBUF 0", "QBUF 1"]


def test_a_damaged_buffer_is_told_as_such_and_handed_back(kernel: Kernel, capture: Capture) -> None:
    capture.start()
    kernel.asked.clear()
    kernel.filled = [(3, 100, DAMAGED)]
    buffer = capture.read()
    assert buffer
    assert (buffer.data, buffer.is_damaged) == (b"", True)
    assert kernel.asked == ["QBUF 3"]


@pytest.mark.parametrize("flags", [MONOTONIC, MONOTONIC | DAMAGED, MONOTONIC | QUEUED_AT_START])
@pytest.mark.parametrize("age", [0.0, 0.04, 4.0])
def test_a_picture_was_captured_when_the_driver_says(
    kernel: Kernel, capture: Capture, flags: int, age: float
) -> None:
    capture.start()
    kernel.filled, kernel.stamp = [(0, 1, flags)], time.monotonic() - age
    buffer = capture.read()
    assert buffer
    assert buffer.captured == pytest.approx(kernel.stamp, abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "stamp"),
    [
        (UNKNOWN, time.monotonic),
        (COPIED, lambda: time.monotonic() - 1),
        (MONOTONIC, time.time),  # uvcvideo with clock=CLOCK_REALTIME
        (MONOTONIC, lambda: time.monotonic() + 0.5),
        (MONOTONIC, lambda: time.monotonic() - 10),
        (MONOTONIC, lambda: 0.0),
    ],
)
def test_where_the_driver_cannot_be_right_it_was_captured_when_it_arrived(
    kernel: Kernel, capture: Capture, flags: int, stamp: Callable[[], float]
) -> None:
    capture.start()
    kernel.filled, kernel.stamp = [(0, 1, flags)], stamp()
    before = time.monotonic()
    buffer = capture.read()
    assert buffer
    assert before <= buffer.captured <= time.monotonic()


def test_where_nothing_is_filled_there_is_nothing_to_read(capture: Capture) -> None:
    capture.start()
    assert capture.read() is None


# Closing


def test_closing_stops_unmaps_frees_and_closes(kernel: Kernel, capture: Capture) -> None:
    capture.start()
    assert held(kernel)
    kernel.asked.clear()
    capture.close()
    assert kernel.asked == ["STREAMOFF", "REQBUFS 0"]
    assert not held(kernel)


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EINVAL, errno.EIO, errno.EBUSY])
def test_whatever_the_kernel_answers_nothing_stays_open_or_mapped(
    kernel: Kernel, capture: Capture, code: int
) -> None:
    """After an unplug every request fails; a mapping left over keeps the camera busy for ever."""
    capture.start()
    mapped = capture._maps  # as the traceback of an error may keep them
    kernel.fails = dict.fromkeys(["STREAMOFF", "REQBUFS", "QBUF", "DQBUF"], code)
    capture.close()
    assert len(mapped) == 4
    assert not held(kernel)


def test_closing_twice_closes_nobody_else_s_descriptor(kernel: Kernel, capture: Capture) -> None:
    capture.close()
    with kernel.path.open("rb") as file:
        capture.close()
        assert os.fstat(file.fileno())


def test_it_can_be_opened_again(kernel: Kernel, capture: Capture) -> None:
    for _ in range(3):
        capture.start()
        capture.close()
        assert not held(kernel)
        assert capture.open(str(kernel.path))


# Controls


def test_controls(kernel: Kernel, capture: Capture) -> None:
    kernel.controls = [
        control(1, b"User Controls", CLASS),
        control(2, b"Brightness", minimum=-64, maximum=64, default_value=0),
        control(3, b"White Balance, Automatic", BOOLEAN, maximum=1, default_value=1),
        control(4, b"Pan, Reset", BUTTON),
        control(5, b"Exposure Time, Absolute", minimum=3, maximum=2047, flags=INACTIVE),
        control(6, b"Serial", STRING),
    ]
    found = {each.name: each for each in capture.controls()}
    assert [*found] == ["brightness", "white_balance_automatic", "exposure_time_absolute"]
    brightness = found["brightness"]
    assert (brightness.kind, brightness.id) == ("integer", 2)
    assert (brightness.minimum, brightness.maximum, brightness.default) == (-64, 64, 0)
    assert found["white_balance_automatic"].kind == "boolean"
    assert [each.inactive for each in found.values()] == [False, False, True]


@pytest.mark.parametrize(
    ("kind", "choices", "menu"),
    [
        (MENU, {1: b"Manual Mode", 3: b"Auto"}, {1: "Manual Mode", 3: "Auto"}),
        (INTEGER_MENU, {0: 100, 1: 2000}, {0: "100", 1: "2000"}),
    ],
)
def test_menus_have_their_choices_and_no_others(
    kernel: Kernel,
    capture: Capture,
    kind: int,
    choices: dict[int, bytes | int],
    menu: dict[int, str],
) -> None:
    kernel.controls = [control(1, b"Auto Exposure", kind, maximum=3)]
    kernel.menu = choices
    [found] = capture.controls()
    assert found.menu == menu


def test_a_control_is_set_and_read(kernel: Kernel, capture: Capture) -> None:
    kernel.controls = [control(7, b"Gain")]
    [gain] = capture.controls()
    capture.set_control(gain, 12)
    assert kernel.values == {7: 12}
    assert capture.control_value(gain) == 12


def test_a_control_that_is_refused_names_its_request(kernel: Kernel, capture: Capture) -> None:
    kernel.controls = [control(7, b"Gain")]
    kernel.fails = {"S_CTRL": errno.EACCES, "G_CTRL": errno.EBUSY}
    [gain] = capture.controls()
    with pytest.raises(PermissionError, match="VIDIOC_S_CTRL"):
        capture.set_control(gain, 12)
    with pytest.raises(OSError, match="VIDIOC_G_CTRL"):
        capture.control_value(gain)
