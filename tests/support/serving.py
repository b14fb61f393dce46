"""Run the relay inside a test: real sockets, no process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

import aiohttp

from mjrelay.camera.camera import Camera
from mjrelay.configuration.address import ListenAddress, parse_address
from mjrelay.configuration.tables import CameraConfig, ServerConfig
from mjrelay.devices.udev import Hotplug
from mjrelay.sources import Source, make_source
from mjrelay.web.listening import listening
from mjrelay.web.server import web_server

LOOPBACK = ServerConfig(listen=(ListenAddress("127.0.0.1", 0),))


def config_for(source: str, **options: object) -> CameraConfig:
    """A camera's configuration with short delays."""
    brief = {"redial_delay": 0.05, "retry_max": 0.2, "stall_timeout": 0.5}
    return CameraConfig(source=parse_address(source), **{**brief, **options})  # type: ignore[arg-type]


def camera_for(source: str, **options: object) -> Camera:
    """A camera with a real source."""
    config = config_for(source, **options)
    return Camera("front", config, make_source(config))


def scripted(source: Source, **options: object) -> Camera:
    """A camera with a source that follows a script."""
    config = config_for("testcard:", **options)
    source.resets_per_hour = config.usb_resets_per_hour
    source.resets_from_others = config.usb_reset == "force"
    return Camera("front", config, source)


def hotplug(camera: Camera, action: Literal["add", "remove"], path: str) -> None:
    """Let a device come or go, as the relay tells a camera of it."""
    if camera.source.hotplug(Hotplug(action, path)):
        camera.wake()


@contextlib.asynccontextmanager
async def running(*cameras: Camera) -> AsyncIterator[None]:
    """Let cameras run while entered."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(camera.run()) for camera in cameras]
        try:
            yield
        finally:
            for task in started:
                task.cancel()


@dataclass
class Served:
    """A relay that listens on loopback, and a client for it."""

    urls: list[str]
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """The first address it listens on."""
        return self.urls[0]

    async def get(self, path: str, **options: object) -> tuple[aiohttp.ClientResponse, bytes]:
        """GET an address; returns the answer and its whole body."""
        async with self.http.get(self.url + path, **options) as response:  # type: ignore[arg-type]
            return response, await response.read()


@contextlib.asynccontextmanager
async def serving(*cameras: Camera, config: ServerConfig = LOOPBACK) -> AsyncIterator[Served]:
    """Serve running cameras while entered; the first is the default one."""
    named = {camera.name: camera for camera in cameras}
    sockets = listening(config)
    listeners = await asyncio.to_thread(sockets.__enter__)
    try:
        async with (
            running(*cameras),
            web_server(named, config, listeners),
            aiohttp.ClientSession() as http,
        ):
            urls = [f"http://{listener.address}" for listener in listeners]
            yield Served(urls, http)
    finally:
        await asyncio.to_thread(sockets.__exit__, None, None, None)


async def until(holds: Callable[[], object], *, within: float = 5.0) -> None:
    """Wait for a condition to hold."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - whatever changes it knows nothing of tests
            await asyncio.sleep(0.005)
