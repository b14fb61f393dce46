"""A camera that can be plugged in, pulled out, and made to fail."""

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.vm.emulator.camera import Mode

from .machine import PROJECT, eventually, must

_ORDERS_TIMEOUT = 5.0
# The first camera after a start also loads eight controllers and uvcvideo.
_PLUG_TIMEOUT = 30.0
# Whatever the driver asks for, as a camera in the dark: it leaves time for everything else.
_FPS = "15"


class EmulatedCamera:
    """A USB webcam: a process of its own, whose end is a pulled cable.

    Args:
        pictures: The folder with what it shows.
        serial: Its serial number.
        ids: Vendor and product, in hexadecimal.
        port: Of the virtual USB controller; each camera needs its own.
        options: Further options of `tests.vm.uvcemu`.
        plugged: Whether it is plugged in from the start.
    """

    def __init__(
        self,
        pictures: Path,
        *options: str,
        serial: str = "EMU0001",
        ids: str = "1d6b:0102",
        port: int = 0,
        plugged: bool = True,
    ) -> None:
        self.serial = serial
        self.ids = ids
        self._plugged = plugged
        self._orders = Path(tempfile.mkdtemp()) / "orders"
        vendor, product = ids.split(":")
        self._command = [
            sys.executable, "-B", "-m", "tests.vm.uvcemu",
            "--frames", str(pictures), "--orders", str(self._orders), "--port", str(port),
            "--serial", serial, "--vid", vendor, "--pid", product, "--fps", _FPS,
            "--unplugged", *options,
        ]  # fmt: skip

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(self._command, cwd=PROJECT)
        eventually(self._listens, "the emulator takes orders")
        if self._plugged:
            self.plug()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; the kernel sees it unplugged."""
        self._process.kill()
        self._process.wait()
        eventually(lambda: not self.is_there, "the camera's node goes")
        must("udevadm", "settle")

    @property
    def by_id(self) -> Path:
        """Its stable name."""
        return Path(f"/dev/v4l/by-id/usb-Emulated_UVC_Camera_{self.serial}-video-index0")

    @property
    def by_path(self) -> Path:
        """The name of the port it is plugged into."""
        (link,) = (
            link
            for link in Path("/dev/v4l/by-path").iterdir()
            if link.name.endswith("-video-index0") and link.resolve() == self.node
        )
        return link

    @property
    def usb(self) -> str:
        """Its name as a source by what it is."""
        return f"usb:{self.ids}:{self.serial}"

    @property
    def node(self) -> Path:
        """Its device node at present, such as /dev/video0."""
        return self.by_id.resolve(strict=True)

    @property
    def metadata_node(self) -> Path:
        """Its other node, which gives no pictures."""
        return Path(str(self.by_id).replace("index0", "index1")).resolve(strict=True)

    @property
    def appeared_at(self) -> float:
        """When udev showed it, in Unix seconds."""
        return self.by_id.lstat().st_ctime

    @property
    def is_there(self) -> bool:
        """Whether udev shows it."""
        return self.by_id.exists()

    @property
    def status(self) -> dict[str, Any]:
        """What it counts, and its controls as it has them."""
        status: dict[str, Any] = json.loads(self._order("status"))
        return status

    @property
    def resets(self) -> int:
        """How often its port was reset."""
        resets: int = self.status["resets"]
        return resets

    def plug(self) -> None:
        """Plug it in, and wait until udev shows it."""
        self._do("plug")
        eventually(lambda: self.is_there, "the camera's node appears", _PLUG_TIMEOUT)
        must("udevadm", "settle")

    def unplug(self) -> None:
        """Pull the cable, and wait until the node is gone."""
        self._do("unplug")
        eventually(lambda: not self.is_there, "the camera's node goes")
        must("udevadm", "settle")

    def replug(self) -> None:
        """Pull the cable and plug it in again."""
        self.unplug()
        self.plug()

    def behave(self, mode: Mode) -> None:
        """Begin to fail, or to work again."""
        self._do(f"mode {mode}")

    def _do(self, order: str) -> None:
        answer = self._order(order)
        assert answer == "ok", f"{order}: {answer}"

    def _order(self, order: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ORDERS_TIMEOUT)
            connection.connect(str(self._orders))
            connection.sendall(order.encode() + b"\n")
            return connection.makefile(encoding="utf-8").readline().strip()

    def _listens(self) -> bool:
        assert self._process.poll() is None, "the emulator has ended"
        try:
            self._order("status")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
