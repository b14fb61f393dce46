#!/usr/bin/env python3
"""Runs one command in the virtual machine that build.sh has made; its output and status are ours.

    tests/vm/vmrun.py [--timeout S] [--out FOLDER] [--] COMMAND ARG…

The guest sees the project at /opt/mjrelay, where its changes stay its own, and a folder to leave
files in at /out.
Without a command it runs the tests marked `vm`. Status 124: it took too long. 126: the guest died.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
BUILD = Path(os.environ.get("MJRELAY_VM_BUILD", HERE / "build"))

TESTS = "python3 -B -m pytest -p no:cacheprovider -m vm tests/vm"
TIMED_OUT, DIED = 124, 126

_QEMU = "qemu-system-x86_64"
# Of the time for the whole run, what the command does not get; 10 s are usual.
_BOOT_AND_FAREWELL = 40.0
_MEMORY_MIB = 1024
_PROCESSORS = 2
_CONSOLE_TAIL = 30
_JOURNAL_TAIL = 60
_KERNEL_OPTIONS = (
    "console=ttyS0 panic=-1 oops=panic loglevel=6 audit=0 apparmor=0 mitigations=off net.ifnames=0 "
    "systemd.unit=command.target systemd.show_status=0 systemd.journald.max_level_console=emerg "
    "systemd.default_timeout_start_sec=600"
)


@dataclass(frozen=True)
class Guest:
    """One start of the virtual machine.

    Args:
        out: A folder which the guest sees as /out.
    """

    out: Path

    def run(self, command: str, *, timeout: float) -> int:
        """Run a command line of bash in the guest, and return its status."""
        for name in ("status", "booted-after", "journal.txt", "console.log"):
            (self.out / name).unlink(missing_ok=True)
        (self.out / "command").write_text(command + "\n", encoding="utf-8")
        seconds = max(1.0, timeout - _BOOT_AND_FAREWELL)
        (self.out / "seconds").write_text(f"{seconds:g}\n", encoding="ascii")
        # Through a pipe: QEMU makes its standard output non-blocking for all who share it.
        with subprocess.Popen(
            self._qemu(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as qemu:
            assert qemu.stdout
            copier = threading.Thread(target=_copy, args=(qemu.stdout,), daemon=True)
            copier.start()
            try:
                qemu.wait(timeout)
            except subprocess.TimeoutExpired:
                return TIMED_OUT
            finally:
                qemu.kill()
                copier.join(5)
        return self._status()

    def tail_of(self, name: str, lines: int) -> str:
        """The end of a file which the guest has left, if it has."""
        try:
            text = (self.out / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return f"({name} was not written)"
        return "\n".join(text.splitlines()[-lines:])

    def _status(self) -> int:
        try:
            return int((self.out / "status").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return DIED

    def _qemu(self) -> list[str]:
        machine = ["-M", "q35", "-m", str(_MEMORY_MIB), "-smp", str(_PROCESSORS)]
        if _can_virtualize():
            # The mask: nested machines announce a register here that QEMU cannot set.
            machine += ["-accel", "kvm", "-cpu", "host,-arch-capabilities"]
        else:
            machine += ["-accel", "tcg,thread=multi", "-cpu", "max"]
        return [
            _QEMU, *machine,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", str(BUILD / "vmlinux"), "-initrd", str(BUILD / "initramfs.gz"),
            "-append", _KERNEL_OPTIONS,
            "-drive", f"file={BUILD}/root.squashfs,if=virtio,format=raw,readonly=on",
            "-virtfs", _share("project", PROJECT) + ",readonly=on",
            "-virtfs", _share("out", self.out),
            "-serial", f"file:{self.out}/console.log", "-serial", "stdio",
            "-device", "virtio-rng-pci",
        ]  # fmt: skip


def _share(tag: str, folder: Path) -> str:
    return f"local,path={folder},mount_tag={tag},security_model=none,multidevs=remap"


def _can_virtualize() -> bool:
    """Whether KVM is of use. Some hosts have a /dev/kvm which cannot run a stock kernel."""
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    return not {"vmx", "svm"}.isdisjoint(flags) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _copy(pipe: IO[bytes]) -> None:
    while data := os.read(pipe.fileno(), 2**16):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run a command in the test machine.")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds (default: 1200)")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="what the guest leaves")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: the tests")
    options = parser.parse_args()
    if not (BUILD / "key").exists():
        _say("There is no guest yet; make it with: tests/vm/build.sh")
        return DIED
    if shutil.which(_QEMU) is None:
        _say(f"{_QEMU} is missing; get it with: apt-get install qemu-system-x86")
        return DIED
    # So that the machine ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TIMED_OUT))
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    command = words[0] if len(words) == 1 else shlex.join(words)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    guest = Guest(out)
    begun = time.monotonic()
    status = guest.run(command or TESTS, timeout=options.timeout)
    if status:
        _say(f"--- console\n{guest.tail_of('console.log', _CONSOLE_TAIL)}")
        _say(f"--- journal\n{guest.tail_of('journal.txt', _JOURNAL_TAIL)}")
    _say(f"vmrun: status {status} after {time.monotonic() - begun:.0f} s; files are in {out}")
    return status


if __name__ == "__main__":
    sys.exit(main())
