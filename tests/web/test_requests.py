"""The heads of requests, mended in front of aiohttp: bytes in, bytes out."""

import random

import pytest

from mjrelay.web.requests import Mender

CLEAN = b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"
SNAPSHOT = b"GET /snapshot HTTP/1.0\r\n\r\n"
CLOSING = b"GET /snapshot HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
KEPT = b"GET /snapshot HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
CHANGE = b'PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n{"a":\0\n}'
CHUNKED = (
    b"PATCH /cameras/front/controls HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n\0\n\r\r\n0\r\n\r\n"
)


def handed_on(*pieces: bytes) -> bytes:
    mender = Mender()
    return b"".join(piece for data in pieces for piece in mender.feed(data))


def cut(data: bytes, *, seed: int) -> list[bytes]:
    places = sorted(random.Random(seed).sample(range(len(data)), 3))
    return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]


MENDED = {
    # Its input_http sends sizeof(request) bytes: jacksonliam/mjpg-streamer mjpg-proxy.c.
    b"GET /?action=stream HTTP/1.0\r\n\r\n\0": b"GET /?action=stream HTTP/1.0\r\n\r\n",
    CLEAN + b"\0" + CLEAN + b"\0\0": CLEAN + CLEAN,
    b"\0" + CLEAN: CLEAN,
    b"\r\n\n\r\n" + CLEAN + b"\r\n\r\n" + CLEAN: CLEAN + CLEAN,
    # robotology/yarp MjpegCarrier.cpp, older ones first; and Qt programs for robots.
    b"GET /?action=stream\n\n HTTP/1.1\nHost: h\r\n\n": b"GET /?action=stream HTTP/1.0\r\n\r\n",
    b"GET /?action=stream HTTP/1.1\nHost: h\r\n\n": (
        b"GET /?action=stream HTTP/1.0\r\nHost: h\r\n\r\n"
    ),
    b"GET /?action=stream\n\n": b"GET /?action=stream HTTP/1.0\r\n\r\n",
    b"GET /snapshot HTTP/1.0\n\n": SNAPSHOT,
    b"HEAD /snapshot HTTP/1.1\n\n": b"HEAD /snapshot HTTP/1.0\r\n\r\n",
    b"GET /snapshot HTTP/1.1\r\n\r\n": SNAPSHOT,
    # HTTP/0.9: the line is all there is.
    b"GET /snapshot\n": SNAPSHOT,
    b"GET /snapshot\r\n": SNAPSHOT,
    b"GET /snapshot\r\nHost: h\r\n\r\n": SNAPSHOT,
    # What mjpg-streamer does not look at.
    b"GET /snapshot HTTP1.1\r\n\r\n": SNAPSHOT,
    b"GET /snapshot http/1.0\r\n\r\n": SNAPSHOT,
    b"GET /snapshot HTTP/1.\r\nHost: h\r\n\r\n": b"GET /snapshot HTTP/1.0\r\nHost: h\r\n\r\n",
    b"GET /snapshot HTTP/2.0\r\n\r\n": SNAPSHOT,
    b"GET  /snapshot  HTTP/1.0 \r\n\r\n": SNAPSHOT,
    b"GET /snapshot?n=my cam HTTP/1.0\r\n\r\n": b"GET /snapshot?n=my%20cam HTTP/1.0\r\n\r\n",
    b"GET /snapshot?n=K\xfcche HTTP/1.0\r\n\r\n": b"GET /snapshot?n=K%FCche HTTP/1.0\r\n\r\n",
    b"GET ?action=stream HTTP/1.0\r\n\r\n": b"GET /?action=stream HTTP/1.0\r\n\r\n",
    b"GET snapshot HTTP/1.0\r\n\r\n": SNAPSHOT,
    b"GET ?u=http://h/&action=snapshot HTTP/1.0\r\n\r\n": (
        b"GET /?u=http://h/&action=snapshot HTTP/1.0\r\n\r\n"
    ),
    b"GET http://h/snapshot\n": b"GET http://h/snapshot HTTP/1.0\r\n\r\n",
    # The two ends of a line in the wrong order, as in many a sketch.
    b"GET /snapshot HTTP/1.0\n\r\n\r": SNAPSHOT,
    b"GET /snapshot HTTP/1.1\n\rHost: h\n\rAccept: */*\n\r\n\r": (
        b"GET /snapshot HTTP/1.0\r\nHost: h\r\nAccept: */*\r\n\r\n"
    ),
    # Browsers send it, and so does who copies from them.
    b"GET /snapshot HTTP/1.1\r\nUpgrade-Insecure-Requests: 1\r\n\r\n": (
        b"GET /snapshot HTTP/1.0\r\nUpgrade-Insecure-Requests: 1\r\n\r\n"
    ),
    # Behind a request that is the last nothing counts.
    SNAPSHOT + b"hello" + CLEAN: SNAPSHOT,
    SNAPSHOT + CLEAN: SNAPSHOT,
    CLOSING + b"\0hello": CLOSING,
    KEPT + b"\0" + KEPT: KEPT + KEPT,
    # A mended request is the last: it neither asks to be kept nor has anything behind it.
    b"GET /snapshot HTTP/1.1\nConnection: keep-alive\n\n" + CLEAN: SNAPSHOT,
    b"GET /snapshot HTTP/1.1\nKeep-Alive: 300\n\n" + CLEAN: (
        b"GET /snapshot HTTP/1.0\r\nKeep-Alive: 300\r\n\r\n"
    ),
    b"GET /snapshot HTTP/1.1\n\nPOST /cameras/front/reset HTTP/1.1\r\nHost: h\r\n\r\n": SNAPSHOT,
}


@pytest.mark.parametrize("came", MENDED)
def test_what_mjpg_streamer_understands_is_mended_however_it_is_cut(came: bytes) -> None:
    assert handed_on(came) == MENDED[came]
    assert handed_on(*(came[i : i + 1] for i in range(len(came)))) == MENDED[came]
    for seed in range(50):
        assert handed_on(*cut(came, seed=seed)) == MENDED[came]


UNTOUCHED = [
    CLEAN,
    CLEAN + CLEAN,
    SNAPSHOT,
    b"GET http://h/stream HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    b"OPTIONS /stream HTTP/1.1\r\nHost: h\r\n\r\n" + CLEAN,
    # Bodies, with what would be mended in a head, and what comes behind them.
    CHANGE + CHANGE,
    CHUNKED + CLEAN,
    CLEAN + CHANGE + CLEAN,
    b"GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\0\n\0",
    # No requests at all.
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"hello\n\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /snap\0shot HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET HTTP/1.0\r\n\r\n",
    b"GET \r\n\r\n",
]
# What one program reads in one way, and another in another: aiohttp refuses all of it.
AMBIGUOUS = [
    b"GET /snapshot HTTP/1.0\r\rHost: h\r\n\r\n",
    b"GET /snapshot HTTP/1.0\r\r\n\r\r\n",
    b"GET /snapshot HTTP/1.0\nA: b\rc\n\n",
    b"GET /snapshot HTTP/1.0\n\r\rA: b\n\r\n\r",
    b"GET /snapshot HTTP/1.0\n\r b\n\r\n\r",
    b"GET /snapshot HTTP/1.1\n\rHost: h\n\rContent-Length: 9\n\r\n\r" + SNAPSHOT,
    b"GET /snapshot HTTP/1.1\nHost: h\nUpgrade: x\n\n",
    b"GET /snapshot HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
    b"GET /snapshot HTTP/1.1\nHost: h\nA: b\n c\n\n",
    b"GET /snapshot HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
    b"GET /snapshot HTTP/1.1\nHost: h\nA: b\0c\n\n",
    b"GET /snapshot HTTP/1.1\nHost: h\nA : b\n\n",
    b"GET /snapshot HTTP/1.1\nHost: h\nA\n\n",
    b"GET /snapshot HTTP/1.1\nHost: h\n: b\n\n",
    b"GET /snapshot HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding:chunked\r\n\r\n0\r\n\r\n",
    # A body needs a clean head.
    b"GET /snapshot HTTP/1.1\nHost: h\nContent-Length: 9\n\n" + SNAPSHOT,
    b"GET /snapshot HTTP/1.1\r\nHost: h\nContent-Length: 9\r\n\r\n" + SNAPSHOT,
    b"GET /snapshot HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
    b"GET /snapshot HTTP/1.1\r\nContent-Length: 9\r\n\r\n" + SNAPSHOT,
    b"POST /cameras/front/restart HTTP/1.1\nHost: h\n\n",
    b"POST /cameras/front/restart HTTP/1.1\r\nHost: h\r\nContent-Length: 0\n\r\n",
]


@pytest.mark.parametrize("came", UNTOUCHED + AMBIGUOUS)
def test_everything_else_is_handed_on_as_it_came(came: bytes) -> None:
    assert handed_on(came) == came
    assert handed_on(*(came[i : i + 1] for i in range(len(came)))) == came


@pytest.mark.parametrize("came", [b"GET /" + b"x" * 70_000, CLEAN[:-2] + b"a: b\r\n" * 12_000])
def test_a_head_too_long_is_handed_on_before_it_ends(came: bytes) -> None:
    assert handed_on(came) == came
    assert not handed_on(came[:60_000])


def test_blanks_are_never_held() -> None:
    mender = Mender()
    for _ in range(10):
        assert mender.feed(b"\0" * 100_000) == []
        assert not mender.is_inside_a_head
    assert mender.feed(CLEAN[:5]) == []
    assert mender.is_inside_a_head


def test_any_bytes_are_handed_on_the_same_however_they_are_cut() -> None:
    words = [b"GET ", b"HEAD ", b"/", b" HTTP/1.1", b" ", b"\r", b"\n", b"\r\n", b"\0", b"\xe9",
             b"Host: h", b"Content-Length: 1", b":", b"POST ",
             CLEAN, SNAPSHOT, CLOSING]  # fmt: skip
    for seed in range(5000):
        chosen = random.Random(seed)
        came = b"".join(chosen.choices(words, k=chosen.randrange(1, 25)))
        whole = handed_on(came)
        assert handed_on(*(came[i : i + 1] for i in range(len(came)))) == whole
        if len(came) > 4:
            assert handed_on(*cut(came, seed=seed)) == whole
