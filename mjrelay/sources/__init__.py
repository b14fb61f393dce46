"""Sources: each kind of camera in a file or folder. Each runs until it fails; none ever retries."""

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

Show = Callable[[bytes, float], None]
"""What is done with each image: a whole JPEG, and when it was captured, on the monotonic clock (the
time of its arrival, where the camera does not tell). It never blocks."""

Stream = Callable[[Show], Awaitable[None]]
"""Given what to do with each image, runs until it is cancelled or raises SourceError."""


class Source(ABC):
    """Where a camera's images come from.

    Attributes:
        label: The address as people may see it, without credentials.
        tally: What its bytes had to be forgiven, over the camera's whole life.
        patience: Seconds after which an attempt has certainly failed by itself, if it has shown no
            image since it began to open. Beyond that, no one but systemd can help.
        remedies: What can be done for a source that fails, beside opening it again. Each raises
            RemedyFailed when it cannot be done.
        resets_per_hour: How many of the remedies that are resets it bears in an hour.
        resets_from_others: Whether it may be reset even while another program has its device.
        silent_hint: What a person can do when no picture comes after it was opened.
        stalled_hint: The same when pictures came and then no more.
        no_reset_hint: Why a person who asks for a reset cannot have one, if `reset` is None.
    """

    label: str
    tally: Tally
    patience: float
    remedies: Mapping[Remedy, Callable[[], Awaitable[None]]] = MappingProxyType({})
    resets_per_hour: float = 0.0
    resets_from_others = False
    silent_hint: str | None = None
    stalled_hint = "it may be overloaded or out of reach; restart it if this lasts"
    no_reset_hint = "only USB cameras can be reset"

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Which processes have its device, while that is what keeps us from it."""
        return ()

    @property
    def reset(self) -> Remedy | None:
        """The gentlest of its remedies that is a reset, for a person who asks for one."""
        return next((remedy for remedy in self.remedies if remedy.is_reset), None)

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

    def watch(self, *, watched: bool) -> None:  # noqa: B027 - to most, a picture costs nothing
        """Take note whether anybody is looking, or was until a moment ago.

        At first nobody is. A source to which a picture costs something may give fewer then.
        """

    def hand_over(self) -> None:  # noqa: B027 - most have nothing to hand over
        """Take note that the process ends: when closed, leave what the next one can take over."""

    def succeed(self, before: "Source") -> None:
        """Take over what the source before this one learnt of the camera; both are closed.

        A reload replaces sources. The camera behind them stays the same, unless its address
        changed.
        """
        self.tally = before.tally

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
    """The source a camera's configuration names; nothing is opened yet.

    The first of its kind may take a tenth of a second, to load what it needs.

    Args:
        config: The camera's options.
        kept: Its device, where systemd keeps it for us and `keeps_device` says so.
    """
    match config.source:
        case HttpAddress():
            from mjrelay.sources.http.source import HttpSource  # noqa: PLC0415 - only what is used

            return HttpSource(config.source, config)
        case V4l2Address():
            from mjrelay.sources.v4l2.source import V4l2Source  # noqa: PLC0415 - v4l2py: 0.1 s

            return V4l2Source(config.source, config, kept)
        case TestcardAddress():
            from mjrelay.sources.testcard import TestcardSource  # noqa: PLC0415 - draws with Pillow

            return TestcardSource(config.source)
        case CommandAddress():
            from mjrelay.sources.command import CommandSource  # noqa: PLC0415

            return CommandSource(config.source, config)
        case _:
            assert_never(config.source)


def keeps_device(config: CameraConfig) -> bool:
    """Whether systemd is to keep this camera's device from one process to the next.

    On demand nothing would take it over, at least not before somebody watches.
    """
    return isinstance(config.source, V4l2Address) and config.mode == "always"
