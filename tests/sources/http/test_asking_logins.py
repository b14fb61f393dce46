"""Asker: log-ins as cameras want them, against cameras that check what they are sent."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mjrelay.errors import SourceError, SourceRefused
from mjrelay.sources.http import connection
from mjrelay.sources.http.source import HttpSource
from tests.support.camera import (
    AskAuth,
    Close,
    Connection,
    Frames,
    HttpHead,
    Reset,
    Script,
    ScriptedCamera,
    Send,
    Silence,
    Step,
)
from tests.support.quirks import HTML, answer

from .opening import failure, source_of, succeeding, take

ENDLESS: Script = [Send(HttpHead), Frames(fps=100)]
ASKED = "HTTP/1.1 401 Unauthorized"
FORBIDDEN = answer(HTML, "text/html", status="HTTP/1.1 403 Forbidden")
ME: dict[str, Any] = {"username": "me", "password": "secret"}


def fields_of(request: bytes) -> dict[str, str]:
    """What a Digest answer says, each letter a byte; empty without one."""
    found = re.search(r"\nAuthorization: Digest ([^\r]+)", request.decode("latin-1"))
    if not found:
        return {}
    return dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[1]))


def md5(*parts: bytes) -> bytes:
    return hashlib.md5(b":".join(parts)).hexdigest().encode()


@dataclass
class DigestCamera:
    """A step that lets in whoever answers a challenge as it should be answered.

    Attributes:
        realm: In the camera's own bytes.
        user: The user's name in the camera's own bytes.
        password: The same.
        lasts: How many requests a nonce is good for.
        outdated: What it says to a nonce that is good no more; None: a challenge, as to no nonce.
        hint: A further parameter of its challenges.
        tells_next: Whether it names the next nonce where it lets someone in.
        nonces: How often each nonce was used.
    """

    realm: bytes = b"camera"
    user: bytes = b"me"
    password: bytes = b"secret"
    lasts: float = float("inf")
    outdated: bytes | None = None
    hint: str = ""
    tells_next: bool = False
    nonces: dict[str, int] = field(default_factory=dict)

    async def play(self, connection: Connection) -> None:
        """Answer the request that has just come."""
        given = fields_of(connection.camera.requests[-1])
        if not given or given["nonce"] not in self.nonces:
            await self._ask(connection)
        elif self.nonces[given["nonce"]] >= self.lasts:
            if self.outdated is None:
                await self._ask(connection)
            else:
                await connection.send(self.outdated)
        else:
            self.nonces[given["nonce"]] += 1
            if not self.is_right(given):
                await self._ask(connection)
            elif self.tells_next:
                info = f'Authentication-Info: nextnonce="{self._nonce()}"'
                await connection.send(HttpHead.removesuffix(b"\r\n") + info.encode() + b"\r\n\r\n")
                await Frames(fps=100).play(connection)
            else:
                for step in ENDLESS:
                    await step.play(connection)

    def is_right(self, given: dict[str, str]) -> bool:
        """Whether the response is what the camera's own bytes give."""
        secret = md5(self.user, self.realm, self.password)
        request = md5(b"GET", given["uri"].encode())
        expected = md5(secret, given["nonce"].encode(), request)
        sent = given["username"].encode("latin-1"), given["realm"].encode("latin-1")
        return given["response"].encode() == expected and sent == (self.user, self.realm)

    def _nonce(self) -> str:
        nonce = f"n{len(self.nonces)}"
        self.nonces[nonce] = 0
        return nonce

    async def _ask(self, connection: Connection) -> None:
        start = b'WWW-Authenticate: Digest realm="'
        rest = f'", nonce="{self._nonce()}"{self.hint}\r\n'.encode()
        head = f"{ASKED}\r\nContent-Length: 0\r\n".encode()
        await connection.send(head + start + self.realm + rest + b"\r\n")


@dataclass(frozen=True)
class By:
    """A step that answers by a rule, which is given the request."""

    rule: Callable[[str], bytes | None]

    async def play(self, connection: Connection) -> None:
        """Send what the rule says; None: pictures."""
        said = self.rule(connection.camera.requests[-1].decode("latin-1"))
        for step in ENDLESS if said is None else [Send(said)]:
            await step.play(connection)


def nonces(camera: ScriptedCamera) -> list[str]:
    """The nonce of each request's answer; empty for none."""
    return [fields_of(request).get("nonce", "") for request in camera.requests]


async def asked_at_once(source: HttpSource, *, askings: int = 1) -> None:
    """Ask, and take a picture, several times, without a pause between two askings."""
    for _ in range(askings):
        shown: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def show(image: bytes, _: float, shown: asyncio.Future[bytes] = shown) -> None:
            if not shown.done():
                shown.set_result(image)

        try:
            async with asyncio.timeout(5):
                answered = await source._asker.ask(pause=0)
                streaming = asyncio.ensure_future(answered.show_images(show))
                await shown
                streaming.cancel()
                await asyncio.wait({streaming})
        finally:
            await source._asker.hang_up()


# Nonces


@pytest.mark.parametrize(
    "outdated",
    [
        FORBIDDEN,
        answer(b"", None, status="HTTP/1.1 400 Bad Request"),
        answer(b"", None, status=ASKED),
        answer(b"", None, 'WWW-Authenticate: Bearer realm="x"', status=ASKED),
        answer(HTML, "text/html", status="HTTP/1.1 404 Not Found"),
        answer(HTML, "text/html", status="HTTP/1.1 500 Internal Server Error"),
    ],
    ids=["403", "400", "401 without challenge", "401 of another kind", "404", "500"],
)
async def test_a_challenge_kept_from_before_is_dropped_when_it_is_refused(outdated: bytes) -> None:
    """rroller/dahua#647: a nonce of an earlier request gets 403, and no new challenge.

    redial_delay is too long for any pause in here.
    """
    async with ScriptedCamera([DigestCamera(lasts=1, outdated=outdated)], one_slot=True) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=4)
        assert camera.most_open == 1
    assert nonces(camera) == ["", "n0", "n0", "", "n1", "n1", "", "n2", "", "n3"]


@pytest.mark.parametrize("outdated", [FORBIDDEN, None], ids=["403", "401"])
@pytest.mark.parametrize("login_first", [True, False], ids=["log-in first", "cookie first"])
async def test_a_nonce_for_one_use_and_a_cookie_go_together(
    outdated: bytes | None, *, login_first: bool
) -> None:
    """rroller/dahua#647 and evercam/evercam-server#5 in one: the redirect wears the nonce out."""
    digest = DigestCamera(lasts=1, outdated=outdated)
    set_cookie = ("Location: /", "Set-Cookie: s=1")
    redirect = Send(answer(b"", None, *set_cookie, status="HTTP/1.1 302 Found"))

    class Gate:
        async def play(self, connection: Connection) -> None:
            """Send whoever has no cookie to fetch it, before the log-in or behind it."""
            request = connection.camera.requests[-1]
            given = fields_of(request).get("nonce", "")
            is_fresh = digest.nonces.get(given) == 0
            if b"s=1" in request or (login_first and not is_fresh):
                await digest.play(connection)
            else:
                if is_fresh:
                    digest.nonces[given] += 1
                await redirect.play(connection)

    async with ScriptedCamera([Gate()], one_slot=True) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=5)
        assert camera.most_open == 1


async def test_a_nonce_is_not_to_be_used_again_where_the_camera_was_busy() -> None:
    """It took the nonce and said 503: the second time, the same nonce gets 403."""
    digest = DigestCamera(lasts=1, outdated=FORBIDDEN)

    class BusyOnce:
        async def play(self, connection: Connection) -> None:
            given = fields_of(connection.camera.requests[-1]).get("nonce", "")
            if given == "n0" and not digest.nonces[given]:
                digest.nonces[given] += 1
                busy = answer(b"", None, status="HTTP/1.1 503 Service Unavailable")
                await connection.send(busy)
            else:
                await digest.play(connection)

    async with ScriptedCamera([BusyOnce()], one_slot=True) as camera:
        await take(source_of(camera.url, **ME, redial_delay=0.01), 1)
    assert nonces(camera) == ["", "n0", "n0", "", "n1"]


async def test_nonces_for_one_use_cost_no_pauses() -> None:
    """rroller/dahua#597, curl/curl#2136, rburgst/okhttp-digest#23."""
    async with ScriptedCamera([DigestCamera(lasts=1)], one_slot=True) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=4)
        assert camera.most_open == 1
    assert nonces(camera) == ["", "n0", "n0", "n1", "n1", "n2", "", "n3"]


async def test_a_nonce_that_lasts_is_used_again() -> None:
    async with ScriptedCamera([DigestCamera()]) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=4)
    assert nonces(camera) == ["", "n0", "n0", "n0", "n0"]


async def test_the_nonce_that_a_camera_names_for_the_next_request_is_used() -> None:
    """RFC 7616, section 3.5."""
    async with ScriptedCamera([DigestCamera(lasts=1, tells_next=True)]) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=3)
    assert nonces(camera) == ["", "n0", "n1", "n2"]


async def test_a_refusal_of_who_is_logged_in_is_no_reason_to_ask_for_ever() -> None:
    def rule(request: str) -> bytes:
        return (
            FORBIDDEN if "Authorization" in request else answer(b"", None, ASK_BASIC, status=ASKED)
        )

    async with ScriptedCamera([By(rule)]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        for _ in range(5):
            _, error = await failure(source)
            assert error.reason == "the camera answers 403 Forbidden"
            assert error.retry_after is None
        assert camera.accepted == 10


async def test_asked_too_often_is_not_about_the_login() -> None:
    too_many = answer(b"", None, status="HTTP/1.1 429 Too Many Requests")
    async with ScriptedCamera(
        [DigestCamera(lasts=1, outdated=too_many)],
    ) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        await take(source, 1)
        _, error = await failure(source)
        assert "429" in error.reason
        assert camera.accepted == 3


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Busy", "502 Bad Gateway"])
async def test_a_camera_that_is_busy_for_a_moment_need_not_ask_for_the_password_again(
    status: str,
) -> None:
    step = DigestCamera()
    busy = answer(b"", None, status=f"HTTP/1.1 {status}")
    async with ScriptedCamera([step], [step], [Send(busy)], [step]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        await take(source, 1)
        await failure(source)
        await take(source, 1)
    assert nonces(camera) == ["", "n0", "n0", "n0"]


async def test_a_camera_that_is_busy_whenever_it_sees_an_old_nonce_is_asked_anew_in_the_end() -> (
    None
):
    busy = answer(b"", None, status="HTTP/1.1 503 Busy")
    async with ScriptedCamera([DigestCamera(lasts=1, outdated=busy)]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        await take(source, 1)
        await failure(source)
        await failure(source)
        await take(source, 1)


ASK_BASIC = 'WWW-Authenticate: Basic realm="camera"'

# Pauses within one asking


async def test_a_camera_that_does_not_close_its_end_is_given_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.05)
    asks = answer(b"", None, ASK_BASIC, status=ASKED)
    async with ScriptedCamera([Send(asks), Silence()], ENDLESS, deaf=True) as camera:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asked_at_once(source_of(camera.url, **ME, redial_delay=0.3))
        assert loop.time() - began >= 0.29


@pytest.mark.parametrize(
    "busy",
    [Close(), Reset(), Send(answer(b"", None, status="HTTP/1.1 503 Service Unavailable"))],
    ids=["closes", "resets", "says 503"],
)
async def test_a_camera_that_needs_a_moment_to_free_its_slot_gets_it(busy: Step) -> None:
    asks = AskAuth('Basic realm="camera"')
    scripts: list[Script] = [[asks], [busy], ENDLESS, [asks], [asks], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        source = source_of(camera.url, **ME, redial_delay=0.3)
        await asked_at_once(source)
        assert camera.accepted == 3
        assert camera.gaps[1] >= 0.29
        source._asker._known.login.forget()
        with pytest.raises(SourceRefused):
            await asked_at_once(source)
        assert camera.gaps[3] >= 0.29, "remembered"


async def test_a_camera_that_fails_without_haste_does_not_fail_for_it() -> None:
    asks = AskAuth('Basic realm="camera"')
    async with ScriptedCamera([asks], [Close()]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0.01)
        with pytest.raises(SourceError):
            await asked_at_once(source)
        assert camera.accepted == 3
        assert source._asker._known.hurries


async def test_what_a_camera_says_to_a_second_answer_is_no_refusal() -> None:
    """It may have used up the nonce before it closed the connection."""
    step = DigestCamera(lasts=1)

    def close(request: str) -> bytes:
        step.nonces[fields_of(request.encode("latin-1"))["nonce"]] += 1
        return b""

    async with ScriptedCamera([step], [By(close)], [step]) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=0.05))
    assert nonces(camera) == ["", "n0", "n0", "n1"]


async def test_a_foreign_host_behind_a_redirect_names_no_nonce() -> None:
    told = HttpHead.removesuffix(b"\r\n") + b'Authentication-Info: nextnonce="evil"\r\n\r\n'
    async with ScriptedCamera([Send(told), Frames(fps=100)]) as other:
        away = f"Location: http://localhost:{other.port}/"
        moved = Send(answer(b"", None, away, status="HTTP/1.1 302 Found"))
        asks = AskAuth('Digest realm="camera", nonce="n0"')
        async with ScriptedCamera([asks], [moved], ENDLESS) as camera:
            await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=2)
    assert nonces(camera) == ["", "n0", "n0"]


# Without a challenge


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["WWW-Authenticate:"],
        ["WWW-Authenticate: ?"],
        ['WWW-Authenticate: realm="x"'],
        ["WWW-Authenticate: Digest"],
        ['WWW-Authenticate: Digest realm="x"'],
    ],
)
async def test_a_401_without_a_challenge_means_basic(headers: list[str]) -> None:
    """openhab/openhab-addons#15413."""
    right = "Authorization: Basic " + base64.b64encode(b"me:secret").decode()

    def rule(request: str) -> bytes | None:
        return None if right in request else answer(b"", None, *headers, status=ASKED)

    async with ScriptedCamera([By(rule)], one_slot=True) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=3)
        assert camera.accepted == 4
        _, error = await failure(source_of(camera.url, username="me", password="wrong"))
        assert camera.accepted == 6, "once"
    assert error.reason == "the camera refuses the user name or the password (401)"


async def test_a_401_without_a_challenge_asks_for_a_password() -> None:
    async with ScriptedCamera([Send(answer(b"", None, status=ASKED))]) as camera:
        _, error = await failure(source_of(camera.url))
    assert error.reason == "the camera asks for a user name and password (401)"


async def test_a_login_of_another_kind_is_named() -> None:
    async with ScriptedCamera([AskAuth('Bearer realm="hass"')]) as camera:
        _, error = await failure(source_of(camera.url, **ME))
        assert camera.accepted == 1
    assert error.reason == 'the camera asks for a kind of login unknown here: Bearer realm="hass"'


# Bytes


@pytest.mark.parametrize("realm", ["caméra".encode("latin-1"), "caméra".encode(), b"IP\\Camera"])
async def test_a_realm_is_hashed_and_sent_in_the_bytes_it_came_in(realm: bytes) -> None:
    """psf/requests#6102, mdn/content#28911."""
    async with ScriptedCamera([DigestCamera(realm=realm)]) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=2)
        assert camera.accepted == 3


@pytest.mark.parametrize("hint", ["", ", charset=UTF-8"])
async def test_a_name_beyond_ascii_goes_out_in_utf_8(hint: str) -> None:
    """psf/requests#5089."""
    ours: dict[str, Any] = {"username": "jürgen", "password": "größe"}
    step = DigestCamera(user="jürgen".encode(), password="größe".encode(), hint=hint)
    async with ScriptedCamera([step]) as camera:
        await asked_at_once(source_of(camera.url, **ours, redial_delay=60))
        assert camera.accepted == 2


async def test_a_camera_that_wants_names_in_latin_1_gets_them_so_from_then_on() -> None:
    ours: dict[str, Any] = {"username": "jürgen", "password": "größe"}
    step = DigestCamera(user="jürgen".encode("latin-1"), password="größe".encode("latin-1"))
    async with ScriptedCamera([step]) as camera:
        source = source_of(camera.url, **ours, redial_delay=60)
        await asked_at_once(source, askings=2)
        assert camera.accepted == 4
        source._asker._known.login.forget()
        await asked_at_once(source)
        assert camera.accepted == 6


# Refusals


async def refusals(source: HttpSource, count: int) -> list[float | None]:
    """For how long a camera is left alone after each of some refusals of the password."""
    waits = []
    for _ in range(count):
        _, error = await failure(source)
        assert error.reason == "the camera refuses the user name or the password (401)"
        waits.append(error.retry_after)
    return waits


async def test_after_three_refusals_of_a_password_the_camera_is_left_alone() -> None:
    """rroller/dahua: five failures lock the address for 300 s."""
    async with ScriptedCamera([DigestCamera(password=b"another")]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        assert await refusals(source, 4) == [None, None, 300, 300]
        _, error = await failure(source)
    assert error.hint == (
        "check username and password_file, and reload; else it is tried again in 5 min: "
        "cameras lock a user who fails often"
    )


async def test_a_reload_with_the_same_password_goes_on_counting() -> None:
    async with ScriptedCamera([DigestCamera(password=b"another")]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        assert await refusals(source, 2) == [None, None]
        same = succeeding(source, camera.url + "&x", **ME, redial_delay=0)
        assert await refusals(same, 1) == [300]
        for changed in ({**ME, "password": "other"}, {**ME, "username": "you"}):
            assert await refusals(succeeding(same, camera.url, **changed), 1) == [None]


async def test_who_was_let_in_is_counted_anew() -> None:
    step = DigestCamera(password=b"another", lasts=1)
    async with ScriptedCamera([step]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        assert await refusals(source, 2) == [None, None]
        step.password = b"secret"
        await take(source, 1)
        step.password = b"another"
        assert await refusals(source, 2) == [None, None]


async def test_a_stale_nonce_is_no_refusal() -> None:
    step = DigestCamera(lasts=0, hint=", stale=true")
    async with ScriptedCamera([step]) as camera:
        source = source_of(camera.url, **ME, redial_delay=0)
        for _ in range(4):
            _, error = await failure(source)
            assert "another login each time" in error.reason
            assert error.retry_after is None


async def test_each_spelling_that_is_refused_counts() -> None:
    async with ScriptedCamera([DigestCamera(password=b"another")]) as camera:
        source = source_of(camera.url, username="jürgen", password="größe", redial_delay=0)
        assert await refusals(source, 2) == [None, 300]
        assert camera.accepted == 6
