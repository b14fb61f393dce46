"""JpegFramer: cut a camera's bytes into whole images.

Where an image ends, the walk through its markers says. What stands behind that end inside the same
part, or the same answer, is a trailer and no picture.
"""

from collections.abc import Iterable

from mjrelay.errors import Tally
from mjrelay.formats import multipart
from mjrelay.formats.behind import Behind, Series
from mjrelay.formats.gap import TRAILED, Gap
from mjrelay.formats.jpeg import (
    EOI,
    FILL,
    IMAGE_START,
    M_EOI,
    M_SOI,
    STANDALONE,
    WITH_SEGMENT,
)
from mjrelay.formats.walk import RESYNCHRONISED, Walk, shorten_segment

# Between two images stands a part's head of some 100 bytes. So much without the beginning of an
# image is no head.
_MAX_GAP = 4096
# A boundary is at most so long; a shorter end of what has come may be half of one.
_MAX_BOUNDARY = 512
# So much of a trailer is looked at, to say what it is.
_TRAILER_BEGIN = 64

# Enough for a picture of most cameras; it grows for those of others.
_ROOM = 2**18


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
        behind: What may stand behind an image where no boundary does.
        tally: Where to count what was dropped and tolerated.
        room: Bytes of memory to begin with.
        eoi_seen: The camera has ended an image with EOI before.

    Attributes:
        eoi_seen: It has done so now, or before. A camera that does it once does it always: from
            then on an image without EOI is truncated. One that never did leaves it out, and its
            images are mended.
    """

    def __init__(
        self,
        *,
        max_size: int = 8 * 2**20,
        boundary: bytes = b"",
        behind: Behind = Behind.IMAGES,
        tally: Tally | None = None,
        room: int = _ROOM,
        eoi_seen: bool = False,
    ) -> None:
        self.tally = tally or Tally()
        self._max_size = max_size
        self._gap = Gap(boundary, self.tally)
        self._behind = behind
        # What is kept lies from `_begin` to `_end`. One buffer serves all images: a new one for
        # each would be fresh memory each time, which the kernel must clear.
        self._buffer = bytearray(room)
        self._view = memoryview(self._buffer)  # assigning to a bytearray's slice copies twice
        self._begin = self._end = 0
        self._walk: Walk | None = None
        self._kept_promise = False  # the image before was as long as its part had promised
        self._is_delimited = False  # this image begins what a boundary or the answer's end ends
        self._is_first = behind is not Behind.IMAGES  # the answer has shown no image yet
        # Passing over the rest of a part, which begins a boundary before `_part_stop`.
        self._passing = False
        self._part_stop = 0
        self._trailer: bytearray | None = None  # how it begins, where it stands behind an image
        self._sought = 0  # what is sought at present does not begin before this
        self._searched = 0  # the buffer holds no boundary before this
        self._no_junk_before = 0  # an image that begins before this must not resynchronise
        self._series = Series()
        self.eoi_seen = eoi_seen

    @property
    def between_images(self) -> bool:
        """Whether no image is under way."""
        return self._walk is None

    @property
    def foreign_type(self) -> str:
        """Content type of the latest part that held no JPEG, such as "video/x-h264"."""
        return self._gap.foreign_type

    @property
    def missing(self) -> int:
        """Bytes that the present image still lacks, by the length its part promised.

        0 where that is not known, or not to be believed: the length before it was wrong.
        """
        if self._walk is None or self._gap.promised is None or not self._kept_promise:
            return 0
        return max(0, self._gap.promised - (self._end - self._walk.start))

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
        rest = bytes(self._buffer[self._begin : self._end])
        self._pass_over(self._end)
        self._note_trailer()
        self._gap.read_last(rest)
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
        self._sought -= moved
        self._searched -= moved
        self._no_junk_before -= moved
        self._part_stop -= moved
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

    def _find_start(self) -> Walk | None:
        """Skip to the next image and begin to walk through it. None: none has begun yet."""
        while not self._passing or self._leave_part():
            limit = self._begin + _MAX_GAP
            start = self._buffer.find(IMAGE_START, max(self._begin, self._sought), self._end)
            # The last two bytes may be the beginning of a beginning.
            self._sought = start if start >= 0 else self._end - len(IMAGE_START) + 1
            if self._sought >= limit:
                self._pass_text(limit)
            elif start < 0:
                return None
            elif self._begins_at(start):
                self._begin = start
                self._walk = Walk(start, self._max_size)
                return self._walk
        return None

    def _pass_text(self, stop: int) -> None:
        """Pass over text without an image: to the last part that begins in it, or its end."""
        text = bytes(self._buffer[self._begin : stop])
        if latest := self._gap.read_without_image(text):
            self._begin += latest
            return
        self._begin = stop - _MAX_BOUNDARY
        if self._gap.begins_foreign_part(text):
            self._pass_part(self._begin)

    def _begins_at(self, start: int) -> bool:
        """Whether an image begins here, by the text before it, and not what looks like one."""
        known = self._gap.boundary
        if not self._gap.read(bytes(self._buffer[self._begin : start])):
            self._pass_part(start)
            return False
        if self._gap.boundary != known:
            self._searched = 0
        self._is_delimited = self._gap.in_part or self._is_first
        return True

    # The rest of a part

    def _pass_part(self, start: int) -> None:
        """Pass over a part without an image: to the next boundary, if it is not too far away."""
        self._begin = self._sought = start
        self._passing, self._part_stop = True, start + self._max_size

    def _leave_part(self) -> bool:
        """Go on to the next boundary. False: it has not arrived."""
        if self._end - self._begin < len(self._gap.usual_end):
            return False
        if self._gap.in_part and self._buffer.startswith(self._gap.usual_end, self._begin):
            self._passing, self._trailer = False, None
            self._begin += len(b"\r\n")
            self._sought = self._begin
            return True
        is_last = not self._gap.in_part and self._trailer is not None
        stop = min(self._end, self._part_stop)
        place = None if is_last else self._find_end_of_part(stop)
        if place is None and (is_last or self._end < self._part_stop):
            self._pass_over(self._end if is_last else max(self._begin, self._end - _MAX_BOUNDARY))
            return False
        self._pass_over(stop if place is None else place)
        self._note_trailer()
        self._passing = self._gap.is_accounted = False
        self._sought = self._begin
        return True

    def _find_end_of_part(self, stop: int) -> int | None:
        """Find the next boundary in what is sought at present."""
        start = max(self._begin, self._sought)
        place = self._buffer.find(self._gap.boundary, start, stop) if self._gap.boundary else -1
        # Some cameras' boundary changes. Such a line may be anything else before the known one.
        line = multipart.find_boundary_line(self._buffer, start, stop if place < 0 else place)
        if place < 0 and line < 0:
            self._sought = max(start, stop - _MAX_BOUNDARY)
            return None
        self._sought = line if line >= 0 else place
        return self._sought

    def _pass_over(self, place: int) -> None:
        """Throw away the beginning of what is kept, and remember how a trailer begins."""
        if self._trailer is not None and len(self._trailer) < _TRAILER_BEGIN:
            stop = min(place, self._begin + _TRAILER_BEGIN - len(self._trailer))
            self._trailer += self._buffer[self._begin : stop]
        self._begin = place

    def _note_trailer(self) -> None:
        """Count what stood behind the image in its part, if anything did."""
        if self._trailer:
            self._gap.count_trailer(self._trailer)
        self._trailer = None

    # Through an image

    def _go_on(self, walk: Walk) -> bytes | None:  # noqa: C901, PLR0911, PLR0912 - the markers
        """Walk on through the present image.

        Returns:
            The image; empty bytes when it broke off and was dropped; None to wait for more bytes.
        """
        buffer, end = self._buffer, self._end
        while not walk.lost:
            if walk.in_scan:
                if not walk.cross_scan(buffer, end):
                    return self._wait(walk)
                if self.eoi_seen:  # no boundary is looked for in a scan then
                    self._searched = max(self._searched, walk.position)
                elif (cut := self._end_of_part(walk.position)) is not None:
                    return self._take_without_eoi(walk, cut)
            elif walk.in_junk:
                is_crossed = walk.cross_junk(buffer, end)
                is_over = is_crossed or walk.lost
                boundary = self._find_boundary(walk.position if is_over else end)
                if boundary is not None:
                    walk.position = walk.resume = boundary
                    return self._break_off(walk, "truncated")
                if walk.lost:
                    break
                if not is_crossed:
                    return self._wait(walk)
            position = walk.position
            if end < position + 2:
                return self._wait(walk)
            marker = buffer[position + 1] if buffer[position] == FILL else 0
            if marker in WITH_SEGMENT:
                seen_scan = walk.seen_scan
                is_image = walk.cross_segments(buffer, end)
                if walk.position > position and self._gap.boundary:
                    if (boundary := self._find_boundary(walk.position)) is not None:
                        # The image was cut: a segment's length led into the next part.
                        walk.position = walk.resume = boundary
                        walk.seen_scan = seen_scan
                        return self._break_off(walk, "truncated")
                    walk.resume = walk.position  # no boundary in it: the segments are whole
                if not is_image:
                    return self._break_off(walk, "corrupt")
                if seen_scan and self._leads_into_another(walk):
                    return self._drop(walk, "truncated")
                if walk.position > position:
                    continue
                if end < position + 4 or _claims_length(buffer, position):
                    return self._wait(walk)
            elif marker == M_EOI:
                if not walk.seen_scan:
                    return self._break_off(walk, "truncated")
                self.eoi_seen = True
                return self._take(walk, position + len(EOI))
            elif marker == M_SOI:  # another image begins here
                if walk.seen_scan and not self.eoi_seen:
                    return self._take_without_eoi(walk, position)
                return self._drop(walk, "truncated")
            elif marker == FILL or marker in STANDALONE:
                walk.position += 1 if marker == FILL else 2
                continue
            # Here is no marker.
            if walk.seen_scan or walk.start < self._no_junk_before:
                return self._break_off(walk, "corrupt")
            if self._leads_into_another(walk):
                self._no_junk_before = walk.position
                return self._drop(walk, "truncated")
            walk.enter_junk()
        return self._break_off(walk, walk.lost)

    def _leads_into_another(self, walk: Walk) -> bool:
        """Whether the walk has left its image: only a boundary would have told that before."""
        return not self._is_delimited and walk.has_passed_image(self._buffer)

    def _wait(self, walk: Walk) -> bytes | None:
        """Before waiting for more bytes: look for an early end, and bound what is kept.

        Returns:
            As `_go_on`.
        """
        if walk.in_scan and not self.eoi_seen:
            cut = self._end_of_part(self._end)
            if cut is not None:
                return self._take_without_eoi(walk, cut)
        if not walk.in_scan and (boundary := self._find_boundary(self._end)) is not None:
            # A segment's length leads into the next part: waiting for its end would cost pictures.
            walk.position = walk.resume = boundary
            return self._break_off(walk, "truncated")
        if self._end - walk.start > self._max_size + len(EOI):  # its end may lie behind it
            # Walk on without keeping it, so that its end is found where it really is.
            self._begin = min(walk.position, self._end)
            walk.resume = max(self._begin, walk.resume)
        return None

    # The end of an image

    def _take(self, walk: Walk, end: int) -> bytes:
        """Cut the image out of the buffer, repaired; empty bytes where it is none to show."""
        if end - walk.start > self._max_size or walk.start < self._begin:
            walk.position = walk.resume = end
            self._series.goes_on_with(walk.size, has_list=False)
            dropped = self._drop(walk, "oversized")
            self._expect_trailer()
            return dropped
        if walk.edits:
            return self._accept(walk, end, *walk.mend(self._view, end))
        return self._accept(walk, end, bytes(self._view[walk.start : end]))

    def _accept(self, walk: Walk, end: int, image: bytes, tolerated: Iterable[str] = ()) -> bytes:
        """Show an image that ends here; empty bytes where it is none of its own."""
        self._kept_promise = self._gap.promised == end - walk.start
        self._walk, self._begin, self._sought, self._is_first = None, end, end, False
        if not self._expect_trailer() and self._behind is Behind.EITHER:
            has_list = walk.is_first_of_several(self._view)
            if not self._series.goes_on_with(walk.size, has_list=has_list):
                self.tally.tolerated[TRAILED] += 1
                return b""
        for words in tolerated:
            self.tally.tolerated[words] += 1
        return image

    def _expect_trailer(self) -> bool:
        """Take what stands behind an image for its trailer, if it is not for other images."""
        if not self._gap.in_part and self._behind is not Behind.TRAILER:
            return False
        self._passing, self._part_stop = True, self._begin + self._max_size
        self._trailer = bytearray()
        return True

    def _take_without_eoi(self, walk: Walk, end: int) -> bytes:
        """Take an image that ended with its part, unless the part promised more."""
        if self._gap.promised and self._gap.promised > end - walk.start + len(EOI):
            walk.position = walk.resume = end
            return self._drop(walk, "truncated")
        walk.edit(end, end, EOI, "no end-of-image marker")
        return self._take(walk, end)

    def _take_unfinished(self, walk: Walk, *, complete: bool) -> bytes:
        """At the end of the stream: take an image that lacks only its EOI, or drop it."""
        end = self._end
        if walk.in_scan and not self.eoi_seen and not walk.lost:
            cut = self._end_of_part(end)
            if cut is not None or complete:
                return self._take_without_eoi(walk, end if cut is None else cut)
        if self._is_delimited:
            part_end = self._find_end_of_lost(walk, "truncated")
            if image := self._rescue(walk, end if part_end is None else part_end):
                return image
        return self._drop(walk, walk.lost or "truncated")

    # An image that the walk cannot follow

    def _break_off(self, walk: Walk, reason: str) -> bytes | None:
        """Give the image up, once its part has ended without an image that can be shown.

        Returns:
            As `_go_on`.
        """
        if not self._is_delimited:
            return self._drop(walk, reason)
        end = self._find_end_of_lost(walk, reason)
        if end is None and self._end - walk.start <= self._max_size + _MAX_BOUNDARY:
            return None
        image = self._rescue(walk, end) if end is not None else b""
        return image or self._drop(walk, reason)

    def _find_end_of_lost(self, walk: Walk, reason: str) -> int | None:
        """Find where the part ends whose image the walk cannot follow; None: not in what came."""
        if not walk.lost:
            walk.lost = reason
            self._sought = walk.start
        return self._find_end_of_part(self._end) if self._gap.in_part else None

    def _rescue(self, walk: Walk, end: int) -> bytes:
        """Take an image for what its part holds, if that ends as an image does; else nothing."""
        end = multipart.line_end_before(self._buffer, end, self._begin)
        is_whole = self._begin <= walk.start and self._buffer.startswith(EOI, end - len(EOI))
        if not is_whole or end - walk.start > self._max_size:
            return b""
        if walk.seen_scan:
            image, words = walk.mend(self._view, end)
            return self._accept(walk, end, image, [*words, "unwalked"])
        if mended := shorten_segment(bytes(self._view[walk.start : end])):
            framer = JpegFramer(max_size=self._max_size, room=len(mended))
            for image in framer.feed(mended):
                return self._accept(walk, end, image, [*framer.tally.tolerated, RESYNCHRONISED])
        return b""

    def _drop(self, walk: Walk, reason: str) -> bytes:
        """Drop the image and go back to where another may begin."""
        if walk.position - walk.start > self._max_size:
            reason = "oversized"
            walk.resume = max(walk.resume, walk.position)  # what lies before may not be kept
        self.tally.dropped[reason] += 1
        self._kept_promise = self._is_delimited = self._is_first = False
        self._gap.is_accounted = True  # what remains of the image is no part of its own
        if walk.resynchronised:
            self._no_junk_before = walk.position  # so that no byte is junk of many images
        self._walk, self._begin = None, walk.resume
        self._sought = walk.resume
        return b""

    def _end_of_part(self, stop: int) -> int | None:
        """Where the image's data ends before a boundary, or None if there is no boundary."""
        boundary = self._find_boundary(stop)
        if boundary is None:
            return None
        return multipart.line_end_before(self._buffer, boundary, self._begin)

    def _find_boundary(self, stop: int) -> int | None:
        """Find a boundary before `stop`, looking at each byte only once."""
        start = max(self._begin, self._searched)
        if not self._gap.boundary or stop <= start:
            return None
        index = self._buffer.find(self._gap.boundary, start, stop)
        if index >= 0:
            return index
        self._searched = max(self._searched, stop - len(self._gap.boundary) + 1)
        return None


def _claims_length(data: bytearray, position: int) -> bool:
    """Whether a segment is as long as its length field at least."""
    return data[position + 2] > 0 or data[position + 3] >= 2  # noqa: PLR2004 - two bytes
