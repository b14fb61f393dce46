"""Changing a camera over HTTP (restart, reset, controls), and from where that is allowed."""

import json
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mjrelay.camera.camera import Camera
from mjrelay.errors import SourceError
from mjrelay.web.status import as_json

_EXPECTED = 'expected JSON with whole numbers by name, such as {"brightness": 128}'
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


async def controls(_request: web.Request, camera: Camera) -> web.Response:
    """Answer with the settings of a camera of this computer."""
    try:
        found = await camera.source.read_controls()
    except (SourceError, TimeoutError) as error:
        raise _no_answer(camera, error) from error
    if found is None:
        raise web.HTTPNotFound(
            text=f"{camera.name} has no controls: only cameras of this computer have them"
        )
    return as_json(found)


async def change_controls(request: web.Request, camera: Camera) -> web.Response:
    """Set some controls, now and whenever the camera is opened. Answer with all controls."""
    _only_from_here(request)
    values = _numbers(await request.read())
    try:
        await camera.source.change_controls(values)
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    except (SourceError, TimeoutError) as error:
        raise _no_answer(camera, error) from error
    return await controls(request, camera)


def _numbers(body: bytes) -> dict[str, int]:
    """Read a JSON object of whole numbers; true counts as 1, and false as 0."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=_EXPECTED) from error
    if not isinstance(values, dict) or not all(isinstance(v, int) for v in values.values()):
        raise web.HTTPBadRequest(text=_EXPECTED)
    return {name: int(value) for name, value in values.items()}


async def restart(request: web.Request, camera: Camera) -> web.Response:
    """Close the source and open it again."""
    _only_from_here(request)
    _not_idle(camera)
    camera.restart()
    return web.Response(status=202, text=f"{camera.name} is being opened again\n")


async def reset(request: web.Request, camera: Camera) -> web.Response:
    """Reset the USB device behind the source, and open it again."""
    _only_from_here(request)
    remedy = camera.source.reset
    if remedy is None:
        raise web.HTTPConflict(text=f"{camera.name} cannot be reset: {camera.source.no_reset_hint}")
    _not_idle(camera)
    if camera.condition.holders and not camera.source.resets_from_others:
        raise web.HTTPConflict(text=f"{camera.name} cannot be reset: {camera.condition.trouble}")
    camera.restart(remedy)
    return web.Response(status=202, text=f"{camera.name} is being reset\n")


def _not_idle(camera: Camera) -> None:
    if camera.state == "idle":
        raise web.HTTPConflict(text=f"{camera.name} is closed: it is opened for its first viewer")


def _no_answer(camera: Camera, error: Exception) -> web.HTTPServiceUnavailable:
    why = error.reason if isinstance(error, SourceError) else "the camera does not answer"
    return web.HTTPServiceUnavailable(
        text=f"{camera.name} is {camera.state}: {why}; try again when it streams",
        headers={"Retry-After": "1"},
    )


def _only_from_here(request: web.Request) -> None:
    """Refuse a request from outside of this computer: there are no users to tell apart yet.

    Two kinds of request come from this computer and are refused all the same: those of another
    site's page in a browser here, known by their Origin, and those that a proxy passes on.
    """
    peer = request.transport.get_extra_info("peername") if request.transport else None
    # The peer of a unix socket is a path, that of TCP a tuple that begins with an IP address.
    local = isinstance(peer, str | bytes) or (peer is not None and _is_loopback(peer[0]))
    passed_on = {"Forwarded", "X-Forwarded-For", "X-Real-IP"} & request.headers.keys()
    if not local or passed_on or _is_foreign(request.headers.get(hdrs.ORIGIN)):
        raise web.HTTPForbidden(
            text="cameras can only be changed from the computer that mjrelay runs on, as with curl"
        )


def _is_foreign(origin: str | None) -> bool:
    """Whether an Origin header is that of another site's page, or of a page without site (null)."""
    try:
        return origin is not None and urlsplit(origin).hostname not in _LOCAL_HOSTS
    except ValueError:
        return True


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
