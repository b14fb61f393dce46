"""USB/IP without a network: this machine's kernel takes us for a device on one of its ports.

One end of a socketpair goes to vhci_hcd; what the kernel wants of the device comes out of the
other. The kernel's Documentation/usb/usbip_protocol.rst describes the messages.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_VHCI = Path("/sys/devices/platform/vhci_hcd.0")
_HIGH_SPEED = 3

_SUBMIT, _UNLINK, _SUBMITTED, _UNLINKED = 1, 2, 3, 4
_HEADER = struct.Struct(">5I")  # command, number, device, direction, endpoint
_SUBMIT_FIELDS = struct.Struct(">Iiiii8s")  # flags, length, start, packets, interval, setup
_MESSAGE = 48
_PACKET = struct.Struct(">3Ii")  # offset, length, actual length, status
_IN = 1
_NOT_ISOCHRONOUS = 0x7FFFFFFF
_READ_SIZE = 2**18


@dataclass(frozen=True)
class Setup:
    """The eight bytes that begin a control request."""

    kind: int
    request: int
    value: int
    index: int
    length: int

    @classmethod
    def parse(cls, data: bytes) -> "Setup":
        """Read them."""
        return cls(*struct.unpack("<BBHHH", data))


@dataclass(frozen=True)
class Packet:
    """One packet of an isochronous transfer: where in the buffer it goes, and how it went."""

    offset: int
    length: int
    actual: int = 0
    status: int = 0


@dataclass(frozen=True)
class Request:
    """What the kernel wants transferred (an URB).

    Attributes:
        packets: Of an isochronous transfer; else empty.
    """

    number: int
    endpoint: int
    length: int
    setup: Setup
    data: bytes = b""
    packets: Sequence[Packet] = ()


class Device(Protocol):
    """What is plugged in."""

    def submitted(self, request: Request) -> None:
        """Answer a request, now or later."""

    def unlinked(self, number: int) -> bool:
        """Forget a request; say whether it was still unanswered."""

    def unplugged(self) -> None:
        """Note that the kernel has closed the link."""


class Link:
    """The cable between a device and the kernel, plugged in for as long as it exists.

    Args:
        port: Of the virtual controller, from 0.
    """

    def __init__(self, port: int, device: Device) -> None:
        self._port = port
        self._device = device
        self._received = b""
        self._socket, kernels_end = socket.socketpair()
        self._socket.setblocking(False)
        with kernels_end:
            device_id = (1 << 16) + port + 2
            attach = f"{port} {kernels_end.fileno()} {device_id} {_HIGH_SPEED}\n"
            (_VHCI / "attach").write_text(attach, encoding="ascii")

    def fileno(self) -> int:
        """What to wait for, before `receive`."""
        return self._socket.fileno()

    def unplug(self) -> None:
        """Pull the cable."""
        with contextlib.suppress(OSError):
            (_VHCI / "detach").write_text(f"{self._port}\n", encoding="ascii")
        self._socket.close()

    def receive(self) -> None:
        """Take what the kernel has sent, and hand it to the device."""
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._device.unplugged()
            return
        self._received += data
        while self._take_message():
            pass

    def answer(
        self,
        request: Request,
        data: bytes = b"",
        *,
        status: int = 0,
        packets: Sequence[Packet] = (),
    ) -> None:
        """Complete a request.

        Args:
            request: As it came.
            data: What was read, in all packets together.
            status: 0, or a negative errno.
            packets: How each went, in an isochronous transfer.
        """
        errors = sum(packet.status != 0 for packet in packets)
        length = len(data) if data or status else len(request.data)
        head = _HEADER.pack(_SUBMITTED, request.number, 0, 0, 0)
        fields = struct.pack(">iiiii8x", status, length, 0, len(packets), errors)
        tail = b"".join(_PACKET.pack(p.offset, p.length, p.actual, p.status) for p in packets)
        self._send(head + fields + data + tail)

    def _take_message(self) -> bool:
        if len(self._received) < _MESSAGE:
            return False
        command, number, _, direction, endpoint = _HEADER.unpack_from(self._received)
        if command == _UNLINK:
            (victim,) = struct.unpack_from(">I", self._received, _HEADER.size)
            self._received = self._received[_MESSAGE:]
            status = -errno.ECONNRESET if self._device.unlinked(victim) else 0
            head = _HEADER.pack(_UNLINKED, number, 0, 0, 0)
            self._send(head + struct.pack(">i24x", status))
            return True
        assert command == _SUBMIT, f"the kernel sent an unknown command: {command}"
        fields = _SUBMIT_FIELDS.unpack_from(self._received, _HEADER.size)
        _, length, _, packet_count, _, setup = fields
        if not endpoint or not 0 < packet_count < _NOT_ISOCHRONOUS:
            packet_count = 0
        data_end = _MESSAGE + (0 if direction == _IN else length)
        end = data_end + packet_count * _PACKET.size
        if len(self._received) < end:
            return False
        data = self._received[_MESSAGE:data_end]
        packets = tuple(
            Packet(offset, size)
            for offset, size, _, _ in _PACKET.iter_unpack(self._received[data_end:end])
        )
        self._received = self._received[end:]
        request = Request(number, endpoint, length, Setup.parse(setup), data, packets)
        self._device.submitted(request)
        return True

    def _send(self, message: bytes) -> None:
        # The kernel reads at once, except while it gives the device up.
        try:
            self._socket.setblocking(True)
            self._socket.sendall(message)
            self._socket.setblocking(False)
        except OSError:
            self._device.unplugged()
