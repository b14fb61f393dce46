"""Placeholder: the offline picture, drawn when there is somebody to see it."""

import asyncio
import time

import structlog

from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame

# Of the picture, where the camera has not shown a size of its own, or an absurd one.
_USUAL_SIZE = (640, 480)
_LEAST, _MOST = 120, 1920

log = structlog.get_logger()


class Placeholder:
    """Shows a camera's viewers why there is no frame.

    Args:
        camera: The camera's name.
        fanout: Where its viewers are.
        wanted: Whether the configuration asks for it.
    """

    def __init__(self, camera: str, fanout: Fanout, *, wanted: bool) -> None:
        self._camera = camera
        self._fanout = fanout
        self._wanted = wanted
        self._drawn: tuple[str, ...] = ()
        self._drawing = asyncio.Lock()

    async def show(
        self, *, title: str, reason: str, hint: str, since: float, size: tuple[int, int] | None
    ) -> None:
        """Draw the picture, unless it is there already, and show it in place of the frames.

        A picture that cannot be drawn is logged and left out: it must not cost the stream.

        Args:
            title: A word for the camera's state.
            reason: What happened.
            hint: What to do about it; may be empty.
            since: When it happened, in Unix seconds.
            size: Of the camera's own pictures, where known.
        """
        if not self._wanted:
            return
        words = (title, reason, hint)
        async with self._drawing:  # viewers that come together share one drawing
            if words == self._drawn and self._fanout.has_placeholder:
                return
            newest = self._fanout.newest
            try:
                image = await asyncio.to_thread(
                    _draw,
                    _sensible(size),
                    camera=self._camera,
                    title=title,
                    reason=reason,
                    hint=hint,
                    since=time.strftime("since %Y-%m-%d %H:%M:%S", time.localtime(since)),
                )
            except Exception:
                log.exception("placeholder.failed")
                return
            if self._fanout.newest is newest:  # else frames came meanwhile
                self._drawn = words
                now = time.monotonic()
                picture = Frame(0, time.time(), now, image)
                self._fanout.show_placeholder(picture)


def _draw(size: tuple[int, int], **words: str) -> bytes:
    from mjrelay import pictures  # noqa: PLC0415 - Pillow, only for who needs it

    return pictures.offline_picture(size, **words)


def _sensible(size: tuple[int, int] | None) -> tuple[int, int]:
    """A camera's own size, so that pages do not jump, if a picture of it can be drawn and read."""
    if size is None or min(size) < _LEAST or max(size) > 4 * min(size):
        return _USUAL_SIZE
    shrink = min(1.0, _MOST / max(size))
    return int(size[0] * shrink), int(size[1] * shrink)
