"""That too many files are open is no fault of a camera's, of whatever kind it is."""

import pytest

from mjrelay.errors import MORE_FILES, SourceError
from mjrelay.sources import make_source
from tests.support.files import room_for
from tests.support.serving import config_for


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "https://127.0.0.1:9/", "exec:true"])
async def test_what_to_do_where_too_many_files_are_open_is_said(address: str) -> None:
    source = make_source(config_for(address))
    with room_for(0), pytest.raises(SourceError) as caught:
        async with source.open():
            raise AssertionError("it was opened")
    assert "Too many open files" in caught.value.reason
    assert caught.value.hint == MORE_FILES
