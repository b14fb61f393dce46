"""Camera and remedies: what is done for a device that fails, when, and what is told of it."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from mjrelay.camera.camera import Camera
from mjrelay.devices.holders import Holder
from mjrelay.errors import (
    RemedyFailed,
    SourceBusy,
    SourceError,
    SourceLost,
    SourceUnreachable,
)
from mjrelay.recovery.ladder import Remedy
from mjrelay.sources import Show, Stream
from tests.support.pictures import stamped
from tests.support.serving import hotplug, running, scripted, until
from tests.support.source import BROKEN, QUICK, SILENCE, MendableSource, ScriptedSource, Step, steps

CLIMB = ["open", "open", "release", "open", "usb_reset", "open", "reauthorize", "open"]


async def test_each_remedy_is_applied_before_the_next_opening() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: source.story[:8] == CLIMB)
    assert camera.remedied == {Remedy.RELEASE: 1, Remedy.USB_RESET: 1, Remedy.REAUTHORIZE: 1}
    assert camera.resets == 2


async def test_a_stall_is_cured_by_the_first_remedy_that_helps() -> None:
    silent: list[Step] = [SILENCE]
    source = MendableSource(silent, silent, [*steps(1), SILENCE])
    camera = scripted(source, **QUICK, first_frame_timeout=0.05, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        assert camera.condition.reason is None
    assert source.story == ["open", "open", "usb_reset", "open"]


async def test_a_camera_that_another_has_is_never_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    busy = SourceBusy("Device or resource busy", "held by ffmpeg (pid 812): sudo kill 812")
    source = MendableSource([busy])
    camera = scripted(source, **QUICK)
    async with running(camera):
        await until(lambda: camera.failures["busy"] == 10)
        assert (camera.state, camera.condition.hint) == ("recovering", busy.hint)
    assert set(source.story) == {"open"}


async def test_a_camera_that_another_has_is_reset_by_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy")])
    camera = scripted(source, **QUICK, usb_reset="force")
    async with running(camera):
        await until(lambda: source.story[:8] == CLIMB)


FFMPEG = Holder(812, "/usr/bin/ffmpeg -i x", "old-cam.service")
VLC = Holder(900, "/opt/vlc", None)


async def told_of(camera: Camera, source: MendableSource, openings: int) -> list[EventDict]:
    """Let a camera be busy for so many openings; return what the log says of that."""
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.opened > openings)
    return [entry for entry in logs if entry["event"] == "camera.recovering"][:openings]


async def test_who_has_a_camera_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy", "held by some")])
    source.held_by = [(FFMPEG, VLC)]
    [told] = await told_of(scripted(source, **QUICK), source, 1)
    assert told["log_level"] == "warning"
    assert told["holders"] == [
        {"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": "old-cam.service"},
        {"pid": 900, "command": "/opt/vlc", "unit": None},
    ]


async def test_where_nobody_has_a_camera_the_log_has_no_word_of_holders() -> None:
    camera = scripted(ScriptedSource([SourceLost("gone")], [*steps(1), SILENCE]), stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.state == "streaming")
    assert not [entry for entry in logs if "holders" in entry]


async def test_another_who_has_a_camera_is_another_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    source = MendableSource([SourceBusy("Device or resource busy", "held by some")])
    source.held_by = [(FFMPEG,), (FFMPEG,), (VLC,), (VLC,), (FFMPEG, VLC), (FFMPEG,)]
    told = await told_of(scripted(source, **QUICK), source, 6)
    assert [(len(entry["holders"]), entry["log_level"]) for entry in told] == [
        (1, "warning"),
        (1, "debug"),
        (1, "warning"),
        (1, "debug"),
        (2, "warning"),
        (1, "debug"),
    ]


async def test_who_had_a_camera_is_forgotten_when_it_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mjrelay.recovery.backoff.DIAL_EVERY", 0.01)
    busy: list[Step] = [SourceBusy("Device or resource busy", "held by some")]
    source = MendableSource(busy, [*steps(1), SILENCE], busy, [*steps(2), SILENCE])
    source.held_by = [(FFMPEG,), (), (FFMPEG,), ()]
    camera = scripted(source, **QUICK, stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.published == 1)
            assert camera.condition.holders == ()
            camera.restart()
            await until(lambda: camera.published == 2)
    told = [entry["log_level"] for entry in logs if entry["event"] == "camera.recovering"]
    assert told == ["warning", "warning"]


async def test_a_camera_that_comes_back_by_itself_needs_no_remedy() -> None:
    source = MendableSource([BROKEN], [BROKEN], [*steps(1), SILENCE])
    camera = scripted(source, redial_delay=0.01, retry_max=60, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
        hotplug(camera, "add", "/dev/video7")
        await asyncio.sleep(0.05)
        assert camera.failures["broken"] == 2, "not ours"
        hotplug(camera, "add", "/dev/video0")
        await until(lambda: camera.state == "streaming")
    assert source.story == ["open"] * 3
    assert not camera.remedied


async def test_a_remedy_that_cannot_be_applied_says_what_is_missing() -> None:
    source = MendableSource([BROKEN], [BROKEN], [BROKEN], [SILENCE])
    source.ailing[Remedy.USB_RESET] = RemedyFailed("it could not be reset", "copy the udev rule")
    camera = scripted(source, **QUICK, first_frame_timeout=30)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: camera.condition.hint == "copy the udev rule")
            await until(lambda: source.open_now)
            assert (camera.state, camera.condition.reason) == (
                "recovering",
                "it could not be reset",
            )
    assert camera.resets == 0, "none was made"
    told = [entry for entry in logs if entry["event"] == "camera.recovering"]
    assert told[-1]["hint"] == "copy the udev rule"
    assert told[-1]["log_level"] == "warning"


async def test_a_remedy_that_cannot_be_applied_is_logged_once() -> None:
    source = MendableSource([BROKEN])
    source.ailing = {
        remedy: RemedyFailed(f"no {remedy.value}", "do this") for remedy in source.remedies
    }
    camera = scripted(source, **QUICK)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.story.count("usb_reset") > 2)
    warned = [
        entry["reason"]
        for entry in logs
        if entry["event"] == "camera.recovering" and entry["log_level"] == "warning"
    ]
    assert warned == [BROKEN.reason, "no release", "no usb_reset", "no reauthorize"]


async def test_what_a_reset_lacks_stays_visible_while_it_waits() -> None:
    source = MendableSource([BROKEN])
    source.ailing[Remedy.USB_RESET] = source.ailing[Remedy.REAUTHORIZE] = RemedyFailed(
        "it could not be reset", "copy the udev rule"
    )
    camera = scripted(source, **QUICK)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: source.story.count("usb_reset") > 2)
    hints = {entry["hint"] for entry in logs if entry.get("reason") == BROKEN.reason}
    assert hints == {BROKEN.hint, "copy the udev rule"}


async def test_a_fault_of_our_own_in_a_remedy_is_isolated_and_logged() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("bug")

    source = MendableSource([BROKEN])
    source.remedies = {Remedy.RELEASE: fail}
    camera = scripted(source, **QUICK)
    healthy = scripted(ScriptedSource([*steps(1), SILENCE]), stall_timeout=30)
    with capture_logs() as logs:
        async with running(camera, healthy):
            await until(lambda: source.opened > 4 and healthy.state == "streaming")
    crash = next(entry for entry in logs if entry["event"] == "camera.crashed")
    assert crash["exc_info"]
    assert camera.failures["crashed"] == 1
    assert not camera.remedied


async def test_a_device_that_comes_back_before_its_reset_costs_no_allowance() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = scripted(source, redial_delay=60, retry_max=60, usb_resets_per_hour=1)

    async def failed(times: int) -> None:
        await until(lambda: camera.failures["broken"] == times and camera.retry_in)

    async with running(camera):
        for times in (1, 2):
            await failed(times)
            hotplug(camera, "add", "/dev/video0")
        await failed(3)
        assert camera.condition.hint
        assert "it was reset" not in camera.condition.hint
    assert source.story == ["open"] * 3
    assert camera.resets == 0


async def test_resets_that_were_not_made_do_not_count() -> None:
    source = MendableSource([BROKEN])
    source.ailing[Remedy.USB_RESET] = source.ailing[Remedy.REAUTHORIZE] = RemedyFailed("no rights")
    camera = scripted(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: source.story.count("usb_reset") > 3)
    assert camera.resets == 0


async def test_resets_are_made_as_often_as_allowed_and_then_the_reason_is_said() -> None:
    source = MendableSource([BROKEN])
    camera = scripted(source, **QUICK, usb_resets_per_hour=3)
    async with running(camera):
        await until(lambda: "the limit" in (camera.condition.hint or ""))
        await until(lambda: camera.failures["broken"] > 15)
        assert camera.condition.reason == BROKEN.reason
        assert camera.condition.hint
        assert camera.condition.hint.startswith("it was reset 3 times within an hour")
    assert camera.resets == 3


async def test_a_source_without_remedies_is_only_opened_again() -> None:
    source = ScriptedSource([BROKEN])
    camera = scripted(source, **QUICK)
    async with running(camera):
        await until(lambda: source.opened > 8)
    assert not camera.remedied


class NoisySource(MendableSource):
    """Its own opening makes its node come and go, as a reset does; then it fails."""

    def __init__(self, error: SourceError, *, openings: int = 3) -> None:
        super().__init__([error])
        self._openings = openings
        self.camera: Camera | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        assert self.camera
        if self.opened < self._openings:
            hotplug(self.camera, "remove", "/dev/video0")
            hotplug(self.camera, "add", "/dev/video0")
        async with super().open() as stream:
            yield stream


async def test_what_came_and_went_during_an_attempt_does_not_skip_the_wait() -> None:
    source = NoisySource(BROKEN)
    camera = source.camera = scripted(source, redial_delay=30)
    async with running(camera):
        await until(lambda: camera.retry_in is not None)
        await asyncio.sleep(0.05)
        assert camera.failures["broken"] == 1


async def test_what_came_and_went_during_an_attempt_does_not_take_the_place_of_a_remedy() -> None:
    source = NoisySource(BROKEN, openings=10)
    camera = source.camera = scripted(source, **QUICK)
    async with running(camera):
        await until(lambda: len(source.story) >= len(CLIMB))
    assert source.story[: len(CLIMB)] == CLIMB


async def test_what_came_while_a_missing_camera_was_looked_for_does() -> None:
    source = NoisySource(SourceUnreachable("it is not there"))
    camera = source.camera = scripted(source)
    async with running(camera):
        await until(lambda: camera.failures["unreachable"] == 4, within=0.9)


# A remedy may fail before it acts, while it acts, and after: what was done counts, and nothing else


@dataclass(frozen=True)
class Failing:
    """How a remedy fails, and what is to come of it within an hour that allows two resets.

    Attributes:
        resets: How many are made.
        tried: How often it is tried.
    """

    error: Exception
    resets: int
    tried: int


FAILING = {
    "before": Failing(RemedyFailed("no rights", "copy the udev rule"), resets=0, tried=5),
    "before, since another has it": Failing(RemedyFailed("in use", is_held=True), 0, 5),
    "while it acts": Failing(RemedyFailed("it left its USB port", "replug", done=True), 2, 2),
    "after": Failing(RemedyFailed("it did not come back", "replug", done=True), 2, 2),
    "by a bug of ours": Failing(ZeroDivisionError("bug"), 0, 2),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING.keys())
async def test_resets_that_were_made_count_and_those_that_were_not_do_not(
    failing: Failing,
) -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    source.ailing[Remedy.USB_RESET] = failing.error
    camera = scripted(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: source.story.count("usb_reset") == failing.tried)
        await until(lambda: camera.failures["broken"] > 12)
        tried = source.story.count("usb_reset")
        assert tried == 2 if failing.tried == 2 else tried >= failing.tried
        assert camera.resets == failing.resets
        assert camera.state == "recovering"


async def test_a_reset_that_is_cut_short_by_a_reload_counts() -> None:
    source = MendableSource([BROKEN])

    async def take_for_ever() -> None:
        await asyncio.sleep(SILENCE)

    source.remedies = {Remedy.USB_RESET: take_for_ever}
    camera = scripted(source, **QUICK, usb_resets_per_hour=1)
    with capture_logs() as logs:
        async with running(camera):
            await until(lambda: any(entry["event"] == "camera.remedy" for entry in logs))
    after = MendableSource([BROKEN])
    after.resets_per_hour = 1
    after.remedies = {Remedy.USB_RESET: after.remedies[Remedy.USB_RESET]}
    camera.configure(camera.config, after)
    async with running(camera):
        await until(lambda: after.opened > 8)
    assert "usb_reset" not in after.story


async def test_a_reload_does_not_forget_the_resets_of_the_hour() -> None:
    camera = scripted(MendableSource([BROKEN]), **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        await until(lambda: camera.resets == 2)
    after = MendableSource([BROKEN])
    after.resets_per_hour = 3
    camera.configure(camera.config, after)
    async with running(camera):
        await until(lambda: after.opened > 8)
    assert camera.resets == 3


# Remedies on demand


def on_demand(source: MendableSource, **options: object) -> Camera:
    return scripted(source, mode="demand", linger=0.0, **options)


async def test_no_remedy_is_applied_when_nobody_wants_the_camera() -> None:
    source = MendableSource([BROKEN])
    camera = on_demand(source, redial_delay=0.2, retry_max=0.2)
    with capture_logs() as logs:
        async with running(camera):
            with camera.watched():
                await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
            await until(lambda: camera.state == "idle")
            assert source.story == ["open", "open"], "no release"
    assert "camera.remedy" not in [entry["event"] for entry in logs]
    assert not camera.remedied


async def test_while_somebody_wants_it_a_camera_on_demand_is_mended_as_any() -> None:
    source = MendableSource([BROKEN])
    camera = on_demand(source, **QUICK, usb_resets_per_hour=2)
    async with running(camera):
        with camera.watched():
            await until(lambda: source.story[:8] == CLIMB)


async def test_a_reset_that_nobody_wants_costs_no_allowance() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = on_demand(source, redial_delay=0.2, retry_max=0.2, usb_resets_per_hour=1)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.failures["broken"] == 2 and camera.retry_in is not None)
        await until(lambda: camera.state == "idle")
        assert source.story == ["open", "open"]
        with camera.watched():
            await until(lambda: camera.resets == 1)


async def test_a_reset_asked_for_that_nobody_wants_gives_no_allowance_back() -> None:
    source = MendableSource([BROKEN])
    source.remedies = {Remedy.USB_RESET: source.remedies[Remedy.USB_RESET]}
    camera = on_demand(source, redial_delay=0.05, retry_max=0.05, usb_resets_per_hour=1)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.resets == 1 and camera.retry_in is not None)
        camera.restart(Remedy.USB_RESET)
        await until(lambda: camera.state == "idle")
        planned = source.story.count("usb_reset")
        with camera.watched():
            failed = camera.failures["broken"]
            await until(lambda: camera.failures["broken"] > failed + 6)
    assert source.story.count("usb_reset") == planned


async def test_a_camera_that_is_idle_is_not_restarted_later() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, mode="demand", linger=0, stall_timeout=0.1)
    async with running(camera):
        await until(lambda: camera.state == "idle")
        camera.restart(Remedy.USB_RESET)
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        await until(lambda: camera.state == "idle")
    assert source.story == ["open"]


class WatchedAgain(MendableSource):
    """In the very turn in which it is to be closed for want of viewers, one comes."""

    def __init__(self) -> None:
        super().__init__([])
        self.camera: Camera | None = None
        self.viewing = contextlib.ExitStack()

    async def _play(self, _: list[Step], show: Show) -> None:
        assert self.camera
        while True:
            await asyncio.sleep(0.01)
            show(stamped(1), time.monotonic())
            if not self.camera.audience.wants_pictures:
                self.viewing.enter_context(self.camera.watched())


async def test_a_viewer_that_comes_back_as_the_linger_ends_is_no_stall() -> None:
    source = WatchedAgain()
    camera = source.camera = scripted(source, mode="demand", linger=0.1, stall_timeout=30)
    async with running(camera):
        with camera.watched():
            await until(lambda: camera.state == "streaming")
        with source.viewing:
            await until(lambda: source.opened == 2)
        assert not camera.failures


class EndlessSource(MendableSource):
    """Its pictures never end, and come as fast as they are taken."""

    async def _play(self, script: list[Step], show: Show) -> None:
        for image in itertools.cycle(script):
            assert isinstance(image, bytes)
            await asyncio.sleep(0)
            show(image, time.monotonic())


async def test_no_restart_is_lost_between_pictures_that_come_fast() -> None:
    source = EndlessSource(steps(1))
    camera = scripted(source)

    async def opened(times: int) -> None:
        published = camera.published
        await until(lambda: source.opened == times and camera.published > published)

    async with running(camera):
        for times in range(1, 12):
            await opened(times)
            camera.restart()
        await opened(12)
    assert not camera.failures


async def test_restarts_that_come_together_are_no_failure() -> None:
    source = MendableSource([*steps(1), SILENCE])
    camera = scripted(source, stall_timeout=30)
    async with running(camera):
        await until(lambda: camera.state == "streaming")
        for _ in range(3):
            camera.restart()
            await asyncio.sleep(0)
        await until(lambda: camera.published == 2)
    assert not camera.failures
