"""Placeholder: draws the offline picture, which tells viewers why there are no frames."""

import asyncio
import time

import structlog

from mjrelay.camera.fanout import Fanout
from mjrelay.camera.frame import Frame

# Width and height where those of the camera's own images are not known or not sensible.
_USUAL_SIZE = (640, 480)
# An offline picture with a shorter side cannot be read, and with a longer side is shrunk: pixels.
_SHORTEST_SIDE, _LONGEST_SIDE = 120, 1920

log = structlog.get_logger()


class Placeholder:
    """Shows an offline picture to one camera's viewers.

    Args:
        camera: The camera's name.
        fanout: The camera's, which shows the picture.
        wanted: The option `placeholder`; without it nothing is ever shown.
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
        """Draw the picture, unless it is shown already, and show it in place of the frames.

        A failure to draw is logged, and no picture shown: the stream must not end for it.

        Args:
            title: A word for the camera's state.
            reason: What happened.
            hint: What to do about it; may be empty.
            since: When it happened, in Unix seconds.
            size: Width and height of the camera's own images in pixels, where known.
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
            if self._fanout.newest is newest:  # else frames came while it was drawn
                self._drawn = words
                self._fanout.show_placeholder(Frame(0, time.time(), time.monotonic(), image))


def _draw(size: tuple[int, int], **words: str) -> bytes:
    from mjrelay import pictures  # noqa: PLC0415 - loads Pillow, which a healthy relay never needs

    return pictures.offline_picture(size, **words)


def _sensible(size: tuple[int, int] | None) -> tuple[int, int]:
    """The camera's own size if words can be read at it, so that the layout of pages stays."""
    if size is None or min(size) < _SHORTEST_SIDE or max(size) > 4 * min(size):
        return _USUAL_SIZE
    shrink = min(1.0, _LONGEST_SIDE / max(size))
    return int(size[0] * shrink), int(size[1] * shrink)
