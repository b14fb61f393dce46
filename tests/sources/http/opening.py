"""Open a camera that answers HTTP, and take what it shows."""

from dataclasses import replace
from typing import Any

from mjrelay.configuration.address import HttpAddress
from mjrelay.errors import SourceError
from mjrelay.sources.http.source import HttpSource
from tests.support.serving import config_for
from tests.support.source import images_of


def source_of(url: str, *, watched: bool = True, **options: object) -> HttpSource:
    config = config_for(url, **options)
    assert isinstance(config.source, HttpAddress)
    username = config.username or config.source.username
    password = config.password or config.source.password
    source = HttpSource(config.source, replace(config, username=username, password=password))
    source.watch(watched=watched)
    return source


async def take(source: HttpSource, count: int) -> list[bytes]:
    taken: list[bytes] = []
    async with images_of(source) as images:
        async for image in images:
            taken.append(image)
            if len(taken) == count:
                break
    return taken


async def failure(source: HttpSource) -> tuple[list[bytes], SourceError]:
    """Read a source to its end, which is always an error."""
    taken: list[bytes] = []
    try:
        async with images_of(source) as images:
            async for image in images:
                taken.append(image)  # noqa: PERF401 - the iterator ends by raising
    except SourceError as error:
        return taken, error
    raise AssertionError("a source ended by itself")


def succeeding(before: HttpSource, url: str, **options: Any) -> HttpSource:
    """The source that follows another at a reload."""
    source = source_of(url, **options)
    source.inherit_from(before)
    return source
