"""Condition: states, outages, and what the log is told, as tables. Nothing here waits."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mjrelay.camera.condition import (
    DOWN,
    OUTAGES_KEPT,
    TRANSITIONS,
    Condition,
    Event,
    Moment,
    Outage,
    State,
)
from mjrelay.devices.holders import Holder

STATES = get_args(State)
UNIX = 1e9


def at(seconds: float) -> Moment:
    return Moment(seconds, UNIX + seconds)


class Camera:
    """A condition to which things happen, a second apart; notes what the log is told."""

    def __init__(self, state: State = "starting") -> None:
        self.condition = Condition(state, "script:", at(0))
        self.now = 0.0
        self.events: list[Event] = []

    def live(self, *happenings: str) -> "Camera":
        """Let things happen, each a word: see the methods below."""
        for happening in happenings:
            self.now += 1
            self.events += getattr(self, f"_{happening}")(at(self.now))
        return self

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.name.removeprefix("camera."), event.level) for event in self.events]

    def _opens(self, moment: Moment) -> list[Event]:
        return self.condition.opens(moment)

    def _streams(self, moment: Moment) -> list[Event]:
        return self.condition.streams(moment)

    def _lost(self, moment: Moment) -> list[Event]:
        return self.condition.fails("recovering", "lost", "wait", moment, kind=("lost",))

    def _busy(self, moment: Moment) -> list[Event]:
        held = (Holder(812, "/usr/bin/ffmpeg -i x", None),)
        return self.condition.fails(
            "recovering", "busy", None, moment, kind=("busy", "ffmpeg"), holders=held
        )

    def _away(self, moment: Moment) -> list[Event]:
        return self.condition.fails("absent", "away", "plug it in", moment, kind=("unreachable",))

    def _freezes(self, moment: Moment) -> list[Event]:
        return self.condition.fails("frozen", "frozen", None, moment, kind="frozen")

    def _idle(self, moment: Moment) -> list[Event]:
        return self.condition.rests("idle", moment)

    def _stopped(self, moment: Moment) -> list[Event]:
        return self.condition.rests("stopped", moment)

    def _begins(self, moment: Moment) -> list[Event]:
        self.condition.begin("starting", "script:", moment)
        return []

    def _well(self, _: Moment) -> list[Event]:
        return self.condition.recovers()


# States


def test_each_state_has_its_row() -> None:
    assert [*TRANSITIONS] == [*STATES]
    assert set(DOWN) < set(STATES)


@pytest.mark.parametrize(
    ("happenings", "states"),
    [
        ("opens streams lost opens streams", "starting streaming recovering recovering streaming"),
        ("away opens lost opens streams", "absent absent recovering recovering streaming"),
        ("opens streams freezes streams", "starting streaming frozen streaming"),
        ("idle opens idle", "idle starting idle"),
        ("opens streams opens streams", "starting streaming starting streaming"),
        ("lost stopped begins opens", "recovering stopped starting starting"),
    ],
)  # fmt: skip
def test_what_happens_and_the_states(happenings: str, states: str) -> None:
    camera, seen = Camera(), []
    for happening in happenings.split():
        camera.live(happening)
        seen.append(camera.condition.state)
    assert seen == states.split()


@pytest.mark.parametrize("state", STATES)
def test_of_which_states_it_is_known_whether_pictures_come(state: State) -> None:
    condition = Condition(state, "script:", at(0))
    assert condition.is_settled == (state not in ("idle", "starting", "stopped"))
    assert condition.is_down == (state in ("recovering", "absent"))


def test_trouble_is_a_reason_a_hint_and_holders_and_is_forgotten_with_it() -> None:
    condition = Camera().live("opens", "lost").condition
    assert (condition.reason, condition.hint, condition.trouble) == ("lost", "wait", "lost: wait")
    condition = Camera().live("opens", "busy").condition
    assert (condition.trouble, [h.pid for h in condition.holders]) == ("busy", [812])
    condition = Camera().live("opens", "busy", "opens", "streams").condition
    assert (condition.trouble, condition.reason, condition.holders) == ("", None, ())


def test_a_state_lasts_since_it_was_entered_whatever_its_reasons_are() -> None:
    assert Camera().live("opens", "lost", "busy", "opens", "busy").condition.since == UNIX + 2
    assert Camera().live("lost", "stopped", "begins").condition.since == UNIX + 3


def test_trouble_lasts_from_its_beginning_whatever_the_state_is_then() -> None:
    camera = Camera().live("opens", "lost", "away", "opens", "lost")
    assert camera.condition.outage_lasts(10.0) == 8.0
    assert camera.live("streams").condition.outage_lasts(10.0) == 0.0


# The log

LOST, AGAIN = ("recovering", "warning"), ("recovering", "debug")
STREAMS, STARTS = ("streaming", "info"), ("starting", "info")


@pytest.mark.parametrize(
    ("happenings", "told"),
    [
        ("streams streams", [STREAMS]),
        ("streams lost opens lost opens lost", [STREAMS, LOST, AGAIN, AGAIN]),
        ("streams lost opens away opens lost", [STREAMS, LOST, ("absent", "warning"), AGAIN]),
        ("streams lost opens busy opens busy", [STREAMS, LOST, LOST, AGAIN]),
        ("streams lost opens streams", [STREAMS, LOST, STREAMS]),
        # One that comes and goes is told of once more, and then when it is well.
        (
            "streams lost opens streams lost opens streams lost opens streams well",
            [STREAMS, LOST, STREAMS, LOST, AGAIN, STREAMS],
        ),
        ("streams lost opens streams well lost", [STREAMS, LOST, STREAMS, LOST]),
        ("streams lost opens streams well well", [STREAMS, LOST, STREAMS]),
        ("streams freezes freezes streams", [STREAMS, ("frozen", "warning"), ("frozen", "debug"),
         STREAMS]),
        # A restart, and a camera that nobody watches for a while, begin anew.
        ("streams lost opens streams opens lost", [STREAMS, LOST, STREAMS, STARTS, LOST]),
        ("lost idle idle opens lost", [LOST, ("idle", "info"), STARTS, LOST]),
        ("lost stopped", [LOST, ("stopped", "info")]),
    ],
)  # fmt: skip
def test_what_happens_and_what_the_log_is_told(
    happenings: str, told: list[tuple[str, str]]
) -> None:
    assert Camera().live(*happenings.split()).told == told


def test_when_it_streams_again_the_log_has_how_long_and_how_often() -> None:
    once = Camera().live("streams", "lost", "opens", "lost", "opens", "streams")
    assert once.events[-1].facts == {"source": "script:", "was_down": 4.0, "attempts": 2}
    often = once.live("lost", "opens", "streams", "well")
    assert often.events[-1].facts == {
        "source": "script:",
        "was_down": 6.0,
        "attempts": 3,
        "interruptions": 2,
    }


def test_who_has_it_is_told_with_the_trouble() -> None:
    [event] = Camera().live("busy").events
    assert event.facts == {
        "reason": "busy",
        "hint": None,
        "holders": [{"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": None}],
    }


# Outages


def test_an_outage_has_its_first_reason_its_length_and_the_last_remedy() -> None:
    camera = Camera().live("streams", "lost", "away")
    assert [*camera.condition.outages] == [Outage(UNIX + 2, "lost")]
    camera.condition.treated("release")
    camera.condition.treated("usb_reset")
    camera.live("opens", "streams")
    whole = Outage(UNIX + 2, "lost", ended=UNIX + 5, lasted=3.0, remedy="usb_reset")
    assert [*camera.condition.outages] == [whole]
    camera.condition.treated("usb_reset")
    assert [*camera.condition.outages] == [whole], "a reset that a person asks for is no cure"


def test_an_outage_that_nobody_waits_for_any_more_ends() -> None:
    camera = Camera().live("lost", "idle")
    assert [*camera.condition.outages] == [Outage(UNIX + 1, "lost", ended=UNIX + 2, lasted=1.0)]


def test_outages_are_remembered_through_reloads_and_the_oldest_are_forgotten() -> None:
    camera = Camera()
    for _ in range(OUTAGES_KEPT):
        camera.live("lost", "streams")
    camera.live("freezes", "stopped", "begins")
    reasons = [outage.reason for outage in camera.condition.outages]
    assert reasons == ["lost"] * (OUTAGES_KEPT - 1) + ["frozen"]


def test_an_outage_s_length_does_not_follow_a_clock_that_is_set() -> None:
    condition = Condition("starting", "script:", at(0))
    condition.fails("recovering", "lost", None, Moment(10, UNIX), kind="lost")
    condition.streams(Moment(15, UNIX - 3600))
    assert condition.outages[-1] == Outage(UNIX, "lost", ended=UNIX - 3600, lasted=5.0)


# What a camera does, in any order


@given(st.lists(st.sampled_from(["opens", "streams", "lost", "busy", "away", "well"]), max_size=60))
def test_whatever_happens_the_log_is_told_little_and_outages_hold(happenings: list[str]) -> None:
    camera = Camera().live(*happenings)
    condition = camera.condition
    assert (condition.reason is None) == (not condition.is_down)
    assert all(outage.ended is not None for outage in [*condition.outages][:-1])
    open_ended = bool(condition.outages) and condition.outages[-1].ended is None
    assert open_ended == condition.is_down
    warnings = [event for event in camera.events if event.level == "warning"]
    told_again = sum(event.name == "camera.streaming" for event in camera.events)
    assert len(warnings) <= 3 * (
        1 + told_again + happenings.count("well") + happenings.count("opens")
    )
