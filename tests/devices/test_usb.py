"""The two remedies, on files and with what the kernel may answer."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from mjrelay.devices import usb
from mjrelay.devices.nodes import UsbDevice, video_nodes
from mjrelay.errors import RemedyFailed
from tests.devices.tree import Tree, open_files


@pytest.fixture
def device(tmp_path: Path) -> UsbDevice:
    tree = Tree(tmp_path)
    tree.camera("1-1", "video0")
    found = video_nodes(tmp_path)[0].usb
    assert found
    return found


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is written where, in order; nothing waits."""
    written: list[tuple[str, str]] = []
    write = os.write

    def record(file: int, data: bytes) -> int:
        done = write(file, data)
        written.append((Path(f"/proc/self/fd/{file}").readlink().name, data.decode()))
        return done

    monkeypatch.setattr(os, "write", record)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return written


def failing(monkeypatch: pytest.MonkeyPatch, code: int, *texts: str) -> None:
    """Let writing one of these texts into a camera's switch fail."""
    write = os.write

    def refuse(file: int, data: bytes) -> int:
        name = Path(f"/proc/self/fd/{file}").readlink().name
        if data.decode() in texts and name == "authorized":
            raise OSError(code, os.strerror(code))
        return write(file, data)

    monkeypatch.setattr(os, "write", refuse)


def with_driver(device: UsbDevice) -> None:
    """Give it a driver that can be made to let go of it."""
    driver = device.sysfs.parent / "drivers/usb"
    driver.mkdir(parents=True)
    (driver / "unbind").write_text("")
    (driver / "bind").write_text("")
    (device.sysfs / "driver").symlink_to(driver)


def test_a_reset_asks_the_kernel_for_it(device: UsbDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    node = device.sysfs / "node"
    node.write_text("")
    asked: list[tuple[Path, int]] = []

    def ioctl(file: int, request: int, *_: Any) -> int:
        asked.append((Path(f"/proc/self/fd/{file}").readlink(), request))
        return 0

    monkeypatch.setattr(UsbDevice, "bus_node", node)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    files = open_files()
    usb.reset(device)
    assert [(path, request & 0xFFFF) for path, request in asked] == [(node, 0x5514)]
    assert open_files() == files


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (errno.EACCES, "Permission denied", "60-mjrelay.rules"),
        (errno.EPERM, "Operation not permitted", "DeviceAllow=char-usb_device rw"),
        (errno.ENODEV, "it left its USB port", "unplug"),
        (errno.EIO, "Input/output error", "unplug"),
    ],
)
def test_a_reset_that_fails_says_what_is_missing(
    device: UsbDevice, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, hint: str
) -> None:
    def ioctl(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(UsbDevice, "bus_node", Path("/dev/null"))
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(RemedyFailed, match=f"Webcam C270 could not be reset: {reason}") as caught:
        usb.reset(device)
    assert hint in (caught.value.hint or "")
    assert caught.value.done is (code == errno.ENODEV), "then it did not come back from it"


def test_a_camera_that_left_during_its_reset_was_reset(
    device: UsbDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(*_: Any) -> int:
        (device.sysfs / "idVendor").unlink()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(UsbDevice, "bus_node", Path("/dev/null"))
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with pytest.raises(RemedyFailed, match="it left its USB port") as caught:
        usb.reset(device)
    assert caught.value.done


def test_a_container_without_the_bus_is_told_so(device: UsbDevice) -> None:
    (device.sysfs / "busnum").write_text("999")
    with pytest.raises(RemedyFailed) as caught:
        usb.reset(device)
    assert "give the container /dev/bus/usb" in (caught.value.hint or "")
    assert not caught.value.done


@pytest.mark.parametrize("remedy", [usb.reset, usb.reauthorize])
def test_a_camera_that_is_gone_cannot_be_mended(tmp_path: Path, remedy: Any) -> None:
    gone = UsbDevice(tmp_path / "1-1", "1-1", "046d", "0825", "", "Cam")
    with pytest.raises(RemedyFailed, match="it left its USB port") as caught:
        remedy(gone)
    assert not caught.value.done


def test_another_device_at_the_port_is_let_alone(
    device: UsbDevice, writes: list[tuple[str, str]]
) -> None:
    (device.sysfs / "idVendor").write_text("0781\n")
    for remedy in (usb.reset, usb.reauthorize):
        with pytest.raises(RemedyFailed, match="it left its USB port"):
            remedy(device)
    assert writes == []


def test_a_camera_is_logged_off_and_on(device: UsbDevice, writes: list[tuple[str, str]]) -> None:
    usb.reauthorize(device)
    assert writes == [("authorized", "0"), ("authorized", "1")]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EACCES, "sudo mjrelay reset"),
        (errno.EPERM, "sudo mjrelay reset"),
        (errno.EROFS, "ProtectKernelTunables"),
    ],
)
def test_who_may_not_log_it_off_is_told_who_may(
    device: UsbDevice, monkeypatch: pytest.MonkeyPatch, code: int, hint: str
) -> None:
    failing(monkeypatch, code, "0", "1")
    with pytest.raises(RemedyFailed) as caught:
        usb.reauthorize(device)
    assert hint in (caught.value.hint or "")


def test_it_is_logged_on_again_after_an_error(
    device: UsbDevice, writes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, errno.EACCES, "0")
    with pytest.raises(RemedyFailed) as caught:
        usb.reauthorize(device)
    assert writes == [("authorized", "1")]
    assert not caught.value.done


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENODEV])
def test_a_camera_that_was_logged_off_and_not_on_again_was_disturbed(
    device: UsbDevice, writes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    failing(monkeypatch, code, "1")
    with pytest.raises(RemedyFailed) as caught:
        usb.reauthorize(device)
    assert writes == [("authorized", "0")]
    assert caught.value.done


def test_a_camera_that_cannot_be_logged_on_again_is_given_to_its_driver_anew(
    device: UsbDevice, writes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_driver(device)
    failing(monkeypatch, errno.EIO, "1")
    usb.reauthorize(device)
    assert writes == [("authorized", "0"), ("unbind", "1-1"), ("bind", "1-1")]


def test_where_there_is_no_such_switch_the_driver_lets_go_and_takes_it_again(
    device: UsbDevice, writes: list[tuple[str, str]]
) -> None:
    (device.sysfs / "authorized").unlink()
    with_driver(device)
    usb.reauthorize(device)
    assert writes == [("unbind", "1-1"), ("bind", "1-1")]


def test_nothing_is_created_in_sysfs(device: UsbDevice) -> None:
    (device.sysfs / "authorized").unlink()
    with pytest.raises(RemedyFailed):
        usb.reauthorize(device)
    assert not (device.sysfs / "authorized").exists()
