"""TestcardSource: a moving picture from nowhere, to try everything without a camera."""

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
        """Begin to draw; the numbers go on where they stopped."""
        yield self._stream

    def facts(self) -> dict[str, Any]:
        """Nothing to find out."""
        return {"framing": "drawn here"}

    async def _stream(self, show: Show) -> None:
        loop = asyncio.get_running_loop()
        interval = 1 / self._address.fps
        due = loop.time()
        while True:
            self._number += 1
            # Drawing takes milliseconds, in which clients must not wait.
            captured = loop.time()
            draw = asyncio.to_thread(test_card, self._address.size, self._number, time.time())
            show(await draw, captured)
            due = max(due + interval, loop.time() - interval)  # late: no burst to catch up
            await asyncio.sleep(due - loop.time())
