"""The web application: its addresses, and the handler of each."""

import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import TypeVar
from urllib.parse import unquote

from aiohttp import hdrs, web

from mjrelay.camera.camera import Camera
from mjrelay.web import addresses, status
from mjrelay.web.addresses import PAGE, SNAPSHOT, STREAM, Place
from mjrelay.web.changes import change_controls, controls, reset, restart
from mjrelay.web.clients import CLIENTS, Clients
from mjrelay.web.queries import value
from mjrelay.web.snapshots import clip, snapshot
from mjrelay.web.streams import stream

# OctoPi and the usual images with Klipper serve a camera below this path, through nginx.
_USUAL_BASE = "/webcam/"

# aiohttp's text for an address that no route has.
_NO_ROUTE = web.HTTPNotFound().text
_PAGE = files("mjrelay.web").joinpath("static/index.html").read_bytes()

_CAMERAS = web.AppKey("cameras", Mapping[str, Camera])
_STARTED = web.AppKey("started", float)
_BASES = web.AppKey("bases", tuple[str, ...])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CameraHandler = Callable[[web.Request, Camera], Awaitable[web.StreamResponse]]
_Answer = TypeVar("_Answer")


def make_app(
    cameras: Mapping[str, Camera],
    clients: Clients,
    *,
    base_path: str = "/",
    cors_origins: tuple[str, ...] = ("*",),
) -> web.Application:
    """Make the web application for some cameras. The first of them is the default one.

    Args:
        cameras: By name; looked up anew at each request, since a reload may change them.
        clients: The clients of all applications of this relay.
        base_path: The path at which a proxy serves us. Every address answers below it as well as
            at the root.
        cors_origins: Origins whose pages may read our answers; "*" for all.
    """
    app = web.Application(middlewares=[_answer_options, _explain_errors])
    app[_CAMERAS] = cameras
    app[_STARTED] = time.monotonic()
    app[CLIENTS] = clients
    app.on_response_prepare.append(functools.partial(_allow_origin, cors_origins))
    app[_BASES] = ("/", _USUAL_BASE, base_path)
    app.router.add_route("*", "/{path:.*}", _answer)
    return app


async def _answer(request: web.Request) -> web.StreamResponse:
    """Answer a request, whatever its address."""
    # The ? is escaped by clients that take the query for a part of the path.
    path, _, glued = request.path.partition("?")
    bases = request.app[_BASES]
    place = addresses.find(path, bases)
    if place is None:
        raise web.HTTPNotFound
    if not (_may_be_untidy(request) or _is_tidy(request, place)):
        raise web.HTTPNotFound(text=_nothing_at(request, place.path))
    query = request.rel_url.raw_query_string
    if glued or query:
        place = addresses.with_action(place, f"{glued}&{unquote(query)}")
    if place is None:
        raise web.HTTPNotFound(
            text="there is no such action; there are ?action=stream and ?action=snapshot"
        )
    if place.camera is None:
        return await _for_method(request, _OF_ALL[place.what])(request)
    if place.what == PAGE:
        raise web.HTTPNotFound  # of one camera there is none
    answer = _for_method(request, _OF_A_CAMERA[place.what])
    return await answer(request, _camera(request, place))


def _for_method(request: web.Request, answers: Mapping[str, _Answer]) -> _Answer:
    if request.method not in answers:
        raise web.HTTPMethodNotAllowed(request.method, answers)
    return answers[request.method]


def _may_be_untidy(request: web.Request) -> bool:
    """Whether the address may have slashes too many: not where it changes something.

    A proxy in front may forbid addresses that it knows by their exact form.
    """
    return request.method in (hdrs.METH_GET, hdrs.METH_HEAD)


def _is_tidy(request: web.Request, place: Place) -> bool:
    path = request.rel_url.path_safe  # in which an escaped slash is none
    return path in {base.removesuffix("/") + place.path for base in request.app[_BASES]}


def _nothing_at(request: web.Request, near: str | None) -> str:
    advice = f"did you mean {near}?" if near else "/ shows the cameras and their addresses"
    return f"there is nothing at {request.path}; {advice}"


# Which camera a request means


def _camera(request: web.Request, place: Place) -> Camera:
    name = value(request, "src") if place.has_src else ""
    if name or isinstance(place.camera, str):
        return _named(request, name or str(place.camera))
    assert place.camera is not None
    return _numbered(request, place.camera)


def _named(request: web.Request, name: str) -> Camera:
    cameras = request.app[_CAMERAS]
    if name in cameras:
        return cameras[name]
    known = ", ".join(cameras) or "none"
    raise web.HTTPNotFound(text=f"there is no camera {name!r}; there are: {known}")


def _numbered(request: web.Request, number: int) -> Camera:
    cameras = list(request.app[_CAMERAS].values())
    if 0 <= number < len(cameras):
        return cameras[number]
    known = ", ".join(f"{index} is {camera.name}" for index, camera in enumerate(cameras))
    raise web.HTTPNotFound(text=f"there is no camera {number}; {known or 'there is none'}")


# The handlers


async def _page(request: web.Request) -> web.StreamResponse:
    """The web page."""
    if not request.path.endswith("/"):
        # The page's links are relative. Two slashes in front would lead to another computer.
        raise web.HTTPFound(f"/{request.path.strip('/')}/")
    return web.Response(body=_PAGE, content_type="text/html", headers={"Cache-Control": "no-cache"})


async def _status(request: web.Request) -> web.Response:
    app = request.app
    return status.as_json(status.status(app[_CAMERAS].values(), app[CLIENTS], app[_STARTED]))


async def _camera_status(request: web.Request, camera: Camera) -> web.Response:
    return status.as_json(status.camera_status(camera, request.app[CLIENTS].of(camera)))


async def _state(request: web.Request, camera: Camera) -> web.Response:
    return status.as_json(status.state(camera, request.app[CLIENTS].of(camera)))


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    waiting = [
        camera.summary
        for camera in request.app[_CAMERAS].values()
        if camera.config.mode == "always" and not camera.is_fresh
    ]
    if waiting:
        return web.Response(status=503, text="\n".join([*waiting, ""]))
    return web.Response(text="ok\n")


async def _camera_health(_request: web.Request, camera: Camera) -> web.Response:
    """200 while the camera gives fresh frames, or is idle until somebody watches; else 503."""
    if camera.is_fresh or camera.state == "idle":
        return web.Response(text=f"{camera.state}\n")
    return web.Response(status=503, text=camera.summary + "\n")


def _to_get(answer: _Answer) -> dict[str, _Answer]:
    return {hdrs.METH_GET: answer, hdrs.METH_HEAD: answer}


_OF_ALL: dict[str, dict[str, Handler]] = {
    PAGE: _to_get(_page),
    "status": _to_get(_status),
    "healthz": _to_get(_healthz),
    "readyz": _to_get(_readyz),
}
_OF_A_CAMERA: dict[str, dict[str, _CameraHandler]] = {
    STREAM: _to_get(stream),
    SNAPSHOT: _to_get(snapshot),
    "clip": _to_get(clip),
    "status": _to_get(_camera_status),
    "state": _to_get(_state),
    "health": _to_get(_camera_health),
    "controls": {**_to_get(controls), hdrs.METH_PATCH: change_controls},
    "restart": {hdrs.METH_POST: restart},
    "reset": {hdrs.METH_POST: reset},
}


# What is done for every answer


@web.middleware
async def _answer_options(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS at every address: browsers send it before a fetch() with headers."""
    if request.method != hdrs.METH_OPTIONS:
        return await handler(request)
    methods = "GET, HEAD, OPTIONS"
    return web.Response(
        status=204,
        headers={
            "Allow": methods,
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": "Authorization, Cache-Control, If-None-Match",
            "Access-Control-Max-Age": "86400",
        },
    )


@web.middleware
async def _explain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with one sentence: plain text, or JSON if the client accepts that."""
    try:
        return await handler(request)
    except web.HTTPRedirection:
        raise
    except web.HTTPException as error:
        text = (error.text or error.reason).strip()
        if text == _NO_ROUTE:
            bases, cameras = request.app[_BASES], request.app[_CAMERAS]
            text = _nothing_at(request, addresses.nearest(request.path, bases, cameras))
        if isinstance(error, web.HTTPMethodNotAllowed):
            methods = " or ".join(sorted(error.allowed_methods - {hdrs.METH_HEAD}))
            text = f"{request.method} is not possible at {request.path}; use {methods}"
        headers = {"Cache-Control": "no-store"}
        for kept in ("Allow", "Retry-After"):
            if kept in error.headers:
                headers[kept] = error.headers[kept]
        if "application/json" in request.headers.get(hdrs.ACCEPT, ""):
            return web.json_response({"error": text}, status=error.status, headers=headers)
        return web.Response(status=error.status, text=text + "\n", headers=headers)


async def _allow_origin(
    origins: tuple[str, ...], request: web.Request, response: web.StreamResponse
) -> None:
    """Let pages of these origins read the answer: those of Mainsail and Fluidd, for example."""
    headers = response.headers
    headers["Server"] = "mjrelay"
    if "*" in origins:
        headers["Access-Control-Allow-Origin"] = "*"
    elif origins:
        headers["Vary"] = "Origin"
        origin = request.headers.get(hdrs.ORIGIN, "")
        if origin not in origins:
            return
        headers["Access-Control-Allow-Origin"] = origin
    else:
        return
    headers["Access-Control-Expose-Headers"] = "ETag, X-Timestamp, X-Age-Ms"
