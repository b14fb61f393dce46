"""Small things every scenario needs of the machine it runs in."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

PROJECT = Path(__file__).resolve().parents[3]

# Software emulation is slower than the computers the limits are meant for.
SLACK = 3.0

_POLL_EVERY = 0.02
_PICTURES_PER_SIZE = 3
_SIZES = ((640, 480), (320, 240))


def eventually(holds: Callable[[], bool], what: str, within: float = 10.0) -> float:
    """Wait until something holds, and return how long it took; else AssertionError."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < within, f"not within {within:g} s: {what}"
        time.sleep(_POLL_EVERY)
    return time.monotonic() - begun


def run(*command: str | Path, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its status."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=within, check=False, cwd=PROJECT
    )


def must(*command: str | Path, within: float = 60.0) -> str:
    """Run a command that has to work, and return its output."""
    finished = run(*command, within=within)
    assert finished.returncode == 0, f"{command}: {finished.stdout}{finished.stderr}"
    return finished.stdout


def mjrelay(*arguments: str, within: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one of the program's commands to its end."""
    return run(sys.executable, "-B", "-m", "mjrelay", *arguments, within=within)


def draw_pictures(folder: Path) -> None:
    """Draw what the emulated cameras show: WIDTHxHEIGHT-NUMBER.jpg."""
    for size in _SIZES:
        for number in range(_PICTURES_PER_SIZE):
            image = Image.effect_noise((size[0] // 8, size[1] // 8), 60).resize(size)
            picture = image.convert("RGB")
            draw = ImageDraw.Draw(picture)
            left = size[0] // _PICTURES_PER_SIZE * number
            draw.rectangle((left, 0, left + size[0] // 4, size[1] // 2), fill=(200, 40 * number, 0))
            picture.save(folder / f"{size[0]}x{size[1]}-{number}.jpg", quality=75)


def holds_of(pid: int, text: str) -> tuple[int, int]:
    """How many descriptors and how many mappings a process has of files named like this."""
    folder = Path(f"/proc/{pid}")
    links = []
    for entry in (folder / "fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue  # closed while we looked
    maps = (folder / "maps").read_text(encoding="utf-8").splitlines()
    return sum(text in link for link in links), sum(text in line for line in maps)
