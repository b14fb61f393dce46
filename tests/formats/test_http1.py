"""ResponseReader reads any answer in bounded memory, or says it is none."""

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.errors import FramingError, Tally
from mjrelay.formats.http1 import ResponseHead, ResponseReader
from tests.support.quirks import chunked

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
BODY = bytes(range(256)) * 20


def feed(reader: ResponseReader, data: bytes, sink: Callable[[bytes | memoryview], None]) -> None:
    """Give a reader the next bytes of an answer, and all the time it needs to decode them."""
    if reader.head is None:
        reader.read_head(data)
        data = b""
    if reader.head:
        while reader.feed(data, sink):
            data = b""


def read(pieces: Iterable[bytes], reader: ResponseReader | None = None) -> bytes:
    """Return the body an answer holds."""
    reader = reader or ResponseReader()
    body: list[bytes | memoryview] = []
    for piece in pieces:
        feed(reader, piece, body.append)
    return b"".join(body)


def head_of(answer: bytes) -> ResponseHead:
    head = ResponseReader().read_head(answer)
    assert head
    return head


def single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


# The head


@pytest.mark.parametrize(
    ("line", "status", "phrase"),
    [
        (b"HTTP/1.1 200 OK", 200, "OK"),
        (b"HTTP/1.0 404 Not Found", 404, "Not Found"),
        (b"HTTP/1.1 401", 401, ""),
        (b"HTTP/1.1 401 ", 401, ""),
        (b"HTTP/1.1   503   Busy ", 503, "Busy"),
        (b"http/1.1 200 ok", 200, "ok"),
        (b"HTTP/2 200", 200, ""),
        (b"HTTP 200 OK", 200, "OK"),
        (b"ICY 200 OK", 200, "OK"),
        (b" HTTP/1.1 200 OK", 200, "OK"),
        (b"HTTP/1.1 500 Caf\xe9", 500, "Café"),
    ],
)
def test_a_status_line_has_a_code_and_a_phrase(line: bytes, status: int, phrase: str) -> None:
    head = head_of(line + b"\r\nServer: camera\r\n\r\n")
    assert (head.status, head.phrase) == (status, phrase)


@pytest.mark.parametrize("line", [b"HTTP/1.1 20 OK", b"HTTP/1.1 OK", b"SIP/2.0 404 No"])
def test_what_is_no_status_line_counts_as_success(line: bytes) -> None:
    assert head_of(line + b"\r\nServer: camera\r\n\r\n").status == 200


@pytest.mark.parametrize("line", [b"\0\r\n", b"\0\n", b"\0\0\r\n"])
def test_a_line_of_nothing_but_nul_is_forgiven(line: bytes) -> None:
    assert head_of(b"HTTP/1.1 200 OK\r\n" + line + b"Server: A\r\n\r\n").status == 200
    assert head_of(line + b"HTTP/1.1 404 No\r\nServer: A\r\n\r\n").status == 404


def test_header_names_are_in_lower_case_and_values_as_sent() -> None:
    head = head_of(b"HTTP/1.1 200 OK\r\nServer: A\r\nSET-COOKIE:b=C \r\nset-cookie: d\r\n\r\n")
    assert head.headers == [("server", "A"), ("set-cookie", "b=C"), ("set-cookie", "d")]
    assert head.all("set-cookie") == ["b=C", "d"]
    assert head.get("set-cookie") == "b=C"
    assert head.get("location") == ""


@pytest.mark.parametrize("eol", [b"\r\n", b"\n", b"\r\r\n"])
def test_the_head_is_there_with_its_last_line(eol: bytes) -> None:
    reader = ResponseReader()
    read([b"HTTP/1.0 401 Unauthorized" + eol + eol], reader)
    assert reader.head
    assert reader.head.status == 401


def test_an_unfinished_head_is_no_head() -> None:
    reader = ResponseReader()
    assert read([b"HTTP/1.1 200 OK\r\nServer: cam"], reader) == b""
    assert reader.head is None
    assert not reader.complete


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints\r\nA: b"])
def test_an_interim_answer_is_passed_over(interim: bytes) -> None:
    head = head_of((interim + b"\r\n\r\n") * 2 + b"HTTP/1.1 200 OK\r\nServer: camera\r\n\r\n")
    assert head.status == 200
    assert head.headers == [("server", "camera")]


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"x" * 8192, id="a line"),
        pytest.param(b"A: b\r\n" * 1000, id="headers"),
        pytest.param(b"A: " + b"b" * 60_000 + b"\r\n", id="long headers"),
        pytest.param(b" " + b"x" * 8192 + b"\r\n", id="folded lines"),
        pytest.param(b"no header " * 100 + b"\r\n", id="lines that are no headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" * 100, id="status lines"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, id="interim answers"),
    ],
)
def test_a_head_without_end_is_given_up_within_a_megabyte(endless: bytes) -> None:
    pieces = itertools.repeat(endless, 2**20 // len(endless))
    with pytest.raises(FramingError, match="header of the answer does not end"):
        read([b"HTTP/1.1 200 OK\r\nServer: camera\r\n", *pieces])


def test_blank_lines_without_end_are_no_head() -> None:
    with pytest.raises(FramingError, match="header of the answer does not end"):
        read([b"\r\n" * 2**19])


# Lengths


@pytest.mark.parametrize(
    ("values", "length"),
    [
        (["12"], 12),
        ([" 12 "], 12),
        (["0"], None),
        (["-1"], None),
        (["twelve"], None),
        (["0", "12"], 12),
        ([], None),
        (["9" * 30], None),
    ],
)
def test_a_length_is_believed_when_it_can_be_one(values: list[str], length: int | None) -> None:
    head = ResponseHead(headers=[("content-length", value) for value in values])
    assert head.length == length


def test_a_length_of_thousands_of_digits_is_none() -> None:
    assert ResponseHead(headers=[("content-length", "9" * 5000)]).length is None


def test_an_answer_that_promises_thousands_of_digits_is_never_complete() -> None:
    reader = ResponseReader()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000
    assert read([head + b"\r\n\r\nbody"], reader) == b"body"
    assert not reader.complete


def test_the_length_of_a_stream_is_not_believed() -> None:
    types = [("content-type", "multipart/x-mixed-replace"), ("content-length", "9999999")]
    assert ResponseHead(headers=types).length is None


def test_of_two_types_the_multipart_one_counts() -> None:
    head = ResponseHead(headers=[("content-type", "text/html"), ("content-type", "Multipart/x")])
    assert head.media_type == "Multipart/x"
    assert head.is_multipart


# Completeness


def test_an_answer_is_complete_with_its_last_promised_byte() -> None:
    reader = ResponseReader()
    read([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbod"], reader)
    assert not reader.complete
    read([b"y"], reader)
    assert reader.complete


def test_an_answer_that_promised_nothing_is_never_complete() -> None:
    reader = ResponseReader()
    assert read([b"HTTP/1.1 200 OK\r\nServer: camera\r\n\r\n", BODY], reader) == BODY
    assert not reader.complete


def test_the_length_of_a_compressed_answer_is_that_on_the_wire() -> None:
    wire = gzip.compress(BODY)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    reader = ResponseReader()
    assert read([head % len(wire), wire], reader) == BODY
    assert reader.complete


def test_chunks_are_complete_with_the_last_one() -> None:
    reader = ResponseReader()
    wire = CHUNKED + chunked(BODY)
    read([wire[:-5]], reader)
    assert not reader.complete
    read([wire[-5:]], reader)
    assert reader.complete


# Chunks


@pytest.mark.parametrize("size", [1, 15, 16, 701, 10_000])
def test_chunks_may_arrive_byte_by_byte(size: int) -> None:
    assert read(single_bytes(CHUNKED + chunked(BODY, size))) == BODY


def test_chunks_may_be_torn_anywhere() -> None:
    wire = CHUNKED + chunked(BODY[:600], 300)
    for at in range(len(wire)):
        assert read([wire[:at], wire[at:]]) == BODY[:600]


@pytest.mark.parametrize(
    "wire",
    [
        b"4\r\nbody\r\n0\r\n\r\n",
        b"4\nbody\n0\n\n",
        b"0004\r\nbody\r\n0\r\n\r\n",
        b" 4 \r\nbody\r\n0\r\n\r\n",
        b"4;name=value\r\nbody\r\n0;last\r\n\r\n",
        b"1\r\nb1\r\no2\r\ndy0\r\n\r\n",
        b"4\r\nbody\r\n0\r\nX-Trailer: yes\r\nX-Other: no\r\n\r\n",
        b"4\r\nbody\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_chunks_are_written_in_many_ways(wire: bytes) -> None:
    assert read([CHUNKED + wire]) == b"body"
    assert read(single_bytes(CHUNKED + wire)) == b"body"


def test_a_long_chunk_extension_reads_the_same_however_it_arrives() -> None:
    wire = CHUNKED + b"4;" + b"x" * 300 + b"\r\nbody\r\n0\r\n\r\n"
    assert read(single_bytes(wire)) == read([wire])


@pytest.mark.parametrize("size", [b"f" * 17, b"-4", b"zz", b"0x4"])
def test_what_is_no_chunk_size_is_body(size: bytes) -> None:
    tally = Tally()
    wire = size + b"\r\nbody"
    assert read([CHUNKED + wire], ResponseReader(tally)) == wire
    assert tally.tolerated == {"chunked in name only": 1}


def test_an_enormous_chunk_is_passed_on_as_it_comes() -> None:
    reader = ResponseReader()
    assert read([CHUNKED + b"ffffffffffffffff\r\n", BODY], reader) == BODY
    assert not reader._pending


def test_what_follows_the_last_chunk_is_not_kept() -> None:
    reader = ResponseReader()
    assert read([CHUNKED + chunked(BODY), *[bytes(10_000)] * 100], reader) == BODY
    assert len(reader._pending) < 20_000


# Compression


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(gzip.compress(BODY), id="gzip"),
        pytest.param(zlib.compress(BODY), id="zlib"),
        pytest.param(zlib.compress(BODY, wbits=-15), id="bare deflate"),
    ],
)
@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"x-gzip"])
def test_a_compressed_body_is_inflated_whatever_it_is_called(wire: bytes, coding: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\n\r\n" % coding
    assert read(single_bytes(head + wire)) == BODY


def test_chunks_come_off_before_compression() -> None:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    assert read(single_bytes(head + chunked(gzip.compress(BODY)))) == BODY


@pytest.mark.parametrize("body", [b"--frame\r\n", b"\xff\xd8\xff\xe0", b"\r\n--frame"])
def test_what_is_compressed_in_name_only_is_passed_on(body: bytes) -> None:
    assert read(single_bytes(GZIPPED + body)) == body


def test_a_compression_bomb_is_passed_on_in_bounded_pieces() -> None:
    wire = gzip.compress(bytes(50 * 2**20))
    reader = ResponseReader()
    assert reader.read_head(GZIPPED + wire)
    pieces: list[int] = []
    turns: list[int] = []
    tracemalloc.start()
    try:
        while reader.feed(b"", lambda piece: pieces.append(len(piece))):
            turns.append(sum(pieces))
            pieces.clear()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(turns) + sum(pieces) == 50 * 2**20
    assert max(turns) <= 256 * 2**10
    assert most < 2**20


def test_a_swarm_of_tiny_chunks_is_passed_on_some_at_a_time() -> None:
    reader = ResponseReader()
    assert reader.read_head(CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
    body: list[bytes | memoryview] = []
    turns = 0
    while reader.feed(b"", body.append):
        turns += 1
        assert len(body) <= 16 * turns
    assert b"".join(body) == b"x" * 1000
    assert reader.complete


def test_line_ends_without_end_behind_a_chunk_are_passed_over_at_once() -> None:
    assert read([CHUNKED + b"1\r\nx" + b"\r\n" * 2**19 + b"1\r\ny"]) == b"xy"


def test_a_compressed_body_cut_short_yields_what_came() -> None:
    wire = gzip.compress(BODY * 50)
    part = read([GZIPPED + wire[: len(wire) // 2]])
    assert part
    assert (BODY * 50).startswith(part)


@pytest.mark.parametrize("wire", [b"\x1f\x8b\x08\x00junk" * 10, b"\x1f\x8b\xff\xff\xff", b"??????"])
def test_a_broken_compressed_body_is_a_framing_error(wire: bytes) -> None:
    with pytest.raises(FramingError, match="compressed body is broken"):
        read([GZIPPED + wire])


def test_what_follows_a_compressed_body_is_not_kept() -> None:
    reader = ResponseReader()
    read([GZIPPED + gzip.compress(BODY)], reader)
    junk = bytes(10_000)
    tracemalloc.start()
    try:
        for _ in range(100):
            read([junk], reader)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


# Properties

FRAGMENTS = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 100 x\n", b"ICY 200\r\n", b"\r\n", b"\n"]),
    st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"A: b\n"]),
    st.sampled_from([b" folded\r\n", b"Content-Length: 5\r\n", b": empty\r\n", b"no header\r\n"]),
    st.sampled_from([CHUNKED, GZIPPED, CHUNKED + chunked(b"body"), chunked(b"hello"), b"5\r\n"]),
    st.sampled_from([gzip.compress(b"body"), zlib.compress(b"body"), b"\x1f\x8b", b"0\r\n\r\n"]),
    st.sampled_from([b"--frame\r\n", b"\xff\xd8\xff", b"<html>", b"{", b"-", b"\0", b"\r"]),
    st.binary(max_size=20),
)
ANSWERS = st.lists(FRAGMENTS, max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 300), max_size=10)


def outcome(pieces: Iterable[bytes]) -> tuple[bytes, ResponseHead | None, bool, str]:
    """Return the body, the head, and whether it is complete; or the error."""
    reader, body = ResponseReader(), b""
    try:
        for piece in pieces:
            parts: list[bytes | memoryview] = []
            feed(reader, piece, parts.append)
            assert all(parts)
            body += b"".join(parts)
    except FramingError as error:
        # How much body came before depends on how it arrived.
        return b"", reader.head, False, str(error)
    return body, reader.head, reader.complete, ""


@given(ANSWERS, CUTS)
def test_any_answer_reads_the_same_however_it_arrives(answer: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(answer), *(cut % (len(answer) + 1) for cut in cuts)})
    pieces = [answer[start:stop] for start, stop in itertools.pairwise(places)]
    assert outcome(pieces) == outcome([answer])


@given(ANSWERS)
def test_any_answer_reads_the_same_byte_by_byte(answer: bytes) -> None:
    assert outcome(single_bytes(answer)) == outcome([answer])
