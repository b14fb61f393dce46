"""Installing and removing the service, on a computer that is a folder."""

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import mjrelay
from mjrelay import cli
from mjrelay.configuration.address import parse_address
from mjrelay.configuration.tables import CameraConfig, Config, load_config
from mjrelay.errors import ConfigError
from mjrelay.installing import service as installing
from mjrelay.installing.service import install, this_program, uninstall
from mjrelay.installing.steps import Computer, InstallError

ROOT = Path(__file__).parents[2]
PROGRAM = Path("/opt/pipx/bin/mjrelay")
SERVICE = "etc/systemd/system/mjrelay.service"
CONFIG = "etc/mjrelay/mjrelay.toml"
PASSWD = "etc/passwd"
PACKAGED = "usr/lib/systemd/system/mjrelay.service"
CARD = '[camera.front]\nsource = "testcard:"\n'


class FakeComputer:
    """A folder for its files, and a record instead of commands, but for a list of users.

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
        paths = {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file()}
        return paths - {PASSWD}

    def _start(self, words: Sequence[str]) -> int:
        command = " ".join(words)
        self.started.append(command)
        if command.startswith(("systemd-sysusers", "userdel")):
            users = "mjrelay:x:997:997::/:/usr/sbin/nologin\n" * (not command.startswith("userdel"))
            self.write(PASSWD, f"root:x:0:0:root:/root:/bin/bash\n{users}")
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
        CONFIG: "systemd/starter.toml",
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


@pytest.mark.parametrize("unit", ["[Service]\n", "ExecStart=a\nExecStart=b\n"])
def test_a_unit_whose_start_cannot_be_told_is_no_unit_to_ship(
    fake: FakeComputer, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    monkeypatch.setattr(installing, "_shipped", lambda _name: unit)
    with pytest.raises(ValueError, match="values to unpack"):
        install(fake.computer, [PROGRAM])
    assert not fake.files()


def test_paths_are_written_as_systemd_reads_them(fake: FakeComputer) -> None:
    fake.write("srv/100%/a b.toml", CARD)
    install(fake.computer, [PROGRAM], Path("/srv/100%/a b.toml"))
    assert f'ExecStart={PROGRAM} run --config "/srv/100%%/a b.toml"\n' in fake.read(SERVICE)
    assert CONFIG not in fake.files()


def test_a_dollar_begins_a_variable_in_arguments_only(fake: FakeComputer) -> None:
    fake.write("srv/$a.toml", CARD)
    install(fake.computer, [Path("/opt/$b/mjrelay")], Path("/srv/$a.toml"))
    assert "ExecStart=/opt/$b/mjrelay run --config /srv/$$a.toml\n" in fake.read(SERVICE)


def test_the_configuration_to_start_with_is_a_test_card() -> None:
    config = load_config(ROOT / "systemd/starter.toml")
    assert config == Config(cameras={"printer": CameraConfig(source=parse_address("testcard:"))})


def test_what_a_link_leads_to_is_left_alone(fake: FakeComputer) -> None:
    null = fake.root / "null"  # as /dev/null, where `apt remove` leads the unit
    null.touch()
    null.chmod(0o666)
    (fake.root / SERVICE).parent.mkdir(parents=True)
    (fake.root / SERVICE).symlink_to(null)
    install(fake.computer, [PROGRAM])
    assert null.stat().st_mode & 0o777 == 0o666
    assert null.read_bytes() == b""
    assert "Type=notify" in fake.read(SERVICE)
    assert not (fake.root / SERVICE).is_symlink()


def test_a_link_to_the_same_text_is_replaced_too(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    (fake.root / SERVICE).rename(fake.root / "elsewhere")
    (fake.root / SERVICE).symlink_to(fake.root / "elsewhere")
    install(fake.computer, [PROGRAM])
    assert not (fake.root / SERVICE).is_symlink()


def test_a_configuration_that_is_a_link_is_kept(fake: FakeComputer) -> None:
    fake.write("srv/cameras.toml", CARD)
    fake.write(CONFIG, "")
    (fake.root / CONFIG).unlink()
    (fake.root / CONFIG).symlink_to(fake.root / "srv/cameras.toml")
    install(fake.computer, [PROGRAM])
    assert "kept       /etc/mjrelay/mjrelay.toml" in fake.said
    uninstall(fake.computer)
    assert (fake.root / CONFIG).is_symlink()


def test_the_service_may_read_what_is_written_whatever_the_umask(fake: FakeComputer) -> None:
    before = os.umask(0o077)
    try:
        install(fake.computer, [PROGRAM])
    finally:
        os.umask(before)
    assert (fake.root / CONFIG).stat().st_mode & 0o777 == 0o644
    assert (fake.root / CONFIG).parent.stat().st_mode & 0o777 == 0o755


def test_a_credential_need_not_be_there(fake: FakeComputer) -> None:
    source = 'source = "http://192.168.1.200:8080/"\nusername = "viewer"\n'
    fake.write(CONFIG, f'[camera.front]\n{source}password_file = "printer.pw"\n')
    install(fake.computer, [PROGRAM])
    assert fake.started[-1] == "systemctl restart mjrelay.service"


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


def test_a_user_made_by_hand_will_do(fake: FakeComputer) -> None:
    fake.failing = "systemd-sysusers"
    again = "`sudo useradd --system --groups video mjrelay`, then run this again"
    with pytest.raises(InstallError, match=again):
        install(fake.computer, [PROGRAM])
    fake.write(PASSWD, "root:x:0:0:root:/root:/bin/bash\nmjrelay:x:998:998::/:/bin/sh\n")
    install(fake.computer, [PROGRAM])
    assert fake.started[-1] == "systemctl restart mjrelay.service"


def test_it_installs_where_udev_is_not(fake: FakeComputer) -> None:
    fake.failing = "udevadm"
    install(fake.computer, [PROGRAM])
    assert fake.started[-1] == "systemctl restart mjrelay.service"


def test_the_debian_package_is_left_alone(fake: FakeComputer) -> None:
    fake.write(PACKAGED, "[Service]\n")
    with pytest.raises(InstallError, match="Debian package"):
        install(fake.computer, [PROGRAM])
    # What `systemctl edit --full` makes.
    fake.write(SERVICE, "[Service]\n")
    with pytest.raises(InstallError, match="apt purge"):
        uninstall(fake.computer)
    assert fake.files() == {PACKAGED, SERVICE}


def test_removing_beside_the_package_leaves_all_that_is_the_packages(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    fake.write(PACKAGED, "[Service]\n")
    fake.started.clear()
    uninstall(fake.computer)
    assert fake.files() == {PACKAGED, CONFIG}
    assert fake.started == [
        "systemctl daemon-reload",
        "udevadm control --reload",
        "systemctl try-restart mjrelay.service",
    ]


def test_there_must_be_a_systemd(tmp_path: Path) -> None:
    computer = Computer(tmp_path, print, len)
    with pytest.raises(InstallError, match=r"does not run systemd.*make that its command"):
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
    drop_ins = {f"{SERVICE}.d/override.conf", "etc/systemd/system/mjrelay.socket.d/port.conf"}
    for drop_in in drop_ins:
        fake.write(drop_in, "[Service]\n")
    uninstall(fake.computer)
    assert fake.files() == {CONFIG, *drop_ins}
    kept = [line.split(",")[0] for line in fake.said if line.startswith("kept")]
    assert kept == [
        "kept       /etc/mjrelay",
        "kept       /etc/systemd/system/mjrelay.service.d",
        "kept       /etc/systemd/system/mjrelay.socket.d",
    ]


@pytest.mark.parametrize("fault", [b"\xff", PermissionError])
def test_removing_keeps_a_configuration_it_cannot_read(
    fake: FakeComputer, monkeypatch: pytest.MonkeyPatch, fault: bytes | type[OSError]
) -> None:
    install(fake.computer, [PROGRAM])
    if isinstance(fault, bytes):
        (fake.root / CONFIG).write_bytes(fault)
    else:
        read = Path.read_bytes

        def refuse(path: Path) -> bytes:
            if path == fake.root / CONFIG:
                raise PermissionError
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", refuse)
    uninstall(fake.computer)
    assert fake.files() == {CONFIG}


def test_removing_twice_does_nothing(fake: FakeComputer) -> None:
    install(fake.computer, [PROGRAM])
    uninstall(fake.computer)
    fake.started.clear()
    fake.said.clear()
    uninstall(fake.computer)
    assert not fake.started
    assert fake.said == ["nothing left to remove"]


@pytest.mark.parametrize("failing", ["systemctl disable", "systemctl daemon-reload", "userdel"])
def test_a_removal_that_fails_says_so_and_can_be_done_again(
    fake: FakeComputer, failing: str
) -> None:
    install(fake.computer, [PROGRAM])
    users = fake.read(PASSWD)
    fake.failing = failing
    with pytest.raises(InstallError, match="that failed: see what"):
        uninstall(fake.computer)
    fake.write(PASSWD, users)  # for userdel, which failed
    fake.failing = "none"
    fake.started.clear()
    uninstall(fake.computer)
    assert not fake.files()
    assert fake.started[-1] == "userdel mjrelay"
    assert "systemctl daemon-reload" in fake.started


def test_a_folder_that_is_a_file_is_named(fake: FakeComputer) -> None:
    fake.write("etc/mjrelay", "")
    with pytest.raises(InstallError, match=r"etc/mjrelay: File exists; mend that and run it again"):
        install(fake.computer, [PROGRAM])
    assert not fake.started


def test_a_file_that_is_a_folder_is_named(fake: FakeComputer) -> None:
    (fake.root / SERVICE).mkdir(parents=True)
    with pytest.raises(InstallError, match=r"system/mjrelay\.service: Is a directory; mend that"):
        install(fake.computer, [PROGRAM])


def test_a_full_disk_is_named_and_leaves_the_file_that_was(fake: FakeComputer) -> None:
    fake.write(SERVICE, "[Service]\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # what is shorter still fits
    try:
        with pytest.raises(InstallError, match=r"/mjrelay.*: File too large; mend that"):
            install(fake.computer, [PROGRAM])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fake.read(SERVICE) == "[Service]\n"


def test_a_dry_removal_tells_the_same_and_removes_nothing(tmp_path: Path) -> None:
    real = FakeComputer(tmp_path)
    install(real.computer, [PROGRAM])
    real.said.clear()
    dry = FakeComputer(tmp_path, dry_run=True)
    before = dry.files()
    uninstall(dry.computer)
    assert dry.files() == before
    assert not dry.started
    assert "remove     /etc/systemd/system/mjrelay.service" in dry.said
    uninstall(real.computer)
    assert dry.said == real.said


def test_a_program_is_named_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mjrelay"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert this_program()[0] == program
    assert {Path(sys.prefix), Path(mjrelay.__file__).parent} <= {*this_program()}


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
