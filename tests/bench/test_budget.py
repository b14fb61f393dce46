"""A guard for the fan-out's costs that needs no quiet computer: it counts, and times nothing."""

import contextlib
import gc
import math
import socket
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import mjrelay
from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame
from mjrelay.web.sinks import SocketSink
from tests.bench.__main__ import Bench
from tests.bench.programs import COMPILER
from tests.bench.relays import ours
from tests.bench.scenarios import STRACE, Round, Scenario, play_calls
from tests.support.camera import Frames, HttpHead, ScriptedCamera, Send
from tests.support.serving import camera_for, running, until

pytestmark = pytest.mark.e2e

needs_programs = pytest.mark.skipif(
    not (COMPILER and STRACE), reason="needs cc and strace: apt install gcc libc6-dev strace"
)

# One each; some more where the kernel does not take a whole frame at once.
SENDS_PER_CLIENT_FRAME = 1.2
# What comes in: a frame comes in pieces, more of them on a busy computer, and each wakes us up.
OTHER_CALLS_PER_FRAME = 12.0
# While nobody watches, some frames come together: 1.4 calls for each, more on a busy computer.
CALLS_PER_UNWATCHED_FRAME = 3.0
# Python's functions, which cost more than what they do: to offer a frame, and to send it.
FUNCTIONS_PER_CLIENT_FRAME = 2.1
# 43 where a frame comes at once; on a busy computer it comes in pieces.
FUNCTIONS_PER_FRAME = 65.0
# The fan-out copies its list of clients, a pointer each.
BYTES_PER_CLIENT_FRAME = 16.0

SECONDS = 8.0
OURS = str(Path(mjrelay.__file__).parent)


def calls(folder: Path, clients: int) -> Round:
    scenario = Scenario("calls", play_calls, "100k", clients=clients, once=True)
    ((came,),) = Bench(folder, rounds=1, seconds=SECONDS).play(scenario, [ours()]).values()
    return came


@needs_programs
@pytest.mark.timeout(90)
def test_one_send_for_each_client_and_frame(tmp_path: Path) -> None:
    came = calls(tmp_path, clients=50)
    assert came["delivered_percent"] > 90
    assert came["sends"] <= SENDS_PER_CLIENT_FRAME
    assert came["calls_per_image"] <= OTHER_CALLS_PER_FRAME


@needs_programs
@pytest.mark.timeout(90)
def test_a_frame_that_nobody_watches_is_only_received(tmp_path: Path) -> None:
    assert 0 < calls(tmp_path, clients=0)["calls_per_image"] <= CALLS_PER_UNWATCHED_FRAME


@contextlib.contextmanager
def viewers(count: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A fan-out to some clients: what shows them a frame, and what lets them read it."""
    frame = Frame(1, 0.0, 0.0, b"\xff\xd8" + bytes(2000) + b"\xff\xd9")
    inbox = bytearray(2 * frame.part[1])
    fanout = Fanout()
    with contextlib.ExitStack() as stack:
        ends = []
        for _ in range(count):
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            ours.setblocking(False)
            ends.append(theirs)
            sink = SocketSink(ours, fanout)
            stack.callback(sink.close)
            stack.callback(fanout.leave, sink)
            fanout.join(sink)

        def show() -> None:
            fanout.show(frame, 0.0)

        def read() -> None:
            for end in ends:
                assert end.recv_into(inbox) == frame.part[1]

        yield show, read


async def test_the_fan_out_needs_no_memory_for_each_client_and_frame() -> None:
    clients, frames = 100, 50
    with viewers(clients) as (show, read), contextlib.ExitStack() as stack:
        for _ in range(300):  # until the counters are no small numbers any more
            show()
            read()
        stack.callback(tracemalloc.stop)
        tracemalloc.start()
        for _ in range(frames):
            show()
            read()
        gc.collect()
        at_first, _ = tracemalloc.get_traced_memory()
        peak = -math.inf
        for _ in range(frames):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            show()
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
            read()
        gc.collect()
        at_last, _ = tracemalloc.get_traced_memory()

    assert peak / clients <= BYTES_PER_CLIENT_FRAME
    assert (at_last - at_first) / (clients * frames) < 1


@contextlib.contextmanager
def counted_functions() -> Iterator[Counter[str]]:
    """Count how often each of our functions is called."""
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            called[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


async def test_the_fan_out_calls_few_functions_for_each_client_and_frame() -> None:
    clients = 100
    with viewers(clients) as (show, _), counted_functions() as called:
        show()
    assert 0 < called.total() / clients <= FUNCTIONS_PER_CLIENT_FRAME, called


async def test_few_functions_are_called_to_receive_a_frame() -> None:
    async with ScriptedCamera([Send(HttpHead), Frames(fps=50)]) as server:
        camera = camera_for(server.url)
        with camera.watched():
            async with running(camera):
                await until(lambda: camera.published >= 5)
                before = camera.published
                with counted_functions() as called:
                    await until(lambda: camera.published >= before + 50)
                received = camera.published - before
    assert 0 < called.total() / received <= FUNCTIONS_PER_FRAME, called.most_common(99)
