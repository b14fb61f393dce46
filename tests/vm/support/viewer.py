"""Somebody who watches all the time, and remembers what they saw."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from tests.support.viewer import PartReader, Received
from tests.vm.emulator.camera import MARK

from .machine import eventually

_CONNECT_TIMEOUT = 30.0
# How often it looks whether to leave.
_READ_TIMEOUT = 0.2
_READ_SIZE = 2**18
_RETRY_AFTER = 0.05
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """One part of the stream.

    Attributes:
        at: When all of it had come, in Unix seconds.
        timestamp: Its X-Timestamp.
        sent_at: When the camera sent it; None if it is no camera's picture but the relay's.
        number: The camera's count.
        serial: The camera's.
    """

    at: float
    timestamp: float
    sent_at: float | None = None
    number: int | None = None
    serial: str | None = None

    @classmethod
    def of(cls, part: Received) -> "Seen":
        """Read the emulated camera's mark, if there is one."""
        if not part.comment.startswith(MARK):
            return cls(part.arrived, part.timestamp)
        _, number, sent_at, serial = part.comment.decode().split(" ")
        return cls(part.arrived, part.timestamp, float(sent_at), int(number), serial)


class StreamViewer:
    """A client of a camera's stream, in a thread of its own.

    Args:
        port: Of the relay.
        camera: Which of its cameras.
        reconnects: Whether it connects again after an end, as where the relay is killed.

    Attributes:
        seen: Every part, as it came.
        ends: How often the connection ended without our doing.
        broken_off: How many of these ends were not a plain FIN between two parts.
        latest_image: The newest part's JPEG.
        fault: What was wrong with the stream, if anything was.
    """

    def __init__(self, port: int, camera: str, *, reconnects: bool = False) -> None:
        self.seen: list[Seen] = []
        self.ends = 0
        self.broken_off = 0
        self.latest_image = b""
        self.fault: BaseException | None = None
        self._port = port
        self._camera = camera
        self._reconnects = reconnects
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"viewer of {camera}")

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave. If all else went well, the stream must never have ended."""
        self._leaving.set()
        self._thread.join()
        if kind is None:
            self.assert_undisturbed()

    def assert_undisturbed(self) -> None:
        """Fail if the stream ended, or was not as the wire format says."""
        if self.fault:
            raise self.fault
        assert self._reconnects or self.ends == 0, "the relay ended a viewer's connection"

    def frames(self, since: float = 0.0) -> list[Seen]:
        """The camera's own frames which it sent since a time, each once."""
        frames: dict[int | None, Seen] = {}
        for part in list(self.seen):
            if part.sent_at is not None and part.sent_at >= since:
                frames.setdefault(part.number, part)
        return list(frames.values())

    def offline_pictures(self, since: float, until: float) -> list[Seen]:
        """The relay's own pictures which came in a span of time."""
        return [p for p in list(self.seen) if p.sent_at is None and since <= p.at <= until]

    def largest_gap(self, since: float, fps: float) -> float:
        """The longest time between the arrivals of two new frames.

        What the camera itself was late to send the second does not count: where the emulated one
        waits for a processor, it is the emulation that is measured. It counts if frames were lost.

        Args:
            since: Of frames sent from then on, in Unix seconds.
            fps: How many the camera should send in a second.
        """
        gaps = []
        for before, after in pairwise(self.frames(since)):
            assert before.number is not None
            assert before.sent_at is not None
            assert after.sent_at is not None
            follows = after.number == before.number + 1
            late = after.sent_at - before.sent_at - 1 / fps if follows else 0.0
            gaps.append(after.at - before.at - max(0.0, late))
        return max(gaps, default=0.0)

    def until_offline(self, since: float, within: float = 10.0) -> None:
        """Wait for the relay's own picture."""
        self.until(
            lambda: bool(self.offline_pictures(since, time.time())),
            "the offline picture at a viewer",
            within,
        )

    def until_fresh(self, since: float, within: float) -> Seen:
        """Wait for a frame the camera sent after a time, and return it."""
        self.until(lambda: bool(self.frames(since)), "a new frame at a viewer", within)
        return self.frames(since)[0]

    def until(self, holds: Callable[[], bool], what: str, within: float = 10.0) -> None:
        """Wait until something holds that depends on this viewer."""

        def held() -> bool:
            self.assert_undisturbed()
            return holds()

        eventually(held, what, within)

    def _watch(self) -> None:
        try:
            while not self._leaving.is_set():
                ended_well = self._watch_once()
                if not self._leaving.is_set():
                    self.ends += 1
                    self.broken_off += not ended_well
                    if not self._reconnects:
                        return
                    self._leaving.wait(_RETRY_AFTER)
        except BaseException as error:  # noqa: BLE001 - raised in the test's own thread
            self.fault = error

    def _watch_once(self) -> bool:
        """Watch until the end; whether that came as it should."""
        parts = PartReader(self._keep)
        try:
            for data in self._body():
                for part in parts.feed(data):
                    self.seen.append(Seen.of(part))
        except ConnectionError:
            return False
        return parts.is_between_parts

    def _keep(self, image: bytes) -> None:
        self.latest_image = image

    def _body(self) -> Iterator[bytes]:
        """What follows the answer's head, piece by piece, until the end or until we leave."""
        received = self._received()
        head = b""
        while _HEAD_END not in head:
            piece = next(received, None)
            if piece is None:
                return
            head += piece
        head, body = head.split(_HEAD_END, 1)
        assert b" 200 " in head, head
        yield body
        yield from received

    def _received(self) -> Iterator[bytes]:
        with socket.create_connection(("127.0.0.1", self._port), _CONNECT_TIMEOUT) as connection:
            request = f"GET /cameras/{self._camera}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(request.encode())
            connection.settimeout(_READ_TIMEOUT)
            while not self._leaving.is_set():
                try:
                    data = connection.recv(_READ_SIZE)
                except TimeoutError:
                    continue
                if not data:
                    return
                yield data


def all_fresh(viewers: Iterable[StreamViewer], since: float, within: float) -> float:
    """Wait until each viewer has a frame the camera sent after a time; when the last had it."""
    return max(viewer.until_fresh(since, within).at for viewer in viewers)


def all_offline(viewers: Iterable[StreamViewer], since: float = 0.0) -> None:
    """Wait until each viewer has seen the relay's own picture."""
    for viewer in viewers:
        viewer.until_offline(since)
