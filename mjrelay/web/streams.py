"""Streams: a camera's frames as an HTTP answer without end."""

import asyncio
import socket

from aiohttp import web

from mjrelay.camera.camera import Camera
from mjrelay.errors import MORE_FILES, is_full
from mjrelay.formats import multipart
from mjrelay.web.clients import CLIENTS, Client
from mjrelay.web.connections import Connection
from mjrelay.web.queries import NO_STORE, flag, number
from mjrelay.web.sinks import SocketSink

_STREAM_HEADERS = {
    "Content-Type": multipart.MEDIA_TYPE,
    **NO_STORE,
    "X-Accel-Buffering": "no",  # nginx would hold frames back
}

# Clients take a stream with fewer frames per second for dead (Mainsail after 10 s without one).
_MIN_FPS = 0.2

# Seconds from one look to the next whether the answer's head has been sent. It nearly always has
# been at the first look: it fits into the buffer of a new socket.
_FLUSH_POLL = 0.05

# A client that has ended its side is taken for gone when nothing was sent to it for this many
# seconds. Longer than a camera usually takes to be opened and to send its first picture.
_GONE_AFTER = 30.0


class _RawResponse(web.StreamResponse):
    """An answer whose body ends when the connection is closed, in HTTP/1.0 and 1.1 alike.

    aiohttp would send the body in chunks, which clients that read the raw socket do not understand.
    The attribute that prevents it is private to aiohttp; tests/web/test_streams.py checks that it
    still does.
    """

    _length_check = False


async def stream(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Send a camera's frames until the client leaves or the relay stops."""
    fps = number(request, "fps")
    advance_headers = flag(request, "advance_headers")
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
        return response  # the client is gone before the stream began, which is no fault
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
            await _over(sink, request.protocol)
    finally:
        sink.close()
    return response


async def _over(sink: SocketSink, connection: web.RequestHandler) -> None:
    """Wait until a stream is over.

    A client that has ended its side has perhaps left. Only what is sent to it can tell. Where the
    camera has no picture, and no offline picture is wanted, that would be nothing for ever.
    """
    assert isinstance(connection, Connection)
    while not sink.ended.done():
        sent = sink.sent
        await asyncio.wait([sink.ended], timeout=_GONE_AFTER)
        if connection.has_ended and sink.sent == sent:
            return


def _own_socket(request: web.Request) -> socket.socket:
    """A duplicate of the connection's socket, for the sink."""
    assert request.transport
    try:
        sock: socket.socket = request.transport.get_extra_info("socket").dup()
    except OSError as error:
        if not is_full(error):
            raise ConnectionResetError from error  # the client has gone meanwhile
        request.app[CLIENTS].note_full(error)
        raise web.HTTPServiceUnavailable(text=f"too many clients: {MORE_FILES}") from error
    return sock


async def _flushed(transport: asyncio.Transport) -> None:
    """Wait until the kernel has all that was written so far.

    The sink sends past the transport. So earlier answers on the same connection, which a client
    that pipelines its requests may not have read yet, must have left the transport first.
    """
    while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(_FLUSH_POLL)
