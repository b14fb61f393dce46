"""Camera: states, timers and recovery, with sources that follow a script."""

import asyncio
import contextlib
import struct
import time

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay.errors import (
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.sources import Show
from tests.support.pictures import picture, stamped
from tests.support.serving import camera_for, running, scripted, until
from tests.support.source import SILENCE, MendableSource, RecordingSink, ScriptedSource, Step, steps

FROM_START = {"ring_from_start": True}


def test_frames_are_numbered_across_reopens() -> None:
    async def story() -> None:
        source = ScriptedSource([*steps(1, 2), SourceLost("gone")], steps(3))
        camera = scripted(source)
        async with running(camera):
            frame = await asyncio.wait_for(camera.ring.newer_than(2), 5)
        assert frame.seq == 3
        assert frame.image == stamped(3)
        assert camera.opens == 2
        assert source.open_now == 0

    asyncio.run(story())


async def test_streaming_after_the_first_frame() -> None:
    camera = scripted(ScriptedSource([0.05, *steps(1)]))
    seen: list[str] = [camera.state]
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        assert camera.condition.reason is None
        assert camera.is_fresh
        seen.append(camera.state)
    assert [*seen, camera.state] == ["starting", "streaming", "stopped"]


async def test_the_past_is_given_back_when_a_camera_ends_or_gets_another_configuration() -> None:
    camera = scripted(ScriptedSource([*steps(1, 2), SILENCE]), stall_timeout=30, **FROM_START)
    async with running(camera):
        await until(lambda: camera.published == 2)
        assert len([*camera.ring.last()]) == 2
    assert [image for _, image in camera.ring.last()] == [stamped(2)], "it may still be asked for"
    camera.configure(camera.config, ScriptedSource([*steps(3), SILENCE]))
    async with running(camera):
        await until(lambda: camera.published == 3)
        assert [image for _, image in camera.ring.last()] == [stamped(3)]


async def test_its_source_is_watched_for_a_while_after_the_last_viewer() -> None:
    source = ScriptedSource([*steps(1), 0.05, *steps(2), 0.15, *steps(3), SILENCE])
    camera = scripted(source, stall_timeout=30)
    camera.audience.watched_for = 0.1
    with camera.watched():
        assert source.watched
    async with running(camera):
        assert source.watched, "who asks for single pictures comes back"
        await until(lambda: camera.published == 3)
        assert not source.watched
        with camera.watched(), camera.watched():
            assert source.watched


async def test_an_idle_camera_has_no_past() -> None:
    source = ScriptedSource([*steps(1, 2), SILENCE])
    camera = scripted(source, mode="demand", linger=0.0, **FROM_START)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.published == 2)
            assert len([*camera.ring.last()]) == 2
        camera.restart()  # it is silent: else nothing would end it soon
        await until(lambda: camera.state == "idle")
        assert not [*camera.ring.last()]


async def test_absent_while_unreachable_and_dialled_again() -> None:
    gone = SourceUnreachable("nobody there", "switch it on")
    camera = scripted(ScriptedSource([gone], steps(1)))
    async with running(camera):
        await until(lambda: camera.state == "absent")
        assert (camera.condition.reason, camera.condition.hint) == ("nobody there", "switch it on")
        assert camera.retry_in is not None
        assert camera.retry_in <= 1.0
        camera.wake()
        await until(lambda: camera.state == "streaming")
        assert camera.retry_in is None


async def test_recovering_after_a_failure() -> None:
    camera = scripted(ScriptedSource([*steps(1), SourceLost("broke off")]), redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.condition.reason == "broke off"
        assert camera.failures == {"lost": 1}
        assert not camera.is_fresh


async def test_waking_cuts_the_backoff_short() -> None:
    camera = scripted(ScriptedSource([SourceLost("no")], steps(1)), redial_delay=60, retry_max=60)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        camera.wake()
        await until(lambda: camera.state == "streaming")


async def test_no_first_frame_in_time_is_a_stall() -> None:
    camera = scripted(ScriptedSource([SILENCE]), first_frame_timeout=0.1, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.condition.reason is not None
        assert "no picture for 0.1 s" in camera.condition.reason
    assert camera.failures == {"stalled": 1}


async def test_silence_between_frames_is_a_stall() -> None:
    camera = scripted(ScriptedSource([*steps(1, 2), SILENCE]), stall_timeout=0.1, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.condition.reason == "the camera went silent: no picture for 0.1 s"


async def test_a_slowly_polled_camera_has_not_stalled() -> None:
    script: list[Step] = [stamped(1), 0.3, stamped(2)]
    camera = scripted(ScriptedSource(script), stall_timeout=0.1, fps=2)
    async with running(camera):
        await asyncio.wait_for(camera.ring.newer_than(1), 5)
    assert not camera.failures


async def test_a_fault_of_our_own_is_isolated_and_logged_with_its_traceback() -> None:
    camera = scripted(ScriptedSource([ZeroDivisionError("bug")]), retry_max=30)
    healthy = scripted(ScriptedSource(steps(1)))
    with capture_logs() as logs:
        async with running(camera, healthy):
            await until(lambda: camera.state == "recovering" and healthy.state == "streaming")
    crash = next(entry for entry in logs if entry["event"] == "camera.crashed")
    assert crash["exc_info"]
    assert camera.failures == {"crashed": 1}


async def test_each_transition_is_logged_once_and_repetitions_at_debug() -> None:
    down: list[Step] = [SourceUnreachable("nobody there")]
    camera = scripted(ScriptedSource([*steps(1), SourceLost("gone")], down, down, down, steps(2)))
    with capture_logs() as logs:
        async with running(camera):
            for _ in range(5):
                await until(lambda: camera.retry_in is not None or camera.published == 2)
                camera.wake()
                await asyncio.sleep(0.01)
            await until(lambda: camera.published == 2)
    told = [(entry["event"], entry["log_level"]) for entry in logs if entry["log_level"] != "debug"]
    assert told == [
        ("camera.streaming", "info"),
        ("camera.recovering", "warning"),
        ("camera.absent", "warning"),
        ("camera.streaming", "info"),
        ("camera.stopped", "info"),
    ]


def told(logs: list[EventDict]) -> list[tuple[str, dict[str, object]]]:
    """What the log says of states without --verbose: each with what it counts."""
    counts = ("attempts", "interruptions")
    return [
        (entry["event"], {key: entry[key] for key in counts if key in entry})
        for entry in logs
        if entry["log_level"] != "debug"
    ]


async def test_how_often_it_was_tried_is_told() -> None:
    down: list[Step] = [SourceUnreachable("nobody there")]
    camera = scripted(ScriptedSource(down, down, down, steps(1)))
    with capture_logs() as logs:
        async with running(camera):
            while camera.state != "streaming":
                camera.wake()
                await asyncio.sleep(0.005)
    assert told(logs)[:2] == [("camera.absent", {}), ("camera.streaming", {"attempts": 3})]


async def test_a_camera_that_comes_and_goes_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.camera.camera.HEALTHY_AFTER", 0.2)
    brief: list[list[Step]] = [[*steps(number), SourceLost("gone")] for number in range(20)]
    lasting: list[Step] = [step for number in range(100) for step in (stamped(number), 0.02)]
    camera = scripted(ScriptedSource(*brief, lasting), redial_delay=0.001, retry_max=0.001)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: len(told(logs)) == 5)
    assert told(logs) == [
        ("camera.streaming", {}),
        ("camera.recovering", {}),
        ("camera.streaming", {"attempts": 1}),
        ("camera.recovering", {}),
        ("camera.streaming", {"attempts": 20, "interruptions": 20}),
        ("camera.stopped", {}),
    ]


async def test_after_a_while_of_health_an_interruption_is_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.camera.camera.HEALTHY_AFTER", 0.05)
    lasting: list[Step] = [step for number in range(10) for step in (stamped(number), 0.02)]
    camera = scripted(ScriptedSource([*lasting, SourceLost("gone")]), redial_delay=0.001)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: len(told(logs)) >= 7)
    assert (
        told(logs)[1:7]
        == [
            ("camera.recovering", {}),
            ("camera.streaming", {"attempts": 1}),
        ]
        * 3
    )


class DeafSource(ScriptedSource):
    """A fault of our own: after its script it hears no timer, until it is let go."""

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.let_go = False

    async def _play(self, script: list[Step], show: Show) -> None:
        for image in script:
            assert isinstance(image, bytes)
            show(image, time.monotonic())
        while not self.let_go:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        raise SourceLost("let go")


@pytest.mark.parametrize(
    ("script", "state"),
    [([], "starting"), (steps(1), "streaming"), (steps(1, 1, 1), "frozen")],
)
async def test_silence_that_nobody_notices_is_a_fault_of_ours(
    script: list[Step], state: str
) -> None:
    source = DeafSource(script)
    camera = scripted(
        source,
        connect_timeout=0.05,
        first_frame_timeout=0.05,
        stall_timeout=0.05,
        frozen_after=1e-9 if state == "frozen" else 0.0,
    )
    camera.stuck_after = 0.1
    async with running(camera):
        try:
            await until(lambda: camera.is_stuck)
            assert camera.state == state
        finally:
            source.let_go = True
        await until(lambda: camera.state == "recovering")
        assert not camera.is_stuck


async def test_waiting_for_the_next_attempt_is_no_fault() -> None:
    camera = scripted(ScriptedSource([*steps(1), SourceLost("gone")]), redial_delay=30)
    camera.stuck_after = -100
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        assert not camera.is_stuck


async def test_frozen_when_the_picture_no_longer_changes() -> None:
    same: list[Step] = [step for _ in range(40) for step in (picture(1), 0.02)]
    camera = scripted(ScriptedSource([*steps(1), *same, *steps(2), SILENCE]), frozen_after=0.2)
    async with running(camera):
        await until(lambda: camera.state == "frozen")
        assert not camera.is_fresh
        await until(lambda: camera.state == "streaming")


async def test_on_demand_opens_for_the_first_viewer_and_closes_after_linger() -> None:
    script: list[Step] = [step for n in range(500) for step in (stamped(n), 0.01)]
    source = ScriptedSource(script)
    camera = scripted(source, mode="demand", linger=0.1)
    async with running(camera):
        await asyncio.sleep(0.05)
        assert camera.state == "idle"
        assert source.opened == 0
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        assert source.open_now == 1, "lingers"
        await until(lambda: camera.state == "idle")
        assert source.open_now == 0
        assert camera.ring.newest is None, "an old picture is not for the next viewer"


async def test_an_offline_picture_with_the_reason_follows_a_second_later() -> None:
    refused = SourceRefused("the camera answers 404 Not Found", "the path is wrong")
    first = picture(1, (320, 240))
    camera = scripted(ScriptedSource([first, refused], [refused]), redial_delay=30)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            camera.fanout.join(sink)
            await until(lambda: camera.state == "recovering")
            await until(lambda: sink.frames[-1].seq == 0, within=5)
            camera.fanout.leave(sink)
    assert sink.frames[0].image == first
    assert sink.frames[-1].dimensions == (320, 240), "the camera's own size"


@pytest.mark.parametrize("size", [(65535, 1), (1, 1), (60000, 60000)])
async def test_an_absurd_size_costs_neither_the_stream_nor_the_offline_picture(
    size: tuple[int, int],
) -> None:
    absurd = bytearray(picture(1))
    header = absurd.index(b"\xff\xc0")
    absurd[header + 5 : header + 9] = struct.pack(">HH", size[1], size[0])
    camera = scripted(ScriptedSource([bytes(absurd), SourceLost("gone")]), redial_delay=30)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            await camera.admit(sink)
            await until(lambda: sink.frames and sink.frames[-1].seq == 0)
            camera.fanout.leave(sink)
    assert max(sink.frames[-1].dimensions or (0,)) <= 1920


async def test_a_picture_that_cannot_be_drawn_is_logged_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_args: object, **_words: object) -> bytes:
        raise OSError("Pillow was built without JPEG")

    monkeypatch.setattr("mjrelay.pictures.offline_picture", broken)
    camera = scripted(ScriptedSource([SourceLost("gone")]), redial_delay=0.01, retry_max=0.01)
    with capture_logs() as logs:
        async with running(camera):
            with camera.watched():
                await until(lambda: camera.failures["lost"] > 3)
    assert "placeholder.failed" in [entry["event"] for entry in logs]


async def test_viewers_that_come_together_share_one_drawing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    def draw(*_args: object, **words: str) -> bytes:
        drawn.append(words["reason"])
        return picture(0)

    monkeypatch.setattr("mjrelay.pictures.offline_picture", draw)
    camera = scripted(ScriptedSource([SourceLost("gone")]), redial_delay=30)
    sinks = [RecordingSink() for _ in range(20)]
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        with camera.watched():
            await asyncio.gather(*(camera.admit(sink) for sink in sinks))
            for sink in sinks:
                camera.fanout.leave(sink)
    assert drawn == ["gone"]


async def test_a_silent_camera_on_demand_is_closed_without_complaint() -> None:
    source = ScriptedSource([*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0.0, stall_timeout=0.2)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        await until(lambda: camera.state == "idle")
    assert not camera.failures


async def test_no_offline_picture_where_it_is_not_wanted() -> None:
    camera = scripted(ScriptedSource([SourceLost("gone")]), placeholder=False, redial_delay=30)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.state == "recovering")
            await camera.admit(sink)
            assert camera.fanout.current() is None
            camera.fanout.leave(sink)


@pytest.mark.parametrize("error", [SourceLost("x"), SourceRefused("y")])
async def test_every_failure_releases_the_source_before_waiting(error: SourceError) -> None:
    source = ScriptedSource([*steps(1), error])
    camera = scripted(source, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        assert source.open_now == 0


async def test_a_test_card_streams() -> None:
    camera = camera_for("testcard:?size=64x48&fps=50")
    async with running(camera):
        frame = await asyncio.wait_for(camera.ring.newer_than(3), 5)
    assert frame.dimensions == (64, 48)


async def test_who_comes_during_an_outage_sees_its_reason_and_no_old_picture() -> None:
    camera = scripted(ScriptedSource([*steps(1), SourceLost("gone")]), redial_delay=30)
    sink = RecordingSink()
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        await asyncio.sleep(camera.fanout.offline_after)
        with camera.watched():
            await camera.admit(sink)
            camera.fanout.leave(sink)
    assert [frame.seq for frame in sink.frames] == [0]


async def test_silence_after_a_few_frames_does_not_count_as_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.ladder.HEALTHY_AFTER", 0.1)
    source = MendableSource([*steps(1, 2), SILENCE])
    camera = scripted(source, stall_timeout=0.2, redial_delay=0.01, retry_max=0.01)
    async with running(camera):
        await until(lambda: source.story[:4] == ["open", "open", "usb_reset", "open"])


@pytest.fixture
def _dialled_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.camera.camera.DIAL_EVERY", 0.1)


@pytest.mark.usefixtures("_dialled_often")
async def test_the_first_viewer_for_long_need_not_wait_for_the_next_attempt() -> None:
    source = ScriptedSource([ZeroDivisionError("bug")], [*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0.0, retry_max=60, stall_timeout=30)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.retry_in)
        with camera.watched():
            await until(lambda: camera.state == "streaming")


@pytest.mark.usefixtures("_dialled_often")
async def test_more_viewers_do_not_hurry_a_camera() -> None:
    source = ScriptedSource([ZeroDivisionError("bug")])
    camera = scripted(source, mode="demand", linger=60, retry_max=60)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.retry_in)
        for _ in range(30):
            with camera.watched():
                await asyncio.sleep(0.01)
        assert source.opened == 1


@pytest.mark.usefixtures("_dialled_often")
async def test_viewers_that_come_and_go_hurry_a_camera_no_more_than_it_bears() -> None:
    source = ScriptedSource([SourceLost("gone")])
    camera = scripted(source, mode="demand", linger=0.0, redial_delay=0.2, retry_max=0.2)
    loop = asyncio.get_running_loop()
    async with running(camera):
        began = loop.time()
        while source.opened < 4:
            with camera.watched():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.005)
    assert loop.time() - began >= 3 * 0.2


@pytest.mark.usefixtures("_dialled_often")
async def test_no_viewer_hurries_a_camera_that_must_be_left_alone() -> None:
    source = ScriptedSource([SourceRefused("wrong password", retry_after=60)], [*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0.0, redial_delay=0.01, stall_timeout=30)
    async with running(camera):
        for _ in range(20):
            with camera.watched():
                await until(lambda: camera.retry_in)
                await asyncio.sleep(0.01)
        assert source.opened == 1
        assert camera.retry_in
        assert camera.retry_in > 50
        with camera.watched():
            camera.restart()  # a person may
            await until(lambda: camera.state == "streaming")


@pytest.mark.usefixtures("_dialled_often")
async def test_a_viewer_that_comes_just_as_the_wait_ends_is_counted() -> None:
    source = ScriptedSource([ZeroDivisionError("bug")], [*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0.0, retry_max=0.3, stall_timeout=30)
    loop, viewing = asyncio.get_running_loop(), contextlib.ExitStack()
    faults: list[Exception] = []

    def come() -> None:
        try:
            viewing.enter_context(camera.watched())
        except RuntimeError as error:
            faults.append(error)

    async with running(camera):
        with camera.watched():
            await until(lambda: camera.retry_in)
        assert camera.retry_in
        # In the same turn, just behind the timer of the wait.
        loop.call_at(loop.time() + camera.retry_in + 1e-4, come)
        with viewing:
            await until(lambda: camera.audience.viewers or faults)
    assert not faults
