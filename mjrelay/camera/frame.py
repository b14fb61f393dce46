"""Frame: one image of a camera, and the form in which it is sent to clients."""

from dataclasses import dataclass
from functools import cached_property

from mjrelay.formats import jpeg, multipart


@dataclass(eq=False)  # not frozen: to make a frozen one takes longer than all later use of it
class Frame:
    """One image with its number and time: built once, shared by the ring and every client.

    Attributes:
        seq: Its number; a camera counts from 1 and goes on when reopened. 0: an offline picture.
        captured_at: When it was captured, in Unix seconds, for clients.
        monotonic: The same moment in seconds of `time.monotonic()`, to tell the frame's age.
        image: The JPEG, SOI to EOI.
    """

    seq: int
    captured_at: float
    monotonic: float
    image: bytes

    @cached_property
    def part(self) -> multipart.Part:
        """The multipart part that each client is sent."""
        return multipart.part(self.captured_at, self.image)

    @cached_property
    def advance_part(self) -> multipart.Part:
        """The same for clients that asked for `advance_headers`."""
        return multipart.advance_part(self.image)

    @cached_property
    def dimensions(self) -> tuple[int, int] | None:
        """Width and height in pixels, or None where the JPEG does not tell."""
        return jpeg.dimensions(self.image)
