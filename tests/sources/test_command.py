"""CommandSource: what a program's end is told as."""

import pytest

from mjrelay.configuration.address import CommandAddress
from mjrelay.errors import SourceLost
from mjrelay.sources.command import CommandSource
from tests.support.serving import config_for
from tests.support.source import images_of


async def end_of(*arguments: str) -> SourceLost:
    """Run a program to its end."""
    source = CommandSource(CommandAddress(arguments), config_for("testcard:"))
    with pytest.raises(SourceLost) as caught:
        async with images_of(source) as images:
            await anext(images)
    return caught.value


async def test_a_program_has_the_last_word() -> None:
    error = await end_of("sh", "-c", "echo no such camera >&2; exit 3")
    assert (error.reason, error.hint) == (
        "sh ended with status 3",
        "its last words: no such camera",
    )


async def test_who_says_nothing_is_to_be_tried_by_hand() -> None:
    error = await end_of("false")
    assert error.hint == "run the command by hand and see what it says"
