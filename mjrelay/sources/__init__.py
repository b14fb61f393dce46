"""Sources: one file, one kind of camera. Each runs until it fails; none ever retries."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, assert_never

from mjrelay.configuration.address import CommandAddress, HttpAddress, TestcardAddress, V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.holders import Holder
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import Tally
from mjrelay.recovery.ladder import Remedy
from mjrelay.service.systemd import Kept

Show = Callable[[bytes], None]
"""What is done with each image, a whole JPEG. It never blocks."""

Stream = Callable[[Show], Awaitable[None]]
"""Given what to do with each image, runs until it is cancelled or raises SourceError."""


class Source(ABC):
    """Where a camera's images come from.

    Attributes:
        label: The address as people may see it, without credentials.
        tally: What its bytes had to be forgiven, over its whole life.
        watched: Set by the camera: whether anybody is looking, or was until a moment ago, for
            sources to which a picture costs something.
        handing_over: Set when the process ends: what the next one can take over stays as it is.
        remedies: What can be done for a source that fails, beside opening it again. Each raises
            RemedyFailed when it cannot be done.
        silent_hint: What a person can do when no picture comes after it was opened.
        stalled_hint: The same when pictures came and then no more.
    """

    label: str
    tally: Tally
    watched = False
    handing_over = False
    remedies: Mapping[Remedy, Callable[[], Awaitable[None]]] = MappingProxyType({})
    silent_hint: str | None = None
    stalled_hint = "it may be overloaded or out of reach; restart it if this lasts"

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Which processes have its device, while that is what keeps us from it."""
        return ()

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Stream]:
        """Open it, to stream from it once. Leaving closes it fully.

        Images are shown as they come, with no task to wake up for each: that would cost more than
        all the rest of what is done for them.

        Raises:
            SourceError: It cannot be opened.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the latest opening found, for `mjrelay probe`."""

    async def read_controls(self) -> dict[str, Any] | None:
        """Its settings by name, or None if this kind of source has none.

        Raises:
            SourceError: It has, and is not open.
        """
        return None

    async def change_controls(self, values: Mapping[str, int]) -> None:  # noqa: B027 - most have none
        """Set some of its settings, now and whenever it is opened.

        Raises:
            SourceError: It is not open.
            ValueError: A name or a value it cannot have; nothing was changed.
        """

    def hotplug(self, _event: Hotplug) -> bool:
        """Take note that a device came or went. True: this source should be tried now."""
        return False


def make_source(config: CameraConfig, kept: Kept | None = None) -> Source:
    """The source a camera's configuration names.

    Args:
        config: The camera's options.
        kept: Its device, where systemd keeps it for us.
    """
    if kept and not (isinstance(config.source, V4l2Address) and config.mode == "always"):
        kept.drop()  # nothing would take it, at least not before somebody watches
        kept = None
    match config.source:
        case HttpAddress():
            from mjrelay.sources.http.source import HttpSource  # noqa: PLC0415 - only what is used

            return HttpSource(config.source, config)
        case V4l2Address():
            from mjrelay.sources.v4l2.source import V4l2Source  # noqa: PLC0415 - v4l2py: 0.1 s to load

            return V4l2Source(config.source, config, kept)
        case TestcardAddress():
            from mjrelay.sources.testcard import TestcardSource  # noqa: PLC0415 - draws with Pillow

            return TestcardSource(config.source)
        case CommandAddress():
            from mjrelay.sources.command import CommandSource  # noqa: PLC0415

            return CommandSource(config.source, max_frame=config.max_frame)
        case _:
            assert_never(config.source)
