"""Query parameters, and headers against caching, for streams, snapshots and clips."""

import math

from aiohttp import web

NO_STORE = {
    "Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "Expires": "0",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""Headers of pictures, which no browser and no proxy may keep."""


def value(request: web.Request, key: str) -> str:
    """The value of a key in the query; empty if it is not there.

    It ends at a second `?`: some programs append `?t=1` to any address, so that nothing is cached.
    """
    return request.query.get(key, "").partition("?")[0]


def number(request: web.Request, key: str) -> float | None:
    """A number from the query, or None if it is not there. Raises HTTPBadRequest."""
    text = value(request, key)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise web.HTTPBadRequest(text=f"{key} must be a number, 0 or more, as in ?{key}=5")
    return number


def flag(request: web.Request, key: str) -> bool:
    """Whether the query sets a flag, as in ?key=1."""
    return value(request, key) not in ("", "0")
