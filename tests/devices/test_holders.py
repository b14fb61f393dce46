"""Holders: who has a device, found among real processes and invented ones."""

import contextlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mjrelay.devices.holders import Holder, Search, describe, find_holders
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
    return next((h for h in find_holders(number).holders if h.pid == pid), None)


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
    assert describe(Search((holder,), hidden=False)) == (
        "held by mjrelay itself (this process): restart mjrelay"
    )
    assert holder_of(os.getpid()) is None


def test_a_mapping_without_a_descriptor_is_found() -> None:
    with Path("/dev/zero").open("r+b") as device:
        file = os.dup(device.fileno())
        script = (
            "import ctypes, os, time\n"
            "map = ctypes.CDLL(None).mmap\n"
            "map.argtypes = [ctypes.c_void_p, *[ctypes.c_long] * 5]\n"
            f"map(None, 4096, {mmap.PROT_READ}, {mmap.MAP_PRIVATE}, 0, 0)\n"
            "os.close(0)\n"
            "print(flush=True); time.sleep(60)"
        )
        with process(sys.executable, "-c", script, stdin=file) as child:
            os.close(file)
            assert "/dev/zero" in Path(f"/proc/{child}/maps").read_text()
            assert holder_of(child, device_number("zero"))


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
    search = find_holders(FULL, proc.root)
    assert not search.hidden
    assert describe(search) == (
        "held by ffmpeg (pid 812, old-cam.service): systemctl stop old-cam.service; "
        "by vlc (pid 900, session-3.scope): sudo kill 900"
    )


@pytest.mark.parametrize(
    ("cgroup", "unit", "advice"),
    [
        ("9:name=systemd:/system.slice/a.service\n0::/", "a.service", "systemctl stop a.service"),
        (
            "0::/user.slice/user-7.slice/user@7.service/app.slice/cam.service",
            "cam.service",
            "systemctl --user stop cam.service",
        ),
        ("0::/system.slice/user@7.service", "user@7.service", "systemctl stop user@7.service"),
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
        ("0::/", None, "sudo kill 812"),
        ("", None, "sudo kill 812"),
    ],
)
def test_units(proc: Proc, cgroup: str, unit: str | None, advice: str) -> None:
    proc.add(812, cgroup=cgroup)
    (holder,) = find_holders(FULL, proc.root).holders
    assert (holder.unit, holder.advice) == (unit, advice)


def test_a_child_of_our_own_unit_is_killed_and_not_our_unit_stopped(proc: Proc) -> None:
    proc.add(812)
    (proc.root / "self/cgroup").write_text("0::/system.slice/old-cam.service\n")
    assert describe(find_holders(FULL, proc.root)) == "held by ffmpeg (pid 812): sudo kill 812"


@pytest.mark.parametrize(
    ("path", "count"),
    [("/dev/full", 1), ("/dev/full (deleted)", 0), ("/usr/dev/full", 0), ("/dev/null", 0)],
)
def test_maps(proc: Proc, path: str, count: int) -> None:
    line = f"7f1c0000-7f1d0000 rw-s 00000000 00:05 331        {path}\n"
    proc.add(812, opens="/dev/null", maps="55d0-55d1 r--p 0 08:01 12 /usr/bin/x\n" + line)
    assert len(find_holders(FULL, proc.root).holders) == count


def test_descriptors_outside_of_dev_are_not_touched(proc: Proc) -> None:
    proc.add(812, opens="/mnt/dead-server/../../dev/full")
    assert find_holders(FULL, proc.root).holders == ()


def test_a_command_line_is_short_and_printable(proc: Proc) -> None:
    proc.add(812, f"/bin/x -u me:secret \x1b[2J {'y' * 500}")
    (holder,) = find_holders(FULL, proc.root).holders
    assert len(holder.command) == 200
    assert holder.command.isprintable()
    assert "secret" not in holder.command


def test_a_process_without_a_command_line_has_its_name(proc: Proc) -> None:
    proc.add(812, "")
    (holder,) = find_holders(FULL, proc.root).holders
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
    search = find_holders(FULL, proc.root)
    assert search == Search((), hidden)
    assert ("sudo mjrelay devices" in describe(search)) == hidden


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
    assert find_holders(FULL, proc.root) == Search((), hidden=False)
    assert describe(Search((), hidden=False)) == "no process holds it any more"
