"""A video device for tests: it follows a script, and notes how it is treated.

Its descriptor is one end of a real socket pair, so it becomes readable as a real one does:

    device = FakeDevice([stamped(1), b"", stamped(2), failure(errno.ENODEV)])
    monkeypatch.setattr("mjrelay.sources.v4l2.source.Capture", device.capture)
"""

import errno
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mjrelay.devices.capture import Control
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import UsbDevice, VideoNode

MJPG = Mode("MJPG", 64, 48, (30.0,))
YUYV = Mode("YUYV", 64, 48, (30.0,))

WEBCAM = UsbDevice(
    sysfs=Path("/sys/devices/usb1/1-1"),
    port="1-1",
    vendor="046d",
    product="0825",
    serial="A",
    model="Webcam C270",
)

FALSE_ALARM = None
"""In a script: the descriptor is readable, and no buffer is filled."""

Step = bytes | OSError | None
"""In a script: a buffer, empty if the driver marks it as damaged; an error; a false alarm."""


def failure(code: int, request: str = "VIDIOC_DQBUF") -> OSError:
    """What a request answers, as Capture raises it."""
    return OSError(code, os.strerror(code), request)


def node_at(path: str, *, index: int = 0, usb: UsbDevice | None = WEBCAM) -> VideoNode:
    """A node of the webcam."""
    return VideoNode(
        path=path, sysfs=Path("/sys") / path, name="UVC Camera", index=index, number=1, usb=usb
    )


@dataclass(frozen=True)
class Setting:
    """A control with the value it has.

    Attributes:
        refuses: What setting it answers.
        rounds_to: It takes multiples of this only.
    """

    control: Control
    value: int = 0
    refuses: OSError | None = None
    rounds_to: int = 1


def setting(name: str, value: int = 0, **more: object) -> Setting:
    """A control that goes from 0 to 255."""
    known = {
        "name": name,
        "kind": "integer",
        "minimum": 0,
        "maximum": 255,
        "step": 1,
        "default": 128,
        "inactive": False,
        "menu": {},
        "id": 1,
    }
    facts = {key: more.pop(key) for key in [*more] if key in known}
    return Setting(Control(**{**known, **facts}), value, **more)  # type: ignore[arg-type]


class FakeDevice:
    """A device. Each opening of it plays one script; the last one again and again.

    Attributes:
        modes: What it says it can be set to.
        gives: What it is set to when asked for something, if not that.
        blind: Paths of its nodes that give no pictures.
        fails: What a step of an opening answers, by its name: open, querycap (open fails after the
            kernel has opened), modes, configure, start, controls.
        stuck: The step at which the kernel waits until `answers` is set.
        settings: Its controls by name.
        story: Each step as it was begun; "close" for each that closed something.
        paths: What was opened, in order.
        open_now: How many openings are not closed; and `most_open` at once.
        reads: How often it was asked for a buffer.
    """

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.modes = [MJPG]
        self.gives: Mode | None = None
        self.blind: set[str] = set()
        self.fails: dict[str, OSError] = {}
        self.stuck = ""
        self.answers = threading.Event()
        self.settings: dict[str, Setting] = {}
        self.story: list[str] = []
        self.open_now = self.most_open = self.reads = 0
        self._started = 0
        self.paths: list[str] = []
        self._scripts = scripts or ([],)
        self._latest: FakeCapture | None = None

    def capture(self) -> "FakeCapture":
        """What stands in for the Capture class."""
        return FakeCapture(self)

    def has(self, *settings: Setting) -> None:
        """Give it controls."""
        self.settings = {each.control.name: each for each in settings}

    def send(self, *steps: Step) -> None:
        """Go on with the script of the latest opening."""
        assert self._latest
        for step in steps:
            self._latest.play(step)

    def next_script(self) -> Sequence[Step]:
        """Count a start."""
        self._started += 1
        return self._scripts[min(self._started, len(self._scripts)) - 1]

    def begin(self, capture: "FakeCapture", step: str, told: str = "") -> None:
        """Note a step of an opening, wait if the kernel is stuck there, and fail if it does."""
        self._latest = capture
        self.story.append(told or step)
        if self.stuck == step:
            assert self.answers.wait(10), "a test has left the kernel stuck"
        if step in self.fails:
            raise self.fails[step]


class FakeCapture:
    """One Capture of a FakeDevice: the same methods, and as forgiving."""

    def __init__(self, device: FakeDevice) -> None:
        self.card, self.driver = "UVC Camera", "uvcvideo"
        self._device = device
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None

    def open(self, path: str) -> bool:
        self._device.paths.append(path)
        self._device.begin(self, "open", f"open {Path(path).name}")
        assert self._ours is None, "it was open"
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._device.open_now += 1
        self._device.most_open = max(self._device.most_open, self._device.open_now)
        if "querycap" in self._device.fails:
            raise self._device.fails["querycap"]
        return path not in self._device.blind

    def fileno(self) -> int:
        return -1 if self._ours is None else self._ours.fileno()

    def is_claimed(self) -> bool:
        return "configure" in self._device.fails

    def modes(self, wished: tuple[int, int] | None = None) -> list[Mode]:  # noqa: ARG002 - as it is
        self._device.begin(self, "modes")
        return self._device.modes

    def configure(self, mode: Mode, rate: float | None) -> Mode:
        self._device.begin(self, "configure", f"configure {mode.format} {rate}")
        return self._device.gives or replace(mode, rates=(rate,) if rate else ())

    def start(self) -> None:
        self._device.begin(self, "start")
        for step in self._device.next_script():
            self.play(step)

    def read(self) -> bytes | None:
        assert self._ours
        self._device.reads += 1
        try:
            message = os.read(self._ours.fileno(), 2**20)
        except BlockingIOError:
            return None
        kind, data = message[:1], message[1:]
        if kind == b"!":
            raise failure(int(data))
        return None if kind == b"?" else data

    def close(self) -> None:
        if self._ours is None:
            return
        assert self._theirs
        self._device.story.append("close")
        self._device.open_now -= 1
        self._ours.close()
        self._theirs.close()
        self._ours = self._theirs = None

    def play(self, step: Step) -> None:
        """Fill a buffer, or do what else the script says."""
        assert self._theirs
        match step:
            case bytes():
                self._theirs.send(b"=" + step)
            case OSError():
                self._theirs.send(b"!%d" % (step.errno or errno.EIO))
            case None:
                self._theirs.send(b"?")

    def controls(self) -> list[Control]:
        self._device.begin(self, "controls")
        return [each.control for each in self._device.settings.values()]

    def control_value(self, control: Control) -> int:
        return self._device.settings[control.name].value

    def set_control(self, control: Control, value: int) -> None:
        known = self._device.settings[control.name]
        self._device.begin(self, "set", f"set {control.name} {value}")
        if known.refuses:
            raise known.refuses
        rounded = value - value % known.rounds_to
        self._device.settings[control.name] = replace(known, value=rounded)


def values_of(device: FakeDevice) -> Mapping[str, int]:
    """What its controls are set to."""
    return {name: each.value for name, each in device.settings.items()}
