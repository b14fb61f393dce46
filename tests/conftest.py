"""What every test runs under."""

from collections.abc import Iterator

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail a test in which mjrelay blocks the event loop."""
    with blockbuster_ctx("mjrelay") as blocker:
        yield blocker


@pytest.fixture(autouse=True)
def _logs_as_at_first() -> Iterator[None]:
    """Undo what a command did to the log: its standard error is gone after the test."""
    yield
    structlog.reset_defaults()
