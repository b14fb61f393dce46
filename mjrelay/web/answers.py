"""Answers that more than one address gives."""

import functools
import json
from typing import Any

from aiohttp import web


def as_json(value: Any) -> web.Response:
    """A value as JSON that people can read too, and nobody keeps."""
    return web.json_response(
        value, headers={"Cache-Control": "no-store"}, dumps=functools.partial(json.dumps, indent=1)
    )
