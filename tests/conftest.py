"""What every test runs under."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

import mjrelay

_LIBRARIES = ("aiohttp", "pillow", "pyudev", "structlog", "tomli-w", "v4l2py", "linuxpy")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tested; tests.matrix reads it."""
    versions = ", ".join(f"{library} {version(library)}" for library in _LIBRARIES)
    terminalreporter.write_line(f"mjrelay: {Path(mjrelay.__file__).parent}")
    terminalreporter.write_line(f"Python {platform.python_version()}, {versions}")


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
