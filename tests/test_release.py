"""What a release promises: Python versions, oldest libraries, pages with figures."""

import re
import tomllib
from pathlib import Path

import pytest

import mjrelay
from tests import coverage, matrix

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_oldest_python_is_the_same_everywhere() -> None:
    named = [
        tuple(map(int, version.split(".")))
        for version in re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    ]
    assert min(named) == matrix.OLDEST
    assert PROJECT["requires-python"] == ">={}.{}".format(*matrix.OLDEST)


def test_the_oldest_libraries_are_those_of_the_lower_bounds() -> None:
    text = '[project]\ndependencies = ["a-b>=1.2,<4", "c>=3"]\n'
    assert matrix.lowest(text) == ["a-b==1.2", "c==3"]


def test_every_library_has_a_lower_bound() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert len(matrix.lowest(text)) == len(PROJECT["dependencies"])


def test_a_library_without_a_lower_bound_is_no_dependency() -> None:
    with pytest.raises(AssertionError, match="lower bound"):
        matrix.lowest('[project]\ndependencies = ["a"]\n')


def test_what_came_of_a_run_is_what_pytest_says_last() -> None:
    lines = ["3 passed in 0.1s", "FAILED a", "1 failed, 2 passed in 3.20s", "error: at the exit"]
    assert matrix.closing_line(lines) == "1 failed, 2 passed in 3.20s"
    assert matrix.closing_line(["ERROR: file not found"]) == "no tests ran"


def test_a_wheel_that_cannot_be_installed_is_a_failure_and_no_end(tmp_path: Path) -> None:
    broken = matrix.Run(matrix.Python((3, 11, 0), "/bin/false"))
    assert broken.play(tmp_path / "a.whl", tmp_path).startswith("FAILED: ")


def test_the_lines_that_a_release_changes_are_there() -> None:
    commands = (ROOT / "docs/contributing/releasing.md").read_text("utf-8")
    found = re.findall(r'sed -i "s/(\^.*?[^\\])/.*" (\S+)', commands)
    assert [path for _, path in found] == ["mjrelay/__init__.py", "CHANGELOG.md"]
    files = (Path(mjrelay.__file__), ROOT / "CHANGELOG.md")
    for (pattern, _), file in zip(found, files, strict=True):
        assert len(re.findall(pattern, file.read_text("utf-8"), re.MULTILINE)) == 1, file


@pytest.mark.parametrize(
    ("module", "tests"),
    [
        ("camera/ring.py", ["tests/camera/test_ring.py", "tests/camera/test_ring_sizes.py"]),
        ("camera/frame.py", ["tests/camera"]),
        ("camera/__init__.py", ["tests/camera"]),
        ("cli.py", ["tests"]),
    ],
)
def test_a_modules_own_tests_mirror_its_path(tmp_path: Path, module: str, tests: list[str]) -> None:
    (tmp_path / "tests/camera").mkdir(parents=True)
    for name in ("test_ring.py", "test_ring_sizes.py", "test_rings.py"):
        (tmp_path / "tests/camera" / name).touch()
    assert coverage.own_tests(tmp_path / "mjrelay" / module, tmp_path) == tests


def test_modules_with_enough_coverage_are_counted_and_the_others_named() -> None:
    figures = coverage.page(95.04, [("a.py", 90.0, 95.0), ("c.py", 80.0, 91.0), ("b.py", 7.0, 8.0)])
    assert "All tests: 95.0 %" in figures
    assert "1 of 3 modules" in figures
    assert figures.splitlines()[-2:] == ["| `b.py` | 7 % | 8 % |", "| `c.py` | 80 % | 91 % |"]


def test_coverage_is_written_between_its_marks() -> None:
    text = coverage.PAGE.read_text("utf-8")
    once = coverage.written(text, "new")
    assert "\n\nnew\n\n" in once
    assert coverage.written(once, "new") == once
