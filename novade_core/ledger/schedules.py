"""Schedules as people see and change them. Each change settles what was promised before and leaves a line in ``audit``.

They are seeded from the configuration once; afterwards the ledger wins, and the difference is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from novade_core.errors import ConfigurationError
from novade_core.ledger.database import Ledger
from novade_core.ledger.fires import AT_ONCE, Rules, settle, spec_of
from novade_core.ledger.models import Audit, Fire, ScheduleRow
from novade_core.schedules import CANARY, FireState, ScheduleSpec


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
    def differs(self) -> bool:
        """Whether the configuration says something else."""
        return self.seed is not None and self.seed != self.spec

    def next_fires(self, now: datetime, count: int = 5) -> tuple[datetime, ...]:
        """The next due instants; none while it is paused."""
        if self.paused_at is not None:
            return ()
        timing = self.spec.timing
        after = max(now, self.booked_to or self.since)
        return tuple(timing.due(self.spec.name, promised) for promised in islice(timing.instants(after), count))


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


def fires(
    ledger: Ledger,
    *,
    since: datetime,
    until: datetime,
    schedule_id: int | None = None,
    states: Sequence[FireState] = (),
    limit: int = 500,
) -> tuple[FireFacts, ...]:
    """Fires that were due in a window, the latest first."""
    query = (
        select(Fire.__table__, ScheduleRow.name)
        .join(ScheduleRow, ScheduleRow.id == Fire.schedule_id)
        .where(Fire.due_at >= since, Fire.due_at < until)
        .order_by(Fire.due_at.desc(), Fire.id.desc())
        .limit(limit)
    )
    if schedule_id is not None:
        query = query.where(Fire.schedule_id == schedule_id)
    if states:
        query = query.where(Fire.state.in_([s.value for s in states]))
    with ledger.read() as connection:
        return tuple(
            FireFacts(
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
            for row in connection.execute(query)
        )


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How well the scheduler kept time: seconds from due to booked. None where nothing was booked."""

    fires: int
    p50: float | None
    p99: float | None
    worst: float | None


def lateness(ledger: Ledger, *, since: datetime, until: datetime, limit: int = 5_000) -> Lateness:
    """Over the newest fires of a window that asked for runs or were the canary's; missed ones are no measure."""
    query = (
        select(Fire.due_at, Fire.booked_at)
        .where(
            Fire.due_at >= since, Fire.due_at < until, Fire.state.in_([FireState.ON_TIME.value, FireState.LATE.value])
        )
        .order_by(Fire.due_at.desc())
        .limit(limit)
    )
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
            row.name: row for row in connection.execute(select(ScheduleRow.name, ScheduleRow.seed, ScheduleRow.id))
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
            if row.name == CANARY.name:
                values["removed_at"] = None if row.name in said else now
            connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))


def _lock(connection: Connection) -> None:
    """Several consoles that start at once seed one by one; SQLite's writers queue anyway."""
    if connection.dialect.name != "sqlite":
        from sqlalchemy import text

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


def _held(connection: Connection, name: str) -> Row[Any]:
    """The row of a schedule, held until the transaction ends. Raises ConfigurationError for an unknown name."""
    query = select(ScheduleRow.__table__).where(ScheduleRow.name == name, ScheduleRow.removed_at.is_(None))
    row = connection.execute(query.with_for_update()).first()
    if row is None:
        raise ConfigurationError(
            f"There is no schedule {name!r}.", hint="List them with `python -m jobs schedule list`."
        )
    return row


def _settled(connection: Connection, name: str, now: datetime, rules: Rules) -> Row[Any]:
    """The same, with everything booked that it promised so far."""
    row = _held(connection, name)
    while settle(connection, row, now=now, rules=rules, early=True)[0] == AT_ONCE:
        row = _held(connection, name)
    return _held(connection, name)


def _audit(connection: Connection, now: datetime, who: str, action: str, name: str, **details: Any) -> None:
    connection.execute(
        insert(Audit).values(at=now, who=who, action=action, subject=f"schedule {name}", details=details)
    )


def add(ledger: Ledger, spec: ScheduleSpec, *, now: datetime, who: str) -> None:
    """A new schedule, from now on. Raises ConfigurationError where the name is taken."""
    if not spec.name.strip() or len(spec.name) > 100:
        raise ConfigurationError("A schedule needs a name of at most 100 characters.")
    if not spec.streams:
        raise ConfigurationError("A schedule needs a stream.", hint='Name streams, a source, or "*" for all.')
    with ledger.write() as connection:
        _lock(connection)
        row = connection.execute(
            select(ScheduleRow.id, ScheduleRow.removed_at, ScheduleRow.booked_to).where(ScheduleRow.name == spec.name)
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
                    since=max(now, row.booked_to or now),
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
    if not spec.streams and spec.name != CANARY.name:
        raise ConfigurationError("A schedule needs a stream.", hint='Name streams, a source, or "*" for all.')
    with ledger.write() as connection:
        row = _settled(connection, spec.name, now, rules)
        before = spec_of(row).to_json()
        after = spec.to_json()
        if before == after:
            return
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == row.id)
            .values(**after, since=max(now, row.booked_to or now), booked_to=None, changed_at=now, changed_by=who)
        )
        changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
        _audit(connection, now, who, "schedule.edited", spec.name, **changed)


def pause(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """From now on its instants are booked as skipped. Nothing happens to one that is paused."""
    with ledger.write() as connection:
        row = _held(connection, name)
        if row.paused_at is not None:
            return
        row = _settled(connection, name, now, rules)
        values = {"paused_at": now, "paused_by": who, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.paused", name)


def resume(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """From now on it fires again; what passed meanwhile stays skipped."""
    with ledger.write() as connection:
        row = _held(connection, name)
        if row.paused_at is None:
            return
        row = _settled(connection, name, now, rules)
        values = {"paused_at": None, "paused_by": None, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.resumed", name)


def remove(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """It promises nothing any more; its fires stay. Restarting does not bring it back."""
    with ledger.write() as connection:
        row = _held(connection, name)
        if name == CANARY.name:
            raise ConfigurationError("The canary cannot be removed here.", hint="Set canary = false in novade.toml.")
        row = _settled(connection, name, now, rules)
        values = {"removed_at": now, "changed_at": now, "changed_by": who}
        connection.execute(update(ScheduleRow).where(ScheduleRow.id == row.id).values(**values))
        _audit(connection, now, who, "schedule.removed", name)


def reset(ledger: Ledger, name: str, *, now: datetime, who: str, rules: Rules) -> None:
    """Take over what the configuration says. Raises ConfigurationError where it says nothing."""
    found = next((s for s in schedules(ledger) if s.spec.name == name), None)
    if found is None or found.seed is None:
        raise ConfigurationError(f"The configuration has no schedule {name!r}.", hint="Edit it instead.")
    edit(ledger, replace(found.seed, name=name), now=now, who=who, rules=rules)
