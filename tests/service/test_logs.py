"""What a line of the log looks like, and to whom."""

import contextlib
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
    return written(_PROGRAM.format(journal=journal)).splitlines()


def written(program: str, *, stderr: int = subprocess.PIPE) -> str:
    """What a program writes to standard error, unless that leads elsewhere."""
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(mjrelay.__file__).parents[1])},
        stderr=stderr,
        text=True,
        timeout=15,
        check=True,
    )
    return finished.stderr or ""


_SECRETS = """\
import logging, structlog
from mjrelay.service.logs import set_up_logs
set_up_logs(logging.INFO)
log = structlog.get_logger()
url = "http://viewer:s3cret@10.0.0.5/x"
try:
    raise ValueError(f"cannot parse {url}")
except ValueError:
    log.exception("camera.crashed")
    logging.getLogger("library").exception("met a fault")
log.warning("relay.not_reloaded", faults=[f"got {url}"], more={"deep": (url,)})
"""


def test_the_journal_is_told_how_grave_a_line_is() -> None:
    warning, info = lines(journal=True)
    assert warning.startswith('<4>{"event": "camera.absent"')
    assert info.startswith('<6>{"event": "camera.streaming"')


def test_elsewhere_a_line_is_json_that_begins_with_what_happened() -> None:
    warning, _ = lines(journal=False)
    assert [*json.loads(warning)][:3] == ["event", "camera", "level"]


def test_credentials_are_left_out_wherever_they_stand() -> None:
    crashed, library, faults = [json.loads(line) for line in written(_SECRETS).splitlines()]
    assert "cannot parse http://***@10.0.0.5/x" in crashed["exception"]
    assert "cannot parse http://***@10.0.0.5/x" in library["exception"]
    assert faults["faults"] == ["got http://***@10.0.0.5/x"]
    assert faults["more"] == {"deep": ["http://***@10.0.0.5/x"]}


def test_they_are_left_out_on_a_terminal_too() -> None:
    terminal, theirs = os.openpty()
    written(_SECRETS, stderr=theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while True:
            shown += screen.read(4096)
    assert b"Traceback" in shown
    assert shown.count(b"http://***@10.0.0.5/x") == 4
    assert b"s3cret" not in shown
