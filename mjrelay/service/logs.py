"""Logs: coloured lines on a terminal, JSON lines elsewhere; always on standard error."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from mjrelay.configuration.redaction import redact

# The priorities of syslog(3) by log level.
_PRIORITIES = {"critical": 2, "exception": 3, "error": 3, "warning": 4, "info": 6, "debug": 7}


def set_up_logs(level: int) -> None:
    """Send the log lines of mjrelay and of its libraries to standard error.

    Args:
        level: The lowest level to show, as in `logging`. DEBUG shows every retry, and what `exec:`
            programs write to their standard error.
    """
    on_terminal = sys.stderr.isatty()
    for_people = [
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
    for_programs = [
        _begin_with_what_happened,
        structlog.processors.JSONRenderer(),
        *([_tell_the_journal_how_grave] if is_journal() else []),
    ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal
            ),
            structlog.processors.format_exc_info,  # a traceback may hold credentials, too
            _redact_values,
            *(for_people if on_terminal else for_programs),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def _begin_with_what_happened(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put event, camera and level first, for people who read the JSON."""
    first = {key: event.pop(key) for key in ("event", "camera", "level") if key in event}
    return {**first, **event}


def _tell_the_journal_how_grave(_logger: Any, method: str, line: str) -> str:
    """Begin a line with its priority as in sd-daemon(3), for `journalctl -p warning`."""
    return f"<{_PRIORITIES.get(method, 6)}>{line}"


def is_journal() -> bool:
    """Whether standard error leads to systemd's journal (systemd.exec(5), $JOURNAL_STREAM)."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _redact_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """Remove credentials from every line, those of libraries included."""
    return _redacted(event)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: _redacted(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_redacted(inner) for inner in value]
        case _:
            return value


class _Forward(logging.Handler):
    """Writes the libraries' log records in the form of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)
