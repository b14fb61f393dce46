"""The daemon: cameras and the web server, from start to a clean end."""

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Iterator

import structlog

from mjrelay import __version__
from mjrelay.address import V4l2Address
from mjrelay.camera import Camera
from mjrelay.config import Config
from mjrelay.devices.udev import HotplugUnavailable, hotplug_events
from mjrelay.sources import make_source
from mjrelay.web.server import Listener, web_server

log = structlog.get_logger()


async def relay(config: Config, listeners: list[Listener], stop: asyncio.Event) -> None:
    """Serve the configured cameras until `stop` is set.

    Args:
        config: What to serve. A camera that is absent is a state, not a failure.
        listeners: Where.
        stop: Set it to end: clients and cameras side by side, nothing left behind.
    """
    cameras = {
        name: Camera(name, camera, make_source(camera)) for name, camera in config.cameras.items()
    }
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(camera.run(), name=f"camera:{name}")
            for name, camera in cameras.items()
        ]
        local = [c for c in cameras.values() if isinstance(c.config.source, V4l2Address)]
        if local:
            running.append(tasks.create_task(_route_hotplug(local), name="udev"))
        async with web_server(cameras, config.server, listeners):
            addresses = [str(listener.address) for listener in listeners]
            log.info("relay.started", version=__version__, listen=addresses)
            await stop.wait()
            log.info("relay.stopping")
            # Each may take a second to say goodbye; clients and cameras do it side by side.
            for task in running:
                task.cancel()
    log.info("relay.stopped")


async def _route_hotplug(cameras: Iterable[Camera]) -> None:
    """Tell the cameras of this computer what comes and goes. Without udev they look themselves."""
    try:
        async with contextlib.aclosing(hotplug_events()) as events:
            async for event in events:
                log.debug("hotplug", action=event.action, path=event.path)
                for camera in cameras:
                    camera.hotplug(event)
    except HotplugUnavailable as error:
        log.warning(
            "hotplug.unavailable",
            reason=str(error),
            hint="a camera that is plugged in is noticed within a second instead of at once",
        )


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGTERM, SIGINT and SIGHUP.

    SIGHUP is a terminal that closes: programs of `exec:` sources must not outlive it.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
