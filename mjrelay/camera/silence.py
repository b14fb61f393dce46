"""Silence: how long a camera may send no picture. Pure: the camera has the clock and the timer.

What may make it longer than usual: the first picture of all; a picture that is still growing; and a
rhythm of the camera's own, which is learnt from its pictures.
"""

import math

from mjrelay.errors import SourceStalled

# However long a picture grows and however slow the rhythm: the usual patience times this is the
# longest. (That is 50 s with the defaults; cameras on a weak Wi-Fi were seen to take 12 s.)
_MOST = 10
# So many pauses of a camera's own rhythm may pass without a picture: one may be late or be lost.
_PAUSES = 3


class Silence:
    """How long one camera may be silent, and what its pictures have told of that.

    All times are in seconds of the monotonic clock. A sign of life is the time at which the camera
    last showed that a picture is on its way.

    Args:
        usual: Seconds that any camera may take from one picture to the next.
        first: Seconds that it may take from being opened to its first picture.
        learns: The camera may have a rhythm of its own that is slower than `usual`.

    Attributes:
        came_at: When the latest picture of the present stream came; minus infinity before the
            first. Set it for each picture, after `note_pause` where the pause is notable.
        notable: Pauses of at least so many seconds tell something, and must be told to
            `note_pause`; shorter ones need not be. The one before a first picture always is.
    """

    def __init__(self, *, usual: float, first: float, learns: bool) -> None:
        self.came_at = self._opened_at = -math.inf
        self._usual, self._first = usual, first
        self._slow = usual / _PAUSES  # a rhythm of such pauses needs more than the usual time
        self._most = max(first, _MOST * usual)
        # Until a second picture comes, nothing is known of the rhythm: it has as long as the first.
        self._second = max(usual, first)
        self._rhythm = None if learns else 0.0
        self._comes_twice = False  # each picture may, so that a quick pause tells nothing
        self._pause = self._pause_ended = 0.0
        self.notable = -math.inf if learns else math.inf

    @property
    def allowed(self) -> float:
        """Seconds from one picture to the next."""
        if self._rhythm is None:
            return self._second
        return max(self._usual, min(_PAUSES * self._rhythm, self._most))

    @property
    def has_picture(self) -> bool:
        """Whether the present stream has brought a picture."""
        return self.came_at > -math.inf

    def opened(self, now: float) -> None:
        """Begin with a new stream."""
        self._opened_at, self.came_at = now, -math.inf

    def ends(self, sign_of_life: float) -> float:
        """When the present silence has lasted too long, if nothing more comes."""
        if self.has_picture:
            return self.ends_after(self.came_at, sign_of_life)
        return _ends(self._opened_at, sign_of_life, self._first, _MOST * self._first)

    def ends_after(self, picture_at: float, sign_of_life: float) -> float:
        """When a silence has lasted too long that began with this picture."""
        return _ends(picture_at, sign_of_life, self.allowed, self._most)

    def note_pause(self, now: float) -> None:
        """Learn from the pause between the picture before and one that comes now.

        A single pause may be a hiccup: only two in a row are a rhythm. Of a new camera the first
        two pictures are all there is, so that their pause counts until more have come.
        """
        pause, before = now - self.came_at, self._pause
        follows_another = self.came_at == self._pause_ended
        self._pause, self._pause_ended = pause, now
        if self.notable >= 0:
            if follows_another:
                self._rhythm = max(min(pause, before), self._rhythm or 0.0)
        elif follows_another and (pause < self._slow) == (before < self._slow):
            self._rhythm, self.notable = min(pause, before), self._slow
        elif pause >= self._slow or not self._comes_twice:
            self._rhythm = pause

    def lasted_too_long(self) -> None:
        """Note that the present silence did.

        A slow rhythm is forgotten: the camera did not keep to it. One that has shown a single
        picture gets twice the time for its second: it may be slower than we had thought. One that
        has shown two may send each picture twice, as some do so that browsers show it at once.
        """
        if not self.has_picture:
            return
        if self._rhythm is None:
            self._second = min(2 * self._second, self._most)
        elif self.notable < 0 and self._rhythm < self._slow:
            self._rhythm, self._comes_twice = None, True
        elif self._rhythm >= self.notable:
            self._rhythm, self.notable = None, -math.inf

    def stall(
        self, now: float, sign_of_life: float, *, silent_hint: str | None, stalled_hint: str
    ) -> SourceStalled:
        """What the present silence means, if it has lasted too long now.

        Args:
            now: The time.
            sign_of_life: The camera's latest.
            silent_hint: What to do about a camera that sends nothing from the beginning.
            stalled_hint: What to do about one that has sent pictures and sends no more.
        """
        allowed = self.allowed if self.has_picture else self._first
        if now - sign_of_life < allowed:
            longest = self._most if self.has_picture else _MOST * self._first
            option = "stall_timeout" if self.has_picture else "first_frame_timeout"
            return SourceStalled(
                f"a picture takes longer than {longest:g} s",
                "the way to the camera may be slow, as over a weak Wi-Fi: lower its resolution or "
                f"quality, or raise {option}",
            )
        if sign_of_life > max(self._opened_at, self.came_at):
            return SourceStalled.within_picture(allowed, stalled_hint)
        if not self.has_picture:
            return SourceStalled(
                f"the camera sent no picture for {allowed:g} s after it was opened", silent_hint
            )
        return SourceStalled(f"the camera went silent: no picture for {allowed:g} s", stalled_hint)


def _ends(since: float, sign_of_life: float, patience: float, most: float) -> float:
    return min(max(since, sign_of_life) + patience, since + most)
