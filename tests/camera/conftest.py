"""Every camera of these tests keeps to the table of states."""

from collections.abc import Iterator

import pytest

from mjrelay.camera.condition import TRANSITIONS, Condition, State


@pytest.fixture(autouse=True)
def transitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[State, State]]]:
    """Which states followed which; a transition that is not in the table fails the test."""
    seen: set[tuple[State, State]] = set()

    class Watched(Condition):
        def __setattr__(self, name: str, value: object) -> None:
            before: State | None = getattr(self, "state", None)
            super().__setattr__(name, value)
            if name == "state" and before not in (None, self.state):
                assert before is not None
                seen.add((before, self.state))

    monkeypatch.setattr("mjrelay.camera.camera.Condition", Watched)
    yield seen
    unforeseen = {(a, b) for a, b in seen if b not in TRANSITIONS[a]}
    assert not unforeseen
