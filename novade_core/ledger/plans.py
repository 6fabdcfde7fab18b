"""Sync plans and landed files: what is to be read, what has arrived, where to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from novade_core.errors import LeaseLost
from novade_core.ledger import leases
from novade_core.ledger.models import Checkpoint, LandedFileRow, PlanState, SyncPlan
from novade_core.streams import Column, LandedFile, RunKind, Window

#: States of plans whose landed files are never loaded.
SET_ASIDE = (PlanState.HELD, PlanState.REJECTED)
#: States of plans that a later run goes on with.
UNFINISHED = (PlanState.OPEN, PlanState.LANDED)
#: In the details of a plan that had landed and was opened again.
EXTENDED = "extended"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sync plan as the engine uses it."""

    id: int
    stream: str
    kind: RunKind
    state: PlanState
    run_id: int
    seam: datetime | None
    windows: tuple[Window, ...]
    columns: tuple[Column, ...]
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a window of a plan has landed."""

    done: bool
    resume: Mapping[str, Any] | None


def _plan(row: Row[Any]) -> Plan:
    return Plan(
        id=row.id,
        stream=row.stream,
        kind=RunKind(row.kind),
        state=PlanState(row.state),
        run_id=row.run_id,
        seam=row.seam,
        windows=tuple(Window.from_json(w) for w in row.windows),
        columns=tuple(Column.from_json(c) for c in row.columns),
        details=row.details,
    )


def unfinished(connection: Connection, stream: str) -> list[Plan]:
    """The plans that earlier runs of this stream left unfinished, the newest first."""
    rows = connection.execute(
        select(SyncPlan.__table__)
        .where(SyncPlan.stream == stream, SyncPlan.state.in_(UNFINISHED))
        .order_by(SyncPlan.id.desc())
    )
    return [_plan(row) for row in rows]


def add_plan(
    connection: Connection,
    *,
    stream: str,
    kind: RunKind,
    run_id: int,
    now: datetime,
    seam: datetime | None,
    windows: Sequence[Window],
    columns: Sequence[Column],
    details: Mapping[str, Any],
) -> Plan:
    """Record a new plan, open."""
    plan_id = connection.execute(
        insert(SyncPlan)
        .values(
            stream=stream,
            kind=kind.value,
            state=PlanState.OPEN,
            run_id=run_id,
            created_at=now,
            seam=seam,
            windows=[w.to_json() for w in windows],
            columns=[c.to_json() for c in columns],
            details=dict(details),
        )
        .returning(SyncPlan.id)
    ).scalar_one()
    row = connection.execute(select(SyncPlan.__table__).where(SyncPlan.id == plan_id)).one()
    return _plan(row)


def last_columns(connection: Connection, stream: str) -> tuple[Column, ...] | None:
    """The columns of the newest plan that ended well; None before the first."""
    value = connection.execute(
        select(SyncPlan.columns)
        .where(SyncPlan.stream == stream, SyncPlan.state == PlanState.DONE)
        .order_by(SyncPlan.id.desc())
        .limit(1)
    ).scalar()
    return tuple(Column.from_json(c) for c in value) if value is not None else None


def _last_of_the_checkpoint(stream: str) -> Select[Any]:
    return (
        select(SyncPlan.id, SyncPlan.details)
        .where(
            SyncPlan.stream == stream,
            SyncPlan.state == PlanState.DONE,
            SyncPlan.kind.in_([RunKind.INCREMENTAL.value, RunKind.FULL.value]),
        )
        .order_by(SyncPlan.id.desc())
        .limit(1)
    )


def last_details(connection: Connection, stream: str) -> Mapping[str, Any] | None:
    """The details of the newest plan that moved the checkpoint; None before the first."""
    row = connection.execute(_last_of_the_checkpoint(stream)).first()
    return None if row is None else row.details


def set_windows(connection: Connection, plan: Plan, windows: Sequence[Window]) -> None:
    """Replace the plan's windows (a window is added or halved; indexes of landed ones never change)."""
    connection.execute(update(SyncPlan).where(SyncPlan.id == plan.id).values(windows=[w.to_json() for w in windows]))


def extend(connection: Connection, plan: Plan, windows: Sequence[Window], read_from: datetime) -> None:
    """Open a landed plan again with further windows, whose reading began at ``read_from`` by the source's clock."""
    connection.execute(
        update(SyncPlan)
        .where(SyncPlan.id == plan.id)
        .values(
            state=PlanState.OPEN,
            windows=[w.to_json() for w in (*plan.windows, *windows)],
            details={**plan.details, "read_from": read_from.isoformat(), EXTENDED: True},
        )
    )


def close_plan(connection: Connection, plan_id: int, state: PlanState, tail: Mapping[str, int] | None = None) -> None:
    """End a plan with one of the states of ``models.PlanState``. ``tail``: see ``sync.tail``."""
    values: dict[str, Any] = {"state": state}
    if tail is not None:
        row = connection.execute(select(SyncPlan.stream, SyncPlan.details).where(SyncPlan.id == plan_id)).one()
        values["details"] = {**row.details, "tail": dict(tail)}
        if state is PlanState.DONE:
            _forget_tail(connection, row.stream)
    connection.execute(update(SyncPlan).where(SyncPlan.id == plan_id).values(**values))


def _forget_tail(connection: Connection, stream: str) -> None:
    """Drop the tail of the plan before: the newest alone is asked for, and each may be a few hundred kilobytes."""
    before = connection.execute(_last_of_the_checkpoint(stream)).first()
    if before is not None and "tail" in before.details:
        details = {name: value for name, value in before.details.items() if name != "tail"}
        connection.execute(update(SyncPlan).where(SyncPlan.id == before.id).values(details=details))


def positions(connection: Connection, plan_id: int) -> dict[int, Position]:
    """Window index -> position after its last registered chunk."""
    newest = select(func.max(LandedFileRow.id)).where(LandedFileRow.plan_id == plan_id).group_by(LandedFileRow.window)
    rows = connection.execute(
        select(LandedFileRow.window, LandedFileRow.window_done, LandedFileRow.resume).where(
            LandedFileRow.id.in_(newest)
        )
    )
    return {row.window: Position(done=row.window_done, resume=row.resume) for row in rows}


def register(
    connection: Connection,
    *,
    fence: int,
    now: datetime,
    stream: str,
    run_id: int,
    plan_id: int,
    window: int,
    chunk: int,
    manifest_path: str,
    load_id: str,
    files: Sequence[str],
    rows: int,
    rejected: int,
    size: int,
    max_cursor: datetime | None,
    resume: Mapping[str, Any] | None,
) -> int:
    """Make a landed manifest count; raises LeaseLost where the fence is no longer ours."""
    leases.require(connection, stream=stream, fence=fence)
    return connection.execute(
        insert(LandedFileRow)
        .values(
            stream=stream,
            run_id=run_id,
            plan_id=plan_id,
            window=window,
            chunk=chunk,
            manifest_path=manifest_path,
            load_id=load_id,
            files=list(files),
            rows=rows,
            rejected=rejected,
            bytes=size,
            max_cursor=max_cursor,
            resume=dict(resume) if resume is not None else None,
            window_done=resume is None,
            fence=fence,
            registered_at=now,
        )
        .returning(LandedFileRow.id)
    ).scalar_one()


def _landed(row: Row[Any], columns: Sequence[Column]) -> LandedFile:
    return LandedFile(
        seq=row.id,
        stream=row.stream,
        run_id=row.run_id,
        plan_id=row.plan_id,
        window=row.window,
        chunk=row.chunk,
        manifest_path=row.manifest_path,
        load_id=row.load_id,
        files=tuple(row.files),
        rows=row.rows,
        rejected=row.rejected,
        columns=tuple(columns),
    )


def unloaded(connection: Connection, stream: str) -> list[LandedFile]:
    """Registered manifests that are not in the warehouse yet, in landing order, each with its plan's columns."""
    rows = connection.execute(
        select(LandedFileRow.__table__, SyncPlan.columns.label("plan_columns"))
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(LandedFileRow.stream == stream, LandedFileRow.loaded_at.is_(None), SyncPlan.state.not_in(SET_ASIDE))
        .order_by(LandedFileRow.id)
    )
    return [_landed(row, [Column.from_json(c) for c in row.plan_columns]) for row in rows]


def of_plan(connection: Connection, plan: Plan) -> list[LandedFile]:
    """All registered manifests of a plan, in landing order."""
    rows = connection.execute(
        select(LandedFileRow.__table__).where(LandedFileRow.plan_id == plan.id).order_by(LandedFileRow.id)
    )
    return [_landed(row, plan.columns) for row in rows]


def mark_loaded(
    connection: Connection, *, stream: str, fence: int, run_id: int, now: datetime, seqs: Sequence[int]
) -> None:
    """Note that manifests are in the warehouse; the load markers there are the proof."""
    leases.require(connection, stream=stream, fence=fence)
    connection.execute(
        update(LandedFileRow)
        .where(LandedFileRow.id.in_(list(seqs)), LandedFileRow.loaded_at.is_(None))
        .values(loaded_at=now, loaded_by=run_id)
    )


@dataclass(frozen=True, kw_only=True)
class CheckpointValue:
    """How far a stream is proven loaded."""

    cursor: datetime | None
    seam: datetime | None


def checkpoint(connection: Connection, stream: str) -> CheckpointValue | None:
    """The stream's checkpoint, None before its first successful run."""
    row = connection.execute(select(Checkpoint.cursor, Checkpoint.seam).where(Checkpoint.stream == stream)).first()
    return CheckpointValue(cursor=row.cursor, seam=row.seam) if row else None


def max_cursor(connection: Connection, plan_id: int) -> datetime | None:
    """The highest cursor in the plan's registered chunks."""
    return connection.execute(
        select(LandedFileRow.max_cursor)
        .where(LandedFileRow.plan_id == plan_id, LandedFileRow.max_cursor.is_not(None))
        .order_by(LandedFileRow.max_cursor.desc())
        .limit(1)
    ).scalar()


def move_checkpoint(
    connection: Connection,
    *,
    stream: str,
    fence: int,
    run_id: int,
    now: datetime,
    cursor: datetime | None,
    seam: datetime | None,
) -> None:
    """Move the checkpoint forward, never back, under the fence (raises LeaseLost)."""
    leases.require(connection, stream=stream, fence=fence)
    current = checkpoint(connection, stream)
    if current is None:
        connection.execute(
            insert(Checkpoint).values(stream=stream, cursor=cursor, seam=seam, run_id=run_id, fence=fence, moved_at=now)
        )
        return
    known = [c for c in (current.cursor, cursor) if c is not None]
    hit = connection.execute(
        update(Checkpoint)
        .where(Checkpoint.stream == stream, Checkpoint.fence <= fence)
        .values(
            cursor=max(known) if known else None,
            seam=seam or current.seam,
            run_id=run_id,
            fence=fence,
            moved_at=now,
        )
    )
    if hit.rowcount != 1:
        raise LeaseLost(f"The checkpoint of {stream} was moved by a later holder than fence {fence}.")
