"""Asker: log-ins, redirects, cookies and headers, against a camera that follows a script."""

import asyncio
import base64
import hashlib
import re
from typing import Any, cast

import pytest

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import SourceRefused
from mjrelay.formats.authorization import BASIC
from mjrelay.sources.http import connection
from mjrelay.sources.http.dialling import Dialler
from mjrelay.sources.http.source import HttpSource
from tests.support.camera import (
    AskAuth,
    Frames,
    HttpHead,
    Script,
    ScriptedCamera,
    Send,
)
from tests.support.clock import jumping
from tests.support.quirks import answer

from .opening import failure, source_of, succeeding, take

ENDLESS: Script = [Send(HttpHead), Frames(fps=100)]


def digest(nonce: str, *, stale: bool = False) -> AskAuth:
    return AskAuth(f'Digest realm="cam", nonce="{nonce}"' + (", stale=true" if stale else ""))


def moved(path: str) -> Script:
    return [Send(answer(b"", None, f"Location: {path}", status="HTTP/1.1 302 Found"))]


def nonces(camera: ScriptedCamera) -> list[str]:
    """The nonce of each request's answer; empty for none."""
    found = (re.search(rb'nonce="(\w+)"', request) for request in camera.requests)
    return [match[1].decode() if match else "" for match in found]


async def test_a_reload_keeps_the_way_in_of_the_same_camera_and_user() -> None:
    async with ScriptedCamera([digest("a")], ENDLESS) as camera:
        me: dict[str, Any] = {"username": "me", "password": "secret"}
        before = source_of(camera.url, **me)
        await take(before, 1)
        await take(succeeding(before, camera.url, fps=5, **me), 1)
        for other in ({**me, "password": "new"}, {**me, "username": "you"}):
            await take(succeeding(before, camera.url, **other), 1)
        await take(succeeding(before, camera.url + "&other", **me), 1)
    assert nonces(camera) == ["", "a", "a", "", "", ""]


@pytest.mark.parametrize(
    "location", ["http://me:x S3cret@h/", "http://[me:S3cret@h/", "http://h:x/?p=x S3cret"]
)
async def test_a_redirect_that_leads_nowhere_shows_no_secret(location: str) -> None:
    async with ScriptedCamera(moved(location)) as camera:
        source = source_of(camera.url)
        _, error = await failure(source)
    assert "which is no HTTP address" in error.reason
    assert "S3cret" not in error.reason + str(source.facts())
    assert any(header.startswith("location: http://") for header in source.facts()["headers"])


class SlowCamera:
    """A camera that takes all the time it is allowed, at each step; and the way to it.

    Args:
        source: Who asks it.
        answers: What it answers, one after the other; then nothing.
    """

    def __init__(self, source: HttpSource, *answers: bytes) -> None:
        self.dials = 0
        self._config = source._config
        self._answers = list(answers)

    async def dial(self, _: HttpAddress) -> "SlowCamera":
        """As Dialler: look-up and TCP, then TLS."""
        self.dials += 1
        await asyncio.sleep(2 * self._config.connect_timeout)
        return self

    def send(self, _: bytes) -> None:
        """As Connection."""

    async def read(self) -> bytes:
        """As Connection."""
        await asyncio.sleep(self._config.first_frame_timeout - 1e-6)
        return self._answers.pop(0)

    async def pump(self, _: object) -> bool:
        """As Connection."""
        await asyncio.sleep(3600)
        return False

    async def close(self) -> bool:
        """As Connection, of a camera that is deaf to our FIN."""
        await asyncio.sleep(connection.CLOSE_TIMEOUT)
        return False


@jumping
async def test_no_attempt_outlasts_the_patience() -> None:
    loop = asyncio.get_running_loop()
    moved_on = answer(b"", None, "Location: /x", status="HTTP/1.1 302 Found")
    challenge = 'WWW-Authenticate: Digest realm="cam", nonce="n", stale=true'
    asked = answer(b"", None, challenge, status="HTTP/1.1 401 No")
    forbidden = answer(b"", None, status="HTTP/1.1 403 Forbidden")
    for last in (HttpHead, moved_on, asked):
        us = source_of("https://camera.test/", username="me", password="secret", redial_delay=3)
        us._asker._known.login.take_up(BASIC)
        # Each redirect wears the nonce out that was got before it.
        camera = SlowCamera(us, forbidden, *[asked, moved_on, forbidden] * 3, last)
        us._asker._dialler = cast(Dialler, camera)
        us._asker._known.closed_at = began = loop.time()
        with pytest.raises((TimeoutError, SourceRefused)):
            async with us.open() as stream, asyncio.timeout(us._config.first_frame_timeout):
                await stream(lambda *_: None)
        assert camera.dials == 11  # what is hurried and repeated takes less
        assert us.patience - 46 < loop.time() - began <= us.patience


async def test_the_request_is_short_and_asks_to_close() -> None:
    async with ScriptedCamera(ENDLESS) as camera:
        await take(source_of(camera.url), 1)
    request = camera.requests[0].decode()
    assert request.startswith("GET /?action=stream HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{camera.port}\r\n" in request
    assert "Connection: close\r\n" in request
    assert "Accept-Encoding: identity\r\n" in request
    assert request.count("\r\n") == 7


async def test_http_1_0_is_asked_for_where_configured() -> None:
    async with ScriptedCamera(ENDLESS) as camera:
        await take(source_of(camera.url, http_version="1.0"), 1)
    assert camera.requests[0].startswith(b"GET /?action=stream HTTP/1.0\r\n")


async def test_a_redirect_to_another_host_is_not_told_the_password() -> None:
    async with ScriptedCamera([AskAuth('Basic realm="x"')]) as other:
        moved = answer(
            b"", None, f"Location: http://localhost:{other.port}/", status="HTTP/1.1 302"
        )
        async with ScriptedCamera([AskAuth('Basic realm="cam"')], [Send(moved)]) as camera:
            _, error = await failure(source_of(camera.url, username="me", password="secret"))
        assert b"Authorization" in camera.requests[1]
        assert b"Authorization" not in other.requests[0]
    assert "which asks for a password" in error.reason


async def test_redirects_are_followed_after_closing() -> None:
    moved = Send(answer(b"", None, "Location: /video", status="HTTP/1.1 302 Found"))
    async with ScriptedCamera([moved], ENDLESS) as camera:
        await take(source_of(camera.url), 1)
        assert camera.requests[1].startswith(b"GET /video HTTP/1.1")
        assert camera.most_open == 1


async def test_a_fourth_redirect_is_one_too_many() -> None:
    moved = Send(answer(b"", None, "Location: /video", status="HTTP/1.1 302 Found"))
    async with ScriptedCamera([moved]) as camera:
        _, error = await failure(source_of(camera.url))
    assert isinstance(error, SourceRefused)
    assert "redirects" in error.reason
    assert camera.accepted == 4


async def test_basic_credentials_are_sent_only_when_asked_for() -> None:
    async with ScriptedCamera([AskAuth('Basic realm="cam"')], ENDLESS) as camera:
        url = camera.url.replace("http://", "http://me:p%40ss%3A%25@")
        source = source_of(url)
        await take(source, 1)
        await take(source, 1)
    expected = b"Authorization: Basic " + base64.b64encode(b"me:p@ss:%")
    assert b"Authorization" not in camera.requests[0]
    assert expected in camera.requests[1]
    assert expected in camera.requests[2], "remembered: no second 401 for a one-slot camera"
    assert camera.most_open == 1


async def test_digest_credentials_answer_the_cameras_nonce() -> None:
    challenge = 'Digest realm="cam", nonce="abc", qop="auth", algorithm=MD5'
    async with ScriptedCamera([AskAuth(challenge)], ENDLESS) as camera:
        await take(source_of(camera.url, username="me", password="secret"), 1)
    sent = camera.requests[1].decode()
    fields = dict(re.findall(r'(\w+)="?([^",\r]+)"?', sent.partition("Digest ")[2]))
    ha1 = hashlib.md5(b"me:cam:secret").hexdigest()
    ha2 = hashlib.md5(b"GET:/?action=stream").hexdigest()
    expected = f"{ha1}:abc:{fields['nc']}:{fields['cnonce']}:auth:{ha2}"
    assert fields["response"] == hashlib.md5(expected.encode()).hexdigest()


async def test_a_stale_nonce_is_replaced() -> None:
    first, second = (AskAuth(f'Digest realm="cam", nonce="{nonce}"') for nonce in "ab")
    async with ScriptedCamera([first], ENDLESS, [second], ENDLESS) as camera:
        source = source_of(camera.url, username="me", password="secret")
        await take(source, 1)
        await take(source, 1)
    assert b'nonce="a"' in camera.requests[2]
    assert b'nonce="b"' in camera.requests[3]


@pytest.mark.parametrize("stale", [True, False])
async def test_behind_a_redirect_a_nonce_may_be_another(stale: bool) -> None:
    scripts = [[digest("a")], moved("/video"), [digest("b", stale=stale)], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        await take(source_of(camera.url, username="me", password="secret"), 1)
    assert nonces(camera) == ["", "a", "a", "b"]


async def test_a_nonce_that_is_stale_at_once_is_replaced() -> None:
    async with ScriptedCamera([digest("a")], [digest("b", stale=True)], ENDLESS) as camera:
        await take(source_of(camera.url, username="me", password="secret"), 1)
    assert nonces(camera) == ["", "a", "b"]


async def test_nonces_that_are_always_stale_are_given_up() -> None:
    async with ScriptedCamera([digest("a", stale=True)]) as camera:
        _, error = await failure(source_of(camera.url, username="me", password="secret"))
        assert camera.accepted == 4
    assert isinstance(error, SourceRefused)
    assert "wants another login each time" in error.reason
    assert error.hint


async def test_a_wrong_password_behind_a_redirect_is_said() -> None:
    scripts = [[digest("a")], moved("/video"), [digest("b")]]
    async with ScriptedCamera(*scripts) as camera:
        _, error = await failure(source_of(camera.url, username="me", password="wrong"))
        assert camera.accepted == 4
    assert "refuses the user name or the password" in error.reason


async def test_pages_that_redirect_and_ask_in_turns_come_to_an_end() -> None:
    turns = [[digest("a", stale=True)], moved("/b"), [digest("b")], moved("/c"), [digest("c")]]
    async with ScriptedCamera(*turns, moved("/d"), [digest("d")]) as camera:
        _, error = await failure(source_of(camera.url, username="me", password="secret"))
        assert camera.accepted == 7
    assert isinstance(error, SourceRefused)


async def test_a_login_that_would_sign_the_body_is_unknown() -> None:
    async with ScriptedCamera([AskAuth('Digest realm="r", nonce="n", qop="auth-int"')]) as camera:
        _, error = await failure(source_of(camera.url, username="me", password="secret"))
        assert camera.accepted == 1
    assert "a kind of login unknown here: Digest" in error.reason
    assert "auth-int" in error.reason


async def test_a_wrong_password_is_said_and_not_tried_for_ever() -> None:
    async with ScriptedCamera([AskAuth('Basic realm="cam"')]) as camera:
        _, error = await failure(source_of(camera.url, username="me", password="wrong"))
        assert isinstance(error, SourceRefused)
        assert "refuses the user name or the password" in error.reason
        assert camera.accepted == 2


async def test_a_missing_password_is_said() -> None:
    async with ScriptedCamera([AskAuth('Basic realm="cam"')]) as camera:
        _, error = await failure(source_of(camera.url))
    assert "asks for a user name and password" in error.reason
    assert error.hint
    assert "password_file" in error.hint
