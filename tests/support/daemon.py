"""The real program, and others, as processes that never outlive a test.

async with RelayProcess("testcard:") as relay:
await relay.camera_until(lambda camera: camera["state"] == "streaming")
assert await relay.terminate() == ...
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

import mjrelay

# Python alone may take seconds to start where many tests run at once.
_START_TIMEOUT = 20.0
_POLL_EVERY = 0.02
# A line of a log may hold a traceback.
_LINE_LIMIT = 2**20

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mjrelay.__file__).parents[1])}


async def eventually(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], within: float = 5.0
) -> None:
    """Wait until something holds; else TimeoutError."""
    async with asyncio.timeout(within):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(_POLL_EVERY)


@contextlib.asynccontextmanager
async def running(
    *command: str, stderr: int | None = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, which is killed, with all it started, if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        env=_ENVIRONMENT,
        start_new_session=True,
        limit=_LINE_LIMIT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


async def run(*command: str, cwd: Path | None = None, within: float = 20.0) -> Finished:
    """Run a command to its end; one that takes longer is killed, and TimeoutError raised."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd=cwd,
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def run_mjrelay(*arguments: str, cwd: Path | None = None, within: float = 20.0) -> Finished:
    """Run one of the program's commands to its end."""
    return await run(sys.executable, "-m", "mjrelay", *arguments, cwd=cwd, within=within)


@dataclass(frozen=True)
class Ended:
    """How the relay ended: its exit status, and how long after SIGTERM."""

    status: int
    seconds: float


class RelayProcess:
    """`mjrelay run`, listening once entered.

    Args:
        arguments: Sources, or `--config` and a file, whose addresses are not listened on.
        port: Where it listens; 0 for a port of the kernel's choice.

    Attributes:
        url: Where it listens, without a path.
        pid: Its process.
        log: What it has logged so far, parsed; a line that is no JSON is an `event` of itself.
        output: The same as text.
    """

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self.url = ""
        self.log: list[dict[str, Any]] = []
        self.output = ""
        self._arguments = ("--listen", f"127.0.0.1:{port}", *arguments)
        self._stack = contextlib.AsyncExitStack()
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the program and wait until it listens."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(self._show_log)
            command = (sys.executable, "-m", "mjrelay", "run")
            self._process = await stack.enter_async_context(
                running(*command, *self._arguments, stderr=asyncio.subprocess.PIPE)
            )
            self._listener = asyncio.create_task(self._listen(), name="relay's log")
            await self.until(lambda: bool(self.events("relay.started")), _START_TIMEOUT)
            (address,) = self.events("relay.started")[0]["listen"]
            self.url = f"http://{address}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill it if it still runs."""
        await self._stack.__aexit__(kind, error, traceback)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under a name."""
        return [entry for entry in self.log if entry.get("event") == name]

    async def until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait until something holds; else TimeoutError, or AssertionError once it has ended."""

        def held() -> bool:
            assert self._process.returncode is None, f"ended with {self._process.returncode}"
            return holds()

        await eventually(held, within)

    async def get(self, path: str) -> str:
        """The text at an address."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return await answer.text(errors="replace")

    async def status(self) -> dict[str, Any]:
        """What `/status` says."""
        status: dict[str, Any] = json.loads(await self.get("/status"))
        return status

    async def camera(self) -> dict[str, Any]:
        """What `/status` says about the first camera."""
        camera: dict[str, Any] = (await self.status())["cameras"][0]
        return camera

    async def camera_until(
        self, holds: Callable[[dict[str, Any]], bool], within: float = 5.0
    ) -> None:
        """Wait until `/status` says something about the first camera."""

        async def held() -> bool:
            return holds(await self.camera())

        await eventually(held, within)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Let the process not run for a while; what comes meanwhile it then meets at once."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def rss(self) -> int:
        """Bytes of memory it holds."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError

    def open_files(self) -> int:
        """How many file descriptors it holds."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def terminate(
        self, within: float = 10.0, *, by: signal.Signals = signal.SIGTERM
    ) -> Ended:
        """Send a signal and wait for its end; else TimeoutError. Its log must hold no traceback."""
        begun = time.monotonic()
        self._process.send_signal(by)
        async with asyncio.timeout(within):
            status = await self._process.wait()
        seconds = time.monotonic() - begun
        assert self._listener
        await self._listener
        assert "Traceback" not in self.output
        return Ended(status, seconds)

    async def _listen(self) -> None:
        assert self._process.stderr
        async for line in self._process.stderr:
            text = line.decode()
            self.output += text
            try:
                self.log.append(json.loads(text))
            except ValueError:
                self.log.append({"event": text.rstrip()})

    async def _show_log(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._listener:
            await asyncio.wait([self._listener])
        if kind:
            sys.stderr.write(self.output)
