"""Reader: takes a device's buffers in the event loop, as the kernel says that they are filled."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Never, Self

from mjrelay.devices.capture import Buffer, Capture


class ReadFailed(Exception):
    """The device answered with an error when it was asked for a buffer."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Reader:
    """Hands on each buffer of a device while entered.

    Args:
        device: It is open and has been started.
        take: What is done with each buffer. It never blocks.

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)  # a dead device stays readable for ever
        if not self.failure.cancel() and not self.failure.cancelled():
            self.failure.exception()  # or asyncio complains that nobody has asked for it

    def look(self) -> None:
        """Ask for a buffer though the kernel has not called: the device may be gone."""
        self._context.run(self._read)  # so that what is logged names the camera

    def drain(self) -> None:
        """Take every buffer that is filled by now."""
        while self._read():
            pass

    def _read(self) -> bool:
        """Take one buffer. False: none is filled, or the reading has ended."""
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
