"""``python -m jobs sync``: ask for runs, then follow the worker or do the work here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from jobs.execute import perform, ready
from jobs.follow import Bar, follow
from novade_core.errors import ConfigurationError, NovadeError
from novade_core.ledger.queue import fail_queued
from novade_core.ledger.requests import ask_for_run
from novade_core.streams import RunKind, Stream
from novade_core.wiring import Services, build_services, utc_now


def sync(
    services: Services,
    streams: Sequence[Stream],
    kind: RunKind,
    since: datetime | None,
    until: datetime | None,
    *,
    who: str,
    quiet: bool,
) -> list[Mapping[str, Any]]:
    """One answer per stream, in order; one failing stream does not stop the next."""
    from jobs.supervisor import is_alive

    through_worker = is_alive(services)
    if not through_worker:
        services = build_services(ready(services.environment))
    answers = []
    for stream in streams:
        run_id = ask_for_run(
            services.ledger,
            stream=stream,
            kind=kind,
            who=who,
            origin="command",
            now=utc_now(),
            since=since,
            until=until,
        )
        with Bar(stream.label, quiet=quiet) as bar:
            row = follow(services, run_id, bar, partial(is_alive, services)) if through_worker else None
            if row is None:
                if through_worker:  # it went away before it took the run
                    services, through_worker = build_services(ready(services.environment)), False
                _here(services, run_id, bar)
                row = follow(services, run_id, bar, lambda: True)
            answers.append(_answer(row or {}, alone=not through_worker))
    return answers


def _here(services: Services, run_id: int, bar: Bar) -> None:
    try:
        perform(services, run_id, bar.point)
    except ConfigurationError:
        # A worker that came up meanwhile took the run; following it is as good.
        return
    except NovadeError as error:
        fail_queued(
            services.ledger, run_id=run_id, now=utc_now(), kind=error.kind, message=error.message, hint=error.hint
        )


#: A run that landed has worked; but who would load it?
_NOBODY = "no worker lives to open a load window; start the console or `python -m jobs worker`"


def _answer(row: Mapping[str, Any], *, alone: bool) -> Mapping[str, Any]:
    begun, ended = row["started_at"], row["ended_at"]
    return {
        **row,
        "run_id": row["id"],
        "stream": row["subject"],
        "seconds": round((ended - begun).total_seconds(), 3) if begun and ended else None,
        "error": row["error_message"],
        "hint": _NOBODY if alone and row["state"] == "landed" else row["error_hint"],
    }
