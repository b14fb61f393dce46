"""What a path asks for: in itself, and against the real server."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from mjrelay.camera.camera import Camera
from mjrelay.configuration.tables import ServerConfig
from mjrelay.web.addresses import (
    ALIASES,
    ALIASES_WITH_NUMBER,
    ALIASES_WITH_SRC,
    PAGE,
    SNAPSHOT,
    STREAM,
    Place,
    find,
    nearest,
    with_action,
)
from tests.support.pictures import stamped
from tests.support.serving import LOOPBACK, Served, config_for, serving, until
from tests.support.source import SILENCE, ScriptedSource, steps

BASES = ("/", "/webcam/", "/printer/cam/")
HTTP_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"
STREAMS = [
    *(alias.path for alias in ALIASES if alias.what == STREAM),
    "/stream",
    # Appended: j7126/OctoPrint-Dashboard#188, paukstelis/octoprint_deploy#18.
    "/?action=stream?t=1",
    "/?action=stream?",
    "/?action=stream_0?1608856928650",
    "/?action=stream&1608856928650",
    "/webcam/?action=stream?t=1",
    "/stream?t=1?1608856928650",
    "/stream?fps=5?1608856928650",
    # Glued together: marcolivierarsenault/moonraker-home-assistant#363, OverseerApp/overseer#90.
    "//?action=stream",
    "//stream",
    "/stream/",
    "///webcam//stream//",
    "/webcam/webcam/?action=stream",
    "/webcam/?action=stream/webcam/?action=stream",
    "/printer/cam/webcam/stream",
    "/printer/cam//printer/cam/?action=stream",
    "/cameras//front/stream/",
    "/cameras/front/?action=stream",
    "/cameras/front?action=stream",
    "/snapshot?action=stream",
    "/cameras/front/snapshot?action=stream",
    "/snapshot?_=1&Action=Stream",
    "/%3Faction=stream",
    "/webcam/%3Faction=stream%3Ft=1",
    "/?action%3Dstream",
    "/%2Fstream",
    "/Stream",
    "/STREAM.MJPEG",
    "/?Action=Stream",
    "/Webcam/?action=stream",
    "/cam_1.mjpg",
    "/cam_1.mjpeg",
    "/1/stream",
    "/webcam/1/stream/",
    "/api/stream.mjpeg?src=front",
    "/webcam/axis-cgi/mjpg/video.cgi?resolution=640x480",
    "/printer/cam/mjpeg",
]
SNAPSHOTS = [
    *(alias.path for alias in ALIASES if alias.what == SNAPSHOT),
    "/snapshot",
    "/?action=snapshot?1608856928650",
    "/webcam//?action=snapshot",
    "/snapshot/",
    "/stream?action=snapshot",
    "/video.mjpg?action=snapshot",
    "/webcam/stream?action=snapshot",
    "/cameras/front/stream?action=snapshot",
    "/?Action=Snapshot",
    "/%3Faction=snapshot",
    "/snapshot?max_age=60?1608856928650",
    "/IMAGE.JPG?cidx=2018831847382687",
    "/snap.jpeg",
    "//photoaf.jpg",
    "/cam_1.jpg",
    "/1/current",
    "/picture/1/current/",
    "/picture/1/current?_username=admin&_signature=0",
    "/api/frame.jpeg",
    "/api/frame.jpeg?src=front?1608856928650",
]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    cameras = [
        Camera(
            name,
            config_for("testcard:", stall_timeout=30),
            ScriptedSource([*steps(number), SILENCE]),
        )
        for number, name in enumerate(("front", "back"), 1)
    ]
    config = ServerConfig(listen=LOOPBACK.listen, base_path="/printer/cam/")
    async with serving(*cameras, config=config) as relay:
        await until(lambda: all(camera.published for camera in cameras))
        yield relay


def url(served: Served, path: str) -> URL:
    """The address as it is written: yarl would tidy it."""
    return URL(served.url + path, encoded=True)


@pytest.mark.parametrize("path", STREAMS)
async def test_these_addresses_stream(served: Served, path: str) -> None:
    """The aliases: feelfreelinux/octo4a#60, monkeymademe/CamUI#31, jacksonliam/mjpg-streamer#61.

    Duet3D/DSF-Plugins MotionWebcamServerPlugin has the one of Motion.
    """
    async with served.http.get(url(served, path)) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("multipart/x-mixed-replace;")
        assert stamped(1) in await response.content.readuntil(b"\xff\xd9\r\n")
        response.close()


@pytest.mark.parametrize("path", SNAPSHOTS)
async def test_these_addresses_give_one_picture(served: Served, path: str) -> None:
    async with served.http.get(url(served, path)) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/jpeg"
        assert await response.read() == stamped(1)


@pytest.mark.parametrize("path", STREAMS + SNAPSHOTS)
async def test_head_and_options_are_answered_at_each(served: Served, path: str) -> None:
    async with served.http.head(url(served, path)) as response:
        assert response.status == 200
        assert await response.read() == b""
    async with served.http.options(url(served, path)) as response:
        assert response.status == 204


@pytest.mark.parametrize(
    "path",
    [
        "/cam_2.jpg",
        "/picture/2/current",
        "/?action=snapshot_1?t=1",
        "/stream?action=snapshot_1",
        "/api/frame.jpeg?src=back",
    ],
)
async def test_a_number_or_a_name_asks_for_another_camera(served: Served, path: str) -> None:
    answer, body = await served.get(path)
    assert (answer.status, body) == (200, stamped(2))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/strem", "there is nothing at /strem; did you mean /stream?\n"),
        ("/snapshots", "there is nothing at /snapshots; did you mean /snapshot?\n"),
        (
            "/mjpg/vide.mjpg",
            "there is nothing at /mjpg/vide.mjpg; did you mean /mjpg/video.mjpg?\n",
        ),
        (
            "/front/stream",
            "there is nothing at /front/stream; did you mean /cameras/front/stream?\n",
        ),
        (
            "/cameras/back",
            "there is nothing at /cameras/back; did you mean /cameras/back/stream?\n",
        ),
        ("/nowhere", "there is nothing at /nowhere; / shows the cameras and their addresses\n"),
        (
            "/" + "x" * 3000,
            f"there is nothing at /{'x' * 3000}; / shows the cameras and their addresses\n",
        ),
        (
            "/?action=take",
            "there is no such action; there are ?action=stream and ?action=snapshot\n",
        ),
        ("/cam_0.jpg", "there is nothing at /cam_0.jpg; did you mean /cam.jpg?\n"),
        ("/webcam/strem", "there is nothing at /webcam/strem; did you mean /webcam/stream?\n"),
        ("/cam_3.mjpg", "there is no camera 2; 0 is front, 1 is back\n"),
    ],
)
async def test_a_near_miss_names_the_right_address(served: Served, path: str, says: str) -> None:
    answer, body = await served.get(path)
    assert (answer.status, body.decode()) == (404, says)


@pytest.mark.parametrize(
    "path", ["/", "//", "/webcam/", "//webcam//", "/printer/cam/", "/webcam/webcam/"]
)
async def test_the_page_is_shown_in_place(served: Served, path: str) -> None:
    async with served.http.get(url(served, path), allow_redirects=False) as response:
        assert response.status == 200
        assert b"<html" in await response.read()


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/webcam", "/webcam/"),
        ("//webcam", "/webcam/"),
        ("/webcam/webcam", "/webcam/webcam/"),
        ("/printer/cam", "/printer/cam/"),
        ("//evil.example", None),
        ("//evil.example/", None),
        ("//evil.example/webcam", None),
        ("/%2Fevil.example/%2e%2e/webcam", None),
        ("/\\evil.example", None),
    ],
)
async def test_no_address_leads_to_another_computer(
    served: Served, path: str, leads_to: str | None
) -> None:
    async with served.http.get(url(served, path), allow_redirects=False) as response:
        assert response.headers.get("Location") == leads_to
        assert response.status == (302 if leads_to else 404)


@pytest.mark.parametrize(
    "path",
    [
        "//cameras/front/restart",
        "/cameras/front/restart/",
        "/Cameras/front/restart",
        "/webcam/webcam/cameras/front/restart",
        "/cameras%2Ffront%2Frestart",
        "/webcam%2Fcameras/front/restart",
        "/cameras/front/restart%3Ft=1",
    ],
)
async def test_an_address_that_changes_something_must_be_exact(served: Served, path: str) -> None:
    async with served.http.post(url(served, path)) as response:
        assert response.status == 404
        assert "; did you mean /cameras/front/restart?" in await response.text()
    for base in BASES:
        async with served.http.post(f"{served.url}{base}cameras/front/restart") as response:
            assert response.status == 202


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", Place("/", PAGE)),
        ("", Place("/", PAGE)),
        ("/status/", Place("/status", "status")),
        ("/cameras/Front/Status", Place("/cameras/Front/status", "status", "Front")),
        ("/cameras/a/b/c", None),
        ("/cameras", None),
        ("/printer/stream", None),
        ("/webcam2/stream", None),
    ],
)
def test_a_path_is_understood_or_not(path: str, place: Place | None) -> None:
    assert find(path, BASES) == place


def test_an_unknown_action_is_passed_over_where_the_path_says_what_is_wanted() -> None:
    stream, page = find("/stream", BASES), find("/", BASES)
    assert stream
    assert page
    assert with_action(stream, "action=restart") == stream
    assert with_action(page, "action=restart") is None
    assert with_action(page, "action=stream_x") is None
    assert with_action(page, "action=stream_99999") is None
    assert with_action(page, "action=") == page
    assert with_action(page, "transaction=stream") == page


def test_a_long_path_is_looked_through_once() -> None:
    """Copying what is left of it at each base would take minutes."""
    assert find("/a" * 500_000 + "/stream", ("/a/",)) == Place("/stream", STREAM, 0)


def test_what_is_near_is_looked_for_in_short_paths_only() -> None:
    assert nearest("/streem", BASES, []) == "/stream"
    assert nearest("/stream" * 10_000, BASES, []) is None


def test_every_alias_is_documented() -> None:
    """In the order of the table, with the same programs."""
    rows = re.findall(
        r"^\| `(/\S+?)` \| `(/\S+?)`.* \| (.+) \|$", HTTP_PAGE.read_text("utf-8"), re.MULTILINE
    )
    documented = {(path, what, known_from) for path, what, known_from in rows}
    of_default = {(a.path, f"/{a.what}", a.known_from) for a in (*ALIASES, *ALIASES_WITH_NUMBER)}
    of_any = {
        (f"{a.path}?src=NAME", f"/cameras/NAME/{a.what}", a.known_from) for a in ALIASES_WITH_SRC
    }
    assert documented == of_default | of_any
