"""Sources: one file, one kind of camera. Each runs until it fails; none ever retries."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, assert_never

from mjrelay.address import CommandAddress, HttpAddress, TestcardAddress
from mjrelay.config import CameraConfig
from mjrelay.formats.tally import Tally


class Source(Protocol):
    """Where a camera's images come from.

    Attributes:
        label: The address as people may see it, without credentials.
        tally: What its bytes had to be forgiven, over its whole life.
    """

    label: str
    tally: Tally

    def open(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open it; the images are whole JPEGs, newest last. Leaving closes it fully.

        Raises:
            SourceError: On entering, or from the iterator, which never ends by itself.
        """

    def facts(self) -> dict[str, Any]:
        """What the latest opening found, for `mjrelay probe`."""


def make_source(config: CameraConfig) -> Source:
    """The source a camera's configuration names."""
    match config.source:
        case HttpAddress():
            from mjrelay.sources.http import HttpSource  # noqa: PLC0415 - only what is used

            return HttpSource(config.source, config)
        case TestcardAddress():
            from mjrelay.sources.testcard import TestcardSource  # noqa: PLC0415 - draws with Pillow

            return TestcardSource(config.source)
        case CommandAddress():
            from mjrelay.sources.command import CommandSource  # noqa: PLC0415

            return CommandSource(config.source, max_frame=config.max_frame)
        case _:
            assert_never(config.source)
