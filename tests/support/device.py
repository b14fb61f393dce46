"""A computer with a video device, for tests: it follows a script, and notes how it is treated.

The device's descriptor is one end of a real socket pair, so it becomes readable as a real one does:

    desk = Desk(FakeDevice([stamped(1), DAMAGED, stamped(2), failure(errno.ENODEV)]))
    source = V4l2Source(address, config, devices=desk, timing=BRIEF)
"""

import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from structlog.contextvars import get_contextvars

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.capture import Buffer, Capture, Control
from mjrelay.devices.computer import Devices
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import UsbDevice, VideoNode
from mjrelay.devices.timing import Timing
from mjrelay.errors import RemedyFailed, SourceError, SourceUnreachable

BRIEF = Timing(close_timeout=0.1, back_within=0.1, suspended_after=0.01, look_every=0.01)
NOBODY = Holders((), hidden=False)
FFMPEG = Holder(os.getpid(), "/usr/bin/ffmpeg", None)
ENDED = Holder(2**22 + 1, "/usr/bin/ffmpeg", None)  # more than any pid

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

DAMAGED = Buffer(b"", 0.0, is_damaged=True)
"""In a script: a buffer that the driver marks as damaged."""

Step = bytes | Buffer | OSError | None
"""In a script: a buffer, filled just now if it is only bytes; an error; a false alarm."""


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
        drifts: An automatic control decides its value: another one whenever it is read.
    """

    control: Control
    value: int = 0
    refuses: OSError | None = None
    rounds_to: int = 1
    drifts: bool = False


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
        stuck: The steps at which the kernel waits until `answers` is set.
        settings: Its controls by name.
        story: Each step as it was begun; "close" or "leave" for each that ended an opening.
        paths: What was opened, in order.
        open_now: How many openings are not closed; and `most_open` at once.
        reads: How often it was asked for a buffer.
        scripts: What each opening plays.
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
        self.scripts: Sequence[Sequence[Step]] = scripts or ([],)
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

    @property
    def descriptor(self) -> int:
        """That of the latest opening."""
        assert self._latest
        return self._latest.fileno()

    @property
    def unread(self) -> int:
        """How many steps of the latest opening are still to come."""
        return len(self._latest.steps) if self._latest else 0

    def next_script(self) -> Sequence[Step]:
        """Count a start."""
        self._started += 1
        return self.scripts[min(self._started, len(self.scripts)) - 1]

    def begin(self, capture: "FakeCapture", step: str, told: str = "") -> None:
        """Note a step of an opening, wait if the kernel is stuck there, and fail if it does."""
        self._latest = capture
        self.story.append(told or step)
        if step in self.stuck.split():
            assert self.answers.wait(10), "a test has left the kernel stuck"
        if step in self.fails:
            raise self.fails[step]


class FakeCapture(Capture):
    """One Capture of a FakeDevice: the same methods, and as forgiving."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self.card, self.driver = "UVC Camera", "uvcvideo"
        self._device = device
        self.steps: deque[Step] = deque()
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

    def read(self) -> Buffer | None:
        assert self._ours
        self._device.reads += 1
        try:
            os.read(self._ours.fileno(), 1)
        except BlockingIOError:
            return None
        step = self.steps.popleft()
        if isinstance(step, OSError):
            raise step
        return Buffer(step, time.monotonic()) if isinstance(step, bytes) else step

    def adopt(self, fd: int) -> None:
        self._device.story.append("adopt")
        os.close(fd)

    def leave(self) -> None:
        self._end("leave")

    def close(self) -> None:
        self._end("close")

    def _end(self, how: str) -> None:
        if self._ours is None:
            return
        self._device.begin(self, how)
        assert self._theirs
        self._device.open_now -= 1
        self._ours.close()
        self._theirs.close()
        self._ours = self._theirs = None

    def play(self, step: Step) -> None:
        """Fill a buffer, or do what else the script says."""
        assert self._theirs
        self.steps.append(step)
        self._theirs.send(b"x")

    def controls(self) -> list[Control]:
        self._device.begin(self, "controls")
        return [each.control for each in self._device.settings.values()]

    def control_value(self, control: Control) -> int:
        known = self._device.settings[control.name]
        if known.drifts:
            self._device.settings[control.name] = replace(known, value=known.value + 1)
        return known.value

    def set_control(self, control: Control, value: int) -> None:
        known = self._device.settings[control.name]
        self._device.begin(self, "set", f"set {control.name} {value}")
        if known.refuses:
            raise known.refuses
        rounded = known.value if known.drifts else value - value % known.rounds_to
        self._device.settings[control.name] = replace(known, value=rounded)


class Desk(Devices):
    """A computer with one device.

    Attributes:
        device: It.
        plugged: The node an address leads to, and its siblings; none while it is unplugged.
        finds: What the next looks for it find instead, one after the other.
        looks: What was looked for: the address, and the device seen there before.
        better: The stable name of each node.
        vanished: Whether the nodes are gone, before we are told.
        nodes_age: Seconds since the nodes were made.
        held: Which processes have it.
        searched: The device numbers for which those were searched.
        searched_open: Whether we had it open ourselves at that time.
        searched_in: The thread that searched.
        kernel: What the kernel said.
        about: Which device that was asked of.
        ails: What a reset raises.
        on_reset: What a reset does beside, in its thread.
        resets: Each remedy that was applied, and the device.
        log_facts: What the log says with everything while we look for it.
    """

    def __init__(self, device: FakeDevice | None = None, *nodes: VideoNode) -> None:
        self.device = device or FakeDevice()
        self.plugged = list(nodes) or [node_at("/dev/video0")]
        self.finds: list[VideoNode | SourceError] = []
        self.looks: list[tuple[V4l2Address, UsbDevice | None]] = []
        self.better: str | None = None
        self.vanished = False
        self.nodes_age = 0.0
        self.held = NOBODY
        self.searched: list[int] = []
        self.searched_open = False
        self.searched_in: threading.Thread | None = None
        self.kernel: list[str] = []
        self.about: Sequence[str] = ()
        self.ails: RemedyFailed | None = None
        self.on_reset: Callable[[], object] = lambda: None
        self.resets: list[tuple[str, UsbDevice]] = []
        self.log_facts: dict[str, object] = {}

    @property
    def seen(self) -> list[UsbDevice | None]:
        """Each camera that was looked for because we had streamed from it."""
        return [seen for _, seen in self.looks]

    def nodes(self) -> list[VideoNode]:
        return self.plugged

    def find(self, address: V4l2Address, *, seen: UsbDevice | None = None) -> VideoNode:
        self.looks.append((address, seen))
        self.log_facts = get_contextvars()
        found = self.finds.pop(0) if self.finds else next(iter(self.plugged), None)
        if isinstance(found, VideoNode):
            return found
        raise found or SourceUnreachable(f"{address.label} is not there", "plug it in")

    def siblings(self, node: VideoNode) -> list[VideoNode]:
        return [other for other in self.plugged if other != node]

    def stable_name(self, node: VideoNode) -> str | None:  # noqa: ARG002 - as it is
        return self.better

    def is_there(self, node: VideoNode) -> bool:  # noqa: ARG002
        return not self.vanished

    def age(self, node: VideoNode) -> float:
        if self.vanished:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), node.path)
        return self.nodes_age

    def capture(self) -> Capture:
        return self.device.capture()

    def holders(self, number: int) -> Holders:
        self.searched_open = bool(self.device.open_now)
        self.searched.append(number)
        self.searched_in = threading.current_thread()
        return self.held

    def still_holds(self, holder: Holder, number: int) -> bool:  # noqa: ARG002
        return holder in self.held.found and holder != ENDED

    def kernel_messages(self, about: Sequence[str], *, within: float) -> list[str]:
        assert within > 0
        self.about = about
        return self.kernel

    def reset(self, device: UsbDevice) -> None:
        self._mend("reset", device)

    def reauthorize(self, device: UsbDevice) -> None:
        self._mend("reauthorize", device)

    def _mend(self, how: str, device: UsbDevice) -> None:
        assert not self.device.open_now, "it would be thrown out"
        if self.ails:
            raise self.ails
        self.resets.append((how, device))
        self.on_reset()


def values_of(device: FakeDevice) -> Mapping[str, int]:
    """What its controls are set to."""
    return {name: each.value for name, each in device.settings.items()}
