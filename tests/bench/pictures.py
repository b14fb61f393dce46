"""Pictures for the benchmark's camera: of a wanted size in bytes, with room for its stamp.

    python -m tests.bench.pictures 100k FOLDER

writes those of one kind into a folder, for a run of the programs by hand.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from tests.support.pictures import COM, SOI, segment

# As bench.h has it: "bench ", a number of 10 digits, a blank, a time of 20 digits.
_STAMP = segment(COM, b"bench " + b"0" * 10 + b" " + b"0" * 20)
_NOISE = 40


@dataclass(frozen=True)
class Kind:
    """What a camera's pictures are like.

    Attributes:
        size: Width and height in pixels.
        length: About how many bytes each has.
        count: How many different ones there are.
    """

    size: tuple[int, int]
    length: int
    count: int = 30


KINDS = {
    "30k": Kind((640, 480), 30_000),
    "100k": Kind((1280, 720), 100_000),
    "4M": Kind((3840, 2160), 4_000_000, count=4),
}
"""Each kind of picture by its name in a scenario's."""


def write_pictures(kind: Kind, folder: Path) -> list[Path]:
    """Draw pictures of a kind, each into a file of its own."""
    scene = Image.effect_noise(kind.size, _NOISE).convert("RGB")
    quality = _quality(scene, kind.length)
    paths = []
    for number in range(kind.count):
        path = folder / f"{number:02}.jpg"
        path.write_bytes(_encode(_numbered(scene, number), quality))
        paths.append(path)
    return paths


def _quality(scene: Image.Image, length: int) -> int:
    """The JPEG quality that comes nearest to a length."""
    low, high = 1, 95
    while low < high:
        middle = (low + high) // 2
        if len(_encode(scene, middle)) < length:
            low = middle + 1
        else:
            high = middle
    return min(low, max(low - 1, 1), key=lambda q: abs(len(_encode(scene, q)) - length))


def _numbered(scene: Image.Image, number: int) -> Image.Image:
    """The same scene with something that moves, so that lengths differ as a camera's do."""
    image = scene.copy()
    width, height = image.size
    left = number * width // 40
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((left, 0, left + (number + 1) * width // 400, height), "gray")
    canvas.text((2, 2), str(number), fill="white")
    return image


def _encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return SOI + _STAMP + file.getvalue().removeprefix(SOI)


if __name__ == "__main__":
    write_pictures(KINDS[sys.argv[1]], Path(sys.argv[2]))
