"""Load windows in the ledger: what waits for one, the one that is under way, what people may ask of it.

Whoever runs windows holds the lease ``POOL``, and every write of theirs proves it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, union, update

from novade_core.errors import ConfigurationError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import (
    Audit,
    LandedFileRow,
    Lease,
    LoadWindow,
    Run,
    RunState,
    Step,
    SyncPlan,
    WindowState,
)
from novade_core.ledger.plans import SET_ASIDE
from novade_core.streams import RunKind

#: The lease of whoever resumes and pauses the pool.
POOL = "novade:pool"
#: How runs that a window asks for say where they come from.
ORIGIN = "window"


@dataclass(frozen=True, kw_only=True)
class Window:
    """One load window, as it is stored."""

    id: int
    state: WindowState
    reason: str
    ours: bool
    opened_at: datetime
    resume_asked_at: datetime | None = None
    resumed_at: datetime | None = None
    loads_from: datetime | None = None
    busy_at: datetime | None = None
    drained_at: datetime | None = None
    end_asked_at: datetime | None = None
    end_asked_by: str | None = None
    pause_asked_at: datetime | None = None
    paused_at: datetime | None = None
    closed_at: datetime | None = None
    online_seconds: int | None = None
    size: str | None = None
    loads: int = 0
    others: Sequence[str] = ()
    trouble: str | None = None
    work: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Registered manifests that are not in the warehouse yet, and what loads at this moment."""

    streams: tuple[str, ...] = ()  #: without the stuck ones, and without those that are still being read
    oldest: datetime | None = None  #: when the first of their manifests was registered
    loading: int = 0  #: runs that hold the warehouse, or have begun to load
    underway: frozenset[str] = field(default_factory=frozenset)  #: streams that have a queued or running run
    #: Streams whose run in a window failed or left something over, and that no run has read more of since. They open
    #: no window and keep none open: a pool that is resumed again and again for a load that cannot work costs as if it
    #: were always on.
    stuck: tuple[str, ...] = ()
    closed: datetime | None = None  #: when the last window closed

    def due(self, gather: timedelta) -> datetime | None:
        """When a paused pool is resumed for what waits; None where nothing does.

        Files gather anew after each window, also those that it left: one that was ended on purpose must not come back
        at once.
        """
        return None if self.oldest is None else max(self.oldest, self.closed or self.oldest) + gather


def waiting(connection: Connection, streams: Collection[str]) -> Waiting:
    """What of these streams gathers for a window. What is not configured any more would wait for ever."""
    rows = connection.execute(
        select(
            LandedFileRow.stream,
            func.min(LandedFileRow.registered_at).label("first"),
            func.max(LandedFileRow.registered_at).label("last"),
            func.min(LandedFileRow.run_id).label("run_id"),
        )
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(LandedFileRow.stream.in_(streams), LandedFileRow.loaded_at.is_(None), SyncPlan.state.not_in(SET_ASIDE))
        # A manifest of nothing is no reason to resume a pool, but a full reload of nothing empties its table.
        .where(or_(LandedFileRow.rows > 0, SyncPlan.kind == RunKind.FULL.value))
        .group_by(LandedFileRow.stream)
        .order_by(LandedFileRow.stream)
    ).all()
    unended = Run.state.in_([RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING])
    underway = frozenset(connection.execute(select(Run.subject).where(unended)).scalars())
    stuck = [row.stream for row in rows if row.stream not in underway and _failed_since(connection, row)]
    # A run that has begun to load also compares afterwards, so it counts until it ends.
    slots = select(Lease.run_id).where(Lease.stream.like("slot:warehouse:%"), Lease.holder.is_not(None))
    begun = select(Step.run_id).join(Run, Run.id == Step.run_id).where(Step.name == "load", unended)
    busy = union(slots, begun).subquery()
    # What is still being read has time: a pool that is online while hours of history come in works for nobody.
    reading = select(Run.subject).where(
        Run.state.in_([RunState.RUNNING, RunState.CANCELLING]), Run.origin != ORIGIN, Run.id.not_in(begun)
    )
    away = {*stuck, *connection.execute(reading).scalars()}
    fit = [row for row in rows if row.stream not in away]
    return Waiting(
        streams=tuple(row.stream for row in fit),
        oldest=min((row.first for row in fit), default=None),
        loading=connection.execute(select(func.count()).select_from(busy)).scalar_one(),
        underway=underway,
        stuck=tuple(stuck),
        closed=connection.execute(select(func.max(LoadWindow.closed_at))).scalar(),
    )


def _failed_since(connection: Connection, landed: Any) -> bool:
    last = connection.execute(
        select(Run.state, Run.ended_at)
        # A run that failed with these files cannot be older than the first that landed one. Whoever read more
        # afterwards may have mended it, also where nothing new was there to land.
        .where(Run.subject == landed.stream, Run.id >= landed.run_id)
        .where((Run.origin == ORIGIN) | (Run.state == RunState.LANDED))
        .order_by(Run.id.desc())
        .limit(1)
    ).first()
    # A partial one that left something over kept it out on purpose, as the policy quarantine does.
    failed = (RunState.FAILED, RunState.CANCELLED, RunState.ABANDONED, RunState.PARTIAL)
    return (
        last is not None and last.state in failed and last.ended_at is not None and bool(last.ended_at >= landed.last)
    )


def current(connection: Connection) -> Window | None:
    """The window that is not closed, None where there is none."""
    row = connection.execute(select(LoadWindow.__table__).where(LoadWindow.closed_at.is_(None))).first()
    return stored(row) if row is not None else None


def recent(ledger: Ledger, limit: int = 50) -> list[Window]:
    """The newest windows, the one under way first."""
    with ledger.read() as connection:
        rows = connection.execute(select(LoadWindow.__table__).order_by(LoadWindow.id.desc()).limit(limit)).all()
    return [stored(row) for row in rows]


def stored(row: Any) -> Window:
    """A window out of its row; in place of its work the row may have what was booked for it, as ``kept``."""
    values = dict(row._mapping)
    if "kept" in values and (kept := values.pop("kept")) is not None:
        values["work"] = {"booked": kept}
    return Window(**(values | {"state": WindowState(values["state"]), "others": tuple(values["others"])}))


def admits_loads(connection: Connection) -> bool:
    """Whether a run may open the warehouse now, in an environment whose pool is resumed for windows."""
    window = current(connection)
    return window is not None and window.state is WindowState.OPEN and window.end_asked_at is None


# --- what the holder of the lease writes ----------------------------------------------------------


def open_window(ledger: Ledger, *, fence: int, now: datetime, ours: bool, reason: str, size: str | None) -> None:
    """Begin one; where the pool is online already it is somebody else's, and open at once."""
    with ledger.write() as connection:
        leases.require(connection, stream=POOL, fence=fence)
        if current(connection) is not None:
            return
        online = None if ours else now
        connection.execute(
            insert(LoadWindow).values(
                state=WindowState.RESUMING if ours else WindowState.OPEN,
                reason=reason,
                ours=ours,
                opened_at=now,
                resumed_at=online,
                loads_from=online,
                busy_at=online,
                size=size,
                loads=0,
                others=[],
            )
        )


def note(ledger: Ledger, window_id: int, *, fence: int, **values: Any) -> None:
    """Write columns of the window under the lease. Raises LeaseLost where another worker took over."""
    with ledger.write() as connection:
        leases.require(connection, stream=POOL, fence=fence)
        connection.execute(update(LoadWindow).where(LoadWindow.id == window_id).values(**values))


# --- what people ask for --------------------------------------------------------------------------


def ask_for_window(ledger: Ledger, *, who: str, now: datetime) -> int:
    """Open a window now, without waiting for files to gather; gives its id. One that is under way is that one."""
    with ledger.write() as connection:
        # So that two that ask at once, or whoever runs windows, open one.
        leases.lock(connection, POOL)
        there = current(connection)
        if there is not None:
            return there.id
        made = connection.execute(
            insert(LoadWindow)
            .values(
                state=WindowState.RESUMING, reason=f"asked for by {who}", ours=True, opened_at=now, loads=0, others=[]
            )
            .returning(LoadWindow.id)
        ).scalar_one()
        connection.execute(insert(Audit).values(at=now, who=who, action="open window", subject=str(made), details={}))
        return int(made)


def ask_to_end(ledger: Ledger, *, who: str, now: datetime) -> int:
    """End the window under way: no further load begins, and the pool is paused after the running ones; gives its id.

    Raises ConfigurationError where none is under way.
    """
    with ledger.write() as connection:
        there = current(connection)
        if there is None:
            raise ConfigurationError("No load window is under way.", hint="There is nothing to end.")
        connection.execute(
            update(LoadWindow)
            .where(LoadWindow.id == there.id, LoadWindow.end_asked_at.is_(None))
            .values(end_asked_at=now, end_asked_by=who)
        )
        connection.execute(
            insert(Audit).values(at=now, who=who, action="end window", subject=str(there.id), details={})
        )
        return there.id
