"""What a line of the log looks like, and to whom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mjrelay

_PROGRAM = """\
import logging, os, structlog
from mjrelay.service.logs import set_up_logs
status = os.fstat(2)
if {journal}:
    os.environ["JOURNAL_STREAM"] = f"{{status.st_dev}}:{{status.st_ino}}"
set_up_logs(logging.INFO)
log = structlog.get_logger()
log.warning("camera.absent", reason="gone", camera="front")
log.info("camera.streaming")
"""


def lines(*, journal: bool) -> list[str]:
    """What a program logs, whose standard error is the journal or is not."""
    finished = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(journal=journal)],
        env={**os.environ, "PYTHONPATH": str(Path(mjrelay.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    return finished.stderr.splitlines()


def test_the_journal_is_told_how_grave_a_line_is() -> None:
    warning, info = lines(journal=True)
    assert warning.startswith('<4>{"event": "camera.absent"')
    assert info.startswith('<6>{"event": "camera.streaming"')


def test_elsewhere_a_line_is_json_that_begins_with_what_happened() -> None:
    warning, _ = lines(journal=False)
    assert [*json.loads(warning)][:3] == ["event", "camera", "level"]
