"""Capabilities: of a real process that has them as systemd gives them to a service."""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import mjrelay
from mjrelay.devices import rights
from tests.devices.tree import device_number

PROGRAM = """\
import json, re, subprocess, sys, threading
from pathlib import Path
from mjrelay.devices.holders import find_holders, still_holds
from mjrelay.devices.rights import withhold_capabilities

def of(status):
    return {name: int(bits, 16) for name, bits in re.findall(r"Cap(Eff|Prm|Amb):\\t(\\w+)", status)}

def ours():
    return of(Path("/proc/thread-self/status").read_text())

def can_read(path):
    try:
        return bool(Path(path).read_bytes())
    except PermissionError:
        return False

def look():
    search = find_holders(number)
    found.append({
        "pids": [holder.pid for holder in search.holders],
        "still": [still_holds(holder, number) for holder in search.holders],
        "after": ours(),
    })

number, secret, found = int(sys.argv[1]), sys.argv[2], []
before = can_read(secret)
withhold_capabilities()
look()
thread = threading.Thread(target=look)
thread.start()
thread.join()
program = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
print(json.dumps({
    "before": before, "after": can_read(secret), "ours": ours(), "program": of(program.stdout),
    "found": found,
}))
"""
# To look into other users' processes: CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
LOOKING = 1 << 2 | 1 << 19


def as_a_service(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program as a user who may do nothing but look into other users' processes."""
    capabilities = "-all,+dac_read_search,+sys_ptrace"
    return subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(mjrelay.__file__).parents[1])},
        capture_output=True, text=True, timeout=15, check=True, **options,
    )  # fmt: skip


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give capabilities"
)
def test_capabilities_are_in_force_only_while_holders_are_looked_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    number = device_number("full")
    with Path("/dev/full").open("rb"):
        finished = as_a_service(sys.executable, "-c", PROGRAM, str(number), str(secret))
    said = json.loads(finished.stdout)
    assert said["before"], "else this test shows nothing"
    assert not said["after"]
    at_rest = {"Eff": 0, "Prm": LOOKING, "Amb": 0}
    assert said["ours"] == at_rest
    assert said["program"] == {"Eff": 0, "Prm": 0, "Amb": 0}
    for found in said["found"]:
        assert os.getpid() in found["pids"], "a process of root"
        assert all(found["still"])
        assert found["after"] == at_rest


class Refusing:
    """Stands for the C library where a unit's filter refuses capset."""

    def __init__(self) -> None:
        self.cleared = False

    def prctl(self, *_arguments: int) -> int:
        self.cleared = True
        return 0

    def capget(self, _thread: object, words: "ctypes.Array[ctypes.c_uint32]") -> int:
        words[0] = words[1] = LOOKING
        return 0

    def capset(self, *_arguments: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1


def test_where_they_cannot_be_set_aside_that_is_said_and_programs_get_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    libc = Refusing()
    monkeypatch.setattr(rights, "_libc", libc)
    with capture_logs() as logs:
        rights.withhold_capabilities()
    assert libc.cleared
    (told,) = logs
    assert told["event"] == "rights.not_withheld"
    assert told["reason"] == "capabilities cannot be set aside: Operation not permitted"
    with rights.looking_everywhere():
        pass  # they are in force already
