"""All that people may write: asking for a run, asking for its end. Each request leaves a line in ``audit``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text, update

from novade_core.errors import BadWindow, ConfigurationError, KeyReused
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import ENDED, Audit, RequestKey, Run, RunState, SyncPlan
from novade_core.ledger.plans import UNFINISHED
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
    asks while it waits. An idempotency key gives the run that it gave first, for ever, whether that was made
    for it or waited already. Raises BadWindow for a window that is reversed, without a time zone, in the
    future, missing (backfill) or out of place (any other kind); KeyReused for a key that came with another
    stream, kind or window before.
    """
    parameters = _parameters(kind=kind, since=since, until=until, now=now)
    urgency = PRIORITIES.get(origin, 50) if priority is None else priority
    # Not the parameters: where the end of a window is left out, they hold the instant of asking.
    asked = {
        "stream": stream.id,
        "kind": kind.value,
        "since": since and _iso(since),
        "until": until and _iso(until),
    }
    with ledger.write() as c:
        if idempotency_key is not None:
            known = _known(c, idempotency_key)
            if known is not None:
                if known.asked != asked:
                    raise KeyReused(
                        f"The idempotency key was used before, for another request, which run {known.run_id} answers."
                    )
                return int(known.run_id)
        run_id, _ = _ask(
            c,
            subject=stream.id,
            source=stream.source,
            kind=kind.value,
            parameters=parameters,
            origin=origin,
            who=who,
            now=now,
            priority=urgency,
        )
        if idempotency_key is not None:
            c.execute(insert(RequestKey).values(key=idempotency_key, run_id=run_id, asked=asked, at=now))
        return run_id


@dataclass(frozen=True, kw_only=True)
class Again:
    """What asking for a run once more came to."""

    run_id: int  #: the run that does it
    waiting: bool  #: it waited already, and was brought forward
    goes_on: bool  #: it begins behind what an unfinished run has landed


def ask_to_retry(ledger: Ledger, *, run_id: int, who: str, origin: str, now: datetime) -> Again:
    """Ask for the same stream, kind and window as a run that has ended, however it ended.

    Raises ConfigurationError for a run that is still open or does not exist. Whether the stream is still
    configured is the caller's to check.
    """
    with ledger.write() as c:
        run = c.execute(select(Run.__table__).where(Run.id == run_id)).one_or_none()
        if run is None:
            raise ConfigurationError(f"There is no run {run_id}.", hint="Look for it on Runs.")
        if run.state not in ENDED:
            raise ConfigurationError(
                f"Run {run_id} has not ended: it is {run.state}.", hint="Wait for its end, or cancel it first."
            )
        parameters = run.parameters or {}
        new_id, waiting = _ask(
            c,
            subject=run.subject,
            source=run.source,
            kind=run.kind,
            parameters=parameters,
            origin=origin,
            who=who,
            now=now,
            priority=PRIORITIES.get(origin, 50),
            retry_of=run_id,
            backfill_id=run.backfill_id,
        )
        plan = c.execute(
            select(SyncPlan.kind, SyncPlan.details)
            .where(SyncPlan.stream == run.subject, SyncPlan.state.in_(UNFINISHED))
            .order_by(SyncPlan.id.desc())
            .limit(1)
        ).first()
        fits = plan is not None and plan.kind == run.kind and plan.details.get("parameters", {}) == parameters
        return Again(run_id=new_id, waiting=waiting, goes_on=fits)


def _known(c: Connection, key: str) -> Row[Any] | None:
    if c.dialect.name != "sqlite":
        # SQLite's writers already queue at BEGIN IMMEDIATE; elsewhere two could both find the key unused.
        c.execute(text("SELECT pg_advisory_xact_lock(7262333, hashtext(:key))"), {"key": key})
    return c.execute(select(RequestKey.run_id, RequestKey.asked).where(RequestKey.key == key)).one_or_none()


def _ask(
    c: Connection,
    *,
    subject: str,
    source: str,
    kind: str,
    parameters: dict[str, str],
    origin: str,
    who: str,
    now: datetime,
    priority: int,
    retry_of: int | None = None,
    backfill_id: int | None = None,
) -> tuple[int, bool]:
    """The run that does this, and whether it waited already."""
    if c.dialect.name != "sqlite":
        c.execute(text("SELECT pg_advisory_xact_lock(7262332, hashtext(:stream))"), {"stream": subject})
    waiting = _waiting(c, subject=subject, kind=kind, parameters=parameters)
    if waiting is not None:
        if origin in ("person", "command"):
            _bring_forward(c, run_id=waiting, priority=priority, who=who, subject=subject, now=now)
        return waiting, True
    run_id = c.execute(
        insert(Run)
        .values(
            subject=subject,
            source=source,
            kind=kind,
            state=RunState.QUEUED.value,
            origin=origin,
            requested_by=who,
            requested_at=now,
            priority=priority,
            attempt=1,
            parameters=parameters,
            retry_of=retry_of,
            backfill_id=backfill_id,
        )
        .returning(Run.id)
    ).scalar_one()
    again = {} if retry_of is None else {"retry_of": retry_of}
    _audit(c, who=who, action="run.asked", subject=subject, now=now, run=run_id, kind=kind, **parameters, **again)
    return int(run_id), False


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
    try:
        return instant.astimezone(UTC).isoformat()
    except OverflowError as error:
        raise BadWindow(f"{instant.isoformat()} is not within the years 1 to 9999 in UTC.") from error


def _waiting(c: Connection, *, subject: str, kind: str, parameters: dict[str, str]) -> int | None:
    """A queued run that would do exactly this."""
    rows = c.execute(
        select(Run.id, Run.parameters)
        .where(Run.state == RunState.QUEUED.value, Run.subject == subject, Run.kind == kind)
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
