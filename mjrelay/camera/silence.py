"""Silence: how long a camera may send no picture. Pure: the camera has the clock and the timer.

What may make it longer than usual: the first picture of all; a picture that is still growing; and a
rhythm of the camera's own, which is learnt from its pictures.
"""

import math

# However long a picture grows and however slow the rhythm: the usual patience times this is the
# longest. (That is 50 s with the defaults; cameras on a weak Wi-Fi were seen to take 12 s.)
_MOST = 10
# So many pauses of a camera's own rhythm may pass without a picture: one may be late or be lost.
_PAUSES = 3


class Silence:
    """How long one camera may be silent, and what its pictures have told of that.

    Args:
        usual: Seconds that any camera may take from one picture to the next.
        first: Seconds that it may take from being opened to its first picture.
        learns: The camera may have a rhythm of its own that is slower than `usual`.

    Attributes:
        notable: Pauses of at least so many seconds between two pictures tell something, and must be
            told to `note_pause`; shorter ones need not be.
    """

    def __init__(self, *, usual: float, first: float, learns: bool) -> None:
        self._usual, self._first = usual, first
        self._most = max(first, _MOST * usual)
        # Until a second picture comes, nothing is known of the rhythm: it has as long as the first.
        self._second = max(usual, first)
        self._rhythm = None if learns else 0.0
        self._pause = self._pause_ended = 0.0
        self.notable = -math.inf if learns else math.inf

    @property
    def allowed(self) -> float:
        """Seconds from one picture to the next."""
        if self._rhythm is None:
            return self._second
        return max(self._usual, min(_PAUSES * self._rhythm, self._most))

    def patience(self, *, has_picture: bool, grows: bool = False) -> float:
        """Seconds without a picture that are too long.

        Args:
            has_picture: They count from a picture on; else from the opening on.
            grows: They are spent with one picture that grows and grows.
        """
        if has_picture:
            return self._most if grows else self.allowed
        return _MOST * self._first if grows else self._first

    def ends(self, *, since: float, has_picture: bool, sign_of_life: float) -> float:
        """When a silence has lasted too long.

        Args:
            since: When the latest picture came, or else when the camera was opened.
            has_picture: It was the picture.
            sign_of_life: When the camera last showed that a picture is on its way.
        """
        soonest = max(since, sign_of_life) + self.patience(has_picture=has_picture)
        return min(soonest, since + self.patience(has_picture=has_picture, grows=True))

    def note_pause(self, began: float, ended: float) -> None:
        """Learn from a pause between two pictures, if it is notable.

        A single pause may be a hiccup: only two in a row are a rhythm. Of a new camera the first
        two pictures are all there is, so that their pause counts until the next has come.
        """
        pause, before = ended - began, self._pause
        is_second = began == self._pause_ended
        self._pause, self._pause_ended = pause, ended
        if self._rhythm is None:
            self._rhythm = pause
        elif is_second:
            is_new = self.notable < 0
            rhythm = min(pause, before)
            self._rhythm = rhythm if is_new else max(rhythm, self._rhythm)
            self.notable = self._usual / _PAUSES

    def lasted_too_long(self) -> None:
        """Note that the camera was silent for too long after a picture.

        A slow rhythm is forgotten: the camera did not keep to it. One that has shown a single
        picture gets twice the time for its second: it may be slower than we had thought.
        """
        if self._rhythm is None:
            self._second = min(2 * self._second, self._most)
        elif self._rhythm >= self.notable:
            self._rhythm, self.notable = None, -math.inf
