"""The web server leaves the event loop as it found it."""

import asyncio
import errno
from typing import Any

import pytest
from structlog.testing import capture_logs

from mjrelay.web.server import web_server
from tests.support.serving import LOOPBACK

Context = dict[str, Any]


@pytest.fixture
async def handled() -> list[Context]:
    """What reaches the handler that was there before the server."""
    contexts: list[Context] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


async def test_faults_are_for_whoever_had_them_before(handled: list[Context]) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    fault = {"message": "a fault of somebody else's"}
    async with web_server({}, LOOPBACK, []):
        loop.call_exception_handler(fault)
        assert handled == [fault]
    assert loop.get_exception_handler() is before


async def test_a_client_that_does_not_fit_is_no_fault(handled: list[Context]) -> None:
    loop = asyncio.get_running_loop()
    full = {"message": "accept failed", "exception": OSError(errno.EMFILE, "Too many open files")}
    with capture_logs() as logs:
        async with web_server({}, LOOPBACK, []):
            loop.call_exception_handler(full)
    assert not handled
    assert [entry["event"] for entry in logs] == ["relay.full"]


async def test_without_another_handler_a_fault_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with web_server({}, LOOPBACK, []):
        asyncio.get_running_loop().call_exception_handler({"message": "a fault"})
    assert caplog.messages == ["a fault"]
