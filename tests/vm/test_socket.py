"""The socket unit: systemd listens at port 80, whether the relay runs or not."""

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from .support.camera import EmulatedCamera
from .support.machine import SLACK, must, run
from .support.relay import SOCKET, RelayService
from .support.viewer import StreamViewer

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

PORT = 80
_PAUSE = 0.02


@pytest.fixture
def relay(camera: EmulatedCamera) -> Iterator[RelayService]:
    """The service, stopped, and its socket unit as the manual switches it on."""
    with RelayService({"front": {"source": camera.usb}}, started=False) as service:
        must("systemctl", "enable", "--now", SOCKET)
        try:
            yield service
        finally:
            run("systemctl", "disable", "--now", SOCKET)


@contextlib.contextmanager
def asking() -> Iterator[Counter[str]]:
    """Somebody who connects and asks all the time; how often came which answer."""
    answers: Counter[str] = Counter()
    leaving = threading.Event()

    def ask() -> None:
        while not leaving.wait(_PAUSE):
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10 * SLACK)
            try:
                connection.request("GET", "/healthz")
                answers[str(connection.getresponse().status)] += 1
            except (OSError, http.client.HTTPException) as error:
                answers[repr(error)] += 1
            finally:
                connection.close()

    thread = threading.Thread(target=ask, name="who asks")
    thread.start()
    try:
        yield answers
    finally:
        leaving.set()
        thread.join()


def test_the_first_viewer_at_port_80_starts_the_service(relay: RelayService) -> None:
    assert relay.pid == 0
    with StreamViewer(PORT, "front") as viewer:
        viewer.until_fresh(0, 15 * SLACK)
        assert relay.user == "mjrelay"
        # At the port of its own configuration it answers too.
        relay.await_answer()


def test_nobody_is_turned_away_at_port_80_while_the_service_is_restarted(
    relay: RelayService,
) -> None:
    relay.start()
    with asking() as answers:
        for _ in range(3):
            relay.restart()
    assert set(answers) == {"200"}
    # With the socket's, what systemd keeps for the service is handed over too.
    relay.until_state("streaming")
    assert relay.camera()["failures"] == 0
