"""HttpSource: pull MJPEG, or single pictures, from a camera over HTTP, on one connection."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mjrelay import __version__
from mjrelay.configuration.address import HttpAddress, redact
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import (
    GIVEN_AWAY,
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    SourceLost,
    SourceRefused,
    SourceStalled,
    Tally,
)
from mjrelay.formats.authorization import Credentials, Login, choose, parse_challenges
from mjrelay.formats.http1 import ResponseHead
from mjrelay.sources import Show, Source, Stream
from mjrelay.sources.http.connection import CLOSE_TIMEOUT, Connection
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.response import Response, refusal
from mjrelay.sources.http.wakeups import Wakeups

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_UNAUTHORIZED = 401
# One in place of a challenge kept from before, one for another page behind a redirect, and one for
# a camera that calls its nonce stale when it is used for the first time.
_MAX_LOGINS = 3
# Pictures per second asked of a camera that answers one at a time, unless `fps` says otherwise.
_POLL_FPS = 5.0
# While nobody watches, a picture may wait this long for others.
_UNWATCHED_PAUSE = 0.2


class HttpSource(Source):
    """A camera that answers HTTP.

    There is one connection at a time, whatever happens: `_connection` is the only place that holds
    one, and a dial waits until the one before is closed and `redial_delay` has passed.
    """

    silent_hint = SLOT_TAKEN

    def __init__(self, address: HttpAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._address = address
        self._config = config
        self.patience = _patience(config)
        self._login = Login(
            Credentials(config.username, config.password) if config.username else None
        )
        # A camera that nobody watches must not look silent.
        self._wakeups = Wakeups(min(_UNWATCHED_PAUSE, config.stall_timeout / 2))
        self._dialler = Dialler(
            connect_timeout=config.connect_timeout,
            tls_verify=config.tls_verify,
            wakeups=self._wakeups,
        )
        self._connection: Connection | None = None
        self._closed_at = -math.inf
        self._head: ResponseHead | None = None
        self._framing = ""

    def watch(self, *, watched: bool) -> None:
        """While nobody is looking, take pictures a few at a time."""
        self._wakeups.watch(watched=watched)

    def inherit_from(self, before: Source) -> None:
        """Take over when the camera was left, and how it lets us in."""
        super().inherit_from(before)
        if isinstance(before, HttpSource):
            self._take_over(before._address, before._closed_at, before._login)  # noqa: SLF001 - ours

    def _take_over(self, address: HttpAddress, closed_at: float, login: Login) -> None:
        if (address.host, address.port) == (self._address.host, self._address.port):
            self._closed_at = closed_at
        if address == self._address and login.credentials == self._login.credentials:
            self._login = login

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        """Dial and ask; the answer holds the images."""
        try:
            yield partial(self._stream, await self._ask(pause=self._config.redial_delay))
        finally:
            await self._hang_up()

    def facts(self) -> dict[str, Any]:
        """The latest answer's head, and how its images are framed."""
        head = self._head
        if head is None:
            return {}
        return {
            "status": f"{head.status} {head.phrase}".strip(),
            "headers": [redact(f"{name}: {value}") for name, value in head.headers],
            "framing": self._framing,
        }

    # Asking

    async def _ask(self, *, pause: float) -> Response:
        """Ask for the pictures; answer a request for a password, follow redirects.

        Args:
            pause: Seconds from the end of the connection before to the first dial.

        Raises:
            SourceError: There is no answer, or it is no picture.
        """
        address, redirects, logins = self._address, 0, 0
        challenged: HttpAddress | None = None
        while True:
            connection = await self._dial(address, pause=pause)
            answer = await self._request(connection, address)
            head = self._head = answer.head
            if head.status in _REDIRECTS and head.get("location"):
                redirects += 1
                address = self._follow(address, head.get("location"), redirects)
            elif head.status == _UNAUTHORIZED:
                logins += 1
                # A challenge may be stale that came with an earlier asking, or for another page.
                self._log_in(address, head, logins, is_answer=challenged == address)
                challenged = address
            elif head.is_success:
                return answer
            else:
                raise refusal(head)
            await self._hang_up()
            pause = self._config.redial_delay

    async def _dial(self, address: HttpAddress, *, pause: float) -> Connection:
        """Connect, once the connection before has been closed for a while."""
        assert self._connection is None, "one connection at a time"
        await asyncio.sleep(self._closed_at + pause - asyncio.get_running_loop().time())
        self._connection = await self._dialler.dial(address)
        return self._connection

    async def _hang_up(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection:
            try:
                await connection.close()
            finally:
                self._closed_at = asyncio.get_running_loop().time()

    async def _request(self, connection: Connection, address: HttpAddress) -> Response:
        """Send the request and read the answer's head."""
        connection.send(self._request_head(address))
        patience = self._config.first_frame_timeout
        try:
            async with asyncio.timeout(patience):
                return await Response.begin(
                    connection, self.tally, max_image=self._config.max_frame
                )
        except TimeoutError as error:
            raise SourceStalled(
                f"the camera accepted the connection but sent no answer for {patience:g} s",
                SLOT_TAKEN,
            ) from error

    def _request_head(self, address: HttpAddress) -> bytes:
        """The request, as short as can be: some cameras choke on headers they do not know."""
        lines = [
            f"GET {address.target} HTTP/{self._config.http_version}",
            f"Host: {address.authority}",
            f"User-Agent: mjrelay/{__version__}",
            "Accept: */*",
            "Accept-Encoding: identity",
            "Connection: close",
        ]
        if self._address.may_share_secrets_with(address):
            authorization = self._login.header(address.target, secrets.token_hex(8))
            lines += [f"Authorization: {authorization}"] if authorization else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _follow(self, address: HttpAddress, location: str, redirects: int) -> HttpAddress:
        if redirects > _MAX_REDIRECTS:
            raise SourceRefused(
                f"the camera redirects more than {_MAX_REDIRECTS} times",
                "use the address a browser ends at",
            )
        try:
            return address.redirected(location)
        except ValueError as error:
            raise SourceRefused(
                f"the camera redirects to {redact(location[:200])!r}, which is no HTTP address",
                LOOK_IN_BROWSER,
            ) from error

    def _log_in(
        self, address: HttpAddress, head: ResponseHead, logins: int, *, is_answer: bool
    ) -> None:
        """Take up the way in that a 401 offers, or say why we cannot.

        Args:
            address: The page that asks for it.
            head: The head of the 401.
            logins: How often this asking has met a 401, this one included.
            is_answer: The request had answered a challenge that this page has just given.
        """
        if not self._address.may_share_secrets_with(address):
            raise SourceRefused(
                f"the camera redirects to {address.label}, which asks for a password",
                "if you trust that address with it, make it the camera's source",
            )
        if self._login.credentials is None:
            raise SourceRefused(
                "the camera asks for a user name and password (401)",
                "set username and password_file, or write http://USER:PASSWORD@HOST/…",
            )
        offered = head.all("www-authenticate")
        challenge = choose(parse_challenges(offered))
        is_refused = is_answer and not (challenge and challenge.is_stale)
        self._login.take_up(None if is_refused else challenge)
        if is_refused:
            raise SourceRefused(
                "the camera refuses the user name or the password (401)",
                "check username and password_file",
            )
        if challenge is None:
            raise SourceRefused(
                "the camera asks for a kind of login unknown here: "
                + (", ".join(offered)[:200] or "none"),
                "choose Basic or Digest in the camera's settings",
            )
        if logins > _MAX_LOGINS:
            raise SourceRefused(
                f"the camera wants another login each time, {logins} times in a row (401)",
                "choose Basic in the camera's settings, or update its firmware",
            )

    # Pictures

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
            await self._hang_up()
            await asyncio.sleep(asked_at + 1 / (self._config.fps or _POLL_FPS) - loop.time())
            answer = await self._ask(pause=0)


def _patience(config: CameraConfig) -> float:
    """How long an attempt may take: all redirects and log-ins, each step as slow as is allowed."""
    connecting = config.redial_delay + 2 * config.connect_timeout  # the second time for TLS
    asking = connecting + config.first_frame_timeout + CLOSE_TIMEOUT
    return (1 + _MAX_REDIRECTS + _MAX_LOGINS) * asking + config.first_frame_timeout
