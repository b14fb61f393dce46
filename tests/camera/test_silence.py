"""Silence: how long a camera may send no picture."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.camera.silence import Silence

NEVER = -math.inf


def silence(*, usual: float = 5.0, first: float = 10.0, learns: bool = True) -> Silence:
    return Silence(usual=usual, first=first, learns=learns)


def shown(pauses: list[float], *, begin: float = 100.0, of: Silence | None = None) -> Silence:
    """What is learnt from pictures with these pauses between them."""
    learnt, now = of or silence(), begin
    learnt.opened(now)
    learnt.came_at = now
    for pause in pauses:
        now += pause
        if pause >= learnt.notable:
            learnt.note_pause(now)
        learnt.came_at = now
    return learnt


def test_the_first_picture_has_a_patience_of_its_own() -> None:
    learnt = silence()
    learnt.opened(100)
    assert not learnt.has_picture
    assert learnt.ends(NEVER) == 110


def test_a_camera_that_learns_nothing_has_the_usual_patience_at_once() -> None:
    fixed = shown([8, 8, 8], of=silence(learns=False))
    assert fixed.allowed == 5
    fixed.lasted_too_long()
    assert fixed.allowed == 5
    assert fixed.notable == math.inf


def test_until_the_second_picture_nothing_is_known_of_the_rhythm() -> None:
    assert silence().allowed == 10
    assert silence(usual=20).allowed == 20


@pytest.mark.parametrize(
    ("pauses", "allowed"),
    [
        ([0.04], 5),
        ([0.04, 0.04, 0.04], 5),
        ([1.5] * 9, 5),
        ([8.0], 24),  # Motion, one picture in 8 s
        ([8.0, 8.0], 24),
        ([4.0, 0.04], 5),  # slow to begin
        ([0.04, 0.04, 4.5, 0.04, 4.5, 0.04], 5),  # hiccups
        ([0.04, 0.04, 4.0, 4.5, 0.04], 12),
        ([8.0, 8.0, 0.04, 0.04, 8.0], 24),  # quick while something moves
        ([40.0, 40.0], 50),  # never more than ten times the usual patience
    ],
)
def test_the_rhythm_is_learnt(pauses: list[float], allowed: float) -> None:
    assert shown(pauses).allowed == pytest.approx(allowed)


def test_of_a_camera_that_sends_each_picture_twice_the_rhythm_is_learnt_after_one_stall() -> None:
    learnt = shown([0.2])
    assert learnt.allowed == 5
    learnt.lasted_too_long()
    assert shown([0.2], of=learnt).allowed == 10
    assert shown([0.2, 8.0, 0.2], of=learnt).allowed == 24
    assert shown([0.2, 8.0, 0.2, 8.0, 0.2], of=learnt).allowed == 24


def test_of_a_quick_camera_that_stalled_after_two_pictures_it_is_learnt_from_three() -> None:
    learnt = shown([0.04])
    learnt.lasted_too_long()
    assert shown([0.04, 0.04], of=learnt).allowed == 5


def test_of_a_quick_camera_no_pause_but_a_long_one_need_be_told() -> None:
    assert shown([0.04, 0.04]).notable == pytest.approx(5 / 3)


def test_a_camera_that_is_closed_before_its_second_picture_gets_more_time_each_round() -> None:
    learnt, rounds = silence(), []
    for _ in range(5):
        shown([], of=learnt)
        rounds.append(learnt.allowed)
        learnt.lasted_too_long()
    assert rounds == [10, 20, 40, 50, 50]


def test_a_rhythm_that_was_not_kept_is_forgotten() -> None:
    learnt = shown([8.0, 8.0, 8.0])
    learnt.lasted_too_long()
    assert learnt.allowed == 10
    assert shown([0.04, 0.04], of=learnt).allowed == 5


def test_that_a_camera_is_quick_is_not_forgotten() -> None:
    learnt = shown([0.04, 0.04])
    learnt.lasted_too_long()
    assert learnt.allowed == 5


def test_a_picture_that_grows_is_no_silence_up_to_ten_times_the_patience() -> None:
    quick = shown([0.04, 0.04])
    quick.came_at = 100
    assert quick.ends(104) == quick.ends_after(100, 104) == 109
    assert quick.ends(149) == 150
    quick.opened(100)
    assert quick.ends(112) == 122
    assert quick.ends(1000) == 200


@given(
    pauses=st.lists(st.floats(0.001, 1000)),
    usual=st.floats(0.01, 100),
    first=st.floats(0.01, 100),
    sign=st.floats(-1000, 1000),
)
def test_every_silence_ends(pauses: list[float], usual: float, first: float, sign: float) -> None:
    learnt = shown(pauses, of=silence(usual=usual, first=first))
    longest = max(first, 10 * usual)
    assert usual <= learnt.allowed <= longest
    for _ in range(9):
        learnt.came_at = 0
        assert learnt.allowed <= learnt.ends(sign) <= longest
        learnt.lasted_too_long()


def test_a_camera_that_fails_before_its_first_picture_is_not_given_more_time() -> None:
    learnt = silence()
    learnt.opened(100)
    learnt.lasted_too_long()
    assert learnt.allowed == 10
