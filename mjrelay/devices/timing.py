"""Timing: how long we wait for a video device, and how often we look."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Durations in seconds.

    Attributes:
        open_timeout: The most for one piece of work in the device's thread, such as opening. After
            it the camera counts as not answering; the thread goes on. If a camera answers nothing,
            the kernel takes 5 s for each request (measured), and opening makes several.
        close_timeout: The most that we wait for closing, which is quick if the camera answers. The
            thread goes on with it.
        reset_timeout: The most that we wait for a reset. It usually takes 0.4 s, and 95 s if the
            camera never answers again (both measured).
        back_within: The most that we wait for a camera after its reset. Usually it is back when the
            reset returns; udev makes its links a moment later, on a busy computer seconds later.
        suspended_after: How long we leave a camera alone so that it begins anew. Once a camera has
            been closed for two seconds, the kernel suspends it, and wakes it at the next opening.
        rights_timeout: For how long after a node has appeared we may be forbidden to open it. udev
            gives it to group video, but only after seconds on a computer that is just starting.
        look_every: Interval at which we look whether a device is back, or may be opened.
        search_every: The shortest interval at which we search for the processes that have a camera
            open: a search reads all of /proc.
        unwatched_every: Interval at which a picture is encoded while nobody watches: to see that
            the camera lives, and to have one for a snapshot.
        kernel_said_within: A message of the kernel that is older does not explain a failure.
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
"""The timing for real cameras; tests use shorter times."""
