"""Roster: which cameras run on this computer, each in a task of its own, through reloads."""

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
    """What a new configuration did.

    Attributes:
        new: Names of the cameras that were added, in the order of the configuration.
        changed: Names of those that have other options now.
        gone: The cameras it no longer has.
    """

    new: list[str]
    changed: list[str]
    gone: list[Camera]


class Roster:
    """Runs cameras, and replaces no more of them than a new configuration asks for.

    Args:
        tasks: Where their tasks live.
        kept: The device which systemd keeps for a camera, by its name.

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

        A camera whose options have changed is opened anew, and keeps its viewers. One that is the
        same notices nothing. What may fail comes first: then nothing has been changed yet.
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
        """Stop all of them, side by side; what the next process can take over stays as it is."""
        for camera in self.cameras.values():
            camera.source.hand_over()
            camera.retire()
        for task in self._running.values():
            task.cancel()

    def _camera(self, name: str, config: CameraConfig, sources: Mapping[str, Source]) -> Camera:
        """The camera of that name: as it is, with another configuration, or new."""
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
    """Make the sources, in a thread: to load what a kind of source needs would hold all viewers up.

    Raises:
        Exception: One cannot be made, as when an upgrade has replaced a library under our feet.
    """
    worker = Worker("make-sources")
    making = {
        name: worker.submit(partial(make_source, config, kept[name]))
        for name, config in configs.items()
    }
    return {name: await asyncio.wrap_future(source) for name, source in making.items()}
