"""The camera: answers control requests, sends frames, and fails in the way it is told to."""

import errno
import math
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, get_args

from . import descriptors
from .controls import GET_INFO, GET_LEN, SET_CUR, Controls, Refused
from .descriptors import BULK_SIZE, ISOCHRONOUS_SIZES, Model, Size
from .usbip import Link, Packet, Request, Setup

Mode = Literal[
    "ok", "silent", "wedge", "relapse", "stuck", "truncate", "garbage", "err", "proto", "mute",
    "slow", "commit-stall", "numb",
]  # fmt: skip
"""How it behaves:

- `silent`: accepts everything, and sends no frames.
- `wedge`: the same, until a bus reset.
- `relapse`: the same, and soon after every bus reset again.
- `stuck`: no frames, and refuses to start a stream, until a bus reset.
- `truncate`: sends the first half of each picture.
- `garbage`: sends pictures whose last three quarters are no JPEG.
- `err`: marks each frame as broken. uvcvideo drops it.
- `proto`: its packets arrive broken.
- `mute`: answers no control request; the kernel waits five seconds for each.
- `slow`: answers each control request after a second.
- `commit-stall`: refuses to start a stream.
- `numb`: no frames, until it is logged off its bus; a reset does not help.
"""
MODES: tuple[Mode, ...] = get_args(Mode)

Images = Mapping[Size, Sequence[bytes]]

MARK = b"uvcemu "
"""Begins the comment in each JPEG: `uvcemu NUMBER UNIX-TIME SERIAL`."""

_COMMENT = 0xFE
_SOI_LENGTH = 2
_SILENT_MODES = ("silent", "wedge", "stuck", "mute", "numb")
_REFUSES_TO_START = ("stuck", "commit-stall")
_FRAMES_BEFORE_RELAPSE = 15
_SLOWNESS = 1.0


class Standard(IntEnum):
    """Requests of USB 2.0, table 9-4."""

    GET_STATUS = 0
    CLEAR_FEATURE = 1
    SET_FEATURE = 3
    GET_DESCRIPTOR = 6
    GET_CONFIGURATION = 8
    SET_CONFIGURATION = 9
    GET_INTERFACE = 10
    SET_INTERFACE = 11


_DEVICE, _CONFIGURATION, _STRING, _QUALIFIER = 1, 2, 3, 6
_TO_ENDPOINT = 0x02
_CLASS_OUT, _CLASS_IN = 0x21, 0xA1
_STREAMING_INTERFACE = 1
_COMMIT = 2
_ERROR_CODE = 2
_WRONG_STATE = b"\x02"
# Only a port reset asks for this many bytes of a device that is configured already.
_ASKED_AFTER_RESET = 64

_PAYLOAD_HEADER = 2
_END_OF_FRAME, _ERROR, _END_OF_HEADER = 0x02, 0x40, 0x80

_INTERVALS_PER_SECOND = 1e7  # an interval is in units of 100 ns
_PROBE_FIELDS = struct.Struct("<HBBIHHHHHII")


class Camera:
    """One camera. What it is told by its owner, it is told by these methods; the rest by USB.

    Args:
        images: JPEG pictures by size, sent in turn.
        port: Of the virtual controller.
        fps: Frames a second at most; the driver may ask for fewer.
    """

    def __init__(self, model: Model, images: Images, *, port: int, fps: float) -> None:
        self.mode: Mode = "ok"
        self.fps = fps
        self._model = model
        self._images = images
        self._port = port
        self._link: Link | None = None
        self._controls = Controls()
        self._resets = 0
        self._log_offs = 0
        self._plugs = 0
        self._frames = 0
        self._delayed: list[tuple[float, Request]] = []
        self._transfers: deque[Request] = deque()
        self._packets: deque[bytes] = deque()
        self._next_frame_at = 0.0
        self._power_on()

    # What its owner does

    @property
    def link(self) -> Link | None:
        """The cable, while it is plugged in."""
        return self._link

    def plug(self) -> None:
        """Plug it in."""
        if self._link is None:
            self._power_on()
            self._link = Link(self._port, self)
            self._plugs += 1

    def unplug(self) -> None:
        """Pull the cable."""
        if self._link:
            self._link.unplug()
            self.unplugged()

    def behave(self, mode: Mode) -> None:
        """Begin to fail, or to work again; requests left unanswered are answered now."""
        self.mode = mode
        self._frames_before_relapse = 0
        if mode != "mute":
            delayed, self._delayed = self._delayed, []
            for _, request in delayed:
                self._answer_control(request)

    def status(self) -> dict[str, Any]:
        """What it counts, and its controls."""
        return {
            "mode": self.mode,
            "plugged": self._link is not None,
            "streaming": self._streaming,
            "resets": self._resets,
            "log_offs": self._log_offs,
            "plugs": self._plugs,
            "frames": self._frames,
            **self._controls.values(),
        }

    def due_in(self, now: float) -> float:
        """Seconds until `tick` has something to do."""
        times = [at for at, _ in self._delayed]
        if self._streaming:
            times.append(self._next_frame_at)
        return max(0.0, min(times, default=math.inf) - now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for due in [entry for entry in self._delayed if entry[0] <= now]:
            self._delayed.remove(due)
            self._answer_control(due[1])
        if self._streaming and now >= self._next_frame_at:
            self._next_frame_at = max(self._next_frame_at + 1 / self._rate(), now)
            self._send_frame()

    # What the kernel does

    def submitted(self, request: Request) -> None:
        """Answer a request, now or later."""
        if request.endpoint:
            self._transfers.append(request)
            self._send_packets()
        elif self.mode == "mute":
            self._delayed.append((math.inf, request))
        elif self.mode == "slow":
            self._delayed.append((time.monotonic() + _SLOWNESS, request))
        else:
            self._answer_control(request)

    def unlinked(self, number: int) -> bool:
        """Forget a request; say whether it was still unanswered."""
        before = len(self._transfers) + len(self._delayed)
        self._transfers = deque(r for r in self._transfers if r.number != number)
        self._delayed = [entry for entry in self._delayed if entry[1].number != number]
        return len(self._transfers) + len(self._delayed) < before

    def unplugged(self) -> None:
        """Note that the link is closed."""
        self._link = None
        self._streaming = False
        self._delayed.clear()

    def _power_on(self) -> None:
        self._configured = False
        self._alternate = 0
        self._frame_id = 0
        self._streaming = False
        self._transfers.clear()
        self._packets.clear()
        self._frames_before_relapse = 0
        self._controls.power_on()
        self._probe = self._commit = self._negotiated(1, 1, 0)

    # Control requests

    def _answer_control(self, request: Request) -> None:
        if self._link is None:
            return
        try:
            data = self._response(request.setup, request.data)
        except Refused:
            self._link.answer(request, status=-errno.EPIPE)
        else:
            self._link.answer(request, data[: request.setup.length])

    def _response(self, setup: Setup, data: bytes) -> bytes:
        if setup.kind in (_CLASS_OUT, _CLASS_IN):
            return self._video_response(setup, data)
        match setup.request:
            case Standard.GET_DESCRIPTOR:
                return self._descriptor(setup)
            case Standard.GET_STATUS:
                return b"\0\0"
            case Standard.GET_CONFIGURATION:
                return bytes([self._configured])
            case Standard.GET_INTERFACE:
                return bytes([self._alternate])
            case Standard.SET_CONFIGURATION:
                self._set_configuration(setup.value)
            case Standard.SET_INTERFACE:
                self._set_interface(setup.index, setup.value)
            case Standard.CLEAR_FEATURE if setup.kind == _TO_ENDPOINT:
                self._stop()  # how uvcvideo ends a bulk stream
            case Standard.CLEAR_FEATURE | Standard.SET_FEATURE:
                pass
            case _:
                raise Refused
        return b""

    def _descriptor(self, setup: Setup) -> bytes:
        kind, index = setup.value >> 8, setup.value & 0xFF
        found = None
        if kind == _DEVICE:
            if setup.length == _ASKED_AFTER_RESET and self._configured:
                self._bus_reset()
            found = descriptors.device(self._model)
        elif kind == _CONFIGURATION:
            found = descriptors.configuration(self._model)
        elif kind == _QUALIFIER:
            found = descriptors.qualifier()
        elif kind == _STRING:
            found = descriptors.string(self._model, index)
        if found is None:
            raise Refused
        return found

    def _set_configuration(self, number: int) -> None:
        self._configured, self._alternate = bool(number), 0
        self._stop()
        if not self._configured:
            self._log_offs += 1
            if self.mode == "numb":
                self.mode = "ok"

    def _set_interface(self, interface: int, alternate: int) -> None:
        if self.mode == "stuck" and alternate:
            raise Refused
        self._alternate = alternate
        if interface == _STREAMING_INTERFACE and not self._model.bulk:
            if alternate:
                self._start()
            else:
                self._stop()

    def _video_response(self, setup: Setup, data: bytes) -> bytes:
        selector, interface, entity = setup.value >> 8, setup.index & 0xFF, setup.index >> 8
        if interface == _STREAMING_INTERFACE:
            return self._negotiate(setup.request, data, commits=selector == _COMMIT)
        if entity == 0 and selector == _ERROR_CODE:
            return _WRONG_STATE
        control = self._controls.find(entity, selector)
        if setup.request == SET_CUR:
            control.set(data)
            return b""
        return control.get(setup.request)

    def _negotiate(self, request: int, data: bytes, *, commits: bool) -> bytes:
        """Agree with the driver on format, size and rate: first probed, then committed."""
        if request == GET_LEN:
            return _PROBE_FIELDS.size.to_bytes(2, "little")
        if request == GET_INFO:
            return b"\x03"
        if request != SET_CUR:
            return self._commit if commits else self._probe
        if commits and self.mode in _REFUSES_TO_START:
            raise Refused
        _, image_format, frame, interval = struct.unpack_from("<HBBI", data)
        self._probe = self._negotiated(image_format, frame, interval)
        if commits:
            self._commit = self._probe
            if self._model.bulk:
                self._start()
        return b""

    def _negotiated(self, image_format: int, frame: int, interval: int) -> bytes:
        """What we offer that is nearest to what is asked for, as UVC's probe structure."""
        image_format = min(max(image_format, 1), len(self._model.formats))
        wanted = self._model.formats[image_format - 1]
        sizes, intervals = self._model.sizes_of(wanted), descriptors.INTERVALS[wanted]
        frame = min(max(frame, 1), len(sizes))
        width, height = sizes[frame - 1]
        biggest = BULK_SIZE if self._model.bulk else max(ISOCHRONOUS_SIZES.values())
        interval = min(intervals, key=lambda offered: abs(offered - interval))
        return _PROBE_FIELDS.pack(
            1, image_format, frame, interval, 0, 0, 0, 0, 0, width * height * 2, biggest
        )

    def _bus_reset(self) -> None:
        self._resets += 1
        self._configured, self._alternate = False, 0
        self._stop()
        if self.mode in ("wedge", "stuck"):
            self.mode = "ok"
        elif self.mode == "relapse":
            self._frames_before_relapse = _FRAMES_BEFORE_RELAPSE

    # The stream

    def _start(self) -> None:
        self._streaming = True
        self._packets.clear()
        self._next_frame_at = time.monotonic()

    def _stop(self) -> None:
        self._streaming = False
        self._packets.clear()

    def _rate(self) -> float:
        interval: int = _PROBE_FIELDS.unpack(self._commit)[3]
        return min(self.fps, _INTERVALS_PER_SECOND / interval)

    def _is_silent(self) -> bool:
        if self.mode == "relapse":
            self._frames_before_relapse -= 1
            return self._frames_before_relapse < 0
        return self.mode in _SILENT_MODES

    def _send_frame(self) -> None:
        # A frame that is not fetched in time is lost, as in any camera.
        if self._is_silent() or self._packets:
            return
        self._frames += 1
        self._frame_id ^= 1
        self._packets.extend(self._payloads(self._image()))
        self._send_packets()

    def _image(self) -> bytes:
        _, format_index, frame, *_ = _PROBE_FIELDS.unpack(self._commit)
        image_format = self._model.formats[format_index - 1]
        size: Size = self._model.sizes_of(image_format)[frame - 1]
        if image_format == "YUYV":
            # Grey, and brighter with every frame.
            width, height = size
            return bytes([self._frames & 0xFF, 128]) * (width * height)
        images = self._images[size]
        image = self._marked(images[self._frames % len(images)])
        if self.mode == "truncate":
            return image[: len(image) // 2]
        if self.mode == "garbage":
            sound = image[: len(image) // 4]
            return sound + b"\x55" * (len(image) - len(sound))
        return image

    def _marked(self, jpeg: bytes) -> bytes:
        """The picture with its number and time in it, so that nobody takes it for another."""
        text = MARK + f"{self._frames} {time.time():.6f} {self._model.serial}".encode()
        comment = struct.pack(">BBH", 0xFF, _COMMENT, len(text) + 2) + text
        return jpeg[:_SOI_LENGTH] + comment + jpeg[_SOI_LENGTH:]

    def _payloads(self, image: bytes) -> Iterator[bytes]:
        """The image in pieces, each behind UVC's payload header."""
        biggest = BULK_SIZE if self._model.bulk else ISOCHRONOUS_SIZES.get(self._alternate, 512)
        step = biggest - _PAYLOAD_HEADER
        for begin in range(0, len(image), step):
            flags = _END_OF_HEADER | self._frame_id
            flags |= _ERROR if self.mode == "err" else 0
            flags |= _END_OF_FRAME if begin + step >= len(image) else 0
            yield bytes([_PAYLOAD_HEADER, flags]) + image[begin : begin + step]

    def _send_packets(self) -> None:
        """Answer as many of the driver's transfers as there is something to send for."""
        while self._packets and self._transfers and self._link:
            transfer = self._transfers.popleft()
            if transfer.packets:
                self._send_isochronous(self._link, transfer)
            else:
                piece = self._packets.popleft()[: transfer.length]
                broken = self.mode == "proto"
                self._link.answer(
                    transfer, b"" if broken else piece, status=-errno.EPROTO if broken else 0
                )

    def _send_isochronous(self, link: Link, transfer: Request) -> None:
        sent, pieces = [], []
        for packet in transfer.packets:
            piece = self._packets.popleft()[: packet.length] if self._packets else b""
            if piece and self.mode == "proto":
                sent.append(Packet(packet.offset, packet.length, 0, -errno.EPROTO))
            else:
                sent.append(Packet(packet.offset, packet.length, len(piece)))
                pieces.append(piece)
        link.answer(transfer, b"".join(pieces), packets=sent)
