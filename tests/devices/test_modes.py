"""Modes: which one is used, and how they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.devices.modes import ENCODED, PASSED_THROUGH, Mode, Wanted, choose, listing, lower

VGA, HD, FULL_HD = (640, 480), (1280, 720), (1920, 1080)
# A usual webcam, in its driver's order.
WEBCAM = [
    Mode("YUYV", *VGA, (30.0, 15.0)),
    Mode("YUYV", *HD, (10.0, 5.0)),
    Mode("MJPG", *VGA, (60.0, 30.0, 15.0)),
    Mode("MJPG", *HD, (30.0, 15.0)),
    Mode("MJPG", *FULL_HD, (30.0,)),
    Mode("H264", *HD, (30.0,)),
]


def chosen(modes: list[Mode], wanted: Wanted | None = None) -> tuple[str, float | None] | None:
    """Return the mode's format and size in words, and its rate."""
    found = choose(modes, wanted or Wanted())
    return found and ("{} {}x{}".format(found[0].format, *found[0].size), found[1])


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (WEBCAM, ("MJPG 1280x720", 30.0)),
        (WEBCAM[:2], ("YUYV 1280x720", 10.0)),
        ([Mode("YUYV", *HD), Mode("MJPG", 320, 240)], ("MJPG 320x240", None)),
        ([Mode("YUYV", *HD), Mode("JPEG", *VGA)], ("JPEG 640x480", None)),
        # One that is too large is better than one that must be encoded, and worse than any else.
        ([Mode("MJPG", *FULL_HD), Mode("MJPG", 160, 120)], ("MJPG 160x120", None)),
        ([Mode("MJPG", 1280, 800), Mode("MJPG", *VGA)], ("MJPG 640x480", None)),
        ([Mode("MJPG", 3840, 2160), Mode("MJPG", *FULL_HD)], ("MJPG 1920x1080", None)),
        ([Mode("YUYV", *HD), Mode("MJPG", *FULL_HD)], ("MJPG 1920x1080", None)),
        # Of two that are alike, the faster one.
        ([Mode("MJPG", *HD, (5.0,)), Mode("JPEG", *HD, (25.0,))], ("JPEG 1280x720", 25.0)),
    ],
)
def test_what_is_used_where_nothing_is_asked_for(
    modes: list[Mode], expected: tuple[str, float | None]
) -> None:
    assert chosen(modes) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(size=VGA), ("MJPG 640x480", 30.0)),
        (Wanted(size=FULL_HD), ("MJPG 1920x1080", 30.0)),
        (Wanted(fps=15), ("MJPG 1280x720", 15.0)),
        (Wanted(fps=60), ("MJPG 640x480", 60.0)),
        (Wanted(fps=5), ("YUYV 1280x720", 5.0)),
        (Wanted(format="YUYV"), ("YUYV 1280x720", 10.0)),
        (Wanted(format="YUYV", fps=30), ("YUYV 640x480", 30.0)),
        (Wanted(VGA, 15, "YUYV"), ("YUYV 640x480", 15.0)),
        (Wanted(fps=29.97), ("MJPG 1280x720", 30.0)),
        # What it lacks.
        (Wanted(size=(800, 600)), None),
        (Wanted(fps=25), None),
        (Wanted(HD, 60, "MJPG"), None),
        (Wanted(FULL_HD, format="YUYV"), None),
        (Wanted(format="H264"), None),
    ],
)
def test_what_is_asked_for_is_used_or_nothing(
    wanted: Wanted, expected: tuple[str, float | None] | None
) -> None:
    assert chosen(WEBCAM, wanted) == expected


@pytest.mark.parametrize("modes", [[], [Mode("H264", *HD, (30.0,)), Mode("NV12", *VGA)]])
def test_a_device_without_pictures_for_browsers_has_no_mode(modes: list[Mode]) -> None:
    assert chosen(modes) is None


@pytest.mark.parametrize(
    ("rates", "asked", "rate"),
    [
        ((29.97, 14.99), 30, 29.97),
        ((), 25, 25),  # it does not tell: the driver takes the nearest
        ((), 0, None),
        ((90.0, 60.0), 0, 60.0),
        ((30.0, 5.0), 0, 30.0),
        ((30.3,), 0, 30.3),
        ((120.0, 15.0, 10.0), 0, 15.0),
        # Of several that are near, the nearest.
        ((30.0, 29.97), 29.97, 29.97),
        ((29.97, 30.0), 30, 30.0),
        ((1.0, 0.5), 0.5, 0.5),
        ((8.0, 7.5), 7.5, 7.5),
    ],
)
def test_rates(rates: tuple[float, ...], asked: float, rate: float | None) -> None:
    assert chosen([Mode("MJPG", *VGA, rates)], Wanted(fps=asked)) == ("MJPG 640x480", rate)


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        ((1.0, 30.0), 15, ("MJPG 640x480", 15)),
        ((1.0, 30.0), 7.25, ("MJPG 640x480", 7.25)),
        ((1.0, 30.0), 1, ("MJPG 640x480", 1)),
        ((1.0, 29.97), 30, ("MJPG 640x480", 29.97)),
        ((1.0, 30.0), 31, None),
        ((5.0, 30.0), 4, None),
        # The usual rate, or what is nearest to it.
        ((1.0, 60.0), 0, ("MJPG 640x480", 30.0)),
        ((1.0, 10.0), 0, ("MJPG 640x480", 10.0)),
        ((60.0, 120.0), 0, ("MJPG 640x480", 60.0)),
    ],
)
def test_any_rate_of_a_range_can_be_had(
    limits: tuple[float, float], asked: float, expected: tuple[str, float] | None
) -> None:
    assert chosen([Mode("MJPG", *VGA, limits, between=True)], Wanted(fps=asked)) == expected


FORMATS = st.sampled_from(["MJPG", "JPEG", "YUYV", "H264"])
WIDTHS, HEIGHTS = st.sampled_from([160, 640, 1280, 1920]), st.sampled_from([120, 480, 720, 1080])
RATES = st.sampled_from([5.0, 15.0, 29.97, 30.0, 60.0])
MODES = st.builds(
    Mode, FORMATS, WIDTHS, HEIGHTS, st.lists(RATES, max_size=3).map(tuple)
) | st.builds(
    Mode, FORMATS, WIDTHS, HEIGHTS, st.tuples(RATES, RATES).map(sorted).map(tuple), st.just(True)
)
WISHES = st.builds(
    Wanted,
    st.none() | st.tuples(st.sampled_from([160, 640]), st.sampled_from([120, 480])),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.sampled_from(["", "MJPG", "YUYV"]),
)


@given(modes=st.lists(MODES, max_size=6), wanted=WISHES)
def test_what_is_chosen_is_had_and_wanted(modes: list[Mode], wanted: Wanted) -> None:
    found = choose(modes, wanted)
    if found is None:
        return
    mode, rate = found
    assert mode in modes
    assert mode.format in (*PASSED_THROUGH, *ENCODED)
    assert wanted.size in (None, mode.size)
    assert wanted.format in ("", mode.format)
    if wanted.fps:
        assert rate is not None
        assert abs(rate - wanted.fps) <= 0.5
    if mode.between:
        assert rate is not None
        assert mode.rates[0] <= rate <= mode.rates[1]
    elif mode.rates:
        assert rate in mode.rates


# In words


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(), "that can be shown"),
        (Wanted(size=HD), "1280x720"),
        (Wanted(fps=7.5), "at 7.5 fps"),
        (Wanted(HD, 30, "YUYV"), "YUYV 1280x720 at 30 fps"),
    ],
)
def test_a_wish_in_words(wanted: Wanted, words: str) -> None:
    assert str(wanted) == words


def test_a_listing_has_one_line_a_format() -> None:
    assert listing(WEBCAM[:4]) == [
        "YUYV 640x480 at 30, 15 fps; 1280x720 at 10, 5 fps",
        "MJPG 640x480 at 60, 30, 15 fps; 1280x720 at 30, 15 fps",
    ]
    assert listing([Mode("MJPG", *VGA)]) == ["MJPG 640x480"]
    assert listing([Mode("MJPG", *VGA, (1.0, 30.0), between=True)]) == [
        "MJPG 640x480 at 1 to 30 fps"
    ]
    assert listing([]) == []


@pytest.mark.parametrize(
    ("mode", "smaller"),
    [
        (WEBCAM[4], WEBCAM[3]),
        (WEBCAM[3], WEBCAM[2]),
        (WEBCAM[2], None),
        (WEBCAM[1], WEBCAM[0]),
        (WEBCAM[5], None),
    ],
)
def test_the_next_smaller_mode_is_of_the_same_format(mode: Mode, smaller: Mode | None) -> None:
    assert lower(WEBCAM, mode) == smaller
