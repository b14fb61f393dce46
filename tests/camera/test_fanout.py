"""Fanout: what is shown to whom, and when. All times are those of a clock that jumps."""

import asyncio

import pytest

from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame
from tests.support.clock import jumping


def frame(seq: int) -> Frame:
    return Frame(seq, 0.0, now(), b"image")


OFFLINE = Frame(0, 0.0, 0.0, b"offline")


class Watcher:
    """A sink that notes when it was offered which frame."""

    def __init__(self) -> None:
        self.shown: list[tuple[float, int]] = []
        self.sampled: list[float] = []

    def offer(self, frame: Frame) -> None:
        """Note a frame."""
        self.shown.append((round(now(), 6), frame.seq))

    def sample(self, now: float) -> None:
        """Note that the rate was asked for."""
        self.sampled.append(now)


class Leaver(Watcher):
    """A sink whose client turns out to be gone when it is sent a frame."""

    def __init__(self, fanout: Fanout) -> None:
        super().__init__()
        self._fanout = fanout

    def offer(self, frame: Frame) -> None:
        """Leave."""
        super().offer(frame)
        self._fanout.leave(self)


def now() -> float:
    return asyncio.get_running_loop().time()


def watched(fanout: Fanout, count: int = 1) -> list[Watcher]:
    watchers = [Watcher() for _ in range(count)]
    for watcher in watchers:
        fanout.join(watcher)
    return watchers


# Frames


@jumping
async def test_a_new_frame_is_offered_to_everyone_at_once() -> None:
    fanout = Fanout()
    watchers = watched(fanout, 3)
    fanout.show(frame(1), now())
    assert [watcher.shown for watcher in watchers] == [[(0.0, 1)]] * 3


@jumping
async def test_sinks_are_kept_in_the_order_they_came() -> None:
    fanout = Fanout()
    watchers = watched(fanout, 3)
    assert [*fanout.sinks] == watchers


@jumping
async def test_a_client_that_joins_is_shown_the_newest_frame_at_once() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    fanout.show(frame(2), now())
    await asyncio.sleep(0.1)
    [watcher] = watched(fanout)
    assert watcher.shown == [(0.1, 2)]


@jumping
async def test_a_client_that_joins_before_the_first_frame_is_shown_nothing() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    await asyncio.sleep(5)
    assert fanout.current() is None
    assert watcher.shown == []


@jumping
async def test_a_frame_is_repeated_a_while_after_it_was_shown_not_after_its_capture() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    await asyncio.sleep(1)
    fanout.show(Frame(1, 0.0, now() - 0.2, b"image"), now())
    await asyncio.sleep(0.3)
    assert watcher.shown == [(1.0, 1), (1.25, 1)]


@jumping
async def test_a_client_that_left_is_shown_nothing_more() -> None:
    fanout = Fanout()
    gone, there = watched(fanout, 2)
    fanout.leave(gone)
    fanout.show(frame(1), now())
    await asyncio.sleep(2)
    assert gone.shown == []
    assert there.shown[0] == (0.0, 1)


@jumping
async def test_leaving_twice_is_fine() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.leave(watcher)
    fanout.leave(watcher)


@jumping
async def test_the_last_client_leaves_no_timer_behind() -> None:
    fanout = Fanout()
    watchers = watched(fanout, 2)
    for watcher in watchers:
        fanout.leave(watcher)
    assert fanout._timer is None


@pytest.mark.parametrize("place", [0, 1, 2])
@jumping
async def test_a_client_that_leaves_while_shown_a_frame_costs_the_others_nothing(
    place: int,
) -> None:
    fanout = Fanout()
    sinks: list[Watcher] = [Watcher(), Watcher()]
    sinks.insert(place, Leaver(fanout))
    for sink in sinks:
        fanout.join(sink)
    fanout.show(frame(1), now())
    assert [sink.shown for sink in sinks] == [[(0.0, 1)]] * 3
    assert len(fanout.sinks) == 2


@jumping
async def test_a_client_that_leaves_while_shown_a_repetition_costs_the_others_nothing() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    [before] = watched(fanout)
    leaver = Leaver(fanout)
    fanout.sinks[leaver] = None
    [after] = watched(fanout)
    await asyncio.sleep(0.3)
    assert (0.25, 1) in before.shown
    assert (0.25, 1) in after.shown


@jumping
async def test_a_client_that_leaves_when_welcomed_leaves_no_timer_behind() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    fanout.join(Leaver(fanout))
    assert fanout._timer is None


# Repetitions


@jumping
async def test_a_frame_is_repeated_after_250_ms_and_then_every_second() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    await asyncio.sleep(3)
    assert watcher.shown == [(0.0, 1), (0.25, 1), (1.25, 1), (2.25, 1)]


@jumping
async def test_a_frame_that_greeted_a_client_is_repeated_after_250_ms() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    await asyncio.sleep(100)
    [watcher] = watched(fanout)
    await asyncio.sleep(2)
    assert watcher.shown == [(100.0, 1), (100.25, 1), (101.25, 1)]


@jumping
async def test_frames_in_quick_succession_are_not_repeated() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    for number in range(50):
        fanout.show(frame(number), now())
        await asyncio.sleep(0.2)
    assert [seq for _, seq in watcher.shown] == [*range(50)]


@pytest.mark.parametrize("interval", [0.3, 0.5, 0.9, 1.1, 2.0, 3.1])
@jumping
async def test_each_frame_of_a_slow_camera_is_repeated_after_250_ms(interval: float) -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    repeated = []
    for number in range(10):
        at = round(now(), 6)
        fanout.show(frame(number), now())
        await asyncio.sleep(interval)
        repeated.append((round(at + 0.25, 6), number) in watcher.shown)
    assert all(repeated)


@jumping
async def test_a_client_that_joins_does_not_delay_the_repetition_for_others() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    await asyncio.sleep(0.2)
    watched(fanout)
    await asyncio.sleep(0.06)
    assert watcher.shown == [(0.0, 1), (0.25, 1)]


@jumping
async def test_clients_that_keep_joining_do_not_silence_the_others() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    for _ in range(50):
        await asyncio.sleep(0.1)
        watched(fanout)
    assert len(watcher.shown) >= 5


@jumping
async def test_sinks_note_their_rate_about_once_a_second() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    for number in range(100):
        fanout.show(frame(number), now())
        await asyncio.sleep(0.1)
    assert 8 <= len(watcher.sampled) <= 10


# Outages


@jumping
async def test_the_offline_picture_waits_until_a_second_without_frames() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    fanout.show_placeholder(OFFLINE)
    assert fanout.has_placeholder
    await asyncio.sleep(0.9)
    assert [seq for _, seq in watcher.shown] == [1, 1]
    await asyncio.sleep(0.4)
    assert watcher.shown[-1] == (1.25, 0)


@jumping
async def test_a_camera_back_within_a_second_was_never_seen_to_be_gone() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(0.9)
    fanout.show(frame(2), now())
    await asyncio.sleep(5)
    assert not fanout.has_placeholder
    assert {seq for _, seq in watcher.shown} == {1, 2}


@jumping
async def test_after_a_second_without_frames_the_offline_picture_is_shown_at_once() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show(frame(1), now())
    await asyncio.sleep(5)
    fanout.show_placeholder(OFFLINE)
    assert watcher.shown[-1] == (5.0, 0)


@jumping
async def test_the_offline_picture_is_repeated_every_second() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(3.5)
    assert [seq for _, seq in watcher.shown] == [0] * len(watcher.shown)
    times = [time for time, _ in watcher.shown]
    assert times == [0.0, 1.0, 2.0, 3.0]


@jumping
async def test_a_camera_that_never_showed_a_frame_is_offline_at_once() -> None:
    fanout = Fanout()
    fanout.show_placeholder(OFFLINE)
    assert fanout.current() is OFFLINE


@jumping
async def test_a_client_that_joins_during_an_outage_is_shown_the_offline_picture() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    await asyncio.sleep(5)
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(5)
    [watcher] = watched(fanout)
    assert watcher.shown == [(10.0, 0)]


@jumping
async def test_a_client_that_joins_in_the_first_second_of_an_outage_sees_the_last_frame() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(0.5)
    [watcher] = watched(fanout)
    await asyncio.sleep(2)
    assert watcher.shown[0] == (0.5, 1)
    assert watcher.shown[-1][1] == 0


@jumping
async def test_a_new_frame_ends_an_outage() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(5.5)
    fanout.show(frame(1), now())
    await asyncio.sleep(3)
    assert watcher.shown[watcher.shown.index((5.5, 1)) :][1:3] == [(5.75, 1), (6.75, 1)]
    assert fanout.current() is not OFFLINE


@jumping
async def test_a_new_reason_is_shown_at_once() -> None:
    fanout = Fanout()
    [watcher] = watched(fanout)
    fanout.show_placeholder(OFFLINE)
    await asyncio.sleep(0.5)
    fanout.show_placeholder(frame(-1))
    assert watcher.shown == [(0.0, 0), (0.5, -1)]


@jumping
async def test_a_cleared_fanout_shows_nothing_until_the_next_frame() -> None:
    fanout = Fanout()
    fanout.show(frame(1), now())
    fanout.show_placeholder(OFFLINE)
    fanout.clear()
    [watcher] = watched(fanout)
    await asyncio.sleep(5)
    assert watcher.shown == []
    fanout.show(frame(2), now())
    assert watcher.shown == [(5.0, 2)]
