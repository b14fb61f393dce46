"""Coalescing: when pictures may wait for each other. All times are those of a clock that jumps."""

import asyncio
from typing import cast

import pytest

from mjrelay.sources.http.coalescing import Coalescing
from mjrelay.sources.http.connection import Connection
from tests.support.clock import jumping

PAUSE = 0.2


class Camera:
    """A connection that brings pictures, and notes when they may wait."""

    def __init__(
        self, *, watched: bool = False, patient_fps: float = 30.0, can_wait: bool = True
    ) -> None:
        self.can_wait = can_wait
        self.told: list[tuple[float, float]] = []
        self.coalescing = Coalescing(PAUSE)
        self.coalescing.watched = watched
        self._fps, self._patient_fps = 30.0, patient_fps
        self._sent, self._since = 0.0, now()
        self.begin()

    def begin(self) -> None:
        """Be taken up."""
        self.coalescing.begin(cast(Connection, self), self.count)

    def count(self) -> int:
        """How many pictures it has sent."""
        self._sent += (now() - self._since) * self._fps
        self._since = now()
        return round(self._sent)

    def coalesce(self, pause: float) -> None:
        """As Connection."""
        self.count()
        self._fps = self._patient_fps if pause else 30.0
        self.told.append((now(), pause))


def now() -> float:
    return asyncio.get_running_loop().time()


@jumping
async def test_a_camera_that_nobody_watches_is_left_alone_at_first() -> None:
    camera = Camera()
    await asyncio.sleep(60)
    assert camera.told == [(10, PAUSE)]


@jumping
async def test_for_a_viewer_no_picture_waits() -> None:
    camera = Camera(watched=True)
    await asyncio.sleep(60)
    assert not camera.told
    camera.coalescing.watched = False
    await asyncio.sleep(20)
    assert camera.told == [(60, PAUSE)]
    camera.coalescing.watched = True
    assert camera.told[1:] == [(80, 0)]
    camera.coalescing.watched = False
    await asyncio.sleep(30)
    assert camera.told[2:] == [(90, PAUSE)], "its rate was to be found out again"


@pytest.mark.parametrize("fps", [0, 13, 23])
@jumping
async def test_a_camera_that_sends_less_then_is_let_alone_for_good(fps: float) -> None:
    camera = Camera(patient_fps=fps)
    await asyncio.sleep(60)
    assert camera.told == [(10, PAUSE), (15, 0)]
    for watched in (True, False):
        camera.coalescing.watched = watched
        await asyncio.sleep(60)
    camera.coalescing.end()
    camera.begin()
    await asyncio.sleep(60)
    assert all(pause == 0 for _, pause in camera.told[1:])


@pytest.mark.parametrize("fps", [25, 30, 60])
@jumping
async def test_a_camera_that_does_not_mind_is_not_asked_again(fps: float) -> None:
    camera = Camera(patient_fps=fps)
    await asyncio.sleep(600)
    assert camera.told == [(10, PAUSE)]


@jumping
async def test_where_nothing_can_wait_nothing_is_judged() -> None:
    camera = Camera(patient_fps=13, can_wait=False)
    for watched in (True, False):
        await asyncio.sleep(60)
        camera.coalescing.watched = watched
    assert not camera.told


@jumping
async def test_to_begin_again_and_again_changes_nothing() -> None:
    camera = Camera()
    for _ in range(20):
        await asyncio.sleep(1)
        camera.begin()
    assert camera.told == [(10, PAUSE)]


@jumping
async def test_nothing_is_told_to_a_connection_that_is_gone() -> None:
    camera = Camera()
    camera.coalescing.end()
    camera.coalescing.end()
    camera.coalescing.watched = True
    camera.coalescing.watched = False
    await asyncio.sleep(60)
    assert not camera.told
