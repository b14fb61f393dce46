"""Tally: what a source's bytes had to be forgiven."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tally:
    """What a source's bytes had to be forgiven, counted over its whole life.

    Attributes:
        dropped: Images not passed on, by reason: truncated, corrupt, damaged (so
            marked by the driver), oversized, not_jpeg.
        tolerated: Quirks met and mended, by a few words each.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    tolerated: Counter[str] = field(default_factory=Counter)
