"""Every answer cameras were seen to give yields all its images, however its bytes are cut."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.errors import FramingError, Tally
from mjrelay.formats import multipart
from mjrelay.formats.behind import behind
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.http1 import ResponseReader
from tests.support.quirks import REPLIES, Reply

CATALOGUE = pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.name)
# Long enough for several images, short enough to be cut into single bytes.
SHORT = [reply for reply in REPLIES if len(reply.wire) < 40_000]

_MAX_SIZE = 8 * 2**20


def images_of(pieces: list[bytes]) -> tuple[bytes, ...]:
    """What the HTTP source makes of an answer, without its connection."""
    tally = Tally()
    reader = ResponseReader(tally)
    framer: JpegFramer | None = None
    images: list[bytes] = []
    for data in pieces:
        rest = data
        if framer is None and (head := reader.read_head(data)):
            boundary = multipart.declared_boundary(head.media_type)
            framer = JpegFramer(
                boundary=boundary,
                behind=behind(head.media_type, head.length, _MAX_SIZE),
                tally=tally,
            )
            rest = b""
        if framer:
            cut = partial(_cut, framer, images)
            while reader.feed(rest, cut):
                rest = b""
    if framer:
        images += framer.finish(complete=reader.complete)
    return tuple(images)


def _cut(framer: JpegFramer, images: list[bytes], body: bytes | memoryview) -> None:
    images += framer.feed(body)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(places)]


@CATALOGUE
def test_whole_answer_yields_all_its_images(reply: Reply) -> None:
    assert images_of([reply.wire]) == reply.images


@CATALOGUE
def test_byte_by_byte_the_images_are_the_same(reply: Reply) -> None:
    assert images_of([reply.wire[i : i + 1] for i in range(len(reply.wire))]) == reply.images


@given(reply=st.sampled_from(SHORT), cuts=st.lists(st.integers(0, 40_000), max_size=12))
def test_any_chunking_yields_the_same_images(reply: Reply, cuts: list[int]) -> None:
    assert images_of(split(reply.wire, cuts)) == reply.images


@given(st.binary(max_size=4000), st.lists(st.integers(0, 4000), max_size=5))
def test_arbitrary_bytes_give_images_or_a_framing_error(data: bytes, cuts: list[int]) -> None:
    try:
        images = images_of(split(data, cuts))
    except FramingError:
        return
    for image in images:
        assert image.startswith(b"\xff\xd8\xff")
        assert image.endswith(b"\xff\xd9")
