"""A camera for tests: a real TCP server that plays scripts and notes how it is treated.

The first connection to this one goes silent after three frames, all later ones are reset:

    async with ScriptedCamera([Send(HttpHead), Frames(count=3), Silence()], [Reset()]) as camera:
        ...
        await camera.until(lambda: camera.accepted == 2)
        assert camera.ends[0] == "fin"
"""

import asyncio
import itertools
import re
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, cast

from .pictures import stamped
from .quirks import HEALTHY_HEADERS, answer, multipart

HttpHead = answer(b"", *HEALTHY_HEADERS)
"""A healthy camera's status line and headers: multipart, `boundary=boundarydonotcross`."""

End = Literal["fin", "reset", "ours"]
"""How a connection ended: by the peer's FIN, by the peer's RST, or by the camera."""

_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class Step(Protocol):
    """One thing a camera does on a connection, once the request has come."""

    async def play(self, connection: "Connection") -> None:
        """Do it, and return when the next step may begin."""


Script = Sequence[Step]
"""What happens on one connection; after the last step the camera closes it."""


@dataclass(frozen=True)
class Send:
    """Send bytes as they are, such as a whole `Reply.wire`."""

    data: bytes

    async def play(self, connection: "Connection") -> None:
        """Send them."""
        await connection.send(self.data)


@dataclass(frozen=True)
class Frames:
    """Send parts with stamped pictures, numbered from 1 over the camera's whole life."""

    fps: float = 25.0
    count: int | None = None

    async def play(self, connection: "Connection") -> None:
        """Send `count` of them, or send them until the connection ends."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for _ in itertools.count() if self.count is None else range(self.count):
            await connection.send(multipart([stamped(connection.camera.next_number())]))
            due = max(due + 1 / self.fps, loop.time())
            await asyncio.sleep(due - loop.time())


@dataclass(frozen=True)
class Pause:
    """Do nothing for a while."""

    seconds: float

    async def play(self, connection: "Connection") -> None:  # noqa: ARG002 - none of its business
        """Wait."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Silence:
    """Keep the connection open, and send nothing until the peer ends it."""

    async def play(self, connection: "Connection") -> None:
        """Wait."""
        await connection.gone.wait()


@dataclass(frozen=True)
class Close:
    """Send all that is pending, then FIN."""

    async def play(self, connection: "Connection") -> None:
        """Close."""
        await connection.close()


@dataclass(frozen=True)
class Reset:
    """Send RST, as a camera that loses power and comes back."""

    async def play(self, connection: "Connection") -> None:
        """Reset."""
        await connection.reset()


@dataclass(frozen=True, init=False)
class AskAuth:
    """Answer 401 with these WWW-Authenticate challenges, then close."""

    challenges: tuple[str, ...]

    def __init__(self, *challenges: str) -> None:
        """Take each challenge's text, such as `Basic realm="camera"`."""
        object.__setattr__(self, "challenges", challenges)

    async def play(self, connection: "Connection") -> None:
        """Answer."""
        headers = [f"WWW-Authenticate: {challenge}" for challenge in self.challenges]
        status = "HTTP/1.1 401 Unauthorized"
        page = b"<html>401</html>\n"
        await connection.send(
            answer(page, "text/html", *headers, "Connection: close", status=status)
        )
        await connection.close()


STREAM: Script = (Send(HttpHead), Frames())


class ScriptedCamera:
    """A camera on 127.0.0.1: its first connection plays the first script, and so on.

    Further connections play the last script. With `one_slot`, a connection is accepted at any
    time, but played only when no other is. A `deaf` one does not answer our FIN.

    What a test may assert: `accepted` connections; `open_now` and `most_open` (at once) of them,
    where one is open until its end is seen, be it the peer's FIN or RST or our own close;
    `requests`, the heads as they came; `ends`, in the order in which connections ended; `gaps`,
    the seconds between the end of one and the accept of the next, 0 if one was still open;
    `frames_sent`, the number of the newest stamped picture.
    """

    def __init__(self, *scripts: Script, one_slot: bool = False, deaf: bool = False) -> None:
        """Prepare; the camera can be reached inside its `async with`."""
        self._scripts = scripts or (STREAM,)
        self.slot = asyncio.Lock() if one_slot else nullcontext()
        self.deaf = deaf
        self.accepted = 0
        self.open_now = 0
        self.most_open = 0
        self.frames_sent = 0
        self.requests: list[bytes] = []
        self.ends: list[End] = []
        self.gaps: list[float] = []
        self._last_end = 0.0
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._connections: list[Connection] = []

    async def __aenter__(self) -> Self:
        """Choose a port, and answer on it."""
        # This socket never listens: it keeps the port ours while the camera refuses.
        self._port_keeper = _bound_socket(0)
        self.port: int = self._port_keeper.getsockname()[1]
        await self.answer_again()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything; raise what went wrong in a script."""
        await self.refuse()
        self._port_keeper.close()
        finishes = [connection.finish() for connection in self._connections]
        for failure in await asyncio.gather(*finishes, return_exceptions=True):
            if failure is not None:
                raise failure

    @property
    def url(self) -> str:
        """Where the camera streams, whether it answers or not."""
        return f"http://127.0.0.1:{self.port}/?action=stream"

    async def refuse(self) -> None:
        """Refuse further connections; those that are open go on."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def answer_again(self) -> None:
        """Accept connections again, on the same port."""
        if self._listener is None:
            self._listener = _bound_socket(self.port)
            self._listener.listen()
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait until something holds that this camera counts; else TimeoutError."""
        async with asyncio.timeout(within):
            while not holds():
                await self._changed.wait()

    def next_number(self) -> int:
        """Count a frame."""
        self.frames_sent += 1
        self._tell()
        return self.frames_sent

    def requested(self, head: bytes) -> None:
        """Note a request."""
        self.requests.append(head)
        self._tell()

    def ended(self, end: End) -> None:
        """Note the end of a connection."""
        self.open_now -= 1
        self.ends.append(end)
        self._last_end = time.monotonic()
        self._tell()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # The peer has changed its mind.
        if self.accepted:
            self.gaps.append(0.0 if self.open_now else time.monotonic() - self._last_end)
        script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
        self.accepted += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        sock.settimeout(0)
        self._connections.append(Connection(self, sock, script))
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Connection(asyncio.Protocol):
    """One connection to the camera, and the task that plays a script on it."""

    def __init__(self, camera: ScriptedCamera, sock: socket.socket, script: Script) -> None:
        """Begin to play."""
        self.camera = camera
        self.gone = asyncio.Event()  # Not connected, or no more.
        self.gone.set()
        self._sock = sock
        self._head = b""
        self._requested = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._end: End | None = None
        self._player = asyncio.create_task(self._play(script), name="camera connection")

    async def send(self, data: bytes) -> None:
        """Send bytes, after those before have mostly left."""
        await self._writable.wait()
        self._transport.write(data)

    async def close(self) -> None:
        """Send all that is pending, then FIN."""
        self._transport.close()
        await self.gone.wait()

    async def reset(self) -> None:
        """Send RST."""
        no_linger = struct.pack("ii", 1, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self._transport.abort()
        await self.gone.wait()

    async def finish(self) -> None:
        """End the connection if it is still open; raise what went wrong in its script."""
        self._player.cancel()
        await asyncio.wait([self._player])
        await self.gone.wait()
        self._sock.close()  # A player cancelled before it began has left it open.
        if not self._player.cancelled():
            self._player.result()

    async def _play(self, script: Script) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self, self._sock)
        try:
            await self._requested.wait()
            async with self.camera.slot:
                for step in script:
                    await step.play(self)
                await self.close()
        finally:
            self._transport.abort()

    def _note_end(self, end: End) -> None:
        if self._end is None:
            self._end = end
            self.camera.ended(end)
            self._player.cancel()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self.gone.clear()

    def data_received(self, data: bytes) -> None:
        """Look for the end of the request's head."""
        self._head += data
        if not self._requested.is_set() and (end := _END_OF_HEAD.search(self._head)):
            self._requested.set()
            self.camera.requested(self._head[: end.end()])

    def eof_received(self) -> bool:
        """Take the peer's FIN for its end, even if it would still listen."""
        if not self.camera.deaf:
            self._note_end("fin")
            self._transport.abort()
        return self.camera.deaf

    def connection_lost(self, error: Exception | None) -> None:
        """Tell a reset from an end of our own."""
        # A socket that got FIN and then RST reports a broken pipe.
        by_peer: End = "fin" if isinstance(error, BrokenPipeError) else "reset"
        self._note_end("ours" if error is None else by_peer)
        self.gone.set()

    def pause_writing(self) -> None:
        """Wait for a slow peer."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock
