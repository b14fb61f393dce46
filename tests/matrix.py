"""Run the tests of an installed wheel: with every Python there is, and with the oldest libraries.

    python -m tests.matrix dist/mjrelay-1.2.3-py3-none-any.whl
    python -m tests.matrix --here dist/mjrelay-1.2.3-py3-none-any.whl

Each run has a fresh virtual environment with the wheel, and a copy of this checkout without its
`mjrelay` folder, so that the tests can import nothing but what is installed. Pythons are found on
PATH and among pyenv's versions. The last run has the oldest libraries that pyproject.toml allows.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = (3, 11)

_DESCRIBE = (
    "import ensurepip, os, sys; print(*sys.version_info[:3], os.path.realpath(sys.executable))"
)
_CLOSING = re.compile(r"\d+ (?:passed|failed|errors?)\b.* in \d")
_LOWER_BOUND = re.compile(r"([\w.-]+)>=([\w.]+)")


@dataclass(frozen=True, order=True)
class Python:
    """An interpreter that can make virtual environments.

    Attributes:
        version: Such as (3, 11, 2).
        path: Where it is, symbolic links resolved.
    """

    version: tuple[int, ...]
    path: str

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.path})"


def installed() -> list[Python]:
    """The Pythons from `OLDEST` on that are installed, the oldest first."""
    return sorted({python for path in _candidates() if (python := described(path))})


def described(path: Path | str) -> Python | None:
    """The Python at a path, unless it does not run, is too old, or lacks `venv`."""
    said = subprocess.run([path, "-c", _DESCRIBE], capture_output=True, text=True, check=False)
    if said.returncode:
        return None
    *version, real = said.stdout.rstrip("\n").split(" ", maxsplit=3)
    python = Python(tuple(map(int, version)), real)
    return python if python.version >= OLDEST else None


def _candidates() -> Iterator[Path]:
    for folder in os.get_exec_path():
        yield from sorted(Path(folder).glob("python3.[0-9]*[0-9]"))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/*/bin/python3"))


def lowest(pyproject: str) -> list[str]:
    """Constraints for pip: the oldest version of each library that a pyproject.toml allows."""
    dependencies = tomllib.loads(pyproject)["project"]["dependencies"]
    bounds = [_LOWER_BOUND.match(dependency) for dependency in dependencies]
    assert all(bounds), "each dependency needs a lower bound"
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


@dataclass(frozen=True)
class Run:
    """One run of the tests.

    Attributes:
        python: With which Python.
        constraints: Which versions of libraries, for pip; none for the newest.
    """

    python: Python
    constraints: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.python}, {', '.join(self.constraints) or 'newest libraries'}"

    def play(self, wheel: Path, checkout: Path) -> str:
        """Install the wheel and test it; what came of it, in a line."""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mjrelay-") as folder:
            try:
                self._install(wheel, Path(folder))
            except subprocess.CalledProcessError as error:
                return f"FAILED: {error}"
            came = _run_tests(Path(folder), checkout)
        return f"{came} (with its installation {time.monotonic() - begun:.0f} s)"

    def _install(self, wheel: Path, environment: Path) -> None:
        subprocess.run([self.python.path, "-m", "venv", environment], check=True)
        file = environment / "constraints.txt"
        file.write_text("\n".join(self.constraints), "utf-8")
        pip = [f"{environment}/bin/pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--constraint", file, f"{wheel}[dev]"], check=True)


def _copy_without_package(folder: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and not name.startswith("mjrelay/") and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def _run_tests(environment: Path, checkout: Path) -> str:
    command = [
        f"{environment}/bin/python",
        "-m",
        "pytest",
        "-q",
        "-n",
        "auto",
        "-p",
        "no:cacheprovider",
    ]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=checkout, env=variables, stdout=subprocess.PIPE, text=True
    ) as tests:
        assert tests.stdout
        for line in tests.stdout:
            lines.append(line.rstrip())
            _say(lines[-1])
    if not any(line.startswith(f"mjrelay: {environment}/") for line in lines):
        return "FAILED: the tests did not import the installed mjrelay"
    return f"{'FAILED: ' if tests.returncode else ''}{closing_line(lines)}"


def closing_line(lines: Sequence[str]) -> str:
    """What pytest says at its end; a library may say something after it."""
    return next((line for line in reversed(lines) if _CLOSING.match(line)), "no tests ran")


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def _chosen(options: argparse.Namespace) -> list[Run]:
    if options.here:
        this = described(sys.executable)
        assert this
        return [Run(this)]
    pythons = installed()
    oldest = Run(pythons[0], lowest((ROOT / "pyproject.toml").read_text("utf-8")))
    return [oldest] if options.lowest else [*map(Run, pythons), oldest]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--here", action="store_true", help="only with the Python that runs this")
    parser.add_argument("--lowest", action="store_true", help="only with the oldest libraries")
    options = parser.parse_args(arguments)

    results = []
    with tempfile.TemporaryDirectory(prefix="mjrelay-") as checkout:
        _copy_without_package(Path(checkout))
        for run in _chosen(options):
            _say("", str(run))
            results.append(f"{run}: {run.play(options.wheel.resolve(), Path(checkout))}")
    _say("", *results)
    if any("FAILED" in result for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
