"""The daemon: runs cameras and the web server, from the start to a clean end."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import structlog

from mjrelay import __version__
from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import V4l2Address
from mjrelay.configuration.tables import Config, ServerConfig
from mjrelay.devices.udev import HotplugUnavailable, hotplug_events
from mjrelay.devices.worker import Worker
from mjrelay.errors import ConfigError
from mjrelay.roster import Roster
from mjrelay.service import systemd
from mjrelay.web.clients import Clients
from mjrelay.web.listening import Listener
from mjrelay.web.server import web_server

# Seconds from one status for systemd to the next. If systemd has a watchdog, each comes with a sign
# of life, and more often if the watchdog needs that.
_TELL_EVERY = 5.0

log = structlog.get_logger()


class Orders:
    """What signals ask of the relay.

    Attributes:
        stop: Set by SIGTERM and SIGINT, and by SIGHUP if there is no file to read again.
        reload: Set by SIGHUP if there is a file to read again.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()

    @contextlib.contextmanager
    def taken_from_signals(self, *, can_reload: bool) -> Iterator[None]:
        """Take orders from signals while entered.

        Without a file to read again, SIGHUP means that the terminal was closed. Then we stop: the
        programs of `exec:` sources must not go on running without us.
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
        config: What to serve. Cameras may be absent: that is no failure.
        listeners: The sockets to serve on.
        orders: Tells when to stop, and when to read the configuration again.
        reread: Reads the configuration again; raises ConfigError if it has faults. None if there is
            no file to read.
        inheritance: The descriptors that systemd handed us.
    """
    inheritance = inheritance or systemd.Inheritance()
    # Two groups: if a helper crashes, its group cancels this function, whose `finally` first hands
    # devices over and then cancels the cameras. A single group would cancel the cameras at once.
    async with asyncio.TaskGroup() as helping, asyncio.TaskGroup() as tasks:
        roster = Roster(tasks, inheritance.device)
        await roster.fit(config.cameras)
        inheritance.drop_the_rest()
        voice = _Voice(roster.cameras)
        helpers: dict[str, asyncio.Task[None]] = {}

        def help_with(name: str, work: Coroutine[Any, Any, None]) -> None:
            helpers[name] = helping.create_task(work, name=name)

        def watch_devices() -> None:
            """Listen to udev from the time on when there is a camera of this computer."""
            local = (isinstance(c.config.source, V4l2Address) for c in roster.cameras.values())
            if "udev" not in helpers and any(local):
                help_with("udev", _route_hotplug(roster.cameras))

        async def obey(reread: Callable[[], Config], clients: Clients) -> None:
            """Read the configuration again at each order to reload."""
            server = config.server
            while await orders.reload.wait():
                orders.reload.clear()
                systemd.reloading()
                voice.trouble = await _reload(server, reread, roster, clients)
                watch_devices()
                voice.tell("READY=1")

        async with web_server(roster.cameras, config.server, listeners) as clients:
            try:
                addresses = [str(listener.address) for listener in listeners]
                log.info("relay.started", version=__version__, listen=addresses)
                voice.tell("READY=1")
                help_with("systemd", voice.keep_telling())
                watch_devices()
                if reread:
                    help_with("reload", obey(reread, clients))
                await orders.stop.wait()
                log.info("relay.stopping")
                systemd.notify("STOPPING=1")
            finally:
                # Cameras may take a second or two to stop. Meanwhile `web_server` ends the clients.
                roster.end()
                for helper in helpers.values():
                    helper.cancel()
    log.info("relay.stopped")


async def _reload(
    server: ServerConfig, reread: Callable[[], Config], roster: Roster, clients: Clients
) -> str:
    """Read the configuration again and apply what has changed. With faults, nothing is applied.

    Returns:
        Why nothing was applied, as a status for people; empty if all went well.
    """
    try:
        # In a thread that does not keep mjrelay from ending: the file's disk may hang.
        wanted = await asyncio.wrap_future(Worker("reload").submit(reread))
        if wanted.server != server:
            command = ": sudo systemctl restart mjrelay" if systemd.is_there() else ""
            log.warning(
                "relay.restart_needed",
                reason="the options of [server] have changed",
                hint=f"they take effect at the next start{command}",
            )
        changes = await roster.fit(wanted.cameras)
        for camera in changes.gone:
            clients.finish(camera)
    except ConfigError as error:
        log.warning("relay.not_reloaded", faults=list(error.faults))
        first, *others = error.faults
        more = f" (and {len(others)} more: see the log)" if others else ""
        return f"configuration not reloaded: {first}{more}"
    except Exception as error:
        log.exception("relay.not_reloaded", faults=[repr(error)])
        return f"configuration not reloaded: {error!r} (a fault of mjrelay: see the log)"
    log.info(
        "relay.reloaded",
        new=changes.new,
        changed=changes.changed,
        gone=[camera.name for camera in changes.gone],
    )
    return ""


async def _route_hotplug(cameras: Mapping[str, Camera]) -> None:
    """Tell sources which devices come and go. Without udev, cameras retry once a second instead."""
    try:
        async with contextlib.aclosing(hotplug_events()) as events:
            async for event in events:
                log.debug("hotplug", action=event.action, path=event.path)
                for camera in cameras.values():
                    if camera.source.hotplug(event):
                        camera.wake()
    except HotplugUnavailable as error:
        log.warning(
            "hotplug.unavailable",
            reason=str(error),
            hint="a camera that is plugged in is noticed within a second instead of at once",
        )


class _Voice:
    """Tells systemd again and again how the cameras are, and that mjrelay is alive.

    Its task runs in the same event loop as everything else: if that hangs, systemd gets no sign of
    life, and restarts mjrelay. There is none either while a camera is stuck, which is a fault of
    mjrelay itself; a camera that is absent or fails does not matter here.

    Attributes:
        trouble: Put before the states of the cameras; empty for nothing.
    """

    def __init__(self, cameras: Mapping[str, Camera]) -> None:
        self.trouble = ""
        self._cameras = cameras
        self._stuck: list[str] = []

    def tell(self, *lines: str) -> None:
        """Send these lines to systemd, and a status line with the state of each camera."""
        summaries = (camera.summary for camera in self._cameras.values())
        status = " | ".join(filter(None, (self.trouble, *summaries)))
        systemd.notify(*lines, f"STATUS={status}")

    async def keep_telling(self) -> None:
        """Send status and signs of life until cancelled."""
        interval = systemd.watchdog_interval()
        every = min(_TELL_EVERY, interval / 3) if interval else _TELL_EVERY
        while True:
            self.tell(*self._signs_of_life())
            await asyncio.sleep(every)

    def _signs_of_life(self) -> Iterator[str]:
        stuck = [camera.name for camera in self._cameras.values() if camera.is_stuck]
        if not stuck:
            yield "WATCHDOG=1"
        if news := [name for name in stuck if name not in self._stuck]:
            log.error("relay.stuck", cameras=news)
        self._stuck = stuck
