"""The benchmark's own programs: compiled on the spot, and run for as long as they are needed."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COMPILER = shutil.which("cc")
"""The C compiler, if there is one."""

_SOURCES = Path(__file__).parent
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Programs:
    """Where the compiled programs are."""

    camera: str
    floor: str
    load: str


def build(folder: Path) -> Programs:
    """Compile all of them into a folder."""
    assert COMPILER, "a C compiler is needed: sudo apt install gcc libc6-dev"
    built = []
    for name in ("camera", "floor", "load"):
        built.append(str(folder / name))
        source = str(_SOURCES / f"{name}.c")
        subprocess.run([COMPILER, *_FLAGS, "-o", built[-1], source], check=True)
    return Programs(*built)


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, output: int
) -> Iterator[subprocess.Popen[str]]:
    """A program with all it starts, killed at the end if it still runs then."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def camera(programs: Programs, fps: float, pictures: Sequence[Path]) -> Iterator[int]:
    """A camera on loopback; its port."""
    command = [programs.camera, "0", str(fps), *map(str, pictures)]
    with running(command, output=subprocess.PIPE) as process:
        assert process.stdout
        yield int(process.stdout.readline())


class Load:
    """A load client that runs: see load.c.

    Attributes:
        pid: Its process.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def until(self, word: str) -> None:
        """Wait until it says that it begins or ends to count.

        Raises:
            RuntimeError: It gave up.
        """
        if self._line() != word:
            assert self._process.stderr
            raise RuntimeError(self._process.stderr.read().strip())

    def result(self) -> dict[str, float]:
        """What it saw."""
        seen: dict[str, float] = json.loads(self._line())
        return seen

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def load(
    programs: Programs,
    targets: Sequence[str],
    *,
    clients: int,
    seconds: float,
    throttle: float = 0.0,
    storm: int = 0,
) -> Iterator[Load]:
    """Let clients watch.

    Args:
        programs: The compiled programs.
        targets: Where, as PORT/PATH, in turn.
        clients: How many.
        seconds: How long they count.
        throttle: Bytes each reads a second; 0 for all there are.
        storm: How many more come within a second in the middle.
    """
    options = {"clients": clients, "seconds": seconds, "throttle": int(throttle), "storm": storm}
    command = [programs.load, *(f"--{name}={value}" for name, value in options.items()), *targets]
    with running(command, output=subprocess.PIPE) as process:
        yield Load(process)
