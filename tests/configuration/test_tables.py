"""A configuration is read whole, and all that is wrong with it is said at once."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.configuration.address import ListenAddress, TestcardAddress, parse_address
from mjrelay.configuration.tables import (
    CameraConfig,
    Config,
    ServerConfig,
    config_of,
    dump,
    find_config,
    load_config,
    with_listen,
)
from mjrelay.errors import ConfigError

SOURCES = "http://…, https://…, /dev/video0, usb:VVVV:PPPP, testcard: or exec:COMMAND"
CAMERA = '[camera.front]\nsource = "testcard:"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mjrelay.toml"


def load(path: Path, text: str) -> Config:
    path.write_text(text)
    return load_config(path)


def faults(path: Path, text: str) -> list[str]:
    """Return the faults of a configuration, without the path of its file."""
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    return [fault.removeprefix(f"{path}:").strip() for fault in caught.value.faults]


def camera(path: Path, option: str) -> CameraConfig:
    return load(path, CAMERA + option).cameras["front"]


# What is right


def test_a_source_is_enough(path: Path) -> None:
    assert load(path, CAMERA) == Config(cameras={"front": CameraConfig(source=TestcardAddress())})


def test_cameras_keep_their_order(path: Path) -> None:
    sources = "".join(f'[camera.{name}]\nsource = "testcard:"\n' for name in "zxya")
    assert [*load(path, sources).cameras] == [*"zxya"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("2.5", 2.5),
        ('"5 s"', 5.0),
        ('"5s"', 5.0),
        ('"250 ms"', 0.25),
        ('"1.5 min"', 90.0),
        ('"1 h"', 3600.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_a_number_or_a_text_with_its_unit(
    path: Path, value: str, seconds: float
) -> None:
    assert camera(path, f"linger = {value}").linger == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("1000", 1000),
        ('"8 MiB"', 8 * 2**20),
        ('"8MiB"', 8 * 2**20),
        ('"1.5 KiB"', 1536),
        ('"100 B"', 100),
        ('"2 MB"', 2_000_000),
        ('"1 GiB"', 2**30),
    ],
)
def test_a_size_is_a_number_or_a_text_with_its_unit(path: Path, value: str, size: int) -> None:
    assert camera(path, f"max_frame = {value}").max_frame == size


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ListenAddress("127.0.0.1", 8080)),
        ("[::]:8080", ListenAddress("::", 8080)),
        ("printer.lan:80", ListenAddress("printer.lan", 80)),
        (":8080", ListenAddress("", 8080)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        ("*:8080", ListenAddress("", 8080)),
        ("*", ListenAddress("", 8080)),
        ("8080", ListenAddress("127.0.0.1", 8080)),
        ("localhost", ListenAddress("localhost", 8080)),
        ("0.0.0.0", ListenAddress("0.0.0.0", 8080)),
        ("::", ListenAddress("::", 8080)),
        ("[::1]", ListenAddress("::1", 8080)),
        ("unix:/run/mjrelay/http.sock", ListenAddress(path="/run/mjrelay/http.sock")),
    ],
)
def test_an_address_to_listen_on_is_a_host_and_port_or_one_of_them_or_a_socket(
    text: str, address: ListenAddress
) -> None:
    assert ListenAddress.parse(text) == address
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "65536", "host", "::1:x", "a:b", "a:65536", "a:-1", "unix:relative", "a:80/", "unix:/a\0"],
)
def test_what_is_no_address_to_listen_on_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r'such as "127.0.0.1:8080"'):
        ListenAddress.parse(text)


def test_a_port_of_thousands_of_digits_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="such as"):
        ListenAddress.parse("a:" + "9" * 5000)


def test_a_base_path_ends_with_a_slash(path: Path) -> None:
    assert load(path, f'[server]\nbase_path = "/webcam"\n{CAMERA}').server.base_path == "/webcam/"


def test_a_camera_may_listen_on_its_own_port(path: Path) -> None:
    config = load(path, f'[server]\ncamera_listen = {{ front = ":8081" }}\n{CAMERA}')
    assert config.server.camera_listen == {"front": ListenAddress("", 8081)}


def test_with_listen_changes_where_to_listen_and_nothing_else(path: Path) -> None:
    config = load(path, f'[server]\nbase_path = "/a/"\n{CAMERA}')
    there = (ListenAddress("", 1),)
    assert with_listen(config, there) == Config(
        server=ServerConfig(listen=there, base_path="/a/"), cameras=config.cameras
    )


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ('size = "auto"', "size", None),
        ('size = "1280x720"', "size", (1280, 720)),
        ('format = "auto"', "format", ""),
        ('format = "YUYV"', "format", "YUYV"),
        ("usb_reset = true", "usb_reset", True),
        ("usb_reset = false", "usb_reset", False),
        ('usb_reset = "force"', "usb_reset", "force"),
        ("usb_resets_per_hour = 0", "usb_resets_per_hour", 0.0),
        ("controls = {}", "controls", {}),
        ("controls = { gain = 1, pan = -5 }", "controls", {"gain": 1, "pan": -5}),
        ("controls = { auto_focus = false }", "controls", {"auto_focus": 0}),
    ],
)
def test_how_a_camera_here_is_used(path: Path, option: str, name: str, value: object) -> None:
    assert getattr(camera(path, option), name) == value


def test_what_suits_is_used_where_nothing_is_said(path: Path) -> None:
    found = camera(path, "")
    assert (found.size, found.fps, found.format) == (None, 0.0, "")
    assert (found.usb_reset, found.usb_resets_per_hour, found.controls) == (True, 6.0, {})


# Secrets


def test_a_password_comes_from_its_file_without_the_line_end(path: Path) -> None:
    path.with_name("front.pw").write_text("größe \n")
    found = camera(path, 'username = "admin"\npassword_file = "front.pw"')
    assert (found.username, found.password) == ("admin", "größe ")


def test_a_password_may_be_in_the_url(path: Path) -> None:
    found = load(path, '[camera.a]\nsource = "http://admin:p%40ss@printer/"').cameras["a"]
    assert (found.username, found.password) == ("admin", "p@ss")


def test_a_password_file_goes_before_the_url(path: Path) -> None:
    path.with_name("a.pw").write_text("file")
    text = '[camera.a]\nsource = "http://admin:url@printer/"\npassword_file = "a.pw"'
    assert load(path, text).cameras["a"].password == "file"


def test_a_configuration_is_printed_without_passwords(path: Path) -> None:
    path.with_name("a.pw").write_text("hunter2")
    text = '[camera.a]\nsource = "http://admin:hunter2@printer/"\npassword_file = "a.pw"'
    assert "hunter2" not in repr(load(path, text))


@pytest.mark.parametrize("password", ["hunter2", "hunter2/x", "hunter2#x", "hunter2?x"])
def test_a_fault_shows_no_password(path: Path, password: str) -> None:
    for scheme in ("http", "rtsp"):
        text = f'[camera.a]\nsource = "{scheme}://admin:{password}@printer:x/"'
        assert "hunter2" not in "\n".join(faults(path, text))


# What is wrong


def test_every_fault_is_named_with_its_line_and_value(path: Path) -> None:
    text = """\
[server]
listen = "127.0.0.1:8080"
base_path = "webcam"

[camera.front]  # the door
source = "gopher://front/"
mode = "sometimes"
liner = 3

[camera.back]
stall_timeout = 0
placeholder = "yes"
"""
    assert faults(path, text) == [
        (
            '2: server.listen: expected a list in [brackets], such as ["127.0.0.1:8080"], got '
            '"127.0.0.1:8080"'
        ),
        '3: server.base_path: expected a path such as "/webcam/", got "webcam"',
        f'6: camera.front.source: expected {SOURCES}, got "gopher://front/"',
        '7: camera.front.mode: expected "always" or "demand", got "sometimes"',
        "8: camera.front.liner: there is no such option; did you mean linger?",
        "11: camera.back.stall_timeout: expected more than 0 seconds, got 0",
        '12: camera.back.placeholder: expected true or false, got "yes"',
        "10: camera.back.source: is missing",
    ]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("fps = true", "expected a number, 0 or more, got true"),
        ('fps = "30"', 'expected a number, 0 or more, got "30"'),
        ("fps = -1", "expected a number, 0 or more, got -1"),
        ("fps = nan", "expected a number, 0 or more, got nan"),
        ("fps = inf", "expected a number, 0 or more, got inf"),
        ("linger = true", "got true"),
        ("linger = [1]", "got [1]"),
        ('linger = "5 days"', 'got "5 days"'),
        ('linger = "-5 s"', 'got "-5 s"'),
        ("stall_timeout = 0.0", "expected more than 0 seconds, got 0.0"),
        ("max_frame = true", 'expected a size such as "8 MiB", or a number of bytes, got true'),
        ("max_frame = 0", "got 0"),
        ("max_frame = 1.5", "got 1.5"),
        ('max_frame = "0 MiB"', 'got "0 MiB"'),
        ('max_frame = "8 Mib"', 'got "8 Mib"'),
        ("placeholder = 1", "expected true or false, got 1"),
        ("username = 5", "expected a text in quotes, got 5"),
        ("username = 2026-11-22", "expected a text in quotes, got 2026-11-22"),
        ("http_version = 1.1", 'expected "1.0" or "1.1", got 1.1'),
        ('mode = ["demand"]', 'expected "always" or "demand", got'),
        ("size = 640", "got 640"),
        ('size = "640"', 'expected "auto" or a size such as "1280x720", got "640"'),
        ('size = "640x0"', 'got "640x0"'),
        ('size = "640x480 "', 'got "640x480 "'),
        ('size = "-640x480"', 'got "-640x480"'),
        ('size = "123456x480"', 'got "123456x480"'),
        ('format = "H264"', 'expected "auto" or "MJPG" or "YUYV", got "H264"'),
        ('format = "mjpg"', 'got "mjpg"'),
        ("format = true", "got true"),
        ('usb_reset = "yes"', 'expected true, false or "force", got "yes"'),
        ("usb_reset = 1", "got 1"),
        ("usb_resets_per_hour = -1", "expected a number, 0 or more, got -1"),
        ('usb_resets_per_hour = "6"', 'got "6"'),
        ("controls = 5", "expected a table of whole numbers such as { brightness = 128 }, got 5"),
        ("controls = { gain = 1.5 }", "expected a table of whole numbers"),
        ('controls = { gain = "1" }', "expected a table of whole numbers"),
        ("controls = [1]", "expected a table of whole numbers"),
    ],
)
def test_an_option_of_the_wrong_kind_is_a_fault(path: Path, option: str, expected: str) -> None:
    [fault] = faults(path, CAMERA + option)
    assert fault.startswith(f"3: camera.front.{option.split(maxsplit=1)[0]}: expected ")
    assert expected in fault


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ('listen = ":8080"', "expected a list in [brackets]"),
        ("listen = [8080]", "expected a text in quotes"),
        ('listen = ["nowhere"]', "expected an address such as"),
        ("listen = []", "at least one address is needed"),
        ('listen = [":8080", ":8080"]', ":8080 is used twice"),
        ('camera_listen = ":8081"', "expected a table such as"),
        ('camera_listen = { front = ":8080" }\nlisten = [":8080"]', ":8080 is used twice"),
        ('cors_origins = "*"', "expected a list in [brackets]"),
        ('cors_origins = ["example.org"]', 'expected "*" or origins such as'),
        ('base_path = "/a?b"', "expected a path such as"),
        ("basepath = 1", "there is no such option; did you mean base_path?"),
        ("nonsense = 1", "there is no such option"),
    ],
)
def test_a_server_option_of_the_wrong_kind_is_a_fault(
    path: Path, option: str, expected: str
) -> None:
    [fault] = faults(path, f"[server]\n{option}\n{CAMERA}")
    assert expected in fault


def test_any_free_port_may_be_asked_for_twice(path: Path) -> None:
    config = load(path, f'[server]\nlisten = ["a:0", "a:0"]\n{CAMERA}')
    assert config.server.listen == (ListenAddress("a", 0),) * 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "camera: at least one [camera.NAME] with a source is needed"),
        ("camera = 5", "camera: expected tables named [camera.NAME], such as [camera.printer]"),
        ("[[camera]]", "camera: expected tables named [camera.NAME], such as [camera.printer]"),
        ('[camera]\nfront = "testcard:"', 'camera.front: expected a table, got "testcard:"'),
        (f"server = 5\n{CAMERA}", "server: expected a table, got 5"),
        (f"[servers]\n{CAMERA}", "servers: there is no such option; did you mean server?"),
        (f"volume = 11\n{CAMERA}", "volume: there is no such option"),
        (
            '[camera."front door"]\nsource = "testcard:"',
            (
                "camera.front door: a camera's name is made of letters, digits, - and _, "
                "64 of them at most"
            ),
        ),
        ("[camera.front]", "camera.front.source: is missing"),
    ],
)
def test_a_file_of_the_wrong_shape_is_a_fault(path: Path, text: str, fault: str) -> None:
    assert [found.lstrip("0123456789: ") for found in faults(path, text)] == [fault]


@pytest.mark.parametrize("name", ["a" * 65, "front\\n"])
def test_a_name_that_systemd_could_not_keep_is_a_fault(path: Path, name: str) -> None:
    assert [*load(path, f'[camera.{"a" * 64}]\nsource = "testcard:"\n').cameras] == ["a" * 64]
    [fault] = faults(path, f'[camera."{name}"]\nsource = "testcard:"\n')
    assert "64 of them at most" in fault


def test_two_cameras_with_one_source_are_a_fault(path: Path) -> None:
    text = '[camera.a]\nsource = "http://p:80/"\n[camera.b]\nsource = "http://x:y@P"'
    [fault] = faults(path, text)
    assert fault.startswith("4: camera.b.source: http://p/ is already the source of camera a")


@pytest.mark.parametrize("source", ["/dev/video0", "usb:046d:0825:A"])
def test_two_cameras_with_one_device_are_a_fault(path: Path, source: str) -> None:
    text = "".join(f'[camera.{name}]\nsource = "{source}"\n' for name in "ab")
    [fault] = faults(path, text)
    assert fault.startswith(f"4: camera.b.source: {source} is already the source of camera a")


def test_two_test_cards_are_no_fault(path: Path) -> None:
    load(path, CAMERA + '[camera.back]\nsource = "testcard:"')


def test_a_port_for_a_camera_that_is_not_there_is_a_fault(path: Path) -> None:
    text = f'{CAMERA}[server]\ncamera_listen = {{ fornt = ":8081" }}'
    assert faults(path, text) == [
        "4: server.camera_listen.fornt: there is no such camera; there are: front"
    ]


def test_a_camera_with_a_fault_is_there_all_the_same(path: Path) -> None:
    text = (
        '[server]\ncamera_listen = { front = ":8081" }\n'
        '[camera.front]\nsource = "nonsense"\nusername = "me"\npassword_file = "missing.pw"\n'
    )
    assert [fault.split(": ")[1] for fault in faults(path, text)] == [
        "camera.front.source",
        "camera.front.password_file",
    ]


@pytest.mark.parametrize("name", ["missing.pw", ".", "latin-1.pw", "nul\\u0000.pw"])
def test_a_password_file_that_cannot_be_read_is_a_fault(path: Path, name: str) -> None:
    path.with_name("latin-1.pw").write_bytes(b"gr\xf6\xdfe")
    [fault] = faults(path, CAMERA + f'username = "me"\npassword_file = "{name}"')
    assert fault.startswith("4: camera.front.password_file: cannot read ")


def test_a_password_without_a_user_name_is_a_fault(path: Path) -> None:
    path.with_name("front.pw").write_text("secret\n")
    [fault] = faults(path, CAMERA + 'password_file = "front.pw"')
    assert fault.startswith("3: camera.front.password_file: needs a username beside it")


def test_a_file_that_is_not_there_is_a_fault(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load_config(path)


def test_a_file_that_is_no_text_is_a_fault(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match="cannot be read: it is not UTF-8 text"):
        load_config(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[camera.a\n", id="unclosed"),
        pytest.param("a = 1\na = 2\n", id="twice"),
        pytest.param("a = " + "9" * 5000, id="thousands of digits"),
        pytest.param("a = " + "[" * 5000, id="thousands of brackets"),
    ],
)
def test_a_file_that_is_no_toml_is_a_fault(path: Path, text: str) -> None:
    [fault] = faults(path, text)
    assert "is not valid TOML: " in fault


@pytest.mark.parametrize(
    "option",
    [
        pytest.param("fps = " + "9" * 400, id="number"),
        pytest.param("linger = " + "9" * 400, id="seconds"),
        pytest.param(f'linger = "{"9" * 400} s"', id="text of seconds"),
        pytest.param('linger = "9999999999 h"', id="hours"),
        pytest.param(f'max_frame = "{"9" * 400} MiB"', id="size"),
    ],
)
def test_an_absurd_number_is_a_fault(path: Path, option: str) -> None:
    [fault] = faults(path, CAMERA + option)
    assert fault.startswith(f"3: camera.front.{option.split(maxsplit=1)[0]}: expected ")


# From the command line


def test_sources_make_a_configuration() -> None:
    listen = (ListenAddress("", 1),)
    config = config_of({"a": parse_address("http://u:p@printer/")}, listen)
    assert (config.cameras["a"].username, config.cameras["a"].password) == ("u", "p")
    assert config.server.listen == listen


def test_one_source_twice_on_the_command_line_is_a_fault() -> None:
    source = parse_address("http://u:p@printer/")
    with pytest.raises(ConfigError, match="already the source of camera a") as caught:
        config_of({"a": source, "b": source}, ())
    assert "u:p" not in str(caught.value)


def test_without_a_file_there_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mjrelay.configuration.tables.SEARCHED", (Path("mjrelay.toml"), tmp_path / "etc.toml")
    )
    monkeypatch.chdir(tmp_path)
    assert find_config() is None
    (tmp_path / "etc.toml").touch()
    assert find_config() == tmp_path / "etc.toml"
    (tmp_path / "mjrelay.toml").touch()
    assert find_config() == Path("mjrelay.toml")


# Dumps

EVERYTHING = """\
[server]
listen = ["127.0.0.1:8080", "[::]:8081", "unix:/run/mjrelay/http.sock"]
base_path = "/webcam"
camera_listen = { front = "0.0.0.0:8082" }
cors_origins = ["https://example.org"]

[camera.front]
source = "http://admin:hunter2@printer:8080/?action=stream&pwd=hunter2"
password_file = "front.pw"
linger = "250 ms"
max_frame = "1 MiB"
placeholder = false

[camera.back]
source = "exec:ffmpeg -i 'my film.mp4' -f mjpeg -"

[camera.card]
source = "testcard:?size=320x240&fps=5"

[camera.robot]
source = "usb:046d:0825:A B"
size = "1280x720"
format = "MJPG"
fps = 15
usb_reset = "force"
usb_resets_per_hour = 2.5
controls = { auto_exposure = 1, brightness = -5 }

[camera.arm]
source = "/dev/video0"
size = "auto"
format = "auto"
usb_reset = false
"""


def test_a_dump_holds_no_password(path: Path) -> None:
    path.with_name("front.pw").write_text("hunter2")
    command = '[camera.top]\nsource = "exec:ffmpeg -i rtsp://admin:hunter2@top/ -f mjpeg -"'
    assert "hunter2" not in tomli_w.dumps(dump(load(path, EVERYTHING + command)))


def test_a_dump_loads_again_as_the_same_configuration(path: Path) -> None:
    path.with_name("front.pw").write_text("hunter2")
    dumped = dump(load(path, EVERYTHING))
    assert dump(load(path, tomli_w.dumps(dumped))) == dumped


def test_a_dump_shows_how_a_camera_here_is_used(path: Path) -> None:
    path.with_name("front.pw").write_text("hunter2")
    shown = dump(load(path, EVERYTHING))["camera"]
    robot, arm = shown["robot"], shown["arm"]
    assert (robot["source"], robot["size"], robot["format"]) == (
        "usb:046d:0825:A B",
        "1280x720",
        "MJPG",
    )
    assert robot["controls"] == {"auto_exposure": 1, "brightness": -5}
    assert (robot["usb_reset"], arm["usb_reset"]) == ("force", False)
    assert (arm["source"], arm["size"], arm["format"]) == ("/dev/video0", "auto", "auto")


def test_a_dump_holds_every_option(path: Path) -> None:
    dumped = dump(load(path, CAMERA))
    assert dumped["server"].keys() == {"listen", "base_path", "camera_listen", "cors_origins"}
    assert dumped["camera"]["front"]["stall_timeout"] == 5.0
    assert "password" not in dumped["camera"]["front"]


# Properties

OPTIONS = st.sampled_from([*ServerConfig.__dataclass_fields__, *CameraConfig.__dataclass_fields__])
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["testcard:", "http://a:b@c", "5 s", "1e9 s", "8 MiB", ":80", "*", "/", "."])
    | st.dates()
    | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.é ]"), inner),
    max_leaves=5,
)
TABLES = st.dictionaries(OPTIONS | st.text("ab.[=\n", max_size=3), VALUES, max_size=4)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "server": TABLES | VALUES,
        "camera": st.dictionaries(st.text("ab. ]", min_size=1), TABLES, max_size=3) | VALUES,
        "other": VALUES,
    },
)


@given(tables=FILES)
def test_any_toml_is_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(tomli_w.dumps(tables))
    try:
        config = load_config(path)
    except ConfigError:
        return
    assert dump(config) == tomllib.loads(tomli_w.dumps(dump(config)))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("camera.a.source = 'testcard:'\ncamera.a.modee = 1", 2),
        ("[camera]\na = { source = 'testcard:', modee = 1 }", 2),
        ("[ camera . a ]\nsource = 'testcard:'\nmodee = 1", 3),
        ("[camera.'a']\nsource = 'testcard:'\n\n'modee' = 1", 4),
        ("[camera.b]\nsource = 'testcard:'\n[camera.a]\nsource = 'testcard:'\nmodee = 1", 5),
    ],
)
def test_a_fault_names_its_line_however_the_table_is_written(
    path: Path, text: str, line: int
) -> None:
    [fault] = faults(path, text)
    assert fault.startswith(f"{line}: camera.a.modee: there is no such option")


def test_a_secret_may_be_a_credential_of_the_service(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "front.pw").write_text("secret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    path.write_text(
        '[camera.front]\nsource = "http://front/"\nusername = "u"\npassword_file = "front.pw"\n'
    )
    assert load_config(path).cameras["front"].password == "secret"
    (path.parent / "front.pw").write_text("of root\n")
    assert load_config(path).cameras["front"].password == "secret"
    (credentials / "front.pw").unlink()
    assert load_config(path).cameras["front"].password == "of root"


def test_a_folder_that_we_may_not_enter_is_a_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an error that ends the service at a reload."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/nowhere")
    monkeypatch.setattr(Path, "stat", refuse)  # as it is for other users than root
    [fault] = faults(path, CAMERA + 'username = "me"\npassword_file = "hidden/front.pw"')
    assert fault.startswith("4: camera.front.password_file: cannot read ")


def test_a_credential_has_no_nul_in_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    [fault] = faults(path, CAMERA + 'username = "me"\npassword_file = "nul\\u0000.pw"')
    assert fault.startswith("4: camera.front.password_file: cannot read ")
