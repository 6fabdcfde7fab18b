"""HTTP handlers beside the pages: is the process alive, can it work, what does it measure. No secrets in any answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jobs import api_runs
from novade_core.errors import NovadeError
from novade_core.ledger import summaries
from novade_core.ledger.database import SCHEMA_VERSION, Ledger, schema_version
from novade_core.ledger.models import RunState
from novade_core.settings import Environment
from novade_core.wiring import utc_now


@dataclass
class Console:
    """What the handlers look at; the start hook fills it in."""

    environment: Environment | None = None
    ledger: Ledger | None = None


def routes(console: Console) -> list[Route]:
    """The routes for ``st.App``."""

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        reasons = await run_in_threadpool(why_not_ready, console)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def metrics(_request: Request) -> Response:
        if console.environment is None or console.ledger is None:
            return PlainTextResponse("# The console is starting.\n", status_code=503)
        try:
            text = await run_in_threadpool(metrics_text, console.environment, console.ledger, utc_now())
        except (DBAPIError, NovadeError):
            return PlainTextResponse("# The ledger cannot be read.\n", status_code=503)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        *api_runs.routes(console),
    ]


def why_not_ready(console: Console) -> list[str]:
    """Reasons in sentences; none when the console can work."""
    if console.environment is None or console.ledger is None:
        return ["The console is starting."]
    try:
        version = schema_version(console.ledger.engine)
        summaries.queue_length(console.ledger, at_most=1)
    except (DBAPIError, NovadeError):
        # The driver's words can hold an address or a user name, so they go to the log alone.
        return ["The ledger cannot be read."]
    if version != SCHEMA_VERSION:
        return [f"The ledger has schema {version or 'none'}, this code needs {SCHEMA_VERSION}."]
    return []


def metrics_text(environment: Environment, ledger: Ledger, now: datetime) -> str:
    """Prometheus' exposition format, version 0.0.4."""
    day_ago = now - timedelta(hours=24)
    counts = summaries.count_by_state(ledger, since=day_ago, until=now)
    today = {d.stream: d.loaded for d in summaries.daily_totals(ledger, since=now.date(), until=now.date())}
    facts = summaries.stream_facts(ledger, environment.streams)
    workers = summaries.workers(ledger)
    parts = [
        _metric(
            "novade_info",
            "gauge",
            "The environment that this console serves.",
            [({"environment": environment.name}, 1)],
        ),
        _metric(
            "novade_runs_24h",
            "gauge",
            "Runs asked for within 24 hours, by their state now.",
            [({"state": state.value}, counts.get(state, 0)) for state in RunState],
        ),
        _metric(
            "novade_rows_loaded_today",
            "gauge",
            "Rows loaded since 00:00 UTC.",
            [({"stream": f.stream}, today.get(f.stream, 0)) for f in facts],
        ),
        _metric(
            "novade_seconds_since_load",
            "gauge",
            "Seconds since a run last proved the stream up to date; absent before the first.",
            [
                ({"stream": f.stream}, round((now - f.last_load_at).total_seconds(), 3))
                for f in facts
                if f.last_load_at is not None
            ],
        ),
        _metric("novade_queue_length", "gauge", "Queued runs.", [({}, summaries.queue_length(ledger))]),
        _metric(
            "novade_worker_beat",
            "counter",
            "Beats of each worker that has not stopped; one that does not rise is dead.",
            [({"worker": w.id, "kind": w.kind}, w.beat) for w in workers],
        ),
    ]
    return "".join(parts)


def _metric(name: str, kind: str, about: str, samples: Iterable[tuple[dict[str, str], Any]]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{written}}} {value}" if written else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """As the format wants label values: backslash, quote and line feed."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
