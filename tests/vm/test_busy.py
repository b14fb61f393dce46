"""Somebody else has the camera."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from .support import rivals
from .support.camera import EmulatedCamera
from .support.machine import SLACK, holds_of
from .support.recorder import Recorder
from .support.relay import RelayService, Viewers
from .support.viewer import all_fresh, all_offline

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

# Emulated on a computer that has other things to do, opening a camera takes up to a second longer.
EMULATED = 1.0
# From the moment it is free.
BACK_WITHIN = 2.0 + EMULATED


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
        status, answer = relay.request("POST", "/cameras/front/reset")
        assert status == 409
        assert str(rival.pid) in str(answer)

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


@pytest.mark.parametrize(
    ("what", "has_it"),
    [
        ("the child that had it", rivals.inherited),
        ("the program that had it by another node", rivals.elsewhere),
        ("the program that had a mapping of it", rivals.mapping),
    ],
    ids=["inherited", "elsewhere", "mapping"],
)
def test_a_process_that_has_the_camera_in_an_odd_way_is_named(
    what: str,
    has_it: Callable[[Path], AbstractContextManager[int]],
    camera: EmulatedCamera,
    recorder: Recorder,
) -> None:
    with (
        has_it(camera.node) as rival,
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched() as viewers,
    ):
        busy = relay.until(is_told, "the process is named")
        assert [holder["pid"] for holder in busy["holders"]] == [rival]
        freed = time.time()
        os.kill(rival, signal.SIGKILL)
        recorder.note(f"{what} ended", assert_back(viewers, freed))
        assert camera.resets == 0


def test_a_camera_taken_just_before_its_reset_is_not_reset(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    # The pauses are long enough for the other to start in one.
    front = {"source": camera.usb, "redial_delay": 2.0, "retry_max": 4.0}
    with RelayService({"front": front}) as relay, relay.watched() as viewers:
        viewers[1].until_fresh(0, 10 * SLACK)
        camera.behave("stuck")
        relay.until(
            lambda status: status["failures"] == 3 and (status["retry_in"] or 0) > 2,
            "the pause before the reset",
            60,
        )
        camera.behave("ok")
        with rivals.streaming(camera.node) as rival:
            assert relay.remedies == ["release"]
            busy = relay.until(is_told, "the holder is named")
            assert [holder["pid"] for holder in busy["holders"]] == [rival.pid]
            assert relay.remedies == ["release", "usb_reset"]
            assert busy["usb_resets"] == 0
            relay.until_tried(2)
            assert rival.poll() is None
            freed = time.time()
            rival.kill()
            rival.wait()
            recorder.note("taken before its reset: the taker ended", assert_back(viewers, freed))
        assert camera.resets == 0


def test_a_camera_on_demand_is_for_others_while_nobody_watches(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    front = {"source": camera.usb, "mode": "demand", "linger": 0}
    with RelayService({"front": front}) as relay:
        assert relay.camera()["state"] == "idle"
        asked = time.time()
        with relay.watched() as viewers:
            recorder.note("on demand: the first viewer came", all_fresh(viewers, asked, 10) - asked)
        relay.until_state("idle")
        assert holds_of(relay.pid, "/dev/video") == (0, 0)
        with rivals.streaming(camera.node) as rival, relay.watched() as viewers:
            busy = relay.until(is_told, "the holder is named")
            assert [holder["pid"] for holder in busy["holders"]] == [rival.pid]
            freed = time.time()
            rival.kill()
            rival.wait()
            recorder.note("on demand: the program that had it ended", assert_back(viewers, freed))
        relay.until_state("idle")
        assert relay.remedies == []
        assert camera.resets == 0
