"""The daemon: cameras and the web server, from start to a clean end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import structlog

from mjrelay import __version__
from mjrelay.camera import Camera
from mjrelay.config import Config, ListenAddress
from mjrelay.sources import make_source
from mjrelay.web.server import listening, web_server

log = structlog.get_logger()


async def relay(
    config: Config,
    stop: asyncio.Event,
    *,
    on_ready: Callable[[list[ListenAddress]], None] = lambda _: None,
) -> None:
    """Serve the configured cameras until `stop` is set.

    Args:
        config: What to serve.
        stop: Set it to end: clients first, then cameras, nothing left behind.
        on_ready: Called once the server listens. A camera that is absent is a state, no failure.

    Raises:
        ListenError: An address cannot be listened on; nothing was started.
    """
    cameras = {
        name: Camera(name, camera, make_source(camera)) for name, camera in config.cameras.items()
    }
    with listening(config.server) as listeners:
        addresses = [listener.address for listener in listeners]
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(camera.run(), name=f"camera:{name}")
                for name, camera in cameras.items()
            ]
            async with web_server(cameras, config.server, listeners):
                log.info("relay.started", version=__version__, listen=[*map(str, addresses)])
                on_ready(addresses)
                await stop.wait()
                log.info("relay.stopping")
                # Clients and cameras end side by side: each may take a second to say goodbye.
                for task in running:
                    task.cancel()
    log.info("relay.stopped")


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
