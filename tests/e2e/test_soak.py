"""The soak test, shortened."""

import random

import pytest

from tests.soak import Soak

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]


async def test_nothing_leaks_breaks_or_is_lost() -> None:
    soak = Soak(clients=50, seed=random.randrange(10**6))
    report = await soak.run(seconds=40, settle=10)
    assert not report.faults, f"\n{report}"
    assert report.frames > 1000
    assert report.placeholders > 0
