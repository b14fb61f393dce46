"""The commands say what is wrong in sentences, and end with the right status."""

import errno
import itertools
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mjrelay import __version__, cli
from mjrelay.configuration.address import ListenAddress, TestcardAddress, V4l2Address
from mjrelay.configuration.tables import Config
from mjrelay.devices.capture import Buffer
from mjrelay.devices.holders import Holder, Holders
from mjrelay.devices.inventory import CaptureDevice
from mjrelay.devices.modes import Mode
from mjrelay.errors import ConfigError, ListenError, RemedyFailed, SourceUnreachable
from tests.support.device import (
    FALSE_ALARM,
    WEBCAM,
    YUYV,
    Desk,
    FakeCapture,
    FakeDevice,
    failure,
    node_at,
)

SOURCES = "http://…, https://…, /dev/video0, usb:VVVV:PPPP, testcard: or exec:COMMAND"
CARD = '[camera.front]\nsource = "testcard:"\n'


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory, with no configuration of the machine."""
    monkeypatch.chdir(tmp_path)
    for module in ("configuration.tables", "cli"):
        monkeypatch.setattr(f"mjrelay.{module}.SEARCHED", (Path("mjrelay.toml"),), raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Collect what would be served, without serving it."""
    configs: list[Config] = []

    def serve(read: Callable[[], Config], *, verbose: bool, **_facts: object) -> int:
        assert not verbose
        configs.append(read())
        return cli.OK

    monkeypatch.setattr(cli, "_serve", serve)
    return configs


def status(*arguments: str) -> object:
    """Run a command; return its exit status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def names(*sources: str) -> list[str]:
    return [*cli._named_sources([*sources])]


# In general


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert capsys.readouterr().out == f"mjrelay {__version__}\n"


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["probe"], ["devices"], ["reset"]])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*command, "--help") == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: mjrelay", *command]))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["run", "--colour"],
        ["probe"],
        ["probe", "testcard:", "b"],
        ["devices", "x"],
        ["check", "a", "b"],
        ["run", "--port", "65536"],
        ["run", "--port", "many"],
        ["reset"],
        ["reset", "/dev/video0", "/dev/video1"],
    ],
)
def test_a_command_line_that_is_none_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    said = capsys.readouterr().err
    assert re.match(
        r"usage: mjrelay|there is no (command )?\S+[:;] |\S+ is too much: mjrelay ", said
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("one fault", "another"), 2),
        (ListenError("the port is taken"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_failure_is_a_sentence_and_a_status(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    assert status("run", "testcard:") == code
    assert capsys.readouterr().err == (f"{error}\n" if str(error) else "")


# Names


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["testcard:"], ["camera"]),
        (["testcard:", "testcard:", "testcard:"], ["camera", "camera2", "camera3"]),
        (["front=testcard:", "back_2=testcard:"], ["front", "back_2"]),
        (["http://printer/?action=stream"], ["camera"]),
        (["exec:ffmpeg -metadata a=b"], ["camera"]),
        (["front=http://printer/?action=stream"], ["front"]),
    ],
)
def test_sources_are_named_as_written_or_in_order(sources: list[str], expected: list[str]) -> None:
    assert names(*sources) == expected


def test_the_first_source_without_a_name_is_camera() -> None:
    assert names("front=testcard:", "testcard:", "testcard:") == ["front", "camera", "camera2"]


def test_a_name_that_was_written_is_not_given_to_another() -> None:
    sources = cli._named_sources(["camera2=testcard:", "testcard:", "camera=testcard:"])
    assert len(sources) == 3
    assert {"camera", "camera2"} < sources.keys()


def test_one_name_for_two_sources_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("run", "a=testcard:", "a=testcard:") == 2
    assert capsys.readouterr().err == "two cameras are named a\n"


# run


def test_run_without_anything_shows_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("run") == 2
    printed = capsys.readouterr()
    assert "mjrelay run testcard:" in printed.err
    assert printed.out == ""


def test_run_serves_sources_without_a_file(served: list[Config]) -> None:
    assert status("run", "testcard:", "--listen", ":80", "--listen", "[::1]:81") == 0
    assert served[0].cameras["camera"].source == TestcardAddress()
    assert served[0].server.listen == (ListenAddress("", 80), ListenAddress("::1", 81))


def test_run_listens_on_loopback_unless_told(served: list[Config]) -> None:
    assert status("run", "testcard:") == 0
    assert served[0].server.listen == (ListenAddress("127.0.0.1", 8080),)


def test_run_serves_the_file_in_the_current_directory(served: list[Config]) -> None:
    Path("mjrelay.toml").write_text(CARD)
    assert status("run") == 0
    assert [*served[0].cameras] == ["front"]


def test_sources_go_before_the_file_in_the_current_directory(served: list[Config]) -> None:
    Path("mjrelay.toml").write_text(CARD)
    assert status("run", "testcard:") == 0
    assert [*served[0].cameras] == ["camera"]


def test_listen_goes_before_the_file(served: list[Config]) -> None:
    Path("my.toml").write_text(f'[server]\nlisten = [":1"]\n{CARD}')
    assert status("run", "-c", "my.toml", "--listen", ":2") == 0
    assert served[0].server.listen == (ListenAddress("", 2),)


def test_only_a_file_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    can: list[object] = []

    def serve(_read: object, *, can_reload: bool, **_facts: object) -> int:
        can.append(can_reload)
        return cli.OK

    monkeypatch.setattr(cli, "_serve", serve)
    Path("mjrelay.toml").write_text('[camera.a]\nsource = "testcard:"\n')
    status("run")
    status("run", "testcard:")
    assert can == [True, False]


def test_sources_and_a_file_are_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.toml").write_text(CARD)
    assert status("run", "-c", "my.toml", "testcard:") == 2
    assert capsys.readouterr().err == "give either sources or --config, not both\n"


def test_every_source_that_is_none_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("run", "printer", "testcard:", "b=gopher://u:secret@printer/") == 2
    assert capsys.readouterr().err == (
        f"source 1: expected {SOURCES}, got printer\n"
        f"source 3: expected {SOURCES}, got gopher://***@printer/\n"
    )


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (
            ["192.168.1.200:8080/?action=stream"],
            "http:// is missing: did you mean 'http://192.168.1.200:8080/?action=stream'?",
        ),
        (
            ["a=testcard:", "b=htp://printer/"],
            "source 2: http:// is misspelled: did you mean b=http://printer/?",
        ),
        (
            ["rtsp://192.168.1.70/stream1"],
            (
                "mjrelay does not open rtsp:// itself, but ffmpeg does: write 'exec:ffmpeg "
                "-nostdin -loglevel error -rtsp_transport tcp -i rtsp://192.168.1.70/stream1 -an "
                "-q:v 5 -f mjpeg -'"
            ),
        ),
        (
            ["video0"],
            (
                "video0 is no source (`mjrelay devices` lists the cameras of this computer): "
                "did you mean /dev/video0?"
            ),
        ),
        (
            ["http://PRINTER:8080/?action=stream"],
            (
                "write your printer's address for PRINTER, such as 192.168.1.200 (your router "
                "shows it)"
            ),
        ),
        (["mjrelay.toml"], "mjrelay.toml is no source: did you mean --config mjrelay.toml?"),
        (
            ["my printer=http://u:secret@printer/"],
            (
                "a name has letters, digits, - and _: did you mean 'my-printer=http://***@printer/'?"
                " (*** stands for what is not shown here)"
            ),
        ),
        (["ö=testcard:"], "a name has letters, digits, - and _: did you mean camera=testcard:?"),
        (
            ["printer=", "http://printer/"],
            "NAME=SOURCE is one word: did you mean printer=http://printer/?",
        ),
        (
            ["printer", "=", "http://u:secret@printer/"],
            (
                "NAME=SOURCE is one word: did you mean 'printer=http://***@printer/'? "
                "(*** stands for what is not shown here)"
            ),
        ),
        (
            ["printer", "/dev/video0"],
            "NAME=SOURCE is one word: did you mean printer=/dev/video0?",
        ),
        (["8080", "testcard:"], "source 1: 8080 is no source: did you mean --port 8080?"),
        (
            ["a=", "testcard:", "b"],
            (
                "source 1: a= lacks a source: write NAME=SOURCE without spaces around the =\n"
                "source 3: expected http://…, https://…, /dev/video0, usb:VVVV:PPPP, testcard: or "
                "exec:COMMAND, got b"
            ),
        ),
        (["="], "= lacks a source: write NAME=SOURCE without spaces around the ="),
        (
            ["printer:http://u:secret@printer/"],
            (
                "a name is written with =: did you mean 'printer=http://***@printer/'? "
                "(*** stands for what is not shown here)"
            ),
        ),
        (["exec:cat", "film"], "put quotes around the command: mjrelay run 'exec:cat film'"),
    ],
)
def test_a_source_that_is_none_is_answered_with_what_was_meant(
    sources: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("run", *sources) == 2
    assert capsys.readouterr().err == f"{sentence}\n"
    if len(sources) == 1:
        assert status("probe", *sources) == 2
        assert capsys.readouterr().err == f"{sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "listen"),
    [
        (["--port", "8081"], [ListenAddress("127.0.0.1", 8081)]),
        (["--listen", "8081"], [ListenAddress("127.0.0.1", 8081)]),
        (["--listen", "::1"], [ListenAddress("::1", 8080)]),
        (["--listen", ":8081"], [ListenAddress("", 8081)]),
        (["--listen", "localhost"], [ListenAddress("localhost", 8080)]),
        (["--listen", "0.0.0.0", "--port", "8081"], [ListenAddress("0.0.0.0", 8081)]),
        (["--listen", "[::]", "--port", ":8081"], [ListenAddress("::", 8081)]),
    ],
)
def test_a_port_or_a_host_alone_is_enough(
    served: list[Config], arguments: list[str], listen: list[ListenAddress]
) -> None:
    assert status("run", "testcard:", *arguments) == 0
    assert [*served[0].server.listen] == listen


def test_any_certificate_is_taken_where_that_is_said(served: list[Config]) -> None:
    assert status("run", "https://camera/") == status("run", "--insecure", "https://camera/") == 0
    assert [config.cameras["camera"].tls_verify for config in served] == [True, False]


def test_a_configuration_says_itself_which_certificates_are_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mjrelay.toml").write_text(CARD)
    assert status("run", "--insecure") == 2
    assert "write tls_verify = false below [camera.NAME]" in capsys.readouterr().err


def test_a_part_that_is_missing_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mjrelay.devices.inventory", None)
    assert status("devices") == 1
    assert capsys.readouterr().err.startswith("mjrelay is not installed completely: ")


@pytest.mark.parametrize(
    "word",
    [
        "\udcff",
        "exec:\udcff",
        "/dev/\udcff",
        "http://\udcff/",
        "a=\udcff",
        "--\udcff",
        "--listen=\udcff",
        "-c\udcff",
        "",
        "=",
        "a=",
        "=a",
        "-",
        "---",
        "x" * 2**20,
        "http://" + "@" * 2**20,
        "exec:" + "'" * 2**20,
        "exec:" + "'a' " * 2**16,
        "--" + "x" * 2**20,
        "\0",
    ],
    ids=lambda word: ascii(word[:20]),
)
@pytest.mark.parametrize("command", ["run", "check", "reset", ""])
def test_no_word_is_a_traceback(
    served: list[Config], command: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = status(*([command] if command else []), word)
    assert code == 2 or served or command == "reset"
    printed = capsys.readouterr()
    assert printed.err or served
    assert len(printed.err) < 3000 or command == "check"  # the path of its file


@pytest.mark.parametrize("address", ["nowhere", ":65536", "unix:relative", "::1:8080"])
def test_an_address_nobody_can_listen_on_is_a_fault(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("run", "testcard:", "--listen", ":80", "--listen", address) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("--listen: expected an address such as")
    assert printed.endswith(f"got {address}\n")


def test_run_says_what_is_wrong_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mjrelay.toml").write_text('[camera.a]\nsource = "a"\nb = 1\n')
    assert status("run") == 2
    assert capsys.readouterr().err.splitlines() == [
        f'mjrelay.toml:2: camera.a.source: expected {SOURCES}, got "a"',
        "mjrelay.toml:3: camera.a.b: there is no such option",
    ]


# check


def test_check_without_a_file_says_where_it_looked(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("check") == 2
    assert "./mjrelay.toml or /etc/mjrelay/mjrelay.toml" in capsys.readouterr().err


def test_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mjrelay.toml").write_text(CARD)
    assert status("check") == 0
    assert capsys.readouterr().out == "mjrelay.toml: no faults; cameras: front\n"


def test_check_takes_a_file_without_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.toml").write_text(CARD)
    assert status("check", "my.toml") == 0
    assert capsys.readouterr().out == "my.toml: no faults; cameras: front\n"
    assert status("check", "--config", "my.toml", "my.toml") == 2
    assert capsys.readouterr().err == "give one FILE, with --config or without\n"


@pytest.mark.parametrize(
    ("arguments", "what_to_type"),
    [
        (["check", "http://u:secret@printer/"], "mjrelay probe SOURCE"),
        (["run", "-c", "testcard:"], "mjrelay run SOURCE, without --config"),
    ],
)
def test_a_source_in_place_of_a_file_is_known(
    arguments: list[str], what_to_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.endswith(f" is a source and no file: type {what_to_type}\n")
    assert "secret" not in printed


def test_check_prints_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.toml").write_text(f"{CARD}a = 1\nb = 2\n")
    assert status("check", "--config", "my.toml") == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "my.toml:3: camera.front.a: there is no such option",
        "my.toml:4: camera.front.b: there is no such option",
    ]
    assert printed.out == ""


def test_check_of_a_file_that_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("check", "-c", "my.toml") == 2
    assert capsys.readouterr().err == "my.toml: cannot be read: No such file or directory\n"


def test_check_dumps_a_configuration_that_passes_the_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mjrelay.toml").write_text('[camera.a]\nsource = "http://admin:hunter2@printer/"\n')
    assert status("check", "--dump") == 0
    dumped = capsys.readouterr().out
    assert "hunter2" not in dumped
    Path("mjrelay.toml").write_text(dumped)
    assert status("check", "--dump") == 0
    assert capsys.readouterr().out == dumped


# probe


def test_probe_refuses_a_source_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("probe", "rtsp://u:secret@printer/") == 2
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "nan", "many"])
def test_probe_refuses_a_time_that_is_none(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("probe", "testcard:", "--seconds", seconds) == 2
    assert "--seconds" in capsys.readouterr().err


# devices

FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", None)
NOBODY = Holders((), hidden=False)


def device(holders: Holders = NOBODY, path: str = "/dev/video0") -> CaptureDevice:
    return CaptureDevice(
        source=f"usb:046d:0825:{path[-1]}",
        path=path,
        model="Webcam C270",
        bus="usb 1-1",
        modes=(Mode("MJPG", 640, 480, (30.0,)),),
        holders=holders,
    )


def plugged_in(monkeypatch: pytest.MonkeyPatch, *devices: CaptureDevice) -> None:
    monkeypatch.setattr("mjrelay.devices.inventory.capture_devices", lambda _here: [*devices])


def test_devices_begin_with_what_to_paste(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch, device(), device(Holders((FFMPEG,), hidden=False), "/dev/video2"))
    assert status("devices") == 0
    printed = capsys.readouterr()
    first, second, rest = printed.out.split("\n\n")
    assert first.splitlines()[0] == "usb:046d:0825:0"
    assert second.splitlines()[0] == "usb:046d:0825:2"
    assert second.splitlines()[-2:] == [
        "  held by  ffmpeg (pid 812): sudo kill 812",
        "           /usr/bin/ffmpeg -i x",
    ]
    assert (rest, printed.err) == ("", "")


def test_devices_say_that_root_would_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch, device(), device(Holders((), hidden=True)))
    assert status("devices") == 0
    assert "sudo mjrelay devices" in capsys.readouterr().out.splitlines()[-1]


def test_without_devices_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch)
    assert status("devices") == 0
    assert capsys.readouterr().out.startswith("There is no camera here. Plug one in")


def test_devices_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch, device(Holders((FFMPEG,), hidden=True)))
    assert status("devices", "--json") == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["source"] == "usb:046d:0825:0"
    assert found["modes"] == [
        {"format": "MJPG", "width": 640, "height": 480, "rates": [30.0], "between": False}
    ]
    assert found["holders"] == [{"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": None}]
    assert found["holders_hidden"] is True


def test_without_devices_programs_get_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugged_in(monkeypatch)
    assert status("devices", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


# reset


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with a camera, in the place of this computer."""
    desk = Desk()
    desk.held = Holders((FFMPEG,), hidden=False)
    monkeypatch.setattr("mjrelay.devices.computer.Devices", lambda: desk)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return desk


def claim(desk: Desk) -> None:
    """Let somebody stream from the camera."""
    desk.device.fails["configure"] = failure(errno.EBUSY, "VIDIOC_S_FMT")


def test_a_reset_says_where_the_camera_is_then(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.on_reset = lambda: desk.finds.append(node_at("/dev/video1"))
    assert status("reset", "/dev/video0") == 0
    assert capsys.readouterr().out == "Webcam C270 was reset and is at /dev/video1\n"
    assert desk.resets == [("reset", WEBCAM)]
    assert desk.looks[-1] == (V4l2Address("/dev/video0"), WEBCAM)


def test_a_reset_takes_usb_ids(desk: Desk) -> None:
    assert status("reset", "usb:046D:0825:A B") == 0
    assert desk.looks[0] == (V4l2Address(vendor="046d", product="0825", serial="A B"), None)


def test_a_camera_in_use_is_not_reset_and_who_uses_it_is_said(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(desk)
    assert status("reset", "/dev/video0") == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "/dev/video0 is in use",
        "held by ffmpeg (pid 812): sudo kill 812",
        "to reset it anyway: --force",
    ]
    assert printed.out == ""
    assert desk.resets == []


def test_a_camera_in_use_is_reset_by_force(desk: Desk) -> None:
    claim(desk)
    assert status("reset", "--force", "/dev/video0") == 0
    assert desk.resets == [("reset", WEBCAM)]


def test_a_camera_whose_link_comes_back_late_is_waited_for(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = SourceUnreachable("/dev/v4l/by-id/x is not there", "plug it in")
    desk.on_reset = lambda: desk.finds.extend([gone, gone, node_at("/dev/video1")])
    assert status("reset", "/dev/v4l/by-id/x") == 0
    assert capsys.readouterr().out == "Webcam C270 was reset and is at /dev/video1\n"
    assert desk.resets == [("reset", WEBCAM)]


def test_a_camera_that_never_comes_back_is_a_failure(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    desk.on_reset = desk.plugged.clear
    assert status("reset", "/dev/video0") == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "the camera did not come back within 6 s of the reset",
        "unplug it and plug it in again",
    ]
    assert printed.out == ""


def test_what_is_no_usb_device_is_not_reset(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.plugged = [node_at("/dev/video0", usb=None)]
    assert status("reset", "/dev/video0") == 1
    assert capsys.readouterr().err.splitlines() == [
        "/dev/video0 is no USB device, so it cannot be reset",
        "unplug it or restart the computer; `mjrelay devices` lists the USB cameras",
    ]


@pytest.mark.parametrize("hint", ["plug it in", None])
def test_a_camera_that_is_not_there_is_not_reset(
    desk: Desk, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.finds = [SourceUnreachable("/dev/video0 is not there", hint)]
    assert status("reset", "/dev/video0") == 1
    assert capsys.readouterr().err.splitlines() == [
        "/dev/video0 is not there",
        *([hint] if hint else []),
    ]


def test_a_reset_that_fails_says_what_is_missing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.ails = RemedyFailed("Webcam C270 could not be reset: Permission denied", "copy the rule")
    assert status("reset", "/dev/video0") == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "Webcam C270 could not be reset: Permission denied",
        "copy the rule",
    ]
    assert printed.out == ""


def test_reset_says_which_device_was_meant(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("reset", "video0") == 2
    assert capsys.readouterr().err.endswith("did you mean /dev/video0?\n")
    assert desk.looks == []


@pytest.mark.parametrize("text", ["usb:46d:825", "testcard:", "http://printer/"])
def test_reset_refuses_what_is_no_device(
    desk: Desk, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("reset", text) == 2
    assert capsys.readouterr().err == (
        "expected /dev/videoN or usb:VVVV:PPPP or usb:VVVV:PPPP:SERIAL, as `mjrelay devices` "
        f"shows, got {text}\n"
    )
    assert desk.looks == []


# probe, of a camera here


@pytest.fixture
def webcam(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A webcam that ffmpeg may have."""
    desk = Desk()
    desk.better = "usb:046d:0825:A"
    desk.held = Holders((FFMPEG,), hidden=False)
    monkeypatch.setattr("mjrelay.sources.v4l2.source.Devices", lambda: desk)
    return desk.device


def test_probe_names_who_holds_a_camera(
    webcam: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    webcam.fails["configure"] = failure(errno.EBUSY, "VIDIOC_S_FMT")
    assert status("probe", "/dev/video0") == 1
    lines = capsys.readouterr().out.splitlines()
    assert "stable name  usb:046d:0825:A" in lines
    assert "modes        MJPG 64x48 at 30 fps" in lines
    assert "held by      /usr/bin/ffmpeg -i x (pid 812)" in lines
    assert "failed       VIDIOC_S_FMT: Device or resource busy" in lines
    assert "try          held by ffmpeg (pid 812): sudo kill 812" in lines


def test_probe_for_programs_names_who_holds_a_camera(
    webcam: FakeDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    webcam.fails["configure"] = failure(errno.EBUSY, "VIDIOC_S_FMT")
    assert status("probe", "--json", "/dev/video0") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["reachable"] is True
    assert report["holders"] == [{"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": None}]
    assert report["facts"]["modes"] == ["MJPG 64x48 at 30 fps"]


def test_a_probe_watches_so_that_every_picture_is_encoded(
    webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    webcam.modes = [YUYV]
    webcam.scripts = ([FALSE_ALARM],)  # it stays readable
    picture = Buffer(bytes([16, 128] * 64 * 48), time.monotonic())
    filled = itertools.cycle([picture, None])
    monkeypatch.setattr(FakeCapture, "read", lambda _capture: next(filled))
    assert status("probe", "--json", "--seconds", "0.2", "/dev/video0") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pictures"] > 2, "unwatched it were one a second"
    assert report["facts"]["mode"] == "YUYV 64x48 at 30 fps"


# install-service


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Collect the configurations that would be served, without installing anything."""
    configs: list[Path | None] = []
    monkeypatch.setattr("mjrelay.installing.steps.this_computer", lambda **_options: None)
    monkeypatch.setattr("mjrelay.installing.service.this_program", list)
    monkeypatch.setattr(
        "mjrelay.installing.service.install",
        lambda _computer, _program, config: configs.append(config),
    )
    return configs


def test_who_has_installed_it_is_told_where_to_watch_and_how_to_let_others(
    installed: list[Path | None], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my.toml").write_text(f'[server]\nlisten = ["127.0.0.1:8081"]\n{CARD}')
    assert status("install-service", "--config", "my.toml") == 0
    assert installed == [Path("my.toml")]
    assert capsys.readouterr().out.splitlines() == [
        "Watch at http://127.0.0.1:8081/",
        (
            'Only this computer can watch. To let others: listen = ["0.0.0.0:8081"] in my.toml, '
            "then: sudo systemctl restart mjrelay"
        ),
    ]


@pytest.mark.usefixtures("installed")
def test_a_dry_run_invites_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("install-service", "--dry-run", "--config", "missing.toml") == 0
    assert capsys.readouterr().out == ""
