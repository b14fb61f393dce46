"""A command line that cannot be understood is answered with what to type."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.command_line import UsageError, parse


def said(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["chek"], "there is no command chek: did you mean mjrelay check?"),
        (["prob", "testcard:"], "there is no command prob: did you mean mjrelay probe testcard:?"),
        (["start", "a b"], "there is no command start: did you mean mjrelay run 'a b'?"),
        (["list"], "there is no command list: did you mean mjrelay devices?"),
        (["help"], "there is no command help: did you mean mjrelay --help?"),
        (["--verison"], "there is no --verison: did you mean --version?"),
        (["-V"], "there is no -V: did you mean --version?"),
        (["run", "--lisen", ":80"], "there is no --lisen: did you mean --listen?"),
        (["run", "--lisen=:80"], "there is no --lisen: did you mean --listen?"),
        (["run", "-p", "80"], "there is no -p: did you mean --port?"),
        (["probe", "-k", "https://h/"], "there is no -k: did you mean --insecure?"),
        (["probe", "--timeout", "5", "x"], "there is no --timeout: did you mean --seconds?"),
        (["devices", "--jsn"], "there is no --jsn: did you mean --json?"),
        (["--config", "x"], "--config belongs to a command: did you mean mjrelay run --config …?"),
        (["http://h/?a&b"], "did you mean mjrelay run 'http://h/?***&***'?"),
        (["testcard:"], "did you mean mjrelay run testcard:?"),
        (["192.168.1.5"], "http:// is missing: did you mean mjrelay run http://192.168.1.5?"),
        (["my relay.toml"], "did you mean mjrelay run --config 'my relay.toml'?"),
        (["Run", "testcard:"], "there is no command Run: did you mean mjrelay run testcard:?"),
        (["a=testcard:"], "did you mean mjrelay run a=testcard:?"),
        (["status"], "there is no command status; of the service: systemctl status mjrelay"),
        (["logs"], "there is no command logs; of the service: journalctl -u mjrelay"),
        (
            ["nonsense"],
            (
                "there is no command nonsense; there are: run, check, probe, devices, reset, "
                "install-service, uninstall-service"
            ),
        ),
        (["-v", "run", "x"], "the command comes first: mjrelay run -v x"),
        (["run", "-p8080", "x"], "there is no -p: did you mean --port?"),
        (["run", "-x"], "there is no -x: mjrelay run --help lists what there is"),
        (["devices", "--fps"], "there is no --fps: mjrelay devices --help lists what there is"),
        (
            ["run", "-r", "640x480", "x"],
            'there is no -r: write size = "640x480" below [camera.NAME] in a configuration',
        ),
        (
            ["run", "--device=/dev/video0"],
            "there is no --device: write the SOURCE alone, such as /dev/video0",
        ),
        (["run", "--name", "a", "x"], "there is no --name: write NAME=SOURCE"),
        (
            ["probe", "x", "--password", "S3cret"],
            (
                "there is no --password: write http://USER:PASSWORD@HOST/…, with your own for USER "
                "and PASSWORD"
            ),
        ),
        (["devices", "list"], "list is too much: mjrelay devices --help"),
        (["check", "a.toml", "b.toml"], "b.toml is too much: mjrelay check --help"),
        (["install-service", "-c", "x"], "there is no -c: did you mean --config?"),
        (["install-service", "x.toml"], "did you mean --config x.toml?"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(words: list[str], sentence: str) -> None:
    assert said(*words) == sentence


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["run", "exec:ffmpeg", "-i", "x", "-"], "run 'exec:ffmpeg -i x -'"),
        (["probe", "exec:ffmpeg", "-i", "a b"], "probe 'exec:ffmpeg -i '\"'\"'a b'\"'\"''"),
        (["run", "a=exec:cat", "film", "-n"], "run 'a=exec:cat film -n'"),
        (["run", "ffmpeg", "-i", "x", "-f", "mjpeg", "-"], "run 'exec:ffmpeg -i x -f mjpeg -'"),
        (["ffmpeg", "-i", "x"], "run 'exec:ffmpeg -i x'"),
        (
            ["run", "--listen", ":80", "exec:curl", "-u", "me:S3cret", "http://h/"],
            "run --listen :80 'exec:curl -u *** http://h/'",
        ),
    ],
)
def test_a_command_that_the_shell_took_apart_is_put_together(
    words: list[str], command: str
) -> None:
    assert said(*words) == f"put quotes around the command: mjrelay {command}"


@pytest.mark.parametrize("words", [[], ["probe"], ["reset"], ["run", "--port", "x"]])
def test_of_other_lines_the_usage_is_shown(words: list[str]) -> None:
    assert said(*words).startswith("usage: mjrelay")


def test_no_sentence_shows_a_password() -> None:
    for words in (
        ["serve", "http://me:S3cret@h/"],
        ["rtsp://me:S3cret@h/"],
        ["--token", "S3cret"],
        ["run", "--auth", "me:S3cret"],
        ["probe", "x", "me:S3cret@h"],
        ["x", "--token", "S3cret"],
    ):
        assert "S3cret" not in said(*words)


@given(st.lists(st.text("ab-=:/ \udcff\0exc'", max_size=8) | st.sampled_from(["run", "-c"])))
def test_any_words_are_options_or_a_usage_error(words: list[str]) -> None:
    with contextlib.suppress(UsageError, SystemExit):  # --help and --version exit
        parse(words)
