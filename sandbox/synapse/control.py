"""Over HTTPS: Azure's management routes of the pool, and control routes for tests under /_sandbox/synapse/."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .faults import FAULTS
from .pool import SETTINGS, Pool

_GROUP = r"/subscriptions/[\w-]+/resourceGroups/[\w.()-]+/providers"
_WORKSPACE = _GROUP + r"/Microsoft\.Synapse/workspaces/[\w-]+/sqlPools/(?P<pool>[\w-]+)"
_SERVER = _GROUP + r"/Microsoft\.Sql/servers/[\w-]+/databases/(?P<pool>[\w-]+)"
_MANAGEMENT = re.compile(
    rf"(?:{_WORKSPACE}|{_SERVER.replace('<pool>', '<database>')})(?P<action>/pause|/resume)?", re.I
)
_CONTROL = "/_sandbox/synapse/"


def with_synapse(app: ASGIApp, pool: Pool) -> ASGIApp:
    """The application with the pool's routes before its own."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith((_CONTROL, "/subscriptions/")):
            await app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        reply = await run_in_threadpool(_answer, pool, request, body)
        await reply(scope, receive, send)

    return answering


def _answer(pool: Pool, request: Request, body: bytes) -> Response:
    path = request.url.path
    if not path.startswith(_CONTROL):
        return management(pool, request)
    name = path.removeprefix(_CONTROL).strip("/")
    route = _ROUTES.get((request.method, name))
    if route is None:
        known = ", ".join(f"{m} {n}" for m, n in _ROUTES)
        return JSONResponse({"error": f"no control route {request.method} {name}; known: {known}"}, 404)
    try:
        return JSONResponse(route(pool, json.loads(body or b"{}")))
    except (ValueError, KeyError, TypeError) as error:
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)


def management(pool: Pool, request: Request) -> Response:
    """Status, pause and resume by the route of a workspace's pool or of a standalone one."""
    if not re.fullmatch(r"Bearer \S+", request.headers.get("authorization", "")):
        return _refused(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    found = _MANAGEMENT.fullmatch(request.url.path)
    if found is None or "api-version" not in request.query_params:
        return _refused(400, "InvalidRequest", "The address or its api-version is not known.")
    standalone = found["pool"] is None
    if pool.settings["management_route"] not in ("both", "server" if standalone else "workspace"):
        if standalone:
            return _refused(403, "DenyAssignmentAuthorizationFailed", "Access is denied by a deny assignment.")
        return _refused(404, "ResourceNotFound", "The workspace was not found.")
    name = found["database"] if standalone else found["pool"]
    if name.lower() != pool.database.lower():
        return _refused(404, "ResourceNotFound", f"The Resource '{name}' was not found.")
    action = (found["action"] or "").lower()
    if request.method == "GET" and not action:
        return JSONResponse(
            {
                "id": request.url.path,
                "name": pool.database,
                "location": "westeurope",
                "sku": {"name": pool.settings["size"], "capacity": 0},
                "properties": {"status": pool.status(), "collation": "SQL_Latin1_General_CP1_CI_AS"},
            }
        )
    if request.method != "POST" or not action:
        return _refused(405, "MethodNotAllowed", f"{request.method} is not offered here.")
    wanted = {"/pause": "Online", "/resume": "Paused"}[action]
    if pool.status() != wanted:
        return _refused(409, "ConflictingOperation", f"The pool is {pool.status()}; {action[1:]} needs {wanted}.")
    if action == "/pause":
        pool.pause()
    else:
        pool.resume()
    return Response(status_code=202)


def _refused(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


# Control


def state(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    """Read or set the state: ``{"pause": true}`` or ``{"resume": true}``."""
    if wanted.get("pause"):
        pool.pause()
    if wanted.get("resume"):
        pool.resume()
    return {"status": pool.status(), "rcsi": pool.rcsi, "sessions": len(pool.connections)}


def faults(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    pool.faults.update(wanted)
    return {"faults": dict(pool.faults.set), "known": FAULTS}


def settings(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(wanted) - set(SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings {unknown}; known: {sorted(SETTINGS)}")
    pool.settings.update(wanted)
    return {"settings": pool.settings}


def foreign(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    """Somebody else's session in sys.dm_pdw_exec_sessions: ``{"open": "SID77"}``, ``{"close": "SID77"}``."""
    if "open" in wanted:
        pool.foreign.append(
            {
                "session_id": str(wanted["open"]),
                "login_name": str(wanted.get("login_name", "analyst")),
                "status": str(wanted.get("status", "Idle")),
                "app_name": str(wanted.get("app_name", "Power BI")),
            }
        )
    pool.foreign[:] = [f for f in pool.foreign if f["session_id"] != wanted.get("close")]
    return {"foreign": pool.foreign}


def storage(pool: Pool, wanted: dict[str, Any]) -> dict[str, Any]:
    """Where an account's blobs really are: ``{account: {"endpoint": …, "key": …}}``."""
    for account, place in wanted.items():
        pool.storage[account] = {"endpoint": str(place["endpoint"]), "key": str(place["key"])}
    return {"accounts": {a: p["endpoint"] for a, p in pool.storage.items()}}


def statements(pool: Pool, _wanted: dict[str, Any]) -> dict[str, Any]:
    """What was sent, in order, since the last reset."""
    return {"statements": list(pool.faults.seen)}


def reset(pool: Pool, _wanted: dict[str, Any]) -> dict[str, Any]:
    """No faults, default settings, nobody else's session."""
    pool.faults.clear()
    pool.settings.update(pool.defaults)
    pool.foreign.clear()
    return state(pool, {})


_ROUTES: dict[tuple[str, str], Callable[[Pool, dict[str, Any]], dict[str, Any]]] = {
    ("GET", "state"): state,
    ("POST", "state"): state,
    ("GET", "faults"): faults,
    ("POST", "faults"): faults,
    ("GET", "settings"): settings,
    ("POST", "settings"): settings,
    ("GET", "foreign"): foreign,
    ("POST", "foreign"): foreign,
    ("GET", "storage"): storage,
    ("POST", "storage"): storage,
    ("GET", "statements"): statements,
    ("POST", "reset"): reset,
}
