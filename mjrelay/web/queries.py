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


def number(request: web.Request, key: str) -> float | None:
    """A number from the query, or None if it is not there. Raises HTTPBadRequest."""
    text = request.query.get(key)
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
    return request.query.get(key, "") not in ("", "0")
