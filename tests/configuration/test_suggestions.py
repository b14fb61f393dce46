"""A SOURCE that is none is answered with what was most likely meant, ready to be copied."""

import contextlib
import shlex
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.configuration.address import CommandAddress, parse_address
from mjrelay.configuration.suggestions import explain, read_source, shown


def said(text: str) -> str:
    """What a person is told who typed this source in a shell."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_source(text)
    return explain(caught.value, shown(text), shlex.quote)


def guess(text: str) -> str:
    """What the person is told to type, as the program would get it."""
    sentence = said(text)
    assert "did you mean " in sentence or ": write " in sentence
    quoted = sentence.partition("did you mean ")[2] or sentence.partition(": write ")[2]
    return shlex.split(quoted.partition(" (***")[0].removesuffix("?"))[0].removesuffix("?")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.168.1.200:8080/?action=stream", "http://192.168.1.200:8080/?action=stream"),
        ("printer.local", "http://printer.local"),
        ("printer.local:8080", "http://printer.local:8080"),
        ("printer:8080", "http://printer:8080"),
        ("printer/?action=stream", "http://printer/?action=stream"),
        ("printer/stream", "http://printer/stream"),
        ("192.168.1.200", "http://192.168.1.200"),
        ("localhost", "http://localhost"),
        ("192.168.1.200:8443/video", "https://192.168.1.200:8443/video"),
        ("[fe80::1%eth0]:8080/", "http://[fe80::1%eth0]:8080/"),
        ("fe80::1", "http://[fe80::1]/"),
        ("//printer.local/x", "http://printer.local/x"),
        ("htp://192.168.1.5/x", "http://192.168.1.5/x"),
        ("htttps://printer/", "https://printer/"),
        ("ttp://printer/", "http://printer/"),
        ("http:/printer/a", "http://printer/a"),
        ("http//printer", "http://printer"),
        ("http:printer/a", "http://printer/a"),
        ("http;//printer/", "http://printer/"),
        ("http:///printer/", "http://printer/"),
        ("http:\\\\printer\\a", "http://printer/a"),
        ("http://http://printer/", "http://printer/"),
        ("http:://printer/", "http://printer/"),
        ("http: //printer/", "http://printer/"),
        ("mjpeg://printer/a", "http://printer/a"),
        ("“http://printer/”", "http://printer/"),
        ("'http://printer/'", "http://printer/"),
        ("http://fe80::1/a", "http://[fe80::1]/a"),
        ("http://fe80::1:8080", "http://[fe80::1]:8080/"),
        ("2001:db8::1:8080", "http://[2001:db8::1]:8080/"),
        ('<img src="http://printer/?action=stream">', "http://printer/?action=stream"),
        ("<http://printer/>", "http://printer/"),
        ("ffmpeg:http://printer/a#video=mjpeg", "http://printer/a#video=mjpeg"),
        ("192.168.1.5/film.mp4", "http://192.168.1.5/film.mp4"),
        ("192.168.1.5/cgi/cam.py", "http://192.168.1.5/cgi/cam.py"),
    ],
)
def test_an_address_without_http_is_completed(text: str, meant: str) -> None:
    assert guess(text) == meant
    parse_address(meant)


@pytest.mark.parametrize("text", ["HTTP://printer/", " http://printer/ ", "\ufeffhttp://printer/"])
def test_what_can_mean_one_thing_only_is_taken(text: str) -> None:
    assert read_source(text) == parse_address("http://printer/")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("video0", "/dev/video0"),
        ("0", "/dev/video0"),
        ("/dev/video", "/dev/video0"),
        ("dev/video2", "/dev/video2"),
        ("/dev/Video2", "/dev/video2"),
        ("v4l2:///dev/video1", "/dev/video1"),
        ("webcam", "/dev/video0"),
        ("video:1", "/dev/video1"),
        ("v4l2:device?video=/dev/video2&video_size=640x480", "/dev/video2"),
        ("input_uvc.so -d /dev/video2 -r 640x480", "/dev/video2"),
        ("usb-046d_0825_A-video-index0", "/dev/v4l/by-id/usb-046d_0825_A-video-index0"),
        ("/home/pi/cam.sh -x", "exec:/home/pi/cam.sh -x"),
        ("curl -s http://printer/", "exec:curl -s http://printer/"),
        ("046D:0825", "usb:046d:0825"),
        ("Bus 001 Device 004: ID 046d:0825 Logitech, Inc. Webcam", "usb:046d:0825"),
        ("testcard", "testcard:"),
        ("tesctard:", "testcard:"),
        ("ffmpeg -i x -f mjpeg -", "exec:ffmpeg -i x -f mjpeg -"),
    ],
)
def test_a_camera_of_this_computer_is_named(text: str, meant: str) -> None:
    assert guess(text) == meant
    parse_address(meant)


@pytest.mark.parametrize("text", ["rtsp", "rtsps", "rtmp", "udp", "srt", "RTSP", "rtps"])
def test_what_only_ffmpeg_opens_is_a_line_with_ffmpeg(text: str) -> None:
    meant = parse_address(guess(f"{text}://192.168.1.70:554/stream1?channel=1&subtype=0"))
    assert isinstance(meant, CommandAddress)
    assert meant.arguments[:4] == ("ffmpeg", "-nostdin", "-loglevel", "error")
    url = meant.arguments[meant.arguments.index("-i") + 1]
    assert url.endswith("://192.168.1.70:554/stream1?channel=1&subtype=0")
    assert ("-rtsp_transport" in meant.arguments) == url.startswith("rtsp")
    assert meant.arguments[-1] == "-"


@pytest.mark.parametrize("path", ["film.mp4", "/home/me/my film.mkv", "file:///film.mp4"])
def test_a_film_is_a_line_with_ffmpeg(path: str) -> None:
    meant = parse_address(guess(path))
    assert isinstance(meant, CommandAddress)
    assert path.removeprefix("file://") in meant.arguments


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://PRINTER:8080/?action=stream", "write your printer's address for PRINTER"),
        ("http://admin:secret@PRINTER", "write your printer's address for PRINTER"),
        ("PRINTER:8080", "write your printer's address for PRINTER"),
        ("http://MJRELAY:8080/stream", "the computer that mjrelay runs on for MJRELAY"),
        ("http://CAMERA/…", "write your camera's address for CAMERA"),
        ("exec:ffmpeg -i rtsp://CAMERA/x -f mjpeg -", "write your camera's address for CAMERA"),
        ("exec:ffmpeg -i URL -f mjpeg -", "write your camera's address for URL"),
        ("http://USER:PASSWORD@192.168.1.5/", "write your user name and password"),
        ("http://192.168.1.5:PORT/", "write the number of the port"),
        ("http://192.168.1.x/", "write your camera's own numbers for x"),
        ("http://…", "write the whole address"),
        ("/dev/videoN", "write a number for N"),
        ("http://<PRINTER>:8080/", "write your printer's address for PRINTER"),
        ("http://<your octopi ip>/webcam", "write your camera's address, such as"),
        ("http://me:x@{ip}:8080/", "write your camera's address, such as"),
        ("http://YOUR_IP:8080/", "write your camera's address, such as"),
        ("usb:VVVV:PPPP", "write your camera's numbers for VVVV:PPPP"),
    ],
)
def test_a_stand_in_is_to_be_replaced(text: str, sentence: str) -> None:
    assert sentence in said(text)
    assert "secret" not in said(text)


@pytest.mark.parametrize(
    "text",
    [
        *(f"testcard:?{size}" for size in ("fps=2", "fps=0.1", "size=64x64", "fps=30&size=32x32")),
        *("testcard:", "testcard:?", "TESTCARD:?fps=5"),
        *("/dev/video0", "/dev/video12", "/dev/v4l/by-id/usb-046d_0825-video-index0"),
        *("usb:046d:0825", "usb:046D:0825:ABC", "exec:cat film.mjpeg", "exec:./cam -o -"),
        *("http://cam/", "https://cam", "http://10.0.0.1:81/stream", "http://[::1]:80/?a=b"),
    ],
)
def test_what_can_be_opened_is_no_mistake(text: str) -> None:
    assert read_source(text) == parse_address(text)


@pytest.mark.parametrize(
    "text", ["http://printer/", "http://host:8080/", "http://ip.local/", "http://{a:b@h/"]
)
def test_a_name_that_only_looks_like_a_stand_in_is_a_name(text: str) -> None:
    read_source(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mjrelay.toml", "did you mean --config mjrelay.toml?"),
        ("/etc/my relay.conf", "did you mean --config '/etc/my relay.conf'?"),
        ("8080", "did you mean --port 8080?"),
        ("?action=stream", "is a path alone: write the camera's address in front of it"),
        ("/?action=stream", "is a path alone: write the camera's address in front of it"),
        ("ffmpeg:rtsp://cam/1#video=mjpeg", "-i rtsp://cam/1 -an"),
        ("", "a source is missing"),
        ("a\0b", "no NUL"),
    ],
)
def test_what_is_no_source_at_all_is_said_to_be_none(text: str, sentence: str) -> None:
    assert sentence in said(text)


@pytest.mark.parametrize(
    "text",
    [
        "printer",
        "gopher://printer/",
        "rtsp:/",
        "rtsp://",
        "http:",
        "exec:",
        "usb:046d",
        "http://printer:0/",
        "http://:8080/",
        "\udcff",
        "picture.jpg",
        "cam.py",
        "input_uvc.so",
    ],
)
def test_of_other_texts_it_is_said_what_was_expected(text: str) -> None:
    assert said(text).startswith("expected ")
    assert said(text).endswith(f", got {text}")


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "http://admin:p@zz/kk@192.168.1.5/",
        "http://admin:zz?kk@192.168.1.5/",
        "http://admin:zz#kk@192.168.1.5/",
        "http//admin:zz/kk@192.168.1.5/",
        "rtsp://admin:1234/kk@192.168.1.5/",
        "rtsp:/admin:1234/kk@192.168.1.5/",
        "ffmpeg:rtsp://admin:1234/kk@192.168.1.5/",
        "http://admin:1234/kk@192.168.1.5/",
        "http://admin:zz/k/k@192.168.1.5:8080/a",
        "admin:p@zz/kk@192.168.1.5/",
        "htp://admin:p@zz/kk@192.168.1.5/",
    ],
)
def test_a_password_that_would_end_the_host_is_refused_with_the_escapes(text: str) -> None:
    sentence = said(text)
    for character in "/?#@[]:%":
        assert f"{character} as {quote(character, safe='')}" in sentence
    assert "zz" not in sentence
    assert "kk" not in sentence


@pytest.mark.parametrize(
    "text",
    ["http://printer/a@b", "http://printer/?mail=a@b", "http://[::1]:80/", "http://a:b@[::1]/"],
)
def test_an_at_sign_that_can_be_no_password_s_is_taken(text: str) -> None:
    read_source(text)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:S3cret@192.168.1.70/stream1",
        "rtsp://192.168.1.70/user=admin&password=S3cret",
        "rtmp://192.168.1.70/live?u=admin&p=S3cret",
        "admin:S3cret@192.168.1.70/video",
        "192.168.1.70/video?u=admin&p=S3cret",
        "admin:S3cret@printer",
        "ffmpeg -i rtsp://admin:S3cret@192.168.1.70/ -f mjpeg -",
        "gopher://admin:S3cret@printer/",
        "“http://admin:S3cret@printer/”",
        "http://admin:S3cret/x",
        "exec:curl -u admin:S3cret 'http://cam/",
        "ffmpeg:rtsp://admin:S3cret@cam/1#video=mjpeg",
        "/?u=S3cret",
        "/?u=x@S3cret",
        "/?u=http://S3cret",
        "192.168.1.5/?u=x S3cret",
        "//admin:x/S3cret@printer/",
        "http://admin:x S3cret@printer/",
        "http://printer/?p=x S3cret",
        "my cam = http://admin:x S3cret@printer/",
        "<http://admin:x S3cret@printer/>",
        "http://admin:1234/S3cret@[::1",
        "onvif://admin:1234/S3cret@printer/",
        "rtsp://admin:x S3cret@printer/",
        "ffmpeg:rtsp://admin:S3cret#x@printer/1#video=mjpeg",
        "tool -u admin:S3cret http://printer/",
        "exec:curl -H 'Authorization: Basic S3cret http://printer/",
        "admin:x/S3cret@printer/film.mp4",
    ],
)
def test_no_sentence_shows_a_secret(text: str) -> None:
    assert "S3cret" not in said(text)


def test_what_is_hidden_is_said_to_be() -> None:
    assert said("rtsp://admin:S3cret@cam/1").endswith(" (*** stands for what is not shown here)")


# Properties


@given(
    st.text(max_size=60)
    | st.text("htps:/@[]?#%&=x1.\udcff\0 'video", max_size=40)
    | st.text("htps:/@[]?#%&=x1.", max_size=40).map("http://".__add__)
    | st.text("htrps:/\\ ;.f1=", max_size=8)
)
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_source(text).label


@pytest.mark.parametrize(
    "letter", ["a", "/", ":", "[", "@", "a:", "'", "\u201c", "1", ".", "%", "-"]
)
def test_a_long_text_takes_little_time_and_a_short_sentence(letter: str) -> None:
    assert len(said(letter * (2**20 // len(letter)))) < 1000
