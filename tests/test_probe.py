"""Probe: what it reports of a source that follows a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mjrelay import probe as probing
from mjrelay.devices.connections import Connected
from mjrelay.devices.holders import Holder
from mjrelay.errors import SLOT_TAKEN, SourceBusy, SourceError, SourceLost, SourceUnreachable, Tally
from mjrelay.probe import Report, probe
from mjrelay.sources import Show, Source, Stream
from tests.support.pictures import picture
from tests.support.serving import config_for, until

DIALLED_AT = 99.0
SMALL, LARGE = picture(1), picture(2, (320, 240))


class Played(Source):
    """Shows pictures with these times of capture, and then fails or is silent.

    Attributes:
        watched: Whether it was told that somebody looks.
        is_open: Whether it was opened and not closed.
    """

    silent_hint = "knock on it"

    def __init__(
        self,
        *pictures: tuple[bytes, float],
        end: SourceError | None = None,
        refuses: SourceError | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.label = "script:"
        self.tally = Tally()
        self.watched = self.is_open = False
        self.held_by: tuple[Holder, ...] = ()
        self._pictures = pictures
        self._end = end
        self._refuses = refuses
        self._facts = facts or {}

    @property
    def holders(self) -> tuple[Holder, ...]:
        return self.held_by

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stream]:
        if self._refuses:
            raise self._refuses
        self.is_open = True
        try:
            yield partial(self._play, self._pictures)
        finally:
            self.is_open = False

    async def _play(self, pictures: Sequence[tuple[bytes, float]], show: Show) -> None:
        for image, captured in pictures:
            show(image, captured)
        if self._end:
            raise self._end
        await asyncio.Event().wait()

    def facts(self) -> dict[str, Any]:
        return self._facts

    def watch(self, *, watched: bool) -> None:
        self.watched = watched


class Screen:
    """Where the progress is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def show(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(probing, "time", SimpleNamespace(monotonic=lambda: DIALLED_AT))
    return Screen()


@pytest.fixture
def look(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> "Look":
    return Look(screen, monkeypatch)


class Look:
    """Probes a source, with little patience."""

    def __init__(self, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
        self._screen = screen
        self._monkeypatch = monkeypatch

    async def __call__(
        self,
        source: Source,
        *,
        first_frame_timeout: float = 0.05,
        seconds: float = 0.05,
        address: str = "testcard:",
    ) -> Report:
        self._monkeypatch.setattr(probing, "make_source", lambda _: source)
        config = config_for(address, first_frame_timeout=first_frame_timeout)
        return await probe(config, seconds=seconds, progress=self._screen.show)


THREE = [(SMALL, 100.25), (SMALL, 100.5), (LARGE, 101.25)]


async def test_all_that_can_be_known_of_pictures_is(look: Look) -> None:
    source = Played(*THREE, facts={"status": "200 OK"})
    source.tally.tolerated["no boundary"] = 3
    source.tally.dropped["truncated"] = 1
    assert await look(source) == Report(
        source="script:",
        reachable=True,
        facts={"status": "200 OK"},
        pictures=3,
        seconds=1.0,
        first_after=1.25,
        width=320,
        height=240,
        fps=2.0,
        frame_bytes=(len(SMALL), (2 * len(SMALL) + len(LARGE)) // 3, len(LARGE)),
        tolerated={"no boundary": 3},
        dropped={"truncated": 1},
    )


async def test_somebody_looks_and_it_is_closed_at_the_end(look: Look) -> None:
    source = Played(*THREE)
    await look(source)
    assert source.watched
    assert not source.is_open


async def test_one_picture_has_no_rate(look: Look) -> None:
    report = await look(Played(THREE[0]))
    assert (report.pictures, report.seconds, report.fps) == (1, 0.0, None)


async def test_pictures_of_the_same_moment_have_a_rate(look: Look) -> None:
    report = await look(Played(THREE[0], THREE[0]))
    assert report.fps == 1000.0


async def test_what_is_no_picture_has_no_size(look: Look) -> None:
    report = await look(Played((b"no picture", 100.0)))
    assert (report.width, report.height) == (None, None)


async def test_the_time_begins_with_the_first_picture(look: Look) -> None:
    """It came within the patience, which is over long before the second."""

    class Late(Played):
        async def _play(self, pictures: Sequence[tuple[bytes, float]], show: Show) -> None:
            show(*pictures[0])
            await asyncio.sleep(0.02)
            await super()._play(pictures[1:], show)

    late = Late(*THREE, end=SourceLost("it ended"))
    report = await look(late, first_frame_timeout=0.01, seconds=5.0)
    assert report.pictures == 3


async def test_why_it_cannot_be_opened_is_said(look: Look) -> None:
    report = await look(Played(refuses=SourceUnreachable("it does not answer", "is it on?")))
    assert report == Report("script:", reason="it does not answer", hint="is it on?")


@pytest.mark.parametrize("fact", ["status", "device"])
async def test_one_that_answers_or_is_there_is_reachable_though_it_fails(
    look: Look, fact: str
) -> None:
    report = await look(Played(refuses=SourceLost("it broke off"), facts={fact: "it is there"}))
    assert report.reachable
    assert (report.pictures, report.hint) == (0, None)


async def test_who_has_the_device_is_said(look: Look) -> None:
    source = Played(refuses=SourceBusy("the device is busy", "sudo kill 812"))
    source.held_by = (Holder(812, "/usr/bin/ffmpeg", "camera.service"),)
    report = await look(source)
    assert report.holders == source.held_by


async def test_one_that_ends_has_shown_what_it_has_shown(look: Look) -> None:
    report = await look(Played(*THREE, end=SourceLost("it ended", "start it again")))
    assert (report.pictures, report.fps) == (3, 2.0)
    assert (report.reason, report.hint) == ("it ended", "start it again")


async def test_silence_is_said(look: Look) -> None:
    report = await look(Played(facts={"framing": "none"}))
    assert not report.reachable
    assert report.reason == "no picture came in 0.05 s"
    assert report.hint == "knock on it"


async def test_silence_after_pictures_is_no_failure(look: Look) -> None:
    report = await look(Played(*THREE))
    assert (report.reason, report.hint) == (None, None)


# Progress


async def test_how_far_it_is_is_told(look: Look, screen: Screen) -> None:
    await look(Played(*THREE))
    assert screen.texts == [
        "opening script: … 1 s",
        "waiting for a picture … 1 s",
        "1 pictures …",
        "2 pictures …",
        "3 pictures …",
        "",
    ]


async def test_the_progress_ends_with_a_failure_too(look: Look, screen: Screen) -> None:
    await look(Played(refuses=SourceLost("it broke off")))
    assert screen.texts == ["opening script: … 1 s", ""]


async def test_it_counts_down_while_it_waits(
    look: Look, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "_EVERY", 0.001)
    task = asyncio.create_task(look(Played(), first_frame_timeout=3))
    await until(lambda: "waiting for a picture … a moment more" in screen.texts)
    task.cancel()
    await asyncio.wait({task})
    assert screen.texts[:5] == [
        "opening script: … 3 s",
        "waiting for a picture … 3 s",
        "waiting for a picture … 2 s",
        "waiting for a picture … 1 s",
        "waiting for a picture … a moment more",
    ]
    assert screen.texts[-1] == ""


# Who else is there


class Rivals:
    """The processes that are connected to a camera."""

    def __init__(self, *found: Connected) -> None:
        self.found = [*found]
        self.places: list[object] = []

    def connected(self, places: object) -> list[Connected]:
        self.places.append(places)
        return self.found


RELAY = Holder(812, "/usr/bin/mjrelay run", "mjrelay.service")


@pytest.mark.parametrize(("is_certain", "verb"), [(True, "has"), (False, "may have")])
@pytest.mark.parametrize("status", [None, "503 Service Unavailable", "200 OK"])
async def test_a_relay_that_has_the_camera_is_named(
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
    is_certain: bool,
    verb: str,
    status: str | None,
) -> None:
    rivals = Rivals(Connected(RELAY, is_certain))
    monkeypatch.setattr(probing, "connected", rivals.connected)
    facts = {"status": status} if status else {}
    source = Played(refuses=SourceLost("no answer", SLOT_TAKEN), facts=facts)
    report = await look(source, address="http://127.0.0.1:9/")
    assert report.reason == "no answer"
    assert report.hint == (
        f"mjrelay (pid 812, mjrelay.service) of this computer {verb} the camera: watch it there, "
        "or stop that meanwhile: sudo systemctl stop mjrelay.service"
    )
    assert report.holders == ((RELAY,) if is_certain else ())
    assert rivals.places == [{("127.0.0.1", 9)}]


async def test_nobody_is_named_where_the_camera_says_what_is_wrong(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    rivals = Rivals(Connected(RELAY, is_certain=True))
    monkeypatch.setattr(probing, "connected", rivals.connected)
    source = Played(refuses=SourceLost("not found", "try /video"), facts={"status": "404 x"})
    report = await look(source, address="http://127.0.0.1:9/")
    assert (report.hint, report.holders) == ("try /video", ())
    report = await look(Played(*THREE), address="http://127.0.0.1:9/")
    assert (report.hint, report.holders) == (None, ())


async def test_a_camera_whose_name_is_not_found_is_nobody_s(look: Look) -> None:
    source = Played(refuses=SourceUnreachable("not found", "check its spelling"))
    report = await look(source, address=f"http://{'x' * 64}.invalid/")
    assert report.hint == "check its spelling"


async def test_another_relay_is_called_one(look: Look) -> None:
    facts = {"status": "200 OK", "headers": ["date: x", "server: mjrelay"]}
    report = await look(Played(*THREE, facts=facts))
    assert report.note
    assert report.note.startswith("another mjrelay answers there: watch it directly")
    assert report.hint is None
    page = Played(refuses=SourceLost("an HTML page", "look in a browser"), facts=facts)
    report = await look(page)
    assert report.hint == "take one of its streams: /?action=stream, or /cameras/NAME/stream"


async def test_one_that_is_interrupted_is_closed(look: Look, screen: Screen) -> None:
    source = Played(*THREE)
    task = asyncio.create_task(look(source, first_frame_timeout=60))
    await until(lambda: source.is_open)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not source.is_open
    assert screen.texts[-1] == ""


# The report

FULL = Report(
    source="http://***@camera/",
    reachable=True,
    facts={"status": "200 OK", "headers": ["Server: a\x1b[2J", "Date: b"], "framing": ""},
    pictures=3,
    seconds=1.0,
    first_after=1.254,
    width=320,
    height=240,
    fps=2.04,
    frame_bytes=(100, 200, 300),
    tolerated={"no boundary": 3},
    dropped={"truncated": 1},
    holders=(Holder(812, "/usr/bin/ffmpeg -i x", "camera.service"),),
    reason="it ended",
    hint="start it again",
    note="it is old",
)


def test_people_read_every_field() -> None:
    assert FULL.as_text().splitlines() == [
        "source       http://***@camera/",
        "status       200 OK",
        "headers      Server: a?[2J",
        "             Date: b",
        "pictures     3 in 1.0 s",
        "size         320x240",
        "rate         2.0 fps",
        "bytes        100 to 300, 200 on average",
        "first after  1.25 s",
        "tolerated    no boundary (3 x)",
        "dropped      truncated (1 x)",
        "held by      /usr/bin/ffmpeg -i x (pid 812)",
        "failed       it ended",
        "try          start it again",
        "note         it is old",
    ]


def test_people_read_nothing_of_what_is_not_known() -> None:
    assert Report("script:").as_text() == "source       script:"


def test_programs_read_every_field() -> None:
    assert json.loads(FULL.as_json()) == {
        "source": "http://***@camera/",
        "reachable": True,
        "facts": {"status": "200 OK", "headers": ["Server: a\x1b[2J", "Date: b"], "framing": ""},
        "pictures": 3,
        "seconds": 1.0,
        "first_after": 1.254,
        "width": 320,
        "height": 240,
        "fps": 2.04,
        "frame_bytes": [100, 200, 300],
        "tolerated": {"no boundary": 3},
        "dropped": {"truncated": 1},
        "holders": [{"pid": 812, "command": "/usr/bin/ffmpeg -i x", "unit": "camera.service"}],
        "reason": "it ended",
        "hint": "start it again",
        "note": "it is old",
    }


def test_programs_read_the_same_fields_of_what_is_not_known() -> None:
    unknown = json.loads(Report("script:").as_json())
    assert unknown.keys() == json.loads(FULL.as_json()).keys()
    assert unknown["holders"] == []
    assert unknown["width"] is None
