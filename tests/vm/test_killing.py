"""The relay itself is killed."""

import pytest

from .support.camera import EmulatedCamera
from .support.machine import SLACK
from .support.recorder import Recorder
from .support.relay import RelayService
from .support.viewer import all_fresh

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


def test_a_relay_killed_twenty_times_streams_again_each_time(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    with (
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched(reconnects=True) as viewers,
    ):
        for _ in range(20):
            relay.until_state("streaming")
            killed = relay.kill()
            outage = all_fresh(viewers, killed, 15 * SLACK) - killed
            recorder.note("the relay killed and started again", outage)
        assert camera.resets == 0
        assert relay.remedies == []
        assert camera.status["plugs"] == 1
