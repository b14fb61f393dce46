"""Worker: a thread for calls that may block, one after the other."""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Calls = queue.SimpleQueue[tuple["Future[Any]", Callable[[], Any]] | None]


class Worker:
    """Runs calls in their order, in a thread that starts with the first.

    Unlike an executor's threads it does not keep the program from ending: the kernel may hold it
    for a minute and a half when a camera no longer answers.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: _Calls = queue.SimpleQueue()
        self._started = False
        # The thread ends when this object is no longer used.
        weakref.finalize(self, self._calls.put, None)

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Let a call wait for its turn; cancelling it before that leaves it out."""
        if not self._started:
            self._started = True
            threading.Thread(target=_run, args=(self._calls,), name=self._name, daemon=True).start()
        future: Future[T] = Future()
        self._calls.put((future, work))
        return future


def _run(calls: _Calls) -> None:
    while _run_next(calls):
        pass


def _run_next(calls: _Calls) -> bool:
    """Run one call. In a frame of its own, so that nothing of it lives until the next one."""
    call = calls.get()
    if call is None:
        return False
    future, work = call
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            future.set_exception(error)
    return True
