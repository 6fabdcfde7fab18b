"""What pages read beside single runs: totals, latest facts of streams, findings, history for previews, workers.

Bounded like ``queries``: windows are given, lists are limited, counts stop at a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, literal_column, select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Daily, FindingRow, Run, RunState, StreamStatus, WorkerRow
from novade_core.ledger.queries import WORKED
from novade_core.streams import RunKind, Stream

#: Earlier runs of a stream that a preview looks at.
_HISTORY = 200


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Runs of one state that were asked for in one hour (or day)."""

    start: str  #: "2024-11-18T14" or "2024-11-18", UTC
    state: RunState
    runs: int


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """A configured stream and its latest facts; all None where nothing has run yet."""

    stream: str
    source: str
    label: str
    fresh_within_minutes: int
    first_loaded_at: datetime | None = None
    last_run_id: int | None = None
    last_run_state: RunState | None = None
    last_run_notice: str | None = None  #: what is odd about it though it worked
    last_success_id: int | None = None
    last_load_at: datetime | None = None
    data_to: datetime | None = None
    source_count: int | None = None
    warehouse_count: int | None = None
    comparison_state: str | None = None
    comparison_sentence: str | None = None
    paused: bool = False


@dataclass(frozen=True, kw_only=True)
class DayTotal:
    """One stream's totals of one UTC day."""

    day: date
    stream: str
    runs: int
    failed: int
    read: int
    loaded: int
    rejected: int
    bytes_in: int
    api_calls: int
    busy_ms: int


@dataclass(frozen=True, kw_only=True)
class OpenFinding:
    """Something that needs somebody."""

    id: int
    subject: str
    kind: str
    severity: str
    summary: str
    next_step: str
    run_id: int | None
    opened_at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StreamHistory:
    """Facts about a stream's earlier runs of one kind: what a preview stands on. None = not known."""

    stream: str
    kind: RunKind
    runs: int = 0  #: that the means below stand on
    mean_seconds: float | None = None
    mean_rows: float | None = None  #: read
    mean_calls: float | None = None
    source_count: int | None = None  #: all records at the source when last counted
    loaded_before: bool = False  #: a first incremental sync reads everything
    run_ids: tuple[int, ...] = ()  #: the runs that the means stand on


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """A process that takes runs. ``beat`` only says that it lives by moving between two looks."""

    id: str
    kind: str
    started_at: datetime
    beat: int


def histogram(
    ledger: Ledger,
    *,
    since: datetime,
    until: datetime,
    by_day: bool = False,
    source: str | None = None,
    subject: str | None = None,
) -> tuple[Bucket, ...]:
    """Runs by hour (or day) and state within a window; served by one index alone."""
    with ledger.read() as c:
        start = _bucket(ledger, by_day)
        wanted = (
            select(start.label("start"), Run.state, func.count().label("runs"))
            .where(Run.requested_at >= since, Run.requested_at < until)
            .group_by(start, Run.state)
        )
        if subject:
            wanted = wanted.where(Run.subject == subject)
        elif source:
            wanted = wanted.where(Run.source == source)
        rows = c.execute(wanted).all()
    found = [Bucket(start=str(r.start).replace(" ", "T"), state=RunState(r.state), runs=int(r.runs)) for r in rows]
    return tuple(sorted(found, key=lambda b: (b.start, b.state)))


def _bucket(ledger: Ledger, by_day: bool) -> ColumnElement[Any]:
    if ledger.is_sqlite:
        return func.substr(cast(Run.requested_at, String), 1, 10 if by_day else 13)
    shape = "YYYY-MM-DD" if by_day else "YYYY-MM-DD HH24"
    return func.to_char(func.timezone("UTC", Run.requested_at), literal_column(f"'{shape}'"))


def count_by_state(ledger: Ledger, *, since: datetime, until: datetime) -> dict[RunState, int]:
    """Runs by state that were asked for within a window."""
    counts: dict[RunState, int] = {}
    for bucket in histogram(ledger, since=since, until=until, by_day=True):
        counts[bucket.state] = counts.get(bucket.state, 0) + bucket.runs
    return counts


def queue_length(ledger: Ledger, *, at_most: int = 10_000) -> int:
    """Queued runs, counted up to a bound."""
    with ledger.read() as c:
        some = select(Run.id).where(Run.state == RunState.QUEUED.value).limit(at_most).subquery()
        return int(c.execute(select(func.count()).select_from(some)).scalar_one())


def stream_facts(ledger: Ledger, streams: Sequence[Stream]) -> tuple[StreamFacts, ...]:
    """The configured streams in their order, with their latest facts; never-loaded ones are there too."""
    columns = [getattr(StreamStatus, f.name) for f in fields(StreamFacts) if hasattr(StreamStatus, f.name)]
    notice = Run.notice.label("last_run_notice")
    with ledger.read() as c:
        found = c.execute(select(*columns, notice).outerjoin(Run, Run.id == StreamStatus.last_run_id))
        rows = {row.stream: dict(row._mapping) for row in found}
    facts = []
    for stream in streams:
        known = rows.get(stream.id, {})
        state = known.get("last_run_state")
        facts.append(
            StreamFacts(
                **(
                    known
                    | {
                        "stream": stream.id,
                        "source": stream.source,
                        "label": stream.label,
                        "fresh_within_minutes": stream.fresh_within_minutes,
                        "last_run_state": None if state is None else RunState(state),
                        "paused": bool(known.get("paused")),
                    }
                )
            )
        )
    return tuple(facts)


def daily_totals(ledger: Ledger, *, since: date, until: date) -> tuple[DayTotal, ...]:
    """Totals per UTC day and stream, ``since`` and ``until`` included."""
    columns = [getattr(Daily, f.name) for f in fields(DayTotal)]
    with ledger.read() as c:
        rows = c.execute(
            select(*columns).where(Daily.day >= since, Daily.day <= until).order_by(Daily.day, Daily.stream)
        ).all()
    return tuple(DayTotal(**row._mapping) for row in rows)


def open_findings(ledger: Ledger, *, limit: int = 50) -> tuple[OpenFinding, ...]:
    """What is open, the worst first."""
    columns = [getattr(FindingRow, f.name) for f in fields(OpenFinding)]
    with ledger.read() as c:
        rows = c.execute(
            select(*columns).where(FindingRow.closed_at.is_(None)).order_by(FindingRow.subject).limit(limit)
        ).all()
    rank = {"fail": 0, "warn": 1, "info": 2}
    found = [OpenFinding(**row._mapping) for row in rows]
    return tuple(sorted(found, key=lambda f: (rank.get(f.severity, 3), f.opened_at)))


def stream_history(ledger: Ledger, streams: Sequence[Stream], kind: RunKind) -> tuple[StreamHistory, ...]:
    """What earlier runs of this kind took: the mean of the last ten that worked, by stream."""
    wanted = [Run.kind, Run.state, Run.started_at, Run.ended_at, Run.read, Run.api_calls]
    found = []
    with ledger.read() as c:
        counts = {
            row.stream: row
            for row in c.execute(
                select(StreamStatus.stream, StreamStatus.source_count, StreamStatus.first_loaded_at).where(
                    StreamStatus.stream.in_([s.id for s in streams])
                )
            )
        }
        for stream in streams:
            looked = (
                select(*wanted, Run.id)
                .where(Run.subject == stream.id)
                .order_by(Run.id.desc())
                .limit(_HISTORY)
                .subquery()
            )
            rows = c.execute(
                select(looked)
                .where(looked.c.kind == kind.value, looked.c.state.in_([s.value for s in WORKED]))
                .limit(10)
            ).all()
            seconds = [(r.ended_at - r.started_at).total_seconds() for r in rows if r.started_at and r.ended_at]
            known = counts.get(stream.id)
            found.append(
                StreamHistory(
                    stream=stream.id,
                    kind=kind,
                    runs=len(rows),
                    mean_seconds=_mean(seconds),
                    mean_rows=_mean([r.read for r in rows if r.read is not None]),
                    mean_calls=_mean([r.api_calls for r in rows if r.api_calls is not None]),
                    source_count=None if known is None else known.source_count,
                    loaded_before=known is not None and known.first_loaded_at is not None,
                    run_ids=tuple(r.id for r in rows),
                )
            )
    return tuple(found)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def workers(ledger: Ledger, *, limit: int = 20) -> tuple[WorkerFacts, ...]:
    """Processes that have not said that they stopped, the latest first. Some may have vanished: compare beats."""
    columns = [getattr(WorkerRow, f.name) for f in fields(WorkerFacts)]
    with ledger.read() as c:
        rows = c.execute(
            select(*columns).where(WorkerRow.stopped_at.is_(None)).order_by(WorkerRow.started_at.desc()).limit(limit)
        ).all()
    return tuple(WorkerFacts(**row._mapping) for row in rows)
