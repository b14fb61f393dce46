"""Roster: runs the cameras of this computer, each in a task, and changes them at a reload."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.worker import Worker
from mjrelay.service.systemd import Kept
from mjrelay.sources import Source, keeps_device, make_source


@dataclass(frozen=True)
class Changes:
    """What a new configuration has changed.

    Attributes:
        new: Names of the cameras that were added, in the order of the configuration.
        changed: Names of the cameras with other options than before, in the same order.
        gone: The cameras that were removed.
    """

    new: list[str]
    changed: list[str]
    gone: list[Camera]


class Roster:
    """Runs the cameras of a configuration, and applies a new one with as little change as possible.

    Args:
        tasks: The group in which their tasks run.
        kept: Given a camera's name, returns the device that systemd keeps for it.

    Attributes:
        cameras: By name, in the order of the configuration; changed in place.
    """

    def __init__(self, tasks: asyncio.TaskGroup, kept: Callable[[str], Kept]) -> None:
        self.cameras: dict[str, Camera] = {}
        self._tasks = tasks
        self._kept = kept
        self._running: dict[str, asyncio.Task[None]] = {}
        self._fitting = asyncio.Lock()

    async def fit(self, configs: Mapping[str, CameraConfig]) -> Changes:
        """Run these cameras and no others.

        A camera whose options have changed is opened anew, and keeps its viewers. A camera without
        changes goes on undisturbed. What may fail is done first, so that an exception means that
        nothing has changed.
        """
        async with self._fitting:
            return await self._fit(configs)

    async def _fit(self, configs: Mapping[str, CameraConfig]) -> Changes:
        before = self.cameras
        changes = Changes(
            new=[name for name in configs if name not in before],
            changed=[n for n in configs if n in before and configs[n] != before[n].config],
            gone=[camera for name, camera in before.items() if name not in configs],
        )
        wanted = {name: configs[name] for name in (*changes.new, *changes.changed)}
        kept = {name: self._kept(name) for name in wanted}
        sources = await _made(wanted, kept)
        await self._stop([*changes.changed, *(camera.name for camera in changes.gone)])
        for name, config in wanted.items():
            if not keeps_device(config):
                kept[name].drop()
        cameras = {name: self._camera(name, configs[name], sources) for name in configs}
        before.clear()
        before.update(cameras)
        self._start()
        return changes

    def end(self) -> None:
        """Begin to stop all cameras, and leave what the next process can take over."""
        for camera in self.cameras.values():
            camera.source.hand_over()
            camera.end_waits()
        for task in self._running.values():
            task.cancel()

    def _camera(self, name: str, config: CameraConfig, sources: Mapping[str, Source]) -> Camera:
        """The camera of that name: undisturbed, or configured anew, or made."""
        camera = self.cameras.get(name)
        if camera is None:
            return Camera(name, config, sources[name])
        if name in sources:
            camera.configure(config, sources[name])
        return camera

    def _start(self) -> None:
        for name, camera in self.cameras.items():
            if name not in self._running:
                task = self._tasks.create_task(camera.run(), name=f"camera:{name}")
                self._running[name] = task

    async def _stop(self, names: list[str]) -> None:
        ending = [self._running.pop(name) for name in names]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)


async def _made(configs: Mapping[str, CameraConfig], kept: Mapping[str, Kept]) -> dict[str, Source]:
    """Make sources, in a thread, since the first of a kind loads libraries for a while.

    Raises:
        Exception: One cannot be made, as when an upgrade has replaced a library meanwhile.
    """
    worker = Worker("make-sources")
    making = {
        name: worker.submit(partial(make_source, config, kept[name]))
        for name, config in configs.items()
    }
    return {name: await asyncio.wrap_future(source) for name, source in making.items()}
