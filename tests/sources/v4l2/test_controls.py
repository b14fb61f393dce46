"""Controls: what is wanted is set, read back, and differences are told once."""

import errno

import pytest
from structlog.testing import capture_logs

from mjrelay.sources.v4l2.controls import Controls
from tests.support.device import FakeCapture, FakeDevice, Setting, failure, setting, values_of


def camera(*settings: Setting) -> tuple[FakeDevice, FakeCapture]:
    device = FakeDevice()
    device.has(*settings)
    return device, device.capture()


def told(controls: Controls, capture: FakeCapture, times: int = 1) -> list[str]:
    """Apply controls; return what the log is told."""
    with capture_logs() as logs:
        for _ in range(times):
            controls.apply(capture)
    assert {(entry["event"], entry["log_level"]) for entry in logs} <= {
        ("controls.differ", "warning")
    }
    return [entry["reason"] for entry in logs]


def test_automatic_controls_are_set_first() -> None:
    wanted = {"exposure_time_absolute": 9, "auto_exposure": 1, "gain": 2, "focus_automatic": 0}
    device, capture = camera(*(setting(name) for name in wanted))
    assert told(Controls(wanted), capture) == []
    assert device.story == [
        "controls",
        "set auto_exposure 1",
        "set focus_automatic 0",
        "set exposure_time_absolute 9",
        "set gain 2",
    ]
    assert values_of(device) == wanted


def test_a_camera_is_not_asked_where_nothing_is_wanted() -> None:
    device, capture = camera(setting("gain"))
    assert told(Controls({}), capture) == []
    assert device.story == []


def test_what_the_camera_makes_of_a_value_is_told_once() -> None:
    device, capture = camera(setting("gain", rounds_to=10), setting("contrast"))
    assert told(Controls({"gain": 25, "contrast": 3}), capture, times=5) == [
        "gain was set to 25 and is 20"
    ]
    assert values_of(device) == {"gain": 20, "contrast": 3}


def test_a_control_that_another_decides_is_told_once_whatever_it_is() -> None:
    """An automatic one gives it another value at each opening."""
    _, capture = camera(setting("exposure", drifts=True))
    controls = Controls({"exposure": 100})
    assert len(told(controls, capture, times=20)) == 1


def test_a_control_is_told_anew_when_it_should_be_something_else() -> None:
    _, capture = camera(setting("gain", rounds_to=10))
    controls = Controls({"gain": 25})
    told(controls, capture)
    with capture_logs() as logs:
        for value in (25, 37, 37):
            controls.change(capture, {"gain": value})
    assert [entry["reason"] for entry in logs] == ["gain was set to 37 and is 30"]


@pytest.mark.parametrize("drifts", [True, False])
def test_what_was_told_does_not_grow(drifts: bool) -> None:
    _, capture = camera(setting("gain", rounds_to=256, drifts=drifts))
    controls = Controls({"gain": 25})
    for value in range(1, 200):
        controls.change(capture, {"gain": value})
    assert len(controls.said) == 1


def test_what_the_camera_has_not_is_told_once_with_what_it_has() -> None:
    _, capture = camera(setting("gain"), setting("contrast"))
    controls = Controls({"gian": 25, "contrast": 3})
    with capture_logs() as logs:
        for _ in range(3):
            controls.apply(capture)
    [entry] = logs
    assert entry["reason"] == "the camera has no control gian"
    assert entry["has"] == "gain, contrast"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EACCES, errno.ERANGE, errno.EIO])
def test_what_the_camera_refuses_is_told_once_and_the_others_are_set(code: int) -> None:
    error = failure(code, "VIDIOC_S_CTRL")
    device, capture = camera(setting("exposure", refuses=error), setting("gain"))
    [reason] = told(Controls({"exposure": 5, "gain": 2}), capture, times=3)
    assert reason.startswith("exposure cannot be set to 5: ")
    assert values_of(device) == {"exposure": 0, "gain": 2}


def test_every_control_is_shown() -> None:
    _, capture = camera(
        setting("gain", 7, minimum=1, maximum=9, step=2, default=5),
        setting(
            "power_line_frequency",
            1,
            kind="menu",
            maximum=2,
            default=0,
            menu={0: "Disabled", 1: "50 Hz", 2: "60 Hz"},
        ),
        setting("exposure", 3, inactive=True),
    )
    shown = Controls({"gain": 3}).read(capture)
    assert [*shown] == ["gain", "power_line_frequency", "exposure"]
    assert shown["gain"] == {
        "value": 7,
        "wanted": 3,
        "default": 5,
        "minimum": 1,
        "maximum": 9,
        "step": 2,
        "type": "integer",
        "menu": None,
        "inactive": False,
    }
    assert shown["power_line_frequency"]["menu"] == {"0": "Disabled", "1": "50 Hz", "2": "60 Hz"}
    assert shown["power_line_frequency"]["wanted"] is None
    assert shown["exposure"]["inactive"] is True


def test_a_control_that_can_only_be_written_has_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise failure(errno.EACCES)

    _, capture = camera(setting("pan_reset"))
    monkeypatch.setattr(FakeCapture, "control_value", fail)
    assert Controls({}).read(capture)["pan_reset"]["value"] is None


def test_a_change_is_wanted_from_then_on() -> None:
    device, capture = camera(setting("gain"), setting("contrast"))
    controls = Controls({"contrast": 3})
    controls.change(capture, {"gain": 9})
    assert values_of(device) == {"gain": 9, "contrast": 0}, "only what is changed"
    device, capture = camera(setting("gain"), setting("contrast"))
    controls.apply(capture)
    assert values_of(device) == {"gain": 9, "contrast": 3}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"contrast": 9, "gian": 1},
            "there is no control gian; there are: gain, contrast",
        ),
        ({"contrast": 9, "gain": 256}, "gain goes from 0 to 255, not to 256"),
        ({"contrast": 9, "gain": -1}, "gain goes from 0 to 255, not to -1"),
    ],
)
def test_a_change_is_made_whole_or_not_at_all(values: dict[str, int], sentence: str) -> None:
    device, capture = camera(setting("gain"), setting("contrast"))
    controls = Controls({})
    with pytest.raises(ValueError, match=sentence):
        controls.change(capture, values)
    assert values_of(device) == {"gain": 0, "contrast": 0}
    assert told(controls, capture) == []
    assert values_of(device) == {"gain": 0, "contrast": 0}, "nor is it wanted"


def test_the_configuration_s_own_table_stays_as_it_was() -> None:
    wanted = {"gain": 1}
    _, capture = camera(setting("gain"))
    Controls(wanted).change(capture, {"gain": 2})
    assert wanted == {"gain": 1}


def test_an_empty_change_does_nothing() -> None:
    device, capture = camera(setting("gain", 4))
    Controls({"gain": 9}).change(capture, {})
    assert values_of(device) == {"gain": 4}


@pytest.mark.parametrize("step", ["set", "controls"])
def test_a_change_that_the_camera_leaves_unfinished_is_not_kept(step: str) -> None:
    device, capture = camera(setting("gain"), setting("contrast"))
    controls = Controls({"contrast": 3})
    device.fails[step] = failure(errno.ENODEV, "VIDIOC_S_CTRL")
    with pytest.raises(OSError, match="No such device"):
        controls.change(capture, {"gain": 9, "contrast": 7})
    device, capture = camera(setting("gain"), setting("contrast"))
    controls.apply(capture)
    assert values_of(device) == {"gain": 0, "contrast": 3}


def test_a_change_sets_automatic_controls_first() -> None:
    device, capture = camera(setting("exposure"), setting("auto_exposure"))
    Controls({}).change(capture, {"exposure": 9, "auto_exposure": 1})
    assert device.story[-2:] == ["set auto_exposure 1", "set exposure 9"]


# A reload


@pytest.mark.parametrize(
    ("before", "changed", "after", "expected"),
    [
        ({}, {"gain": 9}, {}, {"gain": 9}),
        ({"gain": 5}, {"gain": 9}, {"gain": 5}, {"gain": 9}),
        ({"gain": 5}, {"gain": 9}, {"gain": 6}, {"gain": 6}),  # the file was changed, too
        ({}, {"gain": 9}, {"gain": 6}, {"gain": 6}),
        ({"gain": 5}, {"gain": 9}, {}, {}),
        ({"gain": 5}, {}, {"gain": 6}, {"gain": 6}),
        ({"gain": 5}, {"contrast": 9}, {"gain": 6}, {"gain": 6, "contrast": 9}),
    ],
)
def test_what_people_have_set_outlives_a_reload(
    before: dict[str, int],
    changed: dict[str, int],
    after: dict[str, int],
    expected: dict[str, int],
) -> None:
    _, capture = camera(setting("gain"), setting("contrast"))
    first, second, third = Controls(before), Controls(after), Controls(after)
    first.change(capture, changed)
    second.inherit_from(first)
    third.inherit_from(second)  # and a second one, which changes something else
    for controls in (second, third):
        device, capture = camera(setting("gain", -1), setting("contrast", -1))
        controls.apply(capture)
        assert {n: v for n, v in values_of(device).items() if v >= 0} == expected


def test_what_was_told_is_not_told_again_after_a_reload() -> None:
    _, capture = camera(setting("gain", rounds_to=10))
    first = Controls({"gain": 25})
    told(first, capture)
    for wanted, count in ((25, 0), (35, 1)):
        second = Controls({"gain": wanted})
        second.inherit_from(first)
        assert len(told(second, capture)) == count
