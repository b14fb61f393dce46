"""`mjrelay install-service`: the service of a program that pip installed, made and taken away."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.camera import EmulatedCamera
from .support.machine import PROJECT, must, run
from .support.relay import UNIT, RelayService, nothing_installed

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

FOLDER = Path("/opt/programs")
PROGRAM = FOLDER / "bin/mjrelay"
# As pip writes it.
START = f"""\
#!{FOLDER}/bin/python3
import sys
from mjrelay.cli import main
sys.exit(main())
"""
CAMERAS = Path("/srv/my cameras.toml")


@pytest.fixture(scope="module", autouse=True)
def program() -> Iterator[None]:
    """The program in an environment of its own; in the end nothing of the service is left.

    What `pip install --editable` makes, without pip, which the guest has not.
    """
    with nothing_installed():
        try:
            venv = ("-m", "venv", "--without-pip", "--system-site-packages")
            must(sys.executable, *venv, FOLDER)
            (packages,) = FOLDER.glob("lib/python*/site-packages")
            (packages / "mjrelay.pth").write_text(f"{PROJECT}\n", encoding="utf-8")
            PROGRAM.write_text(START, encoding="utf-8")
            PROGRAM.chmod(0o755)
            yield
        finally:
            run(PROGRAM, "uninstall-service")  # where a test has failed
            shutil.rmtree(FOLDER)


def did(command: str, *arguments: str | Path) -> list[str]:
    """Run one of the two commands, and return what it says it did, in order."""
    return [line.split()[0] for line in must(PROGRAM, command, *arguments).splitlines()]


@pytest.fixture
def relay(camera: EmulatedCamera) -> Iterator[RelayService]:
    """Not installed yet, with a configuration where somebody wanted it."""
    cameras = {"front": {"source": camera.usb}}
    with RelayService(cameras, config=CAMERAS, started=False) as service:
        yield service
    CAMERAS.unlink()


def test_the_service_is_made_made_again_and_taken_away(relay: RelayService) -> None:
    assert did("install-service", "--config", CAMERAS).count("write") == 4
    relay.await_answer()
    relay.until_state("streaming")
    assert relay.user == "mjrelay"
    assert must("systemctl", "is-enabled", UNIT).strip() == "enabled"

    before = relay.pid
    again = did("install-service", "--config", CAMERAS)
    assert (again.count("unchanged"), again.count("write")) == (4, 0)
    relay.await_answer()
    relay.until_state("streaming")
    assert relay.pid != before
    assert relay.complaints == []

    assert did("uninstall-service").count("remove") == 4
    assert CAMERAS.exists()


def test_without_a_configuration_it_serves_the_one_we_ship_and_takes_it_away(
    relay: RelayService,
) -> None:
    assert did("install-service").count("write") == 5
    relay.await_answer()
    relay.until_state("streaming", camera="printer")
    # The configuration, its folder, and what was there before.
    assert did("uninstall-service").count("remove") == 6
