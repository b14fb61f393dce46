"""Failures: what each error number of a device amounts to, in sentences."""

import errno
import os
from types import SimpleNamespace

import pytest

from mjrelay.devices import failures
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.modes import Mode
from mjrelay.errors import SourceBroken, SourceError, SourceRefused, SourceUnreachable

HD, VGA = Mode("MJPG", 1280, 720, (30.0,)), Mode("MJPG", 640, 480)
PORT = "plug the camera into another port, best one of another USB controller"


def failed(code: int, request: str | None = "VIDIOC_STREAMON") -> OSError:
    return OSError(code, os.strerror(code), request)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENODEV, SourceUnreachable),
        (errno.ENXIO, SourceUnreachable),
        (errno.ENOENT, SourceUnreachable),
        (errno.EACCES, SourceRefused),
        (errno.EPERM, SourceRefused),
        (errno.ENOSPC, SourceRefused),
        (errno.EIO, SourceBroken),
        (errno.EPROTO, SourceBroken),
        (errno.EINVAL, SourceRefused),
        (errno.EMFILE, SourceRefused),
        (errno.ENFILE, SourceRefused),
        (errno.ENOMEM, SourceRefused),
        (errno.EPIPE, SourceBroken),
        (errno.ETIMEDOUT, SourceBroken),
    ],
)
def test_an_error_number_and_what_it_is(code: int, kind: type[SourceError]) -> None:
    assert type(failures.source_error(failed(code))) is kind


def test_a_device_that_is_gone() -> None:
    error = failures.source_error(failed(errno.ENODEV), kernel=["uvcvideo 1-1: said something"])
    assert (error.reason, error.hint) == (
        "the camera was unplugged or reset",
        "plug it in again",
    )


def test_a_device_that_fails_and_what_the_kernel_said() -> None:
    kernel = ["uvcvideo 1-1:1.1: Failed to set UVC commit control : -32 (exp. 26).", "usb 1-1: x"]
    error = failures.source_error(failed(errno.EIO), kernel=kernel)
    assert error.reason == (
        "VIDIOC_STREAMON: Input/output error (kernel: uvcvideo 1-1:1.1: Failed to set UVC commit "
        "control : -32 (exp. 26).; usb 1-1: x)"
    )
    assert error.hint == "check the cable and, if it hangs on a hub, the hub's power supply"


def test_a_device_that_fails_and_the_kernel_is_silent() -> None:
    assert failures.source_error(failed(errno.EIO)).reason == "VIDIOC_STREAMON: Input/output error"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (failed(errno.EIO, None), "the camera: Input/output error"),
        (OSError("odd"), "the camera: odd"),
    ],
)
def test_an_error_that_names_no_request(error: OSError, reason: str) -> None:
    assert failures.reason(error) == reason


def test_missing_rights_come_with_the_command_that_grants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _uid: SimpleNamespace(pw_name="robot"))
    error = failures.source_error(failed(errno.EACCES, "/dev/video0"))
    assert error.reason == "/dev/video0: Permission denied"
    assert error.hint == "run: sudo usermod -aG video robot  and log in again"


def test_a_service_lacks_a_line_in_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    hint = "give the service the group: SupplementaryGroups=video in its unit"
    assert failures.source_error(failed(errno.EACCES)).hint == hint


def test_a_program_that_a_service_started_is_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))
    assert "usermod" in (failures.source_error(failed(errno.EACCES)).hint or "")


def test_a_user_without_a_name_has_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert (
        failures.source_error(failed(errno.EACCES)).hint == "run mjrelay as a user of group video"
    )


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (
            errno.EPERM,
            "allow it: DeviceAllow=char-81 rw in the unit, or --device for a container",
        ),
        (errno.EMFILE, "let more files be open, with LimitNOFILE= in the unit or ulimit -n"),
        (errno.ENFILE, "let more files be open, with LimitNOFILE= in the unit or ulimit -n"),
        (
            errno.ENOMEM,
            "there is no memory left: choose a smaller size, or end other programs",
        ),
    ],
)
def test_what_the_computer_lacks_comes_with_how_to_give_it(code: int, hint: str) -> None:
    error = failures.source_error(
        failed(code, "/dev/video0"), kernel=["uvcvideo 1-1: said so"], mode=HD
    )
    assert error.reason == f"/dev/video0: {os.strerror(code)} (kernel: uvcvideo 1-1: said so)"
    assert error.hint == hint


def test_a_mode_that_the_driver_refuses_is_named() -> None:
    error = failures.source_error(failed(errno.EINVAL, "VIDIOC_S_FMT"), mode=VGA)
    assert isinstance(error, SourceRefused)
    assert error.reason == "VIDIOC_S_FMT: Invalid argument"
    assert error.hint == f"try another size, fps or format than {VGA}"


@pytest.mark.parametrize("request_name", ["VIDIOC_QUERYCAP", "VIDIOC_ENUM_FMT"])
def test_before_a_mode_was_tried_no_other_is_advised(request_name: str) -> None:
    error = failures.source_error(failed(errno.EINVAL, request_name))
    assert "None" not in (error.hint or "")


@pytest.mark.parametrize("request_name", ["VIDIOC_DQBUF", "VIDIOC_QBUF"])
def test_a_stream_that_the_driver_has_ended_is_broken(request_name: str) -> None:
    """It answers so when the buffers were taken away, whatever the mode is."""
    assert isinstance(
        failures.source_error(failed(errno.EINVAL, request_name), mode=HD), SourceBroken
    )


@pytest.mark.parametrize(
    ("mode", "has", "hint"),
    [
        (HD, [HD, VGA], f'set size = "640x480" or a lower fps, or {PORT}'),
        (VGA, [HD, VGA], PORT),
        (None, [], PORT),
    ],
)
def test_a_full_bus_comes_with_a_smaller_mode(
    mode: Mode | None, has: list[Mode], hint: str
) -> None:
    error = failures.source_error(failed(errno.ENOSPC), mode=mode, has=has)
    assert error.reason == (
        f"VIDIOC_STREAMON: No space left on device: the USB bus has no room for {mode}"
    )
    assert error.hint == hint


@pytest.mark.parametrize(
    ("holders", "hidden", "taken"),
    [
        ((Holder(812, "/usr/bin/ffmpeg", None),), False, True),
        ((), True, True),  # it may be one of those we cannot see
        ((), False, False),
    ],
)
def test_a_busy_device_is_taken_or_not(
    holders: tuple[Holder, ...], hidden: bool, taken: bool
) -> None:
    error = failures.busy(failed(errno.EBUSY, "VIDIOC_S_FMT"), Holders(holders, hidden))
    assert error.reason == "VIDIOC_S_FMT: Device or resource busy"
    assert error.taken is taken
    assert error.hint
    assert ("ffmpeg (pid 812): sudo kill 812" in error.hint) == bool(holders)
