"""Somebody else has the camera."""

import os
import signal
import time
from typing import Any

import pytest

from .support import rivals
from .support.camera import EmulatedCamera
from .support.machine import SLACK
from .support.recorder import Recorder
from .support.relay import RelayService, Viewers
from .support.viewer import all_fresh, all_offline

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

# From the moment it is free.
BACK_WITHIN = 2.0 * 2


def is_told(status: dict[str, Any]) -> bool:
    """Whether a camera's status says who has it, and what to do about that."""
    return bool(status["holders"] and status["hint"])


def assert_back(viewers: Viewers, freed: float) -> float:
    """See to it that both viewers have a new frame in time, and return how long it took."""
    outage = all_fresh(viewers, freed, 5 * SLACK) - freed
    assert outage < BACK_WITHIN
    return outage


def test_a_program_that_has_the_camera_is_named_until_it_ends(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with (
        rivals.streaming(camera.node) as rival,
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched() as viewers,
    ):
        busy = relay.until(is_told, "the holder is named")
        assert busy["state"] == "recovering"
        assert "busy" in busy["reason"]
        (holder,) = busy["holders"]
        assert holder["pid"] == rival.pid
        assert "v4l2-ctl" in holder["command"]
        assert str(rival.pid) in busy["hint"]
        all_offline(viewers)
        relay.until_tried(3)

        freed = time.time()
        rival.kill()
        rival.wait()
        recorder.note("the program that had it ended", assert_back(viewers, freed))
        assert relay.until_state("streaming")["holders"] == []
        assert camera.resets == 0


def test_a_service_that_has_the_camera_is_named_with_the_command_that_stops_it(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with (
        rivals.streaming_service(camera.node) as unit,
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched() as viewers,
    ):
        busy = relay.until(is_told, "the holder is named")
        assert busy["holders"][0]["unit"] == unit
        assert f"systemctl stop {unit}" in busy["hint"]
        freed = time.time()
        rivals.stop(unit)
        recorder.note("the service that had it stopped", assert_back(viewers, freed))
        assert camera.resets == 0


def test_a_child_that_inherited_the_camera_is_named(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with (
        rivals.inherited(camera.node) as child,
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched() as viewers,
    ):
        busy = relay.until(is_told, "the child is named")
        assert [holder["pid"] for holder in busy["holders"]] == [child]
        freed = time.time()
        os.kill(child, signal.SIGKILL)
        recorder.note("the child that had it ended", assert_back(viewers, freed))
        assert camera.resets == 0
