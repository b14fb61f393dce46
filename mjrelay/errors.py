"""The errors everyone may raise and catch; and the tally of what was no error.

MjrelayError
├── ConfigError            a configuration or command line cannot be used
├── ListenError            an address cannot be listened on
├── FramingError           bytes cannot be what they claim to be
├── RemedyFailed           a device could not be reset
└── SourceError            a source failed; the camera recovers
    ├── SourceUnreachable  the dial cost the camera nothing: try again at once
    ├── SourceRefused      it answered, and the answer is no picture stream
    ├── SourceBusy         another program has it
    ├── SourceStalled      it is open but silent
    ├── SourceBroken       the device itself fails: a reset may cure it
    └── SourceLost         it was open and broke off
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

# What to do about faults that show in more than one place.
SLOT_TAKEN = "its only connection may be taken: close other viewers of this camera"
GIVEN_AWAY = "it may have rebooted, or given its only connection to another viewer"
MORE_FILES = "let more files be open, with LimitNOFILE= in the unit or ulimit -n"
LOOK_IN_BROWSER = "open the address in a browser to see what the camera sends"


class MjrelayError(Exception):
    """Root of everything mjrelay raises on purpose."""


class ConfigError(MjrelayError):
    """A configuration cannot be used.

    Args:
        faults: Every fault found, each a whole sentence with its path.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class ListenError(MjrelayError):
    """An address cannot be listened on; the message says why and what to do."""


class FramingError(MjrelayError):
    """Bytes cannot be what they claim to be. The only error the formats raise."""


class _Explained(MjrelayError):
    """An error with a reason, and a hint where we know one.

    Args:
        reason: What happened, in words for the person in front of the picture.
        hint: What that person can do about it.
    """

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class RemedyFailed(_Explained):
    """A device could not be reset; the hint says what is missing.

    Args:
        reason: What happened; so is `hint`, as for every source error.
        is_held: Another process has it, or may have it.
        done: The remedy was applied, and did not help: the camera was disturbed all the same.
    """

    def __init__(
        self,
        reason: str,
        hint: str | None = None,
        *,
        is_held: bool = False,
        done: bool = False,
    ) -> None:
        super().__init__(reason, hint)
        self.is_held = is_held
        self.done = done


class SourceError(_Explained):
    """A source failed; the camera recovers."""

    kind: ClassVar[str] = "failed"
    """A short word for counters and logs, one per class."""

    costs_nothing: ClassVar[bool] = False
    """Whether asking again costs the camera nothing, however often."""


class SourceUnreachable(SourceError):
    """The camera is not there. Asking again costs it nothing."""

    kind = "unreachable"
    costs_nothing = True


class SourceRefused(SourceError):
    """The camera answered, and the answer is not a stream of pictures."""

    kind = "refused"


class SourceStalled(SourceError):
    """The source is open and sends no pictures."""

    kind = "stalled"


class SourceBusy(SourceError):
    """Another program has the camera; it was not disturbed.

    Args:
        reason: As for every source error; so is `hint`.
        taken: Whether another process has it, or may have it. False: we could look into every
            process and none has it, so that a reset disturbs nobody and may help.
    """

    kind = "busy"
    costs_nothing = True

    def __init__(self, reason: str, hint: str | None = None, *, taken: bool = True) -> None:
        super().__init__(reason, hint)
        self.taken = taken


class SourceBroken(SourceError):
    """The device answers with errors which a reset may cure."""

    kind = "broken"


class SourceLost(SourceError):
    """The source was open and broke off."""

    kind = "lost"


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
