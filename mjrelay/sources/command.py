"""CommandSource: JPEGs from a program's standard output, for every camera ffmpeg can read."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog

from mjrelay.configuration.address import CommandAddress, redact
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import SourceLost, SourceRefused, Tally
from mjrelay.formats.framer import JpegFramer
from mjrelay.sources import Show, Source, Stream

# A program that does not end at SIGTERM within this time is killed. Within the two seconds a
# shutdown may last.
_END_TIMEOUT = 1.0
_READ_SIZE = 2**18
_MAX_LINE = 2**12

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
        async with _pipe() as (output, stdout), _pipe() as (complaints, stderr):
            process = await self._start(stdout, stderr)
            listener = asyncio.create_task(
                self._listen(complaints), name=f"stderr:{self._arguments[0]}"
            )
            try:
                yield partial(self._stream, process, output)
            finally:
                listener.cancel()
                await _end(process)

    def facts(self) -> dict[str, Any]:
        """Nothing but what its images show."""
        return {"framing": "a program's output"}

    async def _start(self, stdout: int, stderr: int) -> asyncio.subprocess.Process:
        """Start the program; the descriptors it writes to are its own from then on."""
        try:
            return await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceRefused(
                f"{self._arguments[0]} cannot be started: {error.strerror}",
                "check that it is installed, spelled right and may be executed",
            ) from error
        finally:
            os.close(stdout)
            os.close(stderr)

    async def _stream(
        self, process: asyncio.subprocess.Process, output: asyncio.StreamReader, show: Show
    ) -> None:
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally)
        while data := await output.read(_READ_SIZE):
            for image in framer.feed(data):
                show(image, time.monotonic())
        for image in framer.finish():
            show(image, time.monotonic())
        await _wait(process)
        await asyncio.sleep(0)  # lets the listener read the last line
        raise SourceLost(_ending(process.returncode, self._arguments[0]), self._explanation())

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Pass on what the program says about itself; the last line often tells why it ended."""
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than the limit: a progress bar
                continue
            if not line:
                return
            text = redact(line[:_MAX_LINE].decode("utf-8", "replace").strip())
            if text:
                self._last_words.append(text)
                log.debug("command.stderr", line=text)

    def _explanation(self) -> str | None:
        if self._last_words:
            return f"its last words: {self._last_words[-1]}"
        return self.silent_hint


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A pipe of our own: what we read from, and the descriptor to hand to a program.

    asyncio's own pipes stay open, and its `wait()` waits, while any stray child of the program
    holds their other end.
    """
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader(limit=_READ_SIZE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
    )
    try:
        yield reader, write_end
    finally:
        transport.close()


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
