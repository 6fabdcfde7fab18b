"""The ledger's tables. Alembic migrations in ``migrations/`` create them; a test holds the two together.

All instants are aware UTC. Counts that are not known are NULL, never zero.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Date, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.models_money import DailyAge as DailyAge
from novade_core.ledger.models_money import DailyUsage as DailyUsage
from novade_core.ledger.models_money import PriceRow as PriceRow
from novade_core.ledger.models_planned import Backfill as Backfill
from novade_core.ledger.models_planned import BackfillChunk as BackfillChunk
from novade_core.ledger.models_planned import BackfillState as BackfillState
from novade_core.ledger.models_planned import Fire as Fire
from novade_core.ledger.models_planned import ScheduleRow as ScheduleRow
from novade_core.ledger.models_plans import PlanVersionRow as PlanVersionRow
from novade_core.ledger.models_views import PublishedView as PublishedView
from novade_core.ledger.models_windows import LoadWindow as LoadWindow
from novade_core.ledger.models_windows import WindowState as WindowState
from novade_core.ledger.tables import Base as Base
from novade_core.ledger.tables import BigId
from novade_core.ledger.tables import UtcDateTime as UtcDateTime


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  #: waits for a worker (or, with not_before, for a retry)
    RUNNING = "running"  #: a worker holds the stream's lease
    CANCELLING = "cancelling"  #: somebody asked for its end, the worker has not acknowledged yet
    SUCCEEDED = "succeeded"  #: loaded and verified; the checkpoint moved
    PARTIAL = "partial"  #: as succeeded, but some records were rejected
    LANDED = "landed"  #: read and landed; its rows wait for the pool's next load window
    FAILED = "failed"  #: stopped; the checkpoint did not move
    CANCELLED = "cancelled"  #: ended because somebody asked
    ABANDONED = "abandoned"  #: its worker vanished and its lease ran out


#: States after which nothing more happens to a run.
ENDED = (
    RunState.SUCCEEDED,
    RunState.PARTIAL,
    RunState.LANDED,
    RunState.FAILED,
    RunState.CANCELLED,
    RunState.ABANDONED,
)


class PlanState(StrEnum):
    """Where a sync plan stands."""

    OPEN = "open"  #: some run reads it, or died reading it; the next run goes on with it
    LANDED = "landed"  #: read; its rows wait for a load window, and the next run adds what changed meanwhile
    DONE = "done"  #: read, loaded, verified; of a backfill that waits for a load window, read
    VOID = "void"  #: no longer fits (other schema, other request); what landed is loaded all the same
    HELD = "held"  #: the schema changed and policy keeps it out; the windows are read again once it is accepted
    REJECTED = "rejected"  #: too many records could not be typed; what landed is never loaded


class ComparisonState(StrEnum):
    """What comparing two counts said."""

    EQUAL = "equal"
    IN_FLIGHT = "in flight"  #: the difference is no larger than what changed during the run
    DIFFERS = "differs"
    UNKNOWN = "unknown"  #: one side could not be counted


class Run(Base):
    """One execution for one subject."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    subject: Mapped[str] = mapped_column(String(200))  #: stream id
    source: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(20))  #: streams.RunKind
    state: Mapped[str] = mapped_column(String(20))  #: RunState
    origin: Mapped[str] = mapped_column(String(20))  #: person, command, schedule, webhook, start, retry
    requested_by: Mapped[str] = mapped_column(String(200))
    requested_at: Mapped[datetime]
    not_before: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(Integer, default=50)  #: lower goes first
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)  #: {"since": iso, "until": iso}
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    plan_id: Mapped[int | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    fence: Mapped[int | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    cancel_requested_by: Mapped[str | None] = mapped_column(String(200))
    read: Mapped[int | None]
    landed: Mapped[int | None]
    loaded: Mapped[int | None]
    deleted: Mapped[int | None]
    unchanged: Mapped[int | None]
    superseded: Mapped[int | None]
    duplicates: Mapped[int | None]
    rejected: Mapped[int | None]
    bytes_in: Mapped[int | None]
    api_calls: Mapped[int | None]
    cpu_ms: Mapped[int | None]
    source_count: Mapped[int | None]
    warehouse_count: Mapped[int | None]
    data_to: Mapped[datetime | None]  #: newest record's instant at the source
    headline: Mapped[str | None] = mapped_column(Text)  #: one sentence, made when the run ends
    error_kind: Mapped[str | None] = mapped_column(String(100))
    error_origin: Mapped[str | None] = mapped_column(String(20))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_hint: Mapped[str | None] = mapped_column(Text)
    #: {"step", "rows", "total", "bytes", "rows_per_second", "message", "at"} while it runs
    progress: Mapped[dict[str, Any] | None]
    code_version: Mapped[str | None] = mapped_column(String(50))
    fire_id: Mapped[int | None]  #: the fire that asked for it
    backfill_id: Mapped[int | None]  #: the backfill that it is a chunk of
    retry_of: Mapped[int | None]  #: the run that it tries again
    notice: Mapped[str | None] = mapped_column(Text)  #: what is odd about a success: it read nothing, say
    stillest_ms: Mapped[int | None]  #: the longest time without progress
    #: What it ran with: {"configuration": {…}, "credentials": fingerprint, "source": {…}}
    context: Mapped[dict[str, Any] | None]

    __table_args__ = (
        Index("ix_runs_fire_id", "fire_id"),
        Index("ix_runs_backfill_id", "backfill_id", "id"),
        Index("ix_runs_subject_id", "subject", "id"),
        Index("ix_runs_state_id", "state", "id"),
        Index("ix_runs_source_id", "source", "id"),
        Index("ix_runs_requested_at", "requested_at", "state", "source", "subject"),
    )


class Step(Base):
    """One stage of a run: plan, extract, land, load, verify."""

    __tablename__ = "steps"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    name: Mapped[str] = mapped_column(String(30))
    state: Mapped[str] = mapped_column(String(20))  #: running, succeeded, failed
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    busy_ms: Mapped[int] = mapped_column(default=0)  #: extract and land alternate; this is each one's own time
    rows: Mapped[int | None]
    bytes: Mapped[int | None]
    message: Mapped[str | None] = mapped_column(Text)


class LogEntry(Base):
    """One line of a run's log."""

    __tablename__ = "run_log"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    at: Mapped[datetime]
    level: Mapped[str] = mapped_column(String(10))  #: info, warning, error
    message: Mapped[str] = mapped_column(Text)  #: one constant sentence
    fields: Mapped[dict[str, Any]] = mapped_column(default=dict)

    __table_args__ = (Index("ix_run_log_run_id_id", "run_id", "id"),)


class Checkpoint(Base):
    """The highest cursor read of a stream, under the fence of the run that moved it."""

    __tablename__ = "checkpoints"

    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    cursor: Mapped[datetime | None]
    seam: Mapped[datetime | None]  #: T0: where history ended and live began
    run_id: Mapped[int]
    fence: Mapped[int]
    moved_at: Mapped[datetime]


class Lease(Base):
    """Who works on a stream. ``fence`` only rises.

    Beside streams, ``stream`` names what else one process holds at a time: ``novade:scheduler`` and slots such as
    ``slot:salesforce:0``.
    """

    __tablename__ = "leases"

    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    holder: Mapped[str | None] = mapped_column(String(200))  #: host:pid:start-ticks; NULL = free
    fence: Mapped[int] = mapped_column(default=0)
    beat: Mapped[int] = mapped_column(default=0)  #: moved by the holder; watchers compare it with itself
    run_id: Mapped[int | None]
    taken_at: Mapped[datetime | None]


class SyncPlan(Base):
    """What one or more runs read: windows, schema, seam. A run that died leaves it open; the next adopts it."""

    __tablename__ = "sync_plans"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    stream: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(10))  #: PlanState
    run_id: Mapped[int]  #: that made it
    created_at: Mapped[datetime]
    seam: Mapped[datetime | None]  #: T0 by the source's own clock
    windows: Mapped[list[Any]]  #: streams.Window as JSON
    columns: Mapped[list[Any]]  #: streams.Column as JSON
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)  #: transport, counts

    __table_args__ = (Index("ix_sync_plans_stream_state", "stream", "state"),)


class LandedFileRow(Base):
    """A registered manifest. What is not here is nobody's data."""

    __tablename__ = "landed_files"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)  #: landing order, which decides between equal versions
    stream: Mapped[str] = mapped_column(String(200))
    run_id: Mapped[int]
    plan_id: Mapped[int]
    window: Mapped[int] = mapped_column(Integer)
    chunk: Mapped[int] = mapped_column(Integer)
    manifest_path: Mapped[str] = mapped_column(String(500), unique=True)
    load_id: Mapped[str] = mapped_column(String(64), unique=True)
    files: Mapped[list[Any]]
    rows: Mapped[int]
    rejected: Mapped[int]
    bytes: Mapped[int]
    max_cursor: Mapped[datetime | None]
    resume: Mapped[dict[str, Any] | None]  #: the source's position after this chunk
    window_done: Mapped[bool]
    fence: Mapped[int]
    registered_at: Mapped[datetime]
    loaded_at: Mapped[datetime | None]
    loaded_by: Mapped[int | None]

    __table_args__ = (
        Index("ix_landed_files_stream_loaded", "stream", "loaded_at"),
        Index("ix_landed_files_plan", "plan_id", "window", "id"),
    )


class Usage(Base):
    """What a step used: the raw material of costs."""

    __tablename__ = "usage"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    step: Mapped[str] = mapped_column(String(30))
    meter: Mapped[str] = mapped_column(String(60))  #: salesforce.api_calls, landing.bytes_written, process.cpu_ms …
    quantity: Mapped[int]


class Comparison(Base):
    """Two counts of one window of one stream, and what they say."""

    __tablename__ = "comparisons"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[int | None]
    stream: Mapped[str] = mapped_column(String(200))
    at: Mapped[datetime]
    window: Mapped[str] = mapped_column(String(40))  #: "all" or a month such as "2025-03"
    source_count: Mapped[int | None]
    warehouse_count: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(20))  #: ComparisonState
    sentence: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        Index("ix_comparisons_stream_id", "stream", "id"),
        Index("ix_comparisons_run_id", "run_id"),
    )


class FindingRow(Base):
    """Something that needs somebody, open until closed_at."""

    __tablename__ = "findings"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    subject: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))  #: count_difference, field_vanished, field_added …
    severity: Mapped[str] = mapped_column(String(10))  #: info, warn, fail
    summary: Mapped[str] = mapped_column(Text)
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    next_step: Mapped[str] = mapped_column(Text)
    run_id: Mapped[int | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_findings_closed_subject", "closed_at", "subject"),)


class Artifact(Base):
    """Bounded rows that pages show: keys that differ, samples of rejects."""

    __tablename__ = "artifacts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[int] = mapped_column(index=True)
    stream: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(40))  #: missing_keys, extra_keys, rejects
    at: Mapped[datetime]
    content: Mapped[list[Any]]


class StreamStatus(Base):
    """Latest facts of a stream; words such as fresh or stale are made from ``now`` at reading."""

    __tablename__ = "stream_status"

    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(50))
    first_loaded_at: Mapped[datetime | None]
    last_run_id: Mapped[int | None]
    last_run_state: Mapped[str | None] = mapped_column(String(20))
    last_success_id: Mapped[int | None]
    last_load_at: Mapped[datetime | None]  #: when a run last proved the stream up to date
    data_to: Mapped[datetime | None]  #: newest record's instant at the source
    source_count: Mapped[int | None]
    warehouse_count: Mapped[int | None]
    comparison_state: Mapped[str | None] = mapped_column(String(20))
    comparison_sentence: Mapped[str | None] = mapped_column(Text)
    paused: Mapped[bool] = mapped_column(default=False)


class Daily(Base):
    """Totals per UTC day and stream, so that no page aggregates runs."""

    __tablename__ = "daily"

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    stream: Mapped[str] = mapped_column(String(200), primary_key=True)
    runs: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    read: Mapped[int] = mapped_column(default=0)
    loaded: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    bytes_in: Mapped[int] = mapped_column(default=0)
    api_calls: Mapped[int] = mapped_column(default=0)
    busy_ms: Mapped[int] = mapped_column(default=0)


class WorkerRow(Base):
    """A process that takes runs from the queue."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)  #: host:pid:start-ticks
    kind: Mapped[str] = mapped_column(String(20))  #: console, worker
    started_at: Mapped[datetime]
    beat: Mapped[int] = mapped_column(default=0)
    stopped_at: Mapped[datetime | None]


class SourceStatus(Base):
    """The latest that runs learnt about a source."""

    __tablename__ = "source_status"

    source: Mapped[str] = mapped_column(String(50), primary_key=True)
    at: Mapped[datetime]
    calls_used: Mapped[int | None]  #: of the rolling 24 hours
    calls_allowed: Mapped[int | None]
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Audit(Base):
    """Who asked for what."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(200))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


class RequestKey(Base):
    """An idempotency key, what was asked for with it, and the run that answers it, whoever asked for that first."""

    __tablename__ = "request_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    asked: Mapped[dict[str, Any]]  #: {"stream", "kind", "since", "until"} as they were given
    at: Mapped[datetime]
