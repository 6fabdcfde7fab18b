"""The ASGI application: region, keys and limits before a handler is asked, and how answers go wrong on the way."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from . import charts, control, export, taxonomy
from .http import Asked, Refused, Reply, json_reply
from .project import HOSTS, WEB_APP, Amplitude, Project

CONTROL = "/_sandbox/amplitude/"
#: All of Amplitude's addresses; none is one of Salesforce's, Drift's or Azure's.
PREFIX = "/api/2/"

Handler = Callable[[Amplitude, Project, Asked], Reply]
#: Address -> kind (for counts and faults) and handler.
ROUTES: dict[str, tuple[str, Handler]] = {
    "/api/2/export": ("export", export.export),
    "/api/2/events/segmentation": ("segmentation", charts.segmentation),
    "/api/2/events/list": ("events_list", charts.events_list),
}
_log = logging.getLogger(__name__)


def make_app(amplitude: Amplitude) -> ASGIApp:
    """The application of Amplitude, standing alone."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        request = Request(scope, receive)
        asked = Asked(
            method=request.method,
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=request.headers,
            body=await request.body(),
        )
        reply = await run_in_threadpool(answer, amplitude, asked)
        await _send(reply, send)

    return app


def with_amplitude(app: ASGIApp, amplitude: Amplitude) -> ASGIApp:
    """The application with Amplitude's addresses, and its control routes, before its own."""
    own = make_app(amplitude)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope.get("path", "").startswith((CONTROL, PREFIX))
        await (own if ours else app)(scope, receive, send)

    return answering


def answer(amplitude: Amplitude, asked: Asked) -> Reply:
    """One request, from the door to the handler. Its places are free again once its body was sent."""
    if asked.path.startswith(CONTROL):
        return control.handle(amplitude, asked, asked.path.removeprefix(CONTROL))
    if asked.host == WEB_APP:
        return Reply(404, b"<html><body>Amplitude</body></html>", headers={"Content-Type": "text/html"})
    kind, handler = ROUTES.get(asked.path.rstrip("/"), ("", None))
    if handler is None and asked.path.startswith(taxonomy.PREFIX):
        kind, handler = "taxonomy", taxonomy.read
    amplitude.stats[kind or "unknown"] += 1
    if slow := amplitude.faults.set.get("slow"):
        time.sleep(float(slow))
    if fault := amplitude.faults.status_for(kind):
        headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
        return Reply(int(fault["status"]), b"The service refuses on request", headers=headers)
    try:
        if handler is None:
            raise Refused(404, "Not found")
        project = _project(amplitude, asked)
        reply = _limited(amplitude, project, asked, kind, handler)
    except Refused as refusal:
        amplitude.stats[f"error_{refusal.status}"] += 1
        if kind == "taxonomy":
            return taxonomy.refused(refusal.status, refusal.message)
        if kind == "export":
            return Reply(refusal.status, refusal.message.encode(), headers={"Content-Type": "text/plain"})
        error = {"error": {"http_code": refusal.status, "type": "invalid_request", "message": refusal.message}}
        return json_reply(error, refusal.status)
    except Exception:
        # Our own mistake, not a fault that somebody asked for: loud in the log.
        _log.exception("The stand-in failed to answer %s %s", asked.method, asked.path)
        amplitude.stats["stand_in_errors"] += 1
        return Reply(500, b"The stand-in itself failed, see its log")
    if reply.status == 200 and amplitude.faults.strikes("cut"):
        reply.cut = True
    return reply


def _project(amplitude: Amplitude, asked: Asked) -> Project:
    """Whose keys these are; a key of the other region's project is as wrong as one that nobody has."""
    scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
    try:
        api_key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        api_key = secret = ""
    if scheme.lower() != "basic" or not api_key:
        raise Refused(401, "Unauthorized: HTTP Basic with API key and secret key is needed")
    region = HOSTS.get(asked.host)
    for project in amplitude.projects.values():
        fits = hmac.compare_digest(project.keys.api_key.encode(), api_key.encode())
        proven = hmac.compare_digest(project.keys.secret_key.encode(), secret.encode())
        if fits and proven and region in (None, project.region):
            return project
    raise Refused(int(amplitude.settings["bad_key_status"]), "Forbidden: invalid API key or secret key")


def _limited(amplitude: Amplitude, project: Project, asked: Asked, kind: str, handler: Handler) -> Reply:
    """The handler's answer inside the limits of what may be under way at once."""
    settings = amplitude.settings
    places = [(project.requests, 1, int(settings["concurrent"]), "concurrent requests")]
    if kind == "taxonomy":
        cost = 1 if asked.method == "GET" else 2
        places.append((project.taxonomy, cost, int(settings["taxonomy_at_once"]), "cost of taxonomy calls at once"))
        if not project.taxonomy.spend(cost, (3600, int(settings["taxonomy_per_hour"]))):
            raise Refused(429, f"Exceeded the taxonomy limit of {settings['taxonomy_per_hour']} per hour")
    held: list[tuple[Any, int]] = []

    def leave() -> None:
        while held:
            place, cost = held.pop()
            place.leave(cost)

    try:
        for place, cost, most, what in places:
            if not place.enter(cost, most):
                raise Refused(429, f"Exceeded the limit of {most} {what}")
            held.append((place, cost))
        reply = handler(amplitude, project, asked)
    except BaseException:
        leave()
        raise
    if reply.chunks is None:
        leave()
    else:
        reply.chunks = _UntilSent(reply.chunks, leave)
    return reply


class _UntilSent(Iterator[bytes]):
    """Pieces with an end of their own: a generator that was never begun would not run its `finally`."""

    def __init__(self, chunks: Iterator[bytes], leave: Callable[[], None]) -> None:
        self.chunks, self.leave = chunks, leave

    def __next__(self) -> bytes:
        return next(self.chunks)

    def close(self) -> None:
        """Free the places, however much was sent."""
        try:
            if (close := getattr(self.chunks, "close", None)) is not None:
                close()
        finally:
            self.leave()


async def _send(reply: Reply, send: Send) -> None:
    headers = dict(reply.headers)
    if reply.chunks is None:
        headers["Content-Length"] = str(len(reply.body))
    chunks = reply.chunks if reply.chunks is not None else iter((reply.body,))
    try:
        raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        while (chunk := await run_in_threadpool(next, chunks, None)) is not None:
            if reply.cut and chunk:
                # Half of a piece; returning without the rest makes the server drop the connection.
                await send({"type": "http.response.body", "body": chunk[: len(chunk) // 2], "more_body": True})
                return
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            await run_in_threadpool(close)
