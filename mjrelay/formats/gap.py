"""Gap: what the text between two images tells, and what of it is counted."""

from mjrelay.errors import Tally
from mjrelay.formats import multipart
from mjrelay.formats.jpeg import IMAGE_START

TRAILED = "trailer after the image"

_PADDED = "padding after the image"
_PADDING = (b"\0", b"\xff", b"\xd9")
_USUAL_TYPE = multipart.IMAGE_TYPE.encode()
# The line end before a boundary, and the dashes that some cameras declare without.
_LINE_END = len(b"\r\n--")


class Gap:
    """Learns from the text between images: boundaries, promised lengths, parts that are no JPEG.

    Args:
        boundary: The multipart boundary the camera declared, if any.
        tally: Where to count what was dropped and tolerated.

    Attributes:
        boundary: The boundary, as it was seen last or, before that, as it was declared.
        usual_end: What as a rule stands behind an image in its part.
        promised: The length that the head of the present image promises, if any.
        in_part: A boundary stood before the present image: one stands behind it too.
        foreign_type: Content type of the latest part that held no JPEG, such as "video/x-h264".
        is_accounted: The gap is in the tally already: as no JPEG, or as the rest of an image that
            was dropped.
    """

    def __init__(self, boundary: bytes, tally: Tally) -> None:
        self.boundary = boundary
        self.usual_end = b"\r\n" + boundary
        self.promised: int | None = None
        self.in_part = False
        self.foreign_type = ""
        self.is_accounted = False
        self._tally = tally

    def read(self, text: bytes) -> bool:
        """Learn from the text before an image.

        Returns:
            False if no image begins there, but something else that looks like one.
        """
        self.promised = multipart.content_length(text)
        # As a rule it begins with the boundary, which does not come again, and tells of an image.
        boundary = self.boundary
        self.in_part = bool(boundary) and text.startswith(boundary)
        is_usual = self.in_part and _USUAL_TYPE in text and text.count(boundary) == 1
        if not is_usual and not self._read_unusual(text):
            return False
        self.is_accounted = False
        return True

    def _read_unusual(self, text: bytes) -> bool:
        """Learn from a text that is no usual head, as `read` does."""
        if boundary := multipart.wire_boundary(text):
            self.boundary = boundary
            self.usual_end = b"\r\n" + boundary
        self.in_part = bool(self.boundary) and self.boundary in text
        is_foreign = self.in_part and multipart.is_foreign(text)
        types = multipart.content_types(text)
        self._count_foreign(types if is_foreign else types[:-1])
        if text.startswith(_PADDING) and not self.is_accounted:
            self._tally.tolerated[_PADDED] += 1
        return not is_foreign

    def read_without_image(self, text: bytes) -> int:
        """Learn from a text that is too long for a head.

        Returns:
            Where the last part begins in it; 0 if it is all of one part, or of none.
        """
        latest = multipart.latest_boundary(text, self.boundary)
        if latest > _LINE_END:
            self._count_foreign(multipart.content_types(text[:latest]))
            self.is_accounted = False
            return latest
        self._count_foreign(multipart.content_types(text), at_least=1)
        self.is_accounted = True
        return 0

    def begins_foreign_part(self, text: bytes) -> bool:
        """Whether a text is the beginning of a part whose type is none of images."""
        has_boundary = multipart.latest_boundary(text, self.boundary) >= 0
        return has_boundary and bool(multipart.foreign_types(text))

    def read_last(self, text: bytes) -> None:
        """Learn from what is left at the end of the stream."""
        self._note_foreign(multipart.foreign_types(text))

    def count_trailer(self, trailer: bytes | bytearray) -> None:
        """Count what stood behind an image in its part, by how it begins, if anything did."""
        if trailer := trailer.strip(b"\r\n- "):
            is_padding = trailer.startswith(_PADDING) and IMAGE_START not in trailer
            self._tally.tolerated[_PADDED if is_padding else TRAILED] += 1

    def _count_foreign(self, types: list[str], *, at_least: int = 0) -> None:
        """Count parts that were no JPEG, unless that was done."""
        self._note_foreign(types)
        count = max(len(types), at_least)
        if count and not self.is_accounted:
            self._tally.dropped["not_jpeg"] += count

    def _note_foreign(self, types: list[str]) -> None:
        if types:
            self.foreign_type = types[-1]
