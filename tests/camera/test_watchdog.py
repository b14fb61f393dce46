"""Watchdog: what is fed in time is left alone."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mjrelay.camera.watchdog import Watchdog
from tests.support.clock import jumping


def now() -> float:
    return asyncio.get_running_loop().time()


async def bitten(patience: float, act: Callable[[Watchdog], Awaitable[None]]) -> float:
    """When a watchdog bites who sleeps after an act."""

    async def act_and_sleep() -> None:
        async with Watchdog(patience) as watchdog:
            await act(watchdog)
            await asyncio.sleep(600)

    with pytest.raises(TimeoutError):
        await act_and_sleep()
    return now()


@jumping
async def test_it_bites_when_nobody_feeds_it() -> None:
    async def do_nothing(_: Watchdog) -> None:
        pass

    assert await bitten(3, do_nothing) == 3


@pytest.mark.parametrize("patience", [1, 10, 100])
@jumping
async def test_it_bites_so_long_after_it_was_fed_last(patience: float) -> None:
    async def feed(watchdog: Watchdog) -> None:
        for _ in range(20):
            await asyncio.sleep(0.5)
            watchdog.feed(now() + 5)

    assert await bitten(patience, feed) == 15


@jumping
async def test_it_ends_quietly_when_it_is_told_to() -> None:
    async with Watchdog(5) as watchdog:
        watchdog.release()
        watchdog.release()
        await asyncio.sleep(60)
    assert now() == 0


@jumping
async def test_an_error_of_others_is_passed_on_though_it_was_told_to_end() -> None:
    async def fail() -> None:
        async with Watchdog(5) as watchdog:
            watchdog.release()
            raise TimeoutError

    with pytest.raises(TimeoutError):
        await fail()


@jumping
async def test_feeding_sets_no_timer() -> None:
    loop = asyncio.get_running_loop()
    async with Watchdog(5) as watchdog:
        set_before = len(loop._scheduled)  # type: ignore[attr-defined]
        for _ in range(100):
            watchdog.feed(now() + 5)
        assert len(loop._scheduled) == set_before  # type: ignore[attr-defined]


@jumping
async def test_it_is_quiet_once_it_is_left() -> None:
    async with Watchdog(5) as watchdog:
        watchdog.feed(now() + 1)
    await asyncio.sleep(60)


@jumping
async def test_a_cancellation_from_outside_stays_one() -> None:
    async def wait() -> None:
        async with Watchdog(5):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
