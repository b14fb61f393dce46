"""A camera that fails while it is plugged in: each kind of failure, and what cures it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .emulator.camera import Mode
from .support.camera import EmulatedCamera
from .support.machine import SLACK, eventually
from .support.recorder import Recorder
from .support.relay import RelayService, Viewers
from .support.viewer import all_fresh, all_offline

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]

# The kernel waits five seconds for each control request that is not answered.
_MUTE_TIMEOUT = 60.0


@pytest.fixture
def relay(camera: EmulatedCamera) -> Iterator[RelayService]:
    with RelayService({"front": {"source": camera.usb}}) as service:
        service.until_state("streaming")
        yield service


def assert_cured(viewers: Viewers, since: float, within: float) -> float:
    """See to it that both viewers got a new frame, and the offline picture before; when it came."""
    back = all_fresh(viewers, since, within)
    for viewer in viewers:
        assert viewer.offline_pictures(0, back), "no offline picture in a long outage"
    return back


@pytest.mark.parametrize(
    ("mode", "remedies"), [("wedge", ["usb_reset"]), ("stuck", ["release", "usb_reset"])]
)
def test_a_camera_that_hangs_until_it_is_reset_is_reset(
    mode: Mode, remedies: list[str], camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        hung = time.time()
        camera.behave(mode)
        # The frame that was under way when it hung does not count.
        back = assert_cured(viewers, hung + 1, 60)
        recorder.note(f"hung ({mode})", back - hung)
        assert relay.until_state("streaming")["usb_resets"] == 1
        assert camera.resets == 1
        # One that still starts, and only sends nothing, needs no letting go of.
        assert relay.remedies == remedies


@pytest.mark.parametrize("mode", ["silent", "err", "proto"])
def test_a_camera_that_is_silent_for_a_while_streams_again(
    mode: Mode, camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        camera.behave(mode)
        silent = relay.until_state("recovering")
        assert silent["reason"]
        assert silent["stalls"] >= 1
        all_offline(viewers)
        over = time.time()
        camera.behave("ok")
        recorder.note(f"silent ({mode}), once that is over", assert_cured(viewers, over, 30) - over)


@pytest.mark.parametrize("mode", ["truncate", "garbage"])
def test_pictures_that_are_none_are_dropped_and_counted(
    mode: Mode, camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        before = sum(relay.camera()["frames"]["dropped"].values())
        camera.behave(mode)
        relay.until(
            lambda status: sum(status["frames"]["dropped"].values()) >= before + 10,
            "ten frames are dropped",
        )
        all_offline(viewers)
        over = time.time()
        camera.behave("ok")
        recorder.note(f"broken ({mode}), once that is over", assert_cured(viewers, over, 30) - over)


def test_a_camera_that_refuses_to_start_says_why(
    camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        camera.behave("commit-stall")
        camera.replug()
        refused = relay.until(
            lambda status: "VIDIOC_STREAMON" in (status["reason"] or ""), "the reason"
        )
        assert refused["state"] == "recovering"
        all_offline(viewers)
        over = time.time()
        camera.behave("ok")
        back = assert_cured(viewers, over, 30)
        recorder.note("refused to start (commit-stall), once that is over", back - over)


def test_a_camera_that_answers_nothing_says_so_until_it_is_plugged_in_again(
    camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        camera.behave("mute")
        mute = relay.until(
            lambda status: status["state"] in ("recovering", "absent") and status["failures"] > 1,
            "it fails for the second time",
            _MUTE_TIMEOUT,
        )
        assert mute["reason"]
        all_offline(viewers)
        camera.behave("ok")
        camera.replug()
        back = assert_cured(viewers, camera.appeared_at, _MUTE_TIMEOUT)
        recorder.note("mute, once plugged in again", back - camera.appeared_at)


def test_a_camera_that_hangs_again_and_again_is_reset_no_more_than_allowed(
    camera: EmulatedCamera,
) -> None:
    front = {"source": camera.usb, "usb_resets_per_hour": 2}
    with RelayService({"front": front}) as relay, relay.watched() as viewers:
        relay.until_state("streaming")
        camera.behave("relapse")
        eventually(lambda: camera.resets == 2, "two resets", 60)
        relay.until_tried(3)
        assert relay.until_state("recovering")["usb_resets"] == 2
        assert camera.resets == 2
        all_offline(viewers)


def test_a_camera_that_must_not_be_reset_is_not(camera: EmulatedCamera, recorder: Recorder) -> None:
    front = {"source": camera.usb, "usb_reset": False}
    with RelayService({"front": front}) as relay, relay.watched() as viewers:
        relay.until_state("streaming")
        camera.behave("wedge")
        relay.until_tried(3)
        assert camera.resets == 0
        assert "usb_reset" not in relay.remedies
        over = time.time()
        camera.behave("ok")
        recorder.note("hung without reset, once over", assert_cured(viewers, over, 30) - over)


def test_a_reset_asked_for_over_http_is_done(
    camera: EmulatedCamera, relay: RelayService, recorder: Recorder
) -> None:
    with relay.watched() as viewers:
        viewers[1].until_fresh(0, 5 * SLACK)
        status, answer = relay.request("POST", "/cameras/front/reset")
        assert 200 <= status < 300, answer
        eventually(lambda: camera.resets == 1, "the reset")
        reset = time.time()
        recorder.note("reset by hand", all_fresh(viewers, reset, 5 * SLACK) - reset)
        assert relay.until_state("streaming")["usb_resets"] == 1


def test_a_failing_camera_does_not_disturb_another(
    camera: EmulatedCamera, pictures: Path, recorder: Recorder
) -> None:
    fps = 15
    with EmulatedCamera(pictures, serial="EMU0002", port=1) as failing:
        cameras = {
            "front": {"source": camera.usb, "fps": fps},
            "back": {"source": failing.usb, "usb_reset": False},
        }
        with RelayService(cameras) as relay, relay.watched("front") as viewers:
            relay.until_state("streaming")
            since = viewers[1].until_fresh(0, 5 * SLACK).at
            failures = relay.camera("front")["failures"]
            failing.behave("stuck")
            relay.until_tried(4, "back")
            gap = max(viewer.largest_gap(since) for viewer in viewers)
            recorder.note("another camera failing: largest gap between frames", gap)
            assert gap < 3 / fps * SLACK
            assert relay.camera("back")["state"] == "recovering"
            assert relay.camera("front")["failures"] == failures
