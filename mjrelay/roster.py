"""Roster: the configured cameras, each run by a task of its own, through reloads."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import CameraConfig
from mjrelay.service.systemd import Kept
from mjrelay.sources import make_source


@dataclass(frozen=True)
class Changes:
    """What a new configuration did to the cameras, in its order; those that are gone in the old."""

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

    async def fit(self, configs: Mapping[str, CameraConfig]) -> Changes:
        """Run these cameras and no others.

        A camera whose options have changed is opened anew, and keeps its viewers. One that is the
        same notices nothing.
        """
        before = dict(self.cameras)
        changes = Changes(
            new=[name for name in configs if name not in before],
            changed=[n for n in configs if n in before and configs[n] != before[n].config],
            gone=[camera for name, camera in before.items() if name not in configs],
        )
        await self._stop([*changes.changed, *(camera.name for camera in changes.gone)])
        cameras = {name: self._made(name, config) for name, config in configs.items()}
        self.cameras.clear()
        self.cameras.update(cameras)
        for name, camera in cameras.items():
            if name not in self._running:
                task = self._tasks.create_task(camera.run(), name=f"camera:{name}")
                self._running[name] = task
        return changes

    def end(self) -> None:
        """Stop all of them, side by side; what the next process can take over stays as it is."""
        for camera in self.cameras.values():
            camera.source.hand_over()
        for task in self._running.values():
            task.cancel()

    def _made(self, name: str, config: CameraConfig) -> Camera:
        camera = self.cameras.get(name)
        if camera is None:
            return Camera(name, config, make_source(config, self._kept(name)))
        if camera.config != config:
            camera.configure(config, make_source(config, self._kept(name)))
        return camera

    async def _stop(self, names: list[str]) -> None:
        ending = [self._running.pop(name) for name in names]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
