"""What processes have cost so far, as /proc tells."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of a process: all the time it ran, exact to the nanosecond


@dataclass(frozen=True)
class Cost:
    """What processes have used since they began.

    Attributes:
        cpu: Seconds of CPU time, exact.
        user: Clock ticks counted in the program, in seconds; coarse.
        system: Clock ticks counted in the kernel, in seconds; coarse.
        switches: Context switches.
    """

    cpu: float
    user: float
    system: float
    switches: int

    def since(self, before: "Cost") -> "Cost":
        """What was used after an earlier reading."""
        return Cost(
            self.cpu - before.cpu,
            self.user - before.user,
            self.system - before.system,
            self.switches - before.switches,
        )

    @property
    def user_share(self) -> float:
        """Which part of the CPU time was spent in the program, not in the kernel."""
        ticks = self.user + self.system
        return self.user / ticks if ticks else 0.0


def family(pids: Iterable[int]) -> list[int]:
    """Processes with all their descendants."""
    found = []
    for pid in pids:
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text(encoding="ascii").split()
            found += family(map(int, children))
    return found


def cost(pids: Sequence[int]) -> Cost:
    """What these processes have used so far."""
    stats = [_stat(pid) for pid in pids]
    return Cost(
        cpu=sum(time.clock_gettime(~pid << 3 | _CPU_CLOCK) for pid in pids),
        user=sum(stat[0] for stat in stats) * _TICK,
        system=sum(stat[1] for stat in stats) * _TICK,
        switches=sum(map(_switches, pids)),
    )


@dataclass(frozen=True)
class Memory:
    """What processes hold, in MiB.

    Attributes:
        pss: Shared pages in proportion: the less, the more other processes map the same files.
        rss: Shared pages in full.
    """

    pss: float
    rss: float


def memory(pids: Iterable[int]) -> Memory:
    """What these processes hold now."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text("ascii") for pid in pids]
    return Memory(*(sum(_field(text, key) for text in texts) / 1024 for key in ("Pss", "Rss")))


def system_calls(trace: str, begin: float, end: float) -> Counter[str]:
    """How often each system call was made within a window.

    Args:
        trace: The output of `strace -f -ttt -o`; it may break off within a line.
        begin: The window's begin, in Unix seconds.
        end: Its end.
    """
    calls: Counter[str] = Counter()
    for line in trace.rpartition("\n")[0].splitlines():
        _, moment, what = line.split(maxsplit=2)
        name, bracket, _ = what.partition("(")
        if bracket and name.isidentifier() and begin <= float(moment) < end:
            calls[name] += 1  # "<... resumed>" is the end of one counted before
    return calls


def _stat(pid: int) -> tuple[int, int]:
    """User and system time in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def _switches(pid: int) -> int:
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text("ascii")
        total += _field(text, "voluntary_ctxt_switches")
        total += _field(text, "nonvoluntary_ctxt_switches")
    return total


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(name)
