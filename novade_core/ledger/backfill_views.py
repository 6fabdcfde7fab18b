"""What pages and commands read about backfills: what one would do, how those that there are stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from novade_core.errors import BadWindow, ConfigurationError
from novade_core.ledger import requests
from novade_core.ledger.backfill_windows import ChunkSize, Scope, cut, expected, left_out, readings, window_of
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Backfill, BackfillChunk, BackfillState, Run, RunState, SourceStatus
from novade_core.streams import RunKind, Stream

#: States of a backfill in which it will read on, at once or when somebody says so.
ALIVE = (BackfillState.OPEN, BackfillState.PAUSED)
#: States of a run that has not ended.
UNDER_WAY = (RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING)
_GOOD = (RunState.SUCCEEDED, RunState.PARTIAL, RunState.LANDED)
#: Words for a window that has no run.
WAITING, LEFT_OUT = "waiting", "left out"
#: Earlier runs of the stream that a forecast looks at, and those among which it looks for them.
_EFFORTS, _RUNS = 50, 500


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One window of a backfill. ``state`` is ``waiting``, ``left out`` or the state of its newest run."""

    position: int  #: in the order of working, from 0
    low: datetime
    high: datetime
    state: str
    left_out: str | None = None  #: why it is not read
    expected: int | None = None  #: rows, from what earlier runs read
    run_id: int | None = None
    rows: int | None = None  #: that its run has read


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What one earlier run of the stream took."""

    rows: int
    calls: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The source's API calls of the rolling 24 hours, as the last run saw them."""

    used: int
    allowed: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a forecast stands on."""

    efforts: tuple[Effort, ...]
    quota: Quota | None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a backfill would do."""

    chunks: tuple[Chunk, ...]
    basis: Basis

    @property
    def read(self) -> tuple[Chunk, ...]:
        """The windows that would be read."""
        return tuple(chunk for chunk in self.chunks if chunk.left_out is None)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A backfill as it stands; the figures count windows, ``rows`` what has been read."""

    id: int
    stream: str
    state: BackfillState
    since: datetime
    until: datetime
    chunk: str
    newest_first: bool
    scope: str
    requested_by: str
    requested_at: datetime
    ended_at: datetime | None
    headline: str | None
    windows: int  #: that are to be read; those left out are not among them
    left_out: int
    read: int
    failed: int  #: abandoned ones too
    cancelled: int
    under_way: int
    waiting: int
    rows: int


def preview(
    ledger: Ledger,
    *,
    stream: Stream,
    since: datetime,
    until: datetime,
    chunk: str,
    newest_first: bool,
    scope: str,
    now: datetime,
) -> Proposal:
    """What ``start`` would do, without doing it. Raises what ``start`` raises."""
    with ledger.read() as connection:
        chunks = propose(connection, stream, since, until, chunk, newest_first, scope, now)
        return Proposal(chunks=chunks, basis=_basis(connection, stream))


def propose(
    connection: Connection,
    stream: Stream,
    since: datetime,
    until: datetime,
    chunk: str,
    newest_first: bool,
    scope: str,
    now: datetime,
) -> tuple[Chunk, ...]:
    """The windows of a new backfill in the order of working. Raises BadWindow and ConfigurationError."""
    try:
        size, wanted = ChunkSize(chunk), Scope(scope)
    except ValueError:
        raise BadWindow(
            f"A backfill is cut by {', '.join(ChunkSize)} and reads {', '.join(Scope)}; not {chunk!r} and {scope!r}.",
            hint="Choose one of each.",
        ) from None
    if stream.cursor_field is None:
        raise ConfigurationError(
            f"{stream.label} has no cursor, so it has no windows to read.", hint="Reload it in full instead."
        )
    # A backfill's window keeps the rules of a single backfill run's.
    window_parameters(since, until, now)
    windows = cut(since, until, size)
    refuse_overlap(connection, stream.id, since, until)
    read = readings(connection, stream.id, since, until)
    why = left_out(connection, stream.id, windows, read, wanted)
    facts = list(zip(windows, why, expected(windows, read), strict=True))
    return tuple(
        Chunk(
            position=position,
            low=low,
            high=high,
            state=WAITING if reason is None else LEFT_OUT,
            left_out=reason,
            expected=count,
        )
        for position, ((low, high), reason, count) in enumerate(reversed(facts) if newest_first else facts)
    )


def refuse_overlap(
    connection: Connection, stream: str, since: datetime, until: datetime, but: int | None = None
) -> None:
    """Raise ConfigurationError where another backfill of the stream that lives reads a part of the same time."""
    query = select(Backfill.id, Backfill.state).where(
        Backfill.stream == stream,
        Backfill.state.in_([s.value for s in ALIVE]),
        Backfill.since < until,
        Backfill.until > since,
    )
    other = connection.execute(query if but is None else query.where(Backfill.id != but)).first()
    if other is not None:
        raise ConfigurationError(
            f"Backfill {other.id} of {stream} is {other.state} and reads a part of the same time.",
            hint=f"Wait for it, or end it with `python -m jobs backfill cancel {other.id}`.",
        )


def known(row: Row[Any] | None, backfill_id: int) -> Row[Any]:
    """The row, or ConfigurationError where there is none."""
    if row is None:
        raise ConfigurationError(
            f"There is no backfill {backfill_id}.", hint="List them with `python -m jobs backfill list`."
        )
    return row


def window_parameters(since: datetime, until: datetime, now: datetime) -> dict[str, str]:
    """The window as a backfill run stores it. Raises BadWindow where it is reversed, naive or in the future."""
    return requests._parameters(kind=RunKind.BACKFILL, since=since, until=until, now=now)


def retries(connection: Connection, backfill_id: int) -> dict[tuple[datetime, datetime], int]:
    """The newest retry of each window that has one."""
    rows = connection.execute(
        select(Run.id, Run.parameters).where(Run.backfill_id == backfill_id, Run.retry_of.is_not(None)).order_by(Run.id)
    )
    return {window: row.id for row in rows if (window := window_of(row.parameters)) is not None}


def grid(ledger: Ledger, backfill_id: int) -> tuple[Chunk, ...]:
    """The windows in the order of working, each with its state, rows and run. Raises ConfigurationError."""
    with ledger.read() as connection:
        known(connection.execute(select(Backfill.id).where(Backfill.id == backfill_id)).first(), backfill_id)
        chunks = connection.execute(
            select(BackfillChunk.__table__)
            .where(BackfillChunk.backfill_id == backfill_id)
            .order_by(BackfillChunk.position)
        ).all()
        runs = {
            row.id: row
            for row in connection.execute(
                select(Run.id, Run.state, Run.read, Run.progress).where(Run.backfill_id == backfill_id)
            )
        }
        tried_again = retries(connection, backfill_id)
    found = []
    for chunk in chunks:
        newest = max(chunk.run_id, tried_again.get((chunk.low, chunk.high), 0)) if chunk.run_id is not None else None
        run = runs.get(newest)
        rows = None
        if run is not None:
            rows = run.read if run.read is not None else (run.progress or {}).get("rows")
        found.append(
            Chunk(
                position=chunk.position,
                low=chunk.low,
                high=chunk.high,
                state=run.state if run is not None else LEFT_OUT if chunk.left_out else WAITING,
                left_out=chunk.left_out,
                expected=chunk.expected,
                run_id=newest,
                rows=rows,
            )
        )
    return tuple(found)


def listing(ledger: Ledger, limit: int = 20) -> tuple[Summary, ...]:
    """All backfills that are open or paused, then the last ones that ended, ``limit`` in all; newest first."""
    ended = case((Backfill.state.in_([s.value for s in ALIVE]), 0), else_=1)
    with ledger.read() as connection:
        rows = connection.execute(select(Backfill.__table__).order_by(ended, Backfill.id.desc()).limit(limit)).all()
        return summaries(connection, rows)


def summary(ledger: Ledger, backfill_id: int) -> Summary:
    """One backfill. Raises ConfigurationError for an unknown one."""
    with ledger.read() as connection:
        row = connection.execute(select(Backfill.__table__).where(Backfill.id == backfill_id)).first()
        return summaries(connection, [known(row, backfill_id)])[0]


def summaries(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Summary, ...]:
    """Rows of backfills with what their windows came to."""
    counted = connection.execute(
        select(
            BackfillChunk.backfill_id,
            BackfillChunk.left_out.is_not(None).label("left_out"),
            Run.state,
            func.count().label("windows"),
            func.sum(Run.read).label("rows"),
        )
        .outerjoin(Run, Run.id == BackfillChunk.run_id)
        .where(BackfillChunk.backfill_id.in_([row.id for row in rows]))
        .group_by(BackfillChunk.backfill_id, BackfillChunk.left_out.is_not(None), Run.state)
    ).all()
    found = []
    for row in rows:
        parts = [part for part in counted if part.backfill_id == row.id]
        asked = [part for part in parts if not part.left_out]
        found.append(
            Summary(
                **{k: v for k, v in row._mapping.items() if k != "state"},
                state=BackfillState(row.state),
                windows=sum(p.windows for p in asked),
                left_out=sum(p.windows for p in parts if p.left_out),
                read=sum(p.windows for p in asked if p.state in _GOOD),
                failed=sum(p.windows for p in asked if p.state in (RunState.FAILED, RunState.ABANDONED)),
                cancelled=sum(p.windows for p in asked if p.state == RunState.CANCELLED),
                under_way=sum(p.windows for p in asked if p.state in UNDER_WAY),
                waiting=sum(p.windows for p in asked if p.state is None),
                rows=sum(int(p.rows or 0) for p in asked if p.state in _GOOD),
            )
        )
    return tuple(found)


def sentence(facts: Summary) -> str:
    """How it stands: "36 windows: 35 read, 1 failed; 120,400 rows."."""
    parts = (
        (facts.read, "read"),
        (facts.failed, "failed"),
        (facts.cancelled, "cancelled"),
        (facts.under_way, "under way"),
        (facts.waiting, "waiting"),
        (facts.left_out, "left out"),
    )
    said = ", ".join(f"{count:,} {word}" for count, word in parts if count)
    return f"{windows_in_words(facts.windows)}: {said or 'none read'}; {facts.rows:,} rows."


def windows_in_words(count: int) -> str:
    """1 window, 36 windows."""
    return f"{count:,} window{'s'[: count != 1]}"


def basis(ledger: Ledger, stream: Stream) -> Basis:
    """What a forecast for this stream stands on."""
    with ledger.read() as connection:
        return _basis(connection, stream)


def _basis(connection: Connection, stream: Stream) -> Basis:
    looked = (
        select(Run.state, Run.read, Run.api_calls, Run.started_at, Run.ended_at, Run.id)
        .where(Run.subject == stream.id)
        .order_by(Run.id.desc())
        .limit(_RUNS)
        .subquery()
    )
    rows = connection.execute(
        select(looked)
        .where(
            looked.c.state.in_([s.value for s in _GOOD]),
            looked.c.read.is_not(None),
            looked.c.api_calls.is_not(None),
            looked.c.started_at.is_not(None),
        )
        .order_by(looked.c.id.desc())
        .limit(_EFFORTS)
    )
    efforts = tuple(
        Effort(rows=r.read, calls=r.api_calls, seconds=(r.ended_at - r.started_at).total_seconds())
        for r in rows
        if r.ended_at is not None
    )
    status = connection.execute(
        select(SourceStatus.calls_used, SourceStatus.calls_allowed, SourceStatus.at).where(
            SourceStatus.source == stream.source
        )
    ).first()
    if status is None or status.calls_used is None or not status.calls_allowed:
        return Basis(efforts=efforts, quota=None)
    return Basis(efforts=efforts, quota=Quota(used=status.calls_used, allowed=status.calls_allowed, at=status.at))
