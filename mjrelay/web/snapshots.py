"""Snapshots and clips: a camera's newest frame, and those of the last seconds, as HTTP answers."""

import asyncio
import contextlib
import math
import re
import secrets
import time
from email.utils import formatdate

from aiohttp import web

from mjrelay.camera.camera import Camera
from mjrelay.camera.frame import Frame
from mjrelay.camera.ring import FrameRing, NoMoreFrames
from mjrelay.web.queries import NO_STORE, flag, number

# Part of every entity tag, since a new process numbers frames from 1 again. (So does a new camera
# that a reload gives the name of an old one: the time in the tag tells their frames apart.)
_RUN = secrets.token_hex(4)
# Seconds that a camera may take to its first frame, if it has just failed to be opened: who waits
# for it has waited already.
_SECOND_ATTEMPT = 1.0


async def snapshot(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Answer with the newest frame at once. Wait only if there is none, or for `?fresh=1`."""
    max_age = number(request, "max_age")
    with camera.watched():
        frame = await (_newer(camera) if flag(request, "fresh") else _newest(camera))
    age = time.monotonic() - frame.monotonic
    if max_age is not None and age > max_age:
        raise _no_picture(camera, f"has no picture newer than {age:.1f} s")
    headers = {
        **NO_STORE,
        "ETag": f'"{_RUN}-{frame.monotonic:.6f}-{frame.seq}"',
        "Last-Modified": formatdate(frame.captured_at, usegmt=True),
        "X-Timestamp": f"{frame.captured_at:.6f}",
        "X-Age-Ms": f"{age * 1000:.0f}",
    }
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=frame.image, content_type="image/jpeg", headers=headers)


async def clip(request: web.Request, camera: Camera) -> web.StreamResponse:
    """Answer with the images of the last seconds, one behind the other, as a file.

    If they were not kept, since nobody has asked for a clip lately, answer with the images of the
    next seconds instead. From then on they are kept for the clips to come.
    """
    seconds = number(request, "seconds")
    with camera.watched():
        headers = _clip_headers(camera.name, (await _newest(camera)).captured_at)
        response = web.StreamResponse(headers=headers)
        with contextlib.suppress(ConnectionError):  # the client has left
            await response.prepare(request)
            if request.method != "HEAD":
                await _write_clip(response, camera.ring, math.inf if seconds is None else seconds)
    return response


async def _write_clip(response: web.StreamResponse, ring: FrameRing, seconds: float) -> None:
    """Write the pictures of the last seconds; and those to come, for the time nothing was kept."""
    to_come = ring.want_past(seconds, time.monotonic())
    seq = ring.newest.seq if ring.newest else 0
    for _, image in ring.last(seconds):
        await response.write(image)
        await asyncio.sleep(0)  # to a fast client all of it is written without a pause
    with contextlib.suppress(TimeoutError, NoMoreFrames):
        async with asyncio.timeout(to_come):
            while to_come:
                frame = await ring.newer_than(seq)
                seq, image = frame.seq, frame.image
                del frame  # it need not stay in memory while a slow client reads its image
                await response.write(image)


def _clip_headers(name: str, captured_at: float) -> dict[str, str]:
    plain = re.sub("[^A-Za-z0-9_-]", "_", name)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(captured_at))
    return {
        "Content-Type": "video/x-motion-jpeg",
        "Content-Disposition": f'attachment; filename="{plain}-{moment}.mjpeg"',
        **NO_STORE,
    }


async def _newest(camera: Camera) -> Frame:
    """The newest frame, however old. While the camera is opening, wait for its first frame.

    If opening it fails, it has another attempt, where that is due soon.
    """
    # A second longer than the camera itself may take: then it can say why there is none.
    config = camera.config
    settling = config.connect_timeout + config.first_frame_timeout + config.warm_up + 1
    frame, is_opening = camera.ring.newest, not camera.condition.is_settled
    if frame is None and await camera.settled(within=settling):
        frame = camera.ring.newest
        if frame is None and is_opening:
            frame = await _of_second_attempt(camera)
    if frame is None:
        raise _no_picture(camera, "has no picture yet")
    return frame


async def _of_second_attempt(camera: Camera) -> Frame | None:
    """The frame of a camera that has failed once, if it comes as soon as it is opened again.

    Some cameras answer the first request after a pause with 503. One on demand would do so to each
    snapshot that opens it.
    """
    delay = camera.retry_in
    if camera.state != "recovering" or delay is None or delay > camera.config.redial_delay:
        return None
    with contextlib.suppress(TimeoutError, NoMoreFrames):
        async with asyncio.timeout(delay + _SECOND_ATTEMPT + camera.config.warm_up):
            return await camera.ring.newer_than(0)
    return None


async def _newer(camera: Camera) -> Frame:
    """Wait for the next frame."""
    frame = camera.ring.newest
    within = camera.config.first_frame_timeout + camera.config.warm_up
    try:
        async with asyncio.timeout(within):
            return await camera.ring.newer_than(frame.seq if frame else 0)
    except NoMoreFrames:
        raise web.HTTPNotFound(
            text=f"camera {camera.name} is gone: the configuration no longer has it"
        ) from None
    except TimeoutError:
        raise _no_picture(camera, f"sent no new picture for {within:g} s") from None


def _no_picture(camera: Camera, what: str) -> web.HTTPException:
    why = "; ".join(filter(None, (camera.state, camera.condition.trouble)))
    return web.HTTPServiceUnavailable(
        text=f"camera {camera.name} {what} ({why})",
        headers={"Retry-After": str(max(1, math.ceil(camera.retry_in or 0)))},
    )
