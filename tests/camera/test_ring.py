"""FrameRing keeps the newest frame and those before it, and wakes whoever waits for one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.camera.frame import Frame
from mjrelay.camera.ring import FrameRing, NoMoreFrames


def frame(seq: int, at: float | None = None, size: int = 100) -> Frame:
    """Make a frame whose image has that size."""
    moment = float(seq if at is None else at)
    return Frame(seq, moment, moment, bytes(size))


def kept(ring: FrameRing) -> list[int]:
    """The frames kept, by the times they were made with."""
    return [round(captured_at) for captured_at, _ in ring.last()]


# What is kept


def test_an_empty_ring_has_no_newest_frame() -> None:
    assert FrameRing().newest is None


def test_the_newest_frame_is_the_last_published() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    ring.publish(last := frame(2))
    assert ring.newest is last


def test_frames_older_than_the_limit_are_forgotten() -> None:
    ring = FrameRing(seconds=5)
    for seq in range(10):
        ring.publish(frame(seq))
    assert kept(ring) == [4, 5, 6, 7, 8, 9]


def test_frames_beyond_the_limit_of_bytes_are_forgotten() -> None:
    ring = FrameRing(seconds=1000, max_bytes=2 * 1000)
    for seq in range(10):
        ring.publish(frame(seq, size=1000))
    assert kept(ring) == [8, 9]


def test_the_newest_frame_is_kept_however_large() -> None:
    ring = FrameRing(max_bytes=550)
    ring.publish(frame(1))
    ring.publish(frame(2, size=1000))
    assert kept(ring) == [2]
    ring.publish(frame(3))
    assert kept(ring) == [3]


def test_the_newest_frame_is_kept_however_long_after_the_others() -> None:
    ring = FrameRing(seconds=0)
    ring.publish(frame(1, at=0))
    ring.publish(last := frame(2, at=1000))
    assert kept(ring) == [1000]
    assert ring.newest is last


def test_the_rate_of_frames_that_come_some_at_once_is_right() -> None:
    ring = FrameRing()
    for number in range(90):
        ring.publish(frame(number, at=number // 6 * 0.2))
    assert ring.fps(90 / 30) == pytest.approx(30)


def test_a_cleared_ring_has_nothing() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    ring.clear()
    assert ring.newest is None
    assert ring.fps(1) == 0
    ring.publish(frame(2))
    assert kept(ring) == [2]


def test_the_last_seconds_end_with_the_newest_frame() -> None:
    ring = FrameRing()
    assert [*ring.last()] == []
    for seq in range(10):
        ring.publish(frame(seq))
    assert [captured_at for captured_at, _ in ring.last(2)] == [7, 8, 9]
    assert [captured_at for captured_at, _ in ring.last(0)] == [9]


def test_a_forgotten_past_leaves_the_newest_frame() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    ring.publish(last := frame(2))
    ring.forget_past()
    assert ring.newest is last
    assert [*ring.last()] == [(2, last.image)]


@given(
    frames=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), min_size=1, max_size=40),
    seconds=st.floats(0, 10),
    max_bytes=st.integers(0, 1000),
)
def test_a_ring_never_holds_more_than_its_limits_and_one_frame(
    frames: list[tuple[float, int]], seconds: float, max_bytes: int
) -> None:
    ring, now = FrameRing(seconds=seconds, max_bytes=max_bytes), 0.0
    for seq, (pause, size) in enumerate(frames):
        now += pause
        ring.publish(frame(seq, now, size))
        assert ring.newest
        assert ring.newest.seq == seq
        held = [*ring.last()]
        assert held[-1] == (now, ring.newest.image)
        assert len(held) == 1 or sum(len(image) for _, image in held) <= max_bytes
        assert len(held) == 1 or held[0][0] >= now - seconds
    ring.clear()


def test_without_a_wish_for_it_no_past_is_kept() -> None:
    ring = FrameRing(from_start=False)
    for seq in range(3):
        ring.publish(frame(seq))
    assert kept(ring) == [2]


def test_a_past_that_was_asked_for_is_kept_for_a_while() -> None:
    ring = FrameRing(seconds=1000, from_start=False)
    ring.publish(frame(1))
    assert ring.want_past(1000, now=1) == 1000
    for seq in range(2, 5):
        ring.publish(frame(seq))
    assert kept(ring) == [2, 3, 4]
    assert ring.want_past(2, now=4) == 0
    assert ring.want_past(10, now=4) == 7
    ring.publish(frame(5, at=603.9))
    assert kept(ring) == [2, 3, 4, 604]
    ring.publish(last := frame(6, at=604.1))
    assert [*ring.last()] == [(604.1, last.image)], "ten minutes after the last wish it is given up"


def test_where_none_is_to_be_kept_there_is_nothing_to_wait_for() -> None:
    assert FrameRing(seconds=0, from_start=False).want_past(1, now=1) == 0
    assert FrameRing(seconds=5, from_start=True).want_past(1, now=1) == 0


def test_no_more_is_to_come_than_would_be_kept() -> None:
    assert FrameRing(seconds=5, from_start=False).want_past(60, now=1) == 5


def test_frames_that_are_forgotten_before_they_are_read_are_left_out() -> None:
    ring = FrameRing(seconds=2)
    for seq in range(3):
        ring.publish(frame(seq))
    reading = ring.last()
    assert next(reading)[0] == 0
    ring.publish(frame(3))
    ring.publish(frame(4, at=3.5))
    assert [moment for moment, _ in reading] == [2], "those that came later are not of this clip"


def test_a_reader_of_a_past_that_was_given_up_meanwhile_ends() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    ring.publish(frame(2))
    reading = ring.last()
    next(reading)
    ring.clear()
    ring.publish(frame(3))
    assert [*reading] == []


def test_tiny_frames_do_not_fill_the_memory_with_what_is_noted_of_them() -> None:
    ring = FrameRing(seconds=1000, max_bytes=5000)
    for seq in range(100):
        ring.publish(frame(seq, size=1))
    assert len(kept(ring)) == 10


# The rate


def test_the_rate_is_that_of_the_last_seconds() -> None:
    ring = FrameRing()
    for number in range(100):
        ring.publish(frame(number, at=number / 10))
    assert ring.fps(9.9) == pytest.approx(10)


@pytest.mark.parametrize("times", [[], [1.0]])
def test_fewer_than_two_frames_have_no_rate(times: list[float]) -> None:
    ring = FrameRing()
    for seq, time in enumerate(times):
        ring.publish(frame(seq, time))
    assert ring.fps(1) == 0


def test_the_rate_of_a_silent_camera_is_nothing() -> None:
    ring = FrameRing()
    for number in range(10):
        ring.publish(frame(number, at=number / 10))
    assert ring.fps(60) == 0


# Waiting


async def readers(ring: FrameRing, count: int, seq: int = 0) -> list[asyncio.Task[Frame]]:
    """Start that many readers, and let them wait."""
    tasks = [asyncio.create_task(ring.newer_than(seq)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_frame_newer_than_the_last_seen_is_there_at_once() -> None:
    ring = FrameRing()
    ring.publish(frame(5))
    assert (await asyncio.wait_for(ring.newer_than(4), 1)).seq == 5


async def test_every_reader_is_woken_by_a_new_frame() -> None:
    ring = FrameRing()
    waiting = await readers(ring, 5)
    ring.publish(frame(1))
    assert [found.seq for found in await asyncio.gather(*waiting)] == [1] * 5


async def test_a_reader_goes_on_waiting_for_a_frame_it_has_not_seen() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    [reader] = await readers(ring, 1, seq=2)
    ring.publish(frame(2))
    await asyncio.sleep(0.001)
    assert not reader.done()
    ring.publish(frame(3))
    assert (await reader).seq == 3


async def test_a_reader_woken_late_sees_the_newest_frame() -> None:
    ring = FrameRing()
    [reader] = await readers(ring, 1)
    ring.publish(frame(1))
    ring.publish(frame(2))
    assert (await reader).seq == 2


async def test_cancelling_one_reader_leaves_the_others_waiting() -> None:
    ring = FrameRing()
    first, *others = await readers(ring, 3)
    first.cancel()
    await asyncio.sleep(0)
    assert first.cancelled()
    ring.publish(frame(1))
    assert [found.seq for found in await asyncio.gather(*others)] == [1, 1]


async def test_readers_outlive_a_cleared_ring() -> None:
    ring = FrameRing()
    [reader] = await readers(ring, 1)
    ring.publish(frame(1))
    ring.clear()
    await asyncio.sleep(0.001)
    assert not reader.done()
    ring.publish(frame(2))
    assert (await reader).seq == 2


async def test_a_reader_that_comes_between_frame_and_wake_up_costs_nobody_the_frame() -> None:
    ring = FrameRing()
    [early] = await readers(ring, 1)
    ring.publish(frame(1))
    late = asyncio.create_task(ring.newer_than(1))
    assert (await early).seq == 1
    await asyncio.sleep(0)
    ring.publish(frame(2))
    assert (await late).seq == 2


async def test_readers_outlive_other_limits() -> None:
    ring = FrameRing()
    [reader] = await readers(ring, 1)
    ring.configure(seconds=1000, max_bytes=2 * 1000, from_start=True)
    for seq in range(1, 10):
        ring.publish(frame(seq, size=1000))
    assert kept(ring) == [8, 9]
    assert (await reader).seq == 9


async def test_readers_of_a_closed_ring_wait_no_longer() -> None:
    ring = FrameRing()
    ring.publish(frame(1))
    [waiting] = await readers(ring, 1, seq=1)
    ring.close()
    with pytest.raises(NoMoreFrames):
        await asyncio.wait_for(waiting, 1)
    with pytest.raises(NoMoreFrames):
        await asyncio.wait_for(ring.newer_than(1), 1)
