"""HttpSource and a camera that gives one picture per answer, and not always."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mjrelay.camera.camera import Camera
from mjrelay.sources.http import source as http_source
from tests.support.camera import (
    AskAuth,
    Close,
    Connection,
    Pause,
    Reset,
    Script,
    ScriptedCamera,
    Send,
    Silence,
    Step,
)
from tests.support.pictures import picture, stamped
from tests.support.quirks import MULTIPART, answer, multipart
from tests.support.serving import camera_for, running, until

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def single(image: bytes, *headers: str, length: bool = True) -> bytes:
    """An answer of one picture."""
    more = [f"Content-Length: {len(image)}"] if length else []
    return answer(image, "image/jpeg", *more, *headers)


@dataclass(frozen=True)
class Picture:
    """Answer with the next stamped picture."""

    headers: tuple[str, ...] = ()
    length: bool = True

    async def play(self, connection: Connection) -> None:
        """Send it."""
        image = stamped(connection.camera.next_number())
        await connection.send(single(image, *self.headers, length=self.length))


GOOD: Script = [Picture(), Close()]


def polled(url: str, **options: object) -> Camera:
    return camera_for(url, **{"fps": 50, "stall_timeout": 5, "redial_delay": 0.02, **options})


MISSES: dict[str, Script] = {
    "busy": [Send(BUSY), Close()],
    "empty": [Send(answer(b"", "image/jpeg", "Content-Length: 0")), Close()],
    "empty, left open": [Send(answer(b"", "image/jpeg", "Content-Length: 0")), Silence()],
    "no content": [Send(answer(b"", None, status="HTTP/1.1 204 No Content")), Close()],
    "no content, left open": [
        Send(answer(b"", None, status="HTTP/1.1 204 No Content")),
        Silence(),
    ],
    "cut short": [Send(single(picture(1))[:-200]), Close()],
    "a text": [Send(answer(b"Device Busy", "text/plain")), Close()],
    "a page": [Send(answer(b"<html>busy</html>", "text/html")), Close()],
    "reset": [Reset()],
    "closed": [Close()],
    "not found": [Send(answer(b"", None, status="HTTP/1.1 404 Not Found")), Close()],
    "a gateway's": [Send(answer(b"", None, status="HTTP/1.1 502 Bad Gateway")), Close()],
    "multipart, without a picture": [Send(answer(b"--b\r\n\r\n--b--", MULTIPART)), Close()],
}


@pytest.mark.parametrize("miss", MISSES.values(), ids=MISSES)
async def test_one_bad_poll_is_no_outage(miss: Script) -> None:
    """Polled cameras that are busy now and then: evercam/evercam-server#58, Skinah/IpCamera#41."""
    async with ScriptedCamera(GOOD, miss, GOOD, miss, GOOD, one_slot=True) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published >= 4)
            assert camera.state == "streaming"
            assert camera.opens == 1
        assert not camera.failures
        assert not camera.condition.outages
        assert camera.source.tally.tolerated["poll without a picture"] == 2
        assert device.most_open == 1


async def test_a_picture_that_is_cut_short_is_a_miss_though_the_length_is_right() -> None:
    """rroller/dahua#73: without its end a picture would be shown with a grey edge."""
    cut_short: Script = [Send(single(picture(1)[:-200])), Close()]
    async with ScriptedCamera(GOOD, cut_short, GOOD, cut_short, GOOD) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published >= 4)
        assert not camera.failures
        assert camera.source.tally.tolerated == {"poll without a picture": 2}


async def test_a_camera_that_never_ends_its_pictures_is_shown_all_the_same() -> None:
    endless: Script = [Send(single(picture(1)[:-2])), Close()]
    async with ScriptedCamera(endless) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published >= 4)
        assert not camera.source.tally.dropped


async def test_a_picture_that_stops_in_the_middle_is_a_miss() -> None:
    half: Script = [Send(single(picture(1))[:-200]), Silence()]
    async with ScriptedCamera(GOOD, half, GOOD) as device:
        camera = polled(device.url, stall_timeout=0.4)
        async with running(camera):
            await until(lambda: camera.published >= 3)
        assert not camera.failures


async def test_misses_in_a_row_are_an_outage_for_the_reason_of_the_last() -> None:
    async with ScriptedCamera(GOOD, GOOD, [Close()], [Send(BUSY), Close()]) as device:
        camera = polled(device.url, stall_timeout=0.3)
        async with running(camera):
            await until(lambda: camera.state == "recovering")
            assert camera.condition.reason == "the camera answers 503 Service Unavailable"
            assert camera.failures == {"refused": 1}


async def test_a_polled_camera_that_is_switched_off_is_absent() -> None:
    async with ScriptedCamera(GOOD) as device:
        camera = polled(device.url, stall_timeout=0.3)
        async with running(camera):
            await until(lambda: camera.published >= 2)
            await device.refuse()
            await until(lambda: camera.state == "absent")
            await device.answer_again()
            await until(lambda: camera.state == "streaming")


async def test_a_busy_camera_is_not_asked_faster_than_it_bears() -> None:
    """After one miss it is asked at the next beat, after more no sooner than `redial_delay`."""
    async with ScriptedCamera(GOOD, [Send(BUSY), Close()]) as device:
        camera = polled(device.url, redial_delay=0.2)
        async with running(camera):
            await until(lambda: device.accepted >= 5)
    assert device.gaps[1] < 0.19
    assert min(device.gaps[2:]) >= 0.19


async def test_a_camera_that_wants_to_be_left_alone_is() -> None:
    wait = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n"
    async with ScriptedCamera(GOOD, [Send(wait), Close()], GOOD) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: device.accepted >= 3)
        assert not camera.failures
    assert device.gaps[1] >= 0.99


async def test_what_is_left_of_that_time_is_waited_after_the_outage_is_told() -> None:
    wait = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 100\r\n\r\n"
    async with ScriptedCamera(GOOD, GOOD, [Send(wait), Close()]) as device:
        camera = polled(device.url, stall_timeout=0.3)
        async with running(camera):
            await until(lambda: camera.state == "recovering")
            assert camera.condition.hint == "it is asked too often: set a lower fps"
            assert camera.retry_in
            assert 90 < camera.retry_in < 99.8
        assert device.accepted == 3


PASSWORD = {"username": "anna", "password": "secret"}


@pytest.mark.parametrize(
    ("status", "options"),
    [("401 Unauthorized", {}), ("401 Unauthorized", PASSWORD), ("403 Forbidden", PASSWORD)],
)
async def test_a_camera_that_no_longer_lets_us_in_is_not_asked_again_and_again(
    status: str, options: dict[str, str]
) -> None:
    refused = answer(b"", None, status=f"HTTP/1.1 {status}")
    async with ScriptedCamera(GOOD, [Send(refused), Close()]) as device:
        camera = polled(device.url, redial_delay=0.5, stall_timeout=60, **options)
        async with running(camera):
            await until(lambda: camera.state == "recovering")
        assert camera.failures == {"refused": 1}
        assert device.accepted <= 3


async def test_403_to_a_request_without_a_password_is_a_miss() -> None:
    """It locks no account, and some cameras say it while they are busy."""
    refused: Script = [Send(answer(b"", None, status="HTTP/1.1 403 Forbidden")), Close()]
    async with ScriptedCamera(GOOD, refused, GOOD, refused, refused, GOOD) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published >= 3)
        assert not camera.failures


async def test_a_connection_that_is_lost_behind_a_challenge_is_a_miss() -> None:
    """The password was not refused: nobody knows whether the camera has seen it."""
    asks: Script = [AskAuth('Digest realm="r", nonce="n", stale=true')]
    async with ScriptedCamera(asks, GOOD, asks, [Close()], [Close()], GOOD) as device:
        camera = polled(device.url, **PASSWORD)
        async with running(camera):
            await until(lambda: camera.published >= 2)
        assert not camera.failures


async def test_an_answer_that_is_awaited_is_no_silence() -> None:
    """A snapshot server that needs longer than stall_timeout: blakeblackshear/frigate#3216."""
    async with ScriptedCamera([Pause(0.5), Picture(), Close()]) as device:
        camera = polled(device.url, stall_timeout=0.2, first_frame_timeout=5)
        camera.stuck_after, camera.source.patience = 0.0, 5.0
        async with running(camera):
            await until(lambda: camera.published)
            while camera.published < 4:
                assert camera.is_fresh
                assert not camera.is_stuck
                await asyncio.sleep(0.005)
        assert not camera.failures
        assert device.accepted <= 5


async def test_one_slow_answer_of_a_quick_camera_is_no_silence() -> None:
    slow: Script = [Pause(0.8), Picture(), Close()]
    async with ScriptedCamera(*[GOOD] * 4, slow, GOOD) as device:
        camera = polled(device.url, stall_timeout=0.2)
        async with running(camera):
            await until(lambda: camera.published >= 6)
        assert not camera.failures


async def test_after_a_miss_an_answer_that_is_awaited_is_no_sign_of_life() -> None:
    async with ScriptedCamera(*[GOOD] * 3, [Close()], [Silence()]) as device:
        camera = polled(device.url, stall_timeout=0.3, first_frame_timeout=30)
        async with running(camera):
            await until(lambda: camera.state == "recovering", within=2)
            assert camera.condition.reason == "the camera closed the connection without an answer"


async def test_after_a_miss_a_slow_camera_is_given_the_time_that_it_takes() -> None:
    """Slow and now and then busy: blakeblackshear/frigate#3216, evercam/evercam-server#58."""
    slow: Script = [Pause(0.6), Picture(), Close()]
    slow_miss: Script = [Pause(0.6), Send(BUSY), Close()]
    async with ScriptedCamera(slow, slow_miss, slow) as device:
        camera = polled(device.url, stall_timeout=0.5, first_frame_timeout=0.8)
        async with running(camera):
            await until(lambda: camera.published >= 3)
        assert not camera.failures
        assert camera.opens == 1


async def test_an_answer_that_never_comes_is_a_miss_and_then_a_silence() -> None:
    async with ScriptedCamera(GOOD, [Silence()]) as device:
        camera = polled(device.url, stall_timeout=0.2, first_frame_timeout=0.4)
        async with running(camera):
            await until(lambda: camera.state == "recovering")
            assert camera.condition.reason
            assert "sent no answer for 0.4 s" in camera.condition.reason


async def test_a_picture_that_grows_is_no_silence_when_polled_or_streamed() -> None:
    """Big pictures over a weak Wi-Fi: rzeldent/esp32cam-rtsp#37."""
    for wire in (single(stamped(1)), answer(multipart([stamped(1)]), MULTIPART)):
        size = len(wire) // 6
        pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
        slowly: list[Step] = [step for piece in pieces for step in (Send(piece), Pause(0.1))]
        async with ScriptedCamera(slowly) as device:
            options = {"stall_timeout": 0.3, "first_frame_timeout": 0.3}
            camera = polled(device.url, **options)
            assert 0.1 * len(pieces) > 0.4
            async with running(camera):
                await until(lambda: camera.published == 2)  # noqa: B023
            assert not camera.failures


async def test_padding_is_no_sign_of_life() -> None:
    """Blank lines and heads of parts, sent to keep a connection open, are no picture."""

    class Drip:
        async def play(self, connection: Connection) -> None:
            while not connection.gone.is_set():
                await connection.send(
                    b"\r\n--boundarydonotcross\r\nContent-Type: image/jpeg\r\n\r\n"
                )
                await asyncio.sleep(0.02)

    wire = answer(multipart([picture(1), picture(2)]), MULTIPART)
    async with ScriptedCamera([Send(wire), Drip()]) as device:
        camera = polled(device.url, stall_timeout=0.3, first_frame_timeout=0.3)
        async with running(camera):
            await until(lambda: camera.failures["stalled"])
            assert camera.condition.reason == "the camera went silent: no picture for 0.3 s"


# A connection that is left open behind a single picture


def left_open(seconds: float | None) -> Script:
    return [Picture(length=False), Silence() if seconds is None else Pause(seconds), Close()]


async def test_a_camera_that_leaves_its_connection_open_is_hung_up_on() -> None:
    """A widely copied sketch: khanghy1000/iot-lab-ptithcm ESP32_CAM/handler.ino."""
    async with ScriptedCamera(left_open(0.5), left_open(None)) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published >= 4)
        assert camera.opens == 1, "what was learnt from the first answer holds for the next"
        assert device.ends[1] == "fin"


async def test_one_that_leaves_it_open_for_ever_is_known_after_one_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_source, "_LEFT_OPEN_AFTER", 0.2)
    async with ScriptedCamera(left_open(None)) as device:
        camera = polled(device.url, stall_timeout=0.5, first_frame_timeout=0.5)
        async with running(camera):
            await until(lambda: camera.published >= 4)
        assert camera.opens == 2


async def test_a_slow_stream_of_pictures_without_multipart_is_not_hung_up_on() -> None:
    async with ScriptedCamera(
        [
            Send(answer(stamped(1), "video/x-motion-jpeg")),
            *(step for number in range(2, 5) for step in (Pause(0.4), Send(stamped(number)))),
            Silence(),
        ]
    ) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published == 4)
        assert device.accepted == 1


async def test_a_stream_among_single_pictures_is_a_stream() -> None:
    """What was learnt from the answers before does not end it."""
    stream: Script = [
        Send(answer(stamped(1), "image/jpeg")),
        *(step for number in (2, 3) for step in (Pause(0.1), Send(stamped(number)))),
        Pause(0.5),
        Send(stamped(4)),
        Silence(),
    ]
    async with ScriptedCamera(left_open(0), stream) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: camera.published == 5)
        assert device.accepted == 2


# Pictures that have not changed


@dataclass
class Tagged:
    """A camera that gives its picture a tag, and says when the picture has not changed.

    Attributes:
        number: Of the picture it has now.
        tag: The tag of a picture by its number.
        asked: The tags that came with the requests, and whether the answer was 304.
    """

    tag: Callable[[int], str] = '"{}"'.format
    number: int = 1
    asked: list[tuple[str, bool]] = field(default_factory=list)

    async def play(self, connection: Connection) -> None:
        """Answer."""
        request = connection.camera.requests[-1].decode()
        known = request.partition("If-None-Match: ")[2].partition("\r\n")[0]
        tag = self.tag(self.number)
        has_not_changed = known == tag
        self.asked.append((known, has_not_changed))
        if has_not_changed:
            # The length of what is not sent, as some servers tell it.
            headers = [f"ETag: {tag}", "Content-Length: 5000"]
            await connection.send(
                answer(b"", "image/jpeg", *headers, status="HTTP/1.1 304 Not Modified")
            )
        else:
            await connection.send(single(stamped(self.number), f"ETag: {tag}"))


async def test_a_picture_that_we_have_is_not_sent_again() -> None:
    device_of = Tagged()
    async with ScriptedCamera([device_of, Silence()]) as device:
        camera = polled(device.url, stall_timeout=1.5)
        async with running(camera):
            await until(lambda: len(device_of.asked) >= 5)
            device_of.number = 2
            await until(lambda: camera.published >= 2)
            assert camera.ring.newest
            assert camera.ring.newest.image == stamped(2)
        assert camera.published <= 3
        assert not camera.failures
    assert device_of.asked[:3] == [("", False), ('"1"', True), ('"1"', True)]


async def test_a_camera_whose_picture_never_changes_is_alive_and_in_the_end_frozen() -> None:
    async with ScriptedCamera([Tagged(), Close()]) as device:
        camera = polled(device.url, stall_timeout=1.5, frozen_after=2.5)
        async with running(camera):
            await until(lambda: camera.published)
            while camera.state == "streaming":
                assert camera.is_fresh
                await asyncio.sleep(0.01)
            assert camera.state == "frozen"
        assert not camera.failures


async def test_a_tag_that_all_pictures_have_does_not_freeze_the_picture() -> None:
    liar = Tagged(tag=lambda _: '"snapshot.jpg"')
    async with ScriptedCamera([liar, Close()]) as device:
        camera = polled(device.url)
        async with running(camera):
            await until(lambda: len(liar.asked) >= 3)
            liar.number = 2
            await until(lambda: camera.ring.newest and camera.ring.newest.image == stamped(2))
            liar.number = 3
            asked = len(liar.asked)
            await until(lambda: camera.ring.newest and camera.ring.newest.image == stamped(3))
            assert all(not known for known, _ in liar.asked[asked:])


async def test_each_opening_asks_for_the_picture_itself() -> None:
    tagged = Tagged()
    async with ScriptedCamera([tagged, Close()]) as device:
        camera = polled(device.url)
        for _ in range(2):
            began = len(tagged.asked)
            async with running(camera):
                await until(lambda: len(tagged.asked) > began + 1)  # noqa: B023
            assert tagged.asked[began] == ("", False)
            camera.configure(camera.config, camera.source)


def inboxes() -> int:
    """How many buffers of connections this process has: they are shared mappings."""
    return Path("/proc/self/maps").read_text().count("/dev/zero")


@pytest.mark.parametrize(
    "then",
    [
        [Send(b"HTTP/1.1 503 Busy\r\nRetry-After: 100\r\n\r\n"), Close()],
        [Send(single(picture(1))[:-200]), Reset()],
        [Send(single(picture(1) * 2)), Reset()],
    ],
    ids=["busy", "a miss", "a gap"],
)
async def test_an_error_that_is_remembered_keeps_no_buffer_alive(then: Script) -> None:
    before = inboxes()
    async with ScriptedCamera(GOOD, then) as device:
        camera = polled(device.url, redial_delay=60, fps=4)
        async with running(camera):
            await until(lambda: device.accepted >= 2)
            await until(lambda: inboxes() == before)
