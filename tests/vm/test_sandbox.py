"""What the unit as we ship it allows, and what it keeps from programs of `exec:` sources."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.camera import EmulatedCamera
from .support.machine import must
from .support.relay import KERNEL_MESSAGES, RelayService

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

# Where the service sees it: it has a /tmp of its own.
PICTURE = Path("/srv/picture.jpg")
# As ffmpeg does it: one JPEG after the other.
PROGRAM = f"exec:sh -c 'while cat {PICTURE}; do sleep 0.1; done'"


@pytest.fixture
def relay(pictures: Path) -> Iterator[RelayService]:
    shutil.copy(next(pictures.iterdir()), PICTURE)
    with RelayService({"door": {"source": PROGRAM}}) as service:
        yield service
    PICTURE.unlink()


def facts_of(pid: int) -> dict[str, str]:
    """What the kernel says about a process, in words."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_program_streams_and_may_do_less_than_the_relay(relay: RelayService) -> None:
    relay.until_state("streaming")
    relay.until(lambda status: status["frames"]["published"] > 10, "ten pictures")
    (program,) = map(int, must("pgrep", "-P", str(relay.pid), "-x", "sh").split())
    ours, its = facts_of(relay.pid), facts_of(program)
    assert its["Uid"] == ours["Uid"]
    assert int(ours["CapEff"], 16)
    assert [int(its[name], 16) for name in ("CapEff", "CapPrm", "CapAmb")] == [0] * 3
    assert (its["NoNewPrivs"], its["Seccomp"]) == ("1", "2")


def test_what_the_kernel_said_is_quoted_where_that_is_allowed(camera: EmulatedCamera) -> None:
    with RelayService({"front": {"source": camera.usb}}, KERNEL_MESSAGES) as relay:
        camera.behave("commit-stall")
        camera.replug()
        relay.until_failing("(kernel: uvcvideo 1-1:1.1: Failed to set UVC commit control")
        camera.behave("ok")
        relay.until_state("streaming")
