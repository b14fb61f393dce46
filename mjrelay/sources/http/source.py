"""HttpSource: pull MJPEG, or single pictures, from a camera over HTTP."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from mjrelay.configuration.address import HttpAddress
from mjrelay.configuration.redaction import redact, redact_address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import (
    GIVEN_AWAY,
    SourceEnded,
    SourceError,
    SourceLost,
    SourceRefused,
    Tally,
)
from mjrelay.sources import Show, Source, Stream
from mjrelay.sources.http.asking import NOT_MODIFIED, Asker
from mjrelay.sources.http.diagnosis import status_of
from mjrelay.sources.http.known import KnownPicture
from mjrelay.sources.http.misses import Misses
from mjrelay.sources.http.response import Patience, Response
from mjrelay.sources.http.wakeups import Wakeups

# Pictures per second asked of a camera that answers one at a time, unless `fps` says otherwise.
_POLL_FPS = 5.0
# While nobody watches, a picture may wait this long for others.
_UNWATCHED_PAUSE = 0.2
_UNAUTHORIZED, _FORBIDDEN = 401, 403
# Clients are sent a picture once more each second, if no other comes.
_SHOWN_AGAIN_AFTER = 1.0
# After a miss an answer may take so many times as long as the latest one with a picture took.
_AS_SLOW = 2
# A connection that stays open behind a single picture for so many seconds has nothing more to say.
_LEFT_OPEN_AFTER = 1.0


class HttpSource(Source):
    """A camera that answers HTTP."""

    has_own_rhythm = True

    def __init__(self, address: HttpAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._config = config
        # A camera that nobody watches must not look silent.
        self._wakeups = Wakeups(min(_UNWATCHED_PAUSE, config.stall_timeout / 2))
        self._asker = Asker(address, config, self._wakeups, self.tally)
        self.patience = self._asker.patience + config.first_frame_timeout
        self._framing = ""
        # The answer being read, or read last.
        self._answer: Response | None = None
        # Shorter than what makes an outage: an answer that stops is to be a miss.
        self._patience = Patience(config.first_frame_timeout, config.stall_timeout / 2)
        self._has_single_pictures = False
        self._is_polling = False
        self._known = KnownPicture()
        self._shown_at = -math.inf
        self._misses = Misses(config.redial_delay)
        self._asked_at = -math.inf
        self._took = 0.0  # seconds until the latest picture that was asked for was there

    @property  # it depends on what has come
    def silent_hint(self) -> str:  # type: ignore[override]
        """What a person can do when no picture comes after the source was opened."""
        return self._asker.silent_hint

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
        self._answer, self._known = None, KnownPicture()
        self._misses.forget()
        self._asked_at = time.monotonic()
        try:
            yield partial(self._stream, await self._asker.ask(pause=self._config.redial_delay))
        finally:
            self._learn()
            self._answer = None
            await self._asker.hang_up()

    def facts(self) -> dict[str, Any]:
        """The latest answer's head, and how its images are framed."""
        head = self._asker.head
        if head is None:
            return {}
        return {
            "status": status_of(head),
            "headers": [_shown(name, value) for name, value in head.headers],
            "framing": redact(self._framing),
        }

    def sign_of_life(self) -> float:
        """When bytes of a picture last came, or now while an answer is awaited.

        An answer that is awaited after a miss is one only as long as this camera's answers take:
        one that is busy says so at once, and one that is slow may be slow again.
        """
        answer = self._answer
        if answer and answer.grows:
            return answer.heard_at
        if not self._is_polling or (answer and answer.found):
            return -math.inf
        now = time.monotonic()
        return min(now, self._asked_at + _AS_SLOW * self._took) if self._misses else now

    @property
    def miss(self) -> SourceError | None:
        """Why the latest answer had no picture; None where it had one."""
        return self._misses.latest(time.monotonic())

    async def _stream(self, answer: Response, show: Show) -> None:
        """Show the images of this answer and, if it holds a single one, ask again and again.

        An answer without a picture is a miss, and no end: the camera may be busy. It is asked again
        at the next beat; after several misses in a row no sooner than `redial_delay`.
        """
        head = answer.head
        self._framing = f"multipart, {head.media_type}" if head.is_multipart else "no multipart"
        await self._show(answer, show)
        self._took = time.monotonic() - self._asked_at
        self._framing = "one picture per answer, polled"
        while True:
            await self._asker.hang_up()
            beat = self._asked_at + 1 / (self._config.fps or _POLL_FPS)
            await asyncio.sleep(max(beat, self._misses.ask_at) - time.monotonic())
            self._asked_at = time.monotonic()
            try:
                with self._polling():
                    await self._show(await self._asker.ask(pause=0), show)
            except SourceEnded:
                raise
            except SourceError as error:
                if self._locks_out(error):
                    raise
                self.tally.tolerated["poll without a picture"] += 1
                self._misses.note(error, time.monotonic())
            else:
                self._took = time.monotonic() - self._asked_at
                self._misses.forget()

    def _locks_out(self, error: SourceError) -> bool:
        """Whether to ask again and again after this would lock the account: that is no miss.

        A camera that asks for no password may say 403 while it is busy.
        """
        head = self._asker.head
        if head is None or not isinstance(error, SourceRefused):
            return False
        has_password = self._config.username != ""
        return head.status == _UNAUTHORIZED or (head.status == _FORBIDDEN and has_password)

    @contextmanager
    def _polling(self) -> Iterator[None]:
        """Note that an answer is awaited, while entered."""
        self._answer, self._is_polling = None, True
        self._asker.known_tag = self._known.tag
        try:
            yield
        finally:
            self._is_polling = False
            self._asker.known_tag = ""

    async def _show(self, answer: Response, show: Show) -> None:
        """Show what an answer holds.

        Raises:
            SourceEnded: It was a stream, and has ended.
        """
        if answer.head.status == NOT_MODIFIED:
            self._show_again(show)
            return
        self._answer = answer
        fault = SourceEnded("the camera ended the stream", GIVEN_AWAY)
        try:
            if answer.head.is_multipart:
                await answer.show_images(show)
            else:
                await self._show_single(answer, show)
        except SourceLost as lost:
            if not answer.found:
                raise
            fault = SourceEnded(lost.reason, lost.hint)
        self._has_single_pictures = answer.is_single
        if not answer.is_single:
            self.tally.tolerated["stream that ended"] += 1
            raise fault

    async def _show_single(self, answer: Response, show: Show) -> None:
        """Show what an answer holds that is, as a rule, a single picture; and remember that."""
        tag = answer.head.get("etag")

        def note(image: bytes, captured: float) -> None:
            self._known.came(image, tag)
            self._shown_at = captured
            show(image, captured)

        await answer.show_images(note, self._patience if self._has_single_pictures else None)

    def _show_again(self, show: Show) -> None:
        """Show the picture anew that has not changed, so that it counts as fresh, or as frozen.

        That is done no more often than clients are sent a picture again by themselves.
        """
        self._known.has_not_changed()
        now = time.monotonic()
        if now - self._shown_at >= _SHOWN_AGAIN_AFTER:
            self._shown_at = now
            show(self._known.image, now)

    def _learn(self) -> None:
        """Learn from an answer that was given up: was it a picture behind which nothing comes?

        A camera may keep the connection open for ever. A picture is declared as one: a stream of
        pictures one after the other, of which only the first has come, as a rule is not.
        """
        answer = self._answer
        if answer and answer.is_single and answer.head.media_type.lower().startswith("image/"):
            silent_for = time.monotonic() - answer.found_at
            self._has_single_pictures |= silent_for >= _LEFT_OPEN_AFTER


def _shown(name: str, value: str) -> str:
    """A header as people may see it."""
    if name in ("location", "content-location", "refresh"):
        return f"{name}: {redact_address(value)}"
    return redact(f"{name}: {value}")
