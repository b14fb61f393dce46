"""The benchmark's arithmetic; and that it sees frames, and sees when they are missing."""

from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.__main__ import PAGE, Bench, python_facts
from tests.bench.measure import Cost, system_calls
from tests.bench.pictures import KINDS, Kind, write_pictures
from tests.bench.programs import COMPILER
from tests.bench.relays import floor, ours
from tests.bench.scenarios import SCENARIOS, Round, Scenario, play_stream, play_throttled

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs cc: apt install gcc libc6-dev")


def costing(*costs: float) -> list[Round]:
    return [{"cpu_us": each, "age_p99_ms": 5.0} for each in costs]


def test_many_rounds_come_to_their_median() -> None:
    assert report.summary(costing(3, 1, 50))["cpu_us"] == 3


def test_what_must_never_happen_is_not_hidden_by_a_median() -> None:
    rounds = [
        {"delivered_percent": 100.0, "corrupt": 0.0, "lost": 0.0},
        {"delivered_percent": 98.0, "corrupt": 2.0, "lost": 0.0},
        {"delivered_percent": 100.0, "corrupt": 1.0, "lost": 0.0},
    ]
    came = report.summary(rounds)
    assert came == {"delivered_percent": 98.0, "corrupt": 3.0, "lost": 0.0}


def test_a_ratio_compares_rounds_played_beside_each_other() -> None:
    # The second round was noisy for both.
    assert report.ratio(costing(12, 60, 11), costing(10, 50, 10), "cpu_us") == 1.2
    beside = {"floor": costing(10, 50, 10), "against": costing(12, 50, 22)}
    came = report.summary(costing(12, 60, 11), beside)
    assert (came["x floor"], came["x against"]) == (1.2, 1.0)
    assert "x go2rtc" not in came


def test_what_costs_while_nobody_watches_is_compared_too() -> None:
    beside = {"floor": [{"core_percent": 0.2}], "go2rtc": [{"core_percent": 0.0}]}
    came = report.summary([{"core_percent": 0.6}], beside)
    assert came["x floor"] == pytest.approx(3)
    assert "x go2rtc" not in came  # it had left the camera


def test_the_spread_is_half_of_what_lies_between_the_extremes() -> None:
    assert report.summary(costing(9, 10, 12))["spread_percent"] == pytest.approx(15)


def test_a_table_shows_what_was_measured_in_line() -> None:
    rows = {"mjrelay": {"cpu_us": 21.55, "corrupt": 0.0}, "floor": {"cpu_us": 9.0}}
    assert report.table(rows) == [
        "|         | CPU µs | corrupt |",
        "|---------|-------:|--------:|",
        "| mjrelay |   21.6 |       0 |",
        "| floor   |    9.0 |         |",
    ]


def streamed(ours: float, floor: float) -> dict[str, dict[str, list[Round]]]:
    return {"100x100k": {"mjrelay": costing(ours), "floor": costing(floor)}}


@pytest.mark.parametrize(("cost", "verdict"), [(12.0, "met"), (12.2, "MISSED")])
def test_a_target_is_met_or_missed(cost: float, verdict: str) -> None:
    row, _age = report.target_table(streamed(cost, 10.0), only_measured=True)[2:]
    assert row.split("|")[-2].strip() == verdict


def test_a_target_of_which_more_is_better() -> None:
    rounds = {"1x30k": {"mjrelay": [{"delivered_percent": 99.9}]}}
    (row,) = report.target_table(rounds, only_measured=True)[2:]
    assert "≥ 100 %" in row
    assert "MISSED" in row


def test_targets_that_name_a_yardstick_need_it_in_the_same_rounds() -> None:
    relays = {"mjrelay": costing(9, 40, 9), "go2rtc": costing(10, 41, 8)}
    rows = report.target_table({"1x100k": relays}, only_measured=True)[2:]
    assert len(rows) == 1
    assert [cell.strip() for cell in rows[0].split("|")[2:5]] == [
        "≤ 1 x go2rtc",
        "0.9756 x go2rtc",
        "met",
    ]


def test_what_was_not_measured_is_neither() -> None:
    rows = report.target_table({})[2:]
    assert len(rows) == len(report.TARGETS)
    assert all("not measured" in row for row in rows)


def test_figures_are_written_between_their_marks() -> None:
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.written(text, "new\n")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.written(once, "new\n") == once


def test_the_page_has_the_marks() -> None:
    assert "new" in report.written(PAGE.read_text("utf-8"), "new")


def test_scenarios_differ_and_have_pictures() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len({*names}) == len(names)
    assert {scenario.pictures for scenario in SCENARIOS} <= {*KINDS}


def test_a_cost_is_of_a_window_and_has_two_parts() -> None:
    used = Cost(3.0, 2.0, 1.0, 30).since(Cost(1.0, 1.25, 0.75, 10))
    assert used == Cost(2.0, 0.75, 0.25, 20)
    assert used.user_share == 0.75


def test_system_calls_are_counted_once_and_within_the_window() -> None:
    trace = """\
7 9.999999 sendto(5, ""..., 10, 0, NULL, 0) = 10
7 10.000000 sendto(5, ""..., 10, 0, NULL, 0) = 10
8 10.500000 epoll_wait(3,  <unfinished ...>
7 10.600000 sendto(6, ""..., 10, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
8 10.700000 <... epoll_wait resumed>[], 2, 0) = 0
8 10.800000 +++ exited with 0 +++
7 11.000000 recvfrom(4, ""..., 10, 0, NULL, NULL) = 10
7 11.0"""
    assert system_calls(trace, 10.0, 11.0) == {"sendto": 2, "epoll_wait": 1}


def test_pictures_have_about_the_wanted_length_and_differ(tmp_path: Path) -> None:
    written = [path.read_bytes() for path in write_pictures(Kind((320, 240), 9000, 3), tmp_path)]
    assert len({*written}) == 3
    assert all(8000 < len(picture) < 10_000 for picture in written)
    assert all(picture.startswith(b"\xff\xd8\xff\xfe\x00\x27bench 0") for picture in written)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("'--enable-optimizations' '--with-lto=full'", "with PGO, with LTO"),
        ("'--enable-shared'", "without PGO, without LTO"),
        (None, "without PGO, without LTO"),
    ],
)
def test_the_report_says_how_python_was_built(
    monkeypatch: pytest.MonkeyPatch, options: str | None, said: str
) -> None:
    monkeypatch.setattr("sys.base_prefix", "/opt/python")
    monkeypatch.setattr("sysconfig.get_config_var", {"CONFIG_ARGS": options}.get)
    assert python_facts().endswith(f", {said}")
    monkeypatch.setattr("sys.base_prefix", "/usr")
    assert "the system's own" in python_facts()


@pytest.mark.e2e
@needs_compiler
@pytest.mark.timeout(60)
def test_five_clients_get_every_frame_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rounds=1, seconds=1.0)
    scenario = Scenario("5x30k", play_stream, "30k", fps=10, clients=5)
    played = bench.play(scenario, [ours(), floor(bench.programs)])
    for (came,) in played.values():
        assert came["delivered_percent"] == 100
        assert came["corrupt"] == came["lost"] == 0
        assert came["age_p50_ms"] > 0
        assert came["cpu_us"] > 0
    assert "| mjrelay |" in "\n".join(report.scenario_lines(scenario, played))


@pytest.mark.e2e
@needs_compiler
@pytest.mark.timeout(60)
def test_a_throttled_client_is_seen_to_miss_frames(tmp_path: Path) -> None:
    bench = Bench(tmp_path, rounds=1, seconds=1.5)
    scenario = Scenario("throttled", play_throttled, "100k")
    ((came,),) = bench.play(scenario, [floor(bench.programs)]).values()
    assert 10 < came["delivered_percent"] < 60
    assert came["corrupt"] == came["lost"] == 0
