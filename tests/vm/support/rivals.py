"""Other processes that hold a camera, and so keep it from the relay."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .machine import PROJECT, eventually, holds_of, must, run

CLAIM = PROJECT / "tests/vm/support/claim.py"

# As in a container that was given its cameras elsewhere. /run has no devices.
_ELSEWHERE = Path("/var/odd/cam")

# Tries to claim a camera every 10 ms, lets it go at once, and tells at its end how often it tried
# and how often it got it.
_TRY = """\
import fcntl, os, signal, struct, sys, time
tries = wins = 0
done = []
signal.signal(signal.SIGTERM, lambda *_: done.append(1))
print("trying", flush=True)
while not done:
    try:
        device = os.open(sys.argv[1], os.O_RDWR)
        try:
            tries += 1
            fcntl.ioctl(device, 0xC0145608, bytearray(struct.pack("5I", 1, 1, 1, 0, 0)))
            wins += 1
        finally:
            os.close(device)
    except OSError:
        pass
    time.sleep(0.01)
print(tries, wins, flush=True)
"""


@dataclass
class Attempts:
    """What came of a rival's attempts, once it has ended."""

    tries: int = 0
    wins: int = 0


@contextlib.contextmanager
def trying(node: Path) -> Iterator[Attempts]:
    """A process that tries to get a camera all the time."""
    attempts = Attempts()
    with subprocess.Popen(
        [sys.executable, "-c", _TRY, str(node)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        try:
            yield attempts
        finally:
            process.terminate()
            attempts.tries, attempts.wins = map(int, process.stdout.readline().split())


@contextlib.contextmanager
def streaming(node: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that streams from a camera."""
    command = ["v4l2-ctl", "-d", str(node), "--stream-mmap", "--stream-to=/dev/null"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            # It maps the buffers once it has claimed the camera.
            eventually(lambda: holds_of(process.pid, "/dev/video")[1] > 0, "v4l2-ctl streams")
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def streaming_service(node: Path, name: str = "old-cam.service") -> Iterator[str]:
    """A systemd service that streams from a camera."""
    must(
        "systemd-run", f"--unit={name}", "--collect",
        "v4l2-ctl", "-d", node, "--stream-mmap", "--stream-to=/dev/null",
    )  # fmt: skip

    def streams() -> bool:
        pid = int(must("systemctl", "show", "-P", "MainPID", name))
        return pid > 0 and holds_of(pid, "/dev/video")[1] > 0

    eventually(streams, f"{name} streams")
    try:
        yield name
    finally:
        stop(name)


def stop(unit: str) -> None:
    """Stop a service; one that has ended is fine."""
    run("systemctl", "stop", unit)


@contextlib.contextmanager
def opened(node: Path) -> Iterator[int]:
    """A process that has a node open, and does nothing with it."""
    with _claiming(node, "open") as pid:
        yield pid


@contextlib.contextmanager
def inherited(node: Path) -> Iterator[int]:
    """The child of a process that claimed a camera and ended."""
    with _claiming(node, "forked") as pid:
        yield pid


@contextlib.contextmanager
def elsewhere(node: Path) -> Iterator[int]:
    """A process that claimed a camera by a node outside of /dev."""
    _ELSEWHERE.parent.mkdir(exist_ok=True)
    _ELSEWHERE.unlink(missing_ok=True)
    os.mknod(_ELSEWHERE, stat.S_IFCHR | 0o600, node.stat().st_rdev)
    with _claiming(_ELSEWHERE, "claimed") as pid:
        yield pid


@contextlib.contextmanager
def mapping(node: Path) -> Iterator[int]:
    """A process that claimed a camera, closed it, and forgot a piece of its memory."""
    with _claiming(node, "mapping") as pid:
        assert holds_of(pid, "/dev/video") == (0, 1)
        yield pid


@contextlib.contextmanager
def _claiming(node: Path, how: str) -> Iterator[int]:
    command = [sys.executable, str(CLAIM), str(node), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
