"""Asker: from a camera's address to an answer with pictures, past log-ins and redirects."""

import asyncio
import math
import secrets

from mjrelay import __version__
from mjrelay.configuration.address import HttpAddress, redact
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import LOOK_IN_BROWSER, SLOT_TAKEN, SourceRefused, SourceStalled, Tally
from mjrelay.formats.authorization import Credentials, Login, choose, parse_challenges
from mjrelay.formats.http1 import ResponseHead
from mjrelay.sources.http.connection import CLOSE_TIMEOUT, Connection
from mjrelay.sources.http.diagnosis import refusal
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.response import Response
from mjrelay.sources.http.wakeups import Wakeups

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_UNAUTHORIZED = 401
NOT_MODIFIED = 304
"""The status that says: the picture is still the one whose tag was sent."""
# One in place of a challenge kept from before, one for another page behind a redirect, and one for
# a camera that calls its nonce stale when it is used for the first time.
_MAX_LOGINS = 3


class Asker:
    """Asks a camera for its pictures.

    There is one connection at a time, whatever happens: `_connection` is the only place that holds
    one, and a dial waits until the one before is closed and `redial_delay` has passed.

    Args:
        address: The camera's.
        config: Its options.
        wakeups: Decides when the kernel wakes us up for what comes.
        tally: Where to count what has to be forgiven.

    Attributes:
        tally: As given; a source that inherits another's sets it.
        head: The head of the latest answer, if there was one.
        patience: Seconds within which an asking has certainly ended.
        known_tag: The entity tag (ETag) of a picture that we have: the camera may answer 304 in
            place of sending it again. Empty for none.
    """

    def __init__(
        self, address: HttpAddress, config: CameraConfig, wakeups: Wakeups, tally: Tally
    ) -> None:
        self.head: ResponseHead | None = None
        self.patience = _patience(config)
        self.known_tag = ""
        self._address = address
        self._config = config
        self.tally = tally
        self._login = Login(
            Credentials(config.username, config.password) if config.username else None
        )
        self._dialler = Dialler(
            connect_timeout=config.connect_timeout,
            tls_verify=config.tls_verify,
            wakeups=wakeups,
        )
        self._connection: Connection | None = None
        self._closed_at = -math.inf

    def inherit_from(self, before: "Asker") -> None:
        """Take over when the camera was left, and how it lets us in."""
        self._take_over(before._address, before._closed_at, before._login)  # noqa: SLF001 - ours

    def _take_over(self, address: HttpAddress, closed_at: float, login: Login) -> None:
        if (address.host, address.port) == (self._address.host, self._address.port):
            self._closed_at = closed_at
        if address == self._address and login.credentials == self._login.credentials:
            self._login = login

    async def ask(self, *, pause: float) -> Response:
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
            head = self.head = answer.head
            if head.status in _REDIRECTS and head.get("location"):
                redirects += 1
                address = self._follow(address, head.get("location"), redirects)
            elif head.status == _UNAUTHORIZED:
                logins += 1
                # A challenge may be stale that came with an earlier asking, or for another page.
                self._log_in(address, head, logins, is_answer=challenged == address)
                challenged = address
            elif head.is_success or (self.known_tag and head.status == NOT_MODIFIED):
                return answer
            else:
                raise refusal(head)
            await self.hang_up()
            pause = self._config.redial_delay

    async def _dial(self, address: HttpAddress, *, pause: float) -> Connection:
        """Connect, once the connection before has been closed for a while."""
        assert self._connection is None, "one connection at a time"
        await asyncio.sleep(self._closed_at + pause - asyncio.get_running_loop().time())
        self._connection = await self._dialler.dial(address)
        return self._connection

    async def hang_up(self) -> None:
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
        if self.known_tag:
            lines.append(f"If-None-Match: {self.known_tag}")
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


def _patience(config: CameraConfig) -> float:
    """How long an attempt may take: all redirects and log-ins, each step as slow as is allowed."""
    connecting = config.redial_delay + 2 * config.connect_timeout  # the second time for TLS
    asking = connecting + config.first_frame_timeout + CLOSE_TIMEOUT
    return (1 + _MAX_REDIRECTS + _MAX_LOGINS) * asking
