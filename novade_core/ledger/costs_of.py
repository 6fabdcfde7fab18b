"""What was used, as costs need it: from the totals per day, never from ``usage`` but for single runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from sqlalchemy import ColumnElement, func, select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Daily, DailyUsage, Usage

#: Runs whose usage is read together.
_RUNS = 2_000


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a meter was used on a day, or on days that have the same prices."""

    day: date  #: the first of them
    stream: str  #: empty: all of them together
    meter: str
    quantity: int
    failed: int = 0  #: of it, by runs that failed, were cancelled or abandoned
    repeated: int = 0  #: of it, by further attempts that worked


def used_by_stream(ledger: Ledger, *, since: date, until: date, cuts: Sequence[date] = ()) -> tuple[Used, ...]:
    """By stream and meter, ``since`` and ``until`` included; a day of ``cuts`` begins a part of its own."""
    edges = [since, *sorted(day for day in set(cuts) if since < day <= until), until + timedelta(days=1)]
    found: list[Used] = []
    with ledger.read() as connection:
        for low, high in pairwise(edges):
            query = (
                select(DailyUsage.stream, DailyUsage.meter, *_sums())
                .where(DailyUsage.day >= low, DailyUsage.day < high)
                .group_by(DailyUsage.stream, DailyUsage.meter)
                .order_by(DailyUsage.stream, DailyUsage.meter)
            )
            found += [Used(low, r[0], r[1], int(r[2]), int(r[3]), int(r[4])) for r in connection.execute(query)]
    return tuple(found)


def used_by_day(ledger: Ledger, *, since: date, until: date, stream: str | None = None) -> tuple[Used, ...]:
    """By day and meter, ``since`` and ``until`` included."""
    query = (
        select(DailyUsage.day, DailyUsage.meter, *_sums())
        .where(DailyUsage.day >= since, DailyUsage.day <= until)
        .group_by(DailyUsage.day, DailyUsage.meter)
        .order_by(DailyUsage.day, DailyUsage.meter)
    )
    if stream is not None:
        query = query.where(DailyUsage.stream == stream)
    with ledger.read() as connection:
        return tuple(Used(r[0], stream or "", r[1], int(r[2]), int(r[3]), int(r[4])) for r in connection.execute(query))


def _sums() -> list[ColumnElement[int]]:
    return [func.sum(column) for column in (DailyUsage.quantity, DailyUsage.failed, DailyUsage.repeated)]


def used_by_run(ledger: Ledger, run_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """What these runs used, by run and meter; at most 2,000 runs."""
    query = (
        select(Usage.run_id, Usage.meter, func.sum(Usage.quantity))
        .where(Usage.run_id.in_(list(run_ids)[:_RUNS]))
        .group_by(Usage.run_id, Usage.meter)
    )
    found: dict[int, dict[str, int]] = {}
    with ledger.read() as connection:
        for run_id, meter, quantity in connection.execute(query):
            found.setdefault(run_id, {})[meter] = int(quantity)
    return found


def rows_by_stream(ledger: Ledger, *, since: date, until: date) -> dict[str, int]:
    """Rows loaded, ``since`` and ``until`` included."""
    query = (
        select(Daily.stream, func.sum(Daily.loaded))
        .where(Daily.day >= since, Daily.day <= until)
        .group_by(Daily.stream)
    )
    with ledger.read() as connection:
        return {stream: int(rows) for stream, rows in connection.execute(query)}


def first_day(ledger: Ledger) -> date | None:
    """The first day of which usage is known."""
    with ledger.read() as connection:
        return connection.execute(select(func.min(DailyUsage.day))).scalar()
