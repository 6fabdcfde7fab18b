"""Runs over HTTP, for other programs: ask for one, see what came of it. One token opens both; errors are RFC 9457.

While a run is open, 202 is answered with Location and Retry-After, and 200 once it has ended, whether it was just
asked for, asked for again with its idempotency key, or looked at: so callers that wait by themselves, such as the
Web activity of Azure's pipelines, wait for the data and not for the request.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from novade_core.errors import BadWindow, KeyReused, NovadeError, UnknownStream
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import ENDED, Run
from novade_core.ledger.requests import ask_for_run
from novade_core.settings import Environment
from novade_core.streams import RunKind
from novade_core.wiring import utc_now

if TYPE_CHECKING:
    from jobs.api import Console

LARGEST_BODY = 16 * 1024
LONGEST_KEY = 200
#: Seconds after which a caller may look again.
LOOK_AGAIN = 5
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_COUNTS = (
    "read landed loaded deleted unchanged superseded duplicates rejected bytes_in api_calls source_count "
    "warehouse_count"
).split()
_log = logging.getLogger("novade")


@dataclass
class Problem(Exception):
    """An answer that is an error: what happened (``detail``) and the next step (``hint``)."""

    status: int
    kind: str
    title: str
    detail: str
    hint: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """As RFC 9457 has it, with our hint beside."""
        body = {
            "type": f"urn:novade:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "hint": self.hint,
        }
        return _json(body, self.status, self.headers, media_type="application/problem+json")


def routes(console: Console) -> list[Route]:
    """``POST /api/runs`` and ``GET /api/runs/{id}``; whatever else is below ``/api`` is a problem, not a page."""

    async def ask(request: Request) -> Response:
        environment, ledger = _open(console, request)
        wanted = _wanted(await _body(request))
        key = _key(request, environment)
        who = _who(request, environment)

        def work() -> Response:
            run_id = ask_for_run(
                ledger,
                stream=environment.stream(wanted.stream),
                kind=wanted.kind,
                who=who,
                origin="webhook",
                now=utc_now(),
                since=wanted.since,
                until=wanted.until,
                idempotency_key=key,
            )
            return _shown(environment, ledger, run_id)

        return await run_in_threadpool(work)

    async def look(request: Request) -> Response:
        environment, ledger = _open(console, request)
        text = request.path_params["run_id"]
        # A number that no ledger can hold is no run either.
        run_id = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
        return await run_in_threadpool(_shown, environment, ledger, run_id)

    async def elsewhere(request: Request) -> Response:
        allowed = _allowed(request.url.path)
        if allowed is None:
            raise Problem(
                404,
                "no-such-route",
                "Not found",
                "Nothing is served here.",
                "Use POST /api/runs or GET /api/runs/{id}.",
            )
        raise Problem(
            405,
            "method-not-allowed",
            "Method not allowed",
            f"This route takes {allowed}.",
            "Use POST /api/runs to ask for a run, GET /api/runs/{id} to look at it.",
            {"Allow": allowed},
        )

    return [
        Route("/api/runs", _answering(ask), methods=["POST"]),
        Route("/api/runs/{run_id}", _answering(look), methods=["GET"]),
        Route("/api/{rest:path}", _answering(elsewhere), methods=_METHODS),
    ]


def _allowed(path: str) -> str | None:
    if re.fullmatch(r".*/api/runs", path):
        return "POST"
    return "GET, HEAD" if re.fullmatch(r".*/api/runs/[^/]+", path) else None


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Every error that a caller can meet becomes a problem; anything else is a bug and keeps its trace."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            return problem.response()
        except UnknownStream as error:
            return Problem(404, "unknown-stream", "Unknown stream", error.message, error.hint).response()
        except BadWindow as error:
            hint = _WINDOW_HINT if error.hint == BadWindow.default_hint else error.hint
            return Problem(422, "bad-window", "Bad window", error.message, hint).response()
        except KeyReused as error:
            return Problem(422, "key-reused", "Idempotency key reused", error.message, error.hint).response()
        except ClientDisconnect:
            return Response(status_code=400)
        except (SQLAlchemyError, NovadeError):
            # The driver's words can hold an address or a user name, so they go to the log alone.
            _log.warning("The ledger could not serve a request for a run.", exc_info=True)
            return Problem(
                503,
                "ledger-away",
                "The ledger does not answer",
                "The ledger could not be reached; whether the run was taken is not known.",
                "Send the same request again with the same Idempotency-Key.",
                {"Retry-After": str(LOOK_AGAIN)},
            ).response()

    return answer


# --- who asks -------------------------------------------------------------------------------------


def _open(console: Console, request: Request) -> tuple[Environment, Ledger]:
    """What to work with, once the caller has shown the token."""
    environment, ledger = console.environment, console.ledger
    if environment is None or ledger is None:
        raise Problem(
            503,
            "starting",
            "The console is starting",
            "The console cannot take requests yet.",
            "Send the request again in a moment.",
            {"Retry-After": str(LOOK_AGAIN)},
        )
    token = _token(environment)
    if not token:
        raise Problem(
            403,
            "no-token-configured",
            "Runs over HTTP are off",
            "No token is configured, so nobody may ask for runs over HTTP.",
            "Set NOVADE_API_TOKEN, or token below [api] in a secrets file, and restart the console.",
        )
    given = request.headers.getlist("authorization")
    scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode("latin-1"), token.encode()):
        raise Problem(
            401,
            "unauthorized",
            "Not authorized",
            "The request does not carry the right token." if given else "The request carries no token.",
            "Send the header Authorization: Bearer and the console's token.",
            {"WWW-Authenticate": 'Bearer realm="novade"' + (', error="invalid_token"' if given else "")},
        )
    return environment, ledger


def _token(environment: Environment) -> str:
    return environment.api.token.get_secret_value().strip() if environment.api.token else ""


def _who(request: Request, environment: Environment) -> str:
    """The program as it names itself; it is kept with the run, so nothing that could hold the token."""
    name = "".join(c for c in request.headers.get("user-agent", "") if c.isascii() and c.isprintable())
    return f"webhook {name[:40]}".strip() if _token(environment) not in name else "webhook"


def _key(request: Request, environment: Environment) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 0 < len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise Problem(
            400,
            "bad-key",
            "Bad idempotency key",
            f"Idempotency-Key is not one header of 1 to {LONGEST_KEY} printable ASCII characters.",
            "Send an identifier of your own for the request, such as the id of the execution.",
        )
    if _token(environment) in key:
        raise Problem(400, "bad-key", "Bad idempotency key", "The token is no idempotency key.", "Send another one.")
    return key


# --- what is asked for ----------------------------------------------------------------------------

_WINDOW_HINT = "Give since and until such as 2024-11-01T00:00:00Z, the earlier one as since."
_SHAPE_HINT = 'Send an object such as {"stream": "salesforce.contact", "kind": "incremental"}.'


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    stream: str
    kind: RunKind
    since: datetime | None
    until: datetime | None


async def _body(request: Request) -> bytes:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(
            415,
            "not-json",
            "Unsupported media type",
            "The request's Content-Type is not application/json.",
            "Send JSON with Content-Type: application/json.",
            {"Accept-Post": "application/json"},
        )
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise Problem(
                413,
                "too-large",
                "Request too large",
                f"The request's body is larger than {LARGEST_BODY} bytes.",
                _SHAPE_HINT,
                {"Connection": "close"},
            )
    return body


def _wanted(body: bytes) -> _Wanted:
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        # Not the error's words: they can quote what was sent.
        raise Problem(400, "malformed", "Malformed JSON", "The request's body is not JSON.", _SHAPE_HINT) from error
    if not isinstance(value, dict):
        raise _unfit("The request's body is not a JSON object.")
    known = ("stream", "kind", "since", "until")
    if unknown := [name for name in value if name not in known]:
        raise _unfit(f"{_quoted(unknown[0])} is not a field; known: {', '.join(known)}.")
    stream, kind = value.get("stream"), value.get("kind", RunKind.INCREMENTAL.value)
    if not isinstance(stream, str) or not 0 < len(stream) <= 200:
        raise _unfit("stream is not the name of a stream.")
    if not isinstance(kind, str) or kind not in set(RunKind):
        raise _unfit(f"kind is not one of {', '.join(RunKind)}.")
    return _Wanted(stream=stream, kind=RunKind(kind), since=_instant(value, "since"), until=_instant(value, "until"))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _instant(value: Mapping[str, Any], name: str) -> datetime | None:
    given = value.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or len(given) > 40:
        raise BadWindow(f"{name} is not an instant.", hint=_WINDOW_HINT)
    try:
        instant = datetime.fromisoformat(given)
    except ValueError as error:
        raise BadWindow(f"{name} {_quoted(given)} is not an instant.", hint=_WINDOW_HINT) from error
    if instant.tzinfo is None:
        raise BadWindow(f"{name} {_quoted(given)} has no time zone.", hint=_WINDOW_HINT)
    return instant


def _quoted(text: str) -> str:
    """What the caller wrote, short and without control characters."""
    return ascii(text[:40])


def _unfit(detail: str) -> Problem:
    return Problem(422, "unfit", "Request does not fit", detail, _SHAPE_HINT)


# --- what is answered -----------------------------------------------------------------------------


def _shown(environment: Environment, ledger: Ledger, run_id: int) -> Response:
    run = run_as_json(ledger, run_id)
    if run is None:
        raise Problem(
            404,
            "unknown-run",
            "Unknown run",
            "There is no run of this number.",
            "Use the address in the Location header of the answer to POST /api/runs.",
        )
    address = (environment.api.url or "").rstrip("/") + f"/api/runs/{run_id}"
    if run["open"]:
        return _json(run, 202, {"Location": address, "Retry-After": str(LOOK_AGAIN)})
    return _json(run, 200, {"Content-Location": address})


def run_as_json(ledger: Ledger, run_id: int) -> dict[str, Any] | None:
    """A run as callers see it; None where there is no such run. Instants are UTC, counts that are not known None."""
    with ledger.read() as connection:
        row = connection.execute(select(Run.__table__).where(Run.id == run_id)).one_or_none()
        if row is None:
            return None
        retry = connection.execute(
            select(Run.id)
            .where(Run.subject == row.subject, Run.id > run_id, Run.retry_of == run_id)
            .order_by(Run.id)
            .limit(1)
        ).scalar()
    is_open = row.state not in ENDED
    error = {
        "class": row.error_kind,
        "origin": row.error_origin,
        "message": row.error_message,
        "hint": row.error_hint,
    }
    return {
        "id": row.id,
        "stream": row.subject,
        "kind": row.kind,
        "since": (row.parameters or {}).get("since"),
        "until": (row.parameters or {}).get("until"),
        "state": row.state,
        "open": is_open,
        "origin": row.origin,
        "attempt": row.attempt,
        "retry_of": row.retry_of,
        "retry": retry,
        "requested_at": row.requested_at,
        "not_before": row.not_before,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "counts": {name: getattr(row, name) for name in _COUNTS},
        "headline": row.headline,
        "notice": row.notice,
        "error": error if row.error_kind else None,
        "progress": row.progress if is_open else None,
    }


def _json(
    value: Mapping[str, Any], status: int, headers: Mapping[str, str], media_type: str = "application/json"
) -> Response:
    # ASCII alone: what a vendor sent may hold halves of characters, which no encoding takes.
    return Response(
        json.dumps(value, default=datetime.isoformat),
        status_code=status,
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **headers},
        media_type=media_type,
    )
