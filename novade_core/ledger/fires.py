"""Booking promised instants: each becomes one row of ``fires``, and its runs, in one transaction.

Whatever happened meanwhile (an outage, another leader, a woken old one), the rule is the same: derive every instant
since the last booked one, book each exactly once. The schedule's row is held while this happens, the unique index on
schedule and instant would refuse a second booking, and so would the runs' idempotency keys.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from novade_core.errors import ConfigurationError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Fire, Run, RunState, ScheduleRow, StreamStatus
from novade_core.schedules import FireState, Outage, ScheduleSpec
from novade_core.streams import RunKind, Stream

_log = logging.getLogger(__name__)

#: The lease of whoever schedules. Streams have a dot in their names, so this is none.
SCHEDULER = "novade:scheduler"
#: Instants of one schedule that are booked at once; after a long outage the next ticks go on.
AT_ONCE = 1_000
#: Scheduled runs come after people's and before backfills.
PRIORITY = 50

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What booking needs to know beside the schedules themselves."""

    streams: tuple[Stream, ...]  #: that are configured
    on_time_seconds: float  #: a fire booked later than this after it was due is late
    booked_by: str


@dataclass(frozen=True, kw_only=True)
class Booked:
    """What one booking did, and when the next instant is due (None: nothing is scheduled)."""

    fires: int
    runs: int
    next_due: datetime | None


def spec_of(row: Row[Any]) -> ScheduleSpec:
    """The schedule that a row describes. Raises ConfigurationError for one that makes no sense."""
    return ScheduleSpec.from_json(row.name, dict(row._mapping))


def book(ledger: Ledger, *, fence: int | None, clock: Clock, rules: Rules) -> Booked:
    """Book all that is due, as the leader under ``fence``. Raises LeaseLost where another one leads.

    The clock is read inside the transaction: waiting for a busy ledger is lateness too.
    """
    with ledger.read() as connection:
        known = _rows(connection)
    due = [first for row in known if (first := _next_due(row)) is not None]
    if not due or min(due) > clock():
        return Booked(fires=0, runs=0, next_due=min(due, default=None))
    fires = runs = 0
    with ledger.write() as connection:
        if fence is not None:
            leases.require(connection, stream=SCHEDULER, fence=fence)
        now = clock()
        for row in _rows(connection, lock=not ledger.is_sqlite):
            more = settle(connection, row, now=now, rules=rules)
            fires, runs = fires + more[0], runs + more[1]
        due = [first for row in _rows(connection) if (first := _next_due(row)) is not None]
    return Booked(fires=fires, runs=runs, next_due=min(due, default=None))


def _rows(connection: Connection, *, lock: bool = False) -> Sequence[Row[Any]]:
    query = select(ScheduleRow.__table__).where(ScheduleRow.removed_at.is_(None)).order_by(ScheduleRow.id)
    return connection.execute(query.with_for_update() if lock else query).all()


def _next_due(row: Row[Any]) -> datetime | None:
    try:
        spec = spec_of(row)
    except ConfigurationError as error:
        _log.error("schedule %s cannot be read: %s", row.name, error.message)
        return None
    promised = next(spec.timing.instants(row.booked_to or row.since), None)
    return None if promised is None else spec.timing.due(spec.name, promised)


def settle(
    connection: Connection,
    row: Row[Any],
    *,
    now: datetime,
    rules: Rules,
    early: bool = False,
    ended: str | None = None,
) -> tuple[int, int]:
    """Book what one schedule owes up to now; answers fires and runs. The row is held by the caller's transaction.

    Whoever changes a schedule settles it first, so that each instant is judged by the rule that promised it;
    ``early`` books what was promised and waits for its jitter, too. ``ended`` says who ends the schedule or pauses
    it: what was not asked for by then is not asked for any more.
    """
    try:
        spec = spec_of(row)
    except ConfigurationError:
        return 0, 0
    owed: list[tuple[datetime, datetime]] = []
    # One more than is booked at once tells whether the last one is the newest.
    for promised in islice(spec.timing.instants(row.booked_to or row.since), AT_ONCE + 1):
        due = spec.timing.due(spec.name, promised)
        if (promised if early else due) > now:
            break
        owed.append((promised, due))
    if not owed:
        return 0, 0
    whole = len(owed) <= AT_ONCE
    owed = owed[:AT_ONCE]
    connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(booked_to=owed[-1][0]))
    asked = 0
    silent: list[dict[str, Any]] = []
    for number, (promised, due) in enumerate(owed):
        newest = whole and number == len(owed) - 1
        state, reason = _judge(spec, row, due, now, rules.on_time_seconds, newest=newest, ended=ended)
        values = {
            "schedule_id": row.id,
            "promised": promised,
            "due_at": due,
            "booked_at": now,
            "state": state.value,
            "reason": reason,
            "runs": 0,
            "booked_by": rules.booked_by,
        }
        if state not in (FireState.ON_TIME, FireState.LATE) or not spec.streams:
            silent.append(values)
            continue
        fire_id = connection.execute(insert(Fire).values(values).returning(Fire.id)).scalar_one()
        # "All" means all: what catches up waits behind what catches up before it, instead of giving way to it.
        catching_up = state is FireState.LATE and spec.outage is Outage.ALL
        asked += _ask(connection, spec, row.id, fire_id, promised, now, rules, said=reason, catching_up=catching_up)
    if silent:
        connection.execute(insert(Fire), silent)
    return len(owed), asked


def _judge(
    spec: ScheduleSpec,
    row: Row[Any],
    due: datetime,
    now: datetime,
    on_time: float,
    *,
    newest: bool,
    ended: str | None,
) -> tuple[FireState, str | None]:
    if row.paused_at is not None:
        # Whoever pauses or resumes settles first, so all that is owed was promised in the pause.
        return FireState.SKIPPED, f"Paused by {row.paused_by}."
    if ended is not None and due > now:
        return FireState.SKIPPED, f"{ended} before it was due."
    late = (now - due).total_seconds()
    if late <= on_time:
        return FireState.ON_TIME, None
    said = f"Nobody scheduled when it was due; booked {late:,.0f} s later."
    if ended is not None:
        return FireState.MISSED, f"{said} {ended} before that."
    if spec.outage is Outage.SKIP:
        return FireState.MISSED, f"{said} The schedule's rule is to skip."
    if spec.outage is Outage.ONCE and not newest:
        return FireState.MISSED, f"{said} The newest fire that was owed makes up for it."
    return FireState.LATE, said


def chosen(spec: ScheduleSpec, streams: Sequence[Stream]) -> tuple[list[Stream], list[str]]:
    """The configured streams that a schedule means, and the names that mean none any more."""
    found = [s for s in streams if {s.id, s.source, "*"} & set(spec.streams)]
    known = {s.id for s in streams} | {s.source for s in streams} | {"*"}
    return found, [name for name in spec.streams if name not in known]


def _ask(
    connection: Connection,
    spec: ScheduleSpec,
    schedule_id: int,
    fire_id: int,
    promised: datetime,
    now: datetime,
    rules: Rules,
    *,
    said: str | None,
    catching_up: bool,
) -> int:
    """Queue the fire's runs; a stream that is still being worked on is left out, with the reason in the fire."""
    streams, gone = chosen(spec, rules.streams)
    reasons = [f"{name} is not configured any more." for name in gone]
    if said is not None:
        reasons.insert(0, said)
    under_way: dict[str, Any] = {}
    if not catching_up:
        under_way = {
            row.subject: row
            for row in connection.execute(
                select(Run.id, Run.subject, Run.state).where(
                    Run.state.in_([RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING]),
                    Run.kind != RunKind.BACKFILL.value,
                    Run.subject.in_([s.id for s in streams]),
                )
            )
        }
    paused = set(connection.execute(select(StreamStatus.stream).where(StreamStatus.paused.is_(True))).scalars())
    asked = 0
    for stream in streams:
        if stream.id in paused:
            reasons.append(f"{stream.label} is paused.")
            continue
        if (other := under_way.get(stream.id)) is not None:
            still = "still waits" if other.state == RunState.QUEUED else "is still under way"
            reasons.append(f"{stream.label}: run {other.id} {still}.")
            continue
        connection.execute(
            insert(Run).values(
                subject=stream.id,
                source=stream.source,
                kind=spec.kind.value,
                state=RunState.QUEUED.value,
                origin="schedule",
                requested_by=f"schedule {spec.name}",
                requested_at=now,
                priority=PRIORITY,
                attempt=1,
                parameters={},
                idempotency_key=f"fire:{schedule_id}:{promised.isoformat()}:{stream.id}",
                fire_id=fire_id,
            )
        )
        asked += 1
    values: dict[str, Any] = {"runs": asked}
    if reasons:
        values["reason"] = " ".join(reasons)
    if not asked:
        values["state"] = FireState.SKIPPED.value
    connection.execute(update(Fire).where(Fire.id == fire_id).values(**values))
    return asked


def forget_fires(ledger: Ledger, *, before: datetime, at_most: int = 5_000) -> int:
    """Remove the oldest fires that asked for no run (the canary's, say); answers how many. Runs keep theirs."""
    with ledger.write() as connection:
        old = select(Fire.id).where(Fire.due_at < before, Fire.runs == 0).limit(at_most)
        return connection.execute(delete(Fire).where(Fire.id.in_(old.scalar_subquery()))).rowcount
