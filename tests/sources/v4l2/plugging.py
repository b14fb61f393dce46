"""Plug: puts a device onto the desk and makes a source for it; and what tests do with sources."""

import asyncio
from dataclasses import dataclass

import pytest

from mjrelay.configuration.address import V4l2Address
from mjrelay.devices.timing import Timing
from mjrelay.errors import SourceError
from mjrelay.service.systemd import Kept
from mjrelay.sources.v4l2.source import V4l2Source
from tests.support.device import BRIEF, Desk, FakeDevice
from tests.support.serving import config_for
from tests.support.source import images_of

OPENED = ["open video0", "modes", "configure MJPG 30.0", "start"]
"""What an opening asks of a device."""


@dataclass
class Plug:
    """Puts a device onto the desk, and makes a source for it."""

    desk: Desk

    def __call__(
        self,
        device: FakeDevice,
        address: str = "/dev/video0",
        *,
        kept: Kept | None = None,
        timing: Timing = BRIEF,
        **options: object,
    ) -> V4l2Source:
        self.desk.device = device
        config = config_for(address, **options)
        parsed = V4l2Address.parse(address)
        return V4l2Source(parsed, config, kept, devices=self.desk, timing=timing)


async def watch(source: V4l2Source, count: int) -> list[bytes]:
    """Open a source for some images; fewer if it fails, which is raised."""
    images = []
    async with asyncio.timeout(5), images_of(source) as arriving:
        async for image in arriving:
            images.append(image)
            if len(images) == count:
                break
    return images


async def fails(source: V4l2Source) -> SourceError:
    """Watch a source until it fails."""
    with pytest.raises(SourceError) as caught:
        await watch(source, 1000)
    return caught.value


async def idle(source: V4l2Source) -> None:
    """See that the device's thread has nothing more to do."""
    await asyncio.wait_for(asyncio.wrap_future(source.worker.submit(lambda: None)), 1)
