"""The relay itself is killed, and what it started lives on."""

import os
import signal
import time

import pytest

from .support import rivals
from .support.camera import EmulatedCamera
from .support.machine import SLACK, eventually, holds_of, run
from .support.recorder import Recorder
from .support.relay import LEAVES_CHILDREN, RelayService
from .support.viewer import all_fresh

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


def test_a_child_that_outlived_the_relay_is_named(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    # It prints no picture, and so must be waited for.
    door = {
        "source": f"exec:python3 {rivals.CLAIM} {camera.node} mapped",
        "first_frame_timeout": 60,
    }
    with RelayService({"door": door}, LEAVES_CHILDREN) as relay:
        child = 0

        def has_it() -> bool:
            nonlocal child
            child = int(run("pgrep", "-f", f"python3 {rivals.CLAIM}").stdout or 0)
            return child > 0 and holds_of(child, "/dev/video") == (2, 1)

        eventually(has_it, "the child has the camera", 10 * SLACK)
        relay.configure({"front": {"source": camera.usb}})
        relay.kill()
        with relay.watched() as viewers:
            busy = relay.until(lambda status: bool(status["holders"]), "the child is named")
            (holder,) = busy["holders"]
            assert (holder["pid"], holder["unit"]) == (child, None)
            assert f"sudo kill {child}" in busy["hint"]
            freed = time.time()
            os.kill(child, signal.SIGKILL)
            outage = all_fresh(viewers, freed, 5 * SLACK) - freed
            recorder.note("the relay's own child, which had it, ended", outage)
        assert camera.resets == 0
