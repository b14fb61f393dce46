"""Steps that change a computer. All are known beforehand, and carried out or only printed."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mjrelay.errors import MjrelayError

Say = Callable[[str], None]
Start = Callable[[Sequence[str]], int]


class InstallError(MjrelayError):
    """The service cannot be installed or removed; the message says why and what to do."""


@dataclass(frozen=True)
class Write:
    """A file to write.

    Attributes:
        only_if_none: Leave a file alone that is there already: a person may have changed it.
    """

    path: Path
    text: str
    only_if_none: bool = False


@dataclass(frozen=True)
class Remove:
    """A file to remove, or a folder if nothing is left in it.

    Attributes:
        only_if: Remove the file only if this is its contents; None for any.
    """

    path: Path
    only_if: str | None = None


@dataclass(frozen=True)
class Run:
    """A command to run.

    Attributes:
        hint: What to do when it fails; empty if its failure does no harm.
    """

    words: tuple[str, ...]
    hint: str = ""


Step = Write | Remove | Run


@dataclass(frozen=True)
class Computer:
    """The computer that steps change.

    Attributes:
        root: The folder that holds its files.
        say: Prints a line for each step.
        start: Runs a command and returns its exit status.
        dry_run: Print the steps, and change nothing.
        gone: The paths that were removed, or would have been without `dry_run`.
    """

    root: Path
    say: Say
    start: Start
    dry_run: bool = False
    gone: set[Path] = field(default_factory=set)

    def at(self, path: Path) -> Path:
        """The path of one of its files, below its root."""
        return self.root / path.relative_to("/")

    def has(self, path: Path) -> bool:
        """Whether there is such a file, folder or link, even a link that leads nowhere."""
        return os.path.lexists(self.at(path))


def this_computer(*, dry_run: bool) -> Computer:
    """The computer we run on.

    Raises:
        InstallError: We have no right to change it.
    """
    if not dry_run and os.geteuid() != 0:
        raise InstallError("only root may do that: put sudo before it; --dry-run needs no rights")
    return Computer(Path("/"), print, _start, dry_run)


def carry_out(steps: Iterable[Step], computer: Computer) -> None:
    """Carry out the steps, one after the other.

    Raises:
        InstallError: A step failed. Those before it have been carried out.
    """
    for step in steps:
        if isinstance(step, Run):
            _run(step, computer)
        else:
            _change(step, computer)


def _change(step: Write | Remove, computer: Computer) -> None:
    try:
        if isinstance(step, Write):
            _write(step, computer)
        else:
            _remove(step, computer)
    except OSError as error:
        place = error.filename2 or error.filename or step.path
        remedy = (
            "put sudo before it"
            if computer.dry_run
            else "mend that and run it again: what is done already does no harm"
        )
        raise InstallError(f"{place}: {error.strerror}; {remedy}") from error


def _write(step: Write, computer: Computer) -> None:
    path = computer.at(step.path)
    if _has_text(path, step.text):
        computer.say(f"unchanged  {step.path}")
    elif step.only_if_none and computer.has(step.path):
        computer.say(f"kept       {step.path}")
    else:
        computer.say(f"write      {step.path}")
        if not computer.dry_run:
            _replace(path, step.text)


def _has_text(path: Path, text: str) -> bool:
    """Whether a file has this text. False for a link, and for a file that cannot be read."""
    try:
        return not path.is_symlink() and path.read_bytes() == text.encode()
    except OSError:
        return False


def _replace(path: Path, text: str) -> None:
    """Write a file in place of what is there. A link is replaced, and its target left alone."""
    # Set the modes, whatever root's umask is: the service's user must be able to read the file.
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, "utf-8")
    new.chmod(0o644)
    new.replace(path)


def _remove(step: Remove, computer: Computer) -> None:
    path = computer.at(step.path)
    if path.is_dir() and not path.is_symlink():
        _remove_folder(step.path, computer)
    elif computer.has(step.path):
        if step.only_if is not None and not _has_text(path, step.only_if):
            return  # the step that removes its folder says that it was kept
        computer.say(f"remove     {step.path}")
        computer.gone.add(path)
        if not computer.dry_run:
            path.unlink()


def _remove_folder(folder: Path, computer: Computer) -> None:
    if {*computer.at(folder).iterdir()} - computer.gone:
        computer.say(f"kept       {folder}, with what you wrote there: sudo rm -r {folder}")
    else:
        computer.say(f"remove     {folder}")
        if not computer.dry_run:
            computer.at(folder).rmdir()


def _run(step: Run, computer: Computer) -> None:
    computer.say(f"run        {shlex.join(step.words)}")
    if not computer.dry_run and computer.start(step.words) and step.hint:
        raise InstallError(f"that failed: {step.hint}")


def _start(words: Sequence[str]) -> int:
    try:
        return subprocess.run(words, check=False).returncode  # noqa: S603 - our own commands
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return 127
