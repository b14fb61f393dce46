"""The kernel's messages: the right ones, and never an error."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mjrelay.devices import kmsg
from tests.devices.tree import open_files

NOW = 1000.0
ABOUT = ("usb 1-1", "uvcvideo 1-1")


def record(text: str, *, at: float = NOW - 1, priority: int = 3, more: str = "") -> bytes:
    return f"{priority},339,{int(at * 1e6)},-;{text}\n{more}".encode()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let the kernel say these records, one per read, and ask for them."""

    def said(*records: bytes | int, end: int = errno.EAGAIN) -> list[str]:
        answers = iter([*records, end])

        def read(_file: int, _size: int) -> bytes:
            answer = next(answers)
            if isinstance(answer, int):
                raise OSError(answer, os.strerror(answer))
            return answer

        path = tmp_path / "kmsg"
        path.touch()
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            return kmsg.recent_messages(ABOUT, within=5.0, path=path)

    monkeypatch.setattr("time.clock_gettime", lambda _clock: NOW)
    return said


def test_messages_about_the_device_are_found(kernel: Callable[..., list[str]]) -> None:
    commit = "uvcvideo 1-1:1.1: Failed to set UVC commit control : -32 (exp. 26)."
    gone = "usb 1-1: USB disconnect, device number 7"
    assert kernel(
        record(commit, more=" SUBSYSTEM=usb\n DEVICE=c189:6\n"),
        record("usb 2-1: USB disconnect, device number 3"),
        record(gone),
    ) == [commit, gone]


@pytest.mark.parametrize("text", ["usb 1-1.2: x", "usb 1-10: x", "busb 1-1: x", "x"])
def test_messages_about_others_are_not(kernel: Callable[..., list[str]], text: str) -> None:
    assert kernel(record(text, more=" usb 1-1\n")) == []


def test_old_messages_are_not(kernel: Callable[..., list[str]]) -> None:
    assert kernel(record("usb 1-1: a", at=NOW - 6), record("usb 1-1: b", at=NOW - 4)) == [
        "usb 1-1: b"
    ]


def test_only_the_kernel_is_believed(kernel: Callable[..., list[str]]) -> None:
    assert kernel(record("usb 1-1: a", priority=8 + 3)) == []


def test_what_is_no_trouble_is_not_said(kernel: Callable[..., list[str]]) -> None:
    assert kernel(record("usb 1-1: a", priority=6), record("usb 1-1: b", priority=4)) == [
        "usb 1-1: b"
    ]


def test_repeats_are_said_once_and_the_newest_are_kept(kernel: Callable[..., list[str]]) -> None:
    said = [record(f"usb 1-1: {word}") for word in ("a", "b", "c", "a", "d", "a")]
    assert kernel(*said) == ["usb 1-1: c", "usb 1-1: d", "usb 1-1: a"]


def test_overwritten_messages_are_passed_over(kernel: Callable[..., list[str]]) -> None:
    assert kernel(errno.EPIPE, record("usb 1-1: a")) == ["usb 1-1: a"]


@pytest.mark.parametrize("end", [errno.EPERM, errno.EIO, errno.EINVAL])
def test_an_error_ends_it_quietly(kernel: Callable[..., list[str]], end: int) -> None:
    assert kernel(record("usb 1-1: a"), end=end) == ["usb 1-1: a"]


def test_garbage_is_passed_over(kernel: Callable[..., list[str]]) -> None:
    assert kernel(b"", end=errno.EAGAIN) == []
    assert kernel(b"\xff;usb 1-1", b"3,1;usb 1-1\n", record("usb 1-1: \xff")) == ["usb 1-1: \xff"]


def test_no_messages_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert kmsg.recent_messages(ABOUT, within=5.0, path=tmp_path / "kmsg") == []
    assert kmsg.recent_messages(ABOUT, within=5.0, path=tmp_path) == []


def test_the_real_kernel_can_be_asked() -> None:
    try:
        with Path("/dev/kmsg").open("rb") as messages:
            os.set_blocking(messages.fileno(), False)
            os.read(messages.fileno(), 2**13)
    except OSError as error:
        pytest.skip(f"/dev/kmsg cannot be read: {error.strerror}")
    files = open_files()
    assert len(kmsg.recent_messages(["pci", "usb", "Linux", "cpu"], within=1e9)) <= 3
    assert open_files() == files
