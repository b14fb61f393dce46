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
# Segments that matter to us.
_TELLING = frozenset({jpeg.M_DHT, jpeg.M_APP1, jpeg.M_SOS}) | jpeg.FRAME_HEADERS
_BEFORE_BOUNDARY = re.compile(rb"\r?\n(?:--)?\Z")
_PADDING = (b"\0", b"\xff", b"\xd9")

# What stands between two images is a part's head of some 100 bytes; more is not a head. So much may
# be searched again with each piece.
_MAX_GAP = 4096

# Enough for a picture of most cameras; it grows for those of others.
_ROOM = 2**18


class _Walk:
    """How far the walk through an image has come, as places in the buffer.

    Attributes:
        start: Where the image begins. Once it is too large, that is before what is kept of it, and
            may be negative.
        position: Where to go on: at a marker, or inside a scan.
        resume: Where the next image may begin should this one break off. All bytes before it were
            seen to belong to this image, so none is walked twice.
        in_scan: It stands inside a scan; `seen_scan`: there was one.
        has_size: A frame header gave the picture's size; without one no decoder can show it.
        has_tables: There were Huffman tables.
        sequential: It is one of those that the standard tables decode.
        edits: Repairs as (start, stop, replacement), in order.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.position = self.resume = start + len(SOI)
        self.in_scan = self.seen_scan = False
        self.has_size = False
        self.has_tables = False
        self.sequential = False
        self.edits: list[tuple[int, int, bytes]] = []

    def shift(self, count: int) -> None:
        """Follow the bytes of the buffer, which have moved."""
        self.start -= count
        self.position -= count
        self.resume -= count
        self.edits = [(start - count, stop - count, new) for start, stop, new in self.edits]


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
        # What is kept lies from `_begin` to `_end`. The buffer stays: one that came and went with
        # each image would be new memory each time.
        self._buffer = bytearray(room)
        self._view = memoryview(self._buffer)  # else what is put in would be copied twice
        self._begin = self._end = 0
        self._walk: _Walk | None = None
        self._promised: int | None = None
        self._keeps_promises = True
        self._gap = bytearray()
        self._gap_counted = False
        self._usual_text = b""
        self._searched = 0  # the buffer holds no boundary before this
        # A camera that has shown one EOI always sends them: from then on an image without one is
        # truncated. One that never did leaves them out, and its images are mended.
        self._eoi_seen = False

    @property
    def between_images(self) -> bool:
        """No image has begun that has not ended."""
        return self._walk is None

    @property
    def missing(self) -> int:
        """Bytes the present image lacks by its part's promise; 0 where that is not known."""
        if self._walk is None or self._promised is None or not self._keeps_promises:
            return 0
        return max(0, self._promised - (self._end - self._walk.start))

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take the next bytes; return the images they complete, oldest first."""
        self._append(data)
        return self._cut()

    def finish(self, *, complete: bool = False) -> list[bytes]:
        """Take the end of the stream; return the image it completes, if any.

        Args:
            complete: All bytes promised by a length have arrived, so that an image which lacks
                only its EOI is whole.
        """
        images: list[bytes] = []
        while self._walk is not None:
            images += filter(None, (self._take_unfinished(self._walk, complete=complete),))
            images += self._cut()  # what waited behind a segment that was cut short
        self._skip_to(self._end)
        types = multipart.content_types(bytes(self._gap))
        self._note_foreign([kind for kind in types if not kind.startswith("image/")])
        return images

    def _append(self, data: bytes | memoryview) -> None:
        end = self._end + len(data)
        if end > len(self._buffer):
            self._make_room(len(data))
            end = self._end + len(data)
        self._view[self._end : end] = data
        self._end = end

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
        while self._walk is not None or self._find_start():
            image = self._go_on()
            if image is None:
                break
            if image:
                images.append(image)
        return images

    # Between images

    def _find_start(self) -> bool:
        """Skip to the next image. False: none has begun yet."""
        start = self._buffer.find(_IMAGE_START, self._begin, self._end)
        if start < 0:
            if self._end - self._begin > _MAX_GAP:
                # The last two bytes may be the beginning of a beginning.
                self._skip_to(self._end - len(_IMAGE_START) + 1)
            return False
        self._skip_to(start)
        self._read_gap()
        self._walk = _Walk(start)
        return True

    def _skip_to(self, place: int) -> None:
        """Move bytes that belong to no image into the gap."""
        count, room = place - self._begin, _MAX_GAP - len(self._gap)
        self._gap += self._buffer[self._begin : self._begin + min(count, room)]
        self._begin = place
        if count > room and not self._gap_counted:
            self._gap_counted = True
            self.tally.dropped["not_jpeg"] += 1
            self._note_foreign(multipart.content_types(bytes(self._gap)))

    def _read_gap(self) -> None:
        """Learn from the text before an image: the boundary, and parts that were no JPEG."""
        gap = bytes(self._gap)
        self._gap.clear()
        self._promised = multipart.content_length(gap)
        text = gap.translate(None, b"0123456789")
        if text == self._usual_text and not self._gap_counted and gap.find(self._boundary) >= 0:
            return  # as ever, but for the length and the time
        self._usual_text = b""
        if (boundary := multipart.wire_boundary(gap)) and boundary != self._boundary:
            self._boundary = boundary
            self._searched = 0
        if not self._gap_counted:
            foreign, is_padded = multipart.content_types(gap)[:-1], gap.startswith(_PADDING)
            if foreign:
                self.tally.dropped["not_jpeg"] += len(foreign)
                self._note_foreign(foreign)
            if is_padded:
                self.tally.tolerated["padding after the image"] += 1
            if not (foreign or is_padded):
                self._usual_text = text
        self._gap_counted = False

    def _note_foreign(self, types: list[str]) -> None:
        if types:
            self.foreign_type = types[-1]

    # Through an image

    def _go_on(self) -> bytes | None:  # noqa: C901, PLR0911, PLR0912 - one branch a marker
        """Walk on through the present image.

        Returns:
            The image; empty bytes when it broke off and was dropped; None to wait for more bytes.
        """
        walk, buffer = self._walk, self._buffer
        assert walk is not None
        if walk.position == walk.start + len(SOI):
            self._leap(walk)
        while True:
            if walk.in_scan and not self._cross_scan(walk):
                return self._wait(walk)
            position, size = walk.position, self._end
            if size < position + 2:
                return self._wait(walk)
            if buffer[position] != jpeg.FILL:
                return self._break_off(walk, "corrupt")
            marker = buffer[position + 1]
            if marker == jpeg.FILL:
                walk.position += 1
            elif marker in jpeg.STANDALONE:
                walk.position += 2
            elif marker in jpeg.WITH_SEGMENT:
                if size < position + 4:
                    return self._wait(walk)
                stop = position + 2 + (buffer[position + 2] << 8 | buffer[position + 3])
                if size < stop:
                    return self._wait(walk)
                if marker == jpeg.M_SOS and not walk.has_size:
                    return self._break_off(walk, "corrupt")
                if self._boundary and (boundary := self._find_boundary(stop)) is not None:
                    # The image was cut here: its segment's length leads into the next part.
                    walk.resume = boundary
                    return self._break_off(walk, "truncated")
                if marker in _TELLING:
                    self._enter_segment(walk, marker, stop)
                walk.resume = self._behind(position, stop)
                walk.position = stop
            elif marker == jpeg.M_EOI and walk.seen_scan:
                self._eoi_seen = True
                return self._take(walk, walk.position + len(EOI))
            elif marker == jpeg.M_SOI and walk.seen_scan and not self._eoi_seen:
                cut = self._end_of_part(walk.position)
                return self._take_without_eoi(walk, walk.position if cut is None else cut)
            else:
                return self._break_off(
                    walk, "truncated" if marker in (jpeg.M_SOI, jpeg.M_EOI) else "corrupt"
                )

    def _leap(self, walk: _Walk) -> None:
        """Cross the whole head of an image at once, if it is here and none of it matters."""
        segment, scan = _find_scan(self._buffer, walk.start, self._end)
        if scan and self._find_boundary(scan) is None:
            walk.has_size = walk.has_tables = walk.in_scan = walk.seen_scan = True
            walk.position = scan
            walk.resume = self._behind(segment, scan)

    def _behind(self, segment: int, stop: int) -> int:
        """Where another image may begin, should this one break off behind a segment."""
        # Without a boundary only what follows can tell whether the segment was whole.
        return stop if self._boundary else segment + 2

    def _cross_scan(self, walk: _Walk) -> bool:
        """Move to the marker that ends the scan. False: it has not arrived."""
        match = _SCAN_END.search(self._buffer, walk.position, self._end)
        if match is None:
            # A last FF may be half a marker.
            walk.position = max(walk.position, self._end - 1)
            return False
        walk.position = walk.resume = match.start()
        walk.in_scan = False
        if self._eoi_seen:
            self._searched = max(self._searched, walk.position)
        return True

    def _enter_segment(self, walk: _Walk, marker: int, stop: int) -> None:
        """Note what a segment means for the image."""
        start = walk.position
        if marker == jpeg.M_DHT:
            walk.has_tables = True
        elif marker in jpeg.FRAME_HEADERS:
            walk.sequential = marker in jpeg.HUFFMAN_SEQUENTIAL
            walk.has_size = _has_size(self._buffer, start, stop)
        elif marker == jpeg.M_APP1 and self._buffer.find(SOI, start + 4, stop) >= 0:
            # Home Assistant and Mainsail take the thumbnail for the picture.
            self._edit(walk, start, stop, b"")
            self.tally.tolerated["thumbnail inside the image"] += 1
        elif marker == jpeg.M_SOS:
            if walk.sequential and not walk.has_tables:
                self._edit(walk, start, start, jpeg.STANDARD_TABLES)
                walk.has_tables = True
                self.tally.tolerated["no Huffman tables"] += 1
            walk.in_scan = walk.seen_scan = True

    def _edit(self, walk: _Walk, start: int, stop: int, replacement: bytes) -> None:
        if walk.start >= self._begin:  # an oversized image is dropped anyway
            walk.edits.append((start, stop, replacement))

    def _wait(self, walk: _Walk) -> bytes | None:
        """Before waiting for more bytes: look for an early end, and bound what is kept."""
        if walk.in_scan and not self._eoi_seen:
            cut = self._end_of_part(self._end)
            if cut is not None:
                return self._take_without_eoi(walk, cut)
        if self._end - walk.start > self._max_size + len(EOI):  # its end may lie behind it
            # Walk on without keeping it, so that its end is found where it really is.
            self._begin = min(walk.position, self._end)
            walk.resume = max(self._begin, walk.resume)
        return None

    # Out of an image

    def _take(self, walk: _Walk, end: int) -> bytes:
        """Cut the image out of the buffer, repaired."""
        if end - walk.start > self._max_size or walk.start < self._begin:
            walk.resume = end
            return self._break_off(walk, "oversized")
        self._keeps_promises &= self._promised == end - walk.start
        at = walk.start
        pieces: list[bytes | memoryview] = []
        for start, stop, replacement in walk.edits:
            pieces += self._view[at:start], replacement
            at = stop
        image = b"".join((*pieces, self._view[at:end]))
        self._leave(end)
        return image

    def _take_without_eoi(self, walk: _Walk, end: int) -> bytes:
        """Take an image that ended with its part, unless the part promised more."""
        if self._promised and self._promised > end - walk.start + len(EOI):
            walk.resume = end
            return self._break_off(walk, "truncated")
        walk.edits.append((end, end, EOI))
        self.tally.tolerated["no end-of-image marker"] += 1
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
        self._keeps_promises = False
        self._gap_counted = True  # what remains of the image is no part of its own
        self._leave(walk.resume)
        return b""

    def _leave(self, end: int) -> None:
        self._walk = None
        self._begin = end

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
    _, scan = _find_scan(data, 0, len(data)) if data.startswith(_IMAGE_START) else (0, 0)
    end = _SCAN_END.search(data, scan) if scan else None
    return data[: end.start() + 2] if end and end[0] == EOI else None


def _find_scan(data: bytes | bytearray, start: int, end: int) -> tuple[int, int]:
    """Find the first scan of an image, if its head is plain.

    Returns:
        Where the segment before the scan begins, and where the scan does; zeros where the head is
        not all here, or something in it is missing, to be left out or to be looked at twice.
    """
    position, has_size, has_tables = start + len(SOI), False, False
    while position + 4 <= end and data[position] == jpeg.FILL:
        marker = data[position + 1]
        stop = position + 2 + (data[position + 2] << 8 | data[position + 3])
        if marker not in jpeg.WITH_SEGMENT or stop > end:
            break
        if marker == jpeg.M_SOS:
            return (position, stop) if has_size and has_tables else (0, 0)
        if marker == jpeg.M_DHT:
            has_tables = True
        elif marker in jpeg.FRAME_HEADERS:
            has_size = _has_size(data, position, stop)
        elif marker == jpeg.M_APP1 and data.find(SOI, position + 4, stop) >= 0:
            break
        position = stop
    return 0, 0


def _has_size(data: bytes | bytearray, start: int, stop: int) -> bool:
    """Whether a frame header gives a size that a picture can have."""
    return stop - start >= jpeg.SIZE_END and all(jpeg.size_at(data, start))
