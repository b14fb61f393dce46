"""The heads of requests that mjpg-streamer understands and aiohttp refuses, put right.

Programs were written against mjpg-streamer, which reads little of a request: lines that end in LF
alone or in LF CR, HTTP/1.1 without Host, no version at all, a NUL behind the end. aiohttp refuses
them. What is wrong is mended here, before aiohttp reads it.

Nothing can be smuggled past a proxy by that. Only GET and HEAD without a body are mended. A mended
request is the last one of its connection: whatever follows it is dropped, as it is behind others
that are the last, so that a proxy which sees the end of a request elsewhere still gets one answer
to one request. What could be read in two ways (a CR in a line, a folded line, a NUL inside, two
lengths) is handed on as it came, and refused.
"""

import re

_MAX_HEAD = 64 * 2**10
"""Longest head in bytes that is held until it is whole. aiohttp judges longer ones as they come."""

# What may stand before a request: an end of line too many, or the NUL that ends a string in C.
_BLANKS = re.compile(rb"[\0\r\n]+")
_METHODS = (b"GET ", b"HEAD ")
_CLEAN = re.compile(
    rb"(?:GET|HEAD) (?:/|https?://)[!-~]* HTTP/1\.([01])\r\n(?:[^\0\r\n]+\r\n)*\r\n"
)
_END = re.compile(rb"\n\r?\n")
_VERSION = re.compile(rb"http/?[0-9.]*", re.IGNORECASE)
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_BARE_CR = re.compile(rb"(?<!\n)\r[^\n]")
_ABSOLUTE = re.compile(rb"/|[a-z]+://", re.IGNORECASE)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")


class Mender:
    """Takes the bytes of one connection as they come, and hands them on with their heads mended.

    From the first request on that is not a GET or HEAD without a body, and from the first that
    cannot be mended, all bytes are handed on as they come.
    """

    __slots__ = ("_held", "_is_over", "_line_end", "_passes", "_searched")

    def __init__(self) -> None:
        self._held = bytearray()  # of a head that is not whole yet
        self._line_end = 0  # where its first line ends; 0: not come yet
        self._searched = 0  # up to where `_held` was searched for the end
        self._passes = False
        self._is_over = False

    @property
    def is_inside_a_head(self) -> bool:
        """Whether a head has begun and not ended yet."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; return what to hand on: heads, and by itself what was left as it is.

        By itself, since aiohttp forgets what came in one piece with something that it refuses.
        """
        if self._passes:
            return [data]
        if self._is_over:
            return []
        if not self._held and _is_clean(data):  # nearly always
            self._is_over = _is_last(data)
            return [data]
        self._held += data
        heads = b"".join(iter(self._next, b""))
        return [piece for piece in (heads, self._rest()) if piece]

    def _next(self) -> bytes:
        """The next head to hand on; empty if there is none, or none yet."""
        if self._is_over:
            self._held.clear()
            return b""
        if blanks := _BLANKS.match(self._held):
            del self._held[: blanks.end()]
        if not _may_be_mended(self._held):
            self._passes = True
            return b""
        searched = self._searched
        head = self._head()
        if not head:
            self._passes = bool(
                len(self._held) > _MAX_HEAD or _BARE_CR.search(self._held, searched)
            )
            return b""
        mended = head if _is_clean(head) else _mended(head)
        if not mended:
            self._passes = True
            return b""
        del self._held[: len(head)]
        self._line_end = self._searched = 0
        self._is_over = mended is not head or _is_last(head)
        return mended

    def _head(self) -> bytes:
        """The head that has begun; empty while it is not whole."""
        if not self._line_end:
            self._line_end = self._held.find(b"\n", self._searched) + 1
            if self._line_end and _has_no_version(line := self._held[: self._line_end]):
                return bytes(line) + b"\n"  # as in HTTP/0.9: nothing else belongs to it
        end = _END.search(self._held, max(self._line_end - 1, self._searched))
        # The last two bytes may be the beginning of an end.
        self._searched = max(0, len(self._held) - 2)
        return bytes(self._held[: end.end()]) if end else b""

    def _rest(self) -> bytes:
        """What is held, if it is to be handed on as it is."""
        if not self._passes:
            return b""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _may_be_mended(beginning: bytearray) -> bool:
    return any(beginning.startswith(method[: len(beginning)]) for method in _METHODS)


def _has_no_version(line: bytearray) -> bool:
    return not _VERSION.fullmatch(line.split()[-1])


def _is_clean(head: bytes) -> bool:
    """Whether this is one whole head that aiohttp takes, with nothing behind it."""
    clean = _CLEAN.fullmatch(head)
    if not clean:
        return False
    lower = head.lower()
    return (clean[1] == b"0" or b"\nhost:" in lower) and not _may_have_a_body(lower)


def _may_have_a_body(lower: bytes) -> bool:
    """Whether something else than the next request may follow a head in small letters.

    It does not matter where these words stand: such a head is not mended, that is all. (But
    browsers send Upgrade-Insecure-Requests, which means something else.)
    """
    return b"content-length" in lower or b"transfer-encoding" in lower or b"\nupgrade:" in lower


def _is_last(head: bytes) -> bool:
    """Whether aiohttp certainly ends the connection behind this request."""
    lower = head.lower()
    is_kept = b" http/1.1\r\n" in lower or b"keep-alive" in lower  # perhaps
    return not is_kept or b"\nconnection: close\r\n" in lower


def _mended(head: bytes) -> bytes:
    """A head that asks for the same in HTTP/1.0; empty if it could be read in two ways."""
    if _may_have_a_body(head.lower()):
        return b""
    # The CR should be before the LF; some write it behind.
    line, *fields = [
        line.removeprefix(b"\r").removesuffix(b"\r") for line in head.split(b"\n")[:-2]
    ]
    method, *words = line.split()
    if words and _VERSION.fullmatch(words[-1]):
        words.pop()
    if not words or _CONTROL.search(line) or not all(map(_FIELD.fullmatch, fields)):
        return b""
    target = _NOT_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), b"%20".join(words))
    if not _ABSOLUTE.match(target):
        target = b"/" + target
    # Without any wish to keep the connection, an HTTP/1.0 request is its last.
    kept = [field for field in fields if not field.lower().startswith(b"connection:")]
    return b"\r\n".join([b"%b %b HTTP/1.0" % (method, target), *kept, b"", b""])
