"""All that pages read about runs. Frozen values out; ``summaries`` holds what they read about streams and totals.

Every query is bounded: keyset paging, no OFFSET, no COUNT over a table, and a filter that no index
serves looks at SCAN rows at most and says how far it got. 20 ms on a million runs is the limit
(``bench/pages.py`` measures it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select

from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Artifact, Comparison, LogEntry, Run, RunState, Step, SyncPlan, Usage

#: Rows that a filter without an index looks at before it hands back what it found and how far it got.
SCAN = 4_000
#: States that somebody should look at.
PROBLEMS = (RunState.FAILED, RunState.ABANDONED, RunState.PARTIAL)
#: States that mean that data arrived.
WORKED = (RunState.SUCCEEDED, RunState.PARTIAL)
#: States in which a run is not over.
OPEN = (RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING)
#: ids are given in the order of asking, but two machines' clocks may differ by this many runs.
_ID_SLACK = 500
#: The largest 64-bit key.
_ID_MAX = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs. Empty parts do not restrict."""

    states: tuple[RunState, ...] = ()
    source: str | None = None
    subject: str | None = None
    kind: str | None = None
    since: datetime | None = None  #: asked for at or after
    until: datetime | None = None  #: asked for before
    text: str = ""  #: in the headline, the error or the subject; digits alone are a run's number


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run as a list shows it."""

    id: int
    subject: str
    source: str
    kind: str
    state: RunState
    origin: str
    requested_by: str
    requested_at: datetime
    not_before: datetime | None
    priority: int
    attempt: int
    parameters: dict[str, Any]
    started_at: datetime | None
    ended_at: datetime | None
    read: int | None
    loaded: int | None
    rejected: int | None
    api_calls: int | None
    headline: str | None
    error_kind: str | None
    error_message: str | None
    progress: dict[str, Any] | None
    notice: str | None  #: what is odd about a success
    retry_of: int | None
    fire_id: int | None
    backfill_id: int | None


@dataclass(frozen=True, kw_only=True)
class RunDetail(RunRow):
    """One run with everything that is known about it."""

    plan_id: int | None
    worker: str | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    landed: int | None
    deleted: int | None
    unchanged: int | None
    superseded: int | None
    duplicates: int | None
    bytes_in: int | None
    cpu_ms: int | None
    source_count: int | None
    warehouse_count: int | None
    data_to: datetime | None
    error_origin: str | None
    error_hint: str | None
    code_version: str | None
    context: dict[str, Any] | None  #: what it ran with; None: it ended before it could note that
    steps: tuple[StepRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One stage of a run."""

    name: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    busy_ms: int
    rows: int | None
    bytes: int | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """A page of runs, newest first, and where the neighbours start."""

    rows: tuple[RunRow, ...] = ()
    older: int | None = None  #: pass as ``before`` for the page below; None = nothing older
    newer: int | None = None  #: pass as ``after`` for the page above; None = this is the top
    looked_to: int | None = None  #: set where the search stopped at this run before it had looked at all


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a run's log."""

    id: int
    at: datetime
    level: str
    message: str
    fields: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """What a step used of one meter."""

    step: str
    meter: str
    quantity: int


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """Two counts of one window, and what they say."""

    stream: str
    at: datetime
    window: str
    source_count: int | None
    warehouse_count: int | None
    state: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ArtifactRow:
    """Bounded rows of a run: keys that differ, samples of rejects."""

    kind: str
    at: datetime
    content: list[Any] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a run is compared with: when its subject last worked, and what failed since."""

    worked: RunDetail | None
    failing_since: RunRow | None  #: the first run that failed after it
    failures: int  #: in a row, this one included; bounded by ``more``
    more: bool  #: the true number is larger


_ROW = tuple(getattr(Run, f.name) for f in fields(RunRow))
_DETAIL = tuple(getattr(Run, f.name) for f in fields(RunDetail) if f.name != "steps")


def _run_row(row: Row[Any]) -> RunRow:
    values = dict(row._mapping)
    values["state"] = RunState(values["state"])
    values["parameters"] = values["parameters"] or {}
    return RunRow(**values)


def _run_detail(row: Row[Any], steps: tuple[StepRow, ...] = ()) -> RunDetail:
    values = dict(row._mapping)
    values["state"] = RunState(values["state"])
    values["parameters"] = values["parameters"] or {}
    return RunDetail(**values, steps=steps)


def recent_runs(
    ledger: Ledger,
    *,
    filters: RunFilter | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
) -> RunPage:
    """Runs that match, newest first: the page below ``before``, or the one above ``after``, or the top."""
    filters = filters or RunFilter()
    upwards = after is not None
    with ledger.read() as c:
        low, high = _id_bounds(c, filters)
        if low is None and (filters.since or filters.until):
            return RunPage()
        if before is not None:
            high = before if high is None else min(high, before)
        if after is not None:
            low = after if low is None else max(low, after)
        ids, looked_to = _matching_ids(c, filters, low=low, high=high, limit=limit + 1, upwards=upwards)
        more = len(ids) > limit
        ids = ids[:limit]
        found = c.execute(select(*_ROW).where(Run.id.in_(ids)).order_by(Run.id.desc())).all() if ids else []
    rows = tuple(_run_row(row) for row in found)
    if upwards:
        # The page above: something older exists (we came from there), something newer if more matched.
        newer = rows[0].id if rows and more else None
        return RunPage(rows=rows, older=rows[-1].id if rows else after, newer=newer, looked_to=looked_to)
    return RunPage(
        rows=rows,
        older=rows[-1].id if rows and more else None,
        newer=(rows[0].id if rows else before - 1) if before is not None else None,
        looked_to=None if more else looked_to,
    )


def _id_bounds(c: Connection, filters: RunFilter) -> tuple[int | None, int | None]:
    """Exclusive ids around the asked-for time span, wide by a little; the exact instants are compared as well."""
    low = high = None
    if filters.since is not None:
        first = c.execute(
            select(Run.id).where(Run.requested_at >= filters.since).order_by(Run.requested_at).limit(1)
        ).scalar()
        if first is None:
            return None, None
        low = first - _ID_SLACK
    if filters.until is not None:
        last = c.execute(
            select(Run.id).where(Run.requested_at < filters.until).order_by(Run.requested_at.desc()).limit(1)
        ).scalar()
        if last is None:
            return None, None
        high = last + _ID_SLACK
        low = 0 if low is None else low
    return low, high


def _matching_ids(
    c: Connection, filters: RunFilter, *, low: int | None, high: int | None, limit: int, upwards: bool
) -> tuple[list[int], int | None]:
    """Ids in reading order, and the id at which a bounded search gave up (None: it looked at all).

    One indexed condition drives (a stream, a state, a source, or none); what it leaves is compared on at
    most SCAN rows. Several states are several searches, merged.
    """
    by_state = [(Run.state == state.value) for state in filters.states]
    drives: list[ColumnElement[bool] | None]
    if filters.text.strip().isdecimal():
        drives, served = [Run.id == min(int(filters.text), _ID_MAX)], {"text"}
    elif by_state and (not filters.subject or RunState.SUCCEEDED not in filters.states):
        drives = list(by_state)  # few runs fail, so this index is shorter than the stream's
        served = {"states"}
    elif filters.subject:
        drives, served = [Run.subject == filters.subject], {"subject", "source"}
    elif filters.source:
        drives, served = [Run.source == filters.source], {"source"}
    else:
        drives, served = [None], set()
    order = Run.id.asc() if upwards else Run.id.desc()
    columns = [Run.id, Run.state, Run.source, Run.subject, Run.kind, Run.requested_at]
    if filters.text:
        columns += [Run.headline, Run.error_kind, Run.error_message]
    found: list[int] = []
    edges: list[int] = []
    for drive in drives:
        inner = select(*columns).order_by(order).limit(SCAN)
        if drive is not None:
            inner = inner.where(drive)
        if low is not None:
            inner = inner.where(Run.id > low)
        if high is not None:
            inner = inner.where(Run.id < high)
        looked = inner.subquery()
        rest = _left_over(filters, looked.c, served)
        if not rest:
            plain = inner.with_only_columns(Run.id).limit(limit)
            found += c.execute(plain).scalars()
            continue
        ids = list(c.execute(select(looked.c.id).where(*rest).limit(limit)).scalars())
        found += ids
        if len(ids) < limit:
            ids_only = inner.with_only_columns(Run.id).subquery()
            last = func.max(ids_only.c.id) if upwards else func.min(ids_only.c.id)
            count, edge = c.execute(select(func.count(), last).select_from(ids_only)).one()
            if count >= SCAN:
                edges.append(edge)
    found.sort(reverse=not upwards)
    if not edges:
        return found[:limit], None
    # Past the first point at which one of the searches gave up, the merged list would have holes.
    edge = min(edges) if upwards else max(edges)
    return [i for i in found if (i <= edge if upwards else i >= edge)][:limit], edge


def _left_over(filters: RunFilter, c: Any, served: set[str]) -> list[ColumnElement[bool]]:
    """The conditions that no index serves."""
    rest: list[ColumnElement[bool]] = []
    if filters.states and "states" not in served:
        rest.append(c.state.in_([s.value for s in filters.states]))
    if filters.subject and "subject" not in served:
        rest.append(c.subject == filters.subject)
    if filters.source and "source" not in served and not filters.subject:
        rest.append(c.source == filters.source)
    if filters.kind:
        rest.append(c.kind == filters.kind)
    if filters.since is not None:
        rest.append(c.requested_at >= filters.since)
    if filters.until is not None:
        rest.append(c.requested_at < filters.until)
    wanted = filters.text.strip()
    if wanted and "text" not in served:
        parts = [
            column.icontains(wanted, autoescape=True)
            for column in (c.headline, c.error_kind, c.error_message, c.subject)
        ]
        rest.append(or_(*parts))
    return rest


def run(ledger: Ledger, run_id: int) -> RunDetail | None:
    """One run with its steps, None where there is none of this number."""
    with ledger.read() as c:
        row = c.execute(select(*_DETAIL).where(Run.id == run_id)).one_or_none()
        if row is None:
            return None
        steps = c.execute(
            select(*(getattr(Step, f.name) for f in fields(StepRow))).where(Step.run_id == run_id).order_by(Step.id)
        ).all()
        return _run_detail(row, tuple(StepRow(**step._mapping) for step in steps))


def runs_by_id(ledger: Ledger, run_ids: Sequence[int]) -> tuple[RunRow, ...]:
    """These runs, newest first; at most 200."""
    with ledger.read() as c:
        found = c.execute(select(*_ROW).where(Run.id.in_(list(run_ids)[:200])).order_by(Run.id.desc())).all()
    return tuple(_run_row(row) for row in found)


def open_runs(ledger: Ledger, *, limit: int = 100) -> tuple[RunRow, ...]:
    """What runs now (oldest first), then what is queued (in the order in which it will be taken)."""
    with ledger.read() as c:
        # One state at a time, each along its index; "state IN" would make SQLite walk the whole table by id.
        running, cancelling, queued = (
            c.execute(select(*_ROW).where(Run.state == state.value).order_by(Run.id).limit(limit)).all()
            for state in (RunState.RUNNING, RunState.CANCELLING, RunState.QUEUED)
        )
    under_way = sorted((_run_row(row) for row in (*running, *cancelling)), key=lambda r: r.id)
    return (*under_way, *sorted((_run_row(row) for row in queued), key=lambda r: (r.priority, r.id)))


def log(
    ledger: Ledger,
    run_id: int,
    *,
    after: int | None = None,
    before: int | None = None,
    level: str | None = None,
    limit: int = 200,
) -> tuple[LogLine, ...]:
    """Lines of a run's log in the order of writing: those that follow ``after``, else the last before ``before``."""
    columns = [getattr(LogEntry, f.name) for f in fields(LogLine)]
    wanted: Select[Any] = select(*columns).where(LogEntry.run_id == run_id).limit(limit)
    if level is not None:
        wanted = wanted.where(LogEntry.level == level)
    if after is not None:
        wanted = wanted.where(LogEntry.id > after).order_by(LogEntry.id)
    else:
        wanted = wanted.order_by(LogEntry.id.desc())
        if before is not None:
            wanted = wanted.where(LogEntry.id < before)
    with ledger.read() as c:
        rows = c.execute(wanted).all()
    lines = tuple(LogLine(**row._mapping) for row in rows)
    return lines if after is not None else tuple(reversed(lines))


def usage(ledger: Ledger, run_id: int) -> tuple[UsageRow, ...]:
    """What the run's steps used, by step and meter."""
    with ledger.read() as c:
        rows = c.execute(
            select(Usage.step, Usage.meter, func.sum(Usage.quantity).label("quantity"))
            .where(Usage.run_id == run_id)
            .group_by(Usage.step, Usage.meter)
            .order_by(Usage.meter, Usage.step)
        ).all()
    return tuple(UsageRow(step=r.step, meter=r.meter, quantity=int(r.quantity)) for r in rows)


def comparisons(ledger: Ledger, run_id: int, *, limit: int = 200) -> tuple[ComparisonRow, ...]:
    """What the run compared, "all" first, then by month."""
    columns = [getattr(Comparison, f.name) for f in fields(ComparisonRow)]
    with ledger.read() as c:
        rows = c.execute(select(*columns).where(Comparison.run_id == run_id).order_by(Comparison.id).limit(limit)).all()
    found = [ComparisonRow(**row._mapping) for row in rows]
    return tuple(sorted(found, key=lambda r: (r.window != "all", r.window)))


def artifacts(ledger: Ledger, run_id: int, *, limit: int = 20) -> tuple[ArtifactRow, ...]:
    """The bounded rows that the run left for people."""
    with ledger.read() as c:
        rows = c.execute(
            select(Artifact.kind, Artifact.at, Artifact.content)
            .where(Artifact.run_id == run_id)
            .order_by(Artifact.id)
            .limit(limit)
        ).all()
    return tuple(ArtifactRow(**row._mapping) for row in rows)


def plan_columns(ledger: Ledger, plan_ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """The columns of these plans: plan -> name -> type, for what changed between two runs."""
    with ledger.read() as c:
        rows = c.execute(select(SyncPlan.id, SyncPlan.columns).where(SyncPlan.id.in_(list(plan_ids)))).all()
    return {row.id: {str(column["name"]): _type_of(column) for column in row.columns or ()} for row in rows}


def _type_of(column: dict[str, Any]) -> str:
    size = column.get("length") or column.get("precision")
    scale = f",{column['scale']}" if column.get("precision") and column.get("scale") is not None else ""
    return f"{column.get('type')}({size}{scale})" if size else str(column.get("type"))


def before_run(ledger: Ledger, run: RunRow) -> Before:
    """When the subject last worked before this run, and what failed since."""
    with ledger.read() as c:
        looked = (
            select(Run.id, Run.state)
            .where(Run.subject == run.subject, Run.id < run.id)
            .order_by(Run.id.desc())
            .limit(SCAN)
            .subquery()
        )
        worked = c.execute(select(looked.c.id).where(looked.c.state.in_([s.value for s in WORKED])).limit(1)).scalar()
        floor = worked if worked is not None else 0
        bad = [RunState.FAILED.value, RunState.ABANDONED.value]
        streak = (
            c.execute(
                select(Run.id)
                .where(Run.subject == run.subject, Run.id > floor, Run.id <= run.id, Run.state.in_(bad))
                .order_by(Run.id)
                .limit(100)
            )
            .scalars()
            .all()
        )
        last = c.execute(select(*_DETAIL).where(Run.id == worked)).one_or_none() if worked is not None else None
        first = c.execute(select(*_ROW).where(Run.id == streak[0])).one() if streak else None
    return Before(
        worked=None if last is None else _run_detail(last),
        failing_since=None if first is None else _run_row(first),
        failures=len(streak),
        more=len(streak) == 100,
    )
