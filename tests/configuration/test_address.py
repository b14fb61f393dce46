"""A SOURCE is read once, and never shows its password."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.configuration.address import (
    Address,
    CommandAddress,
    HttpAddress,
    TestcardAddress,
    V4l2Address,
    parse_address,
)

# Reading


@pytest.mark.parametrize(
    ("text", "tls", "host", "port", "target"),
    [
        ("http://printer", False, "printer", 80, "/"),
        ("https://printer", True, "printer", 443, "/"),
        ("http://printer:8080/?action=stream", False, "printer", 8080, "/?action=stream"),
        ("http://printer?action=stream", False, "printer", 80, "/?action=stream"),
        ("http://Printer.LAN/Video", False, "printer.lan", 80, "/Video"),
        ("HTTP://printer/a", False, "printer", 80, "/a"),
        ("http://printer/a%20b?c=%2F&d", False, "printer", 80, "/a%20b?c=%2F&d"),
        ("http://printer/a#part", False, "printer", 80, "/a"),
        ("http://[fe80::1]:81/a", False, "fe80::1", 81, "/a"),
        ("http://[::1]", False, "::1", 80, "/"),
        ("http://192.168.1.200:8080", False, "192.168.1.200", 8080, "/"),
        ("http://printer:/a", False, "printer", 80, "/a"),
        ("http://printer./a", False, "printer.", 80, "/a"),
        ("http://printer?", False, "printer", 80, "/"),
        ("http://[FE80:0::1%25Eth0]:81/a", False, "fe80::1%Eth0", 81, "/a"),
        ("http://[fe80::1%eth0.5]/a", False, "fe80::1%eth0.5", 80, "/a"),
        ("http://bücher.local/ä", False, "xn--bcher-kva.local", 80, "/%C3%A4"),
    ],
)
def test_a_url_names_host_port_and_target(
    text: str, tls: bool, host: str, port: int, target: str
) -> None:
    assert parse_address(text) == HttpAddress(tls, host, port, target)


@pytest.mark.parametrize(
    ("userinfo", "username", "password"),
    [
        ("admin:secret", "admin", "secret"),
        ("admin", "admin", ""),
        ("admin:", "admin", ""),
        (":secret", "", "secret"),
        ("a%40b:c%3Ad%2Fe%25", "a@b", "c:d/e%"),
        ("admin:a:b", "admin", "a:b"),
        ("admin:p@ss", "admin", "p@ss"),
        ("admin:p[ss", "admin", "p[ss"),  # CowDogMoo/Walls-of-Excellence#1762
        ("admin:p]s:s", "admin", "p]s:s"),
        ("admin:[8080]", "admin", "[8080]"),
        ("admin:100%", "admin", "100%"),
        ("admin:p\\s℀s", "admin", "p\\s℀s"),
        ("j%C3%BCrgen:gr%C3%B6%C3%9Fe", "jürgen", "größe"),
    ],
)
def test_credentials_in_a_url_are_decoded(userinfo: str, username: str, password: str) -> None:
    address = HttpAddress.parse(f"http://{userinfo}@printer/a")
    assert (address.username, address.password) == (username, password)
    assert address.url == "http://printer/a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "printer",
        "printer:8080/?action=stream",
        "rtsp://printer/stream",
        "file:///etc/passwd",
        "http:",
        "http://",
        "http:///stream",
        "http://:8080/",
        "http://printer:port/",
        "http://printer:0/",
        "http://printer:65536/",
        "http://printer:99999/",
        "http://printer:" + "9" * 5000,
        "http://admin:secret@/",
        "http://admin:secret@:80/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[::zz]/",
        "http://[printer]/",
        "http://[fe80::1%]/",
        "http://::1/",
        "http://prin%74er/",
        "http://a℀b/",
        "http://" + "ü" * 80 + "/",
        "http://printer/\udcff",
        "http://printer/a b",
        "http://printer/a\r\nX-Injected: yes",
        "testcard",
        "testcard:640x480",
        "testcard:?size=640",
        "testcard:?size=8x8",
        "testcard:?size=99999x99999",
        "testcard:?fps=0",
        "testcard:?fps=nan",
        "testcard:?fps=many",
        "testcard:?colour=red",
        "exec:",
        "exec:  ",
        "exec:echo 'unclosed",
        "video0",
        "dev/video0",
        "usb:",
        "usb:046d",
        "usb:46d:825",
        "usb:046d:08255",
        "usb:046g:0825",
        "usb:046d:0825:",
        " usb:046d:0825",
    ],
)
def test_what_is_no_source_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"http://|test ?card|command|URL|usb:"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "size", "fps"),
    [
        ("testcard:", (640, 480), 15.0),
        ("testcard:?size=1280x720&fps=30", (1280, 720), 30.0),
        ("testcard:?fps=0.5", (640, 480), 0.5),
    ],
)
def test_a_test_card_has_a_size_and_a_rate(text: str, size: tuple[int, int], fps: float) -> None:
    assert parse_address(text) == TestcardAddress(size, fps)


def test_a_command_is_quoted_as_for_a_shell() -> None:
    address = parse_address("exec:ffmpeg -i 'my file.mp4' -f mjpeg -")
    assert address == CommandAddress(("ffmpeg", "-i", "my file.mp4", "-f", "mjpeg", "-"))


def test_the_name_of_a_scheme_may_be_in_capitals() -> None:
    assert parse_address("EXEC:ffmpeg") == CommandAddress(("ffmpeg",))
    assert parse_address("TESTCARD:") == TestcardAddress()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/dev/video0", V4l2Address(path="/dev/video0")),
        (
            "/dev/v4l/by-id/usb-046d_C270_A-video-index0",
            V4l2Address(path="/dev/v4l/by-id/usb-046d_C270_A-video-index0"),
        ),
        ("usb:046d:0825", V4l2Address(vendor="046d", product="0825")),
        ("USB:046D:08AF", V4l2Address(vendor="046d", product="08af")),
        ("usb:046d:0825:A1b", V4l2Address(vendor="046d", product="0825", serial="A1b")),
        ("usb:046d:0825:A B:C", V4l2Address(vendor="046d", product="0825", serial="A B:C")),
    ],
)
def test_a_camera_here_has_a_path_or_usb_ids(text: str, address: V4l2Address) -> None:
    assert parse_address(text) == address


@given(st.text(max_size=60) | st.text("htps:/@[]?#%&=x1.", max_size=40).map("http://".__add__))
def test_anything_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert address.label


# Writing


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://printer", "printer"),
        ("http://printer:80", "printer"),
        ("https://printer:443", "printer"),
        ("https://printer:80", "printer:80"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]"),
        ("http://[fe80::1%25eth0]:8080", "[fe80::1]:8080"),
        ("http://[fe80::1%eth0]", "[fe80::1]"),
    ],
)
def test_the_host_header_has_the_port_only_when_it_is_unusual_and_no_zone(
    text: str, authority: str
) -> None:
    assert HttpAddress.parse(text).authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "http://printer:8080/?action=stream",
        "https://[::1]:8443/a?action=stream",
        "http://[fe80::1%25eth0]/",
        "testcard:?size=640x480&fps=15",
        "testcard:?size=32x32&fps=0.5",
        "exec:ffmpeg -i 'a b' -",
        "/dev/video0",
        "usb:046d:0825",
        "usb:046d:0825:A B",
    ],
)
def test_a_label_without_secrets_is_the_address_again(text: str) -> None:
    assert parse_address(text).label == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://printer", "http://printer:80/"),
        ("http://printer/a", "http://PRINTER/a#b"),
        ("http://a:b@printer/", "http://c:d@printer/"),
        ("exec:echo a", "exec:  echo   'a'"),
        ("usb:046D:0825", "USB:046d:0825"),
        ("http://[fe80::1%25eth0]/", "http://[fe80:0::1%eth0]/"),
    ],
)
def test_two_ways_to_write_one_camera_are_identical(one: str, other: str) -> None:
    assert parse_address(one).identity == parse_address(other).identity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://printer/a", "http://printer/b"),
        ("http://printer/", "http://printer:8080/"),
        ("http://printer/", "https://printer/"),
        ("http://printer/?pwd=a", "http://printer/?pwd=b"),
        ("http://[fe80::1%25eth0]/", "http://[fe80::1%25eth1]/"),
        ("exec:echo a b", "exec:echo 'a b'"),
        ("/dev/video0", "/dev/video1"),
        ("usb:046d:0825:a", "usb:046d:0825:A"),
    ],
)
def test_two_cameras_are_not_identical(one: str, other: str) -> None:
    assert parse_address(one).identity != parse_address(other).identity


def test_everyone_has_a_test_card_of_his_own() -> None:
    assert parse_address("testcard:").identity is None


# Redirects

LOGGED_IN = HttpAddress.parse("http://admin:secret@printer:8080/a/b?c")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/d?e", "http://printer:8080/d?e"),
        ("d", "http://printer:8080/a/d"),
        ("?d", "http://printer:8080/a/b?d"),
        ("//printer:81/d", "http://printer:81/d"),
        ("https://printer/d", "https://printer/d"),
        ("http://PRINTER/d", "http://printer/d"),
        ("http://[fe80::1%25eth0]/d", "http://[fe80::1%25eth0]/d"),
    ],
)
def test_a_redirect_leads_where_a_browser_would_go(location: str, url: str) -> None:
    assert LOGGED_IN.redirected(location).url == url


@pytest.mark.parametrize("location", ["/d", "http://printer:8080/x", "https://printer/", "d?e"])
def test_credentials_follow_a_redirect_on_the_same_host(location: str) -> None:
    assert LOGGED_IN.may_share_secrets_with(LOGGED_IN.redirected(location))


@pytest.mark.parametrize(
    "location", ["http://other/", "//other/", "https://printer.evil.org/", "//printer:81/"]
)
def test_credentials_stay_behind_when_the_host_or_the_port_changes(location: str) -> None:
    assert not LOGGED_IN.may_share_secrets_with(LOGGED_IN.redirected(location))


def test_credentials_never_leave_tls() -> None:
    safe = HttpAddress.parse("https://printer/")
    assert not safe.may_share_secrets_with(safe.redirected("http://printer/"))


def test_credentials_in_a_redirect_are_those_to_use() -> None:
    there = LOGGED_IN.redirected("http://guest:guest@printer/")
    assert (there.username, there.password) == ("guest", "guest")


def test_a_redirect_within_an_address_with_a_zone_keeps_the_zone() -> None:
    there = HttpAddress.parse("http://[fe80::1%eth0]:81/a").redirected("/b")
    assert (there.host, there.port, there.target) == ("fe80::1%eth0", 81, "/b")


@pytest.mark.parametrize("location", ["http://[", "/a b", "http://other:x/"])
def test_a_redirect_to_no_url_is_a_value_error(location: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        LOGGED_IN.redirected(location)


@pytest.mark.parametrize("location", ["rtsp://printer/stream", "ftp://printer/", "file:///a"])
def test_a_redirect_to_anything_but_http_is_a_value_error(location: str) -> None:
    with pytest.raises(ValueError, match="http"):
        LOGGED_IN.redirected(location)


# Secrets

SECRETS = st.text(st.characters(min_codepoint=33, exclude_categories=["C", "Z"]), min_size=1)


@given(SECRETS, SECRETS)
def test_a_label_is_the_same_whatever_the_password(username: str, password: str) -> None:
    userinfo = f"{quote(username, safe='')}:{quote(password, safe='')}"
    address = HttpAddress.parse(f"http://{userinfo}@printer:8080/a")
    assert address.password == password
    assert address.label == "http://printer:8080/a"


@pytest.mark.parametrize(
    "text",
    [
        "http://admin:S3cret@printer/",
        "http://printer/snapshot.cgi?chn=0&u=admin&p=S3cret",
        "exec:curl -u admin:S3cret http://printer/",
    ],
)
def test_an_address_is_printed_without_its_password(text: str) -> None:
    address = parse_address(text)
    assert "S3cret" not in repr(address)
    assert "S3cret" not in address.label


@pytest.mark.parametrize("character", ["/", "?", "#"])
def test_what_is_wrong_with_a_url_is_said_without_its_password(character: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse_address(f"http://admin:hunter2{character}x@printer/")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://admin:secret@printer/?pwd=secret",
        "exec:ffmpeg -i rtsp://admin:secret@printer/ -f mjpeg -",
        "exec:ffmpeg -i 'rtsp://printer/?user=admin&password=secret' -f mjpeg -",
    ],
)
def test_no_label_holds_a_secret(text: str) -> None:
    address: Address = parse_address(text)
    assert "secret" not in address.label
