"""Logs: coloured lines on a terminal, JSON lines elsewhere; always on standard error."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from mjrelay.address import redact


def set_up_logs(level: int) -> None:
    """Send our log, and that of the libraries, to standard error.

    Args:
        level: Of `logging`; DEBUG shows every retry, and what `exec:` programs say.
    """
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal
            ),
            _redact_values,
            *(
                [structlog.dev.ConsoleRenderer()]
                if on_terminal
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def _redact_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """Keep credentials out of every line, whoever wrote it."""
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


class _Forward(logging.Handler):
    """Gives the libraries' log records the form of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
