"""Of a slip in a configuration file it is said what to write."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.configuration.tables import load_config
from mjrelay.errors import ConfigError

CAMERA = '[camera.front]\nsource = "testcard:"\n'


def faults(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "mjrelay.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [fault.removeprefix(f"{path}:") for fault in caught.value.faults]


# What is no TOML


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("source = http://h/?a", 'put quotes around the value: source = "http://h/?***"'),
        ("mode = demand  # rarely", 'put quotes around the value: mode = "demand"'),
        ("linger = 5 s", 'put quotes around the value: linger = "5 s"'),
        ("source = “http://h/”", 'write straight quotes: source = "http://h/"'),
        ("source = „http://h/“", 'write straight quotes: source = "http://h/"'),
        ("source = ‘http://h/’", "write straight quotes: source = 'http://h/'"),  # noqa: RUF001
        ("source =\xa0'http://h/'", "there is a character that only looks like a space"),
        ('source: "http://h/"', 'write source = "http://h/"'),
        ('source "http://h/"', 'write source = "http://h/"'),
        ("fps: 5", "write fps = 5"),
        ("fps = 15,", "write fps = 15, without ,"),
        ("mode = demand;", 'write mode = "demand", without ;'),
        ("placeholder = True", "write placeholder = true"),
        ("placeholder = no", "write placeholder = false"),
        ("fps =", "the value of fps is missing"),
        ("fps = # many", "the value of fps is missing"),
        ('source = "http://h/', 'the closing " is missing behind source ='),
        ('source = "exec:C:\\path x"', "write each \\ twice behind source =, or put the text in"),
        ('username = "a" b', "there is something behind the closing quote of username"),
        ("// a camera", "a comment begins with #"),
        ("; a camera", "a comment begins with #"),
        ("fps = 5 // a second", "a comment begins with #"),
        ("mode = demand ; rarely", "a comment begins with #"),
        ("camera:", "this is another format: write [camera.printer] and, below it, source ="),
        ('{ "camera": {', "this is another format: write [camera.printer] and, below it"),
        ("[camera back]", "the head of a table looks like this: [camera.back]"),
        ("[camera/back]", "the head of a table looks like this: [camera.back]"),
        ("listen = [0.0.0.0:80, [::]:80]", 'write listen = ["0.0.0.0:80", "[::]:80"]'),
        ("listen = [[::]:80]", 'write listen = ["[::]:80"]'),
        ("[camera.front door]", "the head of a table looks like this: [camera.front-door]"),
        ("[camera.back", "the head of a table looks like this: [camera.back]"),
        ("[camera.front]", "[camera.front] stands there twice: remove one"),
        ('source = "testcard:"', 'source = "testcard:" stands there twice: remove one'),
        ("password = hunter2", "write the password into a file of its own"),
        ("source = http://u:hunter2@h/", 'put quotes around the value: source = "http://***@h/"'),
        ("source = exec:curl -u me:hunter2 http://h/", "put quotes around the value: source = "),
        ("source = http://u:x hunter2@h/", "put quotes around the value: source = "),
        ("source = “http://u:x hunter2@h/”", 'write straight quotes: source = "http://***@h/"'),
        ('source: "http://u:x hunter2@h/"', 'write source = "http://***@h/"'),
        ("http://u:hunter2@h/", 'write source = "http://***@h/"'),
        ("password “hunter2”", "write straight quotes"),
        ("token = x,hunter2", 'put quotes around the value: token = "***"'),
        ("auth: u:hunter2", 'write auth = "***"'),
        ('api_key = x\\"hunter2', 'put quotes around the value: api_key = "***"'),
        ("headers.X-A = hunter2", 'put quotes around the value: headers.X-A = "***"'),
        ("headers = { X-A = “hunter2” }", "write straight quotes"),
        ("[camera.front.headers]\nX-A = hunter2", 'put quotes around the value: X-A = "***"'),
        ("[camera.http://u:hunter2@h/]", "the head of a table looks like this: [camera.printer]"),
        ("nonsense", "Expected '=' after a key"),
    ],
)
def test_what_is_no_toml_is_told_with_what_to_write(tmp_path: Path, line: str, cause: str) -> None:
    [fault] = faults(tmp_path, f"{CAMERA}{line}\n")
    number = 3 + line.count("\n")
    assert fault.startswith(f"{number}: is not valid TOML: {cause}")
    assert "hunter2" not in fault


def test_a_text_without_an_end_is_told(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, '[camera.front]\nsource = "testcard:')
    assert fault == '2: is not valid TOML: the closing " is missing behind source ='


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CAMERA.encode("utf-8-sig"), id="Notepad's mark"),
        pytest.param(CAMERA.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xfe\xff" + CAMERA.encode("utf-16-be"), id="UTF-16, the other way round"),
        pytest.param(CAMERA.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(CAMERA.replace("\n", "\r").encode(), id="CR"),
        pytest.param(CAMERA.replace(" ", "\t").encode(), id="tabs"),
    ],
)
def test_every_editor_s_file_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mjrelay.toml"
    path.write_bytes(content)
    assert [*load_config(path).cameras] == ["front"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_editor_s_password_file_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "front.pw").write_bytes("größe\r\n".encode(encoding))
    path = tmp_path / "mjrelay.toml"
    path.write_text(CAMERA + 'username = "me"\npassword_file = "front.pw"\n')
    assert load_config(path).cameras["front"].password == "größe"


# What is no option

LISTEN = " below [server] (0.0.0.0 lets the whole network watch, 127.0.0.1 this computer only)"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[camera]\nsource = "testcard:"', "1: camera: write [camera.NAME] with a name"),
        ('[camera]\nurl = "http://h/"\nfps = 1', "1: camera: write [camera.NAME] with a name"),
        (
            '[[camera]]\nsource = "testcard:"',
            "1: camera: expected tables named [camera.NAME], such",
        ),
        ('[cameras.x]\nsource = "testcard:"', "1: cameras.x: write [camera.x] as the head"),
        ('[[cameras]]\nsource = "testcard:"', "1: cameras: write [camera.NAME] as the head"),
        ('[printer]\nsource = "testcard:"', "1: printer: write [camera.printer]"),
        ('[my.printer]\nurl = "http://h/"', "1: my.printer: there is no such option"),
        ('source = "testcard:"', "1: source: this option belongs below [camera.NAME], such as"),
        (f"port = 8080\n{CAMERA}", f'1: port: write listen = ["0.0.0.0:8080"]{LISTEN}'),
        (f'listen = [":8080"]\n{CAMERA}', "1: listen: this option belongs below [server]"),
        ('[camera.a]\nurl = "http://u:hunter2@h/"', '2: camera.a.url: write source = "http://***@'),
        ('[camera.a]\nip = "192.168.1.5"', '2: camera.a.ip: write source = "http://192.168.1.5"'),
        ('[camera.a]\nip = "u:x@hunter2@h"', '2: camera.a.ip: write source = "***@h"'),
        ('[camera.a]\nurl = "rtsp://h/1"', '2: camera.a.url: write source = "exec:ffmpeg -nostdin'),
        ('[camera."http://u:hunter2@h"]\nsource = "testcard:"', "1: camera.http://***@h: a camera"),
        (f'{CAMERA}"http://u:hunter2@h/" = 1', "3: camera.front.http://***@h/: there is no such"),
        ('[camera.a]\ndevice = "/dev/video0"', '2: camera.a.device: write source = "/dev/video0"'),
        ('[camera.a]\nsource = "video0"', "2: camera.a.source: video0 is no source"),
    ],
)
def test_a_table_of_another_shape_is_told_with_what_to_write(
    tmp_path: Path, text: str, fault: str
) -> None:
    [found] = faults(tmp_path, text)
    assert found.startswith(fault)
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ("port = 9090", f'write listen = ["0.0.0.0:9090"]{LISTEN}'),
        ('port = "9090"', f'write listen = ["0.0.0.0:9090"]{LISTEN}'),
        ("port = true", f'write listen = ["0.0.0.0:8080"]{LISTEN}'),
        ('host = "192.168.1.5"', f'write listen = ["192.168.1.5:8080"]{LISTEN}'),
        ('bind = "::"', f'write listen = ["[::]:8080"]{LISTEN}'),
        ('listen = "0.0.0.0:8080"', 'expected a list in [brackets], such as ["0.0.0.0:8080"], got'),
        ("listen = [8080]", 'expected a text in quotes such as "0.0.0.0:8080", got [8080]'),
        ('prefix = "/webcam/"', "there is no such option; did you mean base_path?"),
        ("fps = 5", "this option belongs below [camera.NAME], such as [camera.printer]"),
        ('password = "hunter2"', "write the password into a file of its own, such as camera.pw"),
    ],
)
def test_a_server_option_of_another_program_is_told_with_ours(
    tmp_path: Path, option: str, fault: str
) -> None:
    [found] = faults(tmp_path, f"[server]\n{option}\n{CAMERA}")
    assert found.startswith(f"2: server.{option.partition(' ')[0]}: {fault}")


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        ('user = "admin"', "there is no such option; did you mean username?"),
        ("framerate = 5", "there is no such option; did you mean fps?"),
        ('resolution = "640x480"', 'there is no such option; did you mean size = "640x480"?'),
        ('password = "hunter2"', "write the password into a file of its own, such as camera.pw"),
        ("password = 5", "write the password into a file of its own, such as camera.pw"),
        ('pasword_file = "hunter2"', "there is no such option; did you mean password_file?"),
        ('password_file = ["hunter2"]', "expected a text in quotes"),
        ('name = "my cam"', "write the name into the head of the table: [camera.my-cam]"),
        (
            'command = "ffmpeg -i rtsp://u:hunter2@h/ -"',
            'write source = "exec:ffmpeg -i rtsp://***@h/ -"',
        ),
        ("command = 5", 'write source = "exec:'),
        ("port = 8081", f'write listen = ["0.0.0.0:8081"]{LISTEN}'),
        ('listen = [":1"]', "this option belongs below [server]"),
        ("timeout = 5", "there is no such option; did you mean connect_timeout, first_frame_"),
        ("nonsense = 5", "there is no such option"),
    ],
)
def test_a_camera_option_of_another_program_is_told_with_ours(
    tmp_path: Path, option: str, fault: str
) -> None:
    [found] = faults(tmp_path, f"{CAMERA}{option}\n")
    assert found.startswith(f"3: camera.front.{option.partition(' ')[0]}: {fault}")
    assert "hunter2" not in found


@given(st.text(max_size=40) | st.text("abc=[].\"'\\ #,:;\n“”{}/", max_size=40))
def test_any_text_is_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(CAMERA + text, encoding="utf-8", newline="")
    with contextlib.suppress(ConfigError):
        load_config(path)
