"""Read cameras' HTTP answers, as forgiving as a browser and more.

No I/O here: bytes in, a head and body bytes out. Each leniency answers a camera seen in the field;
docs/explanation/framing.md lists them. What was forgiven is counted in the `Tally`.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mjrelay.errors import FramingError, Tally
from mjrelay.formats.jpeg import SOI

# aiohttp's 8190 bytes refuse real cameras; a head eight times as long is none.
_MAX_HEAD = 64 * 2**10
# Words for people; a camera can send any amount.
_MAX_PHRASE = 200
# A little gzip can become a lot of body: hand it on in pieces of this size.
_MAX_PIECE = 256 * 2**10
# Of a chunk's size line.
_MAX_SIZE_LINE = 256

_STATUS_LINE = re.compile(r"\s*(HTTP(?:/\d(?:\.\d)?)?|ICY)\s+(\d{3})(?:\s+(.*))?$", re.IGNORECASE)
_HEADER = re.compile(r"([^\s:\x00]+)[ \t]*:[ \t]*(.*)$", re.DOTALL)
_LENGTH = re.compile(r"[0-9]{1,15}")
_SIZE_LINE = re.compile(rb"[ \t]*([0-9a-fA-F]{1,16})[ \t]*(?:;[^\n]*)?\r*\n")
_SIZE_LINE_BEGUN = re.compile(rb"[ \t]*[0-9a-fA-F]{0,16}[ \t]*(?:;[^\n]*)?\r*\Z")

# What a body begins with when a camera sends no head, or no blank line after it.
_BODY_STARTS = (b"--", SOI)
_HEADLESS_STARTS = (*_BODY_STARTS, b"<", b"{")


@dataclass
class ResponseHead:
    """The head of an answer.

    Attributes:
        status: The status code; 200 where the camera sent none.
        phrase: The words behind it, often empty.
        headers: Names in lower case, values as sent, in order.
    """

    status: int = 200
    phrase: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

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
    """Reads one answer: feed it bytes, take `head` once it is there, and the body's pieces.

    Args:
        tally: Where to count what had to be tolerated.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        self.head: ResponseHead | None = None
        self.ended = False
        """The body has ended by its own chunks."""
        self.decodes = False
        """The body's bytes differ from those that come."""
        self._tally = tally or Tally()
        self._pending = bytearray()
        self._partial = ResponseHead()
        self._headless = True
        self._head_size = 0
        self._searched = 0  # the pending bytes hold no line end before this
        self._received = 0
        self._length: int | None = None
        self._chunks: _Chunks | None = None
        self._inflater: _Inflater | None = None

    @property
    def complete(self) -> bool:
        """All the bytes that were promised have arrived."""
        return self.ended or (self._length is not None and self._received >= self._length)

    def feed(self, data: bytes | memoryview) -> Iterable[bytes | memoryview]:
        """Take the next bytes; return the body bytes they hold, decoded, in bounded pieces.

        What is not decoded is returned as it came, without a copy.

        Raises:
            FramingError: The head does not end, or, from the iterator, the body is broken gzip.
        """
        if self.head is None:
            self._pending += data
            if not self._read_head():
                return ()
            data = bytes(self._pending)
            self._pending.clear()
        if self.decodes:
            return self._decode(data)
        self._received += len(data)
        return (data,) if data else ()

    def _decode(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        chunks = self._chunks
        for piece in chunks.feed(data) if chunks else (data,):
            self._received += len(piece)
            if self._inflater:
                yield from self._inflater.feed(piece)
            elif piece:
                yield piece
        self.ended = chunks is not None and chunks.ended

    def _read_head(self) -> bool:
        """Read whole lines up to the body. False: more bytes are needed."""
        pending = self._pending
        while True:
            if len(pending) < len(SOI) and pending != b"\n":
                return False
            starts = _HEADLESS_STARTS if self._headless else _BODY_STARTS
            if pending.startswith(starts):
                self._tolerate("no status line" if self._headless else "no blank line after head")
                return self._begin_body()
            end = pending.find(b"\n", self._searched)
            self._searched = len(pending) if end < 0 else 0
            if self._head_size + max(end, self._searched) > _MAX_HEAD:
                raise FramingError("the header of the answer does not end")
            if end < 0:
                return False
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
        line = line.replace("\0", "") or "\0"
        if match := _STATUS_LINE.match(line):
            head.status, head.phrase = int(match[2]), (match[3] or "").strip()[:_MAX_PHRASE]
            self._headless = False
            if not match[1].upper().startswith("HTTP/1."):
                self._tolerate(f"answers as {match[1]}")
        elif line[0] in " \t" and head.headers:
            name, value = head.headers[-1]
            head.headers[-1] = (name, f"{value} {line.strip()}")
        elif match := _HEADER.match(line):
            if self._headless:
                self._tolerate("no status line")
            self._headless = False
            head.headers.append((match[1].lower(), match[2].strip()))
        else:
            self._tolerate("header line that is none")

    def _begin_body(self) -> bool:
        head = self.head = self._partial
        self._length = head.length
        if "chunked" in head.get("transfer-encoding").lower():
            self._chunks = _Chunks(self._tally)
        if any(word in head.get("content-encoding").lower() for word in ("gzip", "deflate")):
            self._inflater = _Inflater(self._tally)
        self.decodes = bool(self._chunks or self._inflater)
        return True

    def _tolerate(self, quirk: str) -> None:
        self._tally.tolerated[quirk] += 1


class _Chunks:
    """Takes the chunked coding off a body; passes on as it is what is chunked in name only."""

    def __init__(self, tally: Tally) -> None:
        self.ended = False
        self._tally = tally
        self._pending = bytearray()
        self._left = 0
        self._first = True
        self._raw = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self.ended:
            return
        self._pending += data
        while self._pending and not self.ended:
            if self._raw or self._left:
                taken = len(self._pending) if self._raw else min(self._left, len(self._pending))
                piece = bytes(self._pending[:taken])
                del self._pending[:taken]
                self._left = 0 if self._raw else self._left - taken
                yield piece
            elif not self._read_size():
                return

    def _read_size(self) -> bool:
        """Read a chunk's size line. False: more bytes are needed."""
        if not self._first and self._pending[0] in b"\r\n":
            del self._pending[:1]  # the line end after the chunk before
            return True
        if match := _SIZE_LINE.match(self._pending, 0, _MAX_SIZE_LINE):
            self._first = False
            self._left = int(match[1], 16)
            self.ended = self._left == 0
            del self._pending[: len(self._pending) if self.ended else match.end()]
            return True
        if len(self._pending) < _MAX_SIZE_LINE and _SIZE_LINE_BEGUN.match(self._pending):
            return False
        self._raw = True
        self._tally.tolerated["chunked in name only"] += 1
        return True


class _Inflater:
    """Takes gzip or deflate off a body; passes on as it is what is compressed in name only."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._start = b""
        self._decode: Callable[[bytes], Iterator[bytes]] | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        data = bytes(data)
        if self._decode is None:
            data = self._start + data
            if len(data) < 2:  # noqa: PLR2004 - both magic numbers have two bytes
                self._start = data
                return
            self._decode = self._choose(data)
        yield from self._decode(data)

    def _choose(self, data: bytes) -> Callable[[bytes], Iterator[bytes]]:
        """Tell gzip, zlib, bare deflate and no compression apart by the first bytes."""
        if data.startswith((*_BODY_STARTS, b"\r", b"\n")):
            self._tally.tolerated["compressed in name only"] += 1
            return lambda data: iter((data,))
        self._tally.tolerated["compressed though not asked for"] += 1
        first, second = data[0], data[1]
        zlib_header = first & 0x0F == zlib.DEFLATED and (first << 8 | second) % 31 == 0
        known = zlib_header or data.startswith(b"\x1f\x8b")
        wbits = zlib.MAX_WBITS | 32 if known else -zlib.MAX_WBITS
        inflater = zlib.decompressobj(wbits)

        def inflate(data: bytes) -> Iterator[bytes]:
            try:
                while data and not inflater.eof:
                    if piece := inflater.decompress(data, _MAX_PIECE):
                        yield piece
                    data = inflater.unconsumed_tail
            except zlib.error as error:
                raise FramingError(f"the compressed body is broken: {error}") from error

        return inflate
