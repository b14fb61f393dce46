"""CommandSource: JPEGs from a program's standard output, for every camera ffmpeg can read."""

import asyncio
import contextlib
import errno
import io
import os
import re
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from mjrelay.configuration.address import CommandAddress, redact
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import MORE_FILES, SourceLost, SourceRefused, Tally
from mjrelay.formats.framer import JpegFramer
from mjrelay.sources import Show, Source, Stream

# A program that has not ended this many seconds after SIGTERM is killed, and one that has not ended
# this many seconds after SIGKILL is left alone. A shutdown may last two seconds in all.
_END_TIMEOUT = 1.0
# When a program ends, its last words are in the pipe already. A child that outlives it may hold the
# pipe open: its end is not waited for longer than this.
_LAST_WORDS_TIMEOUT = 0.2
# Some pictures of most cameras.
_READ_SIZE = 2**18
# A line that a program says is left out if it is longer, and cut before it is told.
_MAX_LINE, _MOST_OF_A_LINE = 2**14, 2**10
_END_OF_LINE = re.compile(rb"[\r\n]+")  # programs show their progress with carriage returns

log = structlog.get_logger()


class CommandSource(Source):
    """A program that writes JPEGs, in multipart or one after the other.

    It runs in a process group of its own, which ends with the source: what the program started
    must not go on holding a camera.
    """

    silent_hint = "run the command by hand and see what it says"

    def __init__(self, address: CommandAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._arguments = address.arguments
        self._max_frame = config.max_frame
        # A program may take a second to end, and another to be killed.
        self.patience = config.first_frame_timeout + 2 * _END_TIMEOUT
        self._last_words: deque[str] = deque(maxlen=1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Start the program, whose images these are."""
        self._last_words.clear()
        async with AsyncExitStack() as lifetimes:
            try:
                output = await lifetimes.enter_async_context(_pipe())
                complaints = await lifetimes.enter_async_context(_pipe())
                listener = await lifetimes.enter_async_context(self._listening(complaints.reader))
                process = await lifetimes.enter_async_context(
                    _running(self._arguments, output, complaints)
                )
            except OSError as error:
                raise _not_started(self._arguments[0], error) from error
            yield partial(self._stream, process, output.reader, listener)

    def facts(self) -> dict[str, Any]:
        """Nothing but what its images show."""
        return {"framing": "a program's output"}

    async def _stream(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        listener: asyncio.Task[None],
        show: Show,
    ) -> None:
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally)
        while data := await output.read(_READ_SIZE):
            for image in framer.feed(data):
                show(image, time.monotonic())
        for image in framer.finish():
            show(image, time.monotonic())
        await _wait(process)
        await asyncio.wait({listener}, timeout=_LAST_WORDS_TIMEOUT)
        raise SourceLost(_ending(process.returncode, self._arguments[0]), self._explanation())

    @asynccontextmanager
    async def _listening(self, stderr: asyncio.StreamReader) -> AsyncIterator[asyncio.Task[None]]:
        """Listen to what the program says about itself, in a task of its own, while entered."""
        listener = asyncio.create_task(self._listen(stderr), name=f"stderr:{self._arguments[0]}")
        try:
            yield listener
        finally:
            listener.cancel()
            await asyncio.wait({listener})

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Pass on what the program says; the last line often tells why it ended."""
        lines = _Lines()
        while data := await stderr.read(_READ_SIZE):
            self._note(lines.feed(data))
        self._note(lines.finish())

    def _note(self, lines: list[bytes]) -> None:
        for line in lines:
            # The whole line, before it is cut: half a URL may hold a password and no @ to tell.
            if text := redact(line.decode("utf-8", "replace").strip())[:_MOST_OF_A_LINE]:
                self._last_words.append(text)
                log.debug("command.stderr", line=text)

    def _explanation(self) -> str | None:
        if self._last_words:
            return f"its last words: {self._last_words[-1]}"
        return self.silent_hint


class _Lines:
    """Cuts bytes into lines.

    A line that is too long is left out: cut somewhere, it might show half a password.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole by now."""
        *lines, self._rest = _END_OF_LINE.split(self._rest + data)
        if lines and self._is_too_long:
            self._is_too_long = False
            del lines[0]
        if len(self._rest) > _MAX_LINE:
            self._is_too_long = True
            self._rest = b""
        return [line for line in lines if len(line) <= _MAX_LINE]

    def finish(self) -> list[bytes]:
        """The last line, if nothing ends it."""
        return [] if self._is_too_long else [self._rest]


@dataclass(frozen=True)
class _Pipe:
    """A pipe from a program to us.

    Attributes:
        reader: What the program writes.
        theirs: The program's end. It must be closed here once the program has it: the pipe ends
            when nobody has it any more.
    """

    reader: asyncio.StreamReader
    theirs: io.FileIO


@asynccontextmanager
async def _pipe() -> AsyncIterator[_Pipe]:
    """A pipe of our own; both of its ends are closed at the end.

    asyncio's own pipes stay open, and its `wait()` waits, while any stray child of the program
    holds their other end.
    """
    read_end, write_end = os.pipe()
    with io.FileIO(read_end, "r") as ours, io.FileIO(write_end, "w") as theirs:
        reader = asyncio.StreamReader(limit=_READ_SIZE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), ours
        )
        try:
            yield _Pipe(reader, theirs)
        finally:
            transport.close()


@asynccontextmanager
async def _running(
    arguments: Sequence[str], output: _Pipe, complaints: _Pipe
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program while entered. At the end, end it and all it started.

    Raises:
        OSError: It cannot be started.
    """
    start = asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output.theirs,
        stderr=complaints.theirs,
        start_new_session=True,
    )
    # Never cancelled: asyncio would kill the program alone, and not what it has started already.
    starting = asyncio.create_task(start)
    try:
        process = await asyncio.shield(starting)
        output.theirs.close()
        complaints.theirs.close()
        yield process
    finally:
        while not starting.done():  # a few turns of the event loop, even if we are cancelled again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({starting})
        if not starting.exception():
            await _end(starting.result())


def _not_started(program: str, error: OSError) -> SourceRefused:
    reason = f"{program} cannot be started: {error.strerror}"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return SourceRefused(reason, MORE_FILES)
    return SourceRefused(reason, "check that it is installed, spelled right and may be executed")


def _ending(status: int | None, program: str) -> str:
    if status is None:
        return f"{program} closed its output"
    if status >= 0:
        return f"{program} ended with status {status}"
    try:
        return f"{program} was ended by {signal.Signals(-status).name}"
    except ValueError:  # real-time signals have no name
        return f"{program} was ended by signal {-status}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program and all it started: politely, then not."""
    try:
        _signal(process, signal.SIGTERM)
        await _wait(process)
    finally:
        _signal(process, signal.SIGKILL)  # the rest of its group, too
    await _wait(process)


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Wait for the program, but not for one that cannot be ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT):
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Gone already, or of another user, as with sudo.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
