"""The commands say what is wrong in sentences, and end with the right status."""

from pathlib import Path

import pytest

from mjrelay import __version__, cli
from mjrelay.address import ListenAddress, TestcardAddress
from mjrelay.config import Config
from mjrelay.errors import ConfigError, ListenError

SOURCES = "http://…, https://…, /dev/video0, usb:VVVV:PPPP, testcard: or exec:COMMAND"
CARD = '[camera.front]\nsource = "testcard:"\n'


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory, with no configuration of the machine."""
    monkeypatch.chdir(tmp_path)
    for module in ("config", "cli"):
        monkeypatch.setattr(f"mjrelay.{module}.SEARCHED", (Path("mjrelay.toml"),), raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Collect what would be served, without serving it."""
    configs: list[Config] = []

    def serve(config: Config, *, verbose: bool) -> int:
        assert not verbose
        configs.append(config)
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


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["probe"]])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*command, "--help") == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: mjrelay", *command]))


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["run", "--colour"], ["probe"], ["probe", "testcard:", "b"]]
)
def test_a_command_line_that_is_none_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: mjrelay")


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


def test_sources_and_a_file_are_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.toml").write_text(CARD)
    assert status("run", "-c", "my.toml", "testcard:") == 2
    assert capsys.readouterr().err == "give either sources or --config, not both\n"


def test_every_source_that_is_none_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("run", "printer", "testcard:", "b=rtsp://u:secret@printer/") == 2
    assert capsys.readouterr().err == (
        f"source 1: expected {SOURCES}, got printer\n"
        f"source 3: expected {SOURCES}, got rtsp://***@printer/\n"
    )


@pytest.mark.parametrize("address", ["nowhere", ":65536", "unix:relative"])
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
