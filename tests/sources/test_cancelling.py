"""Any kind of source may be cancelled at any moment, and leaves nothing behind."""

import asyncio
import contextlib
import gc
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from mjrelay.configuration.address import CommandAddress, TestcardAddress, V4l2Address
from mjrelay.devices.modes import Mode
from mjrelay.service.systemd import Kept
from mjrelay.sources import Source, make_source
from mjrelay.sources.command import CommandSource
from mjrelay.sources.http import dialling
from mjrelay.sources.http.connection import Connection
from mjrelay.sources.testcard import TestcardSource
from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.camera import STREAM, AskAuth, Script, ScriptedCamera, Send
from tests.support.device import BRIEF, MJPG, YUYV, Desk, FakeDevice
from tests.support.device import Step as DeviceStep
from tests.support.files import descriptors
from tests.support.pictures import picture, stamped
from tests.support.quirks import HEALTHY, answer
from tests.support.serving import config_for, until

REDIRECT = Send(answer(b"", None, "Location: /elsewhere", status="HTTP/1.1 302 Found"))
LOGIN = AskAuth('Digest realm="camera", nonce="abc", qop="auth"')
ONE_PICTURE = Send(answer(picture(1), "image/jpeg"))

# Threads that may outlive an opening: the event loop's own, in which test cards are drawn, and
# the device's, which lives as long as its source.
_MAY_STAY = ("asyncio_", "v4l2:")
# No moment is tried that lies more turns of the event loop after the one before.
_LARGEST_STEP = 60
# How many moments are tried once pictures come: some lie between two answers of a camera.
_WHILE_STREAMING = 6


@asynccontextmanager
async def http(*scripts: Script) -> AsyncIterator[Source]:
    """A camera that plays these scripts."""
    async with ScriptedCamera(*scripts) as camera:
        yield http_source(camera.url)


@asynccontextmanager
async def https() -> AsyncIterator[Source]:
    """A camera behind a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEALTHY[0].wire)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        yield http_source(f"https://127.0.0.1:{port}/", tls_verify=False)


CERTIFICATE = trustme.CA().issue_cert("127.0.0.1")


def http_source(url: str, **options: object) -> Source:
    return make_source(
        config_for(url, username="me", password="secret", redial_delay=0, fps=1000, **options)
    )


@asynccontextmanager
async def device(mode: Mode, *script: DeviceStep, is_kept: bool = False) -> AsyncIterator[Source]:
    """A video device that plays this script. If it is kept, an earlier process had it open."""
    fake = FakeDevice(script)
    fake.modes = [mode]
    kept = Kept("", os.dup(0)) if is_kept else None
    source = V4l2Source(ADDRESS, config_for("/dev/video0"), kept, devices=Desk(fake), timing=BRIEF)
    yield source
    assert not fake.open_now


ADDRESS = V4l2Address.parse("/dev/video0")


@asynccontextmanager
async def command(folder: Path) -> AsyncIterator[Source]:
    """A program whose child sends the pictures, and would go on for ever."""
    images = folder / "images"
    images.write_bytes(picture(1) + picture(2))
    script = f"tail -c +1 -f {images} & wait"
    yield CommandSource(CommandAddress(("sh", "-c", script)), config_for("testcard:"))
    await until(lambda: not mentioning(images))


def mentioning(path: Path) -> list[str]:
    """The processes that have a path among their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(path) in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


@asynccontextmanager
async def drawn() -> AsyncIterator[Source]:
    yield TestcardSource(TestcardAddress((64, 48), fps=1000))


Opened = Callable[[Path], contextlib.AbstractAsyncContextManager[Source]]
KINDS: dict[str, Opened] = {
    "http": lambda _: http(STREAM),
    "http, polled": lambda _: http([ONE_PICTURE]),
    "http, redirected": lambda _: http([REDIRECT], STREAM),
    "http, redirected, with a log-in": lambda _: http([REDIRECT], [LOGIN], STREAM),
    "https": lambda _: https(),
    "v4l2": lambda _: device(MJPG, stamped(1), stamped(2)),
    "v4l2, kept": lambda _: device(MJPG, stamped(1), is_kept=True),
    "v4l2, encoded": lambda _: device(YUYV, bytes(64 * 48 * 2)),
    "exec": command,
    "testcard": lambda _: drawn(),
}


class Belongings:
    """What this process has, to see later what has been added."""

    def __init__(self) -> None:
        self._before = set(_belongings())

    def added(self) -> list[str]:
        """What is there now and was not then."""
        return sorted(set(_belongings()) - self._before)


def _belongings() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which they were listed
            yield f"descriptor {descriptor.name}: {descriptor.readlink()}"
    for task in asyncio.all_tasks():
        yield f"task {task.get_name()}"
    for thread in threading.enumerate():
        if not thread.name.startswith(_MAY_STAY):
            yield f"thread {thread.name}"
    for mapping in Path("/proc/self/maps").read_text().splitlines():
        if "/dev/" in mapping:  # an anonymous one that is shared, as an inbox is, is of /dev/zero
            yield f"mapping {mapping}"


class Attempt:
    """A source that is opened and streams, in a task of its own.

    Attributes:
        shown: How many pictures came.
    """

    def __init__(self, source: Source) -> None:
        self.shown = 0
        self._task = asyncio.create_task(self._run(source))

    async def _run(self, source: Source) -> None:
        async with source.open() as stream:
            await stream(self._show)

    def _show(self, _image: bytes, _captured: float) -> None:
        self.shown += 1

    @property
    def has_ended(self) -> bool:
        return self._task.done()

    def cancel(self) -> None:
        """Ask for its end."""
        self._task.cancel()

    async def end(self) -> None:
        """Wait for its end, which must be that it was cancelled."""
        await asyncio.wait({self._task}, timeout=5)
        assert self._task.cancelled()
        del self._task  # its traceback refers to what the source had


def moments() -> Iterator[int]:
    """Turns of the event loop: each of the first, then some of those that follow."""
    turn = 0
    while True:
        yield turn
        turn += min(1 + turn // 12, _LARGEST_STEP)


async def turns(count: int) -> None:
    """Let the event loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def nothing_is_left(before: Belongings) -> None:
    """Wait until what was added is gone: some of it is the camera's, at the other end."""
    assert not watched_but_closed()

    def added() -> list[str]:
        found = before.added()
        if found and all(each.startswith("mapping") for each in found):
            gc.collect()  # asyncio's TLS leaves a circle of references, in it the buffer
            found = before.added()
        return found

    with contextlib.suppress(TimeoutError):
        await until(lambda: not added())
    assert not added()


def watched_but_closed() -> set[int]:
    """Descriptors that the event loop still watches, though they are closed.

    The next one to be opened has the same number, and would be refused by the event loop.
    """
    watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    return set(watched) - descriptors()


async def can_be_opened_again(source: Source) -> None:
    """See that nothing of what was cancelled is in the way."""
    attempt = Attempt(source)
    await until(lambda: attempt.shown or attempt.has_ended)
    attempt.cancel()
    await attempt.end()


@pytest.fixture(params=KINDS)
async def kind(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    """A kind of source. When its sources are gone, so are their threads."""
    before = set(threading.enumerate())
    gc.freeze()  # so that collecting garbage looks at little
    yield KINDS[request.param]
    gc.collect()
    gc.unfreeze()
    await until(lambda: not [t for t in set(threading.enumerate()) - before if is_a_devices(t)])


def is_a_devices(thread: threading.Thread) -> bool:
    return thread.name.startswith("v4l2:")


@pytest.mark.parametrize("times", [1, 2])
async def test_one_cancelled_while_it_opens_or_streams_leaves_nothing(
    kind: Opened, times: int, tmp_path: Path
) -> None:
    """Cancelled once, or again in the next turn."""
    streaming = 0
    for moment in moments():
        async with kind(tmp_path) as source:
            before = Belongings()
            attempt = Attempt(source)
            await turns(moment)
            streaming += attempt.shown > 0
            for _ in range(times):
                attempt.cancel()
                await turns(1)
            await attempt.end()
            await can_be_opened_again(source)
            await nothing_is_left(before)
        if streaming >= _WHILE_STREAMING:
            break


async def test_one_cancelled_while_it_closes_leaves_nothing(kind: Opened, tmp_path: Path) -> None:
    for moment in moments():
        async with kind(tmp_path) as source:
            before = Belongings()
            attempt = Attempt(source)
            await until(lambda: attempt.shown)  # noqa: B023 - called in this round
            attempt.cancel()
            await turns(moment)
            has_closed = attempt.has_ended
            attempt.cancel()
            await attempt.end()
            await nothing_is_left(before)
        if has_closed:
            break


async def test_one_given_up_just_after_the_tls_handshake_is_not_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class GivenUp(Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            attempt.cancel()

    async with https() as source:
        before = Belongings()
        with monkeypatch.context() as patch:
            patch.setattr(dialling, "Connection", GivenUp)
            attempt = Attempt(source)
            await attempt.end()
        await can_be_opened_again(source)
        await nothing_is_left(before)
