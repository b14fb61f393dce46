"""A camera is pulled out and plugged in again."""

from pathlib import Path

import pytest

from .support import rivals
from .support.camera import EmulatedCamera
from .support.machine import SLACK, holds_of
from .support.recorder import Recorder
from .support.relay import RelayService
from .support.viewer import all_fresh, all_offline

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

# From the moment udev shows the camera.
BACK_WITHIN = 1.0 * SLACK


def test_a_camera_pulled_out_twenty_times_streams_again_each_time(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with RelayService({"front": {"source": camera.usb}}) as relay, relay.watched() as viewers:
        relay.until_state("streaming")
        before = holds_of(relay.pid, "/dev/video")
        for _ in range(20):
            camera.replug()
            outage = all_fresh(viewers, camera.appeared_at, 5 * SLACK) - camera.appeared_at
            recorder.note("plugged in again", outage)
            assert outage < BACK_WITHIN
        assert holds_of(relay.pid, "/dev/video") == before
        assert camera.node == Path("/dev/video0")
        assert camera.resets == 0
        # It was told each time, and did not find out by looking.
        assert relay.events("hotplug.unavailable") == []


def test_viewers_of_a_camera_that_is_away_see_the_offline_picture(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with RelayService({"front": {"source": camera.usb}}) as relay, relay.watched() as viewers:
        since = viewers[0].until_fresh(0, 10 * SLACK).at
        camera.unplug()
        absent = relay.until_state("absent")
        assert absent["reason"]
        assert holds_of(relay.pid, "/dev/video") == (0, 0)
        all_offline(viewers, since)
        camera.plug()
        outage = all_fresh(viewers, camera.appeared_at, 5 * SLACK) - camera.appeared_at
        recorder.note("plugged in after a while", outage)
        relay.until_state("streaming")


def test_a_camera_that_comes_back_under_another_number_is_followed(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with RelayService({"front": {"source": camera.usb}}) as relay, relay.watched() as viewers:
        relay.until_state("streaming")
        node = camera.node
        with rivals.opened(node):
            camera.replug()
            assert camera.node != node
            outage = all_fresh(viewers, camera.appeared_at, 5 * SLACK) - camera.appeared_at
            recorder.note("plugged in under another number", outage)


@pytest.mark.parametrize(
    ("serial", "ids", "source"),
    [
        ("OTHER01", "1d6b:0102", "usb:1d6b:0102:EMU0001"),
        ("EMU0002", "1d6b:0999", "usb:1d6b:0102"),
    ],
    ids=["serial", "model"],
)
def test_another_camera_is_not_taken_for_the_one_that_is_away(
    serial: str, ids: str, source: str, camera: EmulatedCamera, pictures: Path
) -> None:
    with RelayService({"front": {"source": source}}) as relay, relay.watched() as viewers:
        since = viewers[0].until_fresh(0, 10 * SLACK).at
        camera.unplug()
        relay.until_state("absent")
        with EmulatedCamera(pictures, serial=serial, ids=ids, port=1):
            relay.until_tried(3)
            assert relay.camera()["state"] == "absent"
        all_offline(viewers, since)
        for viewer in viewers:
            assert {frame.serial for frame in viewer.frames()} == {camera.serial}


def test_a_camera_known_by_its_by_id_name_alone_comes_back(camera: EmulatedCamera) -> None:
    source = str(camera.by_id)
    with RelayService({"front": {"source": source}}) as relay, relay.watched() as viewers:
        relay.until_state("streaming")
        camera.replug()
        all_fresh(viewers, camera.appeared_at, 5 * SLACK)
