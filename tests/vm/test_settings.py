"""What a configuration says of a camera of this computer, and what it then does."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from .support.camera import EmulatedCamera
from .support.machine import SLACK, eventually, mjrelay
from .support.relay import RelayService
from .support.viewer import all_fresh

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

MANUAL = 1
# Pictures a second, as the emulated camera offers them.
YUYV_RATE = 10


@pytest.mark.parametrize("address", ["usb", "usb without serial", "by-id", "by-path", "node"])
def test_each_way_to_name_a_camera_streams(address: str, camera: EmulatedCamera) -> None:
    sources = {
        "usb": camera.usb,
        "usb without serial": f"usb:{camera.ids}",
        "by-id": str(camera.by_id),
        "by-path": str(camera.by_path),
        "node": str(camera.node),
    }
    source = sources[address]
    with RelayService({"front": {"source": source}}) as relay, relay.watched() as viewers:
        all_fresh(viewers, 0, 10 * SLACK)
        status = relay.until_state("streaming")
        assert (status["width"], status["height"]) == (640, 480)
        assert relay.remedies == []
        if address == "node":
            assert any(str(camera.by_id) in str(entry) for entry in relay.log)


def test_bulk_transfers_stream_too(pictures: Path) -> None:
    with (
        EmulatedCamera(pictures, "--bulk") as camera,
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched() as viewers,
    ):
        all_fresh(viewers, 0, 10 * SLACK)


def test_another_size_is_taken_at_the_next_start(camera: EmulatedCamera) -> None:
    front = {"source": camera.usb}
    with RelayService({"front": front}) as relay, relay.watched(reconnects=True) as viewers:
        before = relay.until_state("streaming")
        assert (before["width"], before["height"]) == (640, 480)
        relay.configure({"front": {**front, "size": "320x240"}})
        relay.restart()
        after = relay.until_state("streaming")
        assert (after["width"], after["height"]) == (320, 240)
        eventually(
            lambda: {size_of(viewer.latest_image) for viewer in viewers} == {(320, 240)},
            "small pictures",
        )
        assert relay.remedies == []


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a picture; 0 of none."""
    return Image.open(io.BytesIO(jpeg)).size if jpeg else (0, 0)


def is_plain_grey(jpeg: bytes) -> bool:
    """Whether a picture is what the camera sends as YUYV: one shade of grey everywhere."""
    if not jpeg:
        return False
    shades = Image.open(io.BytesIO(jpeg)).convert("L").tobytes()
    return max(shades) - min(shades) < 8


def test_a_camera_without_jpeg_is_encoded(pictures: Path) -> None:
    with EmulatedCamera(pictures, "--formats", "YUYV") as camera:
        with RelayService({"front": {"source": camera.usb, "stall_timeout": 1.0}}) as relay:
            # Of pictures that nobody watches so few are encoded that it could look silent.
            alone = relay.until(lambda status: status["frames"]["published"] > 8, "eight frames")
            assert (alone["state"], alone["failures"]) == ("streaming", 0)
            with relay.watched() as viewers:
                eventually(
                    lambda: all(is_plain_grey(viewer.latest_image) for viewer in viewers),
                    "encoded pictures",
                )
                assert {size_of(viewer.latest_image) for viewer in viewers} == {(320, 240)}
            assert relay.camera()["failures"] == 0
            assert relay.remedies == []
        probed = mjrelay("probe", "--seconds", "3", "--json", camera.usb)
        assert probed.returncode == 0, probed.stdout + probed.stderr
        assert json.loads(probed.stdout)["fps"] == pytest.approx(YUYV_RATE, rel=0.2)


def test_controls_are_set_at_the_start_and_again_after_an_unplug(camera: EmulatedCamera) -> None:
    # The exposure comes before what it depends on: the relay has to know better.
    controls = {"exposure_time_absolute": 200, "brightness": 100, "auto_exposure": MANUAL}
    front = {"source": camera.usb, "controls": controls}
    with RelayService({"front": front}) as relay, relay.watched() as viewers:
        viewers[0].until_fresh(0, 10 * SLACK)
        assert camera.status.items() >= controls.items()
        camera.replug()
        all_fresh(viewers, camera.appeared_at, 5 * SLACK)
        assert camera.status.items() >= controls.items()
        assert relay.events("controls.differ") == []


def test_controls_set_over_http_are_set_again_after_an_unplug(camera: EmulatedCamera) -> None:
    path = "/cameras/front/controls"
    with RelayService({"front": {"source": camera.usb}}) as relay, relay.watched() as viewers:
        viewers[0].until_fresh(0, 10 * SLACK)
        status, controls = relay.request("GET", path)
        assert status == 200
        assert controls["brightness"]["value"] == 128
        assert controls["exposure_time_absolute"]["maximum"] == 5000
        status, answer = relay.request("PATCH", path, {"brightness": 77})
        assert status == 200, answer
        assert camera.status["brightness"] == 77
        camera.replug()
        assert camera.status["brightness"] in (77, 128)
        all_fresh(viewers, camera.appeared_at, 5 * SLACK)
        eventually(lambda: camera.status["brightness"] == 77, "the brightness is set again")
        assert relay.request("GET", path)[1]["brightness"]["value"] == 77


def test_a_control_that_there_is_not_is_refused_with_those_there_are(
    camera: EmulatedCamera,
) -> None:
    with RelayService({"front": {"source": camera.usb}}) as relay:
        relay.until_state("streaming")
        status, answer = relay.request("PATCH", "/cameras/front/controls", {"brightnes": 77})
        assert 400 <= status < 500
        assert "brightness" in str(answer)
        assert camera.status["brightness"] == 128
