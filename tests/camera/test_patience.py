"""What is no silence, what is one, and when the offline picture takes the last one's place."""

import asyncio
import time

import pytest

from mjrelay.errors import (
    SourceEnded,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceUnreachable,
)
from tests.support.pictures import stamped
from tests.support.serving import running, scripted, serving, until
from tests.support.source import SILENCE, RecordingSink, ScriptedSource, Step, steps


class GrowingSource(ScriptedSource):
    """A source whose next picture is under way for so many seconds of each stream's silence."""

    stalled_hint = "restart it"

    def __init__(self, *scripts: list[Step], grows_for: float) -> None:
        super().__init__(*scripts)
        self.grows_until = 0.0
        self._grows_for = grows_for

    def sign_of_life(self) -> float:
        if not self.grows_until:
            self.grows_until = time.monotonic() + self._grows_for
        return min(time.monotonic(), self.grows_until)


@pytest.mark.parametrize("first", [steps(1, 2), []], ids=["the next picture", "the first picture"])
async def test_a_picture_that_grows_is_no_silence(first: list[Step]) -> None:
    """Big pictures over a weak Wi-Fi: rzeldent/esp32cam-rtsp#37."""
    source = GrowingSource([*first, 0.8, *steps(3), SILENCE], grows_for=0.8)
    camera = scripted(source, stall_timeout=0.2, first_frame_timeout=0.2)
    camera.stuck_after = 0.1
    async with running(camera):
        last = len(first) + 1
        while camera.published < last:
            assert not camera.is_stuck
            assert camera.is_fresh or camera.published < len(first) or not first
            await asyncio.sleep(0.005)
    assert not camera.failures


@pytest.mark.parametrize(
    ("first", "option"), [(steps(1, 2), "stall_timeout"), ([], "first_frame_timeout")]
)
async def test_a_picture_that_grows_for_ever_is_a_stall(first: list[Step], option: str) -> None:
    source = GrowingSource([*first, SILENCE], grows_for=60)
    camera = scripted(source, stall_timeout=0.05, first_frame_timeout=0.05, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.condition.reason == "a picture takes longer than 0.5 s"
        assert camera.condition.hint
        assert f"or raise {option}" in camera.condition.hint


async def test_one_that_stops_in_the_middle_is_told_so() -> None:
    source = GrowingSource([*steps(1, 2), SILENCE], grows_for=0.3)
    camera = scripted(source, stall_timeout=0.2, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == "recovering")
        assert camera.condition.trouble == (
            "the camera went silent in the middle of a picture: no more of it for 0.2 s: restart it"
        )


async def test_a_camera_on_demand_is_not_kept_open_by_a_picture_that_grows() -> None:
    source = GrowingSource([*steps(1, 2), SILENCE], grows_for=60)
    camera = scripted(source, mode="demand", linger=0.0, stall_timeout=0.2)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.published == 2)
        await until(lambda: camera.state == "idle", within=1.0)
    assert not camera.failures


class SlowSource(ScriptedSource):
    """A source that alone knows how often it sends a picture."""

    has_own_rhythm = True


async def test_a_slow_rhythm_is_learnt_from_two_pictures() -> None:
    """Motion, with one picture in 8 s."""
    script: list[Step] = [stamped(1), 0.3, stamped(2), 0.3, stamped(3), 0.5, stamped(4), SILENCE]
    camera = scripted(SlowSource(script), stall_timeout=0.2, first_frame_timeout=0.4)
    async with running(camera):
        await until(lambda: camera.published == 4)
    assert not camera.failures


async def test_a_slow_rhythm_is_learnt_though_each_picture_comes_twice() -> None:
    pictures: list[Step] = [step for n in range(1, 6) for step in (*steps(n), 0.01, *steps(n), 0.3)]
    source = SlowSource([*steps(1), 0.01, *steps(1), SILENCE], pictures)
    options = {"stall_timeout": 0.2, "first_frame_timeout": 0.6, "redial_delay": 0.01}
    camera = scripted(source, **options)
    async with running(camera):
        await until(lambda: camera.published == 12)
        assert camera.opens == 2


async def test_a_rhythm_slower_than_expected_is_waited_for_in_the_next_round() -> None:
    script: list[Step] = [stamped(1), 0.35, stamped(2), 0.35, stamped(3), SILENCE]
    source = SlowSource(script)
    camera = scripted(source, stall_timeout=0.1, first_frame_timeout=0.1, redial_delay=0.01)
    async with running(camera):
        await until(lambda: camera.published >= 5)
    assert source.opened <= 4


class MissingSource(ScriptedSource):
    """A source that asks for each picture, in vain for a while."""

    missed: SourceError | None = None

    @property
    def miss(self) -> SourceError | None:
        return self.missed


@pytest.mark.parametrize(
    ("missed", "state"),
    [
        (SourceRefused("the camera answers 503", "busy"), "recovering"),
        (SourceUnreachable("127.0.0.1:80 refuses connections", "starting"), "absent"),
    ],
)
async def test_a_silence_of_misses_is_told_as_the_last_of_them(
    missed: SourceError, state: str
) -> None:
    source = MissingSource([*steps(1, 2), SILENCE])
    source.missed = missed
    camera = scripted(source, stall_timeout=0.2, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.state == state)
        assert (camera.condition.reason, camera.condition.hint) == (missed.reason, missed.hint)
        assert camera.failures == {missed.kind: 1}


async def test_a_timeout_of_the_source_s_own_is_a_fault_of_ours() -> None:
    camera = scripted(ScriptedSource([*steps(1), TimeoutError()]), retry_max=30)
    async with running(camera):
        await until(lambda: camera.failures["crashed"] == 1)


# The last picture and the offline picture


async def offline_pictures(within: float, **options: object) -> list[int]:
    """The numbers of what a viewer is shown while a camera with one picture is away; 0: offline."""
    source = ScriptedSource([*steps(1), SourceLost("gone")], [SourceLost("gone")])
    camera, sink = scripted(source, redial_delay=30, **options), RecordingSink()
    async with running(camera):
        with camera.watched():
            await camera.admit(sink)
            await until(lambda: camera.fanout.has_placeholder)
            await asyncio.sleep(within)
            camera.fanout.leave(sink)
    return [frame.seq for frame in sink.frames]


async def test_the_offline_picture_may_come_at_once() -> None:
    assert 0 in await offline_pictures(0.05, offline_after=0)


async def test_the_last_picture_stays_for_offline_after() -> None:
    assert 0 not in await offline_pictures(0.5, offline_after=60)


async def test_a_reload_changes_how_long_the_last_picture_stays() -> None:
    gone = SourceLost("gone")
    camera = scripted(ScriptedSource([*steps(1), gone], [gone]), offline_after=60)
    async with running(camera):
        await until(lambda: camera.published == 1)
    after = scripted(ScriptedSource([gone]), offline_after=0, redial_delay=30)
    camera.configure(after.config, after.source)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            camera.fanout.join(sink)
            await until(lambda: sink.frames[-1].seq == 0)
            camera.fanout.leave(sink)


async def test_who_comes_when_there_is_no_last_picture_does_not_wait_for_offline_after() -> None:
    camera = scripted(ScriptedSource([SourceLost("gone")]), offline_after=60, redial_delay=30)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            await camera.admit(sink)
            await until(lambda: sink.frames)
            camera.fanout.leave(sink)
    assert sink.frames[0].seq == 0


async def test_a_camera_on_demand_that_fails_soon_after_it_was_idle_is_told_of() -> None:
    source = ScriptedSource([*steps(1), SILENCE], [SourceLost("gone")])
    camera = scripted(source, mode="demand", linger=0.0, stall_timeout=0.1, offline_after=60)
    sink = RecordingSink()
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.published == 1)
        await until(lambda: camera.state == "idle")
        with camera.watched():
            await camera.admit(sink)
            await until(lambda: sink.frames)
            camera.fanout.leave(sink)
    assert sink.frames[0].seq == 0


# Pictures that are not fit to be shown


def warming(seconds: float) -> list[Step]:
    """Black pictures for some seconds, then good ones."""
    black = [step for _ in range(round(seconds / 0.02)) for step in (stamped(0), 0.02)]
    return [*black, *(step for number in range(1, 500) for step in (stamped(number), 0.02))]


async def test_pictures_of_a_camera_that_warms_up_are_not_shown() -> None:
    """The first pictures are black: maziggy/bambuddy#1177."""
    camera = scripted(ScriptedSource(warming(0.2)), warm_up=0.3, mode="demand")
    async with running(camera):
        with camera.watched():
            assert await camera.settled(within=5)
            assert camera.state == "streaming"
            assert camera.ring.newest
            assert camera.ring.newest.image != stamped(0)


async def test_warming_up_is_no_silence() -> None:
    camera = scripted(
        ScriptedSource(warming(0.2)), warm_up=0.6, stall_timeout=0.2, first_frame_timeout=0.2
    )
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        assert camera.opens == 1


async def test_a_silence_while_it_warms_up_is_a_stall() -> None:
    source = ScriptedSource([*steps(1), SILENCE])
    camera = scripted(source, warm_up=60, stall_timeout=0.2, first_frame_timeout=30)
    async with running(camera):
        await until(lambda: camera.failures["stalled"])


async def test_each_opening_warms_up_but_not_the_rest_of_a_stream_that_ended() -> None:
    ended = SourceEnded("ended")
    source = ScriptedSource(
        [stamped(0), 0.3, stamped(1), ended],  # warm after 0.2 s, and from then on
        [stamped(2), SourceLost("gone")],
        [stamped(0), 0.3, stamped(3), SILENCE],
    )
    camera = scripted(source, warm_up=0.2, stall_timeout=30, ring_from_start=True)
    async with running(camera):
        await until(lambda: camera.published == 3)
        assert [image for _, image in camera.ring.last()] == [*map(stamped, (1, 2, 3))]


async def test_a_camera_whose_streams_are_shorter_than_its_warm_up_is_shown_in_the_end() -> None:
    source = ScriptedSource([stamped(0), 0.05, SourceEnded("ended")])
    camera = scripted(source, warm_up=0.3, redial_delay=0.01)
    async with running(camera):
        await until(lambda: camera.published == 1)
        assert not camera.failures


async def test_a_camera_that_warms_up_is_closed_when_nobody_watches() -> None:
    camera = scripted(ScriptedSource(warming(60)), warm_up=30, mode="demand", linger=0.0)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.opens == 1)
        await until(lambda: camera.state == "idle")


async def test_the_snapshot_that_opens_a_camera_waits_for_a_picture_that_may_be_shown() -> None:
    """A timelapse of black pictures: ayufan/camera-streamer#44, iot-root/garden-of-eden#143."""
    options = {"warm_up": 1.4, "first_frame_timeout": 0.1, "connect_timeout": 0.1}
    camera = scripted(ScriptedSource(warming(0.2)), mode="demand", **options)
    async with serving(camera) as relay:
        response, body = await relay.get("/snapshot")
    assert response.status == 200
    assert body != stamped(0)
