"""The ASGI application: what happens before a handler is asked, and how answers go wrong on the way."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from . import control
from .api import ROUTES, ApiError, Asked, Handler, missing
from .workspace import Workspace

CONTROL = "/_sandbox/drift/"
#: First parts of the addresses that are Drift's; none is one of Salesforce's or Azure's.
FIRST_PARTS = frozenset(
    {"conversations", "attachments", "reports", "users", "contacts", "accounts", "teams", "playbooks", "oauth2", "app"}
)
_log = logging.getLogger(__name__)


class Answer:
    """One answer; `cut` ends the connection half-way, `trickle` names a kind to hold back byte by byte."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers
        self.cut = False
        self.trickle = ""


def make_app(workspace: Workspace) -> ASGIApp:
    """The application of one workspace, standing alone."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        request = Request(scope, receive)
        body = await request.body()
        reply = await run_in_threadpool(answer, workspace, request, body)
        await _send(workspace, reply, send)

    return app


def with_drift(app: ASGIApp, workspace: Workspace) -> ASGIApp:
    """The application with Drift's addresses, and its control routes, before its own."""
    own = make_app(workspace)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = path.startswith(CONTROL) or path.lstrip("/").split("/")[0] in FIRST_PARTS
        await (own if scope["type"] == "http" and ours else app)(scope, receive, send)

    return answering


def answer(workspace: Workspace, request: Request, body: bytes) -> Answer:
    """One request, from the door to the handler."""
    path = request.url.path
    if path.startswith(CONTROL):
        status, made = control.handle(workspace, request, path.removeprefix(CONTROL).strip("/"), body)
        return _json(status, made)
    kind, handler, scopes, names = _match(request.method, path)
    with workspace.lock:
        workspace.stats[kind] = workspace.stats.get(kind, 0) + 1
    faults = workspace.faults
    if slow := faults.get("slow"):
        time.sleep(float(slow))
    while faults.holds("hang", kind):
        time.sleep(0.02)
    if retired := faults.get("retired"):
        return _json(410 if retired is True else int(retired), {"error": {"message": "This service has been retired."}})
    if faults.times("html_error"):
        return Answer(503, b"<html><h1>Service Unavailable</h1></html>", {"Content-Type": "text/html"})
    if fault := faults.times("status", kind):
        return _failing(fault)
    limits: dict[str, str] = {}
    try:
        _check_token(workspace, request, scopes)
        limits = _spend(workspace, kind)
        if handler is None:
            raise missing("resource")
        asked = Asked(host=request.headers.get("host", ""), query=request.url.query, body=body, names=names)
        with workspace.lock:
            made = handler(workspace, asked)
        reply = _made(made)
    except ApiError as error:
        shown = error.body(str(workspace.settings["error_shape"]))
        reply = Answer(error.status, b"", {}) if shown is None else _json(error.status, shown)
        if error.status == 429 and workspace.settings["limit_headers"]:
            reply.headers["Retry-After"] = error.param
    except Exception:
        # Our own mistake, not a fault somebody asked for: loud in the log and told apart by its words.
        _log.exception("The stand-in failed to answer %s %s", request.method, path)
        workspace.stats["stand_in_errors"] = workspace.stats.get("stand_in_errors", 0) + 1
        reply = _json(500, {"error": {"type": "stand_in_error", "message": "The stand-in itself failed, see its log"}})
    reply.headers.update(limits)
    if reply.status == 200 and faults.times("invalid_json"):
        reply.body = reply.body[: len(reply.body) // 2]
    if reply.status == 200 and faults.times("empty_body"):
        reply.body = b""
    reply.cut = reply.status == 200 and faults.reached("cut_page", kind)
    reply.trickle = kind
    return reply


def _match(method: str, path: str) -> tuple[str, Handler | None, tuple[str, ...], dict[str, str]]:
    for kind, allowed, pattern, scopes, handler in ROUTES:
        found = pattern.fullmatch(path)
        if found is not None and allowed == method:
            return kind, handler, scopes, found.groupdict()
    return "unknown", None, ("",), {}


def _check_token(workspace: Workspace, request: Request, scopes: tuple[str, ...]) -> None:
    if workspace.faults.get("expire_after") is not None and workspace.faults.reached("expire_after"):
        workspace.tokens.revoke(ending_only=True)
    if not scopes:
        return
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    grant = workspace.tokens.grant(token.strip()) if scheme.lower() == "bearer" else None
    if grant is None or workspace.faults.get("always_401"):
        raise ApiError(401, "authentication_error", "the access token is missing, unknown or has ended")
    if scopes != ("",) and not grant.scopes & set(scopes):
        raise ApiError(403, "forbidden", f"the access token lacks the scope {scopes[0]}")


def _spend(workspace: Workspace, kind: str) -> dict[str, str]:
    """Count the call; refuse it beyond the limit. Headers only where the setting says so."""
    settings = workspace.settings
    bucket = "reports" if kind == "reports" else "all"
    allowed = int(settings["reports_per_minute"] if bucket == "reports" else settings["calls_per_minute"])
    if not allowed:
        return {}
    fine, left, seconds = workspace.limit.spend(bucket, allowed, float(settings["minute_seconds"]))
    if not fine:
        raise ApiError(429, "rate_limit", "too many requests", param=str(max(1, round(seconds))))
    if not settings["limit_headers"]:
        return {}
    return {"X-RateLimit-Limit": str(allowed), "X-RateLimit-Remaining": str(left)}


def _made(made: Any) -> Answer:
    if isinstance(made, bytes):
        return Answer(200, made, {"Content-Type": "application/pdf"})
    if isinstance(made, str):
        return Answer(200, made.encode("utf-8", "replace"), {"Content-Type": "text/plain; charset=utf-8"})
    if isinstance(made, tuple):
        reply = _json(200, made[0])
        reply.headers.update(made[1])
        return reply
    return _json(200, made)


def _json(status: int, value: Any) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json"})


def _failing(fault: dict[str, Any]) -> Answer:
    status, shape = int(fault["status"]), str(fault.get("body", "error"))
    if shape == "html":
        reply = Answer(status, b"<html><h1>Error</h1></html>", {"Content-Type": "text/html"})
    elif shape == "none":
        reply = Answer(status, b"", {})
    else:
        reply = _json(status, ApiError(status, "api_error", "something went wrong").body(shape))
    if "retry_after" in fault:
        reply.headers["Retry-After"] = str(fault["retry_after"])
    return reply


async def _send(workspace: Workspace, reply: Answer, send: Send) -> None:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if reply.cut:
        # Half of what was promised; returning without the rest makes the server drop the connection.
        await send({"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True})
        return
    sent = 0
    while sent < len(reply.body) and workspace.faults.holds("trickle", reply.trickle):
        await send({"type": "http.response.body", "body": reply.body[sent : sent + 1], "more_body": True})
        sent += 1
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": reply.body[sent:]})
