"""TestcardSource: a moving picture from nowhere, to try everything without a camera."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from mjrelay.address import TestcardAddress
from mjrelay.formats.tally import Tally
from mjrelay.pictures import test_card
from mjrelay.sources import Source


class TestcardSource(Source):
    """Draws numbered pictures at a steady rate."""

    __test__ = False  # pytest: no test class

    def __init__(self, address: TestcardAddress) -> None:
        self.label = address.label
        self.tally = Tally()
        self._address = address
        self._number = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Begin to draw; the numbers go on where they stopped."""
        async with aclosing(self._images()) as images:
            yield images

    def facts(self) -> dict[str, Any]:
        """Nothing to find out."""
        return {"framing": "drawn here"}

    async def _images(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        interval = 1 / self._address.fps
        due = loop.time()
        while True:
            self._number += 1
            # Drawing takes milliseconds, in which clients must not wait.
            yield await asyncio.to_thread(test_card, self._address.size, self._number, time.time())
            due = max(due + interval, loop.time() - interval)  # late: no burst to catch up
            await asyncio.sleep(due - loop.time())
