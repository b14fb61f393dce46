"""Asker: cookies that a camera sets, and headers that the configuration sets."""

import pytest

from mjrelay.configuration.address import HttpAddress
from mjrelay.configuration.headers import Header
from mjrelay.configuration.redaction import redact
from mjrelay.errors import SourceRefused
from mjrelay.formats.http1 import ResponseHead
from mjrelay.sources.http.cookies import Cookies
from tests.support.camera import (
    AskAuth,
    Close,
    Frames,
    HttpHead,
    Reset,
    Script,
    ScriptedCamera,
    Send,
    Step,
)
from tests.support.pictures import picture
from tests.support.quirks import HTML, answer

from .opening import failure, source_of, succeeding, take
from .test_asking_logins import ME, By, asked_at_once

CAMERA = HttpAddress.parse("http://camera.test/cgi/video?x=1")
ENDLESS: Script = [Send(HttpHead), Frames(fps=100)]
HERE = "Location: /?action=stream"
FOUND = "HTTP/1.1 302 Found"


def needs_cookie(*set_cookie: str, wanted: str = "s=1") -> By:
    """A camera that sets a cookie with a redirect to the same address, and wants it back."""

    def rule(request: str) -> bytes | None:
        if f"\nCookie: {wanted}\r\n" in request:
            return None
        headers = [f"Set-Cookie: {cookie}" for cookie in set_cookie]
        return answer(b"", None, HERE, *headers, status=FOUND)

    return By(rule)


def cookies_sent(camera: ScriptedCamera) -> list[str]:
    """The Cookie header of each request; empty for none."""
    requests = [request.decode() for request in camera.requests]
    return [request.partition("\nCookie: ")[2].partition("\r\n")[0] for request in requests]


# Cookies of a camera


@pytest.mark.parametrize(
    "cookie",
    [
        "s=1",
        "s=1; Path=/",
        "s=1; path=/; HttpOnly; SameSite=Strict; Secure",
        " s = 1 ;",
        "s=1; Max-Age=60",
        "s=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT",
        "s=1; Domain=elsewhere.test",
    ],
)
async def test_a_cookie_set_on_the_way_is_sent_back_and_kept(cookie: str) -> None:
    """evercam/evercam-server#5 (Ubiquiti), homebridge-camera-ffmpeg#60, niqdev/ipcam-view#74."""
    async with ScriptedCamera([needs_cookie(cookie)], one_slot=True) as camera:
        await asked_at_once(source_of(camera.url, redial_delay=60), askings=3)
        assert camera.most_open == 1
    assert cookies_sent(camera) == ["", "s=1", "s=1", "s=1"]


async def test_a_camera_that_is_polled_gets_its_cookie_each_time() -> None:
    def rule(request: str) -> bytes:
        return ONE_PICTURE if "Cookie: s=1" in request else SET

    async with ScriptedCamera([By(rule)], one_slot=True) as camera:
        assert await take(source_of(camera.url, fps=50), 4) == [picture(1)] * 4
        assert camera.accepted == 5


ONE_PICTURE = answer(picture(1), "image/jpeg", f"Content-Length: {len(picture(1))}")
SET = answer(b"", None, HERE, "Set-Cookie: s=1", status=FOUND)


async def test_cookies_come_with_every_kind_of_answer() -> None:
    asks = answer(b"", None, "Set-Cookie: a=1", ASK_BASIC, status="HTTP/1.1 401 No")
    pictures = HttpHead.removesuffix(b"\r\n") + b"Set-Cookie: b=2; Path=/\r\n\r\n"
    async with ScriptedCamera([Send(asks)], [Send(pictures), Frames(fps=100)], ENDLESS) as camera:
        await asked_at_once(source_of(camera.url, **ME, redial_delay=60), askings=2)
    assert cookies_sent(camera) == ["", "a=1", "a=1; b=2"]


ASK_BASIC = 'WWW-Authenticate: Basic realm="camera"'


@pytest.mark.parametrize(
    "end", ["s=1; Max-Age=0", "s=; Max-Age=-1", "s=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
)
async def test_a_cookie_that_a_camera_ends_is_not_sent_again(end: str) -> None:
    ends = HttpHead.removesuffix(b"\r\n") + f"Set-Cookie: {end}\r\n\r\n".encode()
    ending: Script = [Send(ends), Frames(fps=100)]
    async with ScriptedCamera([Send(SET)], ending, ENDLESS) as camera:
        await asked_at_once(source_of(camera.url, redial_delay=60), askings=2)
    assert cookies_sent(camera) == ["", "s=1", ""]


@pytest.mark.parametrize("status", ["403 Forbidden", "401 Unauthorized", "400 Bad Request"])
async def test_a_cookie_kept_from_before_is_dropped_when_it_is_refused(status: str) -> None:
    """As a challenge is: the camera has forgotten the session."""
    refused = answer(HTML, "text/html", status=f"HTTP/1.1 {status}")
    scripts: list[Script] = [[Send(SET)], ENDLESS, [Send(refused)], [Send(SET)], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        await asked_at_once(source_of(camera.url, redial_delay=60), askings=2)
    assert cookies_sent(camera) == ["", "s=1", "s=1", "", "s=1"]


async def test_a_cookie_that_leads_to_a_page_without_pictures_is_not_kept() -> None:
    page = answer(HTML, "text/html")
    scripts: list[Script] = [[Send(SET)], ENDLESS, [Send(page)], [Send(SET)], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        source = source_of(camera.url, redial_delay=0)
        await take(source, 1)
        await failure(source)
        await take(source, 1)
    assert cookies_sent(camera) == ["", "s=1", "s=1", "", "s=1"]


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "503 Busy"])
async def test_a_cookie_set_with_a_page_is_sent_the_next_time(status: str) -> None:
    page = answer(HTML, "text/html", "Set-Cookie: s=1", status=f"HTTP/1.1 {status}")
    scripts: list[Script] = [[Send(page)], ENDLESS, [Send(page)], [Send(page)], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        source = source_of(camera.url, redial_delay=0)
        await failure(source)
        await take(source, 1)
        await failure(source)
        if status == "403 Forbidden":  # asked anew at once
            assert camera.accepted == 4
        else:
            await failure(source)
        await take(source, 1)
    assert cookies_sent(camera)[:3] == ["", "s=1", "s=1"]


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["closes", "resets"])
async def test_a_cookie_to_which_a_camera_hangs_up_is_not_kept(end: Step) -> None:
    scripts: list[Script] = [[Send(SET)], ENDLESS, [end], [Send(SET)], ENDLESS]
    async with ScriptedCamera(*scripts) as camera:
        source = source_of(camera.url, redial_delay=0)
        await take(source, 1)
        await failure(source)
        await take(source, 1)
    assert cookies_sent(camera) == ["", "s=1", "s=1", "", "s=1"]


async def test_a_cookie_is_sent_to_nobody_else() -> None:
    async with ScriptedCamera(ENDLESS) as other:
        away = f"Location: http://127.0.0.1:{other.port}/?action=stream"
        moved = answer(b"", None, away, "Set-Cookie: s=1; Domain=127.0.0.1", status=FOUND)
        async with ScriptedCamera([Send(moved)]) as camera:
            await take(source_of(camera.url), 1)
    assert cookies_sent(other) == [""]


async def test_a_reload_keeps_the_cookies_of_the_same_camera_and_user() -> None:
    async with ScriptedCamera([needs_cookie("s=1")]) as camera:
        before = source_of(camera.url, **ME, redial_delay=0)
        await take(before, 1)
        await take(succeeding(before, camera.url, **ME, fps=5), 1)
        await take(succeeding(before, camera.url, username="you", password="secret"), 1)
    assert cookies_sent(camera) == ["", "s=1", "s=1", "", "s=1"]


async def test_what_a_probe_shows_holds_no_cookie() -> None:
    head = HttpHead.removesuffix(b"\r\n") + b"Set-Cookie: s=hunter2; Path=/\r\n\r\n"
    async with ScriptedCamera([Send(head), Frames(fps=100)]) as camera:
        source = source_of(camera.url)
        await take(source, 1)
    assert "set-cookie: s=***; Path=/" in source.facts()["headers"]
    assert "hunter2" not in str(source.facts())


# The jar


def jar(*cookies: str, date: str = "", setter: HttpAddress = CAMERA) -> Cookies:
    made = Cookies()
    headers = [("set-cookie", cookie) for cookie in cookies]
    head = ResponseHead(headers=[*headers, *([("date", date)] if date else [])])
    made.take(head, setter, now=0, wall=1_700_000_000)
    return made


def sent_to(url: str, jar: Cookies, *, now: float = 0) -> str:
    return jar.header(HttpAddress.parse(url), now=now)


@pytest.mark.parametrize(
    ("cookie", "url", "sent"),
    [
        ("a=1", "http://camera.test/cgi/other", True),
        ("a=1", "http://camera.test/cgi", True),
        ("a=1", "http://camera.test/cgibin", False),
        ("a=1", "http://camera.test/", False),
        ("a=1; Path=/", "http://camera.test/", True),
        ("a=1; Path=/cgi/", "http://camera.test/cgi/video", True),
        ("a=1; Path=cgi", "http://camera.test/cgi/video", True),
        ("a=1", "http://other.test/cgi/video", False),
        ("a=1", "http://camera.test:8080/cgi/video", False),
        ("a=1", "https://camera.test/cgi/video", True),
    ],
)
def test_a_cookie_is_for_its_path_and_its_camera(cookie: str, url: str, sent: bool) -> None:
    assert sent_to(url, jar(cookie)) == ("a=1" if sent else "")


def test_a_cookie_of_https_is_not_sent_in_the_open() -> None:
    secret = jar("a=1; Path=/", setter=HttpAddress.parse("https://camera.test/"))
    assert sent_to("https://camera.test/", secret) == "a=1"
    assert not sent_to("http://camera.test/", secret)


def test_the_more_exact_path_goes_first() -> None:
    both = jar("a=1; Path=/", "a=2; Path=/cgi")
    assert sent_to("http://camera.test/cgi/video", both) == "a=2; a=1"


def test_a_cookie_ends_when_it_said() -> None:
    lasting = jar("a=1; Max-Age=10; Path=/", "b=2; Path=/; Expires=Tue, 14 Nov 2023 22:13:40 GMT")
    assert sent_to("http://camera.test/", lasting, now=9) == "a=1; b=2"
    assert sent_to("http://camera.test/", lasting, now=15) == "b=2"
    assert not sent_to("http://camera.test/", lasting, now=21)


def test_a_camera_whose_clock_is_wrong_counts_by_its_own() -> None:
    cookie = "a=1; Path=/; Expires=Thu, 01 Jan 1970 01:00:30 GMT"
    early = jar(cookie, date="Thu, 01 Jan 1970 00:00:30 GMT")
    assert sent_to("http://camera.test/", early, now=3599) == "a=1"
    assert not sent_to("http://camera.test/", early, now=3601)


@pytest.mark.parametrize(
    "cookie",
    ["", "a", "=1", "a b=1", "a=\x00", "a\x7f=1", "a=" + "x" * 5000, ";", "a\rb=1"],
)
def test_what_is_no_cookie_is_none(cookie: str) -> None:
    assert not sent_to("http://camera.test/cgi/", jar(cookie))


@pytest.mark.parametrize("expires", ["", "x", "99999999999999999999", "Thu, 99 Foo 1970", "0 0 0"])
def test_a_date_that_is_none_ends_nothing(expires: str) -> None:
    assert sent_to("http://camera.test/", jar(f"a=1; Path=/; Expires={expires}")) == "a=1"


def test_cookies_without_end_are_not_kept() -> None:
    many = jar(*(f"c{number}=1; Path=/" for number in range(1000)))
    assert sent_to("http://camera.test/", many).count("=") == 20
    assert "c999=1" in sent_to("http://camera.test/", many)
    large = jar(*(f"c{number}={'x' * 4000}; Path=/" for number in range(20)))
    assert len(sent_to("http://camera.test/", large)) < 8300


def test_a_cookie_of_the_same_name_takes_the_place_of_the_one_before() -> None:
    assert sent_to("http://camera.test/", jar("a=1; Path=/", "a=2; Path=/")) == "a=2"


@pytest.mark.parametrize(
    ("header", "shown"),
    [("s=1", "s=***"), ("s=1; Path=/", "s=***; Path=/"), ("secret", "***"), ("a=b=c;", "a=***;")],
)
def test_people_see_no_value(header: str, shown: str) -> None:
    assert redact(f"set-cookie: {header}") == f"set-cookie: {shown}"


# Headers of the configuration


def headers_of(request: bytes) -> list[str]:
    return request.decode("latin-1").split("\r\n")[1:-2]


async def test_configured_headers_are_sent_beside_and_in_place_of_ours() -> None:
    """AlexxIT/go2rtc#1630, youribonnaffe/iegeek-security-camera#1."""
    headers = {
        "Referer": Header("http://camera/ü"),
        "user-agent": Header("Mozilla/5.0"),
        "Accept": Header("image/*"),
        "Authorization": Header("Bearer x", is_secret=True),
    }
    async with ScriptedCamera(ENDLESS) as camera:
        await take(source_of(camera.url, headers=headers), 1)
    assert headers_of(camera.requests[0]) == [
        f"Host: 127.0.0.1:{camera.port}",
        "User-Agent: Mozilla/5.0",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "Connection: close",
        "Referer: http://camera/ü".encode().decode("latin-1"),
        "Authorization: Bearer x",
    ]


async def test_a_configured_cookie_is_sent_beside_the_camera_s() -> None:
    headers = {"Cookie": Header("a=1", is_secret=True)}
    async with ScriptedCamera([Send(SET)], ENDLESS) as camera:
        await take(source_of(camera.url, headers=headers), 1)
    assert cookies_sent(camera) == ["a=1", "a=1; s=1"]


async def test_a_secret_header_is_not_sent_to_a_host_behind_a_redirect() -> None:
    headers = {"X-Token": Header("x", is_secret=True), "Referer": Header("http://camera/")}
    async with ScriptedCamera(ENDLESS) as other:
        moved = answer(b"", None, f"Location: http://localhost:{other.port}/", status=FOUND)
        async with ScriptedCamera([Send(moved)]) as camera:
            await take(source_of(camera.url, headers=headers), 1)
    assert "X-Token: x" in headers_of(camera.requests[0])
    assert not any("X-Token" in header for header in headers_of(other.requests[0]))
    assert "Referer: http://camera/" in headers_of(other.requests[0])


async def test_an_authorization_of_the_configuration_that_is_refused_is_named() -> None:
    headers = {"authorization": Header("Bearer x", is_secret=True)}
    async with ScriptedCamera([AskAuth('Bearer realm="hass"')]) as camera:
        _, error = await failure(source_of(camera.url, headers=headers))
        assert camera.accepted == 1
    assert isinstance(error, SourceRefused)
    assert error.reason == "the camera refuses the Authorization that headers sets (401)"
    assert error.hint
