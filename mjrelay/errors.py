"""The errors of mjrelay, and the tally of faults in what cameras send.

MjrelayError
├── ConfigError            a configuration or command line cannot be used
├── ListenError            an address cannot be listened on
├── FramingError           bytes cannot be what they claim to be
├── RemedyFailed           a device could not be reset
└── SourceError            a source failed; the camera recovers it
    ├── SourceUnreachable  the camera is not there; trying again costs it nothing
    ├── SourceRefused      it answered, and the answer is no stream of pictures
    ├── SourceBusy         another program has the device
    ├── SourceStalled      the source is open but silent
    ├── SourceBroken       the device itself fails: a reset may cure it
    └── SourceLost         the source was open and broke off
        └── SourceEnded    it had given pictures: as a rule it goes on when it is opened again
"""

import errno
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar, TypeGuard

# Hints that more than one module gives.
SLOT_TAKEN = "its only connection may be taken: close other viewers of this camera"
GIVEN_AWAY = "it may have rebooted, or given its only connection to another viewer"
MORE_FILES = "let more files be open, with LimitNOFILE= in the unit or ulimit -n"
LOOK_IN_BROWSER = "open the address in a browser to see what the camera sends"


def is_full(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether an error means that no more files may be open: then `MORE_FILES` is the hint."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


class MjrelayError(Exception):
    """Root of everything mjrelay raises on purpose."""


class ConfigError(MjrelayError):
    """A configuration cannot be used.

    Args:
        faults: Every fault found, each with the path of its option and what is wrong there.
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

    Attributes:
        reason: What happened, in words for the person in front of the picture.
        hint: What that person can do about it; None where we do not know.
    """

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class RemedyFailed(_Explained):
    """A remedy could not be applied, or did not bring the device back.

    Attributes:
        is_held: Another process has the device open, or may have.
        done: The remedy was begun, so that the camera was disturbed although it failed.
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
    """A source failed; the camera recovers it.

    Attributes:
        retry_after: Seconds for which the camera must be left alone, whoever comes to watch; None
            where the usual delay will do.
    """

    kind: ClassVar[str] = "failed"
    """A short word for counters and logs, one per class."""

    costs_nothing: ClassVar[bool] = False
    """Whether another attempt costs the camera nothing, however many there were."""

    def __init__(
        self, reason: str, hint: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(reason, hint)
        self.retry_after = retry_after


class SourceUnreachable(SourceError):
    """The camera is not there. Another attempt costs it nothing."""

    kind = "unreachable"
    costs_nothing = True


class SourceRefused(SourceError):
    """The camera answered, and the answer is not a stream of pictures."""

    kind = "refused"


class SourceStalled(SourceError):
    """The source is open and sends no pictures."""

    kind = "stalled"

    @classmethod
    def within_picture(cls, seconds: float, hint: str) -> "SourceStalled":
        """For so many seconds no more has come of a picture that had begun."""
        return cls(
            f"the camera went silent in the middle of a picture: no more of it for {seconds:g} s",
            hint,
        )


class SourceBusy(SourceError):
    """Another program has the camera; our attempt has not disturbed it.

    Attributes:
        taken: Whether another process has the camera open, or may have. False: we could look into
            every process, and none has it, so that a reset disturbs nobody and may help.
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


class SourceEnded(SourceLost):
    """The source broke off after it had given pictures. Many cameras do that, some all the time."""


@dataclass(frozen=True)
class Tally:
    """Counts the faults in what a camera sent, since mjrelay started.

    Attributes:
        dropped: Images not passed on, by reason: truncated, corrupt, damaged (so
            marked by the driver), oversized, not_jpeg.
        tolerated: Deviations from the standards that were tolerated, by a few words each.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    tolerated: Counter[str] = field(default_factory=Counter)
