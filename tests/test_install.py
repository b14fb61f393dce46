"""Installing and removing the service, on a computer that is a folder."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mjrelay import cli
from mjrelay.errors import ConfigError
from mjrelay.service import install as installing
from mjrelay.service.install import Computer, InstallError, install, this_program, uninstall

ROOT = Path(__file__).parents[1]
PROGRAM = Path("/opt/pipx/bin/mjrelay")
SERVICE = "etc/systemd/system/mjrelay.service"
CONFIG = "etc/mjrelay/mjrelay.toml"
CARD = '[camera.front]\nsource = "testcard:"\n'


class FakeComputer:
    """A folder for its files, and a record instead of commands.

    Attributes:
        computer: What the steps are done to.
        started: The commands that were run.
        said: What its user was told.
        failing: What a command that fails begins with.
    """

    def __init__(self, root: Path, *, dry_run: bool = False) -> None:
        self.root = root
        self.started: list[str] = []
        self.said: list[str] = []
        self.failing = "none"
        self.computer = Computer(root, self.said.append, self._start, dry_run)
        (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)

    def read(self, path: str) -> str:
        return (self.root / path).read_text("utf-8")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def files(self) -> set[str]:
        return {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()}

    def _start(self, words: Sequence[str]) -> int:
        command = " ".join(words)
        self.started.append(command)
        return int(command.startswith(self.failing))


@pytest.fixture
def fake(tmp_path: Path) -> FakeComputer:
    return FakeComputer(tmp_path)


def test_it_writes_the_shipped_files_and_starts_the_service(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    shipped = {
        "etc/sysusers.d/mjrelay.conf": "systemd/mjrelay.sysusers.conf",
        "etc/udev/rules.d/60-mjrelay.rules": "systemd/60-mjrelay.rules",
        "etc/systemd/system/mjrelay.socket": "systemd/mjrelay.socket",
        CONFIG: "mjrelay.toml",
    }
    assert fake.files() == {*shipped, SERVICE}
    for path, original in shipped.items():
        assert fake.read(path) == (ROOT / original).read_text("utf-8")
    assert fake.started == [
        "systemd-sysusers /etc/sysusers.d/mjrelay.conf",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=usb --action=change",
        "systemctl daemon-reload",
        "systemctl enable mjrelay.service",
        "systemctl restart mjrelay.service",
    ]
    assert [line for line in fake.said if line.startswith("run ")] == [
        f"run        {command}" for command in fake.started
    ]


def test_the_service_starts_this_program(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    shipped = (ROOT / "systemd/mjrelay.service").read_text("utf-8")
    assert fake.read(SERVICE) == shipped.replace("=/usr/bin/mjrelay ", f"={PROGRAM} ")
    assert f"ExecStart={PROGRAM} run --config /etc/mjrelay/mjrelay.toml" in fake.read(SERVICE)


def test_paths_are_written_as_systemd_reads_them(fake: FakeComputer) -> None:
    fake.write("srv/100%/a b.toml", CARD)
    install(fake.computer, [PROGRAM], Path("/srv/100%/a b.toml"))
    assert f'ExecStart={PROGRAM} run --config "/srv/100%%/a b.toml"\n' in fake.read(SERVICE)
    assert CONFIG not in fake.files()


def test_doing_it_again_changes_no_file(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    fake.said.clear()
    install(fake.computer, [PROGRAM])
    assert not [line for line in fake.said if line.startswith("write")]
    assert len([line for line in fake.said if line.startswith("unchanged")]) == 5


def test_another_unit_is_replaced_and_a_configuration_is_kept(fake: FakeComputer) -> None:
    fake.write(SERVICE, "[Service]\n")
    fake.write(CONFIG, CARD)
    install(fake.computer, [PROGRAM])
    assert "Type=notify" in fake.read(SERVICE)
    assert fake.read(CONFIG) == CARD
    assert "kept       /etc/mjrelay/mjrelay.toml" in fake.said


def test_a_dry_run_tells_the_same_and_does_nothing(tmp_path: Path) -> None:
    dry = FakeComputer(tmp_path / "dry", dry_run=True)
    real = FakeComputer(tmp_path / "real")
    install(dry.computer, [PROGRAM])
    install(real.computer, [PROGRAM])
    assert dry.said == real.said
    assert not dry.files()
    assert not dry.started


def test_a_faulty_configuration_installs_nothing(fake: FakeComputer) -> None:
    fake.write(CONFIG, CARD + "stall_timeout = true\n")
    with pytest.raises(ConfigError, match="stall_timeout"):
        install(fake.computer, [PROGRAM])
    assert fake.files() == {CONFIG}
    assert not fake.started


@pytest.mark.parametrize("hidden", ["/home/me/.local/bin/mjrelay", "/root/x", "/tmp/v/bin/mjrelay"])
def test_a_program_that_the_service_cannot_see_is_refused(fake: FakeComputer, hidden: str) -> None:
    with pytest.raises(InstallError, match="sudo pipx install --global") as refusal:
        install(fake.computer, [PROGRAM, Path(hidden)])
    assert hidden in str(refusal.value)
    assert not fake.files()


def test_a_link_to_what_the_service_cannot_see_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_HIDDEN", (Path("/root"),))  # tests run in /tmp
    link = tmp_path / "mjrelay"
    link.symlink_to("/root/bin/mjrelay")
    with pytest.raises(InstallError, match="cannot see /root, where /root/bin/mjrelay is"):
        installing._refuse_what_is_hidden([link])


def test_a_configuration_that_the_service_cannot_see_is_refused(fake: FakeComputer) -> None:
    with pytest.raises(InstallError, match=r"sudo cp /home/me/mjrelay\.toml /etc/mjrelay"):
        install(fake.computer, [PROGRAM], Path("/home/me/mjrelay.toml"))


def test_a_command_that_fails_ends_it_with_what_to_look_at(fake: FakeComputer) -> None:
    fake.failing = "systemctl restart"
    with pytest.raises(InstallError, match="journalctl -u mjrelay"):
        install(fake.computer, [PROGRAM])


def test_it_installs_where_udev_is_not(fake: FakeComputer) -> None:
    fake.failing = "udevadm"
    install(fake.computer, [PROGRAM])
    assert fake.started[-1] == "systemctl restart mjrelay.service"


def test_the_debian_package_is_left_alone(fake: FakeComputer) -> None:
    fake.write("usr/lib/systemd/system/mjrelay.service", "[Service]\n")
    with pytest.raises(InstallError, match="Debian package"):
        install(fake.computer, [PROGRAM])
    with pytest.raises(InstallError, match="apt purge"):
        uninstall(fake.computer)


def test_there_must_be_a_systemd(tmp_path: Path) -> None:
    computer = Computer(tmp_path, print, len)
    with pytest.raises(InstallError, match="does not run systemd"):
        install(computer, [PROGRAM])


def test_removing_leaves_nothing(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    fake.started.clear()
    uninstall(fake.computer)
    assert not fake.files()
    assert not (fake.root / "etc/mjrelay").exists()
    assert fake.started[0] == "systemctl disable --now mjrelay.service mjrelay.socket"
    assert "userdel mjrelay" in fake.started


def test_removing_keeps_what_its_user_wrote(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    fake.write(CONFIG, CARD)
    fake.write(f"{SERVICE}.d/override.conf", "[Service]\n")
    uninstall(fake.computer)
    assert fake.files() == {CONFIG, f"{SERVICE}.d/override.conf"}
    kept = [line.split(",")[0] for line in fake.said if line.startswith("kept")]
    assert kept == ["kept       /etc/mjrelay", "kept       /etc/systemd/system/mjrelay.service.d"]


def test_removing_twice_does_no_harm(fake: FakeComputer) -> None:
    fake.failing = ""  # as every command does where there is nothing to stop
    uninstall(fake.computer)
    assert not [line for line in fake.said if line.startswith("remove")]


def test_a_dry_removal_removes_nothing(tmp_path: Path) -> None:
    install(FakeComputer(tmp_path).computer, [PROGRAM])
    dry = FakeComputer(tmp_path, dry_run=True)
    before = dry.files()
    uninstall(dry.computer)
    assert dry.files() == before
    assert not dry.started
    assert "remove     /etc/systemd/system/mjrelay.service" in dry.said


def test_a_program_is_named_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mjrelay"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert this_program()[0] == program
    assert {Path(sys.prefix), ROOT / "mjrelay"} <= {*this_program()}


def test_a_program_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "mjrelay")])
    with pytest.raises(InstallError, match="install mjrelay first"):
        this_program()


@pytest.mark.parametrize("command", ["install-service", "uninstall-service"])
def test_only_root_may(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as exit_:
        cli.main([command])
    assert exit_.value.code == cli.FAILED
    assert capsys.readouterr().err.startswith("only root may do that: put sudo before it")


def test_every_shipped_file_is_in_the_wheel() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for file in (ROOT / "systemd").iterdir():
        assert file.is_dir() or f'"systemd/{file.name}"' in text
