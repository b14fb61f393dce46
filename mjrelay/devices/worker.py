"""Worker: makes calls that may block, one after the other, in a thread of its own."""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Calls = queue.SimpleQueue[tuple["Future[Any]", Callable[[], Any]] | None]


class Worker:
    """Makes calls in their order, in a thread that starts with the first call.

    Unlike an executor's threads, this one does not keep the program from ending: when a camera no
    longer answers, the kernel may block the thread for a minute and a half.

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
        """Queue a call. If its future is cancelled before its turn comes, it is not made."""
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
    """Make one call. In a function of its own, so that its variables do not outlive the call."""
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
