"""Devices: what is asked of it is asked of this computer."""

import os
from pathlib import Path

import pytest

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.capture import Capture
from mjrelay.devices.computer import Devices
from mjrelay.devices.holders import Holder
from mjrelay.devices.nodes import UsbDevice
from mjrelay.errors import RemedyFailed, SourceUnreachable
from tests.devices.tree import device_number
from tests.support.device import node_at

FULL = device_number("full")
GONE = UsbDevice(Path("/nonexistent"), "9-9", "046d", "0825", "", "Webcam C270")


def test_which_nodes_there_are() -> None:
    devices = Devices()
    assert devices.nodes() == devices.nodes()
    assert devices.siblings(node_at("/dev/full", usb=None)) == []
    assert devices.stable_name(node_at("/dev/full", usb=None)) is None


def test_what_an_address_names() -> None:
    with pytest.raises(SourceUnreachable, match="/dev/video999 is not there"):
        Devices().find(V4l2Address("/dev/video999"), seen=GONE)


def test_whether_a_node_is_there_and_since_when(tmp_path: Path) -> None:
    node = node_at(str(tmp_path / "video0"))
    assert not Devices().is_there(node)
    with pytest.raises(FileNotFoundError):
        Devices().age(node)
    Path(node.path).touch()
    assert Devices().is_there(node)
    assert 0 <= Devices().age(node) < 60


def test_which_processes_hold_a_device() -> None:
    ourselves = Holder(os.getpid(), "", None)
    assert not Devices().still_holds(ourselves, FULL)
    with Path("/dev/full").open("rb"):
        assert os.getpid() in [holder.pid for holder in Devices().holders(FULL).found]
        assert Devices().still_holds(ourselves, FULL)


def test_what_the_kernel_said() -> None:
    assert Devices().kernel_messages(["no such thing"], within=1) == []


def test_a_way_to_open_a_node() -> None:
    assert type(Devices().capture()) is Capture


@pytest.mark.parametrize("remedy", [Devices().reset, Devices().reauthorize])
def test_a_device_that_is_gone_is_not_mended(remedy: object) -> None:
    assert callable(remedy)
    with pytest.raises(RemedyFailed, match="left its USB port"):
        remedy(GONE)
