"""Wait: how long it lasts, and what ends it sooner."""

import asyncio

import pytest

from mjrelay.camera.wait import Wait
from tests.support.serving import until


async def test_without_a_beginning_there_is_nothing_to_wait_for() -> None:
    wait = Wait()
    assert wait.left is None
    await wait.over()


async def test_it_counts_from_its_beginning() -> None:
    wait = Wait()
    wait.begin(0.05)
    await asyncio.sleep(0.06)
    assert wait.left == 0
    await wait.over()
    assert wait.left is None


@pytest.mark.parametrize("when", ["before", "while"])
async def test_it_can_be_woken(when: str) -> None:
    wait = Wait()
    wait.begin(60)
    if when == "before":
        wait.wake()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(wait.over())
        await asyncio.sleep(0)
        if when == "while":
            wait.wake()
    assert wait.left is None


async def test_a_wake_can_be_forgotten() -> None:
    wait = Wait()
    wait.wake()
    wait.forget_wake()
    wait.begin(60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wait.over()


async def test_it_is_shortened_while_somebody_waits() -> None:
    wait = Wait()
    wait.begin(60)
    over = asyncio.create_task(wait.over())
    await asyncio.sleep(0)
    wait.shorten(0.05)
    await until(over.done)


def test_it_is_never_made_longer_or_shorter_than_its_least() -> None:
    wait = Wait()
    wait.shorten(1)
    assert wait.left is None
    wait.begin(10)
    wait.shorten(20)
    assert wait.left
    assert 9 < wait.left <= 10
    wait.begin(100, least=50)
    wait.shorten(1)
    assert 49 < wait.left <= 50
