"""The web server behind the listening sockets."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import ServerConfig
from mjrelay.web.app import Handler, make_app
from mjrelay.web.clients import Clients, is_full
from mjrelay.web.listening import BACKLOG, Listener

# aiohttp waits this long, twice, for handlers that do not return: those of clients that do not take
# the part being sent.
_SHUTDOWN_TIMEOUT = 0.5
# A client may need this many seconds between connecting and its request: some networks are slow.
# Those who connect meanwhile are left to the process after us.
_MAY_ASK_WITHIN = 0.25
_LOOK_EVERY = 0.005
# Browsers send localhost the cookies of everything that ever ran there.
_MAX_LINE = 64 * 2**10


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether an error of aiohttp's is more than a request nobody could understand."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


logging.getLogger("aiohttp.server").addFilter(_is_our_fault)


class _Only(Mapping[str, Camera]):
    """One of the cameras, by its name; empty while there is none of that name."""

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
    """Tells which connections have not asked for anything yet."""

    def __init__(self) -> None:
        # By their transports: aiohttp's own objects cannot be referred to weakly.
        self._have_asked: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has asked for something."""
        if request.transport:
            self._have_asked.add(request.transport)
        return await handler(request)

    async def have_asked(self, runners: Collection[web.AppRunner]) -> None:
        """Wait until every connection has asked for something, or has had the time to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MAY_ASK_WITHIN):
                # A connection that was accepted just now is listed some turns of the loop later.
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
    """Serve while entered. Yields the register of those who watch.

    Leaving ends every stream between two parts, and answers every client that has connected.
    """
    clients = Clients()
    loop = asyncio.get_running_loop()
    handle_before = loop.get_exception_handler()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what asyncio has no caller for: a connection that cannot be accepted."""
        error = context.get("exception")
        if is_full(error):
            clients.note_full(error)
        elif handle_before:
            handle_before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
    runners: dict[str, web.AppRunner] = {}
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
                    # Otherwise a client that leaves while its camera is silent stays for ever.
                    handler_cancellation=True,
                    access_log=None,
                    shutdown_timeout=_SHUTDOWN_TIMEOUT,
                    max_line_size=_MAX_LINE,
                    max_field_size=_MAX_LINE,
                )
                await runners[only].setup()
            await web.SockSite(runners[only], listener.sock, backlog=BACKLOG).start()
        yield clients
    finally:
        for listener in listeners:
            # Not closed yet: asyncio would drop connections that it has accepted just now.
            loop.remove_reader(listener.sock)
        await newcomers.have_asked(runners.values())
        clients.finish_all()
        loop.set_exception_handler(handle_before)
        await asyncio.gather(*(runner.cleanup() for runner in runners.values()))
