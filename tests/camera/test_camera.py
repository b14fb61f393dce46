"""Camera: states, timers and recovery, with sources that follow a script."""

import asyncio
import contextlib
import itertools
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay.camera.camera import Camera
from mjrelay.camera.fanout import OFFLINE_AFTER
from mjrelay.camera.watchdog import Watchdog
from mjrelay.devices.holders import Holder
from mjrelay.devices.udev import Hotplug
from mjrelay.errors import (
    RemedyFailed,
    SourceBroken,
    SourceBusy,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)
from mjrelay.recovery import ladder
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources import Show, Stream
from tests.support.pasts import open_pasts
from tests.support.pictures import picture, stamped
from tests.support.serving import camera_for, hotplug, running, scripted, until
from tests.support.source import SILENCE, RecordingSink, ScriptedSource, Step, steps


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
        assert camera.reason is None
        assert camera.is_fresh
        seen.append(camera.state)
    assert [*seen, camera.state] == ["starting", "streaming", "stopped"]


async def test_the_past_is_given_back_when_a_camera_ends_or_gets_another_configuration() -> None:
    camera = scripted(ScriptedSource([*steps(1, 2), SILENCE]), stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.published == 2)
        assert len([*camera.ring.last()]) == 2
        assert len(await asyncio.to_thread(open_pasts)) == 1
    assert camera.ring.newest, "it may still be asked for"
    assert not await asyncio.to_thread(open_pasts)
    camera.configure(camera.config, ScriptedSource([*steps(3), SILENCE]))
    async with running(camera):
        await until(lambda: camera.published == 3)
        assert [image for _, image in camera.ring.last()] == [stamped(3)]
    assert not await asyncio.to_thread(open_pasts)


async def test_its_source_is_watched_for_a_while_after_the_last_viewer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.camera.camera._UNWATCHED_AFTER", 0.1)
    source = ScriptedSource([*steps(1), 0.05, *steps(2), 0.15, *steps(3), SILENCE])
    camera = scripted(source, stall_timeout=30)
    with camera.watched():
        assert source.watched
    async with running(camera):
        assert source.watched, "who asks for single pictures comes back"
        await until(lambda: camera.published == 3)
        assert not source.watched
        with camera.watched(), camera.watched():
            assert source.watched


async def test_an_idle_camera_has_no_past() -> None:
    camera = scripted(ScriptedSource([*steps(1), SILENCE]), mode="demand", linger=0.0)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.published)
            assert len(await asyncio.to_thread(open_pasts)) == 1
        camera.restart()  # it is silent: else nothing would end it soon
        await until(lambda: camera.state == "idle")
        assert not await asyncio.to_thread(open_pasts)


async def test_absent_while_unreachable_and_dialled_again() -> None:
    gone = SourceUnreachable("nobody there", "switch it on")
    camera = scripted(ScriptedSource([gone], steps(1)))
    async with running(camera):
        await until(lambda: camera.state == "absent")
        assert (camera.reason, camera.hint) == ("nobody there", "switch it on")
        assert camera.retry_in is not None
        assert camera.retry_in <= 1.0
        camera.wake()
        await until(lambda: camera.state == "streaming")
        assert camera.retry_in is None


async def test_recovering_after_a_failure() -> None:
    camera = scripted(ScriptedSource([*steps(1), SourceLost("broke off")]), redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.reason == "broke off"
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
        assert camera.reason is not None
        assert "no picture for 0.1 s" in camera.reason
    assert camera.failures == {"stalled": 1}


async def test_silence_between_frames_is_a_stall() -> None:
    camera = scripted(ScriptedSource([*steps(1, 2), SILENCE]), stall_timeout=0.1, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.reason == "the camera went silent: no picture for 0.1 s"


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
    script: list[Step], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mjrelay.camera.camera._STUCK_AFTER", 0.1)
    source = DeafSource(script)
    camera = scripted(
        source,
        connect_timeout=0.05,
        first_frame_timeout=0.05,
        stall_timeout=0.05,
        frozen_after=1e-9 if state == "frozen" else 0.0,
    )
    async with running(camera):
        try:
            await until(lambda: camera.is_stuck)
            assert camera.state == state
        finally:
            source.let_go = True
        await until(lambda: camera.state == "recovering")
        assert not camera.is_stuck


async def test_waiting_for_the_next_attempt_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.camera.camera._STUCK_AFTER", -100)
    camera = scripted(ScriptedSource([*steps(1), SourceLost("gone")]), redial_delay=30)
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
        await asyncio.sleep(OFFLINE_AFTER)
        with camera.watched():
            await camera.admit(sink)
            camera.fanout.leave(sink)
    assert [frame.seq for frame in sink.frames] == [0]


async def test_silence_after_a_few_frames_does_not_count_as_health() -> None:
    source = ScriptedSource([*steps(1, 2), SILENCE])
    camera = scripted(source, stall_timeout=0.2, redial_delay=0.01, retry_max=30)
    seen: list[float] = []
    failed = camera._ladder.failed

    def note(error: SourceError, *, streamed_for: float = 0.0, **facts: float) -> ladder.Step:
        seen.append(streamed_for)
        return failed(error, streamed_for=streamed_for, **facts)

    camera._ladder.failed = note  # type: ignore[method-assign]
    async with running(camera):
        await until(lambda: seen)
    assert seen[0] < 0.1


# Remedies


class MendableSource(ScriptedSource):
    """A source of which everything can be done, each noted between the openings.

    Attributes:
        story: "open" and the remedies, in order.
        ailing: What a remedy raises instead.
        ours: Paths of nodes it takes for its own.
        held_by: Who has its device, at each opening; the last ones for good.
    """

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.story: list[str] = []
        self.ailing: dict[Remedy, RemedyFailed] = {}
        self.ours = {"/dev/video0"}
        self.held_by: list[tuple[Holder, ...]] = [()]
        self.remedies = {
            remedy: self._remedy(remedy)
            for remedy in (Remedy.RELEASE, Remedy.USB_RESET, Remedy.REAUTHORIZE)
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        self.story.append("open")
        async with super().open() as stream:
            yield stream

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self.held_by[min(self.opened, len(self.held_by)) - 1]

    def hotplug(self, event: Hotplug) -> bool:
        return event.path in self.ours

    def _remedy(self, remedy: Remedy) -> Callable[[], Awaitable[None]]:
        async def apply() -> None:
            assert self.open_now == 0
            self.story.append(remedy.value)
            if remedy in self.ailing:
                raise self.ailing[remedy]

        return apply


BROKEN = SourceBroken("VIDIOC_STREAMON: Input/output error", "it may have crashed")
QUICK = {"redial_delay": 0.01, "retry_max": 0.02}
CLIMB = ["open", "open", "release", "open", "usb_reset", "open", "reauthorize", "open"]


async def test_each_remedy_is_applied_before_the_next_opening() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: source.story[:8] == CLIMB)
    assert camera.remedied == {Remedy.RELEASE: 1, Remedy.USB_RESET: 1, Remedy.REAUTHORIZE: 1}
    assert camera.resets == 2


async def test_a_stall_is_cured_by_the_first_remedy_that_helps() -> None:
    silent: list[Step] = [SILENCE]
    source = MendableSource(silent, silent, [*steps(1), SILENCE])
    camera = scripted(source, **QUICK, first_frame_timeout=0.05, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        assert camera.reason is None
    assert source.story == ["open", "open", "usb_reset", "open"]


async def test_a_camera_that_another_has_is_never_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    busy = SourceBusy("Device or resource busy", "held by ffmpeg (pid 812): sudo kill 812")
    source = MendableSource([busy])
    camera = scripted(source, **QUICK)
    async with running(camera):
        await until(lambda: camera.failures["busy"] == 10)
        assert (camera.state, camera.hint) == ("recovering", busy.hint)
    assert set(source.story) == {"open"}


async def test_a_camera_that_another_has_is_reset_by_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy")])
    camera = scripted(source, **QUICK, usb_reset="force")
    async with running(camera):
        await until(lambda: source.story[:8] == CLIMB)


FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")
VLC = Holder(900, "/opt/vlc", None)


async def told_of(camera: Camera, source: MendableSource, openings: int) -> list[EventDict]:
    """Let a camera be busy for so many openings; return what the log says of that."""
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.opened > openings)
    return [entry for entry in logs if entry["event"] == "camera.recovering"][:openings]


async def test_who_has_a_camera_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy", "held by some")])
    source.held_by = [(FFMPEG, VLC)]
    [told] = await told_of(scripted(source, **QUICK), source, 1)
    assert told["log_level"] == "warning"
    assert told["holders"] == [
        {"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": "old-cam.service"},
        {"pid": 900, "command": "/opt/vlc", "unit": None},
    ]


async def test_where_nobody_has_a_camera_the_log_has_no_word_of_holders() -> None:
    camera = scripted(ScriptedSource([SourceLost("gone")], [*steps(1), SILENCE]), stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.state == "streaming")
    assert not [entry for entry in logs if "holders" in entry]


async def test_another_who_has_a_camera_is_another_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy", "held by some")])
    source.held_by = [(FFMPEG,), (FFMPEG,), (VLC,), (VLC,), (FFMPEG, VLC), (FFMPEG,)]
    told = await told_of(scripted(source, **QUICK), source, 6)
    assert [(len(entry["holders"]), entry["log_level"]) for entry in told] == [
        (1, "warning"),
        (1, "debug"),
        (1, "warning"),
        (1, "debug"),
        (2, "warning"),
        (1, "debug"),
    ]


async def test_who_had_a_camera_is_forgotten_when_it_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    busy: list[Step] = [SourceBusy("Device or resource busy", "held by some")]
    source = MendableSource(busy, [*steps(1), SILENCE], busy, [*steps(2), SILENCE])
    source.held_by = [(FFMPEG,), (), (FFMPEG,), ()]
    camera = scripted(source, **QUICK, stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.published == 1)
            assert camera.holders == ()
            camera.restart()
            await until(lambda: camera.published == 2)
    told = [entry["log_level"] for entry in logs if entry["event"] == "camera.recovering"]
    assert told == ["warning", "warning"]


async def test_a_camera_that_comes_back_by_itself_needs_no_remedy() -> None:
    source = MendableSource([BROKEN], [BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, redial_delay=0.01, retry_max=60, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
        hotplug(camera, "add", "/dev/video7")
        await asyncio.sleep(0.05)
        assert camera.failures["broken"] == 2, "not ours"
        hotplug(camera, "add", "/dev/video0")
        await until(lambda: camera.state == "streaming")
    assert source.story == ["open"] * 3
    assert not camera.remedied


async def test_a_remedy_that_cannot_be_applied_says_what_is_missing() -> None:
    source = MendableSource([BROKEN], [BROKEN], [BROKEN], [SILENCE])
    source.ailing[Remedy.USB_RESET] = RemedyFailed("it could not be reset", "copy the udev rule")
    camera = scripted(source, **QUICK, first_frame_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.hint == "copy the udev rule")
            await until(lambda: source.open_now)
            assert (camera.state, camera.reason) == ("recovering", "it could not be reset")
    assert camera.resets == 0, "none was made"
    told = [entry for entry in logs if entry["event"] == "camera.recovering"]
    assert told[-1]["hint"] == "copy the udev rule"
    assert told[-1]["log_level"] == "warning"


async def test_a_remedy_that_cannot_be_applied_is_logged_once() -> None:
    source = MendableSource([BROKEN])
    source.ailing = {
        remedy: RemedyFailed(f"no {remedy.value}", "do this") for remedy in source.remedies
    }
    camera = scripted(source, **QUICK)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.story.count("usb_reset") > 2)
    warned = [
        entry["reason"]
        for entry in logs
        if entry["event"] == "camera.recovering" and entry["log_level"] == "warning"
    ]
    assert warned == [BROKEN.reason, "no release", "no usb_reset", "no reauthorize"]


async def test_what_a_reset_lacks_stays_visible_while_it_waits() -> None:
    source = MendableSource([BROKEN])
    source.ailing[Remedy.USB_RESET] = source.ailing[Remedy.REAUTHORIZE] = RemedyFailed(
        "it could not be reset", "copy the udev rule"
    )
    camera = scripted(source, **QUICK)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.story.count("usb_reset") > 2)
    hints = {entry["hint"] for entry in logs if entry.get("reason") == BROKEN.reason}
    assert hints == {BROKEN.hint, "copy the udev rule"}


async def test_a_fault_of_our_own_in_a_remedy_is_isolated_and_logged() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("bug")

    source = MendableSource([BROKEN])
    source.remedies = {Remedy.RELEASE: fail}
    camera = scripted(source, **QUICK)
    healthy = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera, healthy):
            await until(lambda: source.opened > 4 and healthy.state == "streaming")
    crash = next(entry for entry in logs if entry["event"] == "camera.crashed")
    assert crash["exc_info"]
    assert camera.failures["crashed"] == 1
    assert not camera.remedied


async def test_a_device_that_comes_back_before_its_reset_costs_no_allowance() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = scripted(source, redial_delay=60, retry_max=60, usb_resets_per_hour=1)

    async def failed(times: int) -> None:
        await until(lambda: camera.failures["broken"] == times and camera.retry_in)

    async with running(camera):
        for times in (1, 2):
            await failed(times)
            hotplug(camera, "add", "/dev/video0")
        await failed(3)
        assert camera.hint
        assert "it was reset" not in camera.hint
    assert source.story == ["open"] * 3
    assert camera.resets == 0


async def test_resets_that_were_not_made_do_not_count() -> None:
    source = MendableSource([BROKEN])
    source.ailing[Remedy.USB_RESET] = source.ailing[Remedy.REAUTHORIZE] = RemedyFailed("no rights")
    camera = scripted(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: source.story.count("usb_reset") > 3)
    assert camera.resets == 0


async def test_resets_are_made_as_often_as_allowed_and_then_the_reason_is_said() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=3)
    async with running(camera):
        await until(lambda: "the limit" in (camera.hint or ""))
        await until(lambda: camera.failures["broken"] > 15)
        assert camera.reason == BROKEN.reason
        assert camera.hint
        assert camera.hint.startswith("it was reset 3 times within an hour")
    assert camera.resets == 3


async def test_a_source_without_remedies_is_only_opened_again() -> None:
    source = ScriptedSource([BROKEN])
    camera = scripted(source, **QUICK)
    async with running(camera):
        await until(lambda: source.opened > 8)
    assert not camera.remedied


class NoisySource(MendableSource):
    """Its own opening makes its node come and go, as a reset does; then it fails."""

    def __init__(self, error: SourceError) -> None:
        super().__init__([error])
        self.camera: Camera | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        assert self.camera
        if self.opened < 3:
            hotplug(self.camera, "remove", "/dev/video0")
            hotplug(self.camera, "add", "/dev/video0")
        async with super().open() as stream:
            yield stream


async def test_what_came_and_went_during_an_attempt_does_not_skip_the_wait() -> None:
    source = NoisySource(BROKEN)
    camera = source.camera = scripted(source, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        await asyncio.sleep(0.05)
        assert camera.failures["broken"] == 1


async def test_what_came_while_a_missing_camera_was_looked_for_does() -> None:
    source = NoisySource(SourceUnreachable("it is not there"))
    camera = source.camera = scripted(source)
    async with running(camera):
        await until(lambda: camera.failures["unreachable"] == 4, within=0.9)


# Asked for


async def test_a_restart_closes_and_opens_without_a_failure() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart()
        await until(lambda: camera.published == 2)
        assert source.open_now == 1
    assert source.story == ["open", "open"]
    assert not camera.failures


async def test_a_reset_that_was_asked_for_comes_between() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.published == 2)
    assert source.story == ["open", "usb_reset", "open"]
    assert camera.resets == 1


async def test_a_reset_that_was_asked_for_is_made_once() -> None:
    source = MendableSource(
        [*steps(1), SILENCE], [*steps(2), SourceLost("gone")], [*steps(3), SILENCE]
    )
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.published == 3)
    assert source.story == ["open", "usb_reset", "open", "open"]


async def test_a_restart_cuts_the_wait_short() -> None:
    source = MendableSource([BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, redial_delay=60, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.state == "streaming")
    assert source.story == ["open", "usb_reset", "open"]


async def test_a_reset_that_was_asked_for_and_fails_gives_no_allowance_back() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=1)
    async with running(camera):
        await until(lambda: camera.resets == 1)
        source.ailing[Remedy.USB_RESET] = RemedyFailed("no rights")
        camera.restart(Remedy.USB_RESET)
        await until(lambda: source.story.count("usb_reset") == 2)
        source.ailing.clear()
        told = len(source.story)
        await until(lambda: len(source.story) > told + 12)
    assert camera.resets == 1


async def test_a_reset_that_was_asked_for_and_fails_is_no_news_of_a_stream() -> None:
    source = MendableSource([*steps(1), SILENCE])
    source.ailing[Remedy.USB_RESET] = RemedyFailed("no rights", "copy the udev rule")
    camera = scripted(source, stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.state == "streaming")
            camera.restart(Remedy.USB_RESET)
            await until(lambda: camera.published == 2)
            assert (camera.state, camera.reason) == ("streaming", None)
    warned = [
        (entry["event"], entry.get("reason")) for entry in logs if "warning" in entry.values()
    ]
    assert warned == [("camera.remedy", None), ("camera.recovering", "no rights")]


class SlowSource(MendableSource):
    """Its opening takes until it answers.

    Attributes:
        answers: Set this to let it open.
        dialled: Openings begun.
    """

    def __init__(self, *scripts: list[Step]) -> None:
        super().__init__(*scripts)
        self.answers = asyncio.Event()
        self.dialled = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        self.dialled += 1
        await self.answers.wait()
        async with super().open() as stream:
            yield stream


async def test_a_restart_during_the_opening_hides_no_later_stall() -> None:
    source = SlowSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=0.1, redial_delay=30)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart()
        source.answers.set()
        await until(lambda: camera.failures["stalled"] == 1)
    assert source.story == ["open", "open"]
    assert camera.published == 1


@pytest.mark.parametrize("remedy", [Remedy.REOPEN, Remedy.USB_RESET])
async def test_a_restart_asked_for_while_an_attempt_fails_does_not_wait(remedy: Remedy) -> None:
    source = SlowSource([BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30, redial_delay=60, retry_max=60)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart(remedy)
        source.answers.set()
        await until(lambda: camera.state == "streaming")
    done = [remedy.value] if remedy in source.remedies else []
    assert source.story == ["open", *done, "open"]
    assert camera.failures == {"broken": 1}


async def test_a_restart_asked_for_while_a_missing_camera_is_looked_for_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 60.0)
    source = SlowSource([SourceUnreachable("it is not there")], [*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30, redial_delay=60, retry_max=60)
    async with running(camera):
        await until(lambda: source.dialled)
        camera.restart()
        source.answers.set()
        await until(lambda: camera.state == "streaming")


# Remedies on demand


def on_demand(source: MendableSource, **options: object) -> Camera:
    return scripted(source, mode="demand", linger=0.0, **options)


async def test_no_remedy_is_applied_when_nobody_wants_the_camera() -> None:
    source = MendableSource([BROKEN])
    camera = on_demand(source, redial_delay=0.2, retry_max=0.2)
    with capture_logs() as logs:
        async with running(camera):
            with camera.watched():
                await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
            await until(lambda: camera.state == "idle")
            assert source.story == ["open", "open"], "no release"
    assert "camera.remedy" not in [entry["event"] for entry in logs]
    assert not camera.remedied


async def test_while_somebody_wants_it_a_camera_on_demand_is_mended_as_any() -> None:
    source = MendableSource([BROKEN])
    camera = on_demand(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        with camera.watched():
            await until(lambda: source.story[:8] == CLIMB)


async def test_a_reset_that_nobody_wants_costs_no_allowance() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = on_demand(source, redial_delay=0.2, retry_max=0.2, usb_resets_per_hour=1)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
        await until(lambda: camera.state == "idle")
        assert source.story == ["open", "open"]
        with camera.watched():
            await until(lambda: camera.resets == 1)


async def test_a_reset_asked_for_that_nobody_wants_gives_no_allowance_back() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = on_demand(source, redial_delay=0.05, retry_max=0.05, usb_resets_per_hour=1)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.resets == 1 and camera.retry_in is not None)
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.state == "idle")
        planned = source.story.count("usb_reset")
        with camera.watched():
            failed = camera.failures["broken"]
            await until(lambda: camera.failures["broken"] > failed + 6)
    assert source.story.count("usb_reset") == planned


async def test_a_camera_that_is_idle_is_not_restarted_later() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0, stall_timeout=0.1)
    async with running(camera):
        await until(lambda: camera.state == "idle")
        camera.restart(Remedy.USB_RESET)
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        await until(lambda: camera.state == "idle")
    assert source.story == ["open"]


async def test_a_viewer_who_comes_back_as_the_linger_ends_is_no_stall() -> None:
    source = MendableSource([*itertools.chain(*([*steps(1), 0.02] for _ in range(100))), SILENCE])
    camera = scripted(source, mode="demand", linger=0.1, stall_timeout=30, redial_delay=0.01)
    viewing = contextlib.ExitStack()
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        release = Watchdog.release

        def come_back(watchdog: Watchdog) -> None:
            release(watchdog)
            viewing.enter_context(camera.watched())

        with viewing, pytest.MonkeyPatch.context() as patch:
            patch.setattr(Watchdog, "release", come_back)
            await until(lambda: source.opened == 2)
        assert not camera.failures


class EndlessSource(MendableSource):
    """Its pictures never end, and come as fast as they are taken."""

    async def _play(self, script: list[Step], show: Show) -> None:
        for image in itertools.cycle(script):
            assert isinstance(image, bytes)
            await asyncio.sleep(0)
            show(image, time.monotonic())


async def test_no_restart_is_lost_between_pictures_that_come_fast() -> None:
    source = EndlessSource(steps(1))
    camera = scripted(source)

    async def opened(times: int) -> None:
        published = camera.published
        await until(lambda: source.opened == times and camera.published > published)

    async with running(camera):
        for times in range(1, 12):
            await opened(times)
            camera.restart()
        await opened(12)
    assert not camera.failures


async def test_restarts_that_come_together_are_no_failure() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        for _ in range(3):
            camera.restart()
            await asyncio.sleep(0)
        await until(lambda: camera.published == 2)
    assert not camera.failures
