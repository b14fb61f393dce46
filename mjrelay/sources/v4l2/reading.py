"""Reader: takes a device's buffers in the event loop, when the kernel says that one is filled."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Never, Self

from mjrelay.devices.capture import Buffer, Capture


class ReadFailed(Exception):
    """The device answered with an error when it was asked for a buffer."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Reader:
    """Hands each buffer of a device to `take` while entered.

    Args:
        device: A device that was started.
        take: Takes each buffer. It never blocks.

    Attributes:
        failure: Never has a result. Its exception is what ended the reading: ReadFailed, or
            whatever `take` raised.
    """

    def __init__(self, device: Capture, take: Callable[[Buffer], None]) -> None:
        self.failure: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        self._device = device
        self._take = take
        self._fd = device.fileno()
        self._context = copy_context()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)  # a dead device stays readable for ever
        if not self.failure.cancel() and not self.failure.cancelled():
            self.failure.exception()  # or asyncio would log that nobody has retrieved it

    def look(self) -> None:
        """Ask for a buffer now, to notice at once if the device is gone."""
        self._context.run(self._read)  # in the camera's context, so that log lines name it

    def drain(self) -> None:
        """Take every buffer that is filled now."""
        while self._read():
            pass

    def _read(self) -> bool:
        """Take one buffer. Returns False if none is filled, or the reading has ended."""
        if self.failure.done():
            return False
        try:
            buffer = self._filled()
            if buffer is None:
                return False
            self._take(buffer)
        except Exception as error:  # noqa: BLE001 - raised again in the task that awaits `failure`
            self.failure.set_exception(error)
        return True

    def _filled(self) -> Buffer | None:
        try:
            return self._device.read()
        except OSError as error:
            raise ReadFailed(error) from error
