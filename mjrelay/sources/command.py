"""CommandSource: JPEGs from a program's standard output, for every camera ffmpeg can read."""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import structlog

from mjrelay.address import CommandAddress, redact
from mjrelay.errors import SourceLost, SourceRefused
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.tally import Tally

# A program that does not end at SIGTERM within this time is killed. Within the two seconds a
# shutdown may last.
_END_TIMEOUT = 1.0
_READ_SIZE = 2**18
_MAX_LINE = 2**12

log = structlog.get_logger()


class CommandSource:
    """A program that writes JPEGs, in multipart or one after the other.

    It runs in a process group of its own, which ends with the source: what the program started
    must not go on holding a camera.
    """

    def __init__(self, address: CommandAddress, *, max_frame: int) -> None:
        self.label = address.label
        self.tally = Tally()
        self._arguments = address.arguments
        self._max_frame = max_frame
        self._last_words: deque[str] = deque(maxlen=1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start the program and yield its images."""
        self._last_words.clear()
        process = await self._start()
        assert process.stderr
        listener = asyncio.create_task(
            self._listen(process.stderr), name=f"stderr:{self._arguments[0]}"
        )
        try:
            async with aclosing(self._images(process)) as images:
                yield images
        finally:
            await _end(process)
            listener.cancel()
            await asyncio.wait([listener])

    def facts(self) -> dict[str, Any]:
        """Nothing but what its images show."""
        return {"framing": "a program's output"}

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_READ_SIZE,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceRefused(
                f"{self._arguments[0]} cannot be started: {error.strerror}",
                "check that it is installed, spelled right and may be executed",
            ) from error

    async def _images(self, process: asyncio.subprocess.Process) -> AsyncGenerator[bytes, None]:
        framer = JpegFramer(max_size=self._max_frame, tally=self.tally)
        assert process.stdout
        while data := await process.stdout.read(_READ_SIZE):
            for image in framer.feed(data):
                yield image
        for image in framer.finish():
            yield image
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT):
                await process.wait()
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
        return f"its last words: {self._last_words[-1]}" if self._last_words else None


def _ending(status: int | None, program: str) -> str:
    if status is None:
        return f"{program} closed its output"
    if status < 0:
        return f"{program} was ended by {signal.Signals(-status).name}"
    return f"{program} ended with status {status}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program and all it started: politely, then not."""
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_END_TIMEOUT):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
