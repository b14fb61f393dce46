"""SocketSink: one client's end of the fan-out. It sends each frame with one system call.

A frame's part is sent straight from the fan-out, on a duplicate of the connection's socket: no task
wakes up, nothing is copied, nothing is queued. What the kernel does not take at once is sent when
the socket is writable again; frames that come meanwhile are skipped.
"""

import asyncio
import socket
from collections.abc import Iterable

from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame


class SocketSink:
    """Sends frames to one client; ends when the client is gone or `finish` is called.

    Args:
        sock: A non-blocking stream socket that nothing else uses; closed with the sink.
        fanout: The camera's, asked for the newest frame when the client is free again.
        fps: At most this many frames a second; 0 for all.
        advance_headers: Send the next part's head along with each frame.

    Attributes:
        sent: How many frames were sent, repetitions included.
        skipped: How many frames were not sent because an earlier one was still being sent.
        rate: Frames per second that were sent lately, repetitions included.
        ended: Done when nothing more will be sent.
    """

    # For each frame, perhaps a hundred sinks are visited. Slots keep each one small in memory, so
    # that they stay in the processor's cache.
    __slots__ = (
        "_advance_headers",
        "_due",
        "_fanout",
        "_finishing",
        "_has_ended",
        "_interval",
        "_last",
        "_loop",
        "_passed",
        "_rest",
        "_sampled",
        "_socket",
        "ended",
        "rate",
        "sent",
        "skipped",
    )

    def __init__(
        self,
        sock: socket.socket,
        fanout: Fanout,
        *,
        fps: float = 0.0,
        advance_headers: bool = False,
    ) -> None:
        self.sent = 0
        self.skipped = 0
        self.rate = 0.0
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._socket = sock
        self._fanout = fanout
        self._interval = 1 / fps if fps else 0.0
        self._due = 0.0
        self._advance_headers = advance_headers
        self._rest: list[memoryview] | None = None  # of the part being sent
        self._last: Frame | None = None  # the frame whose part was or is being sent
        self._passed: Frame | None = None  # the newest frame skipped since then
        self._finishing = self._has_ended = False
        self._sampled = (self._loop.time(), 0)

    def offer(self, frame: Frame) -> None:
        """Start sending a frame, unless an earlier one is still being sent, or all has ended."""
        if self._rest is not None:
            if frame is not self._last and frame is not self._passed:
                self.skipped += 1
                self._passed = frame
        elif not self._has_ended and (not self._interval or self._is_due()):
            self._send(frame)

    def finish(self) -> None:
        """End after the frame that is being sent: a stream ends only between two parts."""
        self._finishing = True
        if self._rest is None:
            self._end()

    def close(self) -> None:
        """Stop at once and close the socket."""
        self._end()
        self._socket.close()

    def sample(self, now: float) -> None:
        """Set `rate` to that since the last sample; `now` is the event loop's time in seconds."""
        then, sent = self._sampled
        self.rate = (self.sent - sent) / max(now - then, 1e-6)
        self._sampled = (now, self.sent)

    def _is_due(self) -> bool:
        """Whether `fps` allows a frame now, whatever the camera's own rhythm is."""
        now = self._loop.time()
        if now < self._due:
            return False
        # If this frame is a little late, keep the rhythm; after a pause, begin a new one.
        late = now - self._due
        self._due = (self._due if late < self._interval else now) + self._interval
        return True

    def _send(self, frame: Frame) -> None:
        self._last = frame
        pieces, size = frame.advance_part if self._advance_headers else frame.part
        try:
            taken = self._socket.sendmsg(pieces)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._end()  # the client has left, which is no fault
            return
        if taken == size:
            self.sent += 1
            return
        self._rest = _behind(taken, pieces)
        self._loop.add_writer(self._socket.fileno(), self._send_rest)

    def _send_rest(self) -> None:
        assert self._rest is not None
        try:
            taken = self._socket.sendmsg(self._rest)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        self._rest = _behind(taken, self._rest)
        if self._rest:
            return
        self._rest = None
        self._loop.remove_writer(self._socket.fileno())
        self.sent += 1
        if self._finishing:
            self._end()
        elif self._passed:
            self._catch_up(self._passed)

    def _catch_up(self, passed: Frame) -> None:
        """Send the newest frame, now that the client is free. `passed` was skipped meanwhile."""
        self._passed = None
        newest = self._fanout.current()
        if newest and newest is not self._last and (not self._interval or self._is_due()):
            if newest is passed:
                self.skipped -= 1  # counted too early: it is sent after all
            self._send(newest)

    def _end(self) -> None:
        self._fanout.leave(self)
        if self._rest is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._rest = None
        self._has_ended = True
        if not self.ended.done():
            self.ended.set_result(None)


def _behind(taken: int, pieces: Iterable[bytes | memoryview]) -> list[memoryview]:
    """What is left of some pieces without their first `taken` bytes."""
    rest = []
    for piece in pieces:
        if taken < len(piece):
            rest.append(memoryview(piece)[taken:])
        taken = max(0, taken - len(piece))
    return rest
