"""The service through restarts, crashes and reloads: nobody gets its camera in between."""

import http.client
import json
import os
import signal
import time

import pytest

from .support.camera import EmulatedCamera
from .support.machine import SLACK, eventually, must, run
from .support.recorder import Recorder
from .support.relay import PORT, UNIT, RelayService
from .support.rivals import streaming, trying
from .support.viewer import all_fresh

# Of the emulated camera.
FPS = 15

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]


def shown(name: str) -> str:
    """A property of the service, as systemd has it."""
    return must("systemctl", "show", "-P", name, UNIT).strip()


def assert_never_let_go(relay: RelayService, camera: EmulatedCamera) -> None:
    assert camera.resets == 0
    assert not [line for line in relay.log if "busy" in json.dumps(line)]


def test_nobody_gets_the_camera_while_the_service_is_restarted(
    relay: RelayService, camera: EmulatedCamera, recorder: Recorder
) -> None:
    with relay.watched(reconnects=True) as viewers, trying(camera.node) as rival:
        for _ in range(20):
            begun = time.time()
            relay.restart()
            all_fresh(viewers, time.time(), 15 * SLACK)
            gap = max(viewer.largest_gap(begun, FPS) for viewer in viewers)
            recorder.note("the service restarted: gap at a viewer", gap)
        assert [viewer.broken_off for viewer in viewers] == [0, 0]
    assert rival.tries > 100
    assert rival.wins == 0
    assert_never_let_go(relay, camera)


def test_nobody_gets_the_camera_while_the_service_is_killed(
    relay: RelayService, camera: EmulatedCamera, recorder: Recorder
) -> None:
    with relay.watched(reconnects=True) as viewers, trying(camera.node) as rival:
        for _ in range(20):
            relay.until_state("streaming")
            killed = relay.kill()
            recorder.note(
                "the relay killed and started again",
                all_fresh(viewers, killed, 15 * SLACK) - killed,
            )
    assert rival.tries > 100
    assert rival.wins == 0
    assert_never_let_go(relay, camera)


def test_a_service_that_hangs_is_started_again(camera: EmulatedCamera, recorder: Recorder) -> None:
    with RelayService({"front": {"source": camera.usb}}) as relay:
        relay.until_state("streaming")
        victim = relay.pid
        with trying(camera.node) as rival:
            os.kill(victim, signal.SIGSTOP)
            hung = time.time()
            eventually(lambda: relay.pid not in (0, victim), "the watchdog acts", 60 * SLACK)
            relay.await_answer()
            relay.until_state("streaming")
            recorder.note("the relay hung, until it streamed again", time.time() - hung)
        assert rival.wins == 0


def test_a_reload_changes_what_has_changed(relay: RelayService, camera: EmulatedCamera) -> None:
    with relay.watched():
        relay.configure({"front": {"source": camera.usb}, "card": {"source": "testcard:"}})
        must("systemctl", "reload", UNIT)
        eventually(lambda: bool(relay.events("relay.reloaded")), "the file is read")
        relay.until_state("streaming", camera="card")
        assert relay.camera()["opens"] == 1


def test_a_faulty_file_changes_nothing(relay: RelayService, camera: EmulatedCamera) -> None:
    with relay.watched():
        relay.configure({"front": {"source": camera.usb, "colour": "red"}})
        run("systemctl", "reload", UNIT)
        eventually(lambda: bool(relay.events("relay.not_reloaded")), "the fault is told")
        assert "colour" in relay.events("relay.not_reloaded")[0]["faults"][0]
        assert relay.camera()["state"] == "streaming"
        assert relay.camera()["opens"] == 1


def test_stopping_lets_the_camera_go(relay: RelayService, camera: EmulatedCamera) -> None:
    relay.until_state("streaming")
    must("systemctl", "stop", UNIT)
    begun = time.monotonic()
    with streaming(camera.node):
        assert time.monotonic() - begun < 0.5 * SLACK
    relay.start()


def test_who_connects_while_it_is_down_is_answered(relay: RelayService) -> None:
    victim = relay.pid
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: relay.pid != victim, "it is down")
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    connection.request("GET", "/healthz")  # refused, if nobody kept the socket
    assert connection.getresponse().status == http.HTTPStatus.OK
    connection.close()


def test_a_kept_device_does_not_pin_its_number(relay: RelayService, camera: EmulatedCamera) -> None:
    before = int(shown("NFileDescriptorStore"))
    camera.unplug()
    relay.until_state("absent")
    eventually(lambda: int(shown("NFileDescriptorStore")) == before - 1, "systemd lets go")
    camera.plug()
    relay.until_state("streaming")
    assert str(camera.node) == "/dev/video0"
    eventually(lambda: int(shown("NFileDescriptorStore")) == before, "it is kept again")


@pytest.mark.usefixtures("relay")
def test_systemd_shows_each_camera_in_a_line(camera: EmulatedCamera) -> None:
    eventually(lambda: "front: streaming" in shown("StatusText"), "streaming")
    camera.unplug()
    eventually(lambda: "front: absent" in shown("StatusText"), "absent")
    camera.plug()


def test_a_service_starts_without_its_camera(camera: EmulatedCamera) -> None:
    camera.unplug()
    with RelayService({"front": {"source": camera.usb}}) as relay:
        relay.until_state("absent")
        assert shown("ActiveState") == "active"
        camera.plug()
        relay.until_state("streaming")
