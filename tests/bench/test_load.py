"""The load client finds every fault of a frame that it is there to find."""

import asyncio

import pytest

from mjrelay.formats.multipart import OPENING, part
from tests.bench.programs import COMPILER, Programs, build, load
from tests.support.camera import HttpHead, Pause, ScriptedCamera, Send, Silence
from tests.support.pictures import COM, EOI, SOI, segment

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(60),
    pytest.mark.skipif(COMPILER is None, reason="needs cc: apt install gcc libc6-dev"),
]

# The first frame starts the clock of load.c, which begins to count half a second later.
SETTLE = 0.7


def image(number: int) -> bytes:
    return SOI + segment(COM, b"bench %010d %020d" % (number, 1)) + bytes(5000) + EOI


def sent(number: int) -> bytes:
    return b"".join(part(0.0, image(number))[0])


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return build(tmp_path_factory.mktemp("programs"))


async def watch(programs: Programs, *frames: bytes) -> dict[str, float]:
    """What the client says about frames that come after the first one."""
    first = Send(HttpHead + OPENING + sent(1))
    rest = Send(b"".join(frames))
    async with ScriptedCamera([first, Pause(SETTLE), rest, Silence()]) as camera:
        return await asyncio.to_thread(_watch, programs, camera.port)


def _watch(programs: Programs, port: int) -> dict[str, float]:
    with load(programs, [f"{port}/"], clients=1, seconds=0.5) as client:
        client.until("begin")
        client.until("end")
        return client.result()


async def test_good_frames(programs: Programs) -> None:
    seen = await watch(programs, sent(2), sent(3), sent(3), sent(4))
    assert (seen["frames"], seen["delivered"], seen["repeated"]) == (3, 1.0, 1)
    assert seen["corrupt"] == seen["lost"] == 0


async def test_a_missing_frame(programs: Programs) -> None:
    seen = await watch(programs, sent(2), sent(3), sent(5))
    assert seen["camera_frames"] == 4
    assert seen["delivered"] == 0.75


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(sent(2).replace(b"5045", b"5044"), id="length too small"),
        pytest.param(sent(2).replace(b"5045", b"5047"), id="length too large"),
        pytest.param(sent(2).replace(b"Content-Length", b"Content-Size"), id="no length"),
        pytest.param(sent(2).replace(EOI, b"\xff\xd0"), id="no EOI"),
        pytest.param(sent(2).replace(SOI, b"\xff\xd0"), id="no SOI"),
        pytest.param(sent(2).replace(b"bench", b"other"), id="no stamp"),
        pytest.param(sent(2).replace(b"--bound", b"--b"), id="another boundary"),
        pytest.param(sent(2).replace(b"\xff\xd9\r\n", b"\xff\xd9"), id="no line end"),
        pytest.param(sent(3) + sent(2), id="an older frame"),
    ],
)
async def test_a_bad_frame(programs: Programs, bad: bytes) -> None:
    seen = await watch(programs, bad + sent(4))
    assert seen["corrupt"] == 1
