"""Capabilities: of a real process that has them as systemd gives them to a service."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import mjrelay
from mjrelay.service import rights

PROGRAM = """\
import subprocess
from pathlib import Path
from mjrelay.service.rights import withhold_capabilities

withhold_capabilities()
print(Path("/proc/self/status").read_text())
subprocess.run(["cat", "/proc/self/status"])
"""
CAPABILITIES = "-all,+dac_read_search,+sys_ptrace"
BITS = f"{1 << 2 | 1 << 19:016x}"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give capabilities"
)
def test_a_program_that_is_started_has_none_of_our_capabilities() -> None:
    shown = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}",
         sys.executable, "-u", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(Path(mjrelay.__file__).parents[1])},
        capture_output=True, text=True, timeout=15, check=True,
    ).stdout  # fmt: skip
    effective = [line.split()[1] for line in shown.splitlines() if line.startswith("CapEff")]
    assert effective == [BITS, "0" * 16]


class Refusing:
    """Stands for the C library of a kernel that does not know the request."""

    def prctl(self, *_arguments: int) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1


def test_that_they_cannot_be_withheld_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_libc", Refusing())
    with capture_logs() as logs:
        rights.withhold_capabilities()
    (told,) = logs
    assert told["event"] == "rights.not_withheld"
    assert "Invalid argument" in told["reason"]
