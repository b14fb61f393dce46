"""A camera that was away is shown as soon as it answers again."""

import asyncio
import time

import pytest

from tests.support.camera import STREAM, Frames, HttpHead, ScriptedCamera, Send
from tests.support.daemon import RelayProcess
from tests.support.viewer import Viewer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

AWAY = 12.0
# Promised are 1.5 s: a dial every second, and a frame. The rest is for machines that run much else.
BACK_WITHIN = 2.0


async def test_frames_are_back_soon_after_the_camera_answers_again() -> None:
    async with (
        ScriptedCamera([Send(HttpHead), Frames(count=50)], STREAM) as camera,
        RelayProcess(camera.url) as relay,
        Viewer(relay.url) as viewer,
    ):
        await viewer.until(lambda: 50 in viewer.stamps, within=10)
        await camera.refuse()
        await asyncio.sleep(AWAY)
        assert (await relay.camera())["state"] == "absent"
        assert viewer.frames[-1].is_placeholder
        assert viewer.frames[-1].arrived > time.time() - BACK_WITHIN  # repeated all the time

        await camera.answer_again()
        begun = time.monotonic()
        await viewer.until(lambda: max(viewer.stamps) > 50)
        took = time.monotonic() - begun
        assert took < BACK_WITHIN, f"{took:.2f} s"
        # Each new frame, not the placeholder once more, is what follows.
        assert (await relay.camera())["state"] == "streaming"
        assert len((await relay.camera())["clients"]) == 1
        assert camera.accepted == 2


async def test_a_camera_that_never_answered_is_shown_when_it_does() -> None:
    async with ScriptedCamera() as camera:
        await camera.refuse()
        async with RelayProcess(camera.url) as relay, Viewer(relay.url) as viewer:
            await viewer.until(lambda: len(viewer.frames) >= 2)
            assert all(frame.is_placeholder for frame in viewer.frames)
            await camera.answer_again()
            begun = time.monotonic()
            await viewer.until(lambda: viewer.stamps != [])
            took = time.monotonic() - begun
            assert took < BACK_WITHIN, f"{took:.2f} s"
