"""What the camera says of itself: USB's and USB Video Class 1.0's descriptors, as bytes."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Format = Literal["MJPG", "YUYV"]
Size = tuple[int, int]

STREAM_ENDPOINT = 0x81
ISOCHRONOUS_SIZES = {1: 512, 2: 1024, 3: 3072}
"""Bytes in a packet, by the interface's alternate setting."""
BULK_SIZE = 16384
_BULK_PACKET = 512

INTERVALS: Mapping[Format, Sequence[int]] = {
    "MJPG": (333_333, 666_666, 1_000_000, 2_000_000),
    "YUYV": (1_000_000, 2_000_000),
}
"""Times between frames, in units of 100 ns; 333,333 of them make 30 frames a second."""

_VIDEO = 0x0E
_CONTROL, _STREAMING = 1, 2
_CLASS_SPECIFIC = 0x24
_GUID_YUYV = bytes.fromhex("5955593200001000800000aa00389b71")
_MANUFACTURER = "Emulated"


@dataclass(frozen=True)
class Model:
    """What distinguishes one camera from another.

    Attributes:
        sizes: Width and height; YUYV has only the last, as its frames are big.
        formats: In the order of the camera's descriptors.
        bulk: Whether it streams by bulk transfers instead of isochronous ones.
    """

    product: str
    serial: str
    vendor_id: int
    product_id: int
    sizes: Sequence[Size]
    formats: Sequence[Format]
    bulk: bool

    def sizes_of(self, image_format: Format) -> Sequence[Size]:
        """The sizes which a format has."""
        return self.sizes if image_format == "MJPG" else self.sizes[-1:]


def device(model: Model) -> bytes:
    """The device descriptor."""
    ids = struct.pack("<HHH", model.vendor_id, model.product_id, 0x100)
    return _descriptor(1, b"\0\2\xef\2\1\x40" + ids + b"\1\2\3\1")


def qualifier() -> bytes:
    """What it would be at the other speed."""
    return _descriptor(6, b"\0\2\xef\2\1\x40\1\0")


def string(model: Model, index: int) -> bytes | None:
    """One of its names."""
    if index == 0:
        return _descriptor(3, b"\x09\x04")
    names = (_MANUFACTURER, model.product, model.serial)
    if index > len(names):
        return None
    return _descriptor(3, names[index - 1].encode("utf-16-le"))


def configuration(model: Model) -> bytes:
    """The configuration with all its interfaces."""
    association = _descriptor(0x0B, bytes([0, 2, _VIDEO, 3, 0, 2]))
    interfaces = association + _control_interface() + _streaming_interface(model)
    total = struct.pack("<H", 9 + len(interfaces))
    return _descriptor(2, total + bytes([2, 1, 0, 0x80, 250])) + interfaces


def _descriptor(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 2, kind]) + body


def _video(subtype: int, body: bytes) -> bytes:
    return _descriptor(_CLASS_SPECIFIC, bytes([subtype]) + body)


def _interface(number: int, alternate: int, endpoints: int, subclass: int) -> bytes:
    return _descriptor(4, bytes([number, alternate, endpoints, _VIDEO, subclass, 0, 0]))


def _control_interface() -> bytes:
    """Camera terminal 1 to processing unit 2 to output terminal 3."""
    # Bits 1 and 3: exposure mode and time.
    camera = _video(2, struct.pack("<BHBB3HB3B", 1, 0x0201, 0, 0, 0, 0, 0, 3, 0x0A, 0, 0))
    # Bits 0, 6 and 12: brightness, white balance temperature, its automatic.
    processing = _video(5, struct.pack("<BBHB2BB", 2, 1, 0, 2, 0x41, 0x10, 0))
    output = _video(3, struct.pack("<BHBBB", 3, 0x0101, 0, 2, 0))
    units = camera + processing + output
    clock = 48_000_000
    header = _video(1, struct.pack("<HHIBB", 0x100, 13 + len(units), clock, 1, 1))
    return _interface(0, 0, 0, _CONTROL) + header + units


def _streaming_interface(model: Model) -> bytes:
    formats = b"".join(
        _format(number, image_format, model.sizes_of(image_format))
        for number, image_format in enumerate(model.formats, 1)
    )
    count = len(model.formats)
    total = 13 + count + len(formats)
    fields = struct.pack("<BHB6B", count, total, STREAM_ENDPOINT, 0, 3, 0, 0, 0, 1)
    header = _video(1, fields + bytes(count))
    if model.bulk:
        endpoint = _endpoint(2, _BULK_PACKET, 0)
        return _interface(1, 0, 1, _STREAMING) + header + formats + endpoint
    alternates = b"".join(
        _interface(1, alternate, 1, _STREAMING) + _endpoint(5, _packet_size(size), 1)
        for alternate, size in ISOCHRONOUS_SIZES.items()
    )
    return _interface(1, 0, 0, _STREAMING) + header + formats + alternates


def _endpoint(attributes: int, size: int, interval: int) -> bytes:
    return _descriptor(5, struct.pack("<BBHB", STREAM_ENDPOINT, attributes, size, interval))


def _packet_size(size: int) -> int:
    """As an endpoint says it: up to 1024 bytes, and how many more times in a microframe."""
    times = -(-size // 1024)
    return size // times | (times - 1) << 11


def _format(number: int, image_format: Format, sizes: Sequence[Size]) -> bytes:
    if image_format == "MJPG":
        head = _video(6, bytes([number, len(sizes), 1, 1, 0, 0, 0, 0]))
        frame_subtype = 7
    else:
        head = _video(4, bytes([number, len(sizes)]) + _GUID_YUYV + bytes([16, 1, 0, 0, 0, 0]))
        frame_subtype = 5
    frames = b"".join(
        _frame(frame_subtype, index, size, INTERVALS[image_format])
        for index, size in enumerate(sizes, 1)
    )
    colours = _video(0x0D, bytes([1, 1, 4]))
    return head + frames + colours


def _frame(subtype: int, index: int, size: Size, intervals: Sequence[int]) -> bytes:
    width, height = size
    pixels = width * height
    # The least and the most bits per second; the bytes of a frame.
    rates = struct.pack("<III", pixels * 8, pixels * 16 * 30, pixels * 2)
    times = struct.pack(f"<IB{len(intervals)}I", intervals[0], len(intervals), *intervals)
    return _video(subtype, struct.pack("<BBHH", index, 0, width, height) + rates + times)
