"""Frame: one image of a camera, in the form every client is sent."""

from dataclasses import dataclass
from functools import cached_property

from mjrelay.formats import jpeg, multipart


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, ready to send: built once, shared by the ring and every client.

    Attributes:
        seq: Counts a camera's frames from 1, across reopens; 0 for an offline picture.
        captured_at: When it was captured, in Unix seconds, for clients.
        monotonic: The same moment on the clock that is never set back, for ages.
        part: The multipart part with the image inside. The image is not kept twice.
        image_size: Length of the image in bytes.
        image_start: Where it begins in the part.
    """

    seq: int
    captured_at: float
    monotonic: float
    part: bytes
    image_size: int
    image_start: int

    @classmethod
    def of(cls, image: bytes, *, seq: int, captured_at: float, monotonic: float) -> "Frame":
        """Make a frame of a whole JPEG."""
        head = multipart.part_head(captured_at, len(image))
        return cls(
            seq=seq,
            captured_at=captured_at,
            monotonic=monotonic,
            part=multipart.part(head, image),
            image_size=len(image),
            image_start=len(head),
        )

    @property
    def image(self) -> memoryview:
        """The JPEG, SOI to EOI."""
        return memoryview(self.part)[self.image_start : self.image_start + self.image_size]

    @property
    def advance_part(self) -> bytes:
        """The form for clients that asked for `advance_headers`; rare, so not kept."""
        return multipart.advance_part(self.image)

    @cached_property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels, from the frame header."""
        return jpeg.dimensions(self.image)
