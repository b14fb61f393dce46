"""Frame: one image of a camera, in the form every client is sent."""

from dataclasses import dataclass
from functools import cached_property

from mjrelay.formats import jpeg, multipart


@dataclass(eq=False)  # frozen would cost more to make than all of its use
class Frame:
    """One image, ready to send: built once, shared by the ring and every client.

    Attributes:
        seq: Counts a camera's frames from 1, across reopens; 0 for an offline picture.
        captured_at: When it was captured, in Unix seconds, for clients.
        monotonic: The same moment on the clock that is never set back, for ages.
        image: The JPEG, SOI to EOI.
    """

    seq: int
    captured_at: float
    monotonic: float
    image: bytes

    @cached_property
    def part(self) -> multipart.Part:
        """What each client is sent of it."""
        return multipart.part(self.captured_at, self.image)

    @cached_property
    def advance_part(self) -> multipart.Part:
        """The same for clients that asked for `advance_headers`."""
        return multipart.advance_part(self.image)

    @cached_property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels, from the frame header."""
        return jpeg.dimensions(self.image)
