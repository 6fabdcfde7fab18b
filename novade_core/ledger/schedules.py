"""Schedules as people see and change them. Each change settles what was promised before and leaves a line in ``audit``.

They are seeded from the configuration once; afterwards the ledger wins, and the difference is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, text, update

from novade_core.errors import ConfigurationError
from novade_core.ledger.database import Ledger
from novade_core.ledger.fires import AT_ONCE, SCHEDULER, Rules, chosen, settle, spec_of
from novade_core.ledger.models import Audit, Fire, Lease, Run, RunState, ScheduleRow
from novade_core.schedules import CANARY, FireState, ScheduleSpec
from novade_core.streams import RunKind


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as it stands."""

    id: int
    spec: ScheduleSpec
    since: datetime
    booked_to: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    seed: ScheduleSpec | None  #: what the configuration says; None: it does not know this schedule
    changed_at: datetime
    changed_by: str

    @property
    def is_canary(self) -> bool:
        """Whether it only measures the scheduler."""
        return self.spec.name == CANARY.name

    @property
    def differs(self) -> bool:
        """Whether the configuration says something else."""
        return self.seed is not None and self.seed != self.spec

    def next_fires(self, now: datetime, count: int = 5) -> tuple[datetime, ...]:
        """The next due instants; none while it is paused."""
        return () if self.paused_at is not None else next_due(self.spec, self._from(now), now, count)

    def fires_until(self, now: datetime, until: datetime) -> tuple[datetime, ...]:
        """What it promises after now and up to ``until``; nothing while it is paused."""
        return () if self.paused_at is not None else self.spec.timing.between(max(now, self._owes_from()), until)

    def count_until(self, now: datetime, until: datetime) -> int:
        """How many instants ``fires_until`` would give."""
        return 0 if self.paused_at is not None else self.spec.timing.count(max(now, self._owes_from()), until)

    def _owes_from(self) -> datetime:
        return self.booked_to or self.since

    def _from(self, now: datetime) -> datetime:
        # What was promised a moment ago may still wait for its jitter.
        return max(now - timedelta(seconds=self.spec.timing.jitter_seconds), self._owes_from())


def next_due(spec: ScheduleSpec, after: datetime, now: datetime, count: int = 5) -> tuple[datetime, ...]:
    """When the next instants promised after ``after`` are due, from ``now`` on."""
    due = (spec.timing.due(spec.name, promised) for promised in spec.timing.instants(after))
    return tuple(islice((instant for instant in due if instant > now), count))


def upcoming(found: Sequence[Schedule], now: datetime, count: int = 5) -> list[tuple[datetime, Schedule]]:
    """The next due fires of several schedules that ask for runs, in order."""
    due = [(at, s) for s in found if not s.is_canary for at in s.next_fires(now, count)]
    return sorted(due, key=lambda pair: pair[0])[:count]


@dataclass(frozen=True, kw_only=True)
class FireFacts:
    """A booked fire."""

    id: int
    schedule_id: int
    schedule: str
    promised: datetime
    due_at: datetime
    booked_at: datetime
    state: FireState
    reason: str | None
    runs: int
    booked_by: str

    @property
    def late_seconds(self) -> float:
        """How long after it was due it was booked."""
        return max(0.0, (self.booked_at - self.due_at).total_seconds())


def _schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        id=row.id,
        spec=spec_of(row),
        since=row.since,
        booked_to=row.booked_to,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        seed=ScheduleSpec.from_json(row.name, row.seed) if row.seed is not None else None,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
    )


def schedules(ledger: Ledger) -> tuple[Schedule, ...]:
    """All schedules, in the order in which they were made."""
    query = select(ScheduleRow.__table__).where(ScheduleRow.removed_at.is_(None)).order_by(ScheduleRow.id)
    with ledger.read() as connection:
        return tuple(_schedule(row) for row in connection.execute(query))


def schedule(ledger: Ledger, name: str) -> Schedule:
    """The schedule of this name. Raises ConfigurationError where there is none."""
    with ledger.read() as connection:
        return _schedule(_row(connection, name))


def fires(
    ledger: Ledger,
    *,
    since: datetime,
    until: datetime,
    schedule_id: int | None = None,
    without: int | None = None,
    states: Sequence[FireState] = (),
    before: int | None = None,
    limit: int = 500,
) -> tuple[FireFacts, ...]:
    """Fires that were due in a window, the latest first; ``before`` goes on behind the fire of this id.

    ``schedule_id`` asks for one schedule alone, ``without`` for all but one.
    """
    query = (
        select(Fire.__table__, ScheduleRow.name)
        .join(ScheduleRow, ScheduleRow.id == Fire.schedule_id)
        .where(Fire.due_at >= since, Fire.due_at < until)
        .order_by(Fire.due_at.desc(), Fire.id.desc())
        .limit(limit)
    )
    if schedule_id is not None:
        query = query.where(Fire.schedule_id == schedule_id)
    if without is not None:
        query = query.where(Fire.schedule_id != without)
    if states:
        query = query.where(Fire.state.in_([s.value for s in states]))
    with ledger.read() as connection:
        if before is not None:
            at = connection.execute(select(Fire.due_at).where(Fire.id == before)).scalar()
            if at is not None:
                query = query.where(or_(Fire.due_at < at, and_(Fire.due_at == at, Fire.id < before)))
        return tuple(_fire(row) for row in connection.execute(query))


def _fire(row: Row[Any]) -> FireFacts:
    return FireFacts(
        id=row.id,
        schedule_id=row.schedule_id,
        schedule=row.name,
        promised=row.promised,
        due_at=row.due_at,
        booked_at=row.booked_at,
        state=FireState(row.state),
        reason=row.reason,
        runs=row.runs,
        booked_by=row.booked_by,
    )


def last_fires(ledger: Ledger) -> dict[int, FireFacts]:
    """The last fire of each schedule, by the schedule's id."""
    newest = (
        select(Fire.id)
        .where(Fire.schedule_id == ScheduleRow.id)
        .order_by(Fire.promised.desc())
        .limit(1)
        .correlate(ScheduleRow)
        .scalar_subquery()
    )
    query = select(Fire.__table__, ScheduleRow.name).join(ScheduleRow, Fire.id == newest)
    with ledger.read() as connection:
        return {row.schedule_id: _fire(row) for row in connection.execute(query)}


def fire_counts(ledger: Ledger, *, since: datetime, until: datetime) -> dict[int, dict[FireState, int]]:
    """How many fires were due in a window, by schedule and state."""
    query = (
        select(Fire.schedule_id, Fire.state, func.count().label("fires"))
        .where(Fire.due_at >= since, Fire.due_at < until)
        .group_by(Fire.schedule_id, Fire.state)
    )
    counts: dict[int, dict[FireState, int]] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            counts.setdefault(row.schedule_id, {})[FireState(row.state)] = row.fires
    return counts


@dataclass(frozen=True, kw_only=True)
class FireRun:
    """A run that a fire asked for."""

    id: int
    fire_id: int
    subject: str
    state: RunState


def runs_of_fires(ledger: Ledger, fire_ids: Sequence[int]) -> tuple[FireRun, ...]:
    """The runs that these fires asked for, in the order in which they were asked for."""
    query = select(Run.id, Run.fire_id, Run.subject, Run.state).where(Run.fire_id.in_(fire_ids)).order_by(Run.id)
    with ledger.read() as connection:
        return tuple(
            FireRun(id=row.id, fire_id=row.fire_id, subject=row.subject, state=RunState(row.state))
            for row in connection.execute(query)
        )


@dataclass(frozen=True, kw_only=True)
class Leader:
    """Who schedules. ``beat`` says that it lives by moving between two looks."""

    holder: str | None
    beat: int
    taken_at: datetime | None


def leader(ledger: Ledger) -> Leader:
    """The process that books fires; without a holder where nobody does."""
    with ledger.read() as connection:
        row = connection.execute(
            select(Lease.holder, Lease.beat, Lease.taken_at).where(Lease.stream == SCHEDULER)
        ).first()
    return Leader(
        holder=row.holder if row else None, beat=row.beat if row else 0, taken_at=row.taken_at if row else None
    )


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How well the scheduler kept time: seconds from due to booked. None where nothing was booked."""

    fires: int
    p50: float | None
    p99: float | None
    worst: float | None


def lateness(
    ledger: Ledger, *, since: datetime, until: datetime, schedule_id: int | None = None, limit: int = 5_000
) -> Lateness:
    """Over the newest fires of a window that asked for runs or were the canary's; missed ones are no measure."""
    query = (
        select(Fire.due_at, Fire.booked_at)
        .where(
            Fire.due_at >= since, Fire.due_at < until, Fire.state.in_([FireState.ON_TIME.value, FireState.LATE.value])
        )
        .order_by(Fire.due_at.desc())
        .limit(limit)
    )
    if schedule_id is not None:
        query = query.where(Fire.schedule_id == schedule_id)
    with ledger.read() as connection:
        seconds: list[float] = sorted(
            max(0.0, (row.booked_at - row.due_at).total_seconds()) for row in connection.execute(query)
        )
    if not seconds:
        return Lateness(fires=0, p50=None, p99=None, worst=None)

    def share(part: float) -> float:
        return seconds[min(len(seconds) - 1, int(part * len(seconds)))]

    return Lateness(fires=len(seconds), p50=share(0.5), p99=share(0.99), worst=seconds[-1])


# What the start of a process and people change


def seed(ledger: Ledger, specs: Sequence[ScheduleSpec], *, now: datetime) -> None:
    """Make the schedules that the ledger does not know yet, and note what the configuration says of the others.

    A schedule that somebody removed stays removed; removing the canary is done in the configuration.
    """
    said = {spec.name: spec.to_json() for spec in specs}
    with ledger.read() as connection:
        known = {
            row.name: row
            for row in connection.execute(
                select(
                    ScheduleRow.name,
                    ScheduleRow.seed,
                    ScheduleRow.id,
                    ScheduleRow.removed_at,
                    ScheduleRow.booked_to,
                    ScheduleRow.since,
                )
            )
        }
    new = [spec for spec in specs if spec.name not in known]
    other = [row for row in known.values() if row.seed != said.get(row.name)]
    if not new and not other:
        return
    with ledger.write() as connection:
        _lock(connection)
        there = set(connection.execute(select(ScheduleRow.name)).scalars())
        for spec in new:
            if spec.name not in there:
                _insert(connection, spec, now=now, who="novade.toml", seeded=said[spec.name])
        for row in other:
            values: dict[str, Any] = {"seed": said.get(row.name)}
            if row.name == CANARY.name and row.name not in said:
                values["removed_at"] = now
            elif row.name == CANARY.name and row.removed_at is not None:
                # What passed while it was left out was not promised.
                values |= {"removed_at": None, "since": max(now, row.booked_to or row.since), "booked_to": None}
            connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))


def _lock(connection: Connection) -> None:
    """Several consoles that start at once seed one by one; SQLite's writers queue anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(7262334)"))


def _insert(
    connection: Connection, spec: ScheduleSpec, *, now: datetime, who: str, seeded: dict[str, Any] | None
) -> int:
    return int(
        connection.execute(
            insert(ScheduleRow)
            .values(name=spec.name, **spec.to_json(), since=now, seed=seeded, changed_at=now, changed_by=who)
            .returning(ScheduleRow.id)
        ).scalar_one()
    )


def _row(connection: Connection, name: str, *, hold: bool = False) -> Row[Any]:
    """The row of a schedule, held until the transaction ends. Raises ConfigurationError for an unknown name."""
    query = select(ScheduleRow.__table__).where(ScheduleRow.name == name, ScheduleRow.removed_at.is_(None))
    row = connection.execute(query.with_for_update() if hold else query).first()
    if row is None:
        raise ConfigurationError(
            f"There is no schedule {name!r}.", hint="List them with `python -m jobs schedule list`."
        )
    return row


def _settled(connection: Connection, name: str, now: datetime, rules: Rules, *, ended: str | None = None) -> Row[Any]:
    """The same, with everything booked that it promised so far."""
    row = _row(connection, name, hold=True)
    while settle(connection, row, now=now, rules=rules, early=True, ended=ended)[0] == AT_ONCE:
        row = _row(connection, name, hold=True)
    return _row(connection, name, hold=True)


def _audit(connection: Connection, now: datetime, who: str, action: str, name: str, **details: Any) -> None:
    connection.execute(
        insert(Audit).values(at=now, who=who, action=action, subject=f"schedule {name}", details=details)
    )


def _check(spec: ScheduleSpec, rules: Rules) -> None:
    if gone := chosen(spec, rules.streams)[1]:
        raise ConfigurationError(
            f"{', '.join(map(repr, gone))} is neither a stream nor a source.",
            hint='Name configured streams, a source for all of its streams, or "*" for all.',
        )
    if spec.name == CANARY.name and spec.streams:
        raise ConfigurationError("The canary asks for nothing.", hint="Add a schedule of another name for streams.")
    if not spec.streams and spec.name != CANARY.name:
        raise ConfigurationError("A schedule needs a stream.", hint='Name streams, a source, or "*" for all.')
    if spec.kind is RunKind.BACKFILL:
        raise ConfigurationError(
            "A schedule asks for incremental runs or full reloads.", hint="Ask for a window of the past on Sync."
        )


def add(ledger: Ledger, spec: ScheduleSpec, *, now: datetime, who: str, rules: Rules) -> None:
    """A new schedule, from now on. Raises ConfigurationError where the name is taken or a stream unknown."""
    if not spec.name.strip() or spec.name != spec.name.strip() or not spec.name.isprintable() or len(spec.name) > 100:
        raise ConfigurationError(
            "A schedule needs a name of at most 100 characters, without blanks around it.",
            hint='Name it as people say it: "every quarter".',
        )
    _check(spec, rules)
    with ledger.write() as connection:
        _lock(connection)
        row = connection.execute(
            select(ScheduleRow.id, ScheduleRow.removed_at, ScheduleRow.booked_to, ScheduleRow.since).where(
                ScheduleRow.name == spec.name
            )
        ).first()
        if row is not None and row.removed_at is None:
            raise ConfigurationError(f"There is a schedule {spec.name!r} already.", hint="Choose another name.")
        if row is None:
            _insert(connection, spec, now=now, who=who, seeded=None)
        else:
            connection.execute(
                update(ScheduleRow)
                .where(ScheduleRow.id == row.id)
                .values(
                    **spec.to_json(),
                    since=max(now, row.booked_to or row.since),
                    booked_to=None,
                    paused_at=None,
                    paused_by=None,
                    removed_at=None,
                    changed_at=now,
                    changed_by=who,
                )
            )
        _audit(connection, now, who, "schedule.added", spec.name, **spec.to_json())


def edit(ledger: Ledger, spec: ScheduleSpec, *, now: datetime, who: str, rules: Rules) -> None:
    """Change when, what and the rule of the schedule of this name; it promises its new instants from now on."""
    _check(spec, rules)
    with ledger.write() as connection:
        row = _settled(connection, spec.name, now, rules)
        after = spec.to_json()
        before = {key: row._mapping[key] for key in after}
        if before == after:
            return
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == row.id)
            .values(**after, since=max(now, row.booked_to or row.since), booked_to=None, changed_at=now, changed_by=who)
        )
        changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
        _audit(connection, now, who, "schedule.edited", spec.name, **changed)


def pause(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """From now on its instants are booked as skipped. Nothing happens to one that is paused."""
    with ledger.write() as connection:
        row = _row(connection, name, hold=True)
        if row.paused_at is not None:
            return
        row = _settled(connection, name, now, rules, ended=f"Paused by {who}")
        values = {"paused_at": now, "paused_by": who, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.paused", name)


def resume(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """From now on it fires again; what passed meanwhile stays skipped."""
    with ledger.write() as connection:
        row = _row(connection, name, hold=True)
        if row.paused_at is None:
            return
        row = _settled(connection, name, now, rules)
        values = {"paused_at": None, "paused_by": None, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.resumed", name)


def remove(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """It promises nothing any more; its fires stay. Restarting does not bring it back."""
    with ledger.write() as connection:
        row = _row(connection, name, hold=True)
        if name == CANARY.name:
            raise ConfigurationError("The canary cannot be removed here.", hint="Set canary = false in novade.toml.")
        row = _settled(connection, name, now, rules, ended=f"Removed by {who}")
        values = {"removed_at": now, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.removed", name)


def reset(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """Take over what the configuration says. Raises ConfigurationError where it says nothing."""
    found = schedule(ledger, name)
    if found.seed is None:
        raise ConfigurationError(f"The configuration has no schedule {name!r}.", hint="Edit it instead.")
    edit(ledger, replace(found.seed, name=name), now=now, who=who, rules=rules)
