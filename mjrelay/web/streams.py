"""Streams and snapshots: a camera's frames as HTTP answers."""

import asyncio
import itertools
import math
import secrets
import time
from dataclasses import dataclass, field
from email.utils import formatdate

from aiohttp import web

from mjrelay.camera import Camera
from mjrelay.formats import multipart
from mjrelay.frames import Frame
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

# Almost never needed: an answer's head fits into a fresh socket's buffer.
_FLUSH_POLL = 0.05

# Entity tags must differ between runs, whose frame numbers all begin at 1.
_RUN = secrets.token_hex(4)
_ids = itertools.count(1)


class _RawResponse(web.StreamResponse):
    """A body that the connection's close delimits, for HTTP/1.0 and 1.1 alike.

    Without this aiohttp would chunk it, which clients that read the raw socket cannot take.
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


Clients = dict[Camera, dict[int, Client]]
"""Who watches which camera."""

CLIENTS = web.AppKey("clients", Clients)


async def stream(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Send a camera's frames until the client leaves or the relay stops."""
    fps = _number(request, "fps")
    advance_headers = request.query.get("advance_headers", "0") not in ("0", "")
    response = _RawResponse(headers=_STREAM_HEADERS)
    response.force_close()
    await response.prepare(request)
    if request.method == "HEAD" or request.transport is None:
        return response
    await response.write(multipart.ADVANCE_OPENING if advance_headers else multipart.OPENING)
    await _flushed(request.transport)
    sink = SocketSink(
        request.transport.get_extra_info("socket").dup(),
        camera.fanout,
        fps=max(fps, _MIN_FPS) if fps else 0.0,
        advance_headers=advance_headers,
    )
    client = Client(
        address=request.remote or "unix",
        user_agent=request.headers.get("User-Agent", ""),
        sink=sink,
    )
    clients = request.app[CLIENTS].setdefault(camera, {})
    clients[client.id] = client
    try:
        with camera.watched():
            await camera.admit(sink)
            await sink.ended
    finally:
        sink.close()
        del clients[client.id]
    return response


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
        frame = camera.ring.newest
        if request.query.get("fresh", "0") not in ("0", ""):
            frame = await _next_frame(camera, frame.seq if frame else 0)
            if frame is None:
                waited = f"sent no new picture for {camera.config.first_frame_timeout:g} s"
                raise _no_picture(camera, waited)
        elif frame is None and camera.state in ("idle", "starting"):
            frame = await _next_frame(camera, 0)
    age = math.inf if frame is None else time.monotonic() - frame.monotonic
    if frame is None:
        raise _no_picture(camera, "has no picture yet")
    if max_age is not None and age > max_age:
        raise _no_picture(camera, f"has no picture newer than {age:.1f} s")
    headers = {
        **_NO_STORE,
        "ETag": f'"{_RUN}-{frame.seq}"',
        "Last-Modified": formatdate(frame.captured_at, usegmt=True),
        "X-Timestamp": f"{frame.captured_at:.6f}",
        "X-Age-Ms": f"{age * 1000:.0f}",
    }
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=bytes(frame.image), content_type="image/jpeg", headers=headers)


async def _next_frame(camera: Camera, seq: int) -> Frame | None:
    """The next frame, or None when none comes in the time a camera may take to start."""
    try:
        async with asyncio.timeout(camera.config.first_frame_timeout):
            return await camera.ring.newer_than(seq)
    except TimeoutError:
        return None


def _no_picture(camera: Camera, what: str) -> web.HTTPException:
    why = ": ".join(filter(None, (camera.reason, camera.hint)))
    return web.HTTPServiceUnavailable(
        text=f"camera {camera.name} {what} ({camera.state}{'; ' + why if why else ''})",
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
