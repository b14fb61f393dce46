"""The answers of `/status` and `/state` as plain values, and such values as JSON."""

import functools
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from mjrelay import __version__
from mjrelay.camera.camera import Camera
from mjrelay.web.clients import Client, Clients


def status(cameras: Iterable[Camera], clients: Clients, started: float) -> dict[str, Any]:
    """Everything about the relay.

    Args:
        cameras: In the order of the configuration.
        clients: The register of clients.
        started: When the relay started, in seconds of the monotonic clock.
    """
    return {
        "version": __version__,
        "uptime": round(time.monotonic() - started, 3),
        "cameras": [camera_status(camera, clients.of(camera)) for camera in cameras],
    }


def camera_status(camera: Camera, clients: Sequence[Client]) -> dict[str, Any]:
    """Everything about one camera; docs/reference/http.md explains each key."""
    newest, condition = camera.ring.newest, camera.condition
    width, height = (newest and newest.dimensions) or (None, None)
    dropped = dict(camera.source.tally.dropped)
    return {
        "name": camera.name,
        "state": camera.state,
        "reason": condition.reason,
        "hint": condition.hint,
        "since": _iso(condition.since),
        "source": camera.source.label,
        "width": width,
        "height": height,
        "fps": round(camera.ring.fps(time.monotonic()), 1),
        "frame_bytes": len(newest.image) if newest else None,
        "frame_age": _rounded(camera.frame_age),
        "frames": {
            "received": camera.published + sum(dropped.values()),
            "published": camera.published,
            "dropped": {"truncated": 0, **dropped},
        },
        "tolerated": dict(camera.source.tally.tolerated),
        "opens": camera.opens,
        "failures": camera.failures.total(),
        "stalls": camera.failures["stalled"],
        "usb_resets": camera.resets,
        "retry_in": _rounded(camera.retry_in),
        "holders": [holder.as_values() for holder in condition.holders],
        "clients": [_client_status(client) for client in clients],
    }


def state(camera: Camera, clients: Sequence[Client]) -> dict[str, Any]:
    """The answer ustreamer gives at `/state`, for the tools that read it."""
    newest = camera.ring.newest
    width, height = (newest and newest.dimensions) or (0, 0)
    fps = round(camera.ring.fps(time.monotonic()))
    return {
        "ok": True,
        "result": {
            "source": {
                "resolution": {"width": width, "height": height},
                "online": camera.is_fresh,
                "captured_fps": fps,
                "desired_fps": round(camera.config.fps),
            },
            "stream": {
                "queued_fps": fps,
                "clients": len(clients),
                "clients_stat": {
                    str(client.id): {"fps": round(client.sink.rate), "key": "0"}
                    for client in clients
                },
            },
        },
    }


def as_json(value: Any) -> web.Response:
    """Answer with a value as JSON, indented for people, that no cache may keep."""
    return web.json_response(
        value, headers={"Cache-Control": "no-store"}, dumps=functools.partial(json.dumps, indent=1)
    )


def _client_status(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "address": client.address,
        "user_agent": client.user_agent,
        "kind": "stream",
        "since": _iso(client.since),
        "fps": round(client.sink.rate, 1),
        "sent": client.sink.sent,
        "skipped": client.sink.skipped,
    }


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
