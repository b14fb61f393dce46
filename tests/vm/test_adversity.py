"""A computer on which something is wrong: it streams all the same."""

import os
import stat
import time
from pathlib import Path

import pytest

from .support.camera import EmulatedCamera
from .support.machine import eventually, must, run
from .support.relay import KERNEL_MESSAGES, RelayService

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

_UDEV = ("systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket")
_YEAR = 365 * 86_400.0


def still_streams(relay: RelayService) -> bool:
    """Whether frames go on coming, from the same opening."""
    before = relay.camera()
    eventually(
        lambda: relay.camera()["frames"]["published"] > before["frames"]["published"] + 10,
        "frames go on",
    )
    after = relay.camera()
    return bool(after["state"] == "streaming" and after["opens"] == before["opens"])


def set_clock(to: float) -> None:
    must("date", "--set", f"@{to:.0f}")


def test_the_clock_jumps_by_a_year_and_back(relay: RelayService) -> None:
    begun, monotonic = time.time(), time.monotonic()
    try:
        for jump in (_YEAR, -_YEAR):
            set_clock(begun + jump)
            assert still_streams(relay)
            assert relay.camera()["frame_age"] < 1
            assert relay.request("GET", "/readyz")[0] == 200
    finally:
        set_clock(begun + time.monotonic() - monotonic)
    assert relay.remedies == []


def test_the_disk_is_full(relay: RelayService) -> None:
    filler = Path("/var/filler")
    try:
        run("dd", "if=/dev/zero", f"of={filler}", "bs=1M")
        assert still_streams(relay)
        relay.restart()
        relay.until_state("streaming")
    finally:
        filler.unlink()


def test_there_is_no_udev(relay: RelayService) -> None:
    control = Path("/run/udev/control")
    try:
        must("systemctl", "stop", *_UDEV)
        control.unlink(missing_ok=True)
        relay.restart()
        relay.until_state("streaming")
        eventually(lambda: bool(relay.events("hotplug.unavailable")), "what the log says")
        (told,) = relay.events("hotplug.unavailable")
        assert "within a second" in told["hint"]
    finally:
        must("systemctl", "start", *reversed(_UDEV))


def test_the_disk_is_read_only(relay: RelayService) -> None:
    must("mount", "-o", "remount,ro", "/")
    try:
        with pytest.raises(OSError, match="Read-only"):
            Path("/var/file").touch()
        assert still_streams(relay)
        relay.restart()
        relay.until_state("streaming")
        assert relay.complaints == []
    finally:
        must("mount", "-o", "remount,rw", "/")


def test_the_kernel_s_messages_are_missing(camera: EmulatedCamera) -> None:
    kmsg = Path("/dev/kmsg")
    number = kmsg.stat().st_rdev
    kmsg.unlink()
    try:
        with RelayService({"front": {"source": camera.usb}}, KERNEL_MESSAGES) as relay:
            relay.until_state("streaming")
            # A camera that fails is what it would look there for.
            camera.behave("commit-stall")
            camera.replug()
            assert relay.until_failing("VIDIOC_STREAMON")["hint"]
            camera.behave("ok")
            relay.until_state("streaming")
            relay.restart()
            relay.until_state("streaming")
            assert not [line for line in relay.complaints if "kmsg" in line or "Traceback" in line]
    finally:
        os.mknod(kmsg, stat.S_IFCHR | 0o644, number)
