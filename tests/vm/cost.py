"""What a USB camera costs, beside ustreamer: both on the same emulated device, in turn.

    tests/vm/vmrun.py -- python3 -B -m tests.vm.cost

All is emulated, so only ratios say something, and those with a doubt: the emulator slows down an
interpreter more than it does the copying of memory.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.bench.measure import cost
from tests.bench.programs import running
from tests.vm.support.camera import EmulatedCamera
from tests.vm.support.machine import draw_pictures, must
from tests.vm.support.relay import install

PORT = 8090
CLIENTS = (0, 1, 10)
ROUNDS = 3
SECONDS = 8.0
# mjrelay counts who looked whether it streams as a viewer for ten seconds more.
SETTLE = 12.0


def relays(camera: EmulatedCamera) -> dict[str, list[str]]:
    """How to run each relay, by its name."""
    mode = ["--format=MJPEG", "--encoder=HW", "--resolution=640x480"]
    where = ["--host=127.0.0.1", f"--port={PORT}", f"--device={camera.node}"]
    ours = [sys.executable, "-m", "mjrelay", "run", "--listen", f"127.0.0.1:{PORT}"]
    return {"ustreamer": ["ustreamer", *mode, *where], "mjrelay": [*ours, f"front={camera.usb}"]}


def await_picture() -> None:
    """Wait until the relay streams."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/stream", timeout=5) as stream,
        ):
            if b"\xff\xd8\xff" in stream.read(4096):
                return
        time.sleep(0.2)
    raise TimeoutError("no picture")


def measure(command: list[str], clients: int) -> float:
    """What part of a processor core a relay takes with some clients, in percent."""
    viewer = ["curl", "-s", "-N", f"http://127.0.0.1:{PORT}/stream"]
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(running(command, output=subprocess.DEVNULL))
        await_picture()
        for _ in range(clients):
            stack.enter_context(running(viewer, output=subprocess.DEVNULL))
        time.sleep(SETTLE)
        begun, before = time.monotonic(), cost([relay.pid])
        time.sleep(SECONDS)
        return 100 * cost([relay.pid]).since(before).cpu / (time.monotonic() - begun)


def tell(text: str) -> None:
    """Print it now: the next line takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure, and print a table."""
    must("modprobe", "vhci-hcd")
    install()
    pictures = Path(tempfile.mkdtemp())
    draw_pictures(pictures)
    tell("| clients | ustreamer, % of a core | mjrelay | ratio |\n|--:|--:|--:|--:|")
    for clients in CLIENTS:
        shares: dict[str, list[float]] = {"ustreamer": [], "mjrelay": []}
        with EmulatedCamera(pictures) as camera:
            for _ in range(ROUNDS):
                for name, command in relays(camera).items():
                    shares[name].append(measure(command, clients))
        peer, ours = (statistics.median(shares[name]) for name in ("ustreamer", "mjrelay"))
        tell(f"| {clients} | {peer:.1f} | {ours:.1f} | {ours / peer:.2f} |")


if __name__ == "__main__":
    main()
