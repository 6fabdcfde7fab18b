"""The HTTP surface: which address is answered by what, and everything that happens before a handler is asked."""

from __future__ import annotations

import gzip
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from . import bulk, control, oauth, rest
from .errors import ApiError
from .http import Call, Reply, html_reply, json_reply
from .org import VERSIONS, Org, session_expired

#: Salesforce cuts requests whose address and headers are longer.
MAX_URI = 16_384

Handler = Callable[..., Reply]
_log = logging.getLogger(__name__)

_V = r"/services/data/v(?P<version>\d+\.\d)"
#: Kind (for counts and faults), method, address, handler.
_ADDRESSES: list[tuple[str, str, str, Handler]] = [
    ("resources", "GET", "", rest.resources),
    ("limits", "GET", "/limits", rest.limits),
    ("describe_global", "GET", "/sobjects", rest.sobjects),
    ("describe", "GET", r"/sobjects/(?P<name>\w+)/describe", rest.describe_object),
    ("deleted", "GET", r"/sobjects/(?P<name>\w+)/deleted", rest.deleted),
    ("updated", "GET", r"/sobjects/(?P<name>\w+)/updated", rest.updated),
    ("basic", "GET", r"/sobjects/(?P<name>\w+)", rest.basic_object),
    ("record", "GET", r"/sobjects/(?P<name>\w+)/(?P<record_id>\w+)", rest.record),
    ("blob", "GET", r"/sobjects/(?P<name>\w+)/(?P<record_id>\w+)/(?P<field>\w+)", rest.blob),
    ("query", "GET", r"/(?P<route>query|queryAll)", rest.query),
    ("query_more", "GET", r"/(?P<route>query|queryAll)/(?P<locator>[\w-]+)", rest.query_more),
    ("bulk_create", "POST", "/jobs/query", bulk.create),
    ("bulk_list", "GET", "/jobs/query", bulk.listing),
    ("bulk_poll", "GET", r"/jobs/query/(?P<job_id>\w+)", bulk.poll),
    ("bulk_abort", "PATCH", r"/jobs/query/(?P<job_id>\w+)", bulk.change),
    ("bulk_delete", "DELETE", r"/jobs/query/(?P<job_id>\w+)", bulk.delete),
    ("bulk_page", "GET", r"/jobs/query/(?P<job_id>\w+)/results", bulk.page),
    ("bulk_pages", "GET", r"/jobs/query/(?P<job_id>\w+)/resultPages", bulk.pages),
]
ROUTES = [
    (kind, method, re.compile(_V + address + "/?", re.I), handler) for kind, method, address, handler in _ADDRESSES
]


def make_app(org: Org) -> ASGIApp:
    """The ASGI application of one org."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        request = Request(scope, receive)
        call = Call(
            method=request.method,
            path=scope["path"],
            query_string=scope["query_string"].decode("latin-1"),
            headers=request.headers,
            body=await request.body(),
        )
        reply = await run_in_threadpool(answer, org, call)
        await _send(reply, call, send)

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(reply: Reply, call: Call, send: Send) -> None:
    headers = dict(reply.headers)
    body = reply.body
    if reply.chunks is None:
        if call.takes_gzip and len(body) > 1024 and "Content-Encoding" not in headers and not reply.cut:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        if reply.status not in (204, 304):
            headers["Content-Length"] = str(len(body))
    raw = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if reply.chunks is None:
        if reply.cut:
            # Half of what was promised; returning without the rest makes the server drop the connection.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        await send({"type": "http.response.body", "body": body})
        return
    chunks = iter(reply.chunks)
    try:
        while True:
            chunk = await run_in_threadpool(next, chunks, None)
            if chunk is None:
                break
            if reply.cut:
                half = chunk[: max(1, len(chunk) // 2)]
                await send({"type": "http.response.body", "body": bytes(half), "more_body": True})
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            await run_in_threadpool(close)


def answer(org: Org, call: Call) -> Reply:
    """One request, from the door to the handler."""
    if call.path.startswith("/_sandbox/"):
        return control.handle(org, call)
    slow = org.faults.get("slow")
    if slow:
        time.sleep(float(slow))
    head = len(call.path) + len(call.query_string) + sum(len(k) + len(v) for k, v in call.headers.items())
    if head > MAX_URI:
        org.stats.count("too_long")
        return html_reply(414, "URI Too Long")
    if call.path.rstrip("/") == "/services/oauth2/token":
        return _token(org, call)
    if call.path.startswith("/services/Soap/"):
        org.stats.count("soap")
        return oauth.soap_login(org, call)
    if call.path.rstrip("/") == "/services/data":
        org.stats.count("versions")
        return rest.versions(org, call)
    return _api(org, call)


def _token(org: Org, call: Call) -> Reply:
    org.stats.count("token")
    edge = _edge(org, "token")
    if edge is not None:
        return edge
    if call.method != "POST":
        return json_reply({"error": "invalid_request", "error_description": "must use HTTP POST"}, 400)
    return oauth.token(org, call)


def _api(org: Org, call: Call) -> Reply:
    """A versioned address: edge faults, version, session, quota, then the handler."""
    try:
        kind, handler, names = _match(call)
    except ApiError as error:
        kind, handler, names = "unknown", None, {}
        refusal: ApiError | None = error
    else:
        refusal = None
    org.stats.count(kind)
    while org.faults.holds("hang", kind):
        time.sleep(0.02)
    edge = _edge(org, kind)
    if edge is not None:
        return edge
    try:
        if org.faults.get("always_401"):
            raise session_expired()
        if org.faults.expires_now(kind):
            org.end_sessions()
            raise session_expired()
        org.check_token(call.headers.get("authorization", ""))
        if org.faults.get("api_disabled"):
            raise ApiError(403, "API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner")
        if org.faults.times("concurrent"):
            raise ApiError(
                403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
            )
        org.quota.spend()
        if refusal is not None or handler is None:
            raise refusal or ApiError(404, "NOT_FOUND", "The requested resource does not exist")
        reply = batch(org, call, **names) if kind == "batch" else handler(org, call, **names)
    except json.JSONDecodeError as error:
        reply = json_reply([{"message": str(error), "errorCode": "JSON_PARSER_ERROR"}], 400)
    except ApiError as error:
        org.stats.count(f"error_{error.status}")
        reply = json_reply(error.body(), error.status)
    except Exception:
        # Our own mistake, not a fault somebody asked for: loud in the log, and in the shape a client can read.
        _log.exception("The stand-in failed to answer %s %s", call.method, call.path)
        org.stats.count("stand_in_errors")
        reply = json_reply(
            [{"message": "The stand-in itself failed, see its log", "errorCode": "UNKNOWN_EXCEPTION"}], 500
        )
    if kind in ("bulk_page", "query", "query_more") and reply.status == 200 and org.faults.cuts_now(kind):
        reply.cut = True
    if org.faults.holds("trickle", kind):
        reply.chunks, reply.body = _trickling(org, kind, _whole(reply)), b""
    if reply.status != 401:
        reply.headers.setdefault("Sforce-Limit-Info", org.quota.header(str(org.settings["app_name"])))
    return reply


def _trickling(org: Org, kind: str, body: bytes) -> Iterator[bytes]:
    sent = 0
    while sent < len(body) and org.faults.holds("trickle", kind):
        yield body[sent : sent + 1]
        sent += 1
        time.sleep(0.05)
    yield body[sent:]


def _edge(org: Org, kind: str) -> Reply | None:
    """Answers that never reach Salesforce's own code: status without a body, or a page of HTML."""
    if org.faults.times("html_error"):
        return html_reply(503, "Service Unavailable")
    fault = org.faults.status_for(kind)
    if fault is None:
        return None
    reply = _failing(fault)
    if "retry_after" in fault:
        reply.headers["Retry-After"] = str(fault["retry_after"])
    return reply


def _failing(fault: Mapping[str, Any]) -> Reply:
    status, shape = int(fault["status"]), fault.get("body", "list")
    if shape == "html":
        return html_reply(status, "Service Unavailable")
    if shape == "none" or status in (406, 420, 429):
        return Reply(status=status)
    code = {500: "UNKNOWN_EXCEPTION", 503: "SERVER_UNAVAILABLE"}.get(status, "SERVER_UNAVAILABLE")
    return json_reply([{"message": "An unexpected error occurred. Please try again.", "errorCode": code}], status)


def _match(call: Call) -> tuple[str, Handler, dict[str, str]]:
    """The route of a request, or the refusal for its version, address or method."""
    version = re.match(_V, call.path)
    if version is None:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    number = version.group("version")
    if float(number) < 31:
        raise ApiError(410, "GONE", f"API version {number} is retired. The requested resource is no longer available.")
    if number not in VERSIONS:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    if re.fullmatch(_V + "/composite/batch/?", call.path) and call.method == "POST":
        return "batch", rest.versions, {"version": number}
    allowed = False
    for kind, method, pattern, handler in ROUTES:
        match = pattern.fullmatch(call.path)
        if match is None:
            continue
        if method == call.method:
            return kind, handler, match.groupdict()
        allowed = True
    if allowed:
        raise ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{call.method}' not allowed.")
    raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")


def batch(org: Org, call: Call, version: str) -> Reply:
    """Up to 25 reads in one request; each is answered as if it had come alone."""
    del version
    wanted = call.json()
    requests = wanted.get("batchRequests") or []
    if len(requests) > 25:
        raise ApiError(400, "LIMIT_EXCEEDED", "The batch request may not contain more than 25 subrequests")
    out: list[dict[str, Any]] = []
    halted = False
    for asked in requests:
        if halted:
            refusal = ApiError(412, "BATCH_PROCESSING_HALTED", "Batch processing halted per request")
            out.append({"statusCode": 412, "result": refusal.body()})
            continue
        path, _, query = str(asked.get("url", "")).partition("?")
        inner = Call(
            method=str(asked.get("method", "GET")).upper(),
            path="/services/data/" + path.removeprefix("/services/data/").lstrip("/"),
            query_string=query,
            headers=call.headers,
        )
        try:
            kind, handler, names = _match(inner)
            org.stats.count(kind)
            org.quota.spend()
            reply = handler(org, inner, **names)
            out.append({"statusCode": reply.status, "result": json.loads(_whole(reply) or b"null")})
        except ApiError as error:
            out.append({"statusCode": error.status, "result": error.body()})
            halted = bool(wanted.get("haltOnError"))
    return json_reply({"hasErrors": any(r["statusCode"] >= 400 for r in out), "results": out})


def _whole(reply: Reply) -> bytes:
    chunks: Iterator[bytes] = reply.chunks or iter(())
    return reply.body + b"".join(chunks)
