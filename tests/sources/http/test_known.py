"""KnownPicture: when a camera is told that we have its picture."""

import pytest

from mjrelay.sources.http.known import KnownPicture

A, B = b"picture a", b"picture b"


def test_its_tag_goes_back() -> None:
    known = KnownPicture()
    assert known.tag == ""
    known.came(A, '"1"')
    assert (known.image, known.tag) == (A, '"1"')
    known.came(B, 'W/"2"')
    assert (known.image, known.tag) == (B, 'W/"2"')


@pytest.mark.parametrize("tag", ["", "1", '"1', '"1"x', '"a b"', '"1"\r\nX: y', f'"{"x" * 300}"'])
def test_what_is_no_tag_does_not(tag: str) -> None:
    known = KnownPicture()
    known.came(A, tag)
    assert known.tag == ""


def test_a_tag_that_all_pictures_have_is_not_used_any_more() -> None:
    known = KnownPicture()
    known.came(A, '"file"')
    known.came(B, '"file"')
    assert known.tag == ""
    known.came(A, '"another"')
    assert known.tag == ""


def asked_until_tested(known: KnownPicture) -> int:
    """How often a camera says that nothing has changed, before it is asked for the picture."""
    count = 0
    while known.tag:
        known.has_not_changed()
        count += 1
    return count


def test_whether_nothing_has_changed_is_looked_at_ever_more_rarely() -> None:
    known, counts = KnownPicture(), []
    for _ in range(9):
        known.came(A, '"1"')
        counts.append(asked_until_tested(known))
    assert counts == [5, 10, 20, 40, 80, 160, 320, 320, 320]


def test_a_lie_is_found_out_so() -> None:
    known = KnownPicture()
    known.came(A, '"file"')
    assert asked_until_tested(known) == 5
    known.came(B, '"file"')
    assert known.tag == ""
