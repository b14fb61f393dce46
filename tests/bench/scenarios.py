"""What is measured, and how one round of each goes."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Memory, cost, family, memory, system_calls
from tests.bench.pictures import KINDS
from tests.bench.programs import Load, Programs, load
from tests.bench.relays import Relay, Started, await_frame, started

Round = dict[str, float]
"""What one round of one relay came to, by the keys of report.COLUMNS."""

STRACE = shutil.which("strace")
"""What counts system calls, if it is there."""

_STRACE_OPTIONS = ["-f", "-qq", "-ttt", "-s", "0", "-e", "trace=all", "-e", "signal=none", "-o"]
_SENDS = ("send", "sendto", "sendmsg", "sendmmsg", "write", "writev")
# Who watches beside the clients that a scenario is about.
_OTHERS = 20
_STORM = 500
# They begin before a throttled client, and end after it.
_OTHERS_LONGER = 4.0
# When memory is as large as it gets: mjrelay keeps the last 5 s.
_GROWN_AFTER = 10.0
# How long it is then watched, in windows: up to 40 s with the usual ones of 5 s.
_GROWTH_WINDOWS = 6
# After the visit of the client that waited for the first frame: mjrelay counts it as a viewer for
# ten seconds more.
_IDLE_SETTLE = 11.0


@dataclass(frozen=True)
class Scenario:
    """One thing to measure.

    Attributes:
        name: What `--only` takes.
        play: One round of it.
        pictures: The kind of the camera's pictures.
        fps: The camera's rate.
        clients: How many watch.
        cameras: How many cameras the relay is told of; the clients are spread over them.
        once: One round says all.
        about: What the report adds to the numbers above.
    """

    name: str
    play: Callable[["Stage"], Round]
    pictures: str
    fps: float = 30.0
    clients: int = 0
    cameras: int = 1
    once: bool = False
    about: str = ""

    def __str__(self) -> str:
        facts = [f"{self.pictures}B frames at {self.fps:g} fps"]
        facts += [f"{self.clients} clients"] if self.clients > 1 else []
        facts += ["1 client"] if self.clients == 1 else []
        facts += [self.about] if self.about else []
        return ", ".join(facts)


@dataclass(frozen=True)
class Stage:
    """Where a round is played.

    Attributes:
        scenario: What is measured.
        relay: Of whom.
        programs: With what.
        camera_port: Where the camera is.
        seconds: How long one window is.
    """

    scenario: Scenario
    relay: Relay
    programs: Programs
    camera_port: int
    seconds: float

    @contextlib.contextmanager
    def serving(self, *prefix: str) -> Iterator[Started]:
        """The relay, each of its cameras being there to be seen."""
        cameras = self.scenario.cameras
        with started(self.relay, self.camera_port, cameras=cameras, prefix=prefix) as relay:
            for target in relay.targets:
                await_frame(target)
            yield relay

    @contextlib.contextmanager
    def watching(
        self, *prefix: str, seconds: float | None = None, storm: int = 0
    ) -> Iterator[tuple[Started, Load]]:
        """The relay, and the scenario's clients, who count for one window unless told."""
        with (
            self.serving(*prefix) as relay,
            load(
                self.programs,
                relay.targets,
                clients=self.scenario.clients,
                seconds=seconds or self.seconds,
                storm=storm,
            ) as clients,
        ):
            yield relay, clients


def play_stream(stage: Stage) -> Round:
    """Clients watch."""
    with stage.watching() as (relay, clients):
        pids = family(relay.pids)
        clients.until("begin")
        before = cost(pids)
        clients.until("end")
        used = cost(pids).since(before)
        held = memory(pids)
        seen = clients.result()
    each = used.cpu / max(seen["frames"], 1) * 1e6
    return (
        _came(seen)
        | _held(held)
        | {
            "cpu_us": each,
            "user_us": each * used.user_share,
            "system_us": each * (1 - used.user_share),
            "core_percent": 100 * used.cpu / seen["seconds"],
            "switches": used.switches / max(seen["frames"], 1),
            "load_percent": 100 * seen["cpu_seconds"] / seen["seconds"],
        }
    )


def play_storm(stage: Stage) -> Round:
    """Many come at once while others watch."""
    with stage.watching(storm=_STORM) as (_, clients):
        clients.until("begin")
        clients.until("end")
        seen = clients.result()
    gap = seen["gap_ms"] / 1000 * stage.scenario.fps
    return _came(seen) | {"gap_frames": gap, "stormed": seen["stormed"]}


def play_throttled(stage: Stage) -> Round:
    """One client reads a third of what comes; others read all."""
    kind = KINDS[stage.scenario.pictures]
    with (
        stage.serving() as relay,
        load(
            stage.programs,
            relay.targets,
            clients=_OTHERS,
            seconds=stage.seconds + _OTHERS_LONGER,
        ) as others,
    ):
        others.until("begin")
        with load(
            stage.programs,
            relay.targets,
            clients=1,
            seconds=stage.seconds,
            throttle=kind.length * stage.scenario.fps / 3,
        ) as slow:
            slow.until("begin")
            slow.until("end")
            came = _came(slow.result())
        others.until("end")
        seen = _came(others.result())
    return came | {
        "others_percent": seen["delivered_percent"],
        "corrupt": came["corrupt"] + seen["corrupt"],
        "lost": came["lost"] + seen["lost"],
    }


def play_idle(stage: Stage) -> Round:
    """Nobody watches."""
    with stage.serving() as relay:
        pids = family(relay.pids)
        time.sleep(_IDLE_SETTLE)
        begun, before = time.monotonic(), cost(pids)
        time.sleep(stage.seconds)
        seconds, used = time.monotonic() - begun, cost(pids).since(before)
        return _held(memory(pids)) | {
            "core_percent": 100 * used.cpu / seconds,
            "switches_per_s": used.switches / seconds,
        }


def play_growth(stage: Stage) -> Round:
    """Watch for long."""
    seconds = _GROWN_AFTER + _GROWTH_WINDOWS * stage.seconds
    with stage.watching(seconds=seconds) as (relay, clients):
        pids = family(relay.pids)
        clients.until("begin")
        time.sleep(_GROWN_AFTER)
        early = memory(pids)
        clients.until("end")
        late = memory(pids)
        seen = clients.result()
    return _came(seen) | _held(late) | {"growth_mb": late.rss - early.rss}


def play_start(stage: Stage) -> Round:
    """From the start of the program to the first frame at a client."""
    begun = time.monotonic()
    with started(stage.relay, stage.camera_port) as relay:
        await_frame(relay.targets[0])
        seconds = time.monotonic() - begun
        used = cost(family(relay.pids))
    return {"start_s": seconds, "start_cpu_s": used.cpu}


def play_calls(stage: Stage) -> Round:
    """Count system calls; nothing here is timed.

    strace writes each with its moment, so that those outside the window can be left out.
    """
    assert STRACE, "strace is needed: sudo apt install strace"
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        strace = (STRACE, *_STRACE_OPTIONS, str(trace))
        if stage.scenario.clients:
            return _calls_with_clients(stage, strace, trace)
        with stage.serving(*strace):
            time.sleep(_IDLE_SETTLE)
            begin = time.time()
            time.sleep(stage.seconds)
            end = time.time()
        calls = system_calls(trace.read_text("ascii"), begin, end)
        return {"calls_per_image": calls.total() / (end - begin) / stage.scenario.fps}


def _calls_with_clients(stage: Stage, strace: Sequence[str], trace: Path) -> Round:
    with stage.watching(*strace) as (_, clients):
        clients.until("begin")
        begin = time.time()
        clients.until("end")
        end = time.time()
        seen = clients.result()
    calls = system_calls(trace.read_text("ascii"), begin, end)
    sends = sum(calls[name] for name in _SENDS)
    return _came(seen) | {
        "calls": calls.total() / seen["frames"],
        "sends": sends / seen["frames"],
        "calls_per_image": (calls.total() - sends) / seen["frames"] * seen["clients"],
    }


def _came(seen: dict[str, float]) -> Round:
    """What every load client reports."""
    same = {key: seen[key] for key in ("age_p50_ms", "age_p99_ms", "age_max_ms", "corrupt", "lost")}
    return {"delivered_percent": 100 * seen["delivered"]} | same


def _held(held: Memory) -> Round:
    return {"pss_mb": held.pss, "rss_mb": held.rss}


def _grid() -> Iterator[Scenario]:
    for clients in (1, 10, 100, 300):
        for pictures in ("30k", "100k"):
            name = f"{clients}x{pictures}"
            yield Scenario(name, play_stream, pictures, clients=clients)
    yield Scenario("1000x30k", play_stream, "30k", fps=10, clients=1000)


SCENARIOS = (
    *_grid(),
    Scenario("idle", play_idle, "100k", about="nobody watches"),
    Scenario("growth-30k", play_growth, "30k", clients=1, once=True),
    Scenario("growth-100k", play_growth, "100k", clients=1, once=True),
    Scenario(
        "throttled",
        play_throttled,
        "100k",
        about=f"one client reads a third of them, {_OTHERS} others all",
    ),
    Scenario(
        "storm",
        play_storm,
        "30k",
        clients=_OTHERS,
        about=f"{_STORM} more come within a second",
    ),
    Scenario(
        "20cameras", play_stream, "30k", clients=20, cameras=20, about="each of its own camera"
    ),
    Scenario("120fps", play_stream, "30k", fps=120, clients=10),
    Scenario("10x4M", play_stream, "4M", fps=5, clients=10),
    Scenario("start", play_start, "30k", about="from the start to the first frame at a client"),
    Scenario("calls", play_calls, "100k", clients=50, once=True, about="under strace"),
    Scenario("calls-idle", play_calls, "100k", once=True, about="nobody watches, under strace"),
)
"""Everything that is measured, in the report's order."""
