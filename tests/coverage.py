"""How much of each module runs in the tests: in all of them, and in its own alone.

    python -m tests.coverage --write

A module's own tests mirror its path: those of `mjrelay/camera/ring.py` are
`tests/camera/test_ring.py` and `tests/camera/test_ring_*.py`. A module without such a file is
tested by the whole folder, `tests/camera/`. `--write` puts the figures into CONTRIBUTING.md.

It is also the pytest plugin that lets coverage note, for each line, which test ran it.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN = "<!-- Coverage: `make coverage COVERAGE=--write` writes it. -->"
END = "<!-- End of coverage. -->"

# Below this share, the module is named in CONTRIBUTING.md.
_ENOUGH = 90.0


def pytest_runtest_logstart(nodeid: str) -> None:
    """Tell coverage, in this process and those to be started, which test runs from now on."""
    os.environ["MJRELAY_TEST"] = nodeid
    if running := Coverage.current():
        running.switch_context(nodeid)


def own_tests(module: Path, root: Path = ROOT) -> list[str]:
    """Where a module's own tests are: files, or one folder, relative to the root."""
    relative = module.relative_to(root / "mjrelay")
    folder = root / "tests" / relative.parent
    names = (f"test_{relative.stem}.py", f"test_{relative.stem}_*.py")
    files = sorted(path for name in names for path in folder.glob(name))
    return [str(path.relative_to(root)) for path in files or [folder]]


def covered(coverage: Coverage, module: Path, tests: Sequence[str]) -> float:
    """The percentage of a module's lines and branches that ran in some tests, or on import."""
    contexts = ["^$", *(f"^{re.escape(path)}\\b" for path in tests)]
    return coverage.report([str(module)], file=io.StringIO(), contexts=contexts)


def page(overall: float, modules: Sequence[tuple[str, float, float]]) -> str:
    """The figures in Markdown.

    Args:
        overall: The percentage of everything, by all tests.
        modules: Name, percentage by its own tests, percentage by all tests.
    """
    low = sorted((m for m in modules if m[1] < _ENOUGH), key=lambda module: module[1])
    enough = len(modules) - len(low)
    lines = [
        f"All tests: {overall:.1f} % of lines and branches.",
        f"{enough} of {len(modules)} modules have {_ENOUGH:.0f} % by their own tests; the others:",
        "",
        "| module | by its own tests | by all |",
        "|---|--:|--:|",
        *(f"| `{name}` | {own:.0f} % | {all_:.0f} % |" for name, own, all_ in low),
    ]
    return "\n".join(lines)


def written(text: str, figures: str) -> str:
    """A document with new figures between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, "the page has no mark where figures begin"
    assert end, "the page has no mark where figures end"
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "coverage"
        run = ["-m", "coverage", "run", f"--data-file={data}", "-m", "pytest", "-q"]
        tests = [sys.executable, *run, "-p", "tests.coverage", "-p", "no:cacheprovider"]
        subprocess.run(tests, cwd=ROOT, check=True)
        coverage = Coverage(data_file=data, config_file=ROOT / "pyproject.toml")
        coverage.combine()
        overall = coverage.report(file=io.StringIO())
        modules = [
            (
                str(module.relative_to(ROOT)),
                covered(coverage, module, own_tests(module)),
                covered(coverage, module, ["tests/"]),
            )
            for module in sorted((ROOT / "mjrelay").rglob("*.py"))
        ]

    width = max(len(name) for name, _, _ in modules)
    sys.stdout.write(f"\n{'':<{width}}  own tests  all tests\n")
    for name, own, all_ in modules:
        sys.stdout.write(f"{name:<{width}}  {own:7.1f} %  {all_:7.1f} %\n")
    figures = page(overall, modules)
    sys.stdout.write(f"\n{figures}\n")
    if options.write:
        PAGE.write_text(written(PAGE.read_text("utf-8"), figures), "utf-8")


if __name__ == "__main__":
    main()
