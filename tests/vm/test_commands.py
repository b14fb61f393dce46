"""The commands for cameras of this computer, as root runs them."""

import json

import pytest

from .support import rivals
from .support.camera import EmulatedCamera
from .support.machine import mjrelay

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]


def test_devices_lists_each_camera_by_the_name_to_paste(camera: EmulatedCamera) -> None:
    listed = mjrelay("devices")
    assert listed.returncode == 0, listed.stderr
    for fact in (str(camera.by_id), str(camera.node), "UVC Camera", "640x480", "MJPG", "YUYV"):
        assert fact in listed.stdout
    assert str(camera.metadata_node) not in listed.stdout


def test_devices_tells_programs_who_has_a_camera(camera: EmulatedCamera) -> None:
    with rivals.streaming(camera.node) as rival:
        listed = mjrelay("devices", "--json")
    assert listed.returncode == 0, listed.stderr
    (device,) = json.loads(listed.stdout)
    assert device["source"] == str(camera.by_id)
    assert device["path"] == str(camera.node)
    assert [holder["pid"] for holder in device["holders"]] == [rival.pid]


def test_devices_without_any_camera_is_no_failure() -> None:
    listed = mjrelay("devices")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.strip()


def test_a_probe_reports_what_the_camera_does(camera: EmulatedCamera) -> None:
    probed = mjrelay("probe", "--seconds", "2", "--json", camera.usb)
    assert probed.returncode == 0, probed.stdout + probed.stderr
    assert "640" in probed.stdout
    assert json.loads(probed.stdout)
    text = mjrelay("probe", "--seconds", "1", str(camera.node))
    assert text.returncode == 0
    assert "640x480" in text.stdout


def test_a_probe_of_the_metadata_node_names_the_right_one(camera: EmulatedCamera) -> None:
    probed = mjrelay("probe", "--seconds", "2", str(camera.metadata_node))
    assert probed.returncode == 1
    said = probed.stdout + probed.stderr
    assert str(camera.by_id) in said or str(camera.node) in said
    assert "Traceback" not in said


def test_a_probe_of_a_camera_that_is_away_says_so() -> None:
    probed = mjrelay("probe", "--seconds", "2", "usb:1d6b:0102:NOBODY")
    assert probed.returncode == 1
    assert "Traceback" not in probed.stdout + probed.stderr


def test_a_probe_of_a_camera_that_is_taken_names_who_has_it(camera: EmulatedCamera) -> None:
    with rivals.streaming(camera.node) as rival:
        probed = mjrelay("probe", "--seconds", "2", camera.usb)
    assert probed.returncode == 1
    assert str(rival.pid) in probed.stdout + probed.stderr


def test_a_reset_resets(camera: EmulatedCamera) -> None:
    for times, device in enumerate((camera.node, camera.by_id, camera.by_path), start=1):
        reset = mjrelay("reset", str(device))
        assert reset.returncode == 0, reset.stdout + reset.stderr
        assert camera.resets == times


def test_a_reset_refuses_to_throw_somebody_out_unless_forced(camera: EmulatedCamera) -> None:
    with rivals.streaming(camera.node) as rival:
        refused = mjrelay("reset", str(camera.node))
        assert refused.returncode == 1
        assert str(rival.pid) in refused.stdout + refused.stderr
        assert camera.resets == 0
        forced = mjrelay("reset", "--force", str(camera.node))
        assert forced.returncode == 0, forced.stdout + forced.stderr
        assert camera.resets == 1


def test_a_reset_of_what_is_no_camera_is_refused() -> None:
    refused = mjrelay("reset", "/dev/null")
    assert refused.returncode == 1
    assert refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
