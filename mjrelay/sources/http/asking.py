"""Asker: from a camera's address to an answer with pictures, past log-ins and redirects."""

import asyncio
import math
import secrets
import time
from dataclasses import dataclass, field

from mjrelay import __version__
from mjrelay.configuration.address import HttpAddress
from mjrelay.configuration.redaction import redact_address
from mjrelay.configuration.tables import CameraConfig
from mjrelay.errors import (
    LOOK_IN_BROWSER,
    SLOT_TAKEN,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceStalled,
    SourceUnreachable,
    Tally,
)
from mjrelay.formats.authorization import (
    BASIC,
    Challenge,
    Credentials,
    Login,
    choose,
    parse_challenges,
)
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from mjrelay.sources.http import diagnosis
from mjrelay.sources.http.connection import CLOSE_TIMEOUT, Connection
from mjrelay.sources.http.cookies import Cookies
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.response import Response
from mjrelay.sources.http.wakeups import Wakeups

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_BAD_REQUEST, _UNAUTHORIZED, _UNAVAILABLE = 400, 401, 503
# Statuses that tell of the camera's moment, and nothing of what we sent: it is asked too often, it
# is unavailable, or a gateway stands in front of it and got no answer.
_BUSY = (429, 502, 503, 504)
NOT_MODIFIED = 304
"""The status that says: the picture is still the one whose tag was sent."""
# One in place of a challenge kept from before, one for another page behind a redirect, and one for
# a camera that calls its nonce stale when it is used for the first time.
_MAX_LOGINS = 3
# Once without what was kept from before, and once without haste.
_MAX_REPEATS = 2
# Many cameras lock a user, or our address, for minutes after five failures, and a failure during
# the lock makes it longer. One failure more than these may come from a log-in kept from before.
_MAX_REFUSALS = 3
_LOCKED_FOR = 300.0
# How long the rest of a refusal may take, which tells more.
_REST_TIMEOUT = 1.0


@dataclass
class _Trail:
    """How far one asking has come.

    Attributes:
        address: What to ask next.
        uses_kept: Whether requests carry what an earlier asking has left: a challenge, or cookies.
        redirects: How many there were.
        logins: How often a password was asked for.
        challenged: The page whose challenge the latest request answered, if it was given now.
        is_busy: Whether it ended with an answer about the camera's moment, not about our request.
    """

    address: HttpAddress
    uses_kept: bool
    redirects: int = 0
    logins: int = 0
    challenged: HttpAddress | None = None
    is_busy: bool = False


@dataclass
class _Known:
    """What is known of a camera from one asking to the next, and over a reload.

    Attributes:
        login: How it lets us in.
        cookies: Those it has set.
        hurries: Whether it takes a connection as soon as it has closed the one before.
        closed_at: When the latest connection was closed, in seconds of the loop's clock.
        eoi_seen: Whether it ends its images with EOI, so that one without is cut short.
    """

    login: Login
    cookies: Cookies = field(default_factory=Cookies)
    hurries: bool = True
    closed_at: float = -math.inf
    eoi_seen: bool = False


class Asker:
    """Asks a camera for its pictures.

    There is one connection at a time, whatever happens: `_connection` is the only place that holds
    one, and a dial waits until the one before is closed.

    An asking may take several connections. What let us in, a challenge and cookies, is kept for the
    next one as long as pictures come of it.

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
        who = Credentials(config.username, config.password) if config.username else None
        self._known = _Known(Login(who))
        self._dialler = Dialler(
            connect_timeout=config.connect_timeout,
            tls_verify=config.tls_verify,
            wakeups=wakeups,
        )
        self._connection: Connection | None = None
        self._answer: Response | None = None  # while its connection is open
        self._in_vain = self._sends_old_cookies = self._was_busy = False
        self._silent_hint = SLOT_TAKEN

    @property
    def silent_hint(self) -> str:
        """What a person can do when no picture comes of the latest answer."""
        return self._answer.silent_hint if self._answer else self._silent_hint

    def inherit_from(self, before: "Asker") -> None:
        """Take over when the camera was left, and how it lets us in."""
        self._take_over(before._address, before._known)  # noqa: SLF001 - ours

    def _take_over(self, address: HttpAddress, known: _Known) -> None:
        if (address.host, address.port) != (self._address.host, self._address.port):
            return
        ours = self._known
        ours.closed_at, ours.hurries = known.closed_at, known.hurries
        if known.login.credentials != ours.login.credentials:
            return
        if address == self._address:
            ours.login, ours.cookies = known.login, known.cookies
        else:
            ours.login.refusals = known.login.refusals

    async def ask(self, *, pause: float) -> Response:
        """Ask for the pictures; answer a request for a password, follow redirects.

        Args:
            pause: Seconds from the end of the connection before to the first dial.

        Raises:
            SourceError: There is no answer, or it is no picture.
        """
        if self._in_vain:
            self._forget()
        self._in_vain, self._silent_hint = False, SLOT_TAKEN
        self._sends_old_cookies = bool(self._known.cookies)
        uses_kept = self._known.login.is_ready or self._sends_old_cookies
        trail = _Trail(self._address, uses_kept)
        try:
            self._answer = await self._follow_trail(trail, pause=pause)
        except SourceUnreachable:
            raise
        except SourceError:
            if self._was_busy or not trail.is_busy:
                self._forget()
            self._was_busy = trail.is_busy
            raise
        self._was_busy = False
        return self._answer

    async def _follow_trail(self, trail: _Trail, *, pause: float) -> Response:
        """Ask until an answer may hold pictures."""
        answer = await self._exchange(trail.address, pause=pause)
        while not self._may_show(answer.head):
            await self._decide(trail, answer)
            answer = await self._ask_again(trail, pause=await self._leave())
        if self._address.may_share_secrets_with(trail.address):
            self._known.login.let_in(answer.head.get("authentication-info"))
        return answer

    def _may_show(self, head: ResponseHead) -> bool:
        """Whether an answer may hold pictures, or says that ours is still the newest."""
        return head.is_success or bool(self.known_tag and head.status == NOT_MODIFIED)

    async def _exchange(self, address: HttpAddress, *, pause: float) -> Response:
        """Dial, ask, and take what the head of the answer tells."""
        connection = await self._dial(address, pause=pause)
        answer = await self._request(connection, address)
        self.head = answer.head
        now = asyncio.get_running_loop().time()
        self._known.cookies.take(answer.head, address, now=now, wall=time.time())
        return answer

    async def _ask_again(self, trail: _Trail, *, pause: float) -> Response:
        """Dial and ask within an asking; once more after `redial_delay` where haste was to blame.

        Some cameras have closed a connection, and yet take no other for a moment.
        """
        patient = self._config.redial_delay
        if pause >= patient:
            return await self._ask_patiently(trail, pause=pause)
        try:
            answer = await self._exchange(trail.address, pause=pause)
            if answer.head.status != _UNAVAILABLE:
                return answer
        except (SourceLost, SourceUnreachable):
            pass
        except SourceStalled:
            self._known.hurries = False
            raise
        await self.hang_up()
        trail.challenged = None  # nobody knows whether it has seen our answer
        answer = await self._ask_patiently(trail, pause=patient)
        self._known.hurries = answer.head.status == _UNAVAILABLE
        return answer

    async def _ask_patiently(self, trail: _Trail, *, pause: float) -> Response:
        """Dial and ask after a pause: if that fails, haste was not to blame before."""
        try:
            return await self._exchange(trail.address, pause=pause)
        except SourceError:
            self._known.hurries = True
            raise

    async def _dial(self, address: HttpAddress, *, pause: float) -> Connection:
        """Connect, once the connection before has been closed for a while."""
        assert self._connection is None, "one connection at a time"
        await asyncio.sleep(self._known.closed_at + pause - asyncio.get_running_loop().time())
        self._connection = await self._dialler.dial(address)
        return self._connection

    async def hang_up(self) -> bool:
        """Close the connection, if there is one. Returns whether the camera has closed it too."""
        connection, self._connection = self._connection, None
        if answer := self._answer:  # which keeps the connection's memory, so let it go
            self._in_vain, self._silent_hint = answer.is_in_vain, answer.silent_hint
            self._known.eoi_seen |= answer.eoi_seen
            self._answer = None
        if connection is None:
            return True
        try:
            return await connection.close()
        finally:
            self._known.closed_at = asyncio.get_running_loop().time()

    async def _leave(self) -> float:
        """Hang up before the next step of an asking. Returns how long to wait before it is taken.

        A camera that has closed its end has its slot free again.
        """
        is_free = await self.hang_up()
        return 0.0 if is_free and self._known.hurries else self._config.redial_delay

    async def _request(self, connection: Connection, address: HttpAddress) -> Response:
        """Send the request and read the answer's head."""
        connection.send(self._request_head(address))
        patience = self._config.first_frame_timeout
        reader = ResponseReader(self.tally)
        try:
            async with asyncio.timeout(patience):
                return await Response.begin(
                    connection,
                    reader,
                    address,
                    max_image=self._config.max_frame,
                    eoi_seen=self._known.eoi_seen,
                )
        except TimeoutError as error:
            raise diagnosis.no_answer(reader.start, address, patience) from error

    def _request_head(self, address: HttpAddress) -> bytes:
        """The request, as short as can be: some cameras choke on headers they do not know."""
        fields = {
            "Host": address.authority,
            "User-Agent": f"mjrelay/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self.known_tag:
            fields["If-None-Match"] = self.known_tag
        is_trusted = self._address.may_share_secrets_with(address)
        if is_trusted and (login := self._known.login.header(address.target, secrets.token_hex(8))):
            fields["Authorization"] = login
        now = asyncio.get_running_loop().time()
        if cookies := self._known.cookies.header(address, now=now):
            fields["Cookie"] = cookies
        usual = {name.lower(): name for name in fields}
        for name, header in self._config.headers.items():
            if is_trusted or not header.is_secret:
                value = header.value.encode().decode("latin-1")
                if name.lower() == "cookie" and cookies:
                    value = f"{value}; {cookies}"
                fields[usual.get(name.lower(), name)] = value
        lines = [
            f"GET {address.target} HTTP/{self._config.http_version}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    async def _decide(self, trail: _Trail, answer: Response) -> None:
        """Decide what to ask after an answer without pictures, or say why there are none."""
        head = answer.head
        is_worn = self._known.login.is_worn
        if is_worn:
            trail.challenged = None  # it was given now, and has been used since
        if head.status in _REDIRECTS and head.get("location"):
            trail.redirects += 1
            trail.address = self._follow(trail.address, head.get("location"), trail.redirects)
        elif is_worn and head.status != _UNAUTHORIZED and _may_blame_request(head):
            # The nonce alone may be to blame: the cookies are tried with another one.
            self._known.login.forget()
            trail.address = self._address
            trail.uses_kept &= bool(self._known.cookies)
        elif trail.uses_kept and _may_blame_kept(trail, head):
            if trail.challenged == trail.address:
                self._known.login.refused()  # though the cookies may be to blame
            self._known.login.forget()
            self._known.cookies.forget()
            trail.address, trail.challenged, trail.uses_kept = self._address, None, False
        elif head.status == _UNAUTHORIZED:
            trail.logins += 1
            self._log_in(trail, head)
            trail.challenged = trail.address
            trail.uses_kept &= bool(self._known.cookies)
        else:
            trail.is_busy = head.status in _BUSY
            rest = await self._rest(answer) if head.status == _BAD_REQUEST else b""
            raise diagnosis.refusal(head, trail.address, rest)

    async def _rest(self, answer: Response) -> bytes:
        """The beginning of a refusal's body, or what comes of it soon."""
        try:
            async with asyncio.timeout(_REST_TIMEOUT):
                return await answer.read_start()
        except (TimeoutError, SourceError):
            return answer.start

    def _forget(self) -> None:
        """Keep nothing for the next asking that has led to no pictures.

        Cookies that were set just now have had no chance yet: the next asking tries them.
        """
        self._known.login.forget()
        if self._sends_old_cookies:
            self._known.cookies.forget()

    def _follow(self, address: HttpAddress, location: str, redirects: int) -> HttpAddress:
        if redirects > _MAX_REDIRECTS:
            raise SourceRefused(
                f"the camera redirects more than {_MAX_REDIRECTS} times",
                "use the address a browser ends at",
            )
        try:
            return address.redirected(location)
        except ValueError as error:
            shown = redact_address(location)[:200]
            raise SourceRefused(
                f"the camera redirects to {shown!r}, which is no HTTP address",
                LOOK_IN_BROWSER,
            ) from error

    def _log_in(self, trail: _Trail, head: ResponseHead) -> None:
        """Take up the way in that a 401 offers, or say why we cannot."""
        if not self._address.may_share_secrets_with(trail.address):
            raise SourceRefused(
                f"the camera redirects to {trail.address.label}, which asks for a password",
                "if you trust that address with it, make it the camera's source",
            )
        if any(name.lower() == "authorization" for name in self._config.headers):
            raise SourceRefused(
                "the camera refuses the Authorization that headers sets (401)",
                "check headers, and the file it names if there is one",
            )
        if self._known.login.credentials is None:
            raise SourceRefused(
                "the camera asks for a user name and password (401)",
                "set username and password_file, or write http://USER:PASSWORD@HOST/…",
            )
        challenge = _challenge(head)
        # A challenge may be stale that came with an earlier asking, or for another page.
        if trail.challenged == trail.address and not (challenge and challenge.is_stale):
            self._known.login.refused()
            is_last = trail.logins > _MAX_LOGINS
            if is_last or not self._known.login.spells_differently(challenge):
                raise self._wrong_password()
        elif challenge is None:
            raise SourceRefused(
                "the camera asks for a kind of login unknown here: "
                + ", ".join(head.all("www-authenticate"))[:200],
                "choose Basic or Digest in the camera's settings",
            )
        elif trail.logins > _MAX_LOGINS:
            raise SourceRefused(
                f"the camera wants another login each time, {trail.logins} times in a row (401)",
                "choose Basic in the camera's settings, or update its firmware",
            )
        else:
            self._known.login.take_up(challenge)

    def _wrong_password(self) -> SourceRefused:
        reason = "the camera refuses the user name or the password (401)"
        hint = "check username and password_file"
        if self._known.login.refusals < _MAX_REFUSALS:
            return SourceRefused(reason, hint)
        return SourceRefused(
            reason,
            f"{hint}, and reload; else it is tried again in {_LOCKED_FOR / 60:g} min: cameras lock "
            "a user who fails often",
            retry_after=_LOCKED_FOR,
        )


def _challenge(head: ResponseHead) -> Challenge | None:
    """The challenge of a 401 that we can answer; None if it offers others only.

    A camera that asks without saying how means Basic.
    """
    offered = parse_challenges(head.all("www-authenticate"))
    return choose(offered) if any(challenge.is_whole for challenge in offered) else BASIC


def _may_blame_kept(trail: _Trail, head: ResponseHead) -> bool:
    """Whether a request may have failed because of what it carried from an earlier asking.

    A 401 that brings a challenge of its own is answered first.
    """
    if head.status == _UNAUTHORIZED:
        challenge = choose(parse_challenges(head.all("www-authenticate")))
        return challenge is None or (trail.challenged == trail.address and not challenge.is_stale)
    return _may_blame_request(head)


def _may_blame_request(head: ResponseHead) -> bool:
    """Whether an answer without pictures may be due to what we sent."""
    return head.status >= _BAD_REQUEST and head.status not in _BUSY


def _patience(config: CameraConfig) -> float:
    """How long an attempt may take: all redirects and log-ins, each step as slow as is allowed."""
    connecting = config.redial_delay + 2 * config.connect_timeout  # the second time for TLS
    asking = connecting + config.first_frame_timeout + CLOSE_TIMEOUT
    # Each log-in may be asked for, and be worn out by a redirect before it leads to pictures.
    steps = 1 + _MAX_REDIRECTS + 2 * _MAX_LOGINS + _MAX_REPEATS
    return steps * asking + _REST_TIMEOUT
