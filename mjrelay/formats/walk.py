"""Walk: the way through one image, from marker to marker.

The walk skips segments by their length, so an FFD9 inside a comment or a thumbnail never ends an
image; inside a scan it stops at the first marker that is neither stuffing (FF00) nor a restart
(FFD0-FFD7). Where a marker must stand and there is none, it goes on to the next one, as libjpeg
does, and what lies between is cut out.
"""

import re
from itertools import islice
from typing import NamedTuple

from mjrelay.formats import jpeg
from mjrelay.formats.jpeg import (
    EOI,
    FILL,
    FRAME_HEADERS,
    HUFFMAN_SEQUENTIAL,
    IMAGE_START,
    JFIF_SIZE,
    M_APP0,
    M_DHT,
    M_SOS,
    SOI,
    STANDARD_TABLES,
    WITH_SEGMENT,
)
from mjrelay.formats.thumbnails import (
    LIST_OF_IMAGES,
    lists_images,
    suspicion,
    without_picture,
)

_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NEXT_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xef\xfe]")
# T.81 B.2.3: marker and all, for one component; each further one takes two bytes more.
_SHORTEST_SCAN_HEADER = 10
# The most that a segment's length can leave out.
_MAX_JUNK = 0xFFFF
# A segment that claims too much ends at one of so many markers in it, and from there to the scan it
# is so many segments at most: where more is there, it was made to cost time.
_MAX_GUESSES = 32
_MAX_SEGMENTS = 64

RESYNCHRONISED = "resynchronised"


class Edit(NamedTuple):
    """What to mend: the bytes from `start` to `stop`.

    `replacement` is what to put there; None: what `thumbnails` makes of the segment. It is counted
    under `words`.
    """

    start: int
    stop: int
    replacement: bytes | None
    words: str


class Walk:
    """How far the walk through one image has come, and what it found, as places in a buffer.

    Attributes:
        start: Where the image begins. Once the image is too large, its beginning is thrown away:
            then this lies before what is kept, and may be negative.
        position: Where to go on: at a marker, or inside a scan.
        resume: Where to search for the next image should this one break off: no other image can
            begin before. It never goes back, so that no byte is walked again and again.
        in_scan: `position` is inside a scan.
        in_junk: It is inside bytes that are no marker, where one must stand.
        seen_scan: A scan has begun.
        size: The picture's width and height, once a frame header gave them; without them no decoder
            can show it.
        has_tables: There were Huffman tables.
        sequential: The picture is of a kind that the standard tables decode.
        resynchronised: There were bytes where a marker must stand.
        lost: Why the walk cannot go on; empty while it can.
        edits: What to mend, in order.
    """

    __slots__ = (
        "_junk",
        "_latest",
        "_max_size",
        "edits",
        "has_tables",
        "in_junk",
        "in_scan",
        "lost",
        "position",
        "resume",
        "resynchronised",
        "seen_scan",
        "sequential",
        "size",
        "start",
    )

    def __init__(self, start: int, max_size: int) -> None:
        self.start = start
        self.position = self.resume = start + len(SOI)
        self.in_scan = self.in_junk = self.seen_scan = False
        self.size: tuple[int, int] | None = None
        self.has_tables = self.sequential = False
        self.resynchronised = False
        self.lost = ""
        self.edits: list[Edit] = []
        self._junk = 0  # where the bytes begin that are no marker
        self._latest: int | None = None  # the segment before `position`; None: no segment
        self._max_size = max_size

    def cross_segments(self, data: bytes | bytearray, end: int) -> bool:  # noqa: C901 - the markers
        """Walk on over the segments that are wholly there, at most into the next scan.

        Behind a scan only over one.

        Returns:
            False if it came to a scan that no decoder can show: this is no image. The walk stops
            behind the scan's header, which may lead into the next part.
        """
        is_image, segment, position = True, -1, self.position
        while not self.in_scan and position + 4 <= end and data[position] == FILL:
            marker = data[position + 1]
            stop = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if marker not in WITH_SEGMENT or not position + 4 <= stop <= end:
                break
            if marker == M_DHT:
                self.has_tables = True
            elif marker in FRAME_HEADERS:
                self.sequential = marker in HUFFMAN_SEQUENTIAL
                self.size = jpeg.frame_size(data, position, stop)
            elif marker >= M_APP0:
                is_plain = marker == M_APP0 and stop - position == JFIF_SIZE
                if not is_plain and (words := suspicion(data, position, stop)):
                    self.edit(position, stop, None, words)
            elif marker == M_SOS:
                if not self._begins_scan(data, position, stop):
                    is_image = False
                    position = stop
                    break
                if self.sequential and not self.has_tables:
                    self.edit(position, position, STANDARD_TABLES, "no Huffman tables")
                    self.has_tables = True
                self.in_scan = self.seen_scan = True
            segment, position = position, stop
            if self.seen_scan:  # few follow, and each must be looked at: see `has_passed_image`
                break
        self.position = position
        if segment >= 0:
            self._latest = segment
            if not self.resynchronised:
                # Only what follows tells whether it was whole: an image may begin inside it.
                self.resume = segment + 2
        return is_image

    def cross_scan(self, data: bytes | bytearray, end: int) -> bool:
        """Walk on to the marker that ends the scan. False: it has not arrived."""
        match = _SCAN_END.search(data, self.position, end)
        if match is None:
            # A last FF may be half a marker.
            self.position = max(self.position, end - 1)
            return False
        self.position = self.resume = match.start()
        self.in_scan = False
        return True

    def enter_junk(self) -> None:
        """Note that there is no marker at `position`."""
        self._junk = self.position
        self._latest = None
        self.position += 1
        self.in_junk = self.resynchronised = True

    def has_passed_image(self, data: bytearray) -> bool:
        """Whether the length of the segment before `position` led into another image.

        That is where no marker follows and the latest image that begins in it does not end in it,
        as a thumbnail does; behind a scan, where any begins in it. Nothing can be said where the
        beginning of this image may be gone.
        """
        if self._latest is None or self.position - self.start > self._max_size:
            return False
        if self.seen_scan:
            return data.find(IMAGE_START, self._latest, self.position) >= 0
        start = data.rfind(IMAGE_START, self._latest, self.position)
        return start >= 0 and data.find(EOI, start, self.position) < 0

    def cross_junk(self, data: bytes | bytearray, end: int) -> bool:
        """Walk on to the next marker. False: it has not arrived, or is too far away."""
        limit = self._junk + _MAX_JUNK
        stop = min(end, limit)
        match = _NEXT_MARKER.search(data, self.position, stop)
        self.position = match.start() if match else max(self.position, stop - 1)
        if self.position - self.start > self._max_size:
            self.resume = self.position  # what lies before is not kept
        if match is None:
            if end >= limit:
                self.lost = "corrupt"
            return False
        self.edit(self._junk, self.position, b"", RESYNCHRONISED)
        self.in_junk = False
        return True

    def edit(self, start: int, stop: int, replacement: bytes | None, words: str) -> None:
        """Note what to mend, unless the image is too large and will be dropped anyway."""
        if stop - self.start <= self._max_size + len(EOI):
            self.edits.append(Edit(start, stop, replacement, words))

    def shift(self, count: int) -> None:
        """Follow the bytes of the buffer, which have moved to the front by so many places."""
        self.start -= count
        self.position -= count
        self.resume -= count
        self._junk -= count
        if self._latest is not None:
            self._latest -= count
        self.edits = [Edit(a - count, b - count, new, words) for a, b, new, words in self.edits]

    def mend(self, data: bytes | bytearray | memoryview, stop: int) -> tuple[bytes, list[str]]:
        """The image up to a place, mended; and the words to count that under."""
        pieces: list[bytes | memoryview | bytearray] = []
        counted: list[str] = []
        at = self.start
        for start, edge, replacement, words in self.edits:
            if edge > stop:
                break
            segment = data[start:edge]
            mended = without_picture(bytes(segment)) if replacement is None else replacement
            if mended != segment:
                pieces += data[at:start], mended
                at = edge
                counted.append(words)
        return b"".join((*pieces, data[at:stop])), counted

    def is_first_of_several(self, data: memoryview) -> bool:
        """Whether the image says that others belong to it, which stand behind it."""
        return any(
            lists_images(bytes(data[edit.start : edit.stop]))
            for edit in self.edits
            if edit.words == LIST_OF_IMAGES
        )

    def _begins_scan(self, data: bytes | bytearray, start: int, stop: int) -> bool:
        """Whether a decoder could show the scan behind this header: all insist on its length."""
        if not self.size or stop - start < _SHORTEST_SCAN_HEADER:
            return False
        if stop - start != _SHORTEST_SCAN_HEADER + 2 * (data[start + 4] - 1):
            return False
        return not self.resynchronised or self._can_be_shown(data, start)

    def _can_be_shown(self, data: bytes | bytearray, scan: int) -> bool:
        """Whether a header with bytes where a marker must stand holds what a scan needs.

        If not, a segment's length was too large and led over what is missing.
        """
        is_too_large = scan - self.start > self._max_size  # its beginning may be gone
        return is_too_large or jpeg.has_quantization(self.mend(data, scan)[0])


def plain_image(data: bytes) -> bytes | None:
    """The image at the beginning of some bytes, if nothing is wrong with it.

    For bytes that were cut already, such as a USB camera's buffers: without a copy where nothing
    follows the image.

    Returns:
        What JpegFramer would make of it; None where only JpegFramer can tell.
    """
    if not data.startswith(IMAGE_START):
        return None
    walk, end = Walk(0, len(data)), len(data)
    walk.cross_segments(data, end)
    if walk.edits or not walk.in_scan or not walk.cross_scan(data, end):
        return None
    return data[: walk.position + len(EOI)] if data.startswith(EOI, walk.position) else None


def shorten_segment(image: bytes) -> bytes | None:
    """Mend an image of which one segment claims to be longer than it is, if that can be.

    Such a length leads over what follows, so that the walk misses it. Only a comment or an
    application segment is mended: where the others end matters too much to guess.

    Args:
        image: From SOI to EOI.

    Returns:
        The image with the segment's length as it is; None where there is no such segment.
    """
    position = len(SOI)
    while image[position : position + 1] == b"\xff":
        marker = image[position + 1] if position + 4 <= len(image) else 0
        stop = position + 2 + int.from_bytes(image[position + 2 : position + 4])
        if marker not in WITH_SEGMENT or marker == M_SOS:
            return None
        if marker >= M_APP0 and not _leads_to_marker(image, stop):
            end = _true_end(image, position + 4, stop)
            if end is None:
                return None
            length = (end - position - 2).to_bytes(2)
            return image[: position + 2] + length + image[position + 4 :]
        position = stop
    return None


def _true_end(image: bytes, start: int, stop: int) -> int | None:
    """Where a segment ends that claims too much: in front of segments that lead to a scan."""
    limit = image.find(SOI, start, stop)  # behind it come the segments of a thumbnail
    # It may claim no more than the first byte of a marker.
    markers = _NEXT_MARKER.finditer(image, start, stop + 1 if limit < 0 else limit)
    for match in islice(markers, _MAX_GUESSES):
        if _leads_to_scan(image, match.start()):
            return match.start()
    return None


def _leads_to_scan(image: bytes, position: int) -> bool:
    """Whether segments follow each other from here to a scan, with a frame header among them."""
    has_size = False
    for _ in range(_MAX_SEGMENTS):
        if not _leads_to_marker(image, position):
            return False
        marker = image[position + 1]
        stop = position + 2 + int.from_bytes(image[position + 2 : position + 4])
        if marker == M_SOS:
            return has_size
        has_size |= marker in FRAME_HEADERS
        position = stop
    return False


def _leads_to_marker(image: bytes, position: int) -> bool:
    marker = image[position : position + 2]
    return len(marker) == 2 and marker[0] == FILL and marker[1] in WITH_SEGMENT  # noqa: PLR2004
