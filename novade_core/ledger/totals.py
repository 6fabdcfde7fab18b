"""Ready-made rows that pages show instead of aggregating runs: a stream's latest facts, totals per day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, update

from novade_core.ledger.models import Daily, RunState, StreamStatus


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
