"""Streams, snapshots and clips: a camera's frames as HTTP answers."""

import asyncio
import contextlib
import errno
import itertools
import math
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TypeGuard

import structlog
from aiohttp import web

from mjrelay.camera import Camera
from mjrelay.formats import multipart
from mjrelay.frames import Frame
from mjrelay.ring import NoMoreFrames
from mjrelay.web.sinks import SocketSink

_NO_STORE = {
    "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "Expires": "0",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_STREAM_HEADERS = {
    "Content-Type": multipart.MEDIA_TYPE,
    **_NO_STORE,
    "X-Accel-Buffering": "no",  # nginx would hold frames back
}

# Slower, and clients would take the stream for dead (Mainsail after 10 s without a frame).
_MIN_FPS = 0.2

_FULL = "let more files be open, with LimitNOFILE= in the unit or ulimit -n"
_TELL_FULL_EVERY = 60.0
# Almost never needed: an answer's head fits into a fresh socket's buffer.
_FLUSH_POLL = 0.05

# Entity tags must differ between runs, and between cameras that had the same name in one: there the
# clock tells them apart.
_RUN = secrets.token_hex(4)
_ids = itertools.count(1)


class _RawResponse(web.StreamResponse):
    """A body that the connection's close delimits, for HTTP/1.0 and 1.1 alike.

    aiohttp would chunk it, which clients that read the raw socket cannot take. The attribute that
    stops it is private; tests/web/test_streams.py pins what it does.
    """

    _length_check = False


@dataclass(eq=False)
class Client:
    """One viewer of a stream, as the status shows it."""

    address: str
    user_agent: str
    sink: SocketSink
    kind: str = "stream"
    id: int = field(default_factory=lambda: next(_ids))
    since: float = field(default_factory=time.time)


class Clients:
    """Who watches which camera, on whatever port."""

    def __init__(self) -> None:
        self._of: dict[Camera, dict[int, Client]] = {}
        self._finishing = False
        self._told_full_at = -math.inf

    def of(self, camera: Camera) -> list[Client]:
        """The clients of a camera, in the order they came."""
        return list(self._of.get(camera, {}).values())

    @contextlib.contextmanager
    def including(self, client: Client, camera: Camera) -> Iterator[None]:
        """Count a client while entered."""
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
        """Say, at most once a minute, that no more files may be open."""
        now = time.monotonic()
        if now - self._told_full_at >= _TELL_FULL_EVERY:
            self._told_full_at = now
            log.warning("relay.full", reason=error.strerror, hint=_FULL)

    def finish(self, camera: Camera) -> None:
        """Let nobody wait for the frames of a camera that is gone, now or later.

        Its streams end between two parts, so that each viewer gets a plain FIN.
        """
        camera.ring.close()
        self._end_streams(camera)

    def finish_all(self) -> None:
        """End every stream, and those that are still to come."""
        self._finishing = True
        for camera in self._of:
            self._end_streams(camera)

    def _end_streams(self, camera: Camera) -> None:
        for client in self.of(camera):
            client.sink.finish()


log = structlog.get_logger()

CLIENTS = web.AppKey("clients", Clients)


async def stream(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Send a camera's frames until the client leaves or the relay stops."""
    fps = _number(request, "fps")
    advance_headers = _flag(request, "advance_headers")
    opening = multipart.ADVANCE_OPENING if advance_headers else multipart.OPENING
    response = _RawResponse(headers=_STREAM_HEADERS)
    response.force_close()
    if request.method == "HEAD" or request.transport is None:
        await response.prepare(request)
        return response
    sock = _own_socket(request)
    try:
        await response.prepare(request)
        await response.write(opening)
        await _flushed(request.transport)
    except ConnectionError:
        sock.close()
        return response  # gone before it began: a normal goodbye
    except BaseException:
        sock.close()
        raise
    sink = SocketSink(
        sock,
        camera.fanout,
        fps=max(fps, _MIN_FPS) if fps else 0.0,
        advance_headers=advance_headers,
    )
    client = Client(
        address=request.remote or "unix",
        user_agent=request.headers.get("User-Agent", ""),
        sink=sink,
    )
    try:
        with request.app[CLIENTS].including(client, camera), camera.watched():
            await camera.admit(sink)
            await sink.ended
    finally:
        sink.close()
    return response


def is_full(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error means that no more files may be open."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _own_socket(request: web.Request) -> socket.socket:
    """A duplicate of the connection's socket, for the sink."""
    assert request.transport
    try:
        sock: socket.socket = request.transport.get_extra_info("socket").dup()
    except OSError as error:
        if not is_full(error):
            raise ConnectionResetError from error  # the client has gone meanwhile
        request.app[CLIENTS].note_full(error)
        raise web.HTTPServiceUnavailable(text=f"too many clients: {_FULL}") from error
    return sock


async def _flushed(transport: asyncio.Transport) -> None:
    """Wait until the kernel has all that was written so far.

    The sink sends past the transport: what a client that pipelines its requests has not read yet
    must come first.
    """
    while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_FLUSH_POLL)


async def snapshot(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Answer with the newest frame, at once; wait only where there is none or when asked to."""
    max_age = _number(request, "max_age")
    with camera.watched():
        frame = await (_newer(camera) if _flag(request, "fresh") else _newest(camera))
    age = time.monotonic() - frame.monotonic
    if max_age is not None and age > max_age:
        raise _no_picture(camera, f"has no picture newer than {age:.1f} s")
    headers = {
        **_NO_STORE,
        "ETag": f'"{_RUN}-{frame.monotonic:.6f}-{frame.seq}"',
        "Last-Modified": formatdate(frame.captured_at, usegmt=True),
        "X-Timestamp": f"{frame.captured_at:.6f}",
        "X-Age-Ms": f"{age * 1000:.0f}",
    }
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=frame.image, content_type="image/jpeg", headers=headers)


async def clip(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Answer with the pictures of the last seconds, one behind the other, as a file."""
    seconds = _number(request, "seconds")
    with camera.watched():
        # No frame is held on to: a client may take for ever.
        headers = _clip_headers(camera.name, (await _newest(camera)).captured_at)
        images = camera.ring.last(math.inf if seconds is None else seconds)
        response = web.StreamResponse(headers=headers)
        with contextlib.suppress(ConnectionError):  # who leaves has seen enough
            await response.prepare(request)
            if request.method != "HEAD":
                for _, image in images:
                    await response.write(image)
                    await asyncio.sleep(0)  # to a fast client, it is all written without a pause
    return response


def _clip_headers(name: str, captured_at: float) -> dict[str, str]:
    plain = re.sub("[^A-Za-z0-9_-]", "_", name)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(captured_at))
    return {
        "Content-Type": "video/x-motion-jpeg",
        "Content-Disposition": f'attachment; filename="{plain}-{moment}.mjpeg"',
        **_NO_STORE,
    }


async def _newest(camera: Camera) -> Frame:
    """The newest frame, however old; of a camera that is opening, the first one."""
    # Longer than the camera's own patience: it knows why when that ends.
    settling = camera.config.connect_timeout + camera.config.first_frame_timeout + 1
    frame = camera.ring.newest
    if frame is None and await camera.settled(within=settling):
        frame = camera.ring.newest
    if frame is None:
        raise _no_picture(camera, "has no picture yet")
    return frame


async def _newer(camera: Camera) -> Frame:
    """The next frame, if one comes in time."""
    frame = camera.ring.newest
    within = camera.config.first_frame_timeout
    try:
        async with asyncio.timeout(within):
            return await camera.ring.newer_than(frame.seq if frame else 0)
    except NoMoreFrames:
        raise web.HTTPNotFound(
            text=f"camera {camera.name} is gone: the configuration no longer has it"
        ) from None
    except TimeoutError:
        raise _no_picture(camera, f"sent no new picture for {within:g} s") from None


def _no_picture(camera: Camera, what: str) -> web.HTTPException:
    why = "; ".join(filter(None, (camera.state, camera.trouble)))
    return web.HTTPServiceUnavailable(
        text=f"camera {camera.name} {what} ({why})",
        headers={"Retry-After": str(max(1, math.ceil(camera.retry_in or 0)))},
    )


def _number(request: web.Request, key: str) -> float | None:
    """A number from the query, or None where there is none."""
    text = request.query.get(key)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise web.HTTPBadRequest(text=f"{key} must be a number, 0 or more, as in ?{key}=5")
    return number


def _flag(request: web.Request, key: str) -> bool:
    """Whether the query asks for something, as in ?key=1."""
    return request.query.get(key, "") not in ("", "0")
