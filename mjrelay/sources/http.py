"""HttpSource: pull MJPEG, or single pictures, from a camera over HTTP, on one connection."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from mjrelay import __version__
from mjrelay.address import HttpAddress, redact
from mjrelay.config import CameraConfig
from mjrelay.errors import (
    FramingError,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceStalled,
)
from mjrelay.formats import multipart
from mjrelay.formats.authorization import (
    Challenge,
    Credentials,
    answer,
    choose,
    parse_challenges,
)
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from mjrelay.formats.tally import Tally
from mjrelay.sources.connection import SLOT_TAKEN, Connection

_MAX_REDIRECTS = 3
# Pictures per second asked of a camera that answers one at a time, unless `fps` says otherwise.
_POLL_FPS = 5.0
# A camera known to accept within a second is dialled anew after two: SYNs leave at 0 s and 1 s, so
# they stay a second apart while it is away. The kernel alone lets the pauses double, and would miss
# the moment it returns.
_QUICK_ACCEPT = 1.0
_QUICK_CONNECT_TIMEOUT = 2.0
# A body this long without one image is no picture stream.
_MAX_WITHOUT_IMAGE = 2**20
_OTHER_CODECS = {"h264": "H.264", "avc": "H.264", "h265": "H.265", "hevc": "H.265", "mp4": "MP4"}


class HttpSource:
    """A camera that answers HTTP.

    There is one connection at a time, whatever happens: `_connection` is the only place that holds
    one, and a dial waits until the one before is closed and `redial_delay` has passed.
    """

    def __init__(self, address: HttpAddress, config: CameraConfig) -> None:
        self.label = address.label
        self.tally = Tally()
        self._address = address
        self._config = config
        self._credentials = (
            Credentials(config.username, config.password) if config.username else None
        )
        self._challenge: Challenge | None = None
        self._nonce_uses = 0
        self._connection: Connection | None = None
        self._free_at = 0.0
        self._quick = False
        self._head: ResponseHead | None = None
        self._framing = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Dial, ask, and yield the images of the answer."""
        try:
            body = await self._ask()
            async with aclosing(self._images(body)) as images:
                yield images
        finally:
            await self._hang_up()

    def facts(self) -> dict[str, Any]:
        """The latest answer's head, and how its images are framed."""
        head = self._head
        if head is None:
            return {}
        return {
            "status": f"{head.status} {head.phrase}".strip(),
            "headers": [f"{name}: {value}" for name, value in head.headers],
            "framing": self._framing,
        }

    # Asking

    async def _ask(self) -> "_Body":
        """Ask for the pictures; answer a request for a password, follow redirects.

        Raises:
            SourceError: There is no answer, or it is no picture.
        """
        address, redirects, challenged = self._address, 0, False
        while True:
            await self._dial(address)
            body = await self._request(address)
            head = self._head = body.head
            if head.status in (301, 302, 303, 307, 308) and head.get("location"):
                address = self._follow(address, head, redirects)
                redirects += 1
            elif head.status == 401:  # noqa: PLR2004 - Unauthorized
                # A challenge kept from an earlier asking may be stale; one of this asking is not.
                self._accept_challenge(head, refused=challenged)
                challenged = True
            elif 200 <= head.status < 300:  # noqa: PLR2004 - success
                return body
            else:
                raise _refusal(head)
            await self._hang_up()

    async def _dial(self, address: HttpAddress) -> None:
        assert self._connection is None, "one connection at a time"
        loop, patience = asyncio.get_running_loop(), self._config.connect_timeout
        await asyncio.sleep(self._free_at - loop.time())
        started = loop.time()
        self._connection = await Connection.dial(
            address,
            connect_timeout=min(patience, _QUICK_CONNECT_TIMEOUT) if self._quick else patience,
            tls_timeout=patience,
            tls_verify=self._config.tls_verify,
        )
        self._quick = loop.time() - started < _QUICK_ACCEPT

    async def _hang_up(self, *, pause: float | None = None) -> None:
        """Close the connection, if there is one, and note when the next may be dialled."""
        connection, self._connection = self._connection, None
        if connection:
            try:
                await connection.close()
            finally:
                delay = self._config.redial_delay if pause is None else pause
                self._free_at = asyncio.get_running_loop().time() + delay

    async def _request(self, address: HttpAddress) -> "_Body":
        """Send the request and read the answer's head."""
        assert self._connection
        await self._connection.send(self._request_head(address))
        body = _Body(self._connection, ResponseReader(self.tally))
        patience = self._config.first_frame_timeout
        try:
            async with asyncio.timeout(patience):
                await body.read_head()
        except TimeoutError as error:
            raise SourceStalled(
                f"the camera accepted the connection but sent no answer for {patience:g} s",
                SLOT_TAKEN,
            ) from error
        return body

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
        if self._challenge and self._credentials and address.host == self._address.host:
            self._nonce_uses += 1
            authorization = answer(
                self._challenge,
                self._credentials,
                target=address.target,
                count=self._nonce_uses,
                cnonce=secrets.token_hex(8),
            )
            lines.append(f"Authorization: {authorization}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _follow(self, address: HttpAddress, head: ResponseHead, redirects: int) -> HttpAddress:
        location = head.get("location")
        if redirects >= _MAX_REDIRECTS:
            raise SourceRefused(
                f"the camera redirects more than {_MAX_REDIRECTS} times",
                "use the address a browser ends at",
            )
        try:
            return address.redirected(location)
        except ValueError as error:
            raise SourceRefused(f"the camera redirects to {redact(location)!r}, no URL") from error

    def _accept_challenge(self, head: ResponseHead, *, refused: bool) -> None:
        """Take up the way in that a 401 offers, or say why we cannot."""
        challenge = choose(parse_challenges(head.all("www-authenticate")))
        if self._credentials is None:
            raise SourceRefused(
                "the camera asks for a user name and password (401)",
                "set username and password_file, or write http://USER:PASSWORD@HOST/…",
            )
        if challenge is None:
            offered = ", ".join(head.all("www-authenticate")) or "none"
            raise SourceRefused(f"the camera asks for a kind of login unknown here: {offered}")
        if refused:
            self._challenge = None
            raise SourceRefused(
                "the camera refuses the user name or the password (401)",
                "check username and password_file",
            )
        self._challenge = challenge
        self._nonce_uses = 0

    # Pictures

    async def _images(self, body: "_Body") -> AsyncGenerator[bytes, None]:
        """The images of this answer and, from a camera that sends one at a time, of the next."""
        loop = asyncio.get_running_loop()
        self._framing = (
            f"multipart, {body.head.media_type}" if body.head.is_multipart else "no multipart"
        )
        while True:
            asked_at = loop.time()
            found = 0
            async with aclosing(self._images_of(body)) as images:
                async for image in images:
                    found += 1
                    yield image
            if body.head.is_multipart or found != 1:
                raise SourceLost(
                    "the camera ended the stream",
                    "it may have rebooted, or given its only connection to another viewer",
                )
            self._framing = "one picture per answer, polled"
            await self._hang_up(pause=0)
            await asyncio.sleep(asked_at + 1 / (self._config.fps or _POLL_FPS) - loop.time())
            body = await self._ask()

    async def _images_of(self, body: "_Body") -> AsyncGenerator[bytes, None]:
        boundary = multipart.declared_boundary(body.head.media_type)
        framer = JpegFramer(max_size=self._config.max_frame, boundary=boundary, tally=self.tally)
        found = 0
        while pieces := await body.read():
            for piece in pieces:
                for image in framer.feed(piece):
                    found += 1
                    yield image
            if not found and (error := body.diagnose(framer.foreign_type)):
                raise error
            if body.complete and framer.between_images:
                break
        for image in framer.finish(complete=body.complete):
            found += 1
            yield image
        if not found and (error := body.diagnose(framer.foreign_type, ended=True)):
            raise error


class _Body:
    """An answer being read from a connection."""

    def __init__(self, connection: Connection, reader: ResponseReader) -> None:
        self._connection = connection
        self._reader = reader
        self._early: list[bytes] = []
        self._start = bytearray()
        self._length = 0

    @property
    def head(self) -> ResponseHead:
        """The answer's head, once `read_head` has returned."""
        assert self._reader.head
        return self._reader.head

    @property
    def complete(self) -> bool:
        """All the bytes that were promised have arrived."""
        return self._reader.complete

    async def read_head(self) -> None:
        """Read up to the body."""
        while self._reader.head is None:
            data = await self._connection.read()
            if not data:
                raise SourceLost("the camera closed the connection without an answer", SLOT_TAKEN)
            self._early += self._feed(data)

    async def read(self) -> list[bytes]:
        """The next pieces of the body; none at its end."""
        pieces, self._early = self._early, []
        while not pieces and not self._reader.ended:
            data = await self._connection.read()
            if not data:
                break
            pieces = self._feed(data)
        for piece in pieces:
            self._length += len(piece)
            if len(self._start) < 256:  # noqa: PLR2004 - enough to know HTML
                self._start += piece[:256]
        return pieces

    def _feed(self, data: bytes) -> list[bytes]:
        try:
            return list(self._reader.feed(data))
        except FramingError as error:
            raise SourceRefused(
                f"the camera's answer cannot be read: {error}",
                "open the address in a browser to see what it sends",
            ) from error

    def diagnose(self, foreign_type: str, *, ended: bool = False) -> SourceError | None:
        """Why no picture was found in what has come so far; None: it is too early to say.

        Args:
            foreign_type: The content type of a multipart part that was no JPEG.
            ended: Nothing more will come.
        """
        declared = f"{foreign_type} {self.head.media_type}".lower()
        for name, codec in _OTHER_CODECS.items():
            if name in declared:
                return SourceRefused(
                    f"the camera sends {codec} video, not JPEG pictures",
                    "choose its MJPEG address, or convert: exec:ffmpeg -i URL -f mjpeg -",
                )
        if not self.head.is_multipart:
            start = bytes(self._start).lstrip()
            for first, kind in ((b"<", "an HTML page"), (b"{", "JSON"), (b"[", "JSON")):
                if start.startswith(first):
                    return SourceRefused(
                        f"the camera answers with {kind}, not with pictures",
                        "open the address in a browser and take the one of the picture itself",
                    )
        if ended and not self._length:
            return SourceLost("the camera closed the connection without a picture", SLOT_TAKEN)
        if ended or self._length > _MAX_WITHOUT_IMAGE:
            media_type = self.head.media_type or "no declared type"
            return SourceRefused(
                f"there was no whole JPEG picture in {self._length} bytes of {media_type}",
                "open the address in a browser to see what it sends",
            )
        return None


def _refusal(head: ResponseHead) -> SourceRefused:
    """What an error status means to the person who wrote the address."""
    said = f"the camera answers {head.status} {head.phrase}".rstrip()
    match head.status:
        case 403:
            hint = "this user, or this computer, may not watch; check the camera's settings"
        case 404:
            hint = "the path is wrong; try /?action=stream, /stream, /video or /mjpg/video.mjpg"
        case 503 | 429:
            hint = SLOT_TAKEN
        case status if status >= 500:  # noqa: PLR2004 - server errors
            hint = "the camera is in trouble: restart it if this lasts"
        case _:
            hint = "open the address in a browser to see what it says"
    return SourceRefused(said, hint)
