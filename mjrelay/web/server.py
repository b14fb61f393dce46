"""The web server behind the listening sockets."""

import asyncio
import contextlib
import functools
import weakref
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import Any

from aiohttp import web

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import ServerConfig
from mjrelay.errors import is_full
from mjrelay.web.app import Handler, make_app
from mjrelay.web.clients import Clients
from mjrelay.web.connections import Connection
from mjrelay.web.listening import BACKLOG, Listener

# At the end, aiohttp waits this many seconds, twice, for handlers that do not return: those whose
# client does not read the part that is being sent.
_SHUTDOWN_TIMEOUT = 0.5
# At the end, a client that has connected gets this many seconds to send its request: some networks
# are slow. Clients that connect later are left to the process after us.
_MAY_ASK_WITHIN = 0.25
_LOOK_EVERY = 0.005
# Longest line of a request's head in bytes. Cookies make it long: to localhost, browsers send those
# of everything that ever ran there.
_MAX_LINE = 64 * 2**10


class _Only(Mapping[str, Camera]):
    """A mapping with the one camera of a name; empty while there is none."""

    def __init__(self, name: str, cameras: Mapping[str, Camera]) -> None:
        self._name = name
        self._cameras = cameras

    def __getitem__(self, name: str) -> Camera:
        if name != self._name:
            raise KeyError(name)
        return self._cameras[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._cameras if name == self._name)

    def __len__(self) -> int:
        return int(self._name in self._cameras)


class _Newcomers:
    """Waits for the first request of connections that have not sent one yet."""

    def __init__(self) -> None:
        # Their transports: aiohttp's own objects for connections allow no weak references.
        self._have_asked: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has sent a request."""
        if request.transport:
            self._have_asked.add(request.transport)
        return await handler(request)

    async def have_asked(self, runners: Collection[web.AppRunner]) -> None:
        """Wait until every connection has sent a request, or has had the time to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAY_ASK_WITHIN):
                # aiohttp lists a connection only some turns of the event loop after accepting it.
                await asyncio.sleep(_LOOK_EVERY)
                while any(map(self._is_awaited, runners)):  # noqa: ASYNC110 - aiohttp tells nobody
                    await asyncio.sleep(_LOOK_EVERY)

    def _is_awaited(self, runner: web.AppRunner) -> bool:
        connections = runner.server.connections if runner.server else []
        return any(c.transport and c.transport not in self._have_asked for c in connections)


@contextlib.asynccontextmanager
async def web_server(
    cameras: Mapping[str, Camera], config: ServerConfig, listeners: list[Listener]
) -> AsyncIterator[Clients]:
    """Serve while entered. Yields the register of clients.

    Leaving ends every stream between two parts, and answers every client that has connected.
    """
    clients = Clients()
    loop = asyncio.get_running_loop()
    handle_before = loop.get_exception_handler()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle errors that asyncio can raise nowhere, as when it cannot accept a connection."""
        error = context.get("exception")
        if is_full(error):
            clients.note_full(error)
        elif handle_before:
            handle_before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
    runners: dict[str, web.AppRunner] = {}
    servers: list[asyncio.Server] = []
    newcomers = _Newcomers()
    try:
        for listener in listeners:
            only = listener.camera
            if only not in runners:
                app = make_app(
                    _Only(only, cameras) if only else cameras,
                    clients,
                    base_path=config.base_path,
                    cors_origins=config.cors_origins,
                )
                app.middlewares.insert(0, newcomers.note)
                runners[only] = web.AppRunner(
                    app,
                    # Or the handler of a client that leaves while its camera is silent would stay.
                    handler_cancellation=True,
                    shutdown_timeout=_SHUTDOWN_TIMEOUT,
                )
                await runners[only].setup()
            connect = functools.partial(
                Connection,
                runners[only].server,
                loop=loop,
                access_log=None,
                max_line_size=_MAX_LINE,
                max_field_size=_MAX_LINE,
            )
            servers.append(await loop.create_server(connect, sock=listener.sock, backlog=BACKLOG))
        yield clients
    finally:
        for listener in listeners:
            # Not closed yet: asyncio would drop the connections that it has just accepted.
            loop.remove_reader(listener.sock)
        await newcomers.have_asked(runners.values())
        clients.finish_all()
        loop.set_exception_handler(handle_before)
        for server in servers:
            server.close()
        await asyncio.gather(*(runner.cleanup() for runner in runners.values()))
