"""CommandSource: JPEGs from a program's standard output, for every camera ffmpeg can read."""

import asyncio
import contextlib
import io
import math
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

from mjrelay.configuration.address import CommandAddress
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import MORE_FILES, SourceEnded, SourceLost, SourceRefused, Tally, is_full
from mjrelay.formats.framer import JpegFramer
from mjrelay.sources import Show, Source, Stream

# A program that has not ended this many seconds after SIGTERM is killed; one that has not ended
# this many seconds after SIGKILL is left alone. So a shutdown lasts two seconds at most.
_END_TIMEOUT = 1.0
# When a program has ended, all that it wrote is in the pipe, and is read at once. A child that
# outlives the program may keep the pipe open, so that after this many seconds we stop waiting for
# the pipe's end.
_LAST_WORDS_TIMEOUT = 0.2
# Bytes read at once: several images of most cameras.
_READ_SIZE = 2**18
# Of a program's standard error, a line of more bytes than the first is ignored, and a line of more
# characters than the second is cut before it is logged.
_MAX_LINE, _MOST_OF_A_LINE = 2**14, 2**10
_END_OF_LINE = re.compile(rb"[\r\n]+")  # programs show their progress with carriage returns

log = structlog.get_logger()


class CommandSource(Source):
    """A program that writes JPEGs, in multipart or one after the other.

    The program runs in a process group of its own, and all of the group is ended when the source is
    closed: a child of the program must not go on holding a camera.
    """

    silent_hint = "run the command by hand and see what it says"
    has_own_rhythm = True

    def __init__(self, address: CommandAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._arguments = address.arguments
        self._redact = address.redaction.redact
        self._max_frame = config.max_frame
        # A program may take a second to end, and another to be killed.
        self.patience = config.first_frame_timeout + 2 * _END_TIMEOUT
        self._last_words: deque[str] = deque(maxlen=1)
        self._grew_at = -math.inf

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Run the program while entered."""
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
        """What `mjrelay probe` shows: there is nothing to find out."""
        return {"framing": "a program's output"}

    def sign_of_life(self) -> float:
        """When bytes of a picture last came that is not whole."""
        return self._grew_at

    async def _stream(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        listener: asyncio.Task[None],
        show: Show,
    ) -> None:
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally)
        shown = 0
        while data := await output.read(_READ_SIZE):
            for image in framer.feed(data):
                shown += 1
                show(image, time.monotonic())
            if not framer.between_images:
                self._grew_at = time.monotonic()
        for image in framer.finish():
            shown += 1
            show(image, time.monotonic())
        await _wait(process)
        await asyncio.wait({listener}, timeout=_LAST_WORDS_TIMEOUT)
        status, ended = process.returncode, SourceLost
        if shown and status == 0:  # it meant to end, as one does that takes a few pictures
            self.tally.tolerated["program that ended"] += 1
            ended = SourceEnded
        raise ended(_ending(status, self._arguments[0]), self._explanation())

    @asynccontextmanager
    async def _listening(self, stderr: asyncio.StreamReader) -> AsyncIterator[asyncio.Task[None]]:
        """Read the program's standard error in a task of its own, while entered."""
        listener = asyncio.create_task(self._listen(stderr), name=f"stderr:{self._arguments[0]}")
        try:
            yield listener
        finally:
            listener.cancel()
            await asyncio.wait({listener})

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Log what the program says, and remember the last line: it often tells why it ended."""
        lines = _Lines()
        while data := await stderr.read(_READ_SIZE):
            self._note(lines.feed(data))
        self._note(lines.finish())

    def _note(self, lines: list[bytes]) -> None:
        for line in lines:
            # Redact first and cut then: a cut URL may show a password without the @ to know it by.
            if text := self._redact(line.decode("utf-8", "replace").strip())[:_MOST_OF_A_LINE]:
                self._last_words.append(text)
                log.debug("command.stderr", line=text)

    def _explanation(self) -> str | None:
        if self._last_words:
            return f"its last words: {self._last_words[-1]}"
        return self.silent_hint


class _Lines:
    """Cuts bytes into lines.

    A line that is too long is ignored: it cannot be redacted before it is whole.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_too_long = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; return the lines that they complete."""
        *lines, self._rest = _END_OF_LINE.split(self._rest + data)
        if lines and self._is_too_long:
            self._is_too_long = False
            del lines[0]
        if len(self._rest) > _MAX_LINE:
            self._is_too_long = True
            self._rest = b""
        return [line for line in lines if len(line) <= _MAX_LINE]

    def finish(self) -> list[bytes]:
        """At the end of all bytes: the last line, which no newline ends."""
        return [] if self._is_too_long else [self._rest]


@dataclass(frozen=True)
class _Pipe:
    """A pipe from a program to us.

    Attributes:
        reader: Reads what the program writes.
        theirs: The program's end. Close it once the program has inherited it: the reader sees the
            end of the pipe only when no process has this end open.
    """

    reader: asyncio.StreamReader
    theirs: io.FileIO


@asynccontextmanager
async def _pipe() -> AsyncIterator[_Pipe]:
    """Make a pipe, and close both of its ends on leaving.

    asyncio's own pipes are not used: as long as a stray child of the program has the other end
    open, they stay open too, and the process's `wait()` goes on waiting.
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
    """Run a program while entered. Leaving ends it and all that it has started.

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
    # This task is never cancelled: asyncio would kill the program, but not what that has started.
    starting = asyncio.create_task(start)
    try:
        process = await asyncio.shield(starting)
        output.theirs.close()
        complaints.theirs.close()
        yield process
    finally:
        while not starting.done():  # takes a few turns of the event loop; we may be cancelled again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({starting})
        if not starting.exception():
            await _end(starting.result())


def _not_started(program: str, error: OSError) -> SourceRefused:
    reason = f"{program} cannot be started: {error.strerror}"
    if is_full(error):
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
    """End the program's process group: with SIGTERM, then with SIGKILL."""
    try:
        _signal(process, signal.SIGTERM)
        await _wait(process)
    finally:
        _signal(process, signal.SIGKILL)  # even if the program has ended: a child may be left
    await _wait(process)


async def _wait(process: asyncio.subprocess.Process) -> None:
    """Wait until the program has ended, for a limited time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT):
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # The group is gone already, or belongs to another user, as with sudo.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
