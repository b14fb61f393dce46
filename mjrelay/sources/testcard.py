"""TestcardSource: a moving picture drawn here, to try mjrelay without a camera."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mjrelay.configuration.address import TestcardAddress
from mjrelay.errors import Tally
from mjrelay.pictures import test_card
from mjrelay.sources import Show, Source, Stream


class TestcardSource(Source):
    """Draws numbered pictures at a steady rate."""

    __test__ = False  # pytest: no test class

    def __init__(self, address: TestcardAddress) -> None:
        self.label = address.label
        self.tally = Tally()
        self._address = address
        self._number = 0
        self.patience = 2 / address.fps

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Begin to draw. The numbers go on where the last stream ended."""
        yield self._stream

    def facts(self) -> dict[str, Any]:
        """What `mjrelay probe` shows: there is nothing to find out."""
        return {"framing": "drawn here"}

    async def _stream(self, show: Show) -> None:
        loop = asyncio.get_running_loop()
        interval = 1 / self._address.fps
        due = loop.time()
        while True:
            self._number += 1
            # In a thread: drawing takes milliseconds, and would hold up all clients.
            captured = loop.time()
            draw = asyncio.to_thread(test_card, self._address.size, self._number, time.time())
            show(await draw, captured)
            due = max(due + interval, loop.time() - interval)  # after a delay, no burst of images
            await asyncio.sleep(due - loop.time())
