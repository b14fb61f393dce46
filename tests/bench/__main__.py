"""Measure what mjrelay costs, beside the least a relay can cost, and beside others.

    python -m tests.bench --only 100x100k --rounds 3 --seconds 4

Relays take turns within each round; the report gives medians over the rounds. It needs a C
compiler, uses loopback only, and stops by itself. The full run takes half an hour.
"""

import argparse
import fnmatch
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.pictures import KINDS, write_pictures
from tests.bench.programs import Programs, build, camera
from tests.bench.relays import Relay, floor, mjrelay_of, ours, peers
from tests.bench.scenarios import SCENARIOS, STRACE, Round, Scenario, Stage, play_calls

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"


class Bench:
    """One run.

    Args:
        folder: Where programs and pictures are put.
        rounds: How many of each scenario.
        seconds: How long one window is.

    Attributes:
        programs: The compiled programs.
    """

    def __init__(self, folder: Path, rounds: int, seconds: float) -> None:
        self.programs: Programs = build(folder)
        self._folder = folder
        self._rounds = rounds
        self._seconds = seconds

    def play(self, scenario: Scenario, relays: Sequence[Relay]) -> dict[str, list[Round]]:
        """All rounds of a scenario; in each, the relays take turns, another one first."""
        played: dict[str, list[Round]] = {relay.name: [] for relay in relays}
        with camera(self.programs, scenario.fps, self._pictures(scenario.pictures)) as port:
            for number in range(1 if scenario.once else self._rounds):
                first = number % len(relays)
                for relay in (*relays[first:], *relays[:first]):
                    stage = Stage(scenario, relay, self.programs, port, self._seconds)
                    played[relay.name].append(scenario.play(stage))
        return played

    def _pictures(self, kind: str) -> list[Path]:
        folder = self._folder / kind
        if not folder.exists():
            folder.mkdir()
            write_pictures(KINDS[kind], folder)
        return sorted(folder.iterdir())


def facts(rounds: int, seconds: float, absent: Sequence[str]) -> dict[str, Any]:
    """What there is to say about a run before it begins."""
    processors = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    ]
    model = processors[0] if processors else platform.machine()
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d}",
        "Computer": f"{len(os.sched_getaffinity(0))} x {model}",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": python_facts(),
        "Load average before": f"{os.getloadavg()[0]:.2f}",
        "Rounds": f"{rounds} of {seconds:g} s",
        "Not installed": ", ".join(absent) or "none",
    }


def python_facts() -> str:
    """Which Python runs mjrelay here, and how it was compiled, which decides what mjrelay costs."""
    version = f"{platform.python_version()}, {platform.python_compiler()}"
    if sys.base_prefix == "/usr":
        return f"{version}, the system's own; it does not record whether with PGO and LTO"
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    pgo = "with" if "--enable-optimizations" in options else "without"
    lto = "with" if "--with-lto" in options else "without"
    return f"{version}, {pgo} PGO, {lto} LTO"


def _chosen(patterns: Sequence[str]) -> list[Scenario]:
    return [
        scenario
        for scenario in SCENARIOS
        if any(fnmatch.fnmatchcase(scenario.name, pattern) for pattern in patterns)
    ]


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as the command line says."""
    names = " ".join(scenario.name for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"NAMEs: {names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--rounds", type=int, default=5, help="of each, the median counts")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a window is")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=["*"], help="or a pattern: 1*")
    parser.add_argument("--against", metavar="FOLDER", type=Path, help="another mjrelay's checkout")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every round")
    parser.add_argument("--write", action="store_true", help=f"into docs/explanation/{PAGE.name}")
    options = parser.parse_args(arguments)
    scenarios = _chosen(options.only)
    if not scenarios:
        parser.error(f"choose of: {names}")
    if options.write and len(scenarios) < len(SCENARIOS):
        parser.error("a page is written of everything: --write goes without --only")
    rounds, seconds = (1, 1.5) if options.quick else (options.rounds, options.seconds)

    others, absent = peers()
    if not STRACE:
        absent.append("strace")
        scenarios = [scenario for scenario in scenarios if scenario.play is not play_calls]
    about = facts(rounds, seconds, absent)
    _say(*(f"{name}: {fact}" for name, fact in about.items()), "")
    played: dict[str, dict[str, list[Round]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rounds, seconds)
        relays = [ours(), floor(bench.programs), *others]
        if options.against:
            relays.insert(1, mjrelay_of(report.AGAINST, options.against.resolve()))
        for scenario in scenarios:
            played[scenario.name] = bench.play(scenario, relays)
            _say(*report.scenario_lines(scenario, played[scenario.name]))
    _say(*report.target_table(played, only_measured=options.only != ["*"]))

    if options.json:
        text = json.dumps({"facts": about, "rounds": played}, indent=1)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(report.written(text, report.page(about, played)), encoding="utf-8")


if __name__ == "__main__":
    main()
