"""Inventory: the devices that give pictures, for people and programs."""

import errno

import pytest

from mjrelay.devices import inventory
from mjrelay.devices.holders import Holder, Search
from mjrelay.devices.inventory import CaptureDevice, capture_devices
from mjrelay.devices.modes import Mode
from mjrelay.devices.nodes import VideoNode
from tests.support.device import MJPG, FakeDevice, failure, node_at

FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")
NOBODY = Search((), hidden=False)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A camera at /dev/video0, its metadata at /dev/video1, and nobody who has it."""
    device = FakeDevice()
    device.blind.add("/dev/video1")
    nodes = [node_at("/dev/video0"), node_at("/dev/video1", index=1)]
    there(monkeypatch, device, nodes)
    return device


def there(
    monkeypatch: pytest.MonkeyPatch,
    device: FakeDevice,
    nodes: list[VideoNode],
    search: Search = NOBODY,
    name: str | None = "usb:046d:0825:A",
) -> None:
    monkeypatch.setattr(inventory, "Capture", device.capture)
    monkeypatch.setattr(inventory, "video_nodes", lambda: nodes)
    monkeypatch.setattr(inventory, "stable_name", lambda _node: name)
    monkeypatch.setattr(inventory, "find_holders", lambda _number: search)


def test_only_what_gives_pictures_is_listed_and_nothing_is_claimed(device: FakeDevice) -> None:
    [found] = capture_devices()
    assert found == CaptureDevice(
        source="usb:046d:0825:A",
        path="/dev/video0",
        model="UVC Camera",
        bus="usb 1-1",
        modes=(MJPG,),
        search=NOBODY,
    )
    assert device.story == ["open video0", "modes", "close", "open video1", "close"]
    assert device.most_open == 1


@pytest.mark.parametrize("step", ["open", "querycap", "modes"])
def test_a_device_that_cannot_be_asked_is_listed_with_why(device: FakeDevice, step: str) -> None:
    device.fails[step] = failure(errno.EACCES, "/dev/video0")
    found = capture_devices()[0]
    assert found.trouble == "/dev/video0: Permission denied"
    assert found.modes == ()
    assert device.open_now == 0
    assert "  trouble  /dev/video0: Permission denied" in found.as_text()
    assert found.as_values()["trouble"] == found.trouble


def test_without_a_stable_name_the_path_is_what_to_paste(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there(monkeypatch, FakeDevice(), [node_at("/dev/video0", usb=None)], name=None)
    [found] = capture_devices()
    assert (found.source, found.bus) == ("/dev/video0", "uvcvideo")


def test_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    device.modes = [Mode("MJPG", 640, 480, (30.0,)), MJPG, Mode("YUYV", 640, 480)]
    there(monkeypatch, device, [node_at("/dev/video0")], Search((FFMPEG,), hidden=True))
    [found] = capture_devices()
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


def test_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    there(monkeypatch, FakeDevice(), [node_at("/dev/video0")], Search((FFMPEG,), hidden=True))
    [found] = capture_devices()
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
