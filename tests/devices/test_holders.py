"""Holders: who has a device, found among real processes and invented ones."""

import contextlib
import errno
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mjrelay.devices import holders
from mjrelay.devices.holders import Holder, Holders, find_holders, still_holds
from tests.devices.tree import device_number

FULL = device_number("full")
SLEEPER = "import sys, time; print(flush=True); time.sleep(60)"


@contextlib.contextmanager
def process(*command: str, **options: int) -> Iterator[int]:
    """Run a program that says when it is ready."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as child:  # type: ignore[call-overload]
        try:
            child.stdout.readline()
            yield child.pid
        finally:
            child.kill()


def holder_of(pid: int, number: int = FULL) -> Holder | None:
    return next((h for h in find_holders(number).found if h.pid == pid), None)


def test_a_process_with_the_device_open_is_found() -> None:
    with (
        Path("/dev/full").open("rb") as device,
        process(
            sys.executable, "-c", SLEEPER, "http://me:secret@cam/", stdin=device.fileno()
        ) as child,
    ):
        holder = holder_of(child)
        assert holder
        assert holder.command.startswith(sys.executable)
        assert "secret" not in holder.command
        assert str(holder).startswith(Path(sys.executable).name)
    assert holder_of(child) is None


def test_our_own_process_is_found() -> None:
    with Path("/dev/full").open("rb"):
        holder = holder_of(os.getpid())
    assert holder
    assert str(Holders((holder,), hidden=False)) == (
        "held by mjrelay itself (this process): "
        "two cameras of the configuration are this device: remove one"
    )
    assert holder_of(os.getpid()) is None


def test_a_device_outside_of_dev_is_found(tmp_path: Path) -> None:
    """A container may have its camera anywhere."""
    camera = tmp_path / "camera"
    try:
        os.mknod(camera, stat.S_IFCHR | 0o600, FULL)
        device = camera.open("rb")
    except PermissionError:
        pytest.skip("only root may make a device, and not on every file system")
    with device, process(sys.executable, "-c", SLEEPER, stdin=device.fileno()) as child:
        holder = holder_of(child)
        assert holder
        assert still_holds(holder, FULL)
        assert not still_holds(holder, device_number("null"))
    assert not still_holds(holder, FULL)


@pytest.mark.parametrize(("shared", "found"), [("MAP_SHARED", True), ("MAP_PRIVATE", False)])
def test_a_mapping_without_a_descriptor_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str, found: bool
) -> None:
    """A file stands for the device: no device that every computer has can be mapped shared."""
    file = tmp_path / "buffers"
    file.write_bytes(bytes(4096))
    script = (
        "import ctypes, mmap, os, sys, time\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "map = ctypes.CDLL(None).mmap\n"
        "map.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]\n"
        f"map(None, 4096, mmap.PROT_READ, mmap.{shared}, file, 0)\n"
        "os.close(file)\n"
        "print(flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(
        holders, "_is_device", lambda path, _number: path.exists() and path.samefile(file)
    )
    with process(sys.executable, "-c", script, str(file)) as child:
        assert str(file) in Path(f"/proc/{child}/maps").read_text()
        assert bool(holder_of(child)) is found


def test_processes_that_end_meanwhile_do_no_harm() -> None:
    children = [subprocess.Popen(["sleep", "0.05"]) for _ in range(20)]
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        find_holders(FULL)
    for child in children:
        child.wait()


@dataclass
class Proc:
    """A /proc made of files."""

    root: Path

    def add(
        self,
        pid: int,
        command: str = "/usr/bin/ffmpeg -i x",
        *,
        opens: str = "/dev/full",
        maps: str = "",
        cgroup: str = "0::/system.slice/old-cam.service",
        stat: str = "S 1 1 1 0 -1 4194304",
    ) -> Path:
        place = self.root / str(pid)
        (place / "fd").mkdir(parents=True)
        (place / "fd/0").symlink_to(opens)
        (place / "root").symlink_to("/")
        (place / "cmdline").write_text(command.replace(" ", "\0"))
        (place / "comm").write_text("thread) x\n")
        (place / "maps").write_text(maps)
        (place / "cgroup").write_text(cgroup + "\n")
        (place / "stat").write_text(f"{pid} (thread) x) {stat} 0\n")
        return place

    def close(self, pid: int) -> None:
        """Let nobody look into a process."""
        (self.root / str(pid) / "fd/0").unlink()
        (self.root / str(pid) / "fd").rmdir()
        (self.root / str(pid) / "fd").symlink_to("/nonexistent")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    proc = Proc(tmp_path)
    proc.add(1, "/sbin/init", opens="/dev/null", cgroup="0::/init.scope")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026531836]")
    (tmp_path / "self/mounts").write_text("/dev/sda1 / ext4 rw 0 0\n")
    return proc


@pytest.fixture
def barred(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The processes that nobody may look into: root may, so it is pretended."""
    closed: set[int] = set()
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "fd" and int(path.parent.name) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    return closed


def test_the_sentence_tells_who_and_what_to_do(proc: Proc) -> None:
    proc.add(812)
    proc.add(900, "/opt/vlc", cgroup="0::/user.slice/user-0.slice/session-3.scope")
    result = find_holders(FULL, proc.root)
    assert not result.hidden
    assert str(result) == (
        "held by ffmpeg (pid 812, old-cam.service): sudo systemctl stop old-cam.service; "
        "by vlc (pid 900, session-3.scope): sudo kill 900"
    )


@pytest.mark.parametrize(
    ("cgroup", "unit", "advice"),
    [
        (
            "9:name=systemd:/system.slice/a.service\n0::/",
            "a.service",
            "sudo systemctl stop a.service",
        ),
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/cam.service",
            "cam.service",
            "systemctl --user stop cam.service",
        ),
        ("0::/system.slice/user@7.service", "user@7.service", "sudo systemctl stop user@7.service"),
        (
            f"0::/system.slice/docker-{'1f' * 32}.scope",
            f"docker-{'1f' * 32}.scope",
            "docker stop 1f1f1f1f1f1f",
        ),
        (
            f"0::/machine.slice/libpod-{'1f' * 32}.scope/container",
            f"libpod-{'1f' * 32}.scope",
            "podman stop 1f1f1f1f1f1f",
        ),
        (
            "0::/user.slice/user-7.slice/user@7.service/init.scope",
            "init.scope",
            "systemd keeps it for a service: restart or stop that service",
        ),
        ("0::/", None, "sudo kill 812"),
        ("", None, "sudo kill 812"),
    ],
)
def test_units(proc: Proc, cgroup: str, unit: str | None, advice: str) -> None:
    proc.add(812, cgroup=cgroup)
    (holder,) = find_holders(FULL, proc.root).found
    assert (holder.unit, holder.advice) == (unit, advice)


def test_nobody_is_told_to_kill_systemd() -> None:
    advice = Holder(1, "/sbin/init", None).advice
    assert advice == "systemd keeps it for a service: restart or stop that service"


def test_a_child_of_our_own_unit_is_killed_and_not_our_unit_stopped(proc: Proc) -> None:
    proc.add(812)
    (proc.root / "self/cgroup").write_text("0::/system.slice/old-cam.service\n")
    assert str(find_holders(FULL, proc.root)) == "held by ffmpeg (pid 812): sudo kill 812"


@pytest.mark.parametrize(
    ("path", "rights", "count"),
    [
        ("/dev/full", "rw-s", 1),
        ("/dev/full", "r--s", 1),
        ("/dev/full", "rw-p", 0),  # buffers are mapped shared
        ("/dev/full (deleted)", "rw-s", 0),
        ("/usr/dev/full", "rw-s", 0),
        ("/dev/null", "rw-s", 0),
    ],
)
def test_maps(proc: Proc, path: str, rights: str, count: int) -> None:
    line = f"7f1c0000-7f1d0000 {rights} 00000000 00:05 331        {path}\n"
    proc.add(812, opens="/dev/null", maps="55d0-55d1 r--p 0 08:01 12 /usr/bin/x\n" + line)
    assert len(find_holders(FULL, proc.root).found) == count


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device outside of /dev, in a folder of its own."""
    path = tmp_path_factory.mktemp("mounted") / "camera"
    path.symlink_to("/dev/full")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of which it was asked what they are."""
    asked: list[str] = []
    ask = Path.stat

    def note(path: Path, **options: bool) -> os.stat_result:
        asked.append(str(path.readlink()) if path.parent.name == "fd" else str(path))
        return ask(path, **options)

    monkeypatch.setattr(Path, "stat", note)
    return asked


@pytest.mark.parametrize("remote", [True, False])
def test_in_folders_of_other_computers_nothing_is_asked(
    proc: Proc, elsewhere: Path, asked: list[str], remote: bool
) -> None:
    folder = elsewhere.parent if remote else f"{elsewhere.parent}-of-another-name"
    (proc.root / "self/mounts").write_text(f"server:/x {folder} nfs4 rw 0 0\n")
    proc.add(812, opens=str(elsewhere))
    proc.add(813, opens="/dev/null", maps=f"7f1c-7f1d rw-s 0 00:05 331    {elsewhere}\n")
    found = [holder.pid for holder in find_holders(FULL, proc.root).found]
    assert found == ([] if remote else [812, 813])
    assert any(str(elsewhere) in path for path in asked) is not remote


@pytest.mark.parametrize("target", ["pipe:[331]", "socket:[7]", "anon_inode:[eventfd]"])
def test_what_has_no_path_is_not_asked(proc: Proc, asked: list[str], target: str) -> None:
    proc.add(812, opens=target)
    assert find_holders(FULL, proc.root) == Holders((), hidden=False)
    assert target not in asked


MOUNTS = r"""sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/a /mnt/a nfs4 rw 0 0
//server/b /mnt/b cifs rw 0 0
me@server: /mnt/c fuse.sshfs rw 0 0
tmpfs /mnt/d tmpfs rw 0 0
server:/e /mnt/my\040files nfs rw 0 0
"""


@pytest.fixture
def remote_folders(proc: Proc) -> tuple[str, ...]:
    """What is found to be of other computers, of MOUNTS."""
    (proc.root / "self/mounts").write_text(MOUNTS)
    return holders._remote_folders(proc.root)


def test_which_folders_are_of_other_computers(remote_folders: tuple[str, ...]) -> None:
    assert {"/mnt/a/", "/mnt/b/", "/mnt/c/"} <= {*remote_folders}
    assert not {"/", "//", "/sys/", "/mnt/d/"} & {*remote_folders}


def test_a_folder_of_another_computer_may_have_a_space(remote_folders: tuple[str, ...]) -> None:
    assert "/mnt/my files/" in remote_folders


# Whether it still has it


def test_a_process_still_holds_what_it_has_open_or_mapped(proc: Proc) -> None:
    proc.add(812)
    proc.add(813, opens="/dev/null", maps="7f1c-7f1d rw-s 0 00:05 331        /dev/full\n")
    for holder in find_holders(FULL, proc.root).found:
        assert still_holds(holder, FULL, proc.root)
        assert not still_holds(holder, device_number("zero"), proc.root)


def test_a_process_that_has_closed_it_holds_it_no_longer(proc: Proc) -> None:
    place = proc.add(812)
    (holder,) = find_holders(FULL, proc.root).found
    (place / "fd/0").unlink()
    assert not still_holds(holder, FULL, proc.root)


def test_a_process_that_has_ended_holds_nothing(proc: Proc) -> None:
    place = proc.add(812)
    (holder,) = find_holders(FULL, proc.root).found
    place.rename(proc.root / "gone")
    assert not still_holds(holder, FULL, proc.root)


def test_a_process_that_we_may_no_longer_look_into_is_not_believed(
    proc: Proc, barred: set[int]
) -> None:
    proc.add(812)
    (holder,) = find_holders(FULL, proc.root).found
    barred.add(812)
    assert not still_holds(holder, FULL, proc.root)


# What it is called


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/ffmpeg -i x", "ffmpeg"),
        ("python3 cam.py", "python3 cam.py"),
        ("/usr/bin/python3.11 -u /opt/robot/cam.py --fast", "python3.11 cam.py"),
        ("python3", "python3"),
        ("python3 -i", "python3"),
        ("python3 -m http.server", "python3 http.server"),
        ("/usr/local/bin/node /srv/index.js", "node index.js"),
        ("java -jar /srv/cam.jar", "java cam.jar"),
        ("/bin/sh /opt/start.sh", "sh start.sh"),
        ("bash", "bash"),
        ("/usr/bin/pythonista x.py", "pythonista"),
        ("/usr/bin/fish x", "fish"),
    ],
)
def test_an_interpreter_is_shown_with_what_it_runs(command: str, name: str) -> None:
    assert str(Holder(5, command, None)) == f"{name} (pid 5)"
    assert str(Holder(5, command, "a.service")) == f"{name} (pid 5, a.service)"


def test_a_command_line_is_short_and_printable(proc: Proc) -> None:
    proc.add(812, f"/bin/x -u me:secret \x1b[2J {'y' * 500}")
    (holder,) = find_holders(FULL, proc.root).found
    assert len(holder.command) == 200
    assert holder.command.isprintable()
    assert "secret" not in holder.command


def test_a_process_without_a_command_line_has_its_name(proc: Proc) -> None:
    proc.add(812, "")
    (holder,) = find_holders(FULL, proc.root).found
    assert holder.command == "[thread) x]"


@pytest.mark.parametrize(
    ("stat", "hidden"),
    [
        ("S 1 1 1 0 -1 4194304", True),
        ("S 2 0 0 0 -1 2129984", False),  # a thread of the kernel
        ("Z 1 1 1 0 -1 4194304", False),
    ],
)
def test_who_may_hide_a_holder(proc: Proc, barred: set[int], stat: str, hidden: bool) -> None:
    proc.add(812, stat=stat)
    barred.add(812)
    result = find_holders(FULL, proc.root)
    assert result == Holders((), hidden)
    assert ("sudo mjrelay devices" in str(result)) == hidden


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_may_hide_a_holder(
    proc: Proc, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    proc.add(812)
    iterdir = Path.iterdir

    def fail(path: Path) -> Iterator[Path]:
        if path.parent.name == "812":
            raise OSError(code, os.strerror(code), str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    assert find_holders(FULL, proc.root) == Holders((), hidden=True)
    assert not still_holds(Holder(812, "ffmpeg", None), FULL, proc.root)


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """Let us open so many files more, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    files: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                files.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(count):
            os.close(files.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in files:
            os.close(file)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_where_no_more_files_can_be_opened_a_holder_may_be_hidden(proc: Proc, count: int) -> None:
    proc.add(812)
    with files_left(count):
        result = find_holders(FULL, proc.root)
    assert result.found or result.hidden


def test_processes_that_are_not_listed_may_hide_a_holder(proc: Proc) -> None:
    (proc.root / "1").rename(proc.root / "gone")
    assert find_holders(FULL, proc.root).hidden


def test_where_we_cannot_tell_a_holder_may_be_hidden(proc: Proc) -> None:
    (proc.root / "self/ns/pid").unlink()
    assert find_holders(FULL, proc.root).hidden


def test_a_container_may_hide_a_holder(proc: Proc) -> None:
    (proc.root / "self/ns/pid").unlink()
    (proc.root / "self/ns/pid").symlink_to("pid:[4026532001]")
    assert find_holders(FULL, proc.root).hidden


def test_a_process_without_files_is_passed_over(proc: Proc) -> None:
    proc.close(1)
    assert find_holders(FULL, proc.root) == Holders((), hidden=False)
    assert str(Holders((), hidden=False)) == "no process holds it any more"


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("/usr/bin/mjrelay run", "mjrelay"),
        ("/opt/venv/bin/python -m mjrelay run --listen :80", "mjrelay"),
        ("/usr/bin/python3 -I /usr/bin/mjrelay run --config x", "mjrelay"),
        ("/usr/bin/mjrelay probe http://run/", None),
        ("/usr/bin/vi mjrelay.toml", None),
    ],
)
def test_a_relay_is_known_and_can_be_watched(command: str, program: str | None) -> None:
    holder = Holder(812, command, "mjrelay.service")
    watch = "watch it there, or: " if program else ""
    assert holder.is_relay == bool(program)
    assert holder.advice == f"{watch}sudo systemctl stop mjrelay.service"
    if program:
        assert str(holder) == "mjrelay (pid 812, mjrelay.service)"
