"""What pages read about comparisons of streams: the latest of each, months, history, what waits in the landing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Comparison, ComparisonState, LandedFileRow, SyncPlan
from novade_core.ledger.plans import SET_ASIDE

#: What the whole of a stream is called among windows.
ALL = "all"
#: Comparisons of one stream that are looked at.
_LOOK = 600


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two counts of one window of a stream, when, and by which run."""

    id: int
    stream: str
    run_id: int | None
    at: datetime
    window: str  #: "all" or a month such as "2025-03"
    source_count: int | None
    warehouse_count: int | None
    state: ComparisonState
    sentence: str

    @property
    def difference(self) -> int | None:
        """Records that the warehouse has more than the source; None where either was not counted."""
        if self.source_count is None or self.warehouse_count is None:
            return None
        return self.warehouse_count - self.source_count


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What has landed and is not loaded."""

    files: int
    rows: int


_COLUMNS = tuple(getattr(Comparison, f.name) for f in fields(Compared))


def _compared(row: Row[Any]) -> Compared:
    return Compared(**(dict(row._mapping) | {"state": ComparisonState(row.state)}))


def latest(ledger: Ledger, streams: Sequence[str]) -> dict[str, Compared]:
    """The latest comparison of each stream as a whole; streams that were never compared are left out."""
    found = {}
    with ledger.read() as connection:
        for stream in streams:
            row = connection.execute(
                select(*_COLUMNS)
                .where(Comparison.stream == stream, Comparison.window == ALL)
                .order_by(Comparison.id.desc())
                .limit(1)
            ).first()
            if row is not None:
                found[stream] = _compared(row)
    return found


def history(ledger: Ledger, stream: str, *, limit: int = 30) -> tuple[Compared, ...]:
    """The last comparisons of a stream as a whole, the latest first."""
    query = (
        select(*_COLUMNS)
        .where(Comparison.stream == stream, Comparison.window == ALL)
        .order_by(Comparison.id.desc())
        .limit(limit)
    )
    with ledger.read() as connection:
        return tuple(_compared(row) for row in connection.execute(query))


def by_month(ledger: Ledger, stream: str) -> tuple[Compared, ...]:
    """The latest comparison of each month among the stream's last 600, the newest month first."""
    query = select(*_COLUMNS).where(Comparison.stream == stream).order_by(Comparison.id.desc()).limit(_LOOK)
    newest: dict[str, Compared] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            if row.window != ALL and row.window not in newest:
                newest[row.window] = _compared(row)
    return tuple(newest[window] for window in sorted(newest, reverse=True))


def waiting(ledger: Ledger, streams: Sequence[str]) -> dict[str, Waiting]:
    """Landed rows that are not in the warehouse yet, by stream; plans that are set aside are not meant for it."""
    query = (
        select(LandedFileRow.stream, func.count(), func.sum(LandedFileRow.rows))
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(
            LandedFileRow.stream.in_(list(streams)),
            LandedFileRow.loaded_at.is_(None),
            SyncPlan.state.not_in(SET_ASIDE),
        )
        .group_by(LandedFileRow.stream)
    )
    with ledger.read() as connection:
        return {stream: Waiting(files=files, rows=int(rows)) for stream, files, rows in connection.execute(query)}
