"""What systemd keeps is let go of where nobody would take it."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mjrelay.roster import Roster
from mjrelay.service.systemd import Kept
from mjrelay.sources import keeps_device, make_source
from tests.support.serving import config_for


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def running(source: str, mode: str, kept: Kept) -> AsyncIterator[None]:
    """A roster with one camera, whose device systemd keeps."""
    async with asyncio.TaskGroup() as tasks:
        roster = Roster(tasks, lambda _name: kept)
        await roster.fit({"front": config_for(source, mode=mode)})
        yield
        roster.end()


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ("testcard:", "always"),
        ("http://127.0.0.1:9/", "always"),
        ("exec:sleep 60", "always"),
        ("/dev/video-none", "demand"),
    ],
)
async def test_what_will_not_be_taken_at_once_is_let_go(
    source: str, mode: str, systemd: socket.socket
) -> None:
    reading, writing = os.pipe()
    async with running(source, mode, Kept("camera-front", reading)):
        assert systemd.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=camera-front"
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")  # nobody has the other end
    os.close(writing)


def test_a_video_device_waits_for_its_opening(systemd: socket.socket) -> None:
    reading, writing = os.pipe()
    kept = Kept("camera-front", reading)
    config = config_for("/dev/video0")
    assert keeps_device(config)
    make_source(config, kept)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    assert kept.take() == reading
    os.close(reading)
    os.close(writing)
