"""Inventory: the devices that give pictures, for people and programs."""

import errno

import pytest

from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.inventory import CaptureDevice, capture_devices
from mjrelay.devices.modes import Mode
from tests.support.device import MJPG, NOBODY, Desk, failure, node_at

FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")


@pytest.fixture
def desk() -> Desk:
    """A camera at /dev/video0, its metadata at /dev/video1, and nobody who has it."""
    desk = Desk(None, node_at("/dev/video0"), node_at("/dev/video1", index=1))
    desk.device.blind.add("/dev/video1")
    desk.better = "usb:046d:0825:A"
    return desk


def test_only_what_gives_pictures_is_listed_and_nothing_is_claimed(desk: Desk) -> None:
    [found] = capture_devices(desk)
    assert found == CaptureDevice(
        source="usb:046d:0825:A",
        path="/dev/video0",
        model="UVC Camera",
        bus="usb 1-1",
        modes=(MJPG,),
        holders=NOBODY,
    )
    assert desk.device.story == ["open video0", "modes", "close", "open video1", "close"]
    assert desk.device.most_open == 1


@pytest.mark.parametrize("step", ["open", "querycap", "modes"])
def test_a_device_that_cannot_be_asked_is_listed_with_why(desk: Desk, step: str) -> None:
    desk.device.fails[step] = failure(errno.EACCES, "/dev/video0")
    found = capture_devices(desk)[0]
    assert found.trouble == "/dev/video0: Permission denied"
    assert found.modes == ()
    assert desk.device.open_now == 0
    assert "  trouble  /dev/video0: Permission denied" in found.as_text()
    assert found.as_values()["trouble"] == found.trouble


def test_without_a_stable_name_the_path_is_what_to_paste() -> None:
    desk = Desk(None, node_at("/dev/video0", usb=None))
    [found] = capture_devices(desk)
    assert (found.source, found.bus) == ("/dev/video0", "uvcvideo")


def test_for_people(desk: Desk) -> None:
    desk.device.modes = [Mode("MJPG", 640, 480, (30.0,)), MJPG, Mode("YUYV", 640, 480)]
    desk.held = Holders((FFMPEG,), hidden=True)
    [found] = capture_devices(desk)
    assert found.as_text().splitlines() == [
        "usb:046d:0825:A",
        "  model    UVC Camera",
        "  node     /dev/video0",
        "  bus      usb 1-1",
        "  modes    MJPG 640x480 at 30 fps; 64x48 at 30 fps",
        "           YUYV 640x480",
        "  held by  ffmpeg (pid 812, old-cam.service): sudo systemctl stop old-cam.service",
        "           /usr/bin/ffmpeg -i x",
    ]


def test_for_programs(desk: Desk) -> None:
    desk.held = Holders((FFMPEG,), hidden=True)
    [found] = capture_devices(desk)
    assert found.as_values() == {
        "source": "usb:046d:0825:A",
        "path": "/dev/video0",
        "model": "UVC Camera",
        "bus": "usb 1-1",
        "modes": [
            {"format": "MJPG", "width": 64, "height": 48, "rates": (30.0,), "between": False}
        ],
        "holders": [{"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": "old-cam.service"}],
        "holders_hidden": True,
        "trouble": None,
    }
