"""JpegFramer: cut a camera's bytes into whole images by walking their JPEG markers.

The walk skips segments by their length, so an FFD9 inside a comment or a thumbnail never ends an
image; inside a scan it stops at the first marker that is neither stuffing (FF00) nor a restart
(FFD0-FFD7).
"""

import re

from mjrelay.errors import Tally
from mjrelay.formats import jpeg, multipart
from mjrelay.formats.jpeg import EOI, SOI

_IMAGE_START = b"\xff\xd8\xff"
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_BEFORE_BOUNDARY = re.compile(rb"\r?\n(?:--)?\Z")
_PADDING = (b"\0", b"\xff", b"\xd9")

# Between two images stands a part's head of some 100 bytes. Anything longer is not a head. Until an
# image begins, up to this many bytes are searched again with each piece that comes.
_MAX_GAP = 4096

# Enough for a picture of most cameras; it grows for those of others.
_ROOM = 2**18


class _Walk:
    """How far the walk through one image has come, and what it found, as places in a buffer.

    Attributes:
        start: Where the image begins. Once the image is too large, its beginning is thrown away:
            then this lies before what is kept, and may be negative.
        position: Where to go on: at a marker, or inside a scan.
        resume: Where to search for the next image should this one break off: no other image can
            begin before. It never goes back, so that no byte is walked again and again.
        in_scan: `position` is inside a scan.
        seen_scan: A scan has begun.
        has_size: A frame header gave the picture's size; without one no decoder can show it.
        has_tables: There were Huffman tables.
        sequential: The picture is of a kind that the standard tables decode.
        edits: What to mend, in order: where from, where to, what to put there instead, and the
            words to count it under.
    """

    __slots__ = (
        "_max_size",
        "edits",
        "has_size",
        "has_tables",
        "in_scan",
        "position",
        "resume",
        "seen_scan",
        "sequential",
        "start",
    )

    def __init__(self, start: int, max_size: int) -> None:
        self.start = start
        self.position = self.resume = start + len(SOI)
        self.in_scan = self.seen_scan = False
        self.has_size = self.has_tables = self.sequential = False
        self.edits: list[tuple[int, int, bytes, str]] = []
        self._max_size = max_size

    def cross_segments(self, data: bytes | bytearray, end: int) -> bool:
        """Walk on over the segments that are wholly there, at most into the next scan.

        Returns:
            False if it stopped in front of a scan whose picture has no size: this is no image.
        """
        is_image, segment, position = True, -1, self.position
        while not self.in_scan and position + 4 <= end and data[position] == jpeg.FILL:
            marker = data[position + 1]
            stop = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if marker not in jpeg.WITH_SEGMENT or stop > end:
                break
            if marker == jpeg.M_DHT:
                self.has_tables = True
            elif marker in jpeg.FRAME_HEADERS:
                self.sequential = marker in jpeg.HUFFMAN_SEQUENTIAL
                self.has_size = _has_size(data, position, stop)
            elif marker == jpeg.M_APP1 and data.find(SOI, position + 4, stop) >= 0:
                # Home Assistant and Mainsail take the thumbnail for the picture.
                self.edit(position, stop, b"", "thumbnail inside the image")
            elif marker == jpeg.M_SOS:
                if not self.has_size:
                    is_image = False
                    break
                if self.sequential and not self.has_tables:
                    self.edit(position, position, jpeg.STANDARD_TABLES, "no Huffman tables")
                    self.has_tables = True
                self.in_scan = self.seen_scan = True
            segment, position = position, stop
        self.position = position
        if segment >= 0:
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

    def edit(self, start: int, stop: int, replacement: bytes, words: str) -> None:
        """Note what to mend, unless the image is too large and will be dropped anyway."""
        if stop - self.start <= self._max_size + len(EOI):
            self.edits.append((start, stop, replacement, words))

    def shift(self, count: int) -> None:
        """Follow the bytes of the buffer, which have moved to the front by so many places."""
        self.start -= count
        self.position -= count
        self.resume -= count
        self.edits = [(a - count, b - count, new, words) for a, b, new, words in self.edits]


class JpegFramer:
    """Cuts a stream of bytes into whole JPEG images, whatever stands between them.

    Feed it a multipart body, concatenated JPEGs or one picture, in pieces of any size: the images
    do not depend on how the bytes were cut. Each image begins with SOI, ends with EOI, has Huffman
    tables and no thumbnail, and is otherwise the camera's own bytes. Time is linear in the bytes
    fed. Memory grows up to twice `max_size` and the largest piece, and is kept.

    Args:
        max_size: Largest image in bytes. A longer one is a lost EOI, not a picture.
        boundary: The multipart boundary the camera declared, if any. Only a hint: it shows where
            an image without EOI ends. The boundary seen on the wire is preferred.
        tally: Where to count what was dropped and tolerated.
        room: Bytes of memory to begin with.
    """

    def __init__(
        self,
        *,
        max_size: int = 8 * 2**20,
        boundary: bytes = b"",
        tally: Tally | None = None,
        room: int = _ROOM,
    ) -> None:
        self.tally = tally or Tally()
        self.foreign_type = ""
        """Content type of the latest part that held no JPEG, such as "video/x-h264"."""
        self._max_size = max_size
        self._boundary = boundary
        # What is kept lies from `_begin` to `_end`. One buffer serves all images: a new one for
        # each would be fresh memory each time, which the kernel must clear.
        self._buffer = bytearray(room)
        self._view = memoryview(self._buffer)  # assigning to a bytearray's slice copies twice
        self._begin = self._end = 0
        self._walk: _Walk | None = None
        self._promised: int | None = None
        self._kept_promise = False  # the image before was as long as its part had promised
        self._gap = bytearray()
        # What is in the gap is in the tally already: as no JPEG, or as the rest of a dropped image.
        self._gap_is_accounted = False
        self._searched = 0  # the buffer holds no boundary before this
        # A camera that has shown one EOI always sends them: from then on an image without one is
        # truncated. One that never did leaves them out, and its images are mended.
        self._eoi_seen = False

    @property
    def between_images(self) -> bool:
        """Whether no image is under way."""
        return self._walk is None

    @property
    def missing(self) -> int:
        """Bytes that the present image still lacks, by the length its part promised.

        0 where that is not known, or not to be believed: the length before it was wrong.
        """
        if self._walk is None or self._promised is None or not self._kept_promise:
            return 0
        return max(0, self._promised - (self._end - self._walk.start))

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes; return the images they complete, oldest first."""
        end = self._end + len(data)
        if end > len(self._buffer):
            self._make_room(len(data))
            end = self._end + len(data)
        self._view[self._end : end] = data
        self._end = end
        return self._cut()

    def finish(self, *, complete: bool = False) -> list[bytes]:
        """Take the end of the stream; return the image it completes, if any.

        Args:
            complete: All bytes promised by a length have arrived, so that an image which lacks
                only its EOI is whole.
        """
        images: list[bytes] = []
        while self._walk is not None:
            if image := self._take_unfinished(self._walk, complete=complete):
                images.append(image)
            images += self._cut()  # what waited behind a segment that was cut short
        self._skip_to(self._end)
        types = multipart.content_types(bytes(self._gap))
        self._note_foreign([kind for kind in types if not kind.startswith("image/")])
        return images

    def _make_room(self, count: int) -> None:
        """Move what is kept to the front; if that is not enough, into a larger buffer."""
        moved, size = self._begin, self._end - self._begin
        kept = self._buffer[self._begin : self._end]
        if size + count > len(self._buffer):
            self._buffer = bytearray(2 * (size + count))
            self._view = memoryview(self._buffer)
        self._view[:size] = kept
        self._begin, self._end = 0, size
        self._searched -= moved
        if self._walk is not None:
            self._walk.shift(moved)

    def _cut(self) -> list[bytes]:
        """Cut out the images that are whole."""
        images: list[bytes] = []
        while walk := self._walk or self._find_start():
            image = self._go_on(walk)
            if image is None:
                break
            if image:
                images.append(image)
        return images

    # Between images

    def _find_start(self) -> _Walk | None:
        """Skip to the next image and begin to walk through it. None: none has begun yet."""
        start = self._buffer.find(_IMAGE_START, self._begin, self._end)
        if start < 0:
            if self._end - self._begin > _MAX_GAP:
                # The last two bytes may be the beginning of a beginning.
                self._skip_to(self._end - len(_IMAGE_START) + 1)
            return None
        self._skip_to(start)
        self._read_gap()
        self._walk = _Walk(start, self._max_size)
        return self._walk

    def _skip_to(self, place: int) -> None:
        """Move bytes that belong to no image into the gap."""
        count, room = place - self._begin, _MAX_GAP - len(self._gap)
        self._gap += self._buffer[self._begin : self._begin + min(count, room)]
        self._begin = place
        if count > room and not self._gap_is_accounted:
            self._gap_is_accounted = True
            self.tally.dropped["not_jpeg"] += 1
            self._note_foreign(multipart.content_types(bytes(self._gap)))

    def _read_gap(self) -> None:
        """Learn from the text before an image: the boundary, and parts that were no JPEG."""
        gap = bytes(self._gap)
        self._gap.clear()
        self._promised = multipart.content_length(gap)
        if (boundary := multipart.wire_boundary(gap)) and boundary != self._boundary:
            self._boundary = boundary
            self._searched = 0
        is_padded = gap.startswith(_PADDING)
        # As a rule there is one boundary, and behind it the head of this image.
        if not self._gap_is_accounted and (is_padded or gap.count(self._boundary) != 1):
            if foreign := multipart.content_types(gap)[:-1]:
                self.tally.dropped["not_jpeg"] += len(foreign)
                self._note_foreign(foreign)
            if is_padded:
                self.tally.tolerated["padding after the image"] += 1
        self._gap_is_accounted = False

    def _note_foreign(self, types: list[str]) -> None:
        if types:
            self.foreign_type = types[-1]

    # Through an image

    def _go_on(self, walk: _Walk) -> bytes | None:  # noqa: C901, PLR0911, PLR0912 - the markers
        """Walk on through the present image.

        Returns:
            The image; empty bytes when it broke off and was dropped; None to wait for more bytes.
        """
        buffer, end = self._buffer, self._end
        while True:
            if walk.in_scan:
                if not walk.cross_scan(buffer, end):
                    return self._wait(walk)
                if self._eoi_seen:  # no boundary is looked for in a scan then
                    self._searched = max(self._searched, walk.position)
                elif (cut := self._end_of_part(walk.position)) is not None:
                    return self._take_without_eoi(walk, cut)
            position = walk.position
            if end < position + 2:
                return self._wait(walk)
            if buffer[position] != jpeg.FILL:
                return self._break_off(walk, "corrupt")
            marker = buffer[position + 1]
            if marker in jpeg.WITH_SEGMENT:
                is_image = walk.cross_segments(buffer, end)
                if walk.position > position and self._boundary:
                    if (boundary := self._find_boundary(walk.position)) is not None:
                        # The image was cut: a segment's length led into the next part.
                        walk.resume = boundary
                        return self._break_off(walk, "truncated")
                    walk.resume = walk.position  # no boundary in it: the segments are whole
                if not is_image:
                    return self._break_off(walk, "corrupt")
                if walk.position == position:
                    return self._wait(walk)
            elif marker == jpeg.M_EOI and walk.seen_scan:
                self._eoi_seen = True
                return self._take(walk, position + len(EOI))
            elif marker == jpeg.FILL:
                walk.position += 1
            elif marker in jpeg.STANDALONE:
                walk.position += 2
            elif marker == jpeg.M_SOI and walk.seen_scan and not self._eoi_seen:
                return self._take_without_eoi(walk, position)
            else:
                is_cut = marker in (jpeg.M_SOI, jpeg.M_EOI)
                return self._break_off(walk, "truncated" if is_cut else "corrupt")

    def _wait(self, walk: _Walk) -> bytes | None:
        """Before waiting for more bytes: look for an early end, and bound what is kept.

        Returns:
            As `_go_on`.
        """
        if walk.in_scan and not self._eoi_seen:
            cut = self._end_of_part(self._end)
            if cut is not None:
                return self._take_without_eoi(walk, cut)
        if self._end - walk.start > self._max_size + len(EOI):  # its end may lie behind it
            # Walk on without keeping it, so that its end is found where it really is.
            self._begin = min(walk.position, self._end)
            walk.resume = max(self._begin, walk.resume)
        return None

    # The end of an image

    def _take(self, walk: _Walk, end: int) -> bytes:
        """Cut the image out of the buffer, repaired; empty bytes where it is too large."""
        if end - walk.start > self._max_size or walk.start < self._begin:
            walk.resume = end
            return self._break_off(walk, "oversized")
        self._kept_promise = self._promised == end - walk.start
        at = walk.start
        pieces: list[bytes | memoryview] = []
        for start, stop, replacement, words in walk.edits:
            pieces += self._view[at:start], replacement
            at = stop
            self.tally.tolerated[words] += 1
        image = b"".join((*pieces, self._view[at:end]))
        self._walk, self._begin = None, end
        return image

    def _take_without_eoi(self, walk: _Walk, end: int) -> bytes:
        """Take an image that ended with its part, unless the part promised more."""
        if self._promised and self._promised > end - walk.start + len(EOI):
            walk.resume = end
            return self._break_off(walk, "truncated")
        walk.edit(end, end, EOI, "no end-of-image marker")
        return self._take(walk, end)

    def _take_unfinished(self, walk: _Walk, *, complete: bool) -> bytes:
        """At the end of the stream: take an image that lacks only its EOI, or drop it."""
        end = self._end
        if walk.in_scan and not self._eoi_seen:
            cut = self._end_of_part(end)
            if cut is not None or complete:
                return self._take_without_eoi(walk, end if cut is None else cut)
        return self._break_off(walk, "truncated")

    def _break_off(self, walk: _Walk, reason: str) -> bytes:
        """Drop the image and go back to where another may begin."""
        if walk.position - walk.start > self._max_size:
            reason = "oversized"
        self.tally.dropped[reason] += 1
        self._kept_promise = False
        self._gap_is_accounted = True  # what remains of the image is no part of its own
        self._walk, self._begin = None, walk.resume
        return b""

    def _end_of_part(self, stop: int) -> int | None:
        """Where the image's data ends before a boundary, or None if there is no boundary."""
        boundary = self._find_boundary(stop)
        if boundary is None:
            return None
        before = max(self._begin, boundary - 4)
        line_end = _BEFORE_BOUNDARY.search(self._buffer, before, boundary)
        return line_end.start() if line_end else boundary

    def _find_boundary(self, stop: int) -> int | None:
        """Find a boundary before `stop`, looking at each byte only once."""
        start = max(self._begin, self._searched)
        if not self._boundary or stop <= start:
            return None
        index = self._buffer.find(self._boundary, start, stop)
        if index >= 0:
            return index
        self._searched = max(self._searched, stop - len(self._boundary) + 1)
        return None


def plain_image(data: bytes) -> bytes | None:
    """The image at the beginning of some bytes, if nothing is wrong with it.

    For bytes that were cut already, such as a USB camera's buffers: without a copy where nothing
    follows the image.

    Returns:
        What JpegFramer would make of it; None where only JpegFramer can tell.
    """
    if not data.startswith(_IMAGE_START):
        return None
    walk, end = _Walk(0, len(data)), len(data)
    walk.cross_segments(data, end)
    if walk.edits or not walk.in_scan or not walk.cross_scan(data, end):
        return None
    return data[: walk.position + len(EOI)] if data.startswith(EOI, walk.position) else None


def _has_size(data: bytes | bytearray, start: int, stop: int) -> bool:
    """Whether a frame header gives a size that a picture can have: neither height nor width 0."""
    height, width = data[start + 5 : start + 7], data[start + 7 : start + jpeg.SIZE_END]
    return stop - start >= jpeg.SIZE_END and any(height) and any(width)
