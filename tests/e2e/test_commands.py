"""The commands as people run them: what they say, how they end, what they keep to themselves."""

import asyncio
import base64
import contextlib
import functools
import json
import os
import pty
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import mjrelay
from mjrelay.configuration.tables import SEARCHED
from tests.support.camera import STREAM, AskAuth, Frames, HttpHead, Script, ScriptedCamera, Send
from tests.support.daemon import Finished, RelayProcess, eventually, run_mjrelay, running
from tests.support.pictures import picture
from tests.support.quirks import REFUSALS, REPLIES, Reply
from tests.support.viewer import Viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

QUIRKY = [
    reply
    for reply in REPLIES
    if reply.name
    in {
        "mjpg-streamer",
        "one snapshot",
        "another boundary than declared, and no lengths",
        "LF only in the parts",
        "no Huffman tables",
        "pictures without multipart or type",
        "no status line, headers or multipart",
        "says chunked, is not",
    }
]
USER, PASSWORD = "operator", "hunter2-secret"


def words(finished: Finished) -> str:
    """All a command wrote, which must not frighten anybody."""
    text = finished.out + finished.err
    assert "Traceback" not in text
    return text


def name(reply: Reply) -> str:
    return reply.name


async def test_version() -> None:
    finished = await run_mjrelay("--version")
    assert (finished.status, finished.out) == (0, f"mjrelay {mjrelay.__version__}\n")


@pytest.mark.skipif(
    any(path.is_absolute() and path.exists() for path in SEARCHED),
    reason="this computer has a configuration of its own",
)
async def test_run_without_anything_shows_how(tmp_path: Path) -> None:
    finished = await run_mjrelay("run", cwd=tmp_path)
    assert finished.status == 2
    assert "mjrelay run testcard:" in words(finished)


async def test_run_says_that_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = await run_mjrelay("run", "--listen", f"127.0.0.1:{port}", "testcard:")
    assert finished.status == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in words(finished)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gopher://camera/"], "expected http"),
        (["--listen", "nowhere", "testcard:"], "--listen"),
        (["a=testcard:", "a=testcard:?fps=1"], "two cameras are named a"),
        (["http://127.0.0.1:9/x", "http://127.0.0.1:9/x"], "already the source of camera camera"),
        (["--config", "missing.toml"], "missing.toml"),
    ],
)
async def test_run_says_what_is_wrong(arguments: list[str], said: str, tmp_path: Path) -> None:
    finished = await run_mjrelay("run", *arguments, cwd=tmp_path)
    assert finished.status == 2
    assert said in words(finished)


@pytest.mark.parametrize("reply", QUIRKY, ids=name)
async def test_probe_reports_a_quirky_camera(reply: Reply) -> None:
    async with ScriptedCamera([Send(reply.wire)]) as camera:
        text = await run_mjrelay("probe", camera.url, "--seconds", "1")
        values = await run_mjrelay("probe", camera.url, "--seconds", "1", "--json")
        assert camera.most_open == 1
    assert text.status == values.status == 0, words(text)
    assert "64x48" in words(text)
    report = json.loads(values.out)
    assert report["reachable"] is True
    assert report["pictures"] >= len(reply.images)
    assert (report["width"], report["height"]) == (64, 48)
    assert words(values)


@pytest.mark.parametrize("reply", REFUSALS, ids=name)
async def test_probe_diagnoses_what_is_no_camera(reply: Reply) -> None:
    async with ScriptedCamera([Send(reply.wire)]) as camera:
        text = await run_mjrelay("probe", camera.url)
        values = await run_mjrelay("probe", camera.url, "--json")
    assert text.status == values.status == 1
    assert reply.error in words(text).lower()
    report = json.loads(values.out)
    assert report["reachable"] is ("status" in report["facts"])
    assert report["pictures"] == 0
    assert reply.error in report["reason"].lower()


async def test_probe_says_that_a_camera_is_not_there() -> None:
    async with ScriptedCamera() as camera:
        await camera.refuse()
        finished = await run_mjrelay("probe", camera.url)
    assert finished.status == 1
    assert "refuses connections" in words(finished)


async def test_probe_counts_a_live_camera_s_frames() -> None:
    async with ScriptedCamera([Send(HttpHead), Frames(fps=20)]) as camera:
        finished = await run_mjrelay("probe", camera.url, "--seconds", "2", "--json")
        report = json.loads(finished.out)
        assert finished.status == 0
        assert 14 < report["fps"] < 22
        await camera.until(lambda: camera.ends == ["fin"])
        assert camera.accepted == 1


FAULTY = """\
[server]
listen = "127.0.0.1:8080"
colour = "blue"

[camera.printer]
source = "http://operator:hunter2-secret@printer/?action=stream"
mode = "sometimes"
password_file = "missing"

[camera.other]
source = "ftp://operator:hunter2-secret@printer/"
"""


async def test_check_lists_every_fault_at_once(tmp_path: Path) -> None:
    path = tmp_path / "faulty.toml"
    path.write_text(FAULTY, encoding="utf-8")
    finished = await run_mjrelay("check", "--config", str(path))
    assert finished.status == 2
    text = words(finished)
    for line, option in (
        (2, "server.listen"),
        (3, "server.colour"),
        (7, "camera.printer.mode"),
        (8, "camera.printer.password_file"),
        (11, "camera.other.source"),
    ):
        assert f"{path}:{line}: {option}: " in text
    assert PASSWORD not in text
    assert "sometimes" in text


async def test_check_dumps_the_configuration_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "mjrelay.toml"
    (tmp_path / "printer.pw").write_text(PASSWORD + "-file\n", encoding="utf-8")
    path.write_text(
        '[camera.printer]\nsource = "http://127.0.0.1:9/stream?user=me&pwd=hunter2-secret"\n'
        'username = "operator"\npassword_file = "printer.pw"\n'
        '[camera.front]\nsource = "https://operator:hunter2-secret@127.0.0.1:9/"\n',
        encoding="utf-8",
    )
    quiet = await run_mjrelay("check", cwd=tmp_path)
    assert quiet.status == 0
    assert "printer, front" in words(quiet)
    dumped = await run_mjrelay("check", "--dump", cwd=tmp_path)
    assert dumped.status == 0
    assert "hunter2" not in words(dumped)
    again = tmp_path / "again.toml"
    again.write_text(dumped.out, encoding="utf-8")
    assert (await run_mjrelay("check", "--config", str(again))).status == 0


# Secrets

REFUSED: Script = (AskAuth('Basic realm="camera"'),)


def was_asked_twice(camera: ScriptedCamera) -> bool:
    return len(camera.requests) >= 2


@contextlib.asynccontextmanager
async def secretive(script: tuple[Script, ...], tmp_path: Path) -> AsyncIterator[RelayProcess]:
    """A relay whose two cameras need a password, one from its URL and one from a file."""
    path = tmp_path / "mjrelay.toml"
    (tmp_path / "printer.pw").write_text(PASSWORD + "\n", encoding="utf-8")
    async with ScriptedCamera(*script) as first, ScriptedCamera(*script) as second:
        in_url = first.url.replace("//", f"//{USER}:{PASSWORD}@")
        path.write_text(
            f'[camera.url]\nsource = "{in_url}&password={PASSWORD}"\n'
            f'[camera.file]\nsource = "{second.url}"\n'
            f'username = "{USER}"\npassword_file = "printer.pw"\n',
            encoding="utf-8",
        )
        async with RelayProcess("--verbose", "--config", str(path)) as relay:
            for camera in (first, second):
                await eventually(functools.partial(was_asked_twice, camera))
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
            for camera in (first, second):
                assert token not in camera.requests[0]
                assert b"Authorization: Basic " + token in camera.requests[1]
            yield relay


async def shown(relay: RelayProcess) -> str:
    """All that a relay tells about its cameras."""
    of_one = ("status", "health", "snapshot")
    paths = [f"/cameras/{name}/{what}" for name in ("url", "file", "nobody") for what in of_one]
    paths += ["/", "/status", "/state", "/readyz"]
    return "".join([await relay.get(path) for path in paths]) + relay.output


def assert_no_secrets(text: str) -> None:
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, USER, token):
        assert secret not in text


async def test_secrets_of_a_camera_that_accepts_them_appear_nowhere(tmp_path: Path) -> None:
    async with secretive((REFUSED, STREAM), tmp_path) as relay:
        await relay.camera_until(lambda camera: camera["state"] == "streaming")
        text = await shown(relay)
        await relay.terminate()
        assert_no_secrets(text + relay.output)


async def test_secrets_of_a_camera_that_refuses_them_appear_nowhere(tmp_path: Path) -> None:
    async with secretive((REFUSED,), tmp_path) as relay:
        await relay.camera_until(lambda camera: "password" in (camera["reason"] or ""))
        text = await shown(relay)
        await relay.terminate()
        assert "refuses" in text
        assert_no_secrets(text + relay.output)


# Programs as sources


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits for its parent to notice its end does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def ended_at_exit(pids: Path) -> Iterator[None]:
    """End what a test has left running, of the processes a file names."""
    try:
        yield
    finally:
        for pid in map(int, pids.read_text(encoding="ascii").split()):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


FAMILY = """\
{prelude}
echo $$ >> {pids}
( {prelude}
  sh -c 'echo $$ >> {pids}; while cat {picture}; do sleep 0.05; done' ) &
sleep 1000 &
echo $! >> {pids}
wait
"""


@pytest.mark.parametrize("prelude", ["", "trap '' TERM"], ids=["polite", "deaf"])
async def test_a_program_ends_with_all_it_started(prelude: str, tmp_path: Path) -> None:
    pids, image, script = tmp_path / "pids", tmp_path / "picture.jpg", tmp_path / "camera.sh"
    image.write_bytes(picture(1))
    pids.touch()
    script.write_text(FAMILY.format(prelude=prelude, pids=pids, picture=image), encoding="utf-8")
    with ended_at_exit(pids):
        async with RelayProcess(f"exec:sh {script}") as relay, Viewer(relay.url) as viewer:
            await viewer.until(lambda: len(viewer.frames) >= 5, within=10)
            started = [int(pid) for pid in pids.read_text(encoding="ascii").split()]
            assert len(started) == 3
            assert all(map(is_running, started))
            ended = await relay.terminate()
            assert ended.status == 0
            assert ended.seconds < 2
            assert not any(map(is_running, started))
            await eventually(lambda: viewer.end == "clean")


def has_opened(times: int, camera: dict[str, Any]) -> bool:
    return bool(camera["opens"] >= times)


async def test_a_program_whose_child_escapes_leaves_nothing_in_the_relay(tmp_path: Path) -> None:
    pids, script, config = (tmp_path / name for name in ("pids", "camera.sh", "mjrelay.toml"))
    # The child has left the process group, says nothing, and holds the program's output open.
    script.write_text(f"setsid sh -c 'echo $$ >> {pids}; exec sleep 60' &\nwait\n", "ascii")
    config.write_text(
        f'[camera.escaping]\nsource = "exec:sh {script}"\n'
        "first_frame_timeout = 0.2\nredial_delay = 0.1\nretry_max = 0.1\n",
        "ascii",
    )
    pids.touch()
    with ended_at_exit(pids):
        async with RelayProcess("--config", str(config)) as relay:
            files = {}
            for opens in (2, 6):
                await relay.camera_until(functools.partial(has_opened, opens), within=20)
                files[opens] = relay.open_files()
            assert files[6] <= files[2] + 4  # one program's pipes more or less
            ended = await relay.terminate()
            assert ended.status == 0
            assert ended.seconds < 2


async def test_a_program_that_ends_is_started_again_and_its_last_words_are_told(
    tmp_path: Path,
) -> None:
    image, script = tmp_path / "picture.jpg", tmp_path / "camera.py"
    image.write_bytes(picture(1))
    script.write_text(
        "import pathlib, sys, time\n"
        f"sys.stdout.buffer.write(pathlib.Path({str(image)!r}).read_bytes() * 2)\n"
        "sys.stdout.flush()\ntime.sleep(0.5)\n"
        "sys.exit('lost rtsp://operator:hunter2-secret@camera/')\n",
        encoding="utf-8",
    )
    async with (
        RelayProcess("--verbose", f"exec:{sys.executable} {script}") as relay,
        Viewer(relay.url) as viewer,
    ):
        await relay.camera_until(lambda camera: camera["state"] == "recovering", within=10)
        camera = await relay.camera()
        assert "ended with status 1" in camera["reason"]
        assert "lost rtsp://***@camera/" in camera["hint"]
        await relay.camera_until(lambda camera: camera["opens"] >= 2, within=10)
        text = await relay.get("/status")
        assert viewer.end is None
        assert (await relay.terminate()).status == 0
        assert "hunter2" not in text + relay.output


def is_alive(pids: Path) -> bool:
    """Whether the program that wrote its pid into a file is there."""
    return Path("/proc", pids.read_text("ascii").strip()).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_every_polite_signal_ends_the_relay_and_its_programs(
    tmp_path: Path, number: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    pids.touch()
    program = tmp_path / "camera.sh"
    program.write_text(f"echo $$ >> {pids}; exec sleep 60\n", "ascii")
    with ended_at_exit(pids):
        async with RelayProcess(f"exec:sh {program}") as relay:
            await eventually(lambda: bool(pids.read_text("ascii")), 10)
            ended = await relay.terminate(by=number)
        assert ended.status == 0
        assert ended.seconds < 2
        assert not is_alive(pids)


async def test_a_probe_that_is_ended_ends_its_program(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.touch()
    program = tmp_path / "camera.sh"
    program.write_text(f"echo $$ >> {pids}; exec sleep 60\n", "ascii")
    with ended_at_exit(pids):
        probe = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mjrelay", "probe", f"exec:sh {program}",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await eventually(lambda: bool(pids.read_text("ascii")), 10)
        probe.terminate()
        _, complaints = await asyncio.wait_for(probe.communicate(), 10)
        assert (probe.returncode, complaints) == (1, b"")
        assert not is_alive(pids)


# What a person sees


async def test_probe_names_the_relay_that_has_the_camera_s_only_connection() -> None:
    async with ScriptedCamera(one_slot=True) as camera, RelayProcess(camera.url) as relay:
        await relay.camera_until(lambda camera: camera["state"] == "streaming")
        finished = await run_mjrelay("probe", camera.url, "--json")
    report = json.loads(finished.out)
    assert finished.status == 1
    assert [holder["pid"] for holder in report["holders"]] == [relay.pid]
    assert f"(pid {relay.pid}" in report["hint"]
    assert "of this computer has the camera: watch it there" in report["hint"]


async def test_probe_says_that_another_relay_answers() -> None:
    async with RelayProcess("testcard:") as relay:
        stream = await run_mjrelay("probe", f"{relay.url}/stream", "--seconds", "0.2")
        page = await run_mjrelay("probe", relay.url)
    assert stream.status == 0
    assert "note         another mjrelay answers there: watch it directly" in stream.out
    assert page.status == 1
    assert "try          take one of its streams: /?action=stream" in page.out


async def test_a_password_in_a_query_appears_nowhere_whatever_its_name() -> None:
    """As recorders want it: /snapshot.cgi?chn=0&u=admin&p=…."""
    async with ScriptedCamera() as camera:
        source = camera.url.replace("?action=stream", f"snapshot.cgi?chn=0&u={USER}&p={PASSWORD}")
        async with RelayProcess("--verbose", source) as relay:
            await relay.camera_until(lambda camera: camera["state"] == "streaming")
            assert (await relay.camera())["source"].endswith("/snapshot.cgi?chn=0&u=***&p=***")
            text = "".join([await relay.get(path) for path in ("/", "/status", "/state")])
            await relay.terminate()
        assert PASSWORD.encode() in camera.requests[0]
    assert_no_secrets(text + relay.output)


@pytest.mark.parametrize("command", ["run", "probe"])
@pytest.mark.parametrize("text", ["p@zz/word", "zz?word", "zz#word", "1234/zz"])
async def test_a_password_that_would_end_the_host_is_refused(command: str, text: str) -> None:
    async with ScriptedCamera() as camera:
        source = camera.url.replace("//", f"//admin:{text}@")
        finished = await run_mjrelay(command, source)
        assert camera.accepted == 0
    assert finished.status == 2
    said = words(finished)
    assert "in a password write / as %2F, ? as %3F, # as %23, @ as %40" in said
    assert "zz" not in said


async def test_the_line_for_rtsp_is_one_that_ffmpeg_understands() -> None:
    told = await run_mjrelay("run", "rtsp://127.0.0.1:9/stream1?channel=1&subtype=0")
    assert told.status == 2
    [source] = shlex.split(words(told).partition(": write ")[2])
    finished = await run_mjrelay("probe", source)
    assert "Connection refused" in finished.out  # and no option that it does not know


async def test_the_line_for_a_stream_of_ffmpeg_s_shows_its_pictures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = await run_mjrelay("run", f"tcp://127.0.0.1:{port}")
    [source] = shlex.split(words(told).partition(": write ")[2])
    serving = (
        "ffmpeg -nostdin -loglevel error -re -f lavfi -i testsrc=size=64x48:rate=25 "
        f"-c:v mpeg2video -f mpegts tcp://127.0.0.1:{port}?listen=1"
    )
    async with running(*shlex.split(serving)):
        await eventually(functools.partial(is_listening, port), 10)
        finished = await run_mjrelay("probe", source, "--seconds", "1")
    assert finished.status == 0, words(finished)
    assert "size         64x48" in finished.out


def is_listening(port: int) -> bool:
    """Whether a port is listened on; asking it would take the only connection."""
    rows = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)


async def test_on_a_terminal_it_says_where_to_watch_and_how_to_let_others() -> None:
    ours, theirs = pty.openpty()
    try:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mjrelay", "run", "testcard:", "--port", "0"), stderr=theirs
        )
        os.set_blocking(ours, False)
        said = b""

        def is_told() -> bool:
            nonlocal said
            with contextlib.suppress(BlockingIOError):
                said += os.read(ours, 4096)
            return b"To let others: --listen 0.0.0.0:" in said

        try:
            await eventually(is_told, 10)
        finally:
            program.send_signal(signal.SIGINT)
            await asyncio.wait_for(program.wait(), 10)
    finally:
        os.close(ours)
        os.close(theirs)
    assert said.startswith(b"Watch at http://127.0.0.1:")
    assert program.returncode == 0


async def test_ctrl_c_ends_a_probe_without_a_traceback() -> None:
    async with ScriptedCamera(one_slot=True) as camera, camera.slot:  # nobody answers
        probe = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mjrelay", "probe", camera.url),
            stderr=asyncio.subprocess.PIPE,
        )
        await camera.until(lambda: camera.accepted == 1)
        probe.send_signal(signal.SIGINT)
        _, complaints = await asyncio.wait_for(probe.communicate(), 10)
    assert (probe.returncode, complaints) == (130, b"")
