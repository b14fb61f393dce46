"""Past keeps a camera's last frames in a file in memory, and gives them back as they were."""

import errno
import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mjrelay.camera.frame import Frame
from mjrelay.camera.past import Past
from tests.support.pasts import open_pasts


def frame(seq: int, at: float | None = None, size: int = 1000) -> Frame:
    """Make a frame of that many bytes, none like those of its neighbours."""
    moment = float(seq if at is None else at)
    return Frame(seq, 1e9 + moment, moment, bytes([seq % 251]) * size)


def filled(past: Past, frames: Iterator[Frame] | list[Frame]) -> Past:
    for each in frames:
        past.add(each)
    return past


def seqs(past: Past) -> list[int]:
    """The frames kept, by the times they were made with."""
    return [round(captured_at - 1e9) for captured_at, _ in past.since(float("-inf"))]


def size_of(past: Past) -> int:
    return os.fstat(past._fd).st_size


def files() -> list[str]:
    """The files of pasts that are in use."""
    gc.collect()
    return open_pasts()


def test_what_is_read_is_what_was_added() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), added := [frame(n) for n in range(3)])
    assert [*past.since(0)] == [(each.captured_at, each.image) for each in added]


def test_frames_older_than_the_limit_are_forgotten() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), (frame(n) for n in range(10)))
    assert seqs(past) == [4, 5, 6, 7, 8, 9]


def test_the_file_is_no_larger_than_allowed() -> None:
    past = filled(Past(seconds=1000, max_bytes=3999), (frame(n) for n in range(10)))
    assert seqs(past) == [7, 8, 9]
    assert size_of(past) <= 3999


def test_a_reader_may_begin_at_a_moment() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), (frame(n) for n in range(5)))
    assert [image for _, image in past.since(3)] == [frame(3).image, frame(4).image]


def test_a_frame_that_is_overwritten_before_it_is_read_is_left_out() -> None:
    past = filled(Past(seconds=2, max_bytes=10**6), (frame(n) for n in range(3)))
    reading = past.since(0)
    assert next(reading)[1] == frame(0).image
    filled(past, [frame(3), frame(4, at=3.5)])
    assert [image for _, image in reading] == [frame(2).image]


def test_memory_is_used_again_in_place() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), (frame(n) for n in range(6)))
    before = size_of(past)
    filled(past, (frame(n) for n in range(6, 100)))
    assert seqs(past) == [94, 95, 96, 97, 98, 99]
    assert size_of(past) == before


def test_larger_frames_have_their_seconds_too_after_a_round() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), (frame(n) for n in range(20)))
    filled(past, (frame(n, size=3000) for n in range(20, 40)))
    assert seqs(past) == [34, 35, 36, 37, 38, 39]
    filled(past, (frame(n, size=10) for n in range(40, 60)))
    assert seqs(past) == [54, 55, 56, 57, 58, 59]


def test_a_large_frame_that_begins_a_round_early_costs_those_it_covers() -> None:
    past = filled(Past(seconds=1000, max_bytes=4000), (frame(n) for n in range(6)))
    past.add(large := frame(6, size=2500))
    assert [image for _, image in past.since(0)] == [large.image]


def test_tiny_frames_do_not_fill_the_memory_with_what_is_noted_of_them() -> None:
    past = filled(Past(seconds=1000, max_bytes=5000), (frame(n, size=1) for n in range(100)))
    assert len(past) == 10


def test_a_frame_too_large_for_the_file_leaves_none() -> None:
    past = filled(Past(seconds=1000, max_bytes=5000), [frame(1), frame(2, size=5001)])
    assert seqs(past) == []
    past.add(frame(3))
    assert seqs(past) == [3]


@given(
    frames=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3000)), min_size=1, max_size=80),
    seconds=st.floats(0.1, 10) | st.just(1000.0),
    max_bytes=st.integers(0, 9000),
)
def test_what_is_kept_is_the_newest_in_order_and_within_both_limits(
    frames: list[tuple[float, int]], seconds: float, max_bytes: int
) -> None:
    past, now, added = Past(seconds=seconds, max_bytes=max_bytes), 0.0, []
    for seq, (pause, size) in enumerate(frames):
        now += pause
        added.append(frame(seq, now, size))
        past.add(added[-1])
        found = [*past.since(0)]
        newest = added[len(added) - len(found) :]
        assert found == [(each.captured_at, each.image) for each in newest]
        assert bool(found) == (max(size, 500) <= max_bytes)
        assert sum(len(image) for _, image in found) <= max_bytes
        assert all(each.monotonic >= now - seconds for each in newest)
        assert not found or size_of(past) <= max_bytes
    past.clear()


@given(
    sizes=st.lists(st.integers(1, 3000), min_size=2, max_size=60),
    read=st.integers(0, 10),
)
def test_a_slow_reader_gets_some_of_what_was_there_and_nothing_else(
    sizes: list[int], read: int
) -> None:
    past = Past(seconds=1000, max_bytes=12_000)
    added = [frame(seq, size=size) for seq, size in enumerate(sizes)]
    half = len(added) // 2
    filled(past, added[:half])
    reading = past.since(0)
    found = [each for each, _ in zip(reading, range(read), strict=False)]
    filled(past, added[half:])
    found += reading
    there = [(each.captured_at, each.image) for each in added[:half]]
    assert [each for each in there if each in found] == found
    past.clear()


# The file


@pytest.mark.parametrize(("seconds", "max_bytes"), [(0, 10**6), (5, 0)])
def test_no_past_makes_no_file(seconds: float, max_bytes: int) -> None:
    past = filled(Past(seconds=seconds, max_bytes=max_bytes), [frame(1), frame(2)])
    assert seqs(past) == []
    assert not files()


def test_the_file_is_made_for_the_first_frame_and_goes_with_the_past() -> None:
    past = Past(seconds=5, max_bytes=10**6)
    assert not files()
    past.add(frame(1))
    assert len(files()) == 1
    assert not os.get_inheritable(past._fd)
    del past
    assert not files()


def test_clearing_gives_the_file_back() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), [frame(1)])
    reading = past.since(0)
    past.clear()
    assert not files()
    assert [*reading] == []
    past.clear()
    past.add(frame(2))
    assert seqs(past) == [2]


def test_other_limits_begin_anew() -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), [frame(1)])
    past.configure(seconds=0, max_bytes=10**6)
    past.add(frame(2))
    assert seqs(past) == []
    assert not files()


# No room


@pytest.mark.parametrize(
    ("call", "number", "hint"),
    [
        ("memfd_create", errno.EMFILE, "LimitNOFILE"),
        ("memfd_create", errno.ENOMEM, "ring_bytes"),
        ("pwrite", errno.ENOSPC, "ring_bytes"),
    ],
)
def test_where_there_is_no_room_the_past_is_left_out_and_that_is_told_once(
    call: str, number: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    past = Past(seconds=5, max_bytes=10**6)
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        filled(past, (frame(n) for n in range(200)))
    [told] = logs
    assert (told["event"], told["log_level"]) == ("past.left_out", "warning")
    assert told["reason"] == os.strerror(number)
    assert hint in told["hint"]
    assert seqs(past) == []
    assert not files()


def test_a_frame_that_fits_in_part_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    past = filled(Past(seconds=5, max_bytes=10**6), [frame(1)])
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 10)
        past.add(frame(2))
    assert [entry["reason"] for entry in logs] == [os.strerror(errno.ENOSPC)]
    assert seqs(past) == []


def test_it_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past(seconds=5, max_bytes=10**6)
    with capture_logs(), monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 0)
        past.add(frame(1))
    past.add(frame(60))
    assert seqs(past) == []
    past.add(frame(61))
    assert seqs(past) == [61]
