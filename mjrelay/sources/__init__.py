"""Sources: one file or folder for each kind. A source runs until it fails, and never retries."""

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, assert_never

from mjrelay.configuration.address import CommandAddress, HttpAddress, TestcardAddress, V4l2Address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.devices.holders import Holder
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import SourceError, Tally
from mjrelay.recovery.ladder import Remedy
from mjrelay.service.systemd import Kept

Show = Callable[[bytes, float], None]
"""Takes each image: a whole JPEG, and when it was captured, in seconds of the monotonic clock (the
time of its arrival, where the camera does not tell). It never blocks."""

Stream = Callable[[Show], Awaitable[None]]
"""Hands each image to a `Show`, until it is cancelled or raises SourceError."""


class Source(ABC):
    """Where a camera's images come from.

    Attributes:
        label: The address as people may see it, without credentials.
        tally: Counts the faults in what the camera sent, since mjrelay started.
        patience: Seconds from the beginning of an attempt by which it has shown an image or failed.
            An attempt that lasts longer hangs, and only systemd can help, by restarting mjrelay.
        remedies: What can be done for a source that fails, beside opening it again. Each raises
            RemedyFailed if it cannot be applied or does not bring the device back.
        resets_per_hour: The most resets in any hour.
        resets_from_others: Whether it may be reset even while another program has its device open.
        silent_hint: What a person can do when no picture comes after the source was opened.
        stalled_hint: What a person can do when pictures have come and then stop.
        no_reset_hint: Why a person who asks for a reset cannot have one, if `reset` is None.
        has_own_rhythm: Whether it alone knows how often it sends a picture, which may be seldom. (A
            camera of this computer has the rate that it was set to.)
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
    has_own_rhythm = False

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The processes that have its device open and so keep mjrelay from it."""
        return ()

    @property
    def reset(self) -> Remedy | None:
        """The gentlest reset among its remedies, for a person who asks for one."""
        return next((remedy for remedy in self.remedies if remedy.is_reset), None)

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Stream]:
        """Open the source while entered. It can be streamed from once; leaving closes it fully.

        A stream calls `Show` for each image, and puts none into a queue: to wake a task for each
        image would cost more than everything else done for it.

        Raises:
            SourceError: It cannot be opened.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the latest opening found, for `mjrelay probe`."""

    def watch(self, *, watched: bool) -> None:  # noqa: B027 - to most, a picture costs nothing
        """Note whether the camera is watched; before the first call it is not.

        A source that must work for each image may give fewer while nobody watches.
        """

    def sign_of_life(self) -> float:
        """When it last showed that a picture is on its way, in seconds of the monotonic clock.

        That is not every byte that comes: only those of a picture, and an answer that is awaited.
        """
        return -math.inf

    @property
    def miss(self) -> SourceError | None:
        """Why the latest picture that was asked for did not come; None where it came.

        A source that asks for each picture goes on asking after a miss: its camera may be busy.
        """
        return None

    def hand_over(self) -> None:  # noqa: B027 - most have nothing to hand over
        """Note that mjrelay ends: closing must leave what the next process can take over."""

    def inherit_from(self, before: "Source") -> None:
        """Take over what the source before this one has learnt of the camera. Neither is open.

        A reload of the configuration replaces sources; the camera behind them is the same, unless
        its address has changed.
        """
        self.tally = before.tally

    async def read_controls(self) -> dict[str, Any] | None:
        """Its settings by name, or None if this kind of source has none.

        Raises:
            SourceError: It has settings, but is not open.
        """
        return None

    async def change_controls(self, values: Mapping[str, int]) -> None:  # noqa: B027 - most have none
        """Set some of its settings, now and whenever it is opened.

        Raises:
            SourceError: It is not open.
            ValueError: There is no such setting, or it cannot have this value; nothing was changed.
        """

    def hotplug(self, _event: Hotplug) -> bool:
        """Note that a device came or went. Returns whether to open this source again now."""
        return False


def make_source(config: CameraConfig, kept: Kept | None = None) -> Source:
    """Make the source that a camera's configuration names; nothing is opened yet.

    Making the first one of a kind may take a tenth of a second, to load its libraries.

    Args:
        config: The camera's options.
        kept: The descriptor of its device that systemd keeps for us, where `keeps_device`.
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
    """Whether systemd should keep this camera's device open while mjrelay is restarted.

    Not that of a camera on demand: it would stay open until somebody watches.
    """
    return isinstance(config.source, V4l2Address) and config.mode == "always"
