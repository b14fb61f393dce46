"""How long each outage lasted for a viewer, as a table for people."""

import statistics
from collections import defaultdict


class Recorder:
    """Collects durations by what they are of."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def note(self, what: str, seconds: float) -> None:
        """Add one."""
        self._seconds[what].append(seconds)

    def table(self) -> str:
        """All of them in Markdown; empty if there are none."""
        if not self._seconds:
            return ""
        rows = [
            f"| {what} | {len(times)} | {statistics.median(times):.2f} | {max(times):.2f} |"
            for what, times in self._seconds.items()
        ]
        head = ["| from … to the next fresh frame at a viewer | times | median s | most s |"]
        return "\n".join([*head, "|---|--:|--:|--:|", *rows])
