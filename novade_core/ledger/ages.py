"""How old streams were: from the totals per day, and for one stream from its runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import DailyAge, Run, RunState
from novade_core.ledger.queries import WORKED
from novade_core.streams import RunKind

#: Runs of one stream that are looked at.
_LOOK = 4_000


@dataclass(frozen=True, slots=True)
class DayAge:
    """How old a stream became on a UTC day."""

    day: date
    stream: str
    loads: int  #: times that it was proven up to date
    oldest_seconds: int


@dataclass(frozen=True, kw_only=True)
class Loads:
    """When a stream was proven up to date, oldest first. One before ``since`` is there, too, where it is known."""

    at: tuple[datetime, ...]
    whole: bool  #: whether all of the time was looked at


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """A run that ended badly while a stream grew old."""

    run_id: int
    state: RunState
    ended_at: datetime | None
    message: str | None


def daily_ages(ledger: Ledger, *, since: date, until: date) -> tuple[DayAge, ...]:
    """By day and stream, ``since`` and ``until`` included."""
    query = (
        select(DailyAge.day, DailyAge.stream, DailyAge.loads, DailyAge.oldest_seconds)
        .where(DailyAge.day >= since, DailyAge.day <= until)
        .order_by(DailyAge.day, DailyAge.stream)
    )
    with ledger.read() as connection:
        return tuple(DayAge(*row) for row in connection.execute(query))


def loads(ledger: Ledger, *, stream: str, since: datetime) -> Loads:
    """When the stream's runs proved it up to date, from its newest runs."""
    looked = (
        select(Run.id, Run.ended_at, Run.state, Run.kind)
        .where(Run.subject == stream)
        .order_by(Run.id.desc())
        .limit(_LOOK)
    )
    at: list[datetime] = []
    seen = 0
    with ledger.read() as connection:
        for run in connection.execute(looked):
            seen += 1
            if run.ended_at is None or run.state not in WORKED or run.kind == RunKind.BACKFILL.value:
                continue
            at.append(run.ended_at)
            if run.ended_at < since:
                return Loads(at=tuple(sorted(at)), whole=True)
    return Loads(at=tuple(sorted(at)), whole=seen < _LOOK)


def culprits(ledger: Ledger, *, stream: str, since: datetime, until: datetime, limit: int = 3) -> tuple[Culprit, ...]:
    """Runs of a stream that were asked for in a time and ended badly, the last first."""
    bad = [RunState.FAILED.value, RunState.ABANDONED.value, RunState.CANCELLED.value]
    query = (
        select(Run.id, Run.state, Run.ended_at, Run.error_message, Run.headline)
        .where(Run.requested_at >= since, Run.requested_at < until, Run.subject == stream, Run.state.in_(bad))
        .order_by(Run.requested_at.desc())
        .limit(limit)
    )
    with ledger.read() as connection:
        return tuple(
            Culprit(run_id=r.id, state=RunState(r.state), ended_at=r.ended_at, message=r.error_message or r.headline)
            for r in connection.execute(query)
        )
