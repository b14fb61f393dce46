"""The Debian package: installed, running, upgraded while it streams, and purged."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import relay as checkout
from .support.camera import EmulatedCamera
from .support.machine import PROJECT, SLACK, must, run
from .support.recorder import Recorder
from .support.relay import UNIT, RelayService
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

# The files of this checkout's own service, which would hide the package's.
_OF_THE_CHECKOUT = (
    Path(f"/run/systemd/system/{UNIT}"),
    Path(f"/run/systemd/system/{UNIT}.d"),
    Path("/run/udev/rules.d/60-mjrelay.rules"),
    Path("/etc/mjrelay"),
)


def install(package: Path) -> None:
    """Install a version."""
    must("dpkg", "--force-unsafe-io", "--install", package, within=WITHIN)


def leftovers() -> list[str]:
    """Everything of the computer, but for this checkout, that has our name."""
    places = ("/etc", "/usr", "/var", "/run")
    return must("find", *places, "-xdev", "-name", "*mjrelay*").split()


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
    run("systemctl", "stop", UNIT)
    for path in _OF_THE_CHECKOUT:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    must("systemctl", "daemon-reload")
    before = leftovers()
    try:
        install(PACKAGES[0])
        yield
        must("dpkg", "--purge", "mjrelay", within=WITHIN)
        assert leftovers() == before
        assert run("getent", "passwd", "mjrelay").returncode
        assert run("getent", "group", "mjrelay").returncode
        assert "not-found" in must("systemctl", "show", "-P", "LoadState", UNIT)
    finally:
        run("dpkg", "--purge", "mjrelay", within=WITHIN)
        checkout.install()


def test_every_file_is_where_it_belongs() -> None:
    lines = must("dpkg-deb", "--contents", PACKAGES[0]).splitlines()
    files = {Path(line.split()[5].removeprefix(".")) for line in lines if line.startswith("-")}
    assert {str(path) for path in files if not path.is_relative_to(LIBRARY)} == FILES
    # The guest's dpkg leaves out what nobody reads there.
    assert not [path for path in files if not path.exists() and not path.is_relative_to(DOCUMENTS)]


def test_it_runs_once_it_is_installed_and_at_every_boot() -> None:
    assert must("systemctl", "is-active", UNIT).strip() == "active"
    assert must("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert run("systemctl", "is-enabled", "mjrelay.socket").stdout.strip() == "disabled"
    assert re.fullmatch(r"mjrelay \S+\n", must("mjrelay", "--version"))


def test_systemd_finds_no_fault_with_its_units() -> None:
    found = run("systemd-analyze", "verify", UNIT, "mjrelay.socket")
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
        assert must("ps", "-o", "user=", "-p", str(old)).strip() == "mjrelay"

        with trying(camera.node) as rival:
            limit = max(GAP * SLACK, GAP * time_to_load() / LOADS_IN)
            begun = time.time()
            install(PACKAGES[-1])
            relay.await_answer()
            relay.until_state("streaming")
            all_fresh(viewers, time.time(), 15 * SLACK)
        assert relay.pid not in (0, old)
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
    install(PACKAGES[-1])
    assert must("systemctl", "is-active", UNIT).strip() == "active"
