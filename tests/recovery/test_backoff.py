"""Backoff: who is asked again when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.errors import SourceError, SourceLost, SourceRefused, SourceStalled, SourceUnreachable
from mjrelay.recovery.backoff import DIAL_EVERY, HEALTHY_AFTER, Backoff

LOST, AWAY = SourceLost("reset by peer"), SourceUnreachable("connection refused")


def delays(
    backoff: Backoff, count: int, error: SourceError = LOST, streamed_for: float = 0.0
) -> list[float]:
    return [backoff.failed(error, streamed_for=streamed_for) for _ in range(count)]


def steady(first: float = 1.0, most: float = 30.0) -> Backoff:
    """Make a backoff without jitter."""
    return Backoff(first=first, most=most, jitter=lambda: 0.0)


@pytest.mark.parametrize(
    ("first", "most", "expected"),
    [
        (1.0, 30.0, [1, 2, 4, 8, 16, 30, 30]),
        (0.0, 30.0, [0, 1, 2, 4, 8, 16, 30]),
        (0.25, 2.0, [0.25, 1, 2, 2]),
        (3.0, 30.0, [3, 6, 12, 24, 30]),
        (40.0, 30.0, [40, 40, 40]),
    ],
)
def test_delays_double_up_to_the_limit(first: float, most: float, expected: list[float]) -> None:
    assert delays(steady(first, most), len(expected)) == expected


def test_after_a_rest_the_next_failure_is_a_first_one() -> None:
    backoff = steady()
    assert delays(backoff, 3) == [1, 2, 4]
    backoff.rests()
    assert delays(backoff, 2) == [1, 2]


@pytest.mark.parametrize("error", [LOST, SourceRefused("404"), SourceStalled("silent")])
def test_every_failure_of_a_connection_lengthens_the_delay(error: SourceError) -> None:
    assert delays(steady(), 3, error) == [1, 2, 4]


def test_an_unreachable_camera_is_asked_every_second_however_long() -> None:
    assert delays(steady(), 1000, AWAY) == [DIAL_EVERY] * 1000


@pytest.mark.parametrize("kind", [SourceRefused, SourceUnreachable])
def test_a_camera_that_must_be_left_alone_is(kind: type[SourceError]) -> None:
    backoff = steady()
    assert delays(backoff, 2, kind("not now", retry_after=300)) == [300, 300]
    assert max(delays(backoff, 5, kind("try", retry_after=0.1))) <= 30


def test_an_unreachable_camera_leaves_later_delays_as_they_were() -> None:
    backoff = steady()
    assert [backoff.failed(error) for error in (LOST, LOST, AWAY, AWAY, LOST)] == [1, 2, 1, 1, 4]


def test_healthy_frames_begin_the_delays_anew() -> None:
    backoff = steady()
    delays(backoff, 5)
    assert delays(backoff, 1, streamed_for=HEALTHY_AFTER) == [1]
    assert delays(backoff, 1) == [2]


def test_a_few_frames_are_no_recovery() -> None:
    backoff = steady()
    delays(backoff, 3)
    assert delays(backoff, 1, streamed_for=HEALTHY_AFTER - 0.1) == [8]


def test_jitter_shortens_a_delay_by_a_quarter_at_most() -> None:
    backoff = Backoff(first=1.0, most=30.0, jitter=lambda: 1.0)
    assert delays(backoff, 4) == [1, 1.5, 3, 6]


def test_a_camera_may_fail_for_years() -> None:
    assert delays(steady(), 100_000)[-1] == 30


@given(
    first=st.floats(0, 100),
    most=st.floats(0.01, 1000),
    jitters=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    streamed_for=st.floats(0, 10),
)
def test_no_delay_is_shorter_than_the_first_or_longer_than_the_most(
    first: float, most: float, jitters: list[float], streamed_for: float
) -> None:
    values = iter(jitters)
    backoff = Backoff(first=first, most=most, jitter=lambda: next(values))
    for _ in jitters:
        assert first <= backoff.failed(LOST, streamed_for=streamed_for) <= max(first, most)
