"""JpegFramer cuts whole images out of any bytes, and says what it dropped."""

import itertools
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.formats import framer as framer_module
from mjrelay.formats import walk
from mjrelay.formats.behind import Behind
from mjrelay.formats.framer import JpegFramer
from mjrelay.formats.jpeg import IMAGE_START, STANDARD_TABLES
from tests.support import pictures
from tests.support.pictures import (
    APP1,
    COM,
    DHT,
    EOI,
    SOI,
    first_of_several,
    insert,
    picture,
    progressive,
    segment,
    segments,
    truncated,
    turned,
    with_damaged_scan,
    with_fill_bytes,
    with_length_below_two,
    with_length_too_large,
    with_restarts,
    with_standard_tables,
    with_stuffing_in_the_header,
    with_thumbnail,
    with_thumbnails_elsewhere,
    with_traps,
    with_unlisted_bytes,
    without_eoi,
    without_tables,
)
from tests.support.quirks import CLOSING, SMALL, SOUND, multipart

UNTOUCHED = (picture, progressive, with_restarts, with_traps, with_fill_bytes)
GOOD = picture(7)


def cut(pieces: Iterable[bytes], framer: JpegFramer | None = None) -> list[bytes]:
    """Return the images of a whole stream."""
    framer = framer or JpegFramer()
    return [image for piece in pieces for image in framer.feed(piece)] + framer.finish()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def of_length(length: int) -> bytes:
    """Make a picture of that many bytes."""
    filled = insert(picture(1), *[segment(COM, bytes(60_000))] * ((length - 2000) // 60_004))
    return insert(filled, segment(COM, bytes(length - len(filled) - 4)))


# Pictures as they should be


@pytest.mark.parametrize("draw", UNTOUCHED)
def test_a_whole_picture_survives_byte_for_byte(draw: pictures.Draw) -> None:
    framer = JpegFramer()
    assert framer.feed(draw(3)) == [draw(3)]
    assert not framer.tally.dropped
    assert not framer.tally.tolerated


@pytest.mark.parametrize("draw", UNTOUCHED)
def test_pictures_may_follow_each_other_with_nothing_between(draw: pictures.Draw) -> None:
    assert cut([draw(1) + draw(2) + draw(3)]) == [draw(1), draw(2), draw(3)]


def test_an_image_comes_out_with_its_last_byte() -> None:
    framer = JpegFramer()
    assert framer.feed(GOOD[:-1]) == []
    assert not framer.between_images
    assert framer.feed(GOOD[-1:]) == [GOOD]
    assert framer.between_images


def test_nothing_yields_nothing() -> None:
    assert cut([b"", b""]) == []


def test_a_memoryview_is_as_good_as_bytes() -> None:
    assert JpegFramer().feed(memoryview(GOOD)) == [GOOD]


# Repairs


def test_a_thumbnail_is_dropped_and_the_rest_kept() -> None:
    framer = JpegFramer()
    assert framer.feed(with_thumbnail(1)) == [picture(1)]
    assert framer.tally.tolerated == {"thumbnail inside the image": 1}


def test_exif_without_a_thumbnail_is_kept() -> None:
    with_exif = insert(GOOD, segment(APP1, b"Exif\0\0MM\0*\0\0\0\x08\0\0"))
    assert JpegFramer().feed(with_exif) == [with_exif]


def test_missing_huffman_tables_are_inserted_once_before_the_scan() -> None:
    framer = JpegFramer()
    assert framer.feed(without_tables(1)) == [with_standard_tables(without_tables(1))]
    assert framer.tally.tolerated == {"no Huffman tables": 1}


def test_the_standard_tables_are_those_of_the_standard() -> None:
    assert pictures.standard_tables() == STANDARD_TABLES


def test_an_image_with_tables_of_its_own_gets_no_others() -> None:
    [image] = JpegFramer().feed(GOOD)
    assert STANDARD_TABLES not in image


def test_several_scans_without_tables_get_them_once() -> None:
    *headers, scan = segments(without_tables(1))
    twice = b"".join([*headers, scan.removesuffix(EOI), scan])
    [image] = JpegFramer().feed(twice)
    assert image == b"".join([*headers, STANDARD_TABLES, scan.removesuffix(EOI), scan])


def test_a_progressive_image_gets_no_tables() -> None:
    pieces_without = [piece for piece in segments(progressive(1)) if piece[1] != DHT]
    [image] = JpegFramer().feed(b"".join(pieces_without))
    assert STANDARD_TABLES not in image


def test_tables_and_thumbnail_are_mended_together() -> None:
    thumbnailed = insert(without_tables(1), segments(with_thumbnail(1))[2])
    assert JpegFramer().feed(thumbnailed) == [with_standard_tables(without_tables(1))]


@pytest.mark.parametrize("draw", [with_thumbnail, without_tables])
def test_what_was_mended_counts_only_for_images_that_come_out(draw: pictures.Draw) -> None:
    framer = JpegFramer()
    assert cut([multipart([picture(1), draw(2)[:-20], draw(3)])], framer)[0] == picture(1)
    assert framer.tally.tolerated.total() == framer.tally.dropped.total() == 1


# Without EOI


def test_images_of_a_camera_that_never_sends_eoi_are_mended() -> None:
    framer = JpegFramer()
    images = cut([multipart([without_eoi(1), without_eoi(2)], length=None) + CLOSING], framer)
    assert images == [picture(1), picture(2)]
    assert framer.tally.tolerated == {"no end-of-image marker": 2}
    assert not framer.tally.dropped


def test_an_image_without_eoi_ends_where_the_next_begins() -> None:
    assert cut([without_eoi(1) + picture(2)]) == [picture(1), picture(2)]


def test_once_an_eoi_was_seen_an_image_without_one_is_truncated() -> None:
    framer = JpegFramer()
    images = cut([multipart([picture(1), without_eoi(2), picture(3)], length=None)], framer)
    assert images == [picture(1), picture(3)]
    assert framer.tally.dropped == {"truncated": 1}


def test_an_image_without_eoi_that_promised_more_is_truncated() -> None:
    framer = JpegFramer()
    length = len(picture(1))
    images = cut([multipart([truncated(1), picture(2)], length=lambda _: length)], framer)
    assert images == [picture(2)]
    assert framer.tally.dropped == {"truncated": 1}


def test_an_image_without_eoi_that_kept_its_promise_is_mended() -> None:
    assert cut([multipart([without_eoi(1), picture(2)])]) == [picture(1), picture(2)]


@pytest.mark.parametrize("eol", ["\r\n", "\n"])
def test_the_line_end_before_a_boundary_is_not_the_image(eol: str) -> None:
    stream = multipart([without_eoi(1), without_eoi(2)], length=None, eol=eol)
    assert cut([stream + b"--boundarydonotcross--"]) == [picture(1), picture(2)]


def test_a_declared_boundary_ends_an_image_that_nothing_preceded() -> None:
    framer = JpegFramer(boundary=b"frame")
    assert framer.feed(without_eoi(1) + b"\r\n--frame\r\n") == [picture(1)]


# The end of the stream


def test_finish_between_images_yields_nothing() -> None:
    framer = JpegFramer()
    framer.feed(GOOD + b"\r\n--frame")
    assert framer.finish() == []
    assert not framer.tally.dropped


def test_finish_mends_the_last_image_when_all_that_was_promised_came() -> None:
    framer = JpegFramer()
    assert framer.feed(without_eoi(1)) == []
    assert framer.finish(complete=True) == [picture(1)]


def test_finish_drops_an_image_that_broke_off_in_its_scan() -> None:
    framer = JpegFramer()
    framer.feed(truncated(1))
    assert framer.finish() == []
    assert framer.tally.dropped == {"truncated": 1}
    assert framer.between_images


@pytest.mark.parametrize("complete", [False, True])
def test_finish_drops_an_image_that_broke_off_in_its_header(complete: bool) -> None:
    framer = JpegFramer()
    framer.feed(GOOD[:100])
    assert framer.finish(complete=complete) == []
    assert framer.tally.dropped == {"truncated": 1}


def test_finish_yields_the_images_behind_one_cut_inside_a_segment() -> None:
    # Its length reaches over both of them.
    stream = multipart([of_length(100_000)[:30_000], picture(1), picture(2)], length=None)
    assert cut([stream]) == [picture(1), picture(2)]


# Damage


def test_an_image_cut_inside_its_scan_costs_only_itself() -> None:
    framer = JpegFramer()
    images = cut([multipart([picture(1), truncated(2), picture(3)])], framer)
    assert images == [picture(1), picture(3)]
    assert framer.tally.dropped == {"truncated": 1}


@pytest.mark.parametrize("eoi_seen", [False, True])
@pytest.mark.parametrize("draw", [picture, progressive, without_tables, with_thumbnail])
def test_an_image_cut_anywhere_costs_only_itself(draw: pictures.Draw, eoi_seen: bool) -> None:
    whole, before = draw(2), [picture(1)] if eoi_seen else []
    cuts_that_cost_more = []
    for length in range(3, len(whole) - 2):
        parts = multipart([*before, whole[:length], GOOD], length=lambda _: len(whole))
        if cut([parts + bytes(3000)]) != [*before, GOOD]:
            cuts_that_cost_more.append(length)
    assert not cuts_that_cost_more


def test_an_image_cut_anywhere_is_counted_once() -> None:
    cuts_counted_otherwise = []
    for length in range(3, len(with_thumbnail(2)) - 2):
        framer = JpegFramer()
        cut([multipart([picture(1), with_thumbnail(2)[:length], GOOD]) + bytes(3000)], framer)
        if framer.tally.dropped.total() != 1:
            cuts_counted_otherwise.append(length)
    assert not cuts_counted_otherwise


@pytest.mark.parametrize("size", [1, 1400])
def test_the_thumbnail_of_a_cut_image_never_comes_out(size: int) -> None:
    whole, thumbnail = with_thumbnail(2), picture(2, (16, 16))
    cuts_that_show_it = []
    for length in range(800, len(whole) // 2):
        parts = multipart([picture(1), whole[:length], GOOD], length=lambda _: len(whole))
        if thumbnail in cut(pieces(parts + bytes(3000), size)):
            cuts_that_show_it.append(length)
    assert not cuts_that_show_it


def test_the_thumbnail_of_a_corrupt_image_never_comes_out() -> None:
    header, _, scan = with_thumbnail(2).rpartition(b"\xff\xda")
    corrupt = header + b"\xff\x02" + scan
    framer = JpegFramer()
    assert cut([multipart([picture(1), corrupt, picture(3)])], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped == {"truncated": 1}


def test_an_eoi_before_any_scan_is_no_picture() -> None:
    framer = JpegFramer()
    assert cut([SOI + segment(COM, b"nothing") + EOI + GOOD], framer) == [GOOD]
    assert framer.tally.dropped == {"truncated": 1}


def test_a_doubled_soi_is_one() -> None:
    assert cut([multipart([SOI + picture(1), SOI + picture(2)])]) == [picture(1), picture(2)]


# Bytes that are no marker


@pytest.mark.parametrize(
    "junk", [b"hello", bytes(608), b"\xff\0\xff\0", b"\xff\x41", b"\xff\x02\xff"]
)
def test_what_is_no_marker_is_cut_out_between_two_segments(junk: bytes) -> None:
    # rroller/dahua#681: a comment that is 608 bytes longer than it says
    framer = JpegFramer()
    assert framer.feed(with_unlisted_bytes(1, junk)) == [with_unlisted_bytes(1, b"")]
    assert framer.tally.tolerated == {"resynchronised": 1}
    assert not framer.tally.dropped


def test_stuffing_may_stand_behind_soi() -> None:
    assert cut(pieces(with_stuffing_in_the_header(1), 1)) == [picture(1)]


def test_a_length_that_does_not_count_itself_is_cut_out_with_its_marker() -> None:
    assert JpegFramer().feed(with_length_below_two(1)) == [picture(1)]


def test_a_length_that_leads_over_a_table_costs_one_image_where_nothing_delimits_it() -> None:
    framer = JpegFramer()
    stream = picture(1) + with_length_too_large(2, 60) + picture(3)
    assert cut([stream], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped == {"corrupt": 1}


@pytest.mark.parametrize("surplus", [1, 60, 200, 700, 900, 3000, 40_000])
def test_a_length_that_leads_too_far_is_mended_in_a_part(surplus: int) -> None:
    framer = JpegFramer()
    parts = multipart([with_length_too_large(1, surplus), picture(2)]) + CLOSING
    assert cut([parts], framer) == [with_length_too_large(1, 0), picture(2)]
    assert framer.tally.tolerated == {"resynchronised": 1}
    assert not framer.tally.dropped


def test_a_length_that_leads_into_the_next_part_delays_it_no_longer_than_its_boundary() -> None:
    framer = JpegFramer()
    lying = multipart([picture(1), with_length_too_large(2, 60_000)])
    assert framer.feed(lying) == [picture(1)]
    assert framer.feed(multipart([picture(3)])) == [with_length_too_large(2, 0), picture(3)]


@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize("number", [1, 2])
def test_an_image_never_takes_on_the_tables_of_one_that_it_leads_into(
    number: int, size: int
) -> None:
    behind = [picture(n + 2) for n in range(number)]
    length = len(b"".join(behind)) + 60  # into the first of the last one's tables
    stream = picture(1) + SOI + segment(COM, bytes(length))[:4] + b"".join(behind) + GOOD
    framer = JpegFramer()
    assert cut(pieces(stream, size), framer) == [picture(1), *behind, GOOD]
    assert framer.tally.dropped == {"truncated": 1}


@pytest.mark.parametrize("size", [1, 5000])
def test_a_thumbnail_in_front_of_bytes_that_are_no_marker_is_no_other_image(size: int) -> None:
    # python-pillow/Pillow photoshop-200dpi-broken.jpg
    broken = insert(picture(1), segment(0xED, SMALL + b"more"), b"junk")
    assert cut(pieces(broken + picture(2), size)) == [picture(1), picture(2)]


@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize("marker", [0xC4, 0xDA, 0xE1])
@pytest.mark.parametrize("into", [0, 100])
def test_a_damaged_scan_never_goes_on_in_that_of_another_image(
    marker: int, into: int, size: int
) -> None:
    scan = len(GOOD) - len(segments(GOOD)[-1])
    length = 2 + 40 + len(picture(2)) + scan + into
    damaged = truncated(1) + bytes([0xFF, marker]) + length.to_bytes(2) + bytes(40)
    framer = JpegFramer()
    stream = picture(1) + damaged + picture(2) + GOOD
    assert cut(pieces(stream, size), framer) == [picture(1), picture(2), GOOD]
    assert framer.tally.dropped.total() == 1


@pytest.mark.parametrize("size", [1, 5000])
def test_a_scan_header_that_leads_into_the_next_part_was_cut_however_it_comes(size: int) -> None:
    framer = JpegFramer()
    cut_short = SOI + segment(COM, b"cut") + b"\xff\xda\x02"
    parts = multipart([picture(1), cut_short, of_length(3000)])
    assert cut(pieces(parts, size), framer) == [picture(1), of_length(3000)]
    assert framer.tally.dropped == {"truncated": 1}


def test_an_image_cut_in_its_header_does_not_take_the_next_one_with_it() -> None:
    whole = insert(picture(1), segment(COM, bytes(300)))
    costly = []
    for at in range(3, 320):
        if at > 24 and GOOD[324 - at] == 0xFF:
            continue  # by chance the comment's length leads to a marker of the next one
        *_, image = cut([whole[:at] + GOOD]) or [b""]
        if not image.endswith(GOOD[20:]):  # its own JFIF segment may be gone
            costly.append(at)
    assert not costly


# What no walk can follow


def test_a_damaged_scan_is_passed_on_where_a_boundary_delimits_it() -> None:
    framer = JpegFramer()
    parts = multipart([picture(1), with_damaged_scan(2), picture(3)], length=None)
    assert cut(pieces(parts, 100), framer) == [picture(1), with_damaged_scan(2), picture(3)]
    assert framer.tally.tolerated == {"unwalked": 1}


def test_a_damaged_scan_is_dropped_where_nothing_delimits_it() -> None:
    framer = JpegFramer()
    assert cut([picture(1) + with_damaged_scan(2) + picture(3)], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped == {"corrupt": 1}


def test_a_damaged_scan_without_its_end_is_dropped() -> None:
    framer = JpegFramer()
    parts = multipart([picture(1), with_damaged_scan(2)[:-40], picture(3)])
    assert cut([parts], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped == {"corrupt": 1}


@pytest.mark.parametrize("missing", [0xC0, 0xDA])
def test_what_no_decoder_shows_is_dropped_though_it_is_delimited(missing: int) -> None:
    *headers, scan = segments(picture(2))
    kept = b"".join(piece for piece in headers if piece[1] != missing)
    image = kept + (EOI if missing == scan[1] else scan)
    framer = JpegFramer()
    assert cut([multipart([picture(1), image, picture(3)])], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped.total() == 1


def test_a_thumbnail_is_cut_out_of_a_damaged_image_too() -> None:
    soi, app0, *rest = segments(with_damaged_scan(1))
    exif = segments(with_thumbnail(1))[2]
    framer = JpegFramer(behind=Behind.TRAILER)
    assert cut([b"".join([soi, app0, exif, *rest])], framer) == [with_damaged_scan(1)]


def test_a_damaged_image_that_is_too_large_is_not_kept() -> None:
    framer = JpegFramer(max_size=3000)
    parts = multipart([with_damaged_scan(1) + bytes(9000) + EOI, picture(2)])
    for piece in pieces(parts, 100):
        assert framer.feed(piece) in ([], [picture(2)])
        assert kept(framer) < 5000
    assert framer.tally.dropped == {"corrupt": 1}


# Trailers


def test_what_stands_behind_an_image_in_its_part_is_counted_once() -> None:
    framer = JpegFramer()
    parts = multipart([picture(1) + SMALL * 3, picture(2) + b"MotionPhoto" * 900, picture(3)])
    assert cut(pieces(parts, 50), framer) == [picture(1), picture(2), picture(3)]
    assert framer.tally.tolerated == {"trailer after the image": 2}
    assert not framer.tally.dropped


def test_pictures_that_follow_a_single_boundary_are_found_after_a_while() -> None:
    framer = JpegFramer(max_size=20_000)
    images = cut(pieces(multipart([picture(1)]) + GOOD * 100, 1000), framer)
    assert images[0] == picture(1)
    assert images.count(GOOD) > 80


def test_a_stream_called_one_picture_may_change_its_size() -> None:
    framer = JpegFramer(behind=Behind.EITHER)
    large = picture(1, (80, 60))
    assert cut([GOOD * 2 + large * 3 + GOOD * 3], framer) == [GOOD] * 2 + [large] * 2 + [GOOD] * 2


def test_a_stream_called_one_picture_may_have_a_trailer_behind_each() -> None:
    framer = JpegFramer(behind=Behind.EITHER)
    assert cut([(GOOD + SMALL) * 3], framer) == [GOOD] * 3
    assert framer.tally.tolerated == {"trailer after the image": 3}


# Other parts


def test_sound_never_delays_a_picture() -> None:
    # adgkinsey/adffmpeg adpic.c
    framer = JpegFramer()
    for number in range(5):
        framer.feed(multipart([SOUND * 10], part_type="audio/basic"))
        assert framer.feed(multipart([picture(number)])) == [picture(number)]
    assert framer.tally.dropped == {"not_jpeg": 5}


def test_a_picture_of_any_type_is_one_where_it_follows_its_head() -> None:
    for part_type in ("text/html", "video/x-jpeg", "application/octet-stream"):
        parts = multipart([picture(1), picture(2)], part_type=part_type)
        assert cut(pieces(parts, 10)) == [picture(1), picture(2)]


def test_a_picture_of_no_particular_type_may_stand_behind_other_bytes() -> None:
    parts = multipart([b"head" + picture(1)], part_type="application/octet-stream")
    assert cut([parts]) == [picture(1)]


def test_a_picture_may_stand_behind_much_else_in_its_part() -> None:
    assert cut(pieces(multipart([bytes(9000) + picture(1), picture(2)]), 100)) == [
        picture(1),
        picture(2),
    ]


# Oversized


def test_an_oversized_image_is_dropped_and_the_next_found() -> None:
    framer = JpegFramer(max_size=50_000)
    images = cut([multipart([of_length(200_000), GOOD])], framer)
    assert images == [GOOD]
    assert framer.tally.dropped == {"oversized": 1}


@pytest.mark.parametrize("size", [1, 1400, 65_536])
def test_an_oversized_image_that_trickles_is_dropped_and_the_next_found(size: int) -> None:
    framer = JpegFramer(max_size=10_000)
    images = cut(pieces(multipart([of_length(70_000), GOOD]), size), framer)
    assert images == [GOOD]
    assert framer.tally.dropped == {"oversized": 1}


def kept(framer: JpegFramer) -> int:
    """How many bytes wait in a framer for those that follow."""
    return framer._end - framer._begin


def test_a_scan_without_end_is_not_kept() -> None:
    framer = JpegFramer(max_size=10_000)
    framer.feed(without_eoi(1))
    for _ in range(100):
        framer.feed(bytes(1000))
        assert kept(framer) < 12_000
    assert cut([EOI, GOOD], framer) == [GOOD]
    assert framer.tally.dropped == {"oversized": 1}


def test_a_header_without_end_is_not_kept() -> None:
    framer = JpegFramer(max_size=10_000)
    framer.feed(SOI)
    for _ in range(100):
        framer.feed(segment(COM, bytes(1000)))
        assert kept(framer) < 12_000


def test_thumbnails_without_end_are_not_remembered() -> None:
    framer = JpegFramer(max_size=10_000)
    framer.feed(SOI)
    thumbnails = segment(APP1, SOI) * 2000
    tracemalloc.start()
    try:
        for _ in range(20):
            framer.feed(thumbnails)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_an_image_of_just_the_largest_size_is_passed_on() -> None:
    assert cut([GOOD], JpegFramer(max_size=len(GOOD))) == [GOOD]
    assert cut([GOOD], JpegFramer(max_size=len(GOOD) - 1)) == []


def test_an_oversized_image_without_eoi_ends_at_its_boundary() -> None:
    framer = JpegFramer(max_size=10_000)
    long = insert(without_eoi(1), segment(COM, bytes(9500))) + bytes(20_000)
    parts = multipart([long, truncated(2), picture(3)], length=lambda _: len(picture(2)))
    assert cut(pieces(parts, 500), framer) == [picture(3)]
    assert framer.tally.dropped == {"oversized": 1, "truncated": 1}


@pytest.mark.parametrize("behind", [Behind.TRAILER, Behind.EITHER])
def test_what_stands_behind_an_oversized_image_is_not_shown_in_its_place(behind: Behind) -> None:
    framer = JpegFramer(max_size=10_000, behind=behind)
    assert cut(pieces(of_length(70_000) + SMALL, 500), framer) == []
    assert framer.tally.dropped == {"oversized": 1}


def test_what_stands_behind_an_oversized_image_in_its_part_is_not_shown_either() -> None:
    framer = JpegFramer(max_size=10_000)
    parts = multipart([of_length(70_000) + SMALL, GOOD])
    assert cut(pieces(parts, 500), framer) == [GOOD]
    assert framer.tally.dropped == {"oversized": 1}


# Between images


def test_text_without_images_is_not_kept() -> None:
    framer = JpegFramer()
    for _ in range(100):
        assert framer.feed(b"<html>" * 1000) == []
        assert kept(framer) < 5000


def test_each_part_that_is_no_jpeg_is_counted() -> None:
    framer = JpegFramer()
    texts = multipart([b"busy", b"still busy"], part_type="text/plain")
    assert cut([texts + multipart([GOOD])], framer) == [GOOD]
    assert framer.tally.dropped == {"not_jpeg": 2}
    assert framer.foreign_type == "text/plain"


def test_a_large_part_that_is_no_jpeg_is_counted_once() -> None:
    framer = JpegFramer()
    video = multipart([bytes(50_000)], part_type="video/x-h264")
    assert cut(pieces(video + multipart([GOOD]), 1000), framer) == [GOOD]
    assert framer.tally.dropped == {"not_jpeg": 1}
    assert framer.foreign_type == "video/x-h264"


def test_two_large_parts_that_are_no_jpegs_are_counted_with_an_image_between() -> None:
    framer = JpegFramer()
    video = multipart([bytes(50_000)], part_type="video/x-h264")
    assert cut([(video + multipart([GOOD])) * 2], framer) == [GOOD, GOOD]
    assert framer.tally.dropped == {"not_jpeg": 2}


def test_an_empty_part_is_no_jpeg() -> None:
    framer = JpegFramer()
    assert cut([multipart([picture(1), b"", picture(3)])], framer) == [picture(1), picture(3)]
    assert framer.tally.dropped == {"not_jpeg": 1}


def test_an_image_is_found_whatever_its_part_calls_itself() -> None:
    framer = JpegFramer()
    assert cut([multipart([GOOD], part_type="text/html")], framer) == [GOOD]
    assert not framer.tally.dropped


@pytest.mark.parametrize("padding", [b"\0" * 7, b"\xff" * 7, b"\xd9\0"])
def test_padding_after_an_image_is_trimmed(padding: bytes) -> None:
    framer = JpegFramer()
    parts = multipart([picture(1) + padding, picture(2) + padding], length=None)
    assert cut([parts], framer) == [picture(1), picture(2)]
    assert framer.tally.tolerated == {"padding after the image": 2}


@pytest.mark.parametrize("junk", [b"\xff", b"\xff\xd8", b"\xff\xd8\x00", b"\xff\xd9", b"junk"])
def test_junk_before_an_image_is_skipped(junk: bytes) -> None:
    assert cut(pieces(junk + GOOD, 1)) == [GOOD]


# Properties

IMAGES = st.builds(
    lambda draw, n: draw(n),
    st.sampled_from(
        [
            *UNTOUCHED,
            *(with_thumbnail, without_tables, without_eoi, truncated),
            *(turned, first_of_several, with_thumbnails_elsewhere, with_damaged_scan),
            *(with_unlisted_bytes, with_stuffing_in_the_header, with_length_below_two),
            with_length_too_large,
        ]
    ),
    st.integers(0, 3),
)
DAMAGED = st.builds(lambda image, length: image[:length], IMAGES, st.integers(2, 900))
GAPS = st.one_of(
    st.sampled_from([b"", b"\r\n", CLOSING, b"\0\0", b"\xff", SOI, EOI, bytes(5000)]),
    st.sampled_from([multipart([b""]), multipart([b"hi"], part_type="text/plain")]),
    st.sampled_from([multipart([b""], after=""), multipart([b""], length=None, after="")]),
    st.sampled_from([multipart([SOUND], part_type="audio/basic"), multipart([SOUND * 20]), SMALL]),
    st.binary(max_size=20),
)
BEHIND = st.sampled_from(Behind)
STREAMS = st.lists(st.tuples(GAPS, IMAGES | DAMAGED), max_size=6).map(
    lambda items: b"".join(itertools.chain.from_iterable(items))
)
SIZES = st.lists(st.integers(1, 1500), min_size=1, max_size=8)


def torn(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


@given(STREAMS, SIZES, BEHIND)
def test_any_chunking_yields_the_same_images_and_drops(
    stream: bytes, sizes: list[int], behind: Behind
) -> None:
    whole, pieced = (JpegFramer(boundary=b"frame", behind=behind) for _ in range(2))
    assert cut(torn(stream, sizes), pieced) == cut([stream], whole)
    assert pieced.tally == whole.tally


FRAGMENTS = st.one_of(
    st.sampled_from([SOI, EOI, SOI + b"\xff", b"\xff", b"\xff\x00", b"\xff\xd0", b"\xff\x01"]),
    st.sampled_from([b"\xff\xe1\xff\xff", b"\xff\xe1\x00\x10", b"\xff\xfe\x00\x00", b"\xff\xda"]),
    st.sampled_from([b"\xff\xda\x00\x02", b"\xff\xc0\x00\x02", b"\xff\xc4\x00\x01", b"\r\n--x"]),
    st.sampled_from([b"\r\n--x\r\nContent-Length: 99\r\n\r\n", bytes(300), GOOD, truncated(1)]),
    st.sampled_from([b"\r\n--x\r\nContent-Type: audio/basic\r\n\r\n", b"\r\n--y\r\n", bytes(5000)]),
    st.sampled_from(
        [b"\xff\xdb", b"\xff\xe2\0\x20MPF\0", b"\xff\xe1\0\x40Exif\0\0MM\0*\0\0\0\x08"]
    ),
    st.sampled_from([b"\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0", b"\xff\xfe\0\1", b"?" * 90]),
    st.binary(max_size=8),
)


@given(st.lists(FRAGMENTS, max_size=40).map(b"".join), SIZES, st.booleans(), BEHIND)
def test_whatever_comes_in_only_images_come_out(
    stream: bytes, sizes: list[int], complete: bool, behind: Behind
) -> None:
    framer = JpegFramer(max_size=2000, boundary=b"x", behind=behind)
    images = [image for piece in torn(stream, sizes) for image in framer.feed(piece)]
    for image in [*images, *framer.finish(complete=complete)]:
        assert image.startswith(SOI + b"\xff")
        assert image.endswith(EOI)
    assert kept(framer) <= 2000 + 65_537 + max(sizes)


@given(
    st.lists(FRAGMENTS, max_size=40).map(b"".join),
    SIZES,
    st.integers(1, 3000),
    BEHIND,
)
def test_the_size_of_the_buffer_makes_no_difference(
    stream: bytes, sizes: list[int], room: int, behind: Behind
) -> None:
    usual = JpegFramer(max_size=2000, behind=behind)
    images = usual.feed(stream) + usual.finish()
    framer = JpegFramer(max_size=2000, behind=behind, room=room)
    assert cut(torn(stream, sizes), framer) == images
    assert framer.tally == usual.tally
    # An image of the greatest size or a segment, and what came with its end; twice, as it grows.
    assert len(framer._buffer) <= max(room, 2 * (2000 + 65_537 + 2 * max(sizes)))


@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize("behind", [EOI, b"\xff\xc1", b"text"])
def test_an_image_without_eoi_ends_at_its_part_whatever_stands_behind(
    size: int, behind: bytes
) -> None:
    without_eoi = picture(1).removesuffix(EOI)
    head = b"\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n"
    stream = head + without_eoi + b"\r\n--x\r\n\r\n" + behind
    assert cut(pieces(stream, size), JpegFramer()) == [picture(1)]


@pytest.mark.parametrize("size", [1, 5000])
def test_a_last_gap_counts_however_it_was_cut(size: int) -> None:
    framer = JpegFramer()
    assert cut(pieces(b"junk " * 1000, size), framer) == []
    assert framer.tally.dropped == {"not_jpeg": 1}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 2**16])
@pytest.mark.parametrize("room", [1, 2**18])
def test_an_image_of_the_greatest_size_comes_whole_without_its_end(size: int, room: int) -> None:
    image = without_eoi(1)
    framer = JpegFramer(max_size=len(image) + len(EOI), room=room)
    assert cut(pieces(image + image, size), framer)[0] == image + EOI


@pytest.mark.parametrize("size", [1400, 2**16, 2**20, 2**24])
def test_images_larger_than_the_buffer_come_whole(size: int) -> None:
    images = [of_length(700_000), GOOD, of_length(3_000_000), of_length(300_000), GOOD]
    assert cut(pieces(multipart(images), size), JpegFramer()) == images


# Promises


def test_a_length_is_believed_when_the_one_before_was_true() -> None:
    framer = JpegFramer()
    begun = multipart([picture(2)])[:-40]
    lie = multipart([picture(1)], length=lambda image: len(image) + 1)
    missing = []
    for whole in (multipart([picture(1)]), lie, multipart([picture(1)])):
        framer.feed(whole)
        framer.feed(begun)
        missing.append(framer.missing)
        framer.feed(multipart([picture(2)])[-40:])
        missing.append(framer.missing)
    left = 40 - len("\r\n")
    assert missing == [left, 0, 0, 0, left, 0]


# Cost

NESTED = SOI + b"\xff\xe0\xff\xff" + bytes(26)
NESTED_COMMENT = SOI + b"\xff\xfe\xff\xff" + bytes(26)
NESTED_JUNK = SOI + b"\xff\xe0\x75\x30" + bytes(26) + SOI + b"\xff\xe0\xea\x60" + bytes(26)
PART = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"
LYING_PART = PART + SOI + b"\xff\xe0\xff\xff" + b"\xff\xdb\0\2" * 500 + EOI
NESTED_EXIF = SOI + b"\xff\xe1\xff\xff" + bytes(26)
USUAL = multipart([with_thumbnail(1), picture(2), without_tables(3)])


class Metered(bytearray):
    """A buffer that counts the bytes looked at through it."""

    looked_at = 0

    def find(self, sought: Any, start: Any = 0, stop: Any = None) -> int:
        """Search, as bytearray does."""
        index = super().find(sought, start, stop)
        self.looked_at += (index if index >= 0 else stop or len(self)) - start
        return index

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        self.looked_at += len(value) if isinstance(key, slice) else 1
        return value


class MeteredPattern:
    """A pattern that counts the bytes it passes."""

    def __init__(self, pattern: Any) -> None:
        self.pattern = pattern
        self.looked_at = 0

    def search(self, data: bytearray, start: int, *stop: int) -> Any:
        """Search, as a pattern does."""
        match = self.pattern.search(data, start, *stop)
        self.looked_at += (match.end() if match else min(stop, default=len(data))) - start
        return match

    def finditer(self, data: bytes, start: int, stop: int) -> Any:
        """Search, as a pattern does."""
        self.looked_at += min(stop, len(data)) - start
        return self.pattern.finditer(data, start, stop)


def work(stream: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many calls were made and bytes looked at to cut a stream."""
    patterns = [MeteredPattern(walk._SCAN_END), MeteredPattern(walk._NEXT_MARKER)]
    for name, pattern in zip(("_SCAN_END", "_NEXT_MARKER"), patterns, strict=True):
        monkeypatch.setattr(walk, name, pattern)
    framer = JpegFramer(boundary=b"frame")
    buffer = framer._buffer = Metered(framer_module._ROOM)
    framer._view = memoryview(buffer)
    calls = 0

    def count(_frame: FrameType, _event: str, _arg: object) -> None:
        nonlocal calls
        calls += 1

    feed = framer.feed
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for at in range(0, len(stream), size):
            feed(stream[at : at + size])
    finally:
        sys.setprofile(before)
    monkeypatch.undo()
    assert framer._buffer is buffer
    return calls + buffer.looked_at + sum(pattern.looked_at for pattern in patterns)


@pytest.mark.parametrize(
    ("unit", "count", "size"),
    [
        pytest.param(USUAL, 20, 1400, id="usual parts"),
        pytest.param(USUAL, 8, 1, id="byte by byte"),
        pytest.param(NESTED, 30_000, 65_536, id="nested images with long segments"),
        pytest.param(NESTED_EXIF, 30_000, 65_536, id="nested images with long Exif segments"),
        pytest.param(without_eoi(1), 40, 1400, id="without EOI"),
        pytest.param(SOI + b"\xff", 20_000, 1400, id="SOI after SOI"),
        pytest.param(b"\r\n--frame\r\n", 20_000, 1400, id="empty parts"),
        pytest.param(b"\xff\x41", 50_000, 1400, id="markers of no meaning"),
        pytest.param(NESTED_JUNK, 10_000, 65_536, id="nested images with lengths that lie"),
        pytest.param(NESTED_COMMENT, 30_000, 65_536, id="nested images with long comments"),
        pytest.param(LYING_PART, 300, 1400, id="parts whose lengths lie"),
        pytest.param(LYING_PART, 4, 1, id="parts whose lengths lie, byte by byte"),
        pytest.param(GOOD + IMAGE_START * 300, 100, 1400, id="trailers"),
        pytest.param(PART + GOOD + IMAGE_START * 300, 100, 1400, id="trailers in parts"),
        pytest.param(multipart([SOUND], part_type="audio/basic"), 300, 1400, id="sound"),
        pytest.param(b"text\r\n--x\r\n", 4000, 100, id="text with lines like boundaries"),
    ],
)
def test_twice_the_bytes_cost_no_more_than_twice_the_work(
    unit: bytes, count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = work(unit * count, size, monkeypatch)
    assert work(unit * count * 2, size, monkeypatch) <= 2.2 * once


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(USUAL * 200, id="usual"),
        pytest.param(NESTED * 30_000, id="APP0"),
        pytest.param(NESTED_EXIF * 30_000, id="Exif"),
        pytest.param(NESTED_COMMENT * 30_000, id="comment"),
        pytest.param(NESTED_JUNK * 15_000, id="lengths that lie"),
        pytest.param(PART + NESTED_JUNK * 15_000, id="lengths that lie in a part"),
    ],
)
def test_no_byte_is_looked_at_more_than_a_few_times(
    unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert work(unit, 65_536, monkeypatch) <= 8 * len(unit)


def test_what_is_counted_once_is_counted_each_time() -> None:
    part = b"--b\r\nContent-Type: %s\r\n\r\n"
    for gap, tally in ((part % b"text/plain" + b"hello\r\n", "dropped"), (bytes(8), "tolerated")):
        framer = JpegFramer()
        for number in range(4):
            framer.feed(gap + part % b"image/jpeg" + picture(number))
        assert getattr(framer.tally, tally).total() == 4


def test_a_boundary_that_changes_in_a_digit_is_learnt() -> None:
    framer = JpegFramer()
    framer.feed(b"--b1\r\n\r\n" + picture(1))
    assert framer.feed(b"\r\n--b2\r\n\r\n" + picture(2)) == [picture(2)]
    assert framer.feed(b"\r\n--b2\r\n\r\n" + picture(3)[:400] + b"\r\n--b2\r\n\r\n") == []
    assert framer.feed(picture(4)) == [picture(4)]
