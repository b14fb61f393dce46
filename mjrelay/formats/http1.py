"""Read cameras' HTTP answers, as forgiving as a browser and more.

No I/O here: bytes in, a head and body bytes out. Each leniency answers a camera seen in the field;
docs/explanation/framing.md lists them. What was forgiven is counted in the `Tally`.
"""

import math
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from mjrelay.errors import FramingError, Tally
from mjrelay.formats.jpeg import SOI

# Some cameras send heads longer than the 8190 bytes that aiohttp takes; eight times that is none.
_MAX_HEAD = 64 * 2**10
# This much of the words behind the status code is kept; a camera can send any amount.
_MAX_PHRASE = 200
# What is no HTTP shows within its first bytes.
_MAX_START = 64
# A little gzip can become a lot of body, and a few bytes many chunks. So at most this many pieces
# of at most this size are unpacked at once: 256 KiB, a millisecond's work.
_MAX_PIECES = 16
_MAX_PIECE = 16 * 2**10
# A chunk's size line is shorter than this.
_MAX_SIZE_LINE = 256

_STATUS_LINE = re.compile(
    r"\s*((?:HTTP|RTSP)(?:/\d(?:\.\d)?)?|ICY)\s+(\d{3})(?:\s+(.*))?$", re.IGNORECASE
)
_HEADER = re.compile(r"([^\s:\x00]+)[ \t]*:[ \t]*(.*)$", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,15}")
_SIZE_LINE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,16})[ \t]*(?:;[^\n]*)?\r*\n")
_SIZE_LINE_BEGUN = re.compile(rb"[ \t]*[0-9a-fA-F]{0,16}[ \t]*(?:;[^\n]*)?\r*\Z")
_LINE_ENDS = re.compile(rb"[\r\n]*")

# What a body begins with when a camera sends no head, or no blank line after it.
_BODY_STARTS = (b"--", SOI)
_HEADLESS_STARTS = (*_BODY_STARTS, b"<", b"{")

TakeBody = Callable[[bytes | memoryview], None]
"""Given the next bytes of a body; a view is valid only meanwhile."""


@dataclass
class ResponseHead:
    """The head of an answer.

    Attributes:
        status: The status code; 200 where the camera sent none.
        phrase: The words behind it, often empty.
        headers: Names in lower case, values as sent, in order.
        protocol: What it answers as, in capitals: "HTTP/1.1", "ICY"; empty where it does not say.
    """

    status: int = 200
    phrase: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    protocol: str = ""

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str:
        """The first value of a header, or an empty string."""
        return next(iter(self.all(name)), "")

    @property
    def is_success(self) -> bool:
        """Whether the status promises what was asked for."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, section 15.3

    @property
    def media_type(self) -> str:
        """The content type with its parameters; of several, the multipart one."""
        types = self.all("content-type")
        return next((t for t in types if t.lower().startswith("multipart/")), "".join(types[:1]))

    @property
    def is_multipart(self) -> bool:
        """Whether the answer calls itself a multipart stream, of whatever subtype."""
        return self.media_type.lower().startswith("multipart/")

    @property
    def length(self) -> int | None:
        """The promised length of a body that is no stream, or None without a plausible one."""
        if self.is_multipart:
            return None  # cameras send 0, -1 or 9999999 with endless streams
        values = (value.strip() for value in self.all("content-length"))
        lengths = (int(value) for value in values if _LENGTH.fullmatch(value))
        return next(filter(None, lengths), None)


class ResponseReader:
    """Reads one answer: give it bytes with `read_head` until there is a head, then with `feed`.

    Args:
        tally: Where to count what had to be tolerated.

    Attributes:
        tally: The same.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        self.head: ResponseHead | None = None
        """The answer's head, once it is there."""
        self.decodes = False
        """The body's bytes differ from those that come."""
        self.complete = False
        """All the bytes that were promised have arrived."""
        self.start = b""
        """The first bytes of the answer, a few at most: they tell what is no HTTP."""
        self.tally = tally or Tally()
        self._pending = bytearray()
        self._partial = ResponseHead()
        self._headless = True
        self._head_size = 0
        self._searched = 0  # the pending bytes hold no line end before this
        self._received = 0
        self._length = math.inf
        self._chunks: _Chunks | None = None
        self._inflater: _Inflater | None = None

    def read_head(self, data: bytes) -> ResponseHead | None:
        """Take the next bytes of the head; bytes of the body that come along wait for `feed`.

        Returns:
            The head; None while more bytes are needed.

        Raises:
            FramingError: The head does not end.
        """
        self.start += data[: _MAX_START - len(self.start)]
        self._pending += data
        pending = self._pending
        while True:
            if len(pending) < len(SOI) and pending != b"\n":
                return None
            starts = _HEADLESS_STARTS if self._headless else _BODY_STARTS
            if pending.startswith(starts):
                self._tolerate("no status line" if self._headless else "no blank line after head")
                return self._begin_body()
            end = pending.find(b"\n", self._searched)
            self._searched = len(pending) if end < 0 else 0
            if self._head_size + max(end, self._searched) > _MAX_HEAD:
                raise FramingError("the header of the answer does not end")
            if end < 0:
                return None
            line = bytes(pending[:end]).rstrip(b"\r")
            del pending[: end + 1]
            self._head_size += end + 1
            if line:
                self._read_line(line.decode("latin-1"))
            elif self._headless:
                self._tolerate("blank line before the answer")
            elif 100 <= self._partial.status < 200:  # noqa: PLR2004 - "continue": the head follows
                self._partial = ResponseHead()
                self._headless = True
            else:
                return self._begin_body()

    def _read_line(self, line: str) -> None:
        head = self._partial
        line = line.replace("\0", "")
        if match := _STATUS_LINE.match(line):
            head.status, head.phrase = int(match[2]), (match[3] or "").strip()[:_MAX_PHRASE]
            head.protocol = match[1].upper()
            self._headless = False
            if not head.protocol.startswith("HTTP/1."):
                self._tolerate(f"answers as {match[1]}")
        elif line.startswith((" ", "\t")) and head.headers:
            name, value = head.headers[-1]
            head.headers[-1] = (name, f"{value} {line.strip()}")
        elif match := _HEADER.match(line):
            if self._headless:
                self._tolerate("no status line")
            self._headless = False
            head.headers.append((match[1].lower(), match[2].strip()))
        else:
            self._tolerate("header line that is none")

    def _begin_body(self) -> ResponseHead:
        head = self.head = self._partial
        self._length = head.length or math.inf
        if "chunked" in head.get("transfer-encoding").lower():
            self._chunks = _Chunks(self.tally)
        if any(word in head.get("content-encoding").lower() for word in ("gzip", "deflate")):
            self._inflater = _Inflater(self.tally)
        self.decodes = bool(self._chunks or self._inflater)
        return head

    def feed(self, data: bytes | memoryview, take: TakeBody) -> bool:
        """Take the next bytes, and hand the body bytes they hold to `take`, decoded.

        What needs no decoding is handed on as it came, without a copy.

        Returns:
            Whether some bytes are still to be decoded, since that takes longer than should be done
            at once: let others have a turn, then feed it nothing.

        Raises:
            FramingError: The body is broken gzip.
        """
        if self.decodes:
            self._pending += data
            return self._decode(take)
        if self._pending:  # came with the head
            data = bytes(self._pending) + data
            self._pending.clear()
        self._received += len(data)
        self.complete = self._received >= self._length
        if data:
            take(data)
        return False

    def _decode(self, take: TakeBody) -> bool:
        """Decode some of the pending bytes. True: there are more."""
        inflater = self._inflater
        for _ in range(_MAX_PIECES):
            coded = (inflater and inflater.rest) or self._next_piece()
            if not coded:
                return False
            if piece := inflater.inflate(coded) if inflater else coded:
                take(piece)
        return True

    def _next_piece(self) -> bytes:
        """Take the next pending bytes, without chunks' size lines; empty for none."""
        pending = self._pending
        most = _MAX_PIECE if self._inflater else len(pending)
        piece = self._chunks.take(pending, most) if self._chunks else _taken(pending, most)
        self._received += len(piece)
        has_all_chunks = self._chunks is not None and self._chunks.ended
        self.complete = has_all_chunks or self._received >= self._length
        return piece

    def _tolerate(self, quirk: str) -> None:
        self.tally.tolerated[quirk] += 1


class _Chunks:
    """Takes the chunked coding off a body. One that is chunked in name only passes unchanged."""

    def __init__(self, tally: Tally) -> None:
        self.ended = False
        self._tally = tally
        self._left = 0
        self._first = True

    def take(self, pending: bytearray, most: int) -> bytes:
        """Take the next bytes of a chunk, up to so many; empty when more bytes are needed."""
        while not self._left and not self.ended:
            if not self._read_size(pending):
                return b""
        if self.ended:
            pending.clear()
        piece = _taken(pending, min(self._left, most))
        self._left -= len(piece)
        return piece

    def _read_size(self, pending: bytearray) -> bool:
        """Take a chunk's size line. False: more bytes are needed."""
        if not self._first and (line_ends := _LINE_ENDS.match(pending)):
            del pending[: line_ends.end()]  # behind the chunk before
        if match := _SIZE_LINE.match(pending, 0, _MAX_SIZE_LINE):
            self._first = False
            self._left = int(match[1], 16)
            self.ended = self._left == 0
            del pending[: match.end()]
            return True
        if len(pending) < _MAX_SIZE_LINE and _SIZE_LINE_BEGUN.match(pending):
            return False
        self._left = sys.maxsize  # all that comes is one chunk
        self._tally.tolerated["chunked in name only"] += 1
        return True


class _Inflater:
    """Takes gzip or deflate off a body. One that is compressed in name only passes unchanged.

    Attributes:
        rest: Bytes that are still to be inflated, before any others.
    """

    def __init__(self, tally: Tally) -> None:
        self.rest = b""
        self._tally = tally
        self._start = b""
        self._stream: zlib._Decompress | None = None
        self._is_plain = False

    def inflate(self, data: bytes) -> bytes:
        """Unpack some bytes, at least the first; those that are left are the new `rest`."""
        if not self._stream and not self._is_plain:
            data = self._start + data
            if len(data) < 2:  # noqa: PLR2004 - both magic numbers have two bytes
                self._start = data
                return b""
            self._choose(data)
        if not self._stream:
            return data
        if self._stream.eof:
            return b""
        try:
            piece = self._stream.decompress(data, _MAX_PIECE)
        except zlib.error as error:
            raise FramingError(f"the compressed body is broken: {error}") from error
        self.rest = self._stream.unconsumed_tail
        return piece

    def _choose(self, data: bytes) -> None:
        """Tell gzip, zlib, bare deflate and no compression apart by the first bytes."""
        self._is_plain = data.startswith((*_BODY_STARTS, b"\r", b"\n"))
        if self._is_plain:
            self._tally.tolerated["compressed in name only"] += 1
            return
        self._tally.tolerated["compressed though not asked for"] += 1
        first, second = data[0], data[1]
        zlib_header = first & 0x0F == zlib.DEFLATED and (first << 8 | second) % 31 == 0
        known = zlib_header or data.startswith(b"\x1f\x8b")
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32 if known else -zlib.MAX_WBITS)


def _taken(pending: bytearray, count: int) -> bytes:
    """Take up to so many bytes off the beginning."""
    piece = bytes(pending[:count])
    del pending[:count]
    return piece
