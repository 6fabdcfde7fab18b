"""Ready-made rows that pages show instead of aggregating runs: a stream's latest facts, totals per day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, case, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from novade_core.ledger.models import Daily, DailyAge, DailyUsage, Run, RunState, StreamStatus, Usage

#: Meters that are a size and no amount: their sum means nothing.
GAUGES = frozenset({"process.peak_memory_bytes"})
#: What stands in place of a stream where a pool was used for none of them.
POOL = "warehouse pool"
#: Days of a gap in a stream's loads that are written at its end.
_GAP_DAYS = 400


def set_stream_status(
    connection: Connection,
    stream: str,
    source: str,
    run_id: int,
    state: RunState,
    now: datetime,
    status: Mapping[str, Any],
) -> None:
    """Note a run that has ended as its stream's latest; ``status`` are columns that became true."""
    if "last_load_at" in status:
        before = connection.execute(select(StreamStatus.last_load_at).where(StreamStatus.stream == stream)).scalar()
        _add_ages(connection, stream, before, status["last_load_at"])
    values = {**status, "last_run_id": run_id, "last_run_state": state.value}
    hit = connection.execute(update(StreamStatus).where(StreamStatus.stream == stream).values(**values))
    if hit.rowcount == 0:
        first = {"first_loaded_at": now} if "last_load_at" in status else {}
        connection.execute(insert(StreamStatus).values(stream=stream, source=source, paused=False, **first, **values))
    elif "last_load_at" in status:
        connection.execute(
            update(StreamStatus)
            .where(StreamStatus.stream == stream, StreamStatus.first_loaded_at.is_(None))
            .values(first_loaded_at=now)
        )


def add_daily(
    connection: Connection,
    stream: str,
    started_at: datetime | None,
    state: RunState,
    now: datetime,
    values: Mapping[str, Any],
) -> None:
    """Count a run that has ended into its day (UTC); ``values`` are columns of the run."""
    add = {name: values.get(name) or 0 for name in ("read", "loaded", "rejected", "bytes_in", "api_calls")}
    add["runs"] = 1
    add["failed"] = int(state in (RunState.FAILED, RunState.ABANDONED))
    add["busy_ms"] = round((now - started_at).total_seconds() * 1000) if started_at else 0
    day = now.date()
    changes = {name: getattr(Daily, name) + amount for name, amount in add.items()}
    hit = connection.execute(update(Daily).where(Daily.day == day, Daily.stream == stream).values(**changes))
    if hit.rowcount == 0:
        connection.execute(insert(Daily).values(day=day, stream=stream, **add))


def add_daily_usage(connection: Connection, run_id: int, *, meters: Mapping[str, int] | None = None) -> None:
    """Count what a run used into the day (UTC) on which it ended; nothing happens to one that has not ended.

    ``meters`` is what it says after its end; without it, all that it said before is counted.
    """
    run = connection.execute(select(Run.subject, Run.state, Run.attempt, Run.ended_at).where(Run.id == run_id)).one()
    if run.ended_at is None:
        return
    if meters is None:
        said = select(Usage.meter, func.sum(Usage.quantity)).where(Usage.run_id == run_id).group_by(Usage.meter)
        meters = {meter: int(quantity) for meter, quantity in connection.execute(said)}
    worked = run.state in (RunState.SUCCEEDED, RunState.PARTIAL, RunState.LANDED)
    rows = [
        {
            "day": run.ended_at.date(),
            "stream": run.subject,
            "meter": meter,
            "quantity": quantity,
            "failed": 0 if worked else quantity,
            "repeated": quantity if worked and run.attempt > 1 else 0,
        }
        for meter, quantity in meters.items()
        if quantity and meter not in GAUGES
    ]
    _add_usage(connection, rows)


def add_pool_usage(connection: Connection, day: date, *, idle_seconds: int) -> None:
    """Count the time in which a pool was online and worked for no run; runs count what it did for them themselves."""
    meters = {"meter": "warehouse.idle_pool_seconds", "quantity": idle_seconds}
    _add_usage(connection, [{"day": day, "stream": POOL, **meters, "failed": 0, "repeated": 0}] if idle_seconds else [])


def _add_usage(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    statement = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(DailyUsage)
    new = statement.excluded
    sums = {name: getattr(DailyUsage, name) + new[name] for name in ("quantity", "failed", "repeated")}
    connection.execute(
        statement.values(list(rows)).on_conflict_do_update(index_elements=["day", "stream", "meter"], set_=sums)
    )


def ages_between(before: datetime | None, now: datetime) -> dict[date, int]:
    """How old a stream became, in seconds by UTC day, from one load to the next; the last day is that of the load."""
    if before is None or before > now:
        return {now.date(): 0}
    first = max(before.date(), now.date() - timedelta(days=_GAP_DAYS))
    ends = {now.date(): now}
    for number in range((now.date() - first).days):
        day = first + timedelta(days=number)
        ends[day] = datetime.combine(day + timedelta(days=1), time(), UTC)
    return {day: int((end - before).total_seconds()) for day, end in ends.items()}


def _add_ages(connection: Connection, stream: str, before: datetime | None, now: datetime) -> None:
    rows = [
        {"day": day, "stream": stream, "loads": int(day == now.date()), "oldest_seconds": seconds}
        for day, seconds in ages_between(before, now).items()
    ]
    statement = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(DailyAge)
    new = statement.excluded
    oldest = case((new.oldest_seconds > DailyAge.oldest_seconds, new.oldest_seconds), else_=DailyAge.oldest_seconds)
    connection.execute(
        statement.values(rows).on_conflict_do_update(
            index_elements=["day", "stream"], set_={"loads": DailyAge.loads + new.loads, "oldest_seconds": oldest}
        )
    )
