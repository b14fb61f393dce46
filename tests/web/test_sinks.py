"""SocketSink on real sockets."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame
from mjrelay.web.listening import tune
from mjrelay.web.sinks import SocketSink
from tests.support.pictures import picture

# More than the kernel takes at once from a client that does not read.
LARGE = picture(1) + bytes(8 * 2**20)


def listening(dead_after: float) -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    tune(server, dead_after=dead_after)
    return server


@contextmanager
def connected(*, dead_after: float = 60) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The relay's and the client's end of a TCP connection."""
    with (
        listening(dead_after) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as ours,
    ):
        ours.setblocking(False)
        client.setblocking(False)
        yield ours, client


def frame(seq: int, image: bytes = b"") -> Frame:
    return Frame(seq, 0.0, time.monotonic(), image or picture(seq))


def sent(frame: Frame) -> bytes:
    return b"".join(frame.part[0])


async def drain(client: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        data += await loop.sock_recv(client, 2**20)
    return bytes(data)


async def test_a_frame_is_sent_whole_in_the_turn_it_is_offered() -> None:
    with connected() as (ours, client):
        sink = SocketSink(ours, Fanout())
        sink.offer(frame(1))
        assert sink.sent == 1
        assert await drain(client, 1) == sent(frame(1))
        sink.close()


async def test_a_busy_sink_lets_frames_pass_and_goes_on_with_the_newest() -> None:
    with connected() as (ours, client):
        fanout = Fanout()
        sink = SocketSink(ours, fanout)
        fanout.join(sink)
        for number, image in enumerate((LARGE, b"", b"", b""), 1):
            fanout.show(frame(number, image), 0.0)
        assert (sink.sent, sink.skipped) == (0, 3)
        expected = sent(frame(1, LARGE)) + sent(frame(4))
        assert await drain(client, len(expected)) == expected
        assert (sink.sent, sink.skipped) == (2, 2)
        sink.close()


async def test_a_repetition_for_a_busy_sink_is_no_frame_skipped() -> None:
    with connected() as (ours, _):
        sink = SocketSink(ours, Fanout())
        large = frame(1, LARGE)
        sink.offer(large)
        sink.offer(large)
        assert sink.skipped == 0
        newer = frame(2)
        for _ in range(4):
            sink.offer(newer)
        assert sink.skipped == 1
        sink.close()


async def test_what_is_offered_after_the_end_is_not_sent() -> None:
    with connected() as (ours, _):
        sink = SocketSink(ours, Fanout())
        sink.finish()
        sink.offer(frame(1))
        assert sink.sent == 0
        sink.close()


async def test_finishing_waits_for_the_end_of_the_part() -> None:
    with connected() as (ours, client):
        sink = SocketSink(ours, Fanout())
        large = frame(1, LARGE)
        sink.offer(large)
        sink.finish()
        assert not sink.ended.done()
        assert await drain(client, large.part[1]) == sent(large)
        await asyncio.wait_for(sink.ended, 5)
        sink.close()


async def test_a_client_that_is_gone_ends_the_sink_and_leaves_the_fanout() -> None:
    with connected() as (ours, client):
        fanout = Fanout()
        sink = SocketSink(ours, fanout)
        fanout.join(sink)
        client.close()
        for number in range(1, 50):
            fanout.show(frame(number), 0.0)
            await asyncio.sleep(0)
        await asyncio.wait_for(sink.ended, 5)
        assert not fanout.sinks
        sink.close()


async def test_a_client_whose_kernel_takes_nothing_for_long_is_given_up() -> None:
    with connected(dead_after=0.3) as (ours, _):
        sink = SocketSink(ours, Fanout())
        sink.offer(frame(1, LARGE))
        await asyncio.wait_for(sink.ended, 10)
        sink.close()


@pytest.mark.parametrize(("fps", "offered", "sent"), [(0, 60, 60), (10, 60, 20), (20, 60, 40)])
async def test_thinning_keeps_the_wanted_rate(
    monkeypatch: pytest.MonkeyPatch, fps: float, offered: int, sent: int
) -> None:
    with connected() as (ours, _):
        sink = SocketSink(ours, Fanout(), fps=fps)
        now = 100.0
        monkeypatch.setattr(sink._loop, "time", lambda: now)
        for number in range(1, offered + 1):
            sink.offer(frame(number))
            now += 1 / 30
        assert sink.sent == pytest.approx(sent, abs=1)
        sink.close()


async def test_the_rate_is_that_between_samples() -> None:
    with connected() as (ours, _):
        sink = SocketSink(ours, Fanout())
        now = asyncio.get_running_loop().time()
        for number in range(1, 11):
            sink.offer(frame(number))
        sink.sample(now + 2)
        assert sink.rate == pytest.approx(5, abs=0.2)
        sink.sample(now + 3)
        assert sink.rate == 0
        sink.close()
