"""Views over the landing zone: which manifests they show, what they should hold, and how they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import LandedFileRow, Lease, PlanState, StreamStatus, SyncPlan
from novade_core.ledger.models_money import DailyUsage
from novade_core.ledger.models_views import PublishedView
from novade_core.ledger.plans import SET_ASIDE
from novade_core.streams import Column, LandedFile, RunKind

#: Bytes that queries of a serverless pool process.
METER = "warehouse.bytes_processed"


class Kind(StrEnum):
    """What it is."""

    VIEW = "view"  #: the newest version of each key, deleted records left out
    TABLE = "external table"  #: every landed row, registered or not


class ViewState(StrEnum):
    """How what is on the pool compares with what should be."""

    CURRENT = "current"  #: it names what has landed
    BEHIND = "behind"  #: it names other files, or an older generator made it
    MISSING = "missing"  #: there is none
    NOT_OURS = "not ours"  #: something of this name that we did not make, or that was edited; never touched
    NOTHING = "nothing landed"  #: there is nothing to show yet


@dataclass(frozen=True, kw_only=True)
class View:
    """A view or an external table as the ledger knows it; ``state`` takes in what has landed since it was looked at."""

    name: str
    kind: Kind
    stream: str
    state: ViewState
    version: str | None
    files: int
    published_at: datetime | None
    looked_at: datetime
    checked_at: datetime | None
    rows: int | None
    expected: int | None
    newest_at: datetime | None
    bytes_processed: int | None
    trouble: str | None
    hint: str | None


# --- what a view shows --------------------------------------------------------------------------


def _shown() -> ColumnElement[bool]:
    """Manifests that count. A full reload counts when it has taken the table's place, and not before."""
    waiting = and_(SyncPlan.kind == RunKind.FULL.value, SyncPlan.state.not_in((PlanState.DONE, PlanState.VOID)))
    return and_(SyncPlan.state.not_in(SET_ASIDE), ~waiting)


def manifests(connection: Connection, stream: str) -> list[LandedFile]:
    """Registered manifests of a stream from its last full reload on, in landing order, those set aside left out."""
    reloaded, last = _last_reload(connection, stream)
    rows = connection.execute(
        select(LandedFileRow.__table__, SyncPlan.columns.label("plan_columns"))
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(
            LandedFileRow.stream == stream,
            _shown(),
            or_(LandedFileRow.plan_id == reloaded, LandedFileRow.id > last),
        )
        .order_by(LandedFileRow.id)
    )
    return [_landed(row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a view holds where no other warehouse is: what was loaded into it."""

    manifests: tuple[LandedFile, ...]  #: with files, in landing order
    reloaded: int  #: the highest manifest that its last full reload took in; 0 without one
    bytes: int  #: of the files
    fence: int  #: of the stream's newest lease


def held(connection: Connection, stream: str, *, seqs: Sequence[int] = (), reloaded: int = 0) -> Held:
    """What a view should hold that says that it holds ``seqs``, and that its last full reload reached ``reloaded``.

    Loaded manifests from the last full reload on, and those of the view that a run published and did not live to
    mark as loaded. Where the view tells of a later full reload than the ledger, what landed before that reload is
    left out; where the ledger knows of a later one, what the view says does not count.
    """
    of = LandedFileRow
    plan, last = _last_reload(connection, stream)
    since: ColumnElement[bool] = or_(of.plan_id == plan, of.id > last) if reloaded <= last else of.id > reloaded
    counts: ColumnElement[bool] = and_(of.loaded_at.is_not(None), SyncPlan.state.not_in(SET_ASIDE), since)
    if reloaded >= last:
        counts = or_(counts, of.id.in_(list(seqs)))
    rows = connection.execute(
        select(of.__table__, SyncPlan.columns.label("plan_columns"))
        .join(SyncPlan, SyncPlan.id == of.plan_id)
        .where(of.stream == stream, of.rows > 0, counts)
        .order_by(of.id)
    ).all()
    fence = connection.execute(select(Lease.fence).where(Lease.stream == stream)).scalar()
    return Held(
        manifests=tuple(_landed(row) for row in rows),
        reloaded=max(reloaded, last),
        bytes=sum(row.bytes for row in rows),
        fence=fence or 0,
    )


def _last_reload(connection: Connection, stream: str) -> tuple[int | None, int]:
    """The plan of the last full reload that ended well and its highest manifest; None and 0 without one."""
    plan = connection.execute(
        select(func.max(SyncPlan.id)).where(
            SyncPlan.stream == stream, SyncPlan.kind == RunKind.FULL.value, SyncPlan.state == PlanState.DONE
        )
    ).scalar()
    if plan is None:
        return None, 0
    landed = select(func.max(LandedFileRow.id)).where(LandedFileRow.plan_id == plan)
    return plan, connection.execute(landed).scalar() or 0


def _landed(row: Row[Any]) -> LandedFile:
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
        columns=tuple(Column.from_json(c) for c in row.plan_columns),
    )


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a view over manifests should hold."""

    rows: int | None  #: exactly so many; None where some manifests are not in the warehouse, or nothing was counted
    at_most: int  #: landed rows, each version counted
    bytes: int  #: of their files
    newest_at: datetime | None  #: the highest cursor that has landed


def expected(connection: Connection, stream: str, seqs: Sequence[int]) -> Expected:
    """By the warehouse's last count where it holds all of these manifests, by what has landed otherwise."""
    of = LandedFileRow
    found = connection.execute(
        select(of.id, of.loaded_at, of.rows, of.bytes, of.max_cursor).where(of.stream == stream)
    ).all()
    listed = set(seqs)
    chosen = [row for row in found if row.id in listed]
    counted = connection.execute(select(StreamStatus.warehouse_count).where(StreamStatus.stream == stream)).scalar()
    return Expected(
        rows=counted if all(row.loaded_at is not None for row in chosen) else None,
        at_most=sum(row.rows for row in chosen),
        bytes=sum(row.bytes for row in chosen),
        newest_at=max((row.max_cursor for row in chosen if row.max_cursor is not None), default=None),
    )


# --- what is known of them ----------------------------------------------------------------------


def views(ledger: Ledger) -> tuple[View, ...]:
    """All that were ever looked at, by stream, its view before its external table."""
    of = PublishedView
    names = [name for name in View.__dataclass_fields__ if name not in ("kind", "state")]
    # Without the statement, which may name thousands of files.
    columns = [getattr(of, name) for name in ("kind", "state", "last_seq", *names)]
    with ledger.read() as connection:
        rows = connection.execute(select(*columns).order_by(of.stream, of.kind.desc(), of.name)).all()
        current = [row.last_seq for row in rows if row.state == ViewState.CURRENT and row.kind == Kind.VIEW]
        newest = _newest(connection, min(current, default=None))
    made = []
    for row in rows:
        state = ViewState(row.state)
        # An external table reads its folder, so that new files leave it as it is.
        if state is ViewState.CURRENT and row.kind == Kind.VIEW and newest.get(row.stream, 0) > row.last_seq:
            state = ViewState.BEHIND
        made.append(View(kind=Kind(row.kind), state=state, **{name: getattr(row, name) for name in names}))
    return tuple(made)


def statement_of(ledger: Ledger, name: str) -> str | None:
    """The statement that made a view or an external table; None where we made none."""
    with ledger.read() as connection:
        return connection.execute(select(PublishedView.sql).where(PublishedView.name == name)).scalar()


def _newest(connection: Connection, after: int | None) -> dict[str, int]:
    """The newest manifest that counts of each stream, of those behind ``after``: few, whatever has landed before."""
    if after is None:
        return {}
    rows = connection.execute(
        select(LandedFileRow.stream, func.max(LandedFileRow.id))
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(LandedFileRow.id > after, LandedFileRow.rows > 0, _shown())
        .group_by(LandedFileRow.stream)
    )
    return {stream: int(newest) for stream, newest in rows}


def state_of(connection: Connection, name: str) -> ViewState | None:
    """How it was found last; None where it was never looked at."""
    found = connection.execute(select(PublishedView.state).where(PublishedView.name == name)).scalar()
    return None if found is None else ViewState(found)


def note(connection: Connection, *, name: str, kind: Kind, stream: str, now: datetime, **values: Any) -> None:
    """Write what was found or done; columns that ``values`` does not name stay as they are."""
    hit = connection.execute(
        update(PublishedView)
        .where(PublishedView.name == name)
        .values(looked_at=now, kind=kind, stream=stream, **values)
    )
    if hit.rowcount == 0:
        first: Mapping[str, Any] = {"files": 0, "last_seq": 0, "state": ViewState.MISSING} | values
        connection.execute(
            insert(PublishedView).values(name=name, kind=kind.value, stream=stream, looked_at=now, **first)
        )


def book(connection: Connection, stream: str, day: date, processed: int) -> None:
    """Count bytes that a check processed into the stream's day (UTC)."""
    made = (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(DailyUsage)
    values = {"day": day, "stream": stream, "meter": METER, "quantity": processed, "failed": 0, "repeated": 0}
    connection.execute(
        made.values(values).on_conflict_do_update(
            index_elements=["day", "stream", "meter"],
            set_={"quantity": DailyUsage.quantity + made.excluded.quantity},
        )
    )


def processed(ledger: Ledger, *, since: date, until: date) -> dict[date, int]:
    """Bytes that our own checks processed, by UTC day, both ends included."""
    of = DailyUsage
    query = (
        select(of.day, func.sum(of.quantity))
        .where(of.meter == METER, of.day >= since, of.day <= until)
        .group_by(of.day)
    )
    with ledger.read() as connection:
        return {day: int(quantity) for day, quantity in connection.execute(query)}
