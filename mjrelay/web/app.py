"""The web application: its addresses, and the handler of each."""

import functools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from aiohttp import hdrs, web

from mjrelay.camera.camera import Camera
from mjrelay.web import status
from mjrelay.web.changes import change_controls, controls, reset, restart
from mjrelay.web.clients import CLIENTS, Clients
from mjrelay.web.snapshots import clip, snapshot
from mjrelay.web.streams import stream

_STREAM_ALIASES = ("/stream", "/stream.mjpg", "/video", "/mjpg/video.mjpg")
_SNAPSHOT_ALIASES = ("/snapshot", "/snapshot.jpg", "/shot.jpg")
# OctoPi and the usual images with Klipper serve a camera below this path, through nginx.
_USUAL_BASE = "/webcam/"

# aiohttp's text for an address that no route has.
_NO_ROUTE = web.HTTPNotFound().text
_NUMBER = re.compile("[0-9]{1,4}")
_PAGE = files("mjrelay.web").joinpath("static/index.html").read_bytes()

_CAMERAS = web.AppKey("cameras", Mapping[str, Camera])
_STARTED = web.AppKey("started", float)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CameraHandler = Callable[[web.Request, Camera], Awaitable[web.StreamResponse]]


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
    for base in dict.fromkeys(("/", _USUAL_BASE, base_path)):
        _add_routes(app.router, base.removesuffix("/"))
    return app


def _add_routes(router: web.UrlDispatcher, base: str) -> None:
    if base:
        router.add_get(base, _root)
    router.add_get(f"{base}/", _root)
    for path in _STREAM_ALIASES:
        router.add_get(base + path, _with(_default, stream))
    for path in _SNAPSHOT_ALIASES:
        router.add_get(base + path, _with(_default, snapshot))
    router.add_get(f"{base}/clip", _with(_default, clip))
    router.add_get(f"{base}/api/stream.mjpeg", _with(_in_query, stream))
    router.add_get(f"{base}/api/frame.jpeg", _with(_in_query, snapshot))
    camera = f"{base}/cameras/{{name}}"
    router.add_get(f"{camera}/stream", _with(_in_path, stream))
    router.add_get(f"{camera}/snapshot", _with(_in_path, snapshot))
    router.add_get(f"{camera}/clip", _with(_in_path, clip))
    router.add_get(f"{camera}/status", _with(_in_path, _camera_status))
    router.add_get(f"{camera}/health", _with(_in_path, _camera_health))
    router.add_get(f"{camera}/controls", _with(_in_path, controls))
    router.add_patch(f"{camera}/controls", _with(_in_path, change_controls))
    router.add_post(f"{camera}/restart", _with(_in_path, restart))
    router.add_post(f"{camera}/reset", _with(_in_path, reset))
    router.add_get(f"{base}/status", _status)
    router.add_get(f"{base}/state", _with(_default, _state))
    router.add_get(f"{base}/healthz", _healthz)
    router.add_get(f"{base}/readyz", _readyz)


# Which camera a request means


def _with(find: Callable[[web.Request], Camera], answer: _CameraHandler) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await answer(request, find(request))

    return handle


def _default(request: web.Request) -> Camera:
    return _numbered(request, 0)


def _in_path(request: web.Request) -> Camera:
    return _named(request, request.match_info["name"])


def _in_query(request: web.Request) -> Camera:
    name = request.query.get("src")
    return _named(request, name) if name else _default(request)


def _named(request: web.Request, name: str) -> Camera:
    cameras = request.app[_CAMERAS]
    if name in cameras:
        return cameras[name]
    known = ", ".join(cameras) or "none"
    raise web.HTTPNotFound(text=f"there is no camera {name!r}; there are: {known}")


def _numbered(request: web.Request, number: int) -> Camera:
    cameras = list(request.app[_CAMERAS].values())
    if number < len(cameras):
        return cameras[number]
    known = ", ".join(f"{index} is {camera.name}" for index, camera in enumerate(cameras))
    raise web.HTTPNotFound(text=f"there is no camera {number}; {known or 'there is none'}")


# The handlers


async def _root(request: web.Request) -> web.StreamResponse:
    """The web page; with `?action=…` a stream or snapshot, as from mjpg-streamer and ustreamer."""
    action, _, number = request.query.get("action", "").partition("_")
    if not action:
        if not request.path.endswith("/"):
            raise web.HTTPFound(f"{request.path}/")  # the page's links are relative
        return web.Response(
            body=_PAGE, content_type="text/html", headers={"Cache-Control": "no-cache"}
        )
    answers: dict[str, _CameraHandler] = {"stream": stream, "snapshot": snapshot}
    if action not in answers or not _NUMBER.fullmatch(number or "0"):
        raise web.HTTPNotFound(
            text="there is no such action; there are ?action=stream and ?action=snapshot"
        )
    return await answers[action](request, _numbered(request, int(number or 0)))


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
            text = f"there is nothing at {request.path}; / shows the cameras and their addresses"
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
