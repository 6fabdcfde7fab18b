"""All that people may write: asking for a run, asking for its end. Each request leaves a line in ``audit``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from novade_core.errors import BadWindow, ConfigurationError
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import ENDED, Audit, Run, RunState
from novade_core.streams import RunKind, Stream

#: Lower goes first: whoever waits in front of a screen is served before the clock.
PRIORITIES = {"person": 10, "command": 10, "webhook": 50, "schedule": 50, "retry": 50, "start": 60}


def ask_for_run(
    ledger: Ledger,
    *,
    stream: Stream,
    kind: RunKind,
    who: str,
    origin: str,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
) -> int:
    """Queue a run and give its id; asking twice for the same thing gives the same id.

    A queued run of the same stream, kind and window is not doubled: it is brought forward where a person
    asks while it waits. Raises BadWindow for a window that is reversed, without a time zone, in the
    future, missing (backfill) or out of place (any other kind).
    """
    parameters = _parameters(kind=kind, since=since, until=until, now=now)
    urgency = PRIORITIES.get(origin, 50) if priority is None else priority
    with ledger.write() as c:
        if not ledger.is_sqlite:
            # SQLite's writers already queue at BEGIN IMMEDIATE; elsewhere two people could both see an empty queue.
            if idempotency_key is not None:
                c.execute(text("SELECT pg_advisory_xact_lock(7262333, hashtext(:key))"), {"key": idempotency_key})
            c.execute(text("SELECT pg_advisory_xact_lock(7262332, hashtext(:stream))"), {"stream": stream.id})
        if idempotency_key is not None:
            known = c.execute(select(Run.id).where(Run.idempotency_key == idempotency_key)).scalar()
            if known is not None:
                return int(known)
        waiting = _waiting(c, stream=stream, kind=kind, parameters=parameters)
        if waiting is not None:
            if origin in ("person", "command"):
                _bring_forward(c, run_id=waiting, priority=urgency, who=who, subject=stream.id, now=now)
            return waiting
        run_id = c.execute(
            insert(Run)
            .values(
                subject=stream.id,
                source=stream.source,
                kind=kind.value,
                state=RunState.QUEUED.value,
                origin=origin,
                requested_by=who,
                requested_at=now,
                priority=urgency,
                attempt=1,
                parameters=parameters,
                idempotency_key=idempotency_key,
            )
            .returning(Run.id)
        ).scalar_one()
        _audit(c, who=who, action="run.asked", subject=stream.id, now=now, run=run_id, kind=kind.value, **parameters)
        return int(run_id)


def ask_to_cancel(ledger: Ledger, *, run_id: int, who: str, now: datetime) -> RunState:
    """End a queued run at once, or ask a running one to end; the state that it then has.

    Raises ConfigurationError for a run that has ended already or does not exist.
    """
    with ledger.write() as c:
        row = c.execute(select(Run.state, Run.subject).where(Run.id == run_id).with_for_update()).one_or_none()
        if row is None:
            raise ConfigurationError(f"There is no run {run_id}.", hint="Look for it on Runs.")
        state = RunState(row.state)
        if state in ENDED:
            raise ConfigurationError(
                f"Run {run_id} has ended already ({state.value}).", hint="Nothing is left to cancel."
            )
        if state is RunState.CANCELLING:
            return state
        values: dict[str, Any] = {"cancel_requested_at": now, "cancel_requested_by": who}
        if state is RunState.QUEUED:
            after = RunState.CANCELLED
            values |= {"ended_at": now, "headline": f"Cancelled by {who} before it started."}
        else:
            after = RunState.CANCELLING
        c.execute(update(Run).where(Run.id == run_id).values(state=after.value, **values))
        _audit(c, who=who, action="run.cancel_asked", subject=row.subject, now=now, run=run_id, was=state.value)
        return after


def _parameters(*, kind: RunKind, since: datetime | None, until: datetime | None, now: datetime) -> dict[str, str]:
    """The window as the run stores it, checked."""
    if kind is not RunKind.BACKFILL:
        if since is not None or until is not None:
            raise BadWindow(
                f"A window goes with a backfill, not with {kind.value}.",
                hint="Leave the window out, or ask for a backfill.",
            )
        return {}
    if since is None:
        raise BadWindow("A backfill needs the start of its window.")
    until = until if until is not None else now.replace(microsecond=0)
    for name, instant in (("start", since), ("end", until)):
        if instant.tzinfo is None:
            raise BadWindow(f"The {name} of the window, {instant.isoformat()}, has no time zone.")
        if instant > now:
            raise BadWindow(
                f"The {name} of the window, {_iso(instant)}, lies in the future.", hint="Choose a window of the past."
            )
    if until <= since:
        raise BadWindow(f"The window ends at {_iso(until)}, not after its start at {_iso(since)}.")
    return {"since": _iso(since), "until": _iso(until)}


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _waiting(c: Connection, *, stream: Stream, kind: RunKind, parameters: dict[str, str]) -> int | None:
    """A queued run that would do exactly this."""
    rows = c.execute(
        select(Run.id, Run.parameters)
        .where(Run.state == RunState.QUEUED.value, Run.subject == stream.id, Run.kind == kind.value)
        .order_by(Run.id)
    )
    return next((int(row.id) for row in rows if (row.parameters or {}) == parameters), None)


def _bring_forward(c: Connection, *, run_id: int, priority: int, who: str, subject: str, now: datetime) -> None:
    changed = c.execute(
        update(Run)
        .where(Run.id == run_id, (Run.priority > priority) | Run.not_before.is_not(None))
        .values(
            priority=func.min(Run.priority, priority)
            if c.dialect.name == "sqlite"
            else func.least(Run.priority, priority),
            not_before=None,
        )
    )
    if changed.rowcount:
        _audit(c, who=who, action="run.brought_forward", subject=subject, now=now, run=run_id)


def _audit(c: Connection, *, who: str, action: str, subject: str, now: datetime, **details: Any) -> None:
    c.execute(insert(Audit).values(at=now, who=who, action=action, subject=subject, details=details))
