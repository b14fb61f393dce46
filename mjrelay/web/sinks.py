"""SocketSink: one client's end of the fan-out: one send per frame, newest frame first.

A frame's part is sent straight from the fan-out on a duplicate of the connection's socket: no
task wakes up, nothing is copied, nothing is queued. What the kernel does not take at once is sent
on when the socket is writable; frames that come meanwhile are skipped.
"""

import asyncio
import socket

from mjrelay.fanout import Fanout
from mjrelay.frames import Frame

# Of unsent bytes the kernel keeps no more than this ready: else its send buffer grows to megabytes
# and a slow client sees frames from seconds ago (measured: 3.2 s became 0.3 s, at no cost).
_NOTSENT_LOWAT = 16 * 2**10
# A client whose kernel has not acknowledged or accepted a byte for this long is gone. Longer than
# any pause of a browser worth waiting for.
DEAD_AFTER = 120.0


class SocketSink:
    """Sends frames to one client; ends when the client is gone or `finish` is called.

    Args:
        sock: A non-blocking stream socket of its own, closed with the sink.
        fanout: Where to ask for the newest frame after a pause.
        fps: At most this many frames a second; 0 for all.
        advance_headers: Send the next part's head along with each frame.
        dead_after: Seconds without a sign of life from the client's kernel.

    Attributes:
        sent: Frames sent, repetitions included.
        skipped: Frames let pass because an earlier one was still being sent.
        rate: Frames sent per second, lately.
        ended: Done when nothing more will be sent.
    """

    def __init__(
        self,
        sock: socket.socket,
        fanout: Fanout,
        *,
        fps: float = 0.0,
        advance_headers: bool = False,
        dead_after: float = DEAD_AFTER,
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
        self._rest: memoryview | None = None
        self._last: Frame | None = None
        self._behind = False
        self._finishing = False
        self._sampled = (self._loop.time(), 0)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(dead_after * 1000))

    def offer(self, frame: Frame) -> None:
        """Start sending a frame, unless the client is still busy with an earlier one."""
        if self._rest is not None:
            if frame is not self._last:
                self.skipped += 1
                self._behind = True
        elif not self._interval or self._is_due():
            self._send(frame)

    def finish(self) -> None:
        """End after the frame being sent: a stream ends only between parts."""
        self._finishing = True
        if self._rest is None:
            self._end()

    def close(self) -> None:
        """Stop at once and give the socket back."""
        self._end()
        self._socket.close()

    def sample(self, now: float) -> None:
        """Note the rate since the sample before."""
        then, sent = self._sampled
        self.rate = (self.sent - sent) / max(now - then, 1e-6)
        self._sampled = (now, self.sent)

    def _is_due(self) -> bool:
        """Thin the stream: steps of the wanted interval, whatever rhythm the camera has."""
        now = self._loop.time()
        if now < self._due:
            return False
        self._due = max(self._due + self._interval, now)
        return True

    def _send(self, frame: Frame) -> None:
        self._last = frame
        part = frame.advance_part if self._advance_headers else frame.part
        try:
            taken = self._socket.send(part)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._end()  # the client is gone: a normal goodbye
            return
        if taken == len(part):
            self.sent += 1
            return
        self._rest = memoryview(part)[taken:]
        self._loop.add_writer(self._socket.fileno(), self._send_rest)

    def _send_rest(self) -> None:
        assert self._rest is not None
        try:
            taken = self._socket.send(self._rest)
        except BlockingIOError:
            return
        except OSError:
            self._end()
            return
        self._rest = self._rest[taken:]
        if self._rest:
            return
        self._rest = None
        self._loop.remove_writer(self._socket.fileno())
        self.sent += 1
        if self._finishing:
            self._end()
        elif self._behind:
            self._catch_up()

    def _catch_up(self) -> None:
        """Go on with the newest frame, now that the client is free."""
        self._behind = False
        newest = self._fanout.current()
        if newest and newest is not self._last and (not self._interval or self._is_due()):
            self.skipped -= 1
            self._send(newest)

    def _end(self) -> None:
        self._fanout.leave(self)
        if self._rest is not None:
            self._loop.remove_writer(self._socket.fileno())
            self._rest = None
        if not self.ended.done():
            self.ended.set_result(None)
