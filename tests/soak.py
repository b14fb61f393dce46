"""Many clients and a camera that misbehaves at random: nothing may leak, break or be lost.

    python -m tests.soak --seconds 300 --clients 50

It stops by itself, talks to loopback only, and fails unless at the end memory and file descriptors
are what they were in the beginning, every frame any client got was whole, and the relay ended no
client's stream.
"""

import argparse
import asyncio
import contextlib
import functools
import io
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.support.camera import Close, Connection, HttpHead, Reset, ScriptedCamera, Send
from tests.support.daemon import RelayProcess, eventually
from tests.support.pictures import stamp, stamped, without_tables
from tests.support.quirks import multipart
from tests.support.viewer import Viewer

FPS = 20
MAX_FRAME = 2**18
STALL_TIMEOUT = 1.5
# Timeouts and backoffs so short that a run of minutes meets hundreds of them.
CONFIG = f"""\
[camera.moody]
source = "SOURCE"
stall_timeout = {STALL_TIMEOUT}
first_frame_timeout = {STALL_TIMEOUT}
redial_delay = 0.1
retry_max = 1.0
max_frame = {MAX_FRAME}
ring = "1 s"
"""

# What memory may grow by. A leak of one frame per client or per reconnection would be tens of
# megabytes; but between two calm moments Python's arenas and malloc's keep a few megabytes more
# or less, depending on the sizes met lately, and drawing offline pictures in threads has each
# thread's arena keep some too.
GROWTH = 5 * 2**20
NOISE = 3 * 2**20

_SETTLE_TIMEOUT = 30.0


@dataclass
class Weather:
    """What camera and clients do: at random, or, in calm, only what is right.

    Attributes:
        is_calm: Whether all behave.
        deeds: How often each misdeed was done.
    """

    random: random.Random
    is_calm: bool = False
    deeds: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Moods:
    """Send stamped pictures, and at random something else."""

    weather: Weather

    async def play(self, connection: Connection) -> None:
        """Send until the connection ends."""
        weather = self.weather
        deeds: dict[str, tuple[float, Callable[[Connection], Awaitable[None]]]] = {
            "picture": (100, self._picture),
            "garbage": (2, self._garbage),
            "truncated": (2, self._truncated),
            "without tables": (2, self._without_tables),
            "oversized": (0.5, self._oversized),
            "pause": (1, self._pause),
            "stall": (0.5, self._stall),
            "drop": (0.5, Close().play),
            "drop inside": (0.5, self._drop_inside),
            "reset": (0.5, Reset().play),
        }
        names, weights = list(deeds), [weight for weight, _ in deeds.values()]
        while True:
            (name,) = ("picture",) if weather.is_calm else weather.random.choices(names, weights)
            weather.deeds[name] += 1
            await deeds[name][1](connection)

    async def _picture(self, connection: Connection) -> None:
        await connection.send(multipart([stamped(connection.camera.next_number())]))
        await asyncio.sleep(1 / FPS)

    async def _garbage(self, connection: Connection) -> None:
        size = self.weather.random.choice([1, 100, 5000, 100_000])
        await connection.send(self.weather.random.randbytes(size))

    async def _truncated(self, connection: Connection) -> None:
        image = stamped(connection.camera.next_number())
        cut = self.weather.random.randrange(2, len(image) - 2)
        await connection.send(multipart([image[:cut]], length=lambda _: len(image)))

    async def _without_tables(self, connection: Connection) -> None:
        await connection.send(multipart([without_tables(self.weather.random.randrange(8))]))

    async def _oversized(self, connection: Connection) -> None:
        image = stamped(connection.camera.next_number())
        await connection.send(multipart([image[:-2] + b"\x55" * (2 * MAX_FRAME) + image[-2:]]))

    async def _pause(self, _connection: Connection) -> None:
        await asyncio.sleep(self.weather.random.uniform(0.2, STALL_TIMEOUT / 2))

    async def _stall(self, connection: Connection) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * STALL_TIMEOUT):
                await connection.gone.wait()

    async def _drop_inside(self, connection: Connection) -> None:
        part = multipart([stamped(connection.camera.next_number())])
        await connection.send(part[: self.weather.random.randrange(len(part))])
        await connection.close()


@dataclass(frozen=True)
class Measure:
    """What the relay holds in a calm moment."""

    rss: int
    files: int

    def __str__(self) -> str:
        return f"{self.rss / 2**20:.1f} MiB, {self.files} files"


@dataclass
class Report:
    """What a run met.

    Attributes:
        faults: What went wrong; empty if all is well.
    """

    seed: int
    before: Measure = field(default_factory=lambda: Measure(0, 0))
    after: Measure = field(default_factory=lambda: Measure(0, 0))
    frames: int = 0
    placeholders: int = 0
    visits: int = 0
    deeds: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = {
            "seed": self.seed,
            "before": self.before,
            "after": self.after,
            "clients": f"came {self.visits} times, got {self.frames} frames whole, "
            f"{self.placeholders} of them offline pictures",
            "the camera": ", ".join(f"{name} {count}" for name, count in self.deeds.items()),
            "faults": "; ".join(self.faults) or "none",
        }
        return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


@functools.lru_cache(maxsize=256)  # Every client gets the same bytes: look at them once.
def check_whole(image: bytes) -> None:
    """Raise unless a picture is one that was sent, or decodes from its first to its last byte."""
    with contextlib.suppress(ValueError):
        assert image == stamped(stamp(image)), "a frame is not as the camera sent it"
        return
    with Image.open(io.BytesIO(image)) as picture:
        picture.load()


class Soak:
    """One run: a relay, a moody camera, and clients that come and go.

    Args:
        clients: How many there are at any time.
        seed: What chance depends on, besides time.
    """

    def __init__(self, clients: int, seed: int) -> None:
        self.report = Report(seed)
        self._clients = clients
        self._weather = Weather(random.Random(seed))
        self._watching: set[Viewer] = set()

    async def run(self, seconds: float, settle: float) -> Report:
        """Note what the relay holds after `settle` seconds, and again after `seconds`."""
        weather = self._weather
        with tempfile.TemporaryDirectory() as folder:
            async with ScriptedCamera([Send(HttpHead), Moods(weather)]) as camera:
                config = _configure(Path(folder), camera)
                await camera.refuse()
                async with (
                    RelayProcess("--config", config) as relay,
                    asyncio.TaskGroup() as tasks,
                ):
                    running = [tasks.create_task(self._visit(relay)) for _ in range(self._clients)]
                    # The first outage loads what draws the offline picture; that stays loaded, and
                    # must not be taken for a leak.
                    await eventually(self._shows_placeholder, _SETTLE_TIMEOUT)
                    await camera.answer_again()
                    running.append(tasks.create_task(self._switch_off_and_on(camera)))
                    running.append(tasks.create_task(self._show_progress(relay, seconds)))
                    await asyncio.sleep(settle)
                    self.report.before = await self._measure(relay)
                    await asyncio.sleep(seconds - settle)
                    self.report.after = await self._measure(relay)
                    for task in running:
                        task.cancel()
                    crashes = len(relay.events("camera.crashed"))
                most_open = camera.most_open
        self.report.deeds = dict(weather.deeds)
        self._judge(crashes, most_open)
        return self.report

    def _shows_placeholder(self) -> bool:
        return any(frame.is_placeholder for viewer in self._watching for frame in viewer.frames)

    def _judge(self, crashes: int, most_open: int) -> None:
        before, after, faults = self.report.before, self.report.after, self.report.faults
        if after.rss - before.rss > GROWTH + NOISE:
            faults.append(f"memory grew by {(after.rss - before.rss) / 2**20:.1f} MiB")
        if after.files > before.files:
            faults.append(f"there were {before.files} open files, now {after.files}")
        if crashes:
            faults.append(f"the relay met {crashes} faults of its own")
        if most_open != 1:
            faults.append(f"the camera had {most_open} connections at once")

    async def _measure(self, relay: RelayProcess) -> Measure:
        """Wait for calm, in which all clients watch a healthy camera, and measure."""
        self._weather.is_calm = True

        async def is_calm() -> bool:
            camera = await relay.camera()
            return (
                camera["state"] == "streaming"
                and len(camera["clients"]) == len(self._watching) == self._clients
            )

        while True:
            await eventually(is_calm, _SETTLE_TIMEOUT)
            opens = (await relay.camera())["opens"]
            # The connection of the last question for the status may take a moment to close.
            files = []
            for _ in range(10):
                await asyncio.sleep(0.05)
                files.append(relay.open_files())
            # The last bad weather may still have cost the camera its connection.
            if await is_calm() and (await relay.camera())["opens"] == opens:
                break
        measured = Measure(relay.rss(), min(files))
        self._weather.is_calm = False
        return measured

    async def _visit(self, relay: RelayProcess) -> None:
        """Watch, doze, dawdle, leave, and come again."""
        chance = self._weather.random
        while True:
            viewer = Viewer(relay.url, check=check_whole)
            async with viewer:
                self.report.visits += 1
                self._watching.add(viewer)
                try:
                    await self._watch(viewer)
                finally:
                    self._watching.discard(viewer)
                    self.report.frames += len(viewer.frames)
                    self.report.placeholders += sum(f.is_placeholder for f in viewer.frames)
                if chance.random() < 0.3:
                    viewer.reset_at_exit()
            await asyncio.sleep(chance.uniform(0, 1))

    async def _watch(self, viewer: Viewer) -> None:
        chance, weather = self._weather.random, self._weather
        while weather.is_calm or chance.random() < 0.9:
            viewer.rate = math.inf
            viewer.resume()
            if not weather.is_calm:
                if chance.random() < 0.2:
                    viewer.pause()
                if chance.random() < 0.2:
                    viewer.rate = chance.uniform(1_000, 20_000)
            ends_at = time.monotonic() + chance.uniform(0.5, 4)
            while time.monotonic() < ends_at:
                calm = weather.is_calm
                await asyncio.sleep(0.1)
                viewer.raise_if_wrong()
                if viewer.end is not None:
                    self.report.faults.append(f"a stream ended: {viewer.end}")
                    return
                if weather.is_calm and not calm:
                    break

    async def _switch_off_and_on(self, camera: ScriptedCamera) -> None:
        """Let the camera refuse connections for a while, now and then."""
        chance = self._weather.random
        while True:
            await asyncio.sleep(chance.uniform(2, 10))
            if not self._weather.is_calm:
                self._weather.deeds["refuse"] += 1
                await camera.refuse()
                await asyncio.sleep(chance.uniform(0.5, 3))
                await camera.answer_again()

    async def _show_progress(self, relay: RelayProcess, seconds: float) -> None:
        """On a terminal, print a line a second."""
        begun = time.monotonic()
        while sys.stdout.isatty():
            camera = await relay.camera()
            sys.stdout.write(
                f"{time.monotonic() - begun:4.0f}/{seconds:.0f} s  {camera['state']:<10}"
                f" {len(camera['clients']):3} clients  {relay.rss() / 2**20:6.1f} MiB"
                f" {relay.open_files():4} files  {camera['frames']['dropped']}\n"
            )
            await asyncio.sleep(1)


def _configure(folder: Path, camera: ScriptedCamera) -> str:
    path = folder / "mjrelay.toml"
    path.write_text(CONFIG.replace("SOURCE", camera.url), encoding="utf-8")
    return str(path)


def main() -> None:
    """Run as the command line says; exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--settle", type=float, default=30.0, help="when to measure first")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    soak = Soak(options.clients, options.seed)
    report = asyncio.run(soak.run(options.seconds, min(options.settle, options.seconds)))
    sys.stdout.write(f"{report}\n")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
