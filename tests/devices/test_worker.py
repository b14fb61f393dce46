"""Worker: calls in their order, in a thread that keeps nobody waiting."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from mjrelay.devices.worker import Worker

# Its thread blocks for longer than any test lasts, as in a call that the kernel does not end.
BLOCKED = """
import threading, time
from mjrelay.devices.worker import Worker

worker = Worker("stuck")
begun = threading.Event()
worker.submit(lambda: (begun.set(), time.sleep(60)))
later = worker.submit(print)
assert begun.wait(10)
"""


@pytest.fixture
def worker() -> Worker:
    return Worker("camera")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something to wait for; it is there after the test in any case."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_calls_are_made_in_their_order_one_after_the_other(worker: Worker) -> None:
    story: list[str] = []

    def call(number: int) -> int:
        story.append(f"begin {number}")
        time.sleep(0.001)
        story.append(f"end {number}")
        return number

    calls = [worker.submit(lambda number=number: call(number)) for number in range(10)]  # type: ignore[misc]
    assert [each.result(5) for each in calls] == [*range(10)]
    assert story == [f"{what} {number}" for number in range(10) for what in ("begin", "end")]


def test_all_are_made_in_one_thread_that_bears_its_name(worker: Worker) -> None:
    threads = {worker.submit(threading.current_thread).result(5) for _ in range(3)}
    assert [(thread.name, thread.daemon) for thread in threads] == [("camera", True)]
    assert threading.current_thread() not in threads


def test_no_thread_is_there_before_the_first_call() -> None:
    worker = Worker("a name of its own")

    def threads() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name == "a name of its own"]

    assert threads() == []
    for _ in range(2):
        worker.submit(lambda: None).result(5)
    assert threads() == ["a name of its own"]


class Halt(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("kind", [ValueError, OSError, SystemExit, KeyboardInterrupt, Halt])
def test_an_exception_is_raised_where_it_is_waited_for(
    worker: Worker, kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind("no")

    with pytest.raises(kind, match="no"):
        worker.submit(fail).result(5)
    assert worker.submit(lambda: "goes on").result(5) == "goes on"


async def test_a_call_can_be_awaited(worker: Worker) -> None:
    def fail() -> None:
        raise ValueError("no")

    assert await asyncio.wrap_future(worker.submit(lambda: 5)) == 5
    with pytest.raises(ValueError, match="no"):
        await asyncio.wrap_future(worker.submit(fail))


def test_a_call_that_is_cancelled_before_its_turn_is_left_out(
    worker: Worker, gate: threading.Event
) -> None:
    story: list[str] = []
    first = worker.submit(gate.wait)
    second = worker.submit(lambda: story.append("second"))
    third = worker.submit(lambda: story.append("third"))
    assert second.cancel()
    gate.set()
    third.result(5)
    assert first.result(5)
    assert story == ["third"]
    with pytest.raises(CancelledError):
        second.result(5)


def test_a_call_that_is_under_way_is_not_cancelled(worker: Worker, gate: threading.Event) -> None:
    begun = threading.Event()

    def call() -> str:
        begun.set()
        gate.wait(10)
        return "done"

    under_way = worker.submit(call)
    assert begun.wait(5)
    assert not under_way.cancel()
    gate.set()
    assert under_way.result(5) == "done"


async def test_an_await_that_is_given_up_leaves_the_next_call_its_turn(
    worker: Worker, gate: threading.Event
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.wrap_future(worker.submit(gate.wait))
    following = asyncio.wrap_future(worker.submit(lambda: "next"))
    gate.set()
    assert await following == "next"


def test_it_ends_when_its_maker_is_collected(gate: threading.Event) -> None:
    worker = Worker("camera")
    story: list[str] = []
    thread = worker.submit(threading.current_thread).result(5)
    worker.submit(gate.wait)
    last = worker.submit(lambda: story.append("closed"))
    del worker
    gc.collect()
    assert thread.is_alive()
    gate.set()
    thread.join(5)
    assert not thread.is_alive()
    assert last.done()
    assert story == ["closed"], "what waited for its turn is done before"


class Device:
    """Something that a call knows, or makes."""

    def use(self) -> None:
        """Be called."""


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_a_call_knew_does_not_live_until_the_next(
    worker: Worker, gate: threading.Event, cancelled: bool
) -> None:
    device = Device()
    known = weakref.ref(device)
    blocked = worker.submit(gate.wait)
    call = worker.submit(device.use)
    if cancelled:
        call.cancel()
    del device, call
    gate.set()
    assert blocked.result(5)
    _until_gone(known)


def test_what_a_call_made_does_not_live_until_the_next(worker: Worker) -> None:
    made = weakref.ref(worker.submit(Device).result(5))
    _until_gone(made)


def _until_gone(known: weakref.ref[Device]) -> None:
    until = time.monotonic() + 1
    while known() is not None:
        assert time.monotonic() < until, "it is still known"
        time.sleep(0.005)


@pytest.mark.parametrize("end", ["", "raise SystemExit", "del worker"])
def test_a_call_that_does_not_end_does_not_keep_a_process_from_ending(end: str) -> None:
    program = [sys.executable, "-W", "error", "-c", BLOCKED + end]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=15, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_loop_ends_too() -> None:
    program = BLOCKED + (
        "import asyncio\n"
        "async def main():\n"
        "    waiting = asyncio.ensure_future(asyncio.wrap_future(worker.submit(print)))\n"
        "    await asyncio.wait({waiting}, timeout=0.05)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
