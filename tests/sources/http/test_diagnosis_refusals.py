"""What an error status means, and when the camera wants to be asked again."""

import pytest

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import SourceRefused, SourceUnreachable
from mjrelay.formats.http1 import ResponseHead
from mjrelay.sources.http.diagnosis import refusal

CAMERA = HttpAddress.parse("http://camera/")
NOON = "Tue, 01 Dec 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "0"}, None),
        ({"retry-after": "86400"}, 300),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        # The camera lives in 1970: only its own two clocks are compared.
        (
            {
                "retry-after": "Thu, 01 Jan 1970 00:01:30 GMT",
                "date": "Thu, 01 Jan 1970 00:01:00 GMT",
            },
            30,
        ),
        ({"retry-after": NOON, "date": NOON}, None),
        ({"retry-after": NOON}, None),
        ({"retry-after": NOON, "date": "Tue, 01 Dec 2026 12:00:00 -0000"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_camera_says_how_long_it_is_to_be_left_alone(
    headers: dict[str, str], seconds: float | None, status: int
) -> None:
    head = ResponseHead(status, "", headers=list(headers.items()))
    assert refusal(head, CAMERA).retry_after == seconds


@pytest.mark.parametrize("status", [502, 504])
def test_behind_a_gateway_a_camera_may_still_be_starting(status: int) -> None:
    """A printer whose web server is up before its camera: utkabobr/DuckPro-Kobra3#87."""
    error = refusal(ResponseHead(status, "Bad Gateway"), CAMERA)
    assert isinstance(error, SourceUnreachable), "asked every second: that costs the camera nothing"
    assert error.reason == f"the camera answers {status} Bad Gateway"
    assert error.hint
    assert "the camera itself does not yet" in error.hint


def test_one_that_is_asked_too_often_says_what_to_change() -> None:
    error = refusal(ResponseHead(429, "Too Many Requests"), CAMERA)
    assert isinstance(error, SourceRefused)
    assert error.hint == "it is asked too often: set a lower fps"


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("GET /a?u=admin&p=S3cret&channel=1", "GET /a?u=***&p=***&channel=1"),
        ("password=S3cret", "password=***"),
        ("Internal Server Error", "Internal Server Error"),
    ],
)
def test_no_status_that_a_camera_makes_up_shows_a_secret(phrase: str, said: str) -> None:
    error = refusal(ResponseHead(500, phrase), CAMERA)
    assert error.reason == f"the camera answers 500 {said}"
