"""Wakeups: what the kernel is told to wait for. All times are those of a clock that jumps."""

import asyncio
import socket
from itertools import pairwise
from typing import Any, cast

import pytest

from mjrelay.sources.http.wakeups import Wakeups
from tests.support.clock import jumping

PAUSE = 0.2
# How many bytes the kernel is told to wait for while pictures are coalesced.
MOST = 2**19


class Camera:
    """A camera that sends pictures, and a socket that notes for how many bytes it is to wait."""

    def __init__(self, wakeups: Wakeups, *, patient_fps: float = 30.0) -> None:
        self.told: list[tuple[float, int]] = []
        self._wakeups = wakeups
        self._patient_fps = patient_fps
        self._sent = 1.0
        self._waits = 1
        self._overdue = 0.0
        wakeups.attach(cast(socket.socket, self))

    def setsockopt(self, _level: int, _name: int, count: int) -> None:
        """As a socket."""
        self._waits = count
        if not self.told or self.told[-1][1] != count:
            self.told.append((round(now(), 1), count))

    async def send(self, seconds: float) -> None:
        """Send pictures for a while: 30 a second, or fewer to one who waits for several."""
        end = now() + seconds
        while now() < end:
            coalesced = self._waits == MOST
            step = PAUSE if coalesced else 1 / 30
            await asyncio.sleep(step)
            self._sent += step * (self._patient_fps if coalesced else 30)
            self._wakeups.note_progress(round(self._sent), missing=0)

    @property
    def coalesced_at(self) -> list[float]:
        """When it began to be coalesced, ignoring the ends of single pauses."""
        begun = [at for at, count in self.told if count == MOST]
        return begun[:1] + [at for last, at in pairwise(begun) if at - last > 5 * PAUSE]


def now() -> float:
    return asyncio.get_running_loop().time()


def about(*times: float) -> Any:
    return [pytest.approx(at, abs=0.5) for at in times]


@jumping
async def test_a_camera_that_nobody_watches_is_left_alone_at_first() -> None:
    camera = Camera(Wakeups(PAUSE))
    await camera.send(60)
    assert camera.coalesced_at == about(10)


@jumping
async def test_for_a_viewer_no_picture_waits() -> None:
    wakeups = Wakeups(PAUSE)
    wakeups.watch(watched=True)
    camera = Camera(wakeups)
    await camera.send(60)
    assert not camera.told
    wakeups.watch(watched=False)
    await camera.send(20)
    assert camera.coalesced_at == about(60)
    wakeups.watch(watched=True)
    assert camera.told[-1] == (*about(80), 1), "at once"
    told = len(camera.told)
    await camera.send(20)
    assert len(camera.told) == told
    wakeups.watch(watched=False)
    await camera.send(30)
    assert camera.coalesced_at[1:] == about(100), "its rate was known by then"


@jumping
async def test_the_rate_is_measured_anew_once_somebody_watched() -> None:
    wakeups = Wakeups(PAUSE)
    camera = Camera(wakeups)
    await camera.send(20)
    wakeups.watch(watched=True)
    wakeups.watch(watched=False)
    await camera.send(20)
    assert camera.coalesced_at == about(10, 30)


@pytest.mark.parametrize("fps", [0, 13, 23])
@jumping
async def test_a_camera_that_sends_less_then_is_let_alone_for_good(fps: float) -> None:
    wakeups = Wakeups(PAUSE)
    camera = Camera(wakeups, patient_fps=fps)
    await camera.send(60)
    assert camera.coalesced_at == about(10)
    assert camera.told[-1] == (*about(15), 1)
    told = len(camera.told)
    for watched in (True, False):
        wakeups.watch(watched=watched)
        await camera.send(60)
    assert len(camera.told) == told
    wakeups.detach()
    next_connection = Camera(wakeups, patient_fps=fps)
    await next_connection.send(60)
    assert not next_connection.told


@pytest.mark.parametrize("fps", [25, 30, 60])
@jumping
async def test_a_camera_that_does_not_mind_is_not_asked_again(fps: float) -> None:
    camera = Camera(Wakeups(PAUSE), patient_fps=fps)
    await camera.send(600)
    assert camera.coalesced_at == about(10)


@jumping
async def test_under_tls_nothing_waits_and_nothing_is_judged() -> None:
    wakeups = Wakeups(PAUSE)
    camera = Camera(wakeups, patient_fps=13)
    wakeups.attach(None)
    for watched in (True, False):
        await camera.send(60)
        wakeups.watch(watched=watched)
    assert not camera.told


@jumping
async def test_each_connection_is_measured_for_itself() -> None:
    wakeups = Wakeups(PAUSE)
    await Camera(wakeups).send(9)
    wakeups.detach()
    camera = Camera(wakeups)
    await camera.send(9)
    assert not camera.told
    await camera.send(2)
    assert camera.coalesced_at == about(19)


@jumping
async def test_nothing_is_told_to_a_connection_that_is_gone() -> None:
    wakeups = Wakeups(PAUSE)
    camera = Camera(wakeups)
    await camera.send(5)
    wakeups.note_progress(1000, missing=1000)
    assert camera.told[-1] == (5, 1000)
    wakeups.detach()
    assert camera.told[-1] == (5, 1)
    wakeups.watch(watched=True)
    wakeups.watch(watched=False)
    wakeups.note_progress(1001, missing=0)
    await asyncio.sleep(60)
    assert len(camera.told) == 2


@jumping
async def test_what_is_late_is_not_waited_for() -> None:
    wakeups = Wakeups(PAUSE)
    camera = Camera(wakeups)
    wakeups.note_progress(1, missing=10**9)
    assert camera.told == [(0, MOST)]
    await asyncio.sleep(1)
    assert camera.told == [(0, MOST), (0.1, 1)]
