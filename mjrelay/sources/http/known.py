"""KnownPicture: the latest picture of a polled camera, which it need not send again."""

import re

_USABLE_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')
# After so many answers that nothing has changed, the picture is asked for all the same, to see
# whether that is true; each time it is, the next so many are twice as many, up to the second.
_TESTED_AFTER, _SELDOM = 5, 320


class KnownPicture:
    """The picture that we have, and its entity tag (ETag), by which a camera knows that we have it.

    Some cameras give the same tag to every picture: of a file's name, or of its size. Sent back,
    such a tag would freeze the picture for ever. So a tag that stays while the picture changes is
    not used any more; and now and then the picture is asked for without it, to see.

    Attributes:
        image: The picture; empty before the first.
    """

    def __init__(self) -> None:
        self.image = b""
        self._tag = ""
        self._lies = False
        self._unchanged = 0
        self._tested_after = _TESTED_AFTER

    @property
    def tag(self) -> str:
        """The tag to send along with the next request; empty for none."""
        return "" if self._lies or self._unchanged >= self._tested_after else self._tag

    def came(self, image: bytes, tag: str) -> None:
        """Take a picture that came, and the tag it came with; empty for none."""
        if tag and tag == self._tag:
            if image != self.image:
                self._lies = True
            elif self._unchanged >= self._tested_after:
                self._tested_after = min(2 * self._tested_after, _SELDOM)
        self.image, self._unchanged = image, 0
        self._tag = tag if _USABLE_TAG.fullmatch(tag) else ""

    def has_not_changed(self) -> None:
        """Take note that the camera still has this picture, as it says."""
        self._unchanged += 1
