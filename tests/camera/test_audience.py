"""Audience: how many watch, and whether a camera is wanted."""

import asyncio

import pytest

from mjrelay.camera.audience import Audience


def test_at_first_nobody_watches_and_a_camera_is_wanted_all_the_same() -> None:
    audience = Audience()
    assert (audience.viewers, audience.is_watching, audience.wants_pictures) == (0, False, True)


def test_viewers_are_counted() -> None:
    audience = Audience()
    with audience.joined(), audience.joined():
        assert audience.viewers == 2
    assert audience.viewers == 0


def test_a_viewer_that_fails_leaves_too() -> None:
    audience = Audience()
    with pytest.raises(ZeroDivisionError), audience.joined():
        raise ZeroDivisionError
    assert audience.viewers == 0


@pytest.mark.parametrize(("linger", "wanted"), [(0.0, False), (60.0, True)])
def test_on_demand_a_camera_is_wanted_while_watched_and_a_while_longer(
    linger: float, wanted: bool
) -> None:
    audience = Audience()
    audience.linger = linger
    assert not audience.wants_pictures
    with audience.joined():
        assert audience.wants_pictures
    assert audience.wants_pictures is wanted


def test_it_counts_as_watching_for_a_moment_after_the_last_viewer() -> None:
    audience = Audience()
    with audience.joined():
        assert audience.is_watching
    assert audience.is_watching
    audience.watched_for = 0.0
    assert not audience.is_watching


async def test_whoever_waits_for_viewers_wakes_up_for_the_first() -> None:
    audience = Audience()
    waiting = asyncio.create_task(audience.arrives())
    await asyncio.sleep(0)
    assert not waiting.done()
    with audience.joined():
        await asyncio.wait_for(waiting, 1)
    again = asyncio.create_task(audience.arrives())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
