"""What every scenario runs under; outside of the virtual machine they are skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.support.camera import EmulatedCamera
from tests.vm.support.machine import draw_pictures, must
from tests.vm.support.recorder import Recorder
from tests.vm.support.relay import RelayService, install

_OUT = Path("/out")
_RECORDER = pytest.StashKey[Recorder]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record."""
    config.stash[_RECORDER] = Recorder()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was recorded, and leave it outside of the guest."""
    table = config.stash[_RECORDER].table()
    if table:
        terminalreporter.section("outages as viewers saw them")
        terminalreporter.write_line(table)
        if _OUT.is_dir():
            (_OUT / "outages.md").write_text(table + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def recorder(pytestconfig: pytest.Config) -> Recorder:
    """Where a scenario notes how long an outage lasted."""
    return pytestconfig.stash[_RECORDER]


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """Prepare the guest; skip outside of it."""
    if not (_OUT / "command").exists():
        pytest.skip("runs in the virtual machine: tests/vm/build.sh && tests/vm/vmrun.py")
    must("modprobe", "vhci-hcd")
    install()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the emulated cameras show."""
    folder = tmp_path_factory.mktemp("pictures")
    draw_pictures(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> None:
    """Let scenarios wait as they like: the relay is another process here."""


@pytest.fixture
def camera(pictures: Path) -> Iterator[EmulatedCamera]:
    """A camera, plugged in."""
    with EmulatedCamera(pictures) as plugged_in:
        yield plugged_in


@pytest.fixture
def relay(camera: EmulatedCamera) -> Iterator[RelayService]:
    """The service, streaming from that camera."""
    with RelayService({"front": {"source": camera.usb}}) as service:
        service.until_state("streaming")
        yield service
