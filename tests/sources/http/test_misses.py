"""Misses: when a camera is asked again that had no picture."""

import math

from mjrelay.errors import SourceError, SourceRefused
from mjrelay.sources.http.misses import Misses

BUSY = SourceRefused("the camera answers 503")


def test_without_a_miss_nothing_is_waited_for() -> None:
    misses = Misses(pause=1)
    assert not misses
    assert misses.ask_at == -math.inf
    assert misses.latest(now=100) is None


def test_after_one_the_next_beat_asks_and_after_more_a_pause_is_made() -> None:
    misses, asked_at = Misses(pause=1), []
    for now in (100, 200, 300):
        misses.note(BUSY, now)
        asked_at.append(misses.ask_at)
    assert asked_at == [100, 201, 301]
    assert misses
    misses.forget()
    misses.note(BUSY, 400)
    assert misses.ask_at == 400


def test_a_camera_that_wants_to_be_left_alone_is_and_the_rest_of_that_time_is_told() -> None:
    misses = Misses(pause=1)
    misses.note(SourceRefused("asked too often", retry_after=20), 100)
    assert misses.ask_at == 120

    def left(now: float) -> float | None:
        latest = misses.latest(now)
        assert isinstance(latest, SourceError)
        return latest.retry_after

    assert [left(105), left(105), left(115), left(130)] == [15, 15, 5, 0]
