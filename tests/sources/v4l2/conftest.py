"""A desk with one webcam, and sources for what is plugged in there."""

import pytest

from tests.support.device import Desk

from .plugging import Plug


@pytest.fixture
def desk() -> Desk:
    """A desk with one webcam that has one node."""
    return Desk()


@pytest.fixture
def plug(desk: Desk) -> Plug:
    return Plug(desk)
