"""Clients: which clients watch which camera, and what to do when no more files may be open."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from mjrelay.camera.camera import Camera
from mjrelay.errors import MORE_FILES
from mjrelay.web.sinks import SocketSink

# Seconds between two log lines about it.
_TELL_FULL_EVERY = 60.0

_ids = itertools.count(1)

log = structlog.get_logger()


@dataclass(eq=False)
class Client:
    """One client that watches a stream, as the status shows it.

    Attributes:
        address: Its IP address, or "unix".
        user_agent: The header it sent; may be empty.
        sink: Where frames are sent to it.
        id: Its number, counted from 1 since mjrelay started.
        since: When it came, in Unix seconds.
    """

    address: str
    user_agent: str
    sink: SocketSink
    id: int = field(default_factory=lambda: next(_ids))
    since: float = field(default_factory=time.time)


class Clients:
    """The register of the clients of all cameras, on all ports."""

    def __init__(self) -> None:
        self._of: dict[Camera, dict[int, Client]] = {}
        self._finishing = False
        self._told_full_at = -math.inf

    def of(self, camera: Camera) -> list[Client]:
        """The clients of a camera, in the order in which they came."""
        return list(self._of.get(camera, {}).values())

    @contextlib.contextmanager
    def including(self, client: Client, camera: Camera) -> Iterator[None]:
        """Register a client while entered."""
        clients = self._of.setdefault(camera, {})
        clients[client.id] = client
        if self._finishing or camera.ring.is_closed:
            client.sink.finish()
        try:
            yield
        finally:
            del clients[client.id]
            if not clients:
                del self._of[camera]

    def note_full(self, error: OSError) -> None:
        """Log that no more files may be open, at most once a minute."""
        now = time.monotonic()
        if now - self._told_full_at >= _TELL_FULL_EVERY:
            self._told_full_at = now
            log.warning("relay.full", reason=error.strerror, hint=MORE_FILES)

    def finish(self, camera: Camera) -> None:
        """End the streams of a camera that is gone, and every wait for its next frame.

        Streams end between two parts, so that each client sees the connection closed cleanly.
        """
        camera.retire()
        self._end_streams(camera)

    def finish_all(self) -> None:
        """End every stream, and each new one as soon as it begins."""
        self._finishing = True
        for camera in self._of:
            self._end_streams(camera)

    def _end_streams(self, camera: Camera) -> None:
        for client in self.of(camera):
            client.sink.finish()


CLIENTS = web.AppKey("clients", Clients)
