"""The ledger's tables of what is planned: schedules with their fires, backfills with their chunks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.tables import Base, BigId


class ScheduleRow(Base):
    """When to ask for which runs. Seeded from the configuration once; afterwards this row wins."""

    __tablename__ = "schedules"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    streams: Mapped[list[Any]]  #: stream ids, sources, or "*"; empty: the fire alone is booked (the canary)
    kind: Mapped[str] = mapped_column(String(20))  #: streams.RunKind
    cron: Mapped[str | None] = mapped_column(String(100))  #: five fields, in ``timezone``; or …
    every_seconds: Mapped[int | None]  #: … an interval, counted from 1970-01-01T00:00Z
    timezone: Mapped[str] = mapped_column(String(60))
    jitter_seconds: Mapped[int]
    outage: Mapped[str] = mapped_column(String(10))  #: schedules.Outage
    since: Mapped[datetime]  #: instants up to here are not promised by the row as it stands
    booked_to: Mapped[datetime | None]  #: the last instant that is in ``fires``
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None] = mapped_column(String(200))
    removed_at: Mapped[datetime | None]
    seed: Mapped[dict[str, Any] | None]  #: what the configuration said when it was seeded; None: made on the page
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(200))


class Fire(Base):
    """One promised instant of one schedule, booked exactly once."""

    __tablename__ = "fires"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedules.id"))
    promised: Mapped[datetime]  #: as the cron expression or interval says
    due_at: Mapped[datetime]  #: with jitter
    booked_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(10))  #: schedules.FireState
    reason: Mapped[str | None] = mapped_column(Text)  #: why it is late, skipped or missed
    runs: Mapped[int] = mapped_column(Integer, default=0)  #: that it asked for
    booked_by: Mapped[str] = mapped_column(String(200))  #: the scheduler that led then

    __table_args__ = (
        Index("ix_fires_schedule_promised", "schedule_id", "promised", unique=True),
        Index("ix_fires_due_at", "due_at"),
    )


class BackfillState(StrEnum):
    """Where a backfill stands."""

    OPEN = "open"  #: its chunks are asked for one by one
    PAUSED = "paused"  #: no further chunk is asked for; the one under way ends
    DONE = "done"  #: every chunk has ended, some perhaps badly
    CANCELLED = "cancelled"  #: what has not begun never will


class Backfill(Base):
    """A stretch of a stream's past, read again in chunks between the normal syncs."""

    __tablename__ = "backfills"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    stream: Mapped[str] = mapped_column(String(200), index=True)
    state: Mapped[str] = mapped_column(String(10), index=True)  #: BackfillState
    since: Mapped[datetime]
    until: Mapped[datetime]
    chunk: Mapped[str] = mapped_column(String(10))  #: day, week, month
    newest_first: Mapped[bool]
    scope: Mapped[str] = mapped_column(String(10))  #: all, missing, failed
    requested_by: Mapped[str] = mapped_column(String(200))
    requested_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    headline: Mapped[str | None] = mapped_column(Text)


class BackfillChunk(Base):
    """One half-open window of a backfill: from ``low`` on, before ``high``."""

    __tablename__ = "backfill_chunks"

    backfill_id: Mapped[int] = mapped_column(ForeignKey("backfills.id"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)  #: in the order of working
    low: Mapped[datetime]
    high: Mapped[datetime]
    left_out: Mapped[str | None] = mapped_column(Text)  #: why it is not read: it is there already, say
    expected: Mapped[int | None]  #: rows, from what earlier runs read
    run_id: Mapped[int | None]  #: the newest run for it; its state is the chunk's
