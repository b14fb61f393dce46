"""The Debian package: installed, running, upgraded while it streams, and purged."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.camera import EmulatedCamera
from .support.machine import PROJECT, SLACK, must, run
from .support.recorder import Recorder
from .support.relay import SOCKET, UNIT, RelayService, nothing_installed
from .support.rivals import trying
from .support.viewer import all_fresh

# To unpack and compile its libraries takes most of it, emulated.
pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

# In the order of the names, which is that of the versions.
PACKAGES = sorted((PROJECT / "dist").glob("mjrelay_*_amd64.deb"))
WITHIN = 240.0

# What it has beside its libraries.
FILES = {
    "/etc/mjrelay/mjrelay.toml",
    "/usr/bin/mjrelay",
    "/usr/lib/systemd/system/mjrelay.service",
    "/usr/lib/systemd/system/mjrelay.socket",
    "/usr/lib/sysusers.d/mjrelay.conf",
    "/usr/lib/udev/rules.d/60-mjrelay.rules",
    "/usr/share/doc/mjrelay/changelog.gz",
    "/usr/share/doc/mjrelay/copyright",
    "/usr/share/doc/mjrelay/examples/kernel-messages.conf",
    "/usr/share/doc/mjrelay/examples/mjrelay.toml",
    "/usr/share/lintian/overrides/mjrelay",
}
LIBRARY = Path("/usr/lib/mjrelay")
DOCUMENTS = Path("/usr/share/doc")
# What a viewer who connects again may miss, in seconds, where the program loads in so many. Loading
# is most of the gap, and emulated it takes ten times as long or more.
GAP, LOADS_IN = 1.0, 0.3
# Tenths: what `systemd-analyze security` may count.
EXPOSURE = "20"


def apt_get(*arguments: str | Path) -> None:
    """Install or remove something."""
    quickly = ("-o", "Dpkg::Options::=--force-unsafe-io")
    must("apt-get", "--yes", *quickly, *arguments, within=WITHIN)


def time_to_load() -> float:
    """How long Python takes here and now to load the program."""
    begun = time.monotonic()
    load = f"import sys; sys.path.insert(0, '{LIBRARY}'); import mjrelay.cli, mjrelay.relay"
    must("python3", "-I", "-c", load)
    return time.monotonic() - begun


@pytest.fixture(scope="module", autouse=True)
def first_version() -> Iterator[None]:
    """Install the older package; in the end nothing of it is left."""
    if len(PACKAGES) < 2:
        pytest.fail("two packages are needed: make deb && make deb DEB_VERSION=99")
    with nothing_installed():
        try:
            apt_get("install", PACKAGES[0])
            yield
            apt_get("purge", "mjrelay")
        finally:
            run("dpkg", "--purge", "mjrelay", within=WITHIN)


def test_every_file_is_where_it_belongs() -> None:
    lines = must("dpkg-deb", "--contents", PACKAGES[0]).splitlines()
    files = {Path(line.split()[5].removeprefix(".")) for line in lines if line.startswith("-")}
    assert {str(path) for path in files if not path.is_relative_to(LIBRARY)} == FILES
    # The guest's dpkg leaves out what nobody reads there.
    assert not [path for path in files if not path.exists() and not path.is_relative_to(DOCUMENTS)]
    # Nothing beside them, but what is compiled of them.
    there = {path for path in LIBRARY.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert there == {path for path in files if path.is_relative_to(LIBRARY)}


def test_it_runs_once_it_is_installed_and_at_every_boot() -> None:
    assert must("systemctl", "is-active", UNIT).strip() == "active"
    assert must("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert run("systemctl", "is-enabled", SOCKET).stdout.strip() == "disabled"
    assert re.fullmatch(r"mjrelay \S+\n", must("mjrelay", "--version"))


def test_systemd_finds_no_fault_with_its_units() -> None:
    found = run("systemd-analyze", "verify", UNIT, SOCKET)
    assert found.returncode == 0
    assert "mjrelay" not in found.stdout + found.stderr


def test_it_may_do_little() -> None:
    judged = run("systemd-analyze", "security", f"--threshold={EXPOSURE}", "--no-pager", UNIT)
    assert judged.returncode == 0, judged.stdout


def test_it_streams_as_a_user_of_its_own_and_keeps_the_camera_over_an_upgrade(
    camera: EmulatedCamera, recorder: Recorder
) -> None:
    # With the configuration it was installed with.
    must("systemctl", "stop", UNIT)
    with (
        RelayService({"front": {"source": camera.usb}}) as relay,
        relay.watched(reconnects=True) as viewers,
    ):
        relay.until_state("streaming")
        all_fresh(viewers, time.time(), 15 * SLACK)
        old = relay.pid
        assert relay.user == "mjrelay"

        with trying(camera.node) as rival:
            limit = max(GAP * SLACK, GAP * time_to_load() / LOADS_IN)
            begun = time.time()
            apt_get("install", PACKAGES[-1])
            relay.await_answer()
            relay.until_state("streaming")
            all_fresh(viewers, time.time(), 15 * SLACK)
        assert relay.pid not in (0, old)
        assert [viewer.broken_off for viewer in viewers] == [0, 0]
        assert rival.wins == 0
        assert rival.tries > 100
        gap = max(viewer.largest_gap(begun, 15) for viewer in viewers)
        recorder.note("the package upgraded", gap)
        assert gap < limit
        assert camera.status["plugs"] == 1
        assert not [entry for entry in relay.log if "busy" in str(entry).lower()]
        assert must("dpkg-query", "-W", "-f", "${db:Status-Status}", "mjrelay") == "installed"


def test_it_runs_again_when_it_is_installed_after_it_was_removed() -> None:
    must("dpkg", "--remove", "mjrelay", within=WITHIN)
    assert run("systemctl", "is-active", UNIT).stdout.strip() == "inactive"
    apt_get("install", PACKAGES[-1])
    assert must("systemctl", "is-active", UNIT).strip() == "active"
