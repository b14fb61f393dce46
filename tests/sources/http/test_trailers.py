"""A camera whose answers hold more than one picture is polled all the same, over real sockets."""

import pytest

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import Tally
from mjrelay.sources.http.source import HttpSource
from tests.support.camera import Close, ScriptedCamera, Send
from tests.support.pictures import first_of_several, picture, with_damaged_scan, with_unlisted_bytes
from tests.support.quirks import SMALL, single
from tests.support.serving import config_for
from tests.support.source import images_of

BEHIND = {
    "deckerst/aves#1185, feelfreelinux/octo4a#279": (picture(1) + SMALL, picture(1)),
    "python-pillow/Pillow sugarshack.mpo": (first_of_several(1) + picture(2), picture(1)),
    "rroller/dahua#681": (with_unlisted_bytes(1), with_unlisted_bytes(1, b"")),
    "ianare/exif-samples corrupted.jpg": (with_damaged_scan(1), with_damaged_scan(1)),
}


async def polled(body: bytes, *, length: bool) -> tuple[list[bytes], Tally]:
    """The first three pictures that a source shows of a camera which answers each request so."""
    async with ScriptedCamera([Send(single(body, length=length)), Close()]) as camera:
        config = config_for(camera.url, fps=100)
        assert isinstance(config.source, HttpAddress)
        source = HttpSource(config.source, config)
        shown: list[bytes] = []
        async with images_of(source) as images:
            async for image in images:
                shown.append(image)
                if len(shown) == 3:
                    break
    return shown, source.tally


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("evidence", BEHIND)
async def test_one_picture_of_each_answer_is_shown(evidence: str, length: bool) -> None:
    body, image = BEHIND[evidence]
    images, tally = await polled(body, length=length)
    assert images == [image] * 3
    assert not tally.dropped
