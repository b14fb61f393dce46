"""HttpSource: pull MJPEG, or single pictures, from a camera over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mjrelay.configuration.address import HttpAddress, redact
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import GIVEN_AWAY, SLOT_TAKEN, SourceLost, Tally
from mjrelay.sources import Show, Source, Stream
from mjrelay.sources.http.asking import Asker
from mjrelay.sources.http.response import Response
from mjrelay.sources.http.wakeups import Wakeups

# Pictures per second asked of a camera that answers one at a time, unless `fps` says otherwise.
_POLL_FPS = 5.0
# While nobody watches, a picture may wait this long for others.
_UNWATCHED_PAUSE = 0.2


class HttpSource(Source):
    """A camera that answers HTTP."""

    silent_hint = SLOT_TAKEN

    def __init__(self, address: HttpAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._config = config
        # A camera that nobody watches must not look silent.
        self._wakeups = Wakeups(min(_UNWATCHED_PAUSE, config.stall_timeout / 2))
        self._asker = Asker(address, config, self._wakeups, self.tally)
        self.patience = self._asker.patience + config.first_frame_timeout
        self._framing = ""

    def watch(self, *, watched: bool) -> None:
        """While nobody is looking, take pictures a few at a time."""
        self._wakeups.watch(watched=watched)

    def inherit_from(self, before: Source) -> None:
        """Take over when the camera was left, and how it lets us in."""
        super().inherit_from(before)
        if isinstance(before, HttpSource):
            self._asker.tally = self.tally
            self._asker.inherit_from(before._asker)  # noqa: SLF001 - of our own class

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Dial and ask; the answer holds the images."""
        try:
            yield partial(self._stream, await self._asker.ask(pause=self._config.redial_delay))
        finally:
            await self._asker.hang_up()

    def facts(self) -> dict[str, Any]:
        """The latest answer's head, and how its images are framed."""
        head = self._asker.head
        if head is None:
            return {}
        return {
            "status": f"{head.status} {head.phrase}".strip(),
            "headers": [redact(f"{name}: {value}") for name, value in head.headers],
            "framing": self._framing,
        }

    async def _stream(self, answer: Response, show: Show) -> None:
        """Show the images of this answer and, if it holds a single one, of the next."""
        loop = asyncio.get_running_loop()
        head = answer.head
        self._framing = f"multipart, {head.media_type}" if head.is_multipart else "no multipart"
        while True:
            asked_at = loop.time()
            await answer.show_images(show)
            if answer.head.is_multipart or answer.found != 1:
                raise SourceLost("the camera ended the stream", GIVEN_AWAY)
            self._framing = "one picture per answer, polled"
            await self._asker.hang_up()
            await asyncio.sleep(asked_at + 1 / (self._config.fps or _POLL_FPS) - loop.time())
            answer = await self._asker.ask(pause=0)
