"""What many rounds come to: medians, ratios, targets, tables."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.scenarios import SCENARIOS, Round, Scenario

Rounds = Mapping[str, Mapping[str, Sequence[Round]]]
"""All rounds, by scenario, then by relay."""

OURS = "mjrelay"
FLOOR = "floor"
GO2RTC = "go2rtc"
AGAINST = "against"
YARDSTICKS = (FLOOR, GO2RTC, AGAINST)
"""The relays that others are compared with, where they are measured."""

BEGIN = "<!-- Figures: `make bench BENCH=--write` writes them. -->"
END = "<!-- End of figures. -->"


@dataclass(frozen=True)
class Column:
    """One figure of a table.

    Attributes:
        heading: Its name, unit included.
        form: How to write the number.
        combine: What many rounds come to.
    """

    heading: str
    form: str = ".1f"
    combine: Callable[[list[float]], float] = statistics.median


COLUMNS = {
    "cpu_us": Column("CPU µs"),
    # Ticks are coarse, so that a median of them says little.
    "user_us": Column("user", combine=statistics.fmean),
    "system_us": Column("system", combine=statistics.fmean),
    "spread_percent": Column("± %", ".0f"),
    "core_percent": Column("% of a core", ".2f"),
    **{f"x {name}": Column(f"x {name}", ".2f") for name in YARDSTICKS},
    "delivered_percent": Column("delivered %", ".2f", min),
    "age_p50_ms": Column("age p50 ms"),
    "age_p99_ms": Column("p99"),
    "age_max_ms": Column("max"),
    "gap_frames": Column("gap, frames", ".2f"),
    "stormed": Column("came in", ".0f", min),
    "others_percent": Column("others %", ".2f", min),
    "pss_mb": Column("PSS MB"),
    "rss_mb": Column("RSS"),
    "growth_mb": Column("growth MB", ".2f"),
    "switches": Column("switches", ".3f"),
    "switches_per_s": Column("switches/s"),
    "start_s": Column("s", ".2f"),
    "start_cpu_s": Column("CPU s", ".3f"),
    "calls": Column("calls", ".2f"),
    "sends": Column("sends", ".3f"),
    "calls_per_image": Column("other calls/frame"),
    "load_percent": Column("load client %", ".0f"),
    "corrupt": Column("corrupt", ".0f", sum),
    "lost": Column("lost", ".0f", sum),
}
"""Every figure, in the order of the tables. Those in µs, and switches, calls and sends, are per
client-frame."""


# What a relay's CPU time is told by, in the scenarios that measure it.
_COSTS = ("cpu_us", "core_percent")


def summary(rounds: Sequence[Round], beside: Mapping[str, Sequence[Round]] | None = None) -> Round:
    """What many rounds of one relay in one scenario come to.

    Args:
        rounds: They.
        beside: Those of all relays in that scenario, by name; rounds of the same place were played
            beside each other.
    """
    came = {
        key: column.combine([each[key] for each in rounds])
        for key, column in COLUMNS.items()
        if rounds and key in rounds[0]
    }
    if "cpu_us" in came:
        costs = [each["cpu_us"] for each in rounds]
        came["spread_percent"] = 50 * (max(costs) - min(costs)) / came["cpu_us"]
    cost = next((key for key in _COSTS if key in came), None)
    for name in YARDSTICKS:
        yardstick = beside.get(name, ()) if beside and cost else ()
        # One that leaves the camera while nobody watches costs nothing, which measures nothing.
        if cost and yardstick and all(each[cost] for each in yardstick):
            came[f"x {name}"] = ratio(rounds, yardstick, cost)
    return came


def ratio(rounds: Sequence[Round], yardstick: Sequence[Round], key: str) -> float:
    """How many times the yardstick's: the median over the rounds played beside each other."""
    pairs = zip(rounds, yardstick, strict=True)
    return statistics.median(each[key] / max(its[key], 1e-9) for each, its in pairs)


def table(relays: Mapping[str, Round]) -> list[str]:
    """A Markdown table with a row for each relay, its columns in line."""
    keys = [key for key in COLUMNS if any(key in row for row in relays.values())]
    rows = [["", *(COLUMNS[key].heading for key in keys)]]
    for name, row in relays.items():
        cells = [format(row[key], COLUMNS[key].form) if key in row else "" for key in keys]
        rows.append([name, *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        f"| {row[0]:<{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        + " |"
        for row in rows
    ]
    rule = "|".join([f"|{'-' * (widths[0] + 2)}", *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return [lines[0], rule, *lines[1:]]


# Targets


@dataclass(frozen=True)
class Target:
    """What mjrelay is to reach.

    Attributes:
        what: What is measured.
        limit: What it may be at most, or, if `at_least`, at least.
        unit: Its unit.
        value: It, or None where it was not measured.
        at_least: Whether more is better.
    """

    what: str
    limit: float
    unit: str
    value: Callable[[Rounds], float | None]
    at_least: bool = False

    def row(self, rounds: Rounds) -> tuple[str, str, str, str]:
        """What, limit, value and verdict, in words."""
        value = self.value(rounds)
        sign = "≥" if self.at_least else "≤"
        limit = f"{sign} {self.limit:g} {self.unit}".rstrip()
        if value is None:
            return self.what, limit, "", "not measured"
        is_met = value >= self.limit if self.at_least else value <= self.limit
        measured = f"{value:.4g} {self.unit}".rstrip()
        return self.what, limit, measured, "met" if is_met else "MISSED"


def _of(scenario: str, key: str) -> Callable[[Rounds], float | None]:
    """One of mjrelay's figures."""

    def value(rounds: Rounds) -> float | None:
        ours = rounds.get(scenario, {}).get(OURS)
        return summary(ours).get(key) if ours else None

    return value


def _times(yardstick: str, key: str, *scenarios: str) -> Callable[[Rounds], float | None]:
    """The worst ratio to a yardstick in these scenarios."""

    def value(rounds: Rounds) -> float | None:
        played = [rounds[name] for name in scenarios if name in rounds]
        return max(
            (
                ratio(relays[OURS], relays[yardstick], key)
                for relays in played
                if relays.get(OURS) and relays.get(yardstick)
            ),
            default=None,
        )

    return value


def _delivered(rounds: Rounds) -> float | None:
    """The worst share of frames that fast clients got, in any round."""
    shares = [
        each["others_percent"] if "others_percent" in each else each["delivered_percent"]
        for relays in rounds.values()
        for each in relays.get(OURS, [])
        if "delivered_percent" in each
    ]
    return min(shares, default=None)


def _spoiled(rounds: Rounds) -> float | None:
    """How many frames were not whole, and connections lost."""
    spoiled = [
        each["corrupt"] + each["lost"]
        for relays in rounds.values()
        for each in relays.get(OURS, [])
        if "corrupt" in each
    ]
    return sum(spoiled) if spoiled else None


def _per_client(rounds: Rounds) -> float | None:
    """How many KB each client adds: 300 of them against one."""
    few, many = (_of(f"{clients}x30k", "rss_mb")(rounds) for clients in (1, 300))
    return None if few is None or many is None else (many - few) * 1024 / 299


_CROWDS = ("100x30k", "100x100k", "300x30k", "300x100k", "1000x30k")


def _cpu(what: str, limit: float, yardstick: str, scenario: str) -> Target:
    """A target for CPU time, as a multiple of a yardstick's."""
    key = "core_percent" if scenario == "idle" else "cpu_us"
    return Target(f"CPU, {what}", limit, f"x {yardstick}", _times(yardstick, key, scenario))


TARGETS = (
    _cpu("one client, 720p at 30 fps", 3.5, FLOOR, "1x100k"),
    _cpu("one client, 720p at 30 fps", 1, GO2RTC, "1x100k"),
    _cpu("ten clients, 720p at 30 fps", 0.75, GO2RTC, "10x100k"),
    _cpu("100 clients, 720p at 30 fps", 1.2, FLOOR, "100x100k"),
    _cpu("300 clients, 30 kB at 30 fps", 1.2, FLOOR, "300x30k"),
    _cpu("1000 clients, 30 kB at 10 fps", 1.2, FLOOR, "1000x30k"),
    # Five percent more may be chance.
    _cpu("nobody watches, 720p at 30 fps", 1.05, AGAINST, "idle"),
    Target("CPU, nobody watches, 720p at 30 fps", 0.7, "% of a core", _of("idle", "core_percent")),
    Target("frames that fast clients got, worst round", 100, "%", _delivered, at_least=True),
    Target("frames not whole, connections lost", 0, "", _spoiled),
    Target(
        "age p99, worst with 100 to 1000 clients",
        1.3,
        "x floor",
        _times(FLOOR, "age_p99_ms", *_CROWDS),
    ),
    Target("PSS, one camera of 30 kB frames, one client", 38, "MB", _of("growth-30k", "pss_mb")),
    Target("PSS, one camera of 100 kB frames, one client", 38, "MB", _of("growth-100k", "pss_mb")),
    Target("memory that each client adds", 30, "kB", _per_client),
    Target("CPU from the start to the first frame", 0.35, "s", _of("start", "start_cpu_s")),
    Target("growth of memory, 10 s to 40 s, 30 kB", 0.5, "MB", _of("growth-30k", "growth_mb")),
    Target("growth of memory, 10 s to 40 s, 100 kB", 0.5, "MB", _of("growth-100k", "growth_mb")),
    Target("age of a throttled client's frames, oldest", 400, "ms", _of("throttled", "age_max_ms")),
    Target("longest gap others see in a storm", 2, "frames", _of("storm", "gap_frames")),
)
"""What is to be reached, all by mjrelay."""


def target_table(rounds: Rounds, *, only_measured: bool = False) -> list[str]:
    """A Markdown table of the targets, with what became of each."""
    targets = [t for t in TARGETS if not only_measured or t.value(rounds) is not None]
    rows = [("target", "limit", "measured", ""), *(target.row(rounds) for target in targets)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "| " + " | ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


# Pages


def scenario_lines(scenario: Scenario, rounds: Mapping[str, Sequence[Round]]) -> list[str]:
    """The heading and the table of one scenario."""
    rows = {relay: summary(played, rounds) for relay, played in rounds.items()}
    return [f"**{scenario.name}**: {scenario}", "", *table(rows), ""]


def page(facts: Mapping[str, Any], rounds: Rounds) -> str:
    """All of it, as Markdown."""
    lines = [f"{name}: {fact}  " for name, fact in facts.items()]
    lines += ["", *target_table(rounds), ""]
    for scenario in SCENARIOS:
        if scenario.name in rounds:
            lines += scenario_lines(scenario, rounds[scenario.name])
    return "\n".join(lines).rstrip() + "\n"


def written(text: str, figures: str) -> str:
    """A document with new figures between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, "the page has no mark where figures begin"
    assert end, "the page has no mark where figures end"
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"
