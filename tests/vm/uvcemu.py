"""A USB webcam in user space, plugged into this machine's kernel: python3 -m tests.vm.uvcemu.

The real uvcvideo drives it, by way of vhci_hcd; neither hardware nor a network is needed, only
root and `modprobe vhci-hcd`. A unix socket takes orders, one a line, and answers each with a line:

    plug | unplug | mode MODE | fps N | status | quit
"""

import argparse
import contextlib
import json
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

from .emulator.camera import MODES, Camera, Images
from .emulator.descriptors import Format, Model, Size

_LONGEST_WAIT = 1.0


class Server:
    """Runs a camera: its link, its clock and its orders, in one thread."""

    def __init__(self, camera: Camera, orders: Path) -> None:
        self._camera = camera
        self._selector = selectors.DefaultSelector()
        self._linked: int | None = None
        orders.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(orders))
        self._listener.listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Serve until told to quit."""
        while True:
            self._follow_link()
            wait = min(self._camera.due_in(time.monotonic()), _LONGEST_WAIT)
            for key, _ in self._selector.select(wait):
                handle: Callable[[], None] = key.data
                handle()
            self._camera.tick(time.monotonic())

    def _follow_link(self) -> None:
        """Wait for the link there is now, and no more for one that was."""
        link = self._camera.link
        now = link.fileno() if link else None
        if now == self._linked:
            return
        if self._linked is not None:
            self._selector.unregister(self._linked)
        if link:
            self._selector.register(link.fileno(), selectors.EVENT_READ, link.receive)
        self._linked = now

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        lines = connection.makefile("r", encoding="utf-8")

        def take_order() -> None:
            line = lines.readline()
            if line:
                answer = self._obey(line.split())
                self._follow_link()
                with contextlib.suppress(OSError):
                    connection.sendall(answer.encode() + b"\n")
            else:
                self._selector.unregister(connection)
                lines.close()
                connection.close()

        self._selector.register(connection, selectors.EVENT_READ, take_order)

    def _obey(self, words: list[str]) -> str:
        match words:
            case ["plug"]:
                self._camera.plug()
            case ["unplug"]:
                self._camera.unplug()
            case ["mode", mode] if mode in MODES:
                self._camera.behave(mode)
            case ["fps", number]:
                self._camera.fps = float(number)
            case ["status"]:
                return json.dumps(self._camera.status())
            case ["quit"]:
                self._camera.unplug()
                sys.exit()
            case _:
                return "no such order"
        return "ok"


def read_images(folder: Path, sizes: list[Size]) -> Images:
    """The pictures of each size: WIDTHxHEIGHT-*.jpg."""
    images = {}
    for width, height in sizes:
        files = sorted(folder.glob(f"{width}x{height}-*.jpg"))
        if not files:
            sys.exit(f"there is no {width}x{height}-*.jpg in {folder}")
        images[width, height] = [file.read_bytes() for file in files]
    return images


def _sizes(text: str) -> list[Size]:
    return [cast("Size", tuple(map(int, size.split("x")))) for size in text.split(",")]


def _formats(text: str) -> list[Format]:
    formats = text.split(",")
    if not set(formats) <= set(get_args(Format)):
        raise argparse.ArgumentTypeError("formats are MJPG and YUYV")
    return cast("list[Format]", formats)


def _hexadecimal(text: str) -> int:
    return int(text, 16)


def main() -> None:
    """Make the camera which the command line describes, and run it."""
    parser = argparse.ArgumentParser(description="Emulate a USB webcam.")
    parser.add_argument("--frames", type=Path, required=True, help="a folder of JPEG files")
    parser.add_argument("--orders", type=Path, required=True, help="the unix socket to make")
    parser.add_argument("--sizes", type=_sizes, default="640x480,320x240")
    parser.add_argument("--formats", type=_formats, default="MJPG,YUYV")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--serial", default="EMU0001")
    parser.add_argument("--product", default="UVC Camera")
    parser.add_argument("--vid", type=_hexadecimal, default=0x1D6B)
    parser.add_argument("--pid", type=_hexadecimal, default=0x0102)
    parser.add_argument("--port", type=int, default=0, help="of the virtual USB controller")
    parser.add_argument("--bulk", action="store_true", help="no isochronous transfers")
    parser.add_argument("--unplugged", action="store_true", help="wait to be plugged in")
    options = parser.parse_args()
    model = Model(
        product=options.product,
        serial=options.serial,
        vendor_id=options.vid,
        product_id=options.pid,
        sizes=options.sizes,
        formats=options.formats,
        bulk=options.bulk,
    )
    images = read_images(options.frames, options.sizes)
    camera = Camera(model, images, port=options.port, fps=options.fps)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = Server(camera, options.orders)
    if not options.unplugged:
        camera.plug()
    server.run()


if __name__ == "__main__":
    main()
