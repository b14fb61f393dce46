"""A client that takes nothing on trust: it reads a stream by the letter of the wire format.

async with Viewer(relay.url) as viewer:
await viewer.until(lambda: len(viewer.frames) == 10)
viewer.pause()
"""

import asyncio
import functools
import math
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from .pictures import COM, EOI, SOI, STAMP, segments

OPENING = b"--boundarydonotcross\r\n"
CLOSING = b"\r\n--boundarydonotcross\r\n"

HEADERS = {
    "Content-Type": "multipart/x-mixed-replace; boundary=boundarydonotcross",
    "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "Expires": "0",
    "Connection": "close",
    "X-Accel-Buffering": "no",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""What a stream's head says, besides what every answer does."""

_FORBIDDEN = {"content-length", "transfer-encoding", "content-encoding"}
_HEAD_END = b"\r\n\r\n"
_PART_HEAD = re.compile(
    rb"Content-Type: image/jpeg\r\nContent-Length: (\d+)\r\nX-Timestamp: (\d+\.\d{6})\r\n\r\n"
)
_LONGEST_HEAD = 120
_READ_SIZE = 2**18
_THROTTLED_READ_SIZE = 2**13

End = Literal["clean", "mid-part", "reset"]
"""How a stream ended: by FIN between two parts, by FIN inside one, by RST."""


@dataclass(frozen=True, slots=True)
class Received:
    """One part, once all of it and the boundary line after it had come.

    Attributes:
        arrived: When, in Unix seconds.
        timestamp: Its X-Timestamp.
        size: Bytes of the image.
        comment: The image's first COM segment. Test pictures and ffmpeg's have one, placeholders
            have none.
    """

    arrived: float
    timestamp: float
    size: int
    comment: bytes

    @property
    def age(self) -> float:
        """Seconds from capture to arrival."""
        return self.arrived - self.timestamp

    @property
    def is_placeholder(self) -> bool:
        """Whether it is the offline picture."""
        return not self.comment

    @property
    def stamp(self) -> int | None:
        """The number of a test picture."""
        if not self.comment.startswith(STAMP):
            return None
        return int(self.comment.removeprefix(STAMP))


class PartReader:
    """Reads the body of a stream; AssertionError for whatever is not exactly as it must be.

    Args:
        check: Called with each image; raises if it is not whole.
    """

    def __init__(self, check: Callable[[bytes], None] = lambda _: None) -> None:
        self._check = check
        self._buffer = bytearray()
        self._opened = False
        self._part: tuple[int, float] | None = None  # length and time of the part being read
        self._latest = -math.inf

    @property
    def is_between_parts(self) -> bool:
        """Whether the stream may end here."""
        return self._opened and not self._buffer and self._part is None

    def feed(self, data: bytes) -> Iterator[Received]:
        """Take the next bytes; yield the parts they complete."""
        self._buffer += data
        if not self._opened:
            self._expect(OPENING, 0)
            if len(self._buffer) < len(OPENING):
                return
            del self._buffer[: len(OPENING)]
            self._opened = True
        while self._part or self._read_head():
            assert self._part
            length, timestamp = self._part
            self._expect(SOI, 0)
            self._expect(CLOSING, length)
            if len(self._buffer) < length + len(CLOSING):
                return
            image = bytes(self._buffer[:length])
            del self._buffer[: length + len(CLOSING)]
            self._part = None
            assert image.endswith(EOI)
            self._check(image)
            yield Received(time.time(), timestamp, length, _comment(image))

    def _read_head(self) -> bool:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            assert len(self._buffer) < _LONGEST_HEAD, bytes(self._buffer[:_LONGEST_HEAD])
            return False
        head = self._buffer[: end + len(_HEAD_END)]
        match = _PART_HEAD.fullmatch(head)
        assert match, f"a part's head is {bytes(head)!r}"
        self._part = int(match[1]), float(match[2])
        assert self._part[1] >= self._latest, "an older frame than the one before"
        self._latest = self._part[1]
        del self._buffer[: len(head)]
        return True

    def _expect(self, wanted: bytes, at: int) -> None:
        """See to it that what has come of some bytes is right."""
        found = bytes(self._buffer[at : at + len(wanted)])
        assert wanted.startswith(found), f"{found!r} where {wanted!r} belongs"


class Viewer:
    """One connection to a stream, read by a task until it ends or the viewer is left.

    Args:
        url: Of the relay, without a path.
        target: Path and query of the stream.
        rate: Bytes it takes per second.
        receive_buffer: Bytes its kernel may keep for it. By default Linux lets them grow to
            megabytes: frames which have left the relay for good, and get old unread.
        check: Called with each image; raises if it is not whole.

    Attributes:
        frames: What it got.
        end: How the stream ended, once it has.
    """

    def __init__(
        self,
        url: str,
        target: str = "/stream",
        *,
        rate: float = math.inf,
        receive_buffer: int | None = None,
        check: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.frames: list[Received] = []
        self.end: End | None = None
        self.rate = rate
        self._url = urlsplit(url)
        self._target = target
        self._receive_buffer = receive_buffer
        self._parts = PartReader(check)
        self._reading = asyncio.Event()
        self._reading.set()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and begin to read."""
        self._socket = socket.socket()
        self._socket.settimeout(0)
        if self._receive_buffer:
            # Before connecting: later it would not change the window any more.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        address = (self._url.hostname, self._url.port)
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, address)
        except BaseException:
            self._socket.close()
            raise
        self._task = asyncio.create_task(self._run(), name="viewer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave; raise what was wrong with the stream."""
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])
        self._socket.close()
        if kind is None and not self._task.cancelled():
            self._task.result()

    @property
    def stamps(self) -> list[int]:
        """The numbers of the test pictures it got, without those that were sent once more."""
        numbers = [frame.stamp for frame in self.frames if frame.stamp is not None]
        return [n for n, before in zip(numbers, [None, *numbers], strict=False) if n != before]

    def pause(self) -> None:
        """Stop reading; the kernel takes what it may."""
        self._reading.clear()

    def resume(self) -> None:
        """Go on reading."""
        self._reading.set()

    def reset_at_exit(self) -> None:
        """Leave with RST when left, as a program that is killed with frames unread."""
        no_linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)

    def raise_if_wrong(self) -> None:
        """Raise what was wrong with the stream so far, if anything was."""
        assert self._task
        if self._task.done():
            self._task.result()

    async def until(self, holds: Callable[[], bool], within: float = 5.0) -> None:
        """Wait until something holds that depends on this viewer; else TimeoutError."""
        assert self._task
        async with asyncio.timeout(within):
            while not holds():
                if self._task.done():
                    self.raise_if_wrong()
                    raise AssertionError(f"the stream has ended: {self.end}")
                await self._changed.wait()

    async def _run(self) -> None:
        try:
            await self._read()
        finally:
            self._tell()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        request = f"GET {self._target} HTTP/1.1\r\nHost: {self._url.netloc}\r\n\r\n"
        await loop.sock_sendall(self._socket, request.encode())
        head = b""
        while _HEAD_END not in head:
            data = await self._receive()
            assert data, f"the answer's head ends early: {head!r}"
            head += data
        head, body = head.split(_HEAD_END, 1)
        _check_head(head.decode())
        self._take(body)
        while self.end is None:
            try:
                data = await self._receive()
            except ConnectionResetError:
                self.end = "reset"
            else:
                if data:
                    self._take(data)
                else:
                    self.end = "clean" if self._parts.is_between_parts else "mid-part"

    async def _receive(self) -> bytes:
        await self._reading.wait()
        throttled = self.rate < math.inf
        size = _THROTTLED_READ_SIZE if throttled else _READ_SIZE
        data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        if throttled:
            await asyncio.sleep(len(data) / self.rate)
        return data

    def _take(self, data: bytes) -> None:
        received = list(self._parts.feed(data))
        if received:
            self.frames += received
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def all_until(
    viewers: Iterable[Viewer], holds: Callable[[Viewer], bool], within: float = 15.0
) -> None:
    """Wait until something holds for each viewer; else TimeoutError."""
    async with asyncio.timeout(within):
        for viewer in viewers:
            await viewer.until(functools.partial(holds, viewer), within)


def _check_head(head: str) -> None:
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert re.fullmatch(r"HTTP/1\.[01] 200 OK", status), head
    assert headers.items() >= HEADERS.items(), head
    assert not {name.lower() for name in headers} & _FORBIDDEN, head


def _comment(jpeg: bytes) -> bytes:
    for piece in segments(jpeg):
        if piece[1] == COM:
            return piece[4:]
    return b""
