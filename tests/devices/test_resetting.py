"""Resetting: nobody's camera is taken away, and a camera is waited for until it is back."""

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.nodes import VideoNode
from mjrelay.devices.resetting import reset_unless_held
from mjrelay.devices.timing import USUAL
from mjrelay.errors import RemedyFailed, SourceError, SourceRefused, SourceUnreachable
from tests.support.device import WEBCAM, Desk, failure, node_at

FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")
GONE = SourceUnreachable("/dev/video0 is not there", "plug it in")
RESET = [("reset", WEBCAM)]
ADDRESS = V4l2Address("/dev/video0")


class Bench(Desk):
    """A desk with a camera that is to be reset."""

    def claim(self) -> None:
        """Let somebody stream from it."""
        self.device.fails["configure"] = failure(errno.EBUSY, "VIDIOC_S_FMT")

    def holders(self, number: int) -> Holders:
        assert not self.device.open_now, "we would find ourselves"
        return super().holders(number)

    def mend(self, *, force: bool = False) -> VideoNode:
        return reset_unless_held(
            lambda seen: self.find(ADDRESS, seen=seen),
            self.reset,
            self,
            force=force,
            timing=replace(USUAL, look_every=0.0),
        )

    def not_mended(self, *, force: bool = False) -> RemedyFailed:
        """Try to reset it; return why that cannot be."""
        with pytest.raises(RemedyFailed) as caught:
            self.mend(force=force)
        assert self.device.open_now == 0
        assert caught.value.done == bool(self.resets)
        return caught.value


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Let each look at the clock take a second."""
    seconds = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    return lambda: float(next(seconds))


# Who has it


def test_a_camera_that_nobody_has_is_reset(bench: Bench) -> None:
    assert bench.mend() == node_at("/dev/video0")
    assert bench.resets == RESET
    assert bench.searched == [], "it is not claimed: nobody need be looked for"
    assert bench.device.story == ["open video0", "close"]


def test_a_camera_that_another_has_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.held = Holders((FFMPEG,), hidden=False)
    error = bench.not_mended()
    assert error.is_held
    assert error.reason == "/dev/video0 is in use"
    assert error.hint == (
        "held by ffmpeg (pid 812, old-cam.service): sudo systemctl stop old-cam.service"
    )
    assert bench.searched == [node_at("/dev/video0").number]
    assert (bench.resets, len(bench.looks)) == ([], 1)


def test_a_camera_that_we_have_ourselves_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.held = Holders((Holder(os.getpid(), "mjrelay run", None),), hidden=False)
    error = bench.not_mended()
    assert error.is_held
    assert "two cameras of the configuration are this device" in (error.hint or "")
    assert bench.resets == []


def test_a_camera_that_somebody_hidden_may_have_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.held = Holders((), hidden=True)
    error = bench.not_mended()
    assert error.is_held
    assert "sudo mjrelay devices" in (error.hint or "")
    assert bench.resets == []


def test_a_camera_that_is_claimed_by_nobody_is_reset(bench: Bench) -> None:
    bench.claim()
    assert bench.mend().path == "/dev/video0"
    assert bench.resets == RESET
    assert len(bench.searched) == 1


@pytest.mark.parametrize("hidden", [True, False])
def test_by_force_it_is_taken_from_whoever_has_it(bench: Bench, hidden: bool) -> None:
    bench.claim()
    bench.held = Holders((FFMPEG,), hidden)
    bench.mend(force=True)
    assert bench.resets == RESET
    assert bench.device.story == [], "it is not even asked"


@pytest.mark.parametrize("step", ["open", "querycap"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.EACCES])
def test_a_camera_that_cannot_be_asked_is_reset(bench: Bench, step: str, code: int) -> None:
    bench.device.fails[step] = failure(code, step)
    bench.mend()
    assert bench.resets == RESET
    assert bench.device.open_now == 0


def test_a_camera_that_is_busy_when_it_is_opened_is_held(bench: Bench) -> None:
    """Some drivers let only one program open a device."""
    bench.device.fails["open"] = failure(errno.EBUSY, "/dev/video0")
    bench.held = Holders((FFMPEG,), hidden=False)
    assert bench.not_mended().is_held
    assert bench.resets == []


# What cannot be reset


@pytest.mark.parametrize("force", [True, False])
def test_what_is_no_usb_device_is_not_reset(bench: Bench, force: bool) -> None:
    bench.plugged = [node_at("/dev/video0", usb=None)]
    error = bench.not_mended(force=force)
    assert error.reason == "/dev/video0 is no USB device, so it cannot be reset"
    assert error.hint == (
        "unplug it or restart the computer; `mjrelay devices` lists the USB cameras"
    )
    assert not error.is_held
    assert (bench.resets, len(bench.looks)) == ([], 1)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("absent", [GONE, SourceRefused("/dev/video0 is not a camera")])
def test_a_camera_that_is_absent_is_not_reset(
    bench: Bench, force: bool, absent: SourceError
) -> None:
    bench.plugged.clear()
    bench.finds = [absent]
    error = bench.not_mended(force=force)
    assert (error.reason, error.hint) == (absent.reason, absent.hint)
    assert not error.is_held
    assert (bench.resets, len(bench.looks)) == ([], 1), "it is not waited for"


def test_a_reset_that_fails_says_what_is_missing_at_once(bench: Bench) -> None:
    bench.ails = RemedyFailed("Webcam C270 could not be reset", "copy the rule")
    assert bench.not_mended() is bench.ails
    assert not bench.ails.is_held
    assert len(bench.looks) == 1


# Coming back


def test_it_may_come_back_under_another_number(bench: Bench) -> None:
    bench.on_reset = lambda: bench.finds.append(node_at("/dev/video1"))
    assert bench.mend().path == "/dev/video1"
    assert len(bench.looks) == 2


@pytest.mark.usefixtures("clock")
def test_a_link_that_comes_back_late_is_waited_for(bench: Bench) -> None:
    refused = SourceRefused("/dev/v4l/by-id/x is not a camera")
    bench.on_reset = lambda: bench.finds.extend([GONE, refused, GONE, node_at("/dev/video2")])
    assert bench.mend().path == "/dev/video2"
    assert len(bench.looks) == 5
    assert bench.resets == RESET, "it is reset once"


def test_a_camera_that_never_comes_back_is_given_up(
    bench: Bench, clock: Callable[[], float]
) -> None:
    bench.on_reset = bench.plugged.clear
    began = clock()
    error = bench.not_mended()
    assert USUAL.back_within < clock() - began < 2 * USUAL.back_within
    assert error.reason == "the camera did not come back within 6 s of the reset"
    assert error.hint == "unplug it and plug it in again"
    assert not error.is_held
    assert bench.resets == RESET
    assert len(bench.looks) > 2
