"""Resetting: nobody's camera is taken away, and a camera is waited for until it is back."""

import errno
import itertools
import os
from collections.abc import Callable

import pytest

from mjrelay.devices import resetting
from mjrelay.devices.holders import Holder, Search
from mjrelay.devices.nodes import UsbDevice, VideoNode
from mjrelay.devices.resetting import reset_unless_held
from mjrelay.errors import RemedyFailed, SourceError, SourceRefused, SourceUnreachable
from tests.support.device import WEBCAM, FakeDevice, failure, node_at

FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")
GONE = SourceUnreachable("/dev/video0 is not there", "plug it in")


class Bench:
    """A camera to be reset, and what becomes of it.

    Attributes:
        device: What is behind its node.
        search: Who has it.
        looks: What each look for its node finds; the last one for good.
        looked: How often it was looked for.
        searched: Of which devices the holders were looked for.
        ails: What a reset raises.
        resets: The devices that were reset.
    """

    def __init__(self) -> None:
        self.device = FakeDevice()
        self.search = Search((), hidden=False)
        self.looks: list[VideoNode | SourceError] = [node_at("/dev/video0")]
        self.looked = 0
        self.searched: list[int] = []
        self.ails: RemedyFailed | None = None
        self.resets: list[UsbDevice] = []

    def claim(self) -> None:
        """Let somebody stream from it."""
        self.device.fails["configure"] = failure(errno.EBUSY, "VIDIOC_S_FMT")

    def find(self, _seen: UsbDevice | None = None) -> VideoNode:
        self.looked += 1
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, SourceError):
            raise found
        return found

    def find_holders(self, number: int) -> Search:
        assert not self.device.open_now, "we would find ourselves"
        self.searched.append(number)
        return self.search

    def act(self, device: UsbDevice) -> None:
        assert not self.device.open_now, "it would be thrown out"
        if self.ails:
            raise self.ails
        self.resets.append(device)

    def reset(self, *, force: bool = False) -> VideoNode:
        return reset_unless_held(self.find, self.act, force=force)

    def fails(self, *, force: bool = False) -> RemedyFailed:
        """Try to reset it; return why that cannot be."""
        with pytest.raises(RemedyFailed) as caught:
            self.reset(force=force)
        assert self.device.open_now == 0
        return caught.value


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(resetting, "Capture", bench.device.capture)
    monkeypatch.setattr(resetting, "find_holders", bench.find_holders)
    monkeypatch.setattr(resetting, "siblings", lambda _node: [])
    monkeypatch.setattr(resetting, "_LOOK_EVERY", 0.0)
    return bench


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Let each look at the clock take a second."""
    seconds = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    return lambda: float(next(seconds))


# Who has it


def test_a_camera_that_nobody_has_is_reset(bench: Bench) -> None:
    assert bench.reset() == node_at("/dev/video0")
    assert bench.resets == [WEBCAM]
    assert bench.searched == [], "it is not claimed: nobody need be looked for"
    assert bench.device.story == ["open video0", "close"]


def test_a_camera_that_another_has_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.search = Search((FFMPEG,), hidden=False)
    error = bench.fails()
    assert error.is_held
    assert error.reason == "/dev/video0 is in use"
    assert error.hint == (
        "held by ffmpeg (pid 812, old-cam.service): sudo systemctl stop old-cam.service"
    )
    assert bench.searched == [node_at("/dev/video0").number]
    assert (bench.resets, bench.looked) == ([], 1)


def test_a_camera_that_we_have_ourselves_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.search = Search((Holder(os.getpid(), "mjrelay run", None),), hidden=False)
    error = bench.fails()
    assert error.is_held
    assert "let one camera of the configuration have it" in (error.hint or "")
    assert bench.resets == []


def test_a_camera_that_somebody_hidden_may_have_is_left_alone(bench: Bench) -> None:
    bench.claim()
    bench.search = Search((), hidden=True)
    error = bench.fails()
    assert error.is_held
    assert "sudo mjrelay devices" in (error.hint or "")
    assert bench.resets == []


def test_a_camera_that_is_claimed_by_nobody_is_reset(bench: Bench) -> None:
    bench.claim()
    assert bench.reset().path == "/dev/video0"
    assert bench.resets == [WEBCAM]
    assert len(bench.searched) == 1


@pytest.mark.parametrize("hidden", [True, False])
def test_by_force_it_is_taken_from_whoever_has_it(bench: Bench, hidden: bool) -> None:
    bench.claim()
    bench.search = Search((FFMPEG,), hidden)
    bench.reset(force=True)
    assert bench.resets == [WEBCAM]
    assert bench.device.story == [], "it is not even asked"


@pytest.mark.parametrize("step", ["open", "querycap"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT, errno.EACCES])
def test_a_camera_that_cannot_be_asked_is_reset(bench: Bench, step: str, code: int) -> None:
    bench.device.fails[step] = failure(code, step)
    bench.reset()
    assert bench.resets == [WEBCAM]
    assert bench.device.open_now == 0


def test_a_camera_that_is_busy_when_it_is_opened_is_held(bench: Bench) -> None:
    """Some drivers let only one program open a device."""
    bench.device.fails["open"] = failure(errno.EBUSY, "/dev/video0")
    bench.search = Search((FFMPEG,), hidden=False)
    assert bench.fails().is_held
    assert bench.resets == []


# What cannot be reset


@pytest.mark.parametrize("force", [True, False])
def test_what_is_no_usb_device_is_not_reset(bench: Bench, force: bool) -> None:
    bench.looks = [node_at("/dev/video0", usb=None)]
    error = bench.fails(force=force)
    assert error.reason == "/dev/video0 is no USB device, so it cannot be reset"
    assert error.hint == (
        "unplug it or restart the computer; `mjrelay devices` lists the USB cameras"
    )
    assert not error.is_held
    assert (bench.resets, bench.looked) == ([], 1)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("absent", [GONE, SourceRefused("/dev/video0 is not a camera")])
def test_a_camera_that_is_absent_is_not_reset(
    bench: Bench, force: bool, absent: SourceError
) -> None:
    bench.looks = [absent]
    error = bench.fails(force=force)
    assert (error.reason, error.hint) == (absent.reason, absent.hint)
    assert not error.is_held
    assert (bench.resets, bench.looked) == ([], 1), "it is not waited for"


def test_a_reset_that_fails_says_what_is_missing_at_once(bench: Bench) -> None:
    bench.ails = RemedyFailed("Webcam C270 could not be reset", "copy the rule")
    assert bench.fails() is bench.ails
    assert not bench.ails.is_held
    assert bench.looked == 1


# Coming back


def test_it_may_come_back_under_another_number(bench: Bench) -> None:
    bench.looks.append(node_at("/dev/video1"))
    assert bench.reset().path == "/dev/video1"
    assert bench.looked == 2


@pytest.mark.usefixtures("clock")
def test_a_link_that_comes_back_late_is_waited_for(bench: Bench) -> None:
    refused = SourceRefused("/dev/v4l/by-id/x is not a camera")
    bench.looks += [GONE, refused, GONE, node_at("/dev/video2")]
    assert bench.reset().path == "/dev/video2"
    assert bench.looked == 5
    assert bench.resets == [WEBCAM], "it is reset once"


def test_a_camera_that_never_comes_back_is_given_up(
    bench: Bench, clock: Callable[[], float]
) -> None:
    bench.looks.append(GONE)
    began = clock()
    error = bench.fails()
    assert resetting._BACK_WITHIN < clock() - began < 2 * resetting._BACK_WITHIN
    assert error.reason == "the camera did not come back within 6 s of the reset"
    assert error.hint == "unplug it and plug it in again"
    assert not error.is_held
    assert bench.resets == [WEBCAM]
    assert bench.looked > 2
