"""Gaps: a stream ends by itself, and goes on when it is opened again."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from mjrelay.camera.camera import Camera
from mjrelay.errors import SourceEnded, SourceLost, SourceRefused, SourceUnreachable
from mjrelay.recovery.backoff import REOPEN_EVERY
from mjrelay.sources import Show
from tests.support.camera import Close, Frames, HttpHead, Pause, Reset, ScriptedCamera, Send, Step
from tests.support.pictures import picture, stamped
from tests.support.quirks import multipart
from tests.support.serving import camera_for, running, scripted, until
from tests.support.source import SILENCE, RecordingSink, ScriptedSource, steps
from tests.support.source import Step as SourceStep

ENDED = SourceEnded("the camera ended the stream", "it may have rebooted")


def ending(*numbers: int) -> list[SourceStep]:
    return [*steps(*numbers), ENDED]


async def test_a_gap_is_no_outage() -> None:
    """A camera that ends its stream every 8 s: intx82/a9-v720#52."""
    camera = scripted(ScriptedSource(ending(1), ending(2), ending(3), [*steps(4), SILENCE]))
    sink = RecordingSink()
    with capture_logs() as logs:
        async with running(camera):
            with camera.watched():
                await camera.admit(sink)
                await until(lambda: camera.published == 4)
                assert camera.state == "streaming"
                assert camera.is_fresh
                camera.fanout.leave(sink)
    assert all(frame.seq for frame in sink.frames), "no offline picture"
    assert not camera.failures
    assert not camera.condition.outages
    told = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert told == ["camera.streaming", "camera.stopped"]


async def test_pauses_do_not_grow_however_often_the_stream_ends() -> None:
    camera = scripted(ScriptedSource(ending(1)), redial_delay=0.02, retry_max=60)
    async with running(camera):
        await until(lambda: camera.opens == 20)
        assert not camera.failures


async def test_redial_delay_is_kept_in_a_gap() -> None:
    source = ScriptedSource(ending(1))
    camera = scripted(source, redial_delay=0.2)
    began = time.monotonic()
    async with running(camera):
        await until(lambda: source.opened == 3)
    assert time.monotonic() - began >= 0.39


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (SourceUnreachable("127.0.0.1:80 refuses connections"), "absent"),
        (SourceRefused("the camera answers 503"), "recovering"),
        (SourceLost("the camera closed the connection without an answer"), "recovering"),
    ],
)
async def test_a_gap_whose_redial_fails_is_told_at_once(
    failure: SourceLost | SourceUnreachable, state: str
) -> None:
    """Such as a camera that reboots."""
    camera = scripted(ScriptedSource(ending(1), [failure]), stall_timeout=30, redial_delay=0.01)
    async with running(camera):
        await until(lambda: camera.state == state)
        assert camera.condition.reason == failure.reason
        assert [outage.reason for outage in camera.condition.outages] == [failure.reason]


async def test_a_gap_as_long_as_a_silence_may_be_is_an_outage_and_the_redial_goes_on() -> None:
    source = ScriptedSource(ending(1, 2), [0.6, *steps(3), SILENCE])
    camera = scripted(source, stall_timeout=0.2, redial_delay=0.01, offline_after=0)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            await camera.admit(sink)
            await until(lambda: camera.state == "recovering")
            assert camera.condition.reason == ENDED.reason
            assert not camera.is_fresh
            await until(lambda: sink.frames[-1].seq == 0)
            await until(lambda: camera.state == "streaming")
            camera.fanout.leave(sink)
    assert source.opened == 2, "the attempt that was under way was not given up"
    assert camera.failures == {"lost": 1}
    assert len(camera.condition.outages) == 1


async def test_a_camera_that_ends_all_the_time_can_be_well() -> None:
    """An outage is over for the log when pictures have come for some seconds, gaps included."""
    short: list[SourceStep] = [
        *(step for number in range(5) for step in (stamped(number), 0.02)),
        ENDED,
    ]
    source = ScriptedSource([stamped(1), SourceLost("broke off")], short)
    camera = scripted(source, redial_delay=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mjrelay.camera.camera.HEALTHY_AFTER", 0.3)
        async with running(camera):
            await until(lambda: camera.condition.outages)
            await until(lambda: camera.state == "streaming" and not camera.condition.interruptions)


async def test_a_gap_does_not_hide_that_the_picture_is_frozen() -> None:
    same: list[SourceStep] = [picture(1), 0.02, picture(1), ENDED]
    camera = scripted(ScriptedSource(same), redial_delay=0.01, frozen_after=0.3)
    async with running(camera):
        await until(lambda: camera.state == "frozen")
        opened = camera.opens
        await until(lambda: camera.opens > opened + 3)
        assert camera.state == "frozen", "and stays it, however often the stream ends"
        assert len(camera.condition.outages) == 1


async def test_nobody_watches_in_a_gap() -> None:
    source = ScriptedSource(ending(1))
    camera = scripted(source, mode="demand", linger=0.0, redial_delay=0.05, stall_timeout=0.1)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.published == 1)
        await until(lambda: camera.state == "idle")
        await asyncio.sleep(0.2)
        assert camera.state == "idle"
        assert not camera.condition.outages


async def test_a_camera_that_ends_each_stream_at_once_is_not_opened_without_a_pause() -> None:
    camera = scripted(ScriptedSource(ending(1)), redial_delay=0)
    began = time.monotonic()
    async with running(camera):
        await until(lambda: camera.opens == 6)
    assert time.monotonic() - began >= 5 * REOPEN_EVERY


async def test_a_reload_in_a_gap_begins_anew() -> None:
    camera = scripted(ScriptedSource(ending(1)), redial_delay=60, stall_timeout=60)
    async with running(camera):
        await until(lambda: camera.retry_in)
    after = scripted(ScriptedSource([*steps(2), SILENCE]))
    camera.configure(after.config, after.source)
    async with running(camera):
        await until(lambda: camera.published == 2)
        assert camera.state == "streaming"
        assert await camera.settled(within=0)


WARM: list[SourceStep] = [stamped(1), 0.1, *steps(2), ENDED]
WARM_ANEW: list[SourceStep] = [stamped(3), 0.1, *steps(4), SILENCE]


async def test_who_comes_after_a_gap_in_which_all_left_sees_a_camera_that_has_warmed_up() -> None:
    options = {"warm_up": 0.05, "redial_delay": 0.1, "stall_timeout": 60, "linger": 0.0}
    camera = scripted(ScriptedSource(WARM, WARM_ANEW), mode="demand", **options)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.retry_in)
        await until(lambda: camera.state == "idle")
        with camera.watched():
            await until(lambda: camera.ring.newest)
            assert camera.ring.newest
            assert camera.ring.newest.image == stamped(4)


async def test_a_camera_restarted_in_a_gap_warms_up_again() -> None:
    options = {"warm_up": 0.05, "redial_delay": 60, "stall_timeout": 60}
    camera = scripted(ScriptedSource(WARM, WARM_ANEW), ring_from_start=True, **options)
    async with running(camera):
        await until(lambda: camera.retry_in)
        camera.restart()
        await until(lambda: camera.published == 2)
        assert [image for _, image in camera.ring.last()] == [stamped(2), stamped(4)]


async def test_a_restart_in_a_gap_begins_anew() -> None:
    source = ScriptedSource(ending(1), [*steps(2), SILENCE])
    camera = scripted(source, redial_delay=60, stall_timeout=60)
    async with running(camera):
        await until(lambda: camera.retry_in)
        camera.restart()
        await until(lambda: camera.published == 2)
        assert camera.state == "streaming"


async def test_a_restart_as_the_stream_ends_begins_anew() -> None:
    """The gap must not hide from people that what they asked for is done."""
    camera: Camera

    class EndingAtRestart(ScriptedSource):
        async def _play(self, _script: list[SourceStep], show: Show) -> None:
            show(picture(1), time.monotonic())
            if self.opened == 1:
                camera.restart()
                raise ENDED
            await asyncio.sleep(SILENCE)

    camera = scripted(EndingAtRestart([]), stall_timeout=60)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.published == 2)
    assert [entry["event"] for entry in logs].count("camera.starting") == 1


async def test_a_gap_ends_with_the_camera() -> None:
    camera = scripted(ScriptedSource(ending(1)), redial_delay=60, stall_timeout=0.1)
    async with running(camera):
        await until(lambda: camera.retry_in)
    assert camera.state == "stopped"
    await asyncio.sleep(0.2)
    assert camera.state == "stopped"


def parts(count: int) -> list[Step]:
    return [Send(HttpHead), Frames(count=count, fps=100)]


@pytest.mark.parametrize(
    "script",
    [
        [*parts(1), Close()],
        [*parts(10), Close()],
        [*parts(10), Reset()],
        [*parts(3), Send(multipart([picture(1)])[:300]), Pause(0.01), Close()],
    ],
    ids=["one part", "ten pictures", "reset", "in the middle of a picture"],
)
async def test_an_http_camera_that_ends_its_streams_goes_on(script: list[Step]) -> None:
    """Cameras that end after one part, or a few pictures, each time."""
    async with ScriptedCamera(script, one_slot=True) as device:
        camera = camera_for(device.url, redial_delay=0.02, retry_max=60, stall_timeout=5)
        async with running(camera):
            await until(lambda: device.accepted >= 6)
            assert camera.state == "streaming"
            assert not camera.failures
        assert device.most_open == 1
        assert camera.source.tally.tolerated["stream that ended"] >= 5


async def test_a_rebooting_http_camera_is_told_as_absent() -> None:
    async with ScriptedCamera([*parts(3), Close()]) as device:
        camera = camera_for(device.url, redial_delay=0.05, stall_timeout=5)
        async with running(camera):
            await until(lambda: camera.published >= 1)
            await device.refuse()
            await until(lambda: camera.state == "absent")


async def test_a_program_that_ends_after_its_pictures_is_run_again() -> None:
    data = "".join(f"\\{byte:03o}" for byte in picture(1))
    command = f"exec:sh -c \"printf '{data}'\""
    camera = camera_for(command, redial_delay=0.02, retry_max=60, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.opens >= 4)
        assert camera.state == "streaming"
        assert not camera.failures
    assert camera.source.tally.tolerated["program that ended"] >= 3
