"""CommandSource: a program's pictures, its words, and its end."""

import asyncio
import math
import signal
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mjrelay.configuration.address import CommandAddress
from mjrelay.errors import MORE_FILES, SourceEnded, SourceError, SourceLost, SourceRefused
from mjrelay.sources import command
from mjrelay.sources.command import CommandSource
from tests.support.files import descriptors, room_for
from tests.support.pictures import picture
from tests.support.quirks import multipart
from tests.support.serving import config_for, until
from tests.support.source import images_of


def program(*arguments: str) -> CommandSource:
    return CommandSource(CommandAddress(arguments), config_for("testcard:"))


def script(text: str) -> CommandSource:
    return program("sh", "-c", text)


async def play(source: CommandSource) -> tuple[list[bytes], SourceError]:
    """Run a program to its end: its pictures, and how the end is told."""
    images: list[bytes] = []

    def show(image: bytes, _captured: float) -> None:
        images.append(image)

    try:
        async with asyncio.timeout(10), source.open() as stream:
            await stream(show)
    except SourceError as error:
        return images, error
    raise AssertionError("a source ended by itself")


async def end_of(source: CommandSource) -> SourceError:
    return (await play(source))[1]


def pids_in(path: Path, count: int) -> list[int]:
    """The pids that programs have written to a file, once they are all there."""
    written = path.read_text().split() if path.exists() else []
    return [int(pid) for pid in written] if len(written) == count else []


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_over(pid: int) -> bool:
    """Whether a process has ended; up to Python 3.11 a thread waits for it, later the loop does."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


# Starting


async def test_a_program_that_is_not_there_is_refused() -> None:
    error = await end_of(program("/nope/ffmpeg"))
    assert isinstance(error, SourceRefused)
    assert error.reason == "/nope/ffmpeg cannot be started: No such file or directory"
    assert error.hint == "check that it is installed, spelled right and may be executed"


async def test_one_that_may_not_be_executed_is_refused(tmp_path: Path) -> None:
    error = await end_of(program(str(tmp_path)))
    assert error.reason == f"{tmp_path} cannot be started: Permission denied"


# Two pipes, /dev/null, and the pipe by which a program that cannot be started is told.
NEEDED = 2 + 2 + 1 + 2


@pytest.mark.parametrize("count", range(NEEDED))
async def test_where_too_many_files_are_open_that_is_said(count: int) -> None:
    before = descriptors()
    source = program("true")
    with room_for(count), pytest.raises(SourceRefused) as caught:
        async with source.open():
            raise AssertionError("it was started")
    assert caught.value.reason == "true cannot be started: Too many open files"
    assert caught.value.hint == MORE_FILES
    await until(lambda: descriptors() == before)


async def test_one_that_has_just_enough_files_is_started() -> None:
    source = program("true")
    with room_for(NEEDED):
        async with source.open():
            pass


# Pictures

IMAGES = [picture(1), picture(2), picture(3)]


@pytest.mark.parametrize("stream", [b"".join(IMAGES), multipart(IMAGES)], ids=["bare", "multipart"])
@pytest.mark.parametrize("size", [1, 100, 65536])
async def test_pictures_come_however_they_are_written(
    stream: bytes, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "stream"
    path.write_bytes(stream)
    images, _ = await play(program("dd", f"if={path}", f"bs={size}", "status=none"))
    assert images == IMAGES


async def test_a_picture_that_breaks_off_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(picture(1) + picture(2)[:-100])
    source = program("cat", str(path))
    images, _ = await play(source)
    assert images == [picture(1)]
    assert source.tally.dropped == {"truncated": 1}


@pytest.mark.parametrize(
    ("count", "status", "is_gap"), [(1, 0, True), (0, 0, False), (1, 1, False)]
)
async def test_one_that_ends_well_after_pictures_goes_on_when_it_is_run_again(
    count: int, status: int, is_gap: bool, tmp_path: Path
) -> None:
    path = tmp_path / "stream"
    path.write_bytes(picture(1) * count)
    source = script(f"cat {path}; exit {status}")
    images, error = await play(source)
    assert len(images) == count
    assert isinstance(error, SourceEnded) == is_gap
    assert error.reason == f"sh ended with status {status}"
    assert source.tally.tolerated["program that ended"] == is_gap


async def test_a_picture_that_grows_is_a_sign_of_life(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_bytes(picture(1))
    half.write_bytes(picture(2)[:-100])
    source = script(f"cat {whole}; sleep 0.2; cat {half}; sleep 60")
    images: list[bytes] = []
    async with source.open() as stream:
        streaming = asyncio.ensure_future(stream(lambda image, _: images.append(image)))
        await until(lambda: images)
        assert source.sign_of_life() == -math.inf, "a whole picture speaks for itself"
        await until(lambda: source.sign_of_life() > 0)
        assert source.sign_of_life() <= time.monotonic()
        streaming.cancel()
        await asyncio.wait({streaming})


async def test_it_may_run_again() -> None:
    source = script("echo first >&2; exit 1")
    await end_of(source)
    assert (await end_of(source)).hint == "its last words: first"


# Its words


async def test_a_program_has_the_last_word() -> None:
    error = await end_of(script("echo no such camera >&2; exit 3"))
    assert isinstance(error, SourceLost)
    assert error.reason == "sh ended with status 3"
    assert error.hint == "its last words: no such camera"


async def test_one_that_says_nothing_is_to_be_tried_by_hand() -> None:
    error = await end_of(program("false"))
    assert error.hint == "run the command by hand and see what it says"


async def test_its_last_words_need_no_end_of_line() -> None:
    error = await end_of(script("printf 'one\\n\\ntwo\\n \\nthree' >&2"))
    assert error.hint == "its last words: three"


async def test_its_last_words_are_heard_though_its_end_is_known_before(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    source = script(f"printf 'no such camera' >&2; echo $$ > {pids}")
    async with source.open() as stream:
        while not (pid := pids_in(pids, 1)) or not is_over(pid[0]):
            time.sleep(0.001)  # noqa: ASYNC251 - so that the event loop learns all at once
        with pytest.raises(SourceLost) as caught:
            await stream(lambda *_: None)
    assert caught.value.hint == "its last words: no such camera"


async def test_many_words_are_all_heard() -> None:
    """More than the pipe holds, and all of it before the last."""
    with capture_logs() as logs:
        error = await end_of(script("seq 1 50000 >&2"))
    assert error.hint == "its last words: 50000"
    assert [entry["line"] for entry in logs] == [str(number) for number in range(1, 50001)]
    assert {entry["event"] for entry in logs} == {"command.stderr"}


async def test_progress_that_is_written_over_itself_is_read_as_lines() -> None:
    error = await end_of(script("printf 'frame=1\\rframe=2\\r\\ncamera lost\\r\\n' >&2"))
    assert error.hint == "its last words: camera lost"


@pytest.mark.parametrize("length", [100, command._MAX_LINE + 1, 2**20])
@pytest.mark.parametrize("end", ["", "\\n"])
async def test_a_line_that_is_too_long_is_left_out(length: int, end: str) -> None:
    """Wherever it is cut: half a URL may hold a password, and nothing to know it by."""
    line = f"yes rtsp://me:hunter2@camera/ | tr -d '\\n' | head -c {length}"
    with capture_logs() as logs:
        await end_of(script(f"{{ {line}; printf '{end}'; }} >&2"))
    assert len(logs) == (length <= command._MAX_LINE)
    assert "hunter" not in str(logs)


async def test_what_follows_a_line_that_is_too_long_is_heard() -> None:
    error = await end_of(script("{ head -c 1000000 /dev/zero; echo; echo gone; } >&2"))
    assert error.hint == "its last words: gone"


@pytest.mark.parametrize("ahead", range(command._MOST_OF_A_LINE - 30, command._MOST_OF_A_LINE))
def test_secrets_are_hidden_before_a_line_is_cut(ahead: int) -> None:
    source = program("true")
    with capture_logs() as logs:
        source._note([b"x" * ahead + b" rtsp://me:hunter2@camera/"])
    (entry,) = logs
    assert len(entry["line"]) <= command._MOST_OF_A_LINE
    assert "hu" not in entry["line"]


async def test_secrets_in_its_words_are_hidden() -> None:
    with capture_logs() as logs:
        error = await end_of(script("echo lost rtsp://me:hunter2@camera/ >&2"))
    assert error.hint == "its last words: lost rtsp://***@camera/"
    assert "hunter2" not in str(logs)


async def test_a_child_that_listens_no_more_than_it_speaks_keeps_nobody_waiting() -> None:
    """It has left the group, and holds what the program said its last words to."""
    source = script("setsid sleep 5 >/dev/null & echo gone >&2; exit 1")
    begun = time.monotonic()
    error = await end_of(source)
    assert error.hint == "its last words: gone"
    assert time.monotonic() - begun < 3


# Its end


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit 0", "sh ended with status 0"),
        ("exit 7", "sh ended with status 7"),
        ("kill -SEGV $$", "sh was ended by SIGSEGV"),
        (f"kill -{signal.SIGRTMIN + 3} $$", f"sh was ended by signal {signal.SIGRTMIN + 3}"),
    ],
)
async def test_how_it_ended_is_told(how: str, told: str) -> None:
    error = await end_of(script(how))
    assert isinstance(error, SourceLost)
    assert error.reason == told


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give programs little time to end."""
    monkeypatch.setattr(command, "_END_TIMEOUT", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_one_that_closes_its_output_and_runs_on_is_ended(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    error = await end_of(script(f"echo $$ > {pids}; exec sleep 60 >&-"))
    assert error.reason == "sh closed its output"
    (pid,) = pids_in(pids, 1)
    assert not is_running(pid)


FAMILY = """\
{prelude}
echo $$ >> {pids}
( {prelude}
  sh -c 'echo $$ >> {pids}; exec sleep 60' ) &
sleep 60 &
echo $! >> {pids}
wait
while :; do sleep 60; done
"""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("prelude", ["", "trap '' TERM"], ids=["polite", "deaf"])
async def test_it_ends_with_all_that_it_started(prelude: str, tmp_path: Path) -> None:
    """A silent one, too: it is left when nobody waits for its pictures any more."""
    pids = tmp_path / "pids"
    async with script(FAMILY.format(prelude=prelude, pids=pids)).open():
        await until(lambda: pids_in(pids, 3))
        family = pids_in(pids, 3)
        assert all(map(is_running, family))
    await until(lambda: not any(map(is_running, family)))


async def test_one_that_is_silent_is_waited_for() -> None:
    """When that is too long, others decide."""
    async with images_of(program("sleep", "60")) as images:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(images), 0.1)


def test_it_says_what_it_is() -> None:
    assert program("true").facts() == {"framing": "a program's output"}
