"""The daemon: cameras and the web server, from start to a clean end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import structlog

from mjrelay import __version__
from mjrelay.address import V4l2Address
from mjrelay.camera import Camera
from mjrelay.config import Config
from mjrelay.devices.udev import HotplugUnavailable, hotplug_events
from mjrelay.errors import ConfigError
from mjrelay.fleet import Fleet
from mjrelay.service import systemd
from mjrelay.web.server import Listener, web_server
from mjrelay.web.streams import Clients

# systemd's status line is refreshed so often, and the watchdog fed at least so.
_TELL_EVERY = 5.0

log = structlog.get_logger()


class Orders:
    """What signals ask of the relay.

    Attributes:
        stop: Set by SIGTERM and SIGINT, and by SIGHUP where there is no file to read again.
        reload: Set by SIGHUP.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()

    @contextlib.contextmanager
    def taken_from_signals(self, *, can_reload: bool) -> Iterator[None]:
        """Take them from signals while entered.

        Without a file to read again, SIGHUP is a terminal that closes: programs of `exec:` sources
        must not outlive it.
        """
        loop = asyncio.get_running_loop()
        orders = {
            signal.SIGTERM: self.stop.set,
            signal.SIGINT: self.stop.set,
            signal.SIGHUP: self.reload.set if can_reload else self.stop.set,
        }
        for number, order in orders.items():
            loop.add_signal_handler(number, order)
        try:
            yield
        finally:
            for number in orders:
                loop.remove_signal_handler(number)


async def relay(
    config: Config,
    listeners: list[Listener],
    orders: Orders,
    *,
    reread: Callable[[], Config] | None = None,
    inheritance: systemd.Inheritance | None = None,
) -> None:
    """Serve the configured cameras until told to stop.

    Args:
        config: What to serve. A camera that is absent is a state, not a failure.
        listeners: Where.
        orders: When to end, clients and cameras side by side, nothing left behind; and when to read
            the configuration again.
        reread: Reads the configuration again; raises ConfigError if it has faults.
        inheritance: What the process before us had systemd keep.
    """
    inheritance = inheritance or systemd.Inheritance()
    async with asyncio.TaskGroup() as tasks:
        fleet = Fleet(tasks, inheritance.device)
        await fleet.fit(config.cameras)
        inheritance.drop_the_rest()
        helpers = {"systemd": tasks.create_task(_keep_telling(fleet.cameras), name="systemd")}

        def watch_devices() -> None:
            """Listen to udev as soon as there is a camera whose coming and going it tells of."""
            local = (isinstance(c.config.source, V4l2Address) for c in fleet.cameras.values())
            if "udev" not in helpers and any(local):
                helpers["udev"] = tasks.create_task(_route_hotplug(fleet.cameras), name="udev")

        watch_devices()
        async with web_server(fleet.cameras, config.server, listeners) as clients:
            addresses = [str(listener.address) for listener in listeners]
            log.info("relay.started", version=__version__, listen=addresses)
            systemd.notify("READY=1")
            while await _next_order(orders):
                systemd.reloading()
                if reread:
                    config = await _reload(config, reread, fleet, clients)
                    watch_devices()
                systemd.notify("READY=1")
            log.info("relay.stopping")
            systemd.notify("STOPPING=1")
            # Each may take a second to say goodbye; clients and cameras do it side by side.
            fleet.end()
            for task in helpers.values():
                task.cancel()
    log.info("relay.stopped")


async def _next_order(orders: Orders) -> bool:
    """Wait for an order. True: reload; False: stop."""
    waits = [asyncio.ensure_future(event.wait()) for event in (orders.stop, orders.reload)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    orders.reload.clear()
    return not orders.stop.is_set()


async def _reload(
    config: Config, reread: Callable[[], Config], fleet: Fleet, clients: Clients
) -> Config:
    """Read the configuration again and do what has changed. A faulty one changes nothing."""
    try:
        wanted = await asyncio.to_thread(reread)
    except ConfigError as error:
        log.warning("relay.not_reloaded", faults=list(error.faults))
        return config
    if wanted.server != config.server:
        log.warning(
            "relay.restart_needed",
            reason="the options of [server] have changed",
            hint="they take effect at the next start: systemctl restart mjrelay",
        )
    changes = await fleet.fit(wanted.cameras)
    for camera in changes.gone:
        clients.finish(camera)
    log.info(
        "relay.reloaded",
        new=changes.new,
        changed=changes.changed,
        gone=[camera.name for camera in changes.gone],
    )
    return replace(wanted, server=config.server)


async def _route_hotplug(cameras: Mapping[str, Camera]) -> None:
    """Tell the cameras of this computer what comes and goes. Without udev they look themselves."""
    try:
        async with contextlib.aclosing(hotplug_events()) as events:
            async for event in events:
                log.debug("hotplug", action=event.action, path=event.path)
                for camera in cameras.values():
                    camera.hotplug(event)
    except HotplugUnavailable as error:
        log.warning(
            "hotplug.unavailable",
            reason=str(error),
            hint="a camera that is plugged in is noticed within a second instead of at once",
        )


async def _keep_telling(cameras: Mapping[str, Camera]) -> None:
    """Tell systemd, again and again, how the cameras are, and that we are alive.

    This runs in the same loop as all else: when that hangs, systemd hears nothing, and starts us
    anew. A camera that is away is no reason; one whose own watch over its frames has stopped is.
    """
    interval = systemd.watchdog_interval()
    every = min(_TELL_EVERY, interval / 3) if interval else _TELL_EVERY
    while True:
        systemd.notify(f"STATUS={' | '.join(camera.summary for camera in cameras.values())}")
        stuck = [camera.name for camera in cameras.values() if camera.is_stuck]
        if stuck:
            log.error("relay.stuck", cameras=stuck)
        else:
            systemd.notify("WATCHDOG=1")
        await asyncio.sleep(every)
