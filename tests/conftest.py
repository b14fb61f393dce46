"""What every test runs under."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail a test in which mjrelay blocks the event loop."""
    with blockbuster_ctx("mjrelay") as blocker:
        yield blocker
