"""The ledger's table of load windows: times in which a dedicated pool was online for our loads."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from novade_core.ledger.tables import Base, BigId


class WindowState(StrEnum):
    """Where a load window stands. What is to be done is written before Azure is asked, so a crash loses nothing."""

    RESUMING = "resuming"  #: the pool is to be resumed, or has been asked to
    OPEN = "open"  #: the pool is online, streams are loaded
    CLOSING = "closing"  #: nothing is left to load; what it took is copied, and nobody else may be there
    PAUSING = "pausing"  #: the pool is to be paused, or has been asked to
    CLOSED = "closed"  #: over


class LoadWindow(Base):
    """One load window. At most one is not closed."""

    __tablename__ = "load_windows"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    state: Mapped[str] = mapped_column(String(10))  #: WindowState
    reason: Mapped[str] = mapped_column(Text)  #: why it was opened, a sentence
    ours: Mapped[bool]  #: we resume the pool and pause it; False: somebody else had
    opened_at: Mapped[datetime]
    resume_asked_at: Mapped[datetime | None]
    resumed_at: Mapped[datetime | None]  #: first seen online
    loads_from: Mapped[datetime | None]  #: from here on max_minutes count
    busy_at: Mapped[datetime | None]  #: when something was last to load, loading, or somebody else there
    drained_at: Mapped[datetime | None]
    end_asked_at: Mapped[datetime | None]
    end_asked_by: Mapped[str | None] = mapped_column(String(200))
    pause_asked_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]  #: seen paused
    closed_at: Mapped[datetime | None]
    online_seconds: Mapped[int | None]  #: from the resume to the pause; NULL where it was not ours
    size: Mapped[str | None] = mapped_column(String(20))  #: of the pool, such as DW100c
    loads: Mapped[int]  #: runs that were asked for
    others: Mapped[list[Any]]  #: whose sessions kept it open when last looked
    trouble: Mapped[str | None] = mapped_column(Text)  #: what is wrong with it, a sentence
    work: Mapped[dict[str, Any] | None]  #: what our statements took, by label, and what was booked for it

    __table_args__ = (Index("ix_load_windows_closed_at", "closed_at"),)
