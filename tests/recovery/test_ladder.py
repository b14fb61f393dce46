"""Ladder: which failure calls for which remedy, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.errors import (
    SourceBroken,
    SourceBusy,
    SourceError,
    SourceLost,
    SourceRefused,
    SourceStalled,
    SourceUnreachable,
)
from mjrelay.recovery.backoff import DIAL_EVERY, HEALTHY_AFTER, Backoff
from mjrelay.recovery.ladder import Allowance, Ladder, Remedy, Step

BROKEN = SourceBroken("VIDIOC_STREAMON: Input/output error")
STALLED = SourceStalled("the camera went silent")
TAKEN = SourceBusy("VIDIOC_S_FMT: Device or resource busy", "held by ffmpeg", taken=True)
NOBODYS = SourceBusy("VIDIOC_S_FMT: Device or resource busy", taken=False)
REFUSED, LOST = SourceRefused("no mode MJPG 1x1"), SourceLost("reset by peer")
AWAY = SourceUnreachable("the camera was unplugged")

REOPEN, RELEASE, USB_RESET, REAUTHORIZE, WAIT = Remedy
EVERY = (RELEASE, USB_RESET, REAUTHORIZE)
HOUR = 3600.0


def ladder(
    *remedies: Remedy, resets_per_hour: float = 100, force: bool = False, most: float = 30.0
) -> Ladder:
    """Make a ladder whose delays do not vary."""
    backoff = Backoff(first=1.0, most=most, jitter=lambda: 0.0)
    return Ladder(backoff, remedies=remedies, resets_per_hour=resets_per_hour, force=force)


def failed(
    ladder: Ladder, error: SourceError, *, now: float = 0.0, streamed_for: float = 0.0
) -> Step:
    """Fail, and apply what that calls for."""
    step = ladder.failed(error, now=now, streamed_for=streamed_for)
    ladder.applies(step.remedy, now=now)
    return step


def climb(ladder: Ladder, *errors: SourceError, now: float = 0.0) -> list[Remedy]:
    return [failed(ladder, error, now=now).remedy for error in errors]


@pytest.mark.parametrize(
    ("failures", "remedies"),
    [
        (
            [BROKEN] * 8,
            [REOPEN, RELEASE, USB_RESET, REAUTHORIZE, WAIT, USB_RESET, REAUTHORIZE, WAIT],
        ),
        # A camera that was open had nothing of ours in its way.
        ([STALLED] * 7, [REOPEN, USB_RESET, REAUTHORIZE, WAIT, USB_RESET, REAUTHORIZE, WAIT]),
        ([NOBODYS] * 5, [REOPEN, RELEASE, USB_RESET, REAUTHORIZE, WAIT]),
        # A reset would throw the other one out.
        ([TAKEN] * 5, [REOPEN] * 5),
        # What a reset cannot cure.
        ([REFUSED] * 5, [REOPEN] * 5),
        ([AWAY] * 5, [REOPEN] * 5),
        ([LOST] * 5, [REOPEN] * 5),
        # Whoever stands on a rung stays there meanwhile.
        (
            [BROKEN, BROKEN, TAKEN, AWAY, REFUSED, BROKEN],
            [REOPEN, RELEASE, REOPEN, REOPEN, REOPEN, USB_RESET],
        ),
        ([BROKEN, STALLED, STALLED], [REOPEN, USB_RESET, REAUTHORIZE]),
        ([STALLED, BROKEN, BROKEN], [REOPEN, RELEASE, USB_RESET]),
    ],
)
def test_failures_and_their_remedies(failures: list[SourceError], remedies: list[Remedy]) -> None:
    assert climb(ladder(*EVERY), *failures) == remedies


@pytest.mark.parametrize(
    ("offered", "remedies"),
    [
        ((), [REOPEN] * 5),
        ((RELEASE,), [REOPEN, RELEASE, WAIT, WAIT, WAIT]),
        ((RELEASE, USB_RESET), [REOPEN, RELEASE, USB_RESET, WAIT, USB_RESET]),
        ((USB_RESET,), [REOPEN, USB_RESET, WAIT, USB_RESET, WAIT]),
        # In the order of their cost, however they are offered.
        ((REAUTHORIZE, USB_RESET, RELEASE), [REOPEN, RELEASE, USB_RESET, REAUTHORIZE, WAIT]),
    ],
)
def test_only_what_the_source_offers_is_taken(
    offered: tuple[Remedy, ...], remedies: list[Remedy]
) -> None:
    assert climb(ladder(*offered), *[BROKEN] * 5) == remedies


def test_force_resets_a_camera_that_another_has() -> None:
    forceful = ladder(*EVERY, force=True)
    assert climb(forceful, *[TAKEN] * 4) == [REOPEN, RELEASE, USB_RESET, REAUTHORIZE]


def test_force_does_not_reset_a_camera_that_a_reset_cannot_cure() -> None:
    forceful = ladder(*EVERY, force=True)
    assert climb(forceful, AWAY, REFUSED, LOST, AWAY) == [REOPEN] * 4


@pytest.mark.parametrize(
    ("error", "then"),
    [
        (BROKEN, [RELEASE, USB_RESET]),
        (STALLED, [RELEASE, USB_RESET]),
        (TAKEN, [REOPEN, RELEASE]),
        (AWAY, [REOPEN, RELEASE]),
    ],
)
def test_healthy_frames_lead_back_to_the_ground(error: SourceError, then: list[Remedy]) -> None:
    ours = ladder(*EVERY)
    climb(ours, *[BROKEN] * 3)
    assert failed(ours, error, now=0.0, streamed_for=HEALTHY_AFTER).remedy is REOPEN
    assert climb(ours, BROKEN, BROKEN) == then


def test_a_few_frames_do_not() -> None:
    ours = ladder(*EVERY)
    climb(ours, *[BROKEN] * 3)
    step = failed(ours, BROKEN, now=0.0, streamed_for=HEALTHY_AFTER - 0.01)
    assert step.remedy is REAUTHORIZE


# Delays and notes


def test_delays_are_those_of_the_backoff() -> None:
    ours = ladder(*EVERY)
    assert [ours.failed(BROKEN, now=0.0).delay for _ in range(4)] == [1, 2, 4, 8]


def test_a_busy_camera_is_asked_every_second() -> None:
    ours = ladder(*EVERY)
    assert [ours.failed(TAKEN, now=0.0, lasted=0.25).delay for _ in range(20)] == [
        DIAL_EVERY - 0.25
    ] * 20


def test_on_the_last_rung_the_longest_delay_is_waited_and_why_is_said() -> None:
    ours = ladder(USB_RESET, most=60)
    climb(ours, BROKEN, BROKEN)
    assert failed(ours, BROKEN) == Step(
        WAIT, 60, "resetting it did not help: unplug it and plug it in again"
    )


def test_other_steps_have_nothing_to_explain() -> None:
    ours = ladder(*EVERY)
    assert {failed(ours, BROKEN).note for _ in range(4)} == {None}


def test_a_source_that_is_never_reset_says_which_option_keeps_it_from_that() -> None:
    ours = ladder(RELEASE)
    climb(ours, BROKEN, BROKEN)
    assert failed(ours, BROKEN) == Step(
        WAIT, 30, "usb_reset = false keeps it from being reset: unplug it and plug it in again"
    )


# The limit


def test_both_kinds_of_reset_share_one_allowance() -> None:
    ours = ladder(*EVERY, resets_per_hour=3)
    assert climb(ours, *[BROKEN] * 8) == [
        REOPEN, RELEASE, USB_RESET, REAUTHORIZE, WAIT, USB_RESET, WAIT, WAIT,
    ]  # fmt: skip


def test_a_spent_allowance_is_the_reason_for_waiting() -> None:
    ours = ladder(*EVERY, resets_per_hour=2)
    climb(ours, *[BROKEN] * 4)
    assert failed(ours, BROKEN).note == (
        "it was reset 2 times within an hour, which is the limit: unplug it and plug it in again"
    )


def test_the_allowance_is_of_a_sliding_hour() -> None:
    ours = ladder(USB_RESET, resets_per_hour=2)
    times = [0.0, 10, 20, 2000, HOUR + 9.9, HOUR + 10, HOUR + 1999, HOUR + 2000]
    assert [failed(ours, STALLED, now=now).remedy for now in times] == [
        REOPEN, USB_RESET, WAIT, USB_RESET, WAIT, USB_RESET, WAIT, USB_RESET,
    ]  # fmt: skip


@pytest.mark.parametrize("resets_per_hour", [0, 0.5, 0.99])
def test_with_an_allowance_of_less_than_one_nothing_is_ever_reset(resets_per_hour: float) -> None:
    ours = ladder(*EVERY, resets_per_hour=resets_per_hour)
    assert climb(ours, *[BROKEN] * 5) == [REOPEN, RELEASE, WAIT, WAIT, WAIT]
    assert climb(ours, *[BROKEN] * 5, now=2 * HOUR) == [WAIT] * 5


def test_a_reset_that_could_not_be_made_does_not_count() -> None:
    ours = ladder(USB_RESET, resets_per_hour=1)
    climb(ours, BROKEN)
    for _ in range(3):
        assert climb(ours, BROKEN) == [USB_RESET]
        ours.not_done(USB_RESET)
        assert climb(ours, BROKEN) == [WAIT]
    assert climb(ours, BROKEN, BROKEN, BROKEN) == [USB_RESET, WAIT, WAIT]


def test_what_a_reset_lacks_is_the_reason_for_waiting_until_one_is_made() -> None:
    ours = ladder(USB_RESET)
    climb(ours, BROKEN)
    for _ in range(3):
        assert climb(ours, BROKEN) == [USB_RESET]
        ours.not_done(USB_RESET, because="copy the udev rule")
        assert failed(ours, BROKEN) == Step(WAIT, 30, "copy the udev rule")
    assert climb(ours, BROKEN) == [USB_RESET]
    assert failed(ours, BROKEN).note == (
        "resetting it did not help: unplug it and plug it in again"
    )


def test_a_reset_that_was_not_begun_does_not_count() -> None:
    ours = ladder(USB_RESET, resets_per_hour=1)
    for _ in range(5):
        ours.failed(BROKEN, now=0.0)  # the cable was pulled while it waited, or nobody watched
    assert USB_RESET in climb(ours, BROKEN, BROKEN)


def test_a_new_ladder_may_go_on_with_the_account_of_the_one_before() -> None:
    allowance = Allowance()

    def begun_anew() -> Ladder:
        backoff = Backoff(first=1.0, most=30.0, jitter=lambda: 0.0)
        return Ladder(backoff, remedies=[USB_RESET], allowance=allowance, resets_per_hour=1)

    assert climb(begun_anew(), BROKEN, BROKEN) == [REOPEN, USB_RESET]
    assert climb(begun_anew(), BROKEN, BROKEN) == [REOPEN, WAIT]
    assert climb(begun_anew(), BROKEN, BROKEN, now=HOUR) == [REOPEN, USB_RESET]


def test_a_release_that_could_not_be_made_gives_no_reset_back() -> None:
    ours = ladder(RELEASE, USB_RESET, resets_per_hour=1)
    climb(ours, BROKEN, BROKEN, BROKEN)
    ours.not_done(RELEASE)
    assert climb(ours, BROKEN, BROKEN) == [WAIT, WAIT]


def test_health_does_not_give_the_allowance_back() -> None:
    ours = ladder(USB_RESET, resets_per_hour=1)
    climb(ours, BROKEN, BROKEN)
    failed(ours, BROKEN, now=1.0, streamed_for=HEALTHY_AFTER)
    assert climb(ours, BROKEN, now=2.0) == [WAIT]


def test_a_camera_that_fails_for_days_is_reset_as_often_as_allowed() -> None:
    ours = ladder(*EVERY, resets_per_hour=6)
    steps = [failed(ours, BROKEN, now=60.0 * minute) for minute in range(6_000)]
    resets = sum(step.remedy.is_reset for step in steps)
    assert resets == 600


FAILURES = st.tuples(
    st.sampled_from([BROKEN, STALLED, TAKEN, NOBODYS, REFUSED, AWAY, LOST]),
    st.floats(0, 2000),  # seconds since the failure before
    st.sampled_from([0.0, 1.0, HEALTHY_AFTER, 60.0]),
)


@given(
    failures=st.lists(FAILURES, max_size=80),
    offered=st.sets(st.sampled_from(EVERY)),
    limit=st.integers(0, 7),
    force=st.booleans(),
)
def test_no_hour_ever_has_more_resets_than_the_limit(
    failures: list[tuple[SourceError, float, float]],
    offered: set[Remedy],
    limit: int,
    force: bool,
) -> None:
    ours = ladder(*offered, resets_per_hour=limit, force=force)
    now, resets = 0.0, list[float]()
    for error, passed, streamed_for in failures:
        now += passed
        step = failed(ours, error, now=now, streamed_for=streamed_for)
        assert step.remedy in {REOPEN, WAIT, *offered}
        assert 0 <= step.delay <= 30
        if error is TAKEN and not force:
            assert step.remedy is REOPEN
        if step.remedy.is_reset:
            resets.append(now)
    for end in resets:
        assert sum(end - HOUR < reset <= end for reset in resets) <= limit
