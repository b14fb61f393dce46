"""Timing: how long a video device is given for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Durations in seconds.

    Attributes:
        open_timeout: After this time of opening we say that the camera does not answer; the thread
            goes on. One that answers nothing costs the kernel 5 s for each request (measured), and
            opening makes several.
        close_timeout: Closing is quick unless the camera is mute. After this time it goes on
            without us.
        reset_timeout: A reset takes 0.4 s usually, and 95 s where the camera never answers again
            (both measured).
        back_within: How long a camera is waited for after a reset. Usually it is back when the
            reset returns; udev makes its links a moment later, on a busy computer seconds later.
        suspended_after: How long a camera is left alone to begin anew. The kernel suspends one that
            nobody has had open for two seconds, and wakes it at the next opening.
        rights_timeout: How long the node of a device that has just appeared may be forbidden to us.
            udev hands it to group video, after seconds on a computer that is busy with starting.
        look_every: How often we look whether a device is back, or may be opened.
        search_every: How often the processes that hold a camera are searched for anew: that means
            reading all of /proc.
        unwatched_every: How often a picture is encoded while nobody watches: to see that the camera
            lives, and to have one for a snapshot.
        kernel_said_within: How old a message of the kernel may be to explain a failure.
    """

    open_timeout: float = 15.0
    close_timeout: float = 1.0
    reset_timeout: float = 10.0
    back_within: float = 6.0
    suspended_after: float = 2.5
    rights_timeout: float = 6.0
    look_every: float = 0.1
    search_every: float = 10.0
    unwatched_every: float = 1.0
    kernel_said_within: float = 10.0


USUAL = Timing()
"""What is right for cameras; tests are in more of a hurry."""
