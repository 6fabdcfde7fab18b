"""Backfills: a stretch of a stream's past, read again window by window between the normal syncs.

A backfill never has more than one run under way. ``feed`` asks for the next one; the leading scheduler calls it each
tick. Each window's run is an ordinary backfill run, so it never moves the checkpoint and never overwrites anything
newer. What people ask for leaves a line in ``audit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text, update

from novade_core.errors import ConfigurationError
from novade_core.ledger import requests
from novade_core.ledger.backfill_views import (
    ALIVE,
    UNDER_WAY,
    known,
    propose,
    refuse_overlap,
    retries,
    sentence,
    summaries,
    window_parameters,
    windows_in_words,
)
from novade_core.ledger.backfill_windows import BAD, Scope
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Audit, Backfill, BackfillChunk, BackfillState, Run, RunState
from novade_core.streams import RunKind, Stream

#: After people (10) and the clock (50): what is fresh goes before what is old.
PRIORITY = 80
_NOT_BEGUN = "It had not begun when the backfill was cancelled."


def start(
    ledger: Ledger,
    *,
    stream: Stream,
    since: datetime,
    until: datetime,
    chunk: str,
    newest_first: bool,
    scope: str,
    who: str,
    now: datetime,
) -> int:
    """Open a backfill of the records whose cursor lies in the window, and give its id.

    Raises BadWindow for a window that is reversed, naive, in the future or cut into too many, ConfigurationError for
    a stream without a cursor, a scope that leaves nothing, or another open or paused backfill of the same time.
    """
    with ledger.write() as connection:
        _lock(connection, stream.id)
        chunks = propose(connection, stream, since, until, chunk, newest_first, scope, now)
        if all(c.left_out for c in chunks):
            raise ConfigurationError(
                f"Nothing of this time is {scope}: all {windows_in_words(len(chunks))} would be left out.",
                hint="Choose another time, or all windows.",
            )
        backfill_id = connection.execute(
            insert(Backfill)
            .values(
                stream=stream.id,
                state=BackfillState.OPEN.value,
                since=since,
                until=until,
                chunk=chunk,
                newest_first=newest_first,
                scope=scope,
                requested_by=who,
                requested_at=now,
            )
            .returning(Backfill.id)
        ).scalar_one()
        connection.execute(
            insert(BackfillChunk),
            [
                {
                    "backfill_id": backfill_id,
                    "position": c.position,
                    "low": c.low,
                    "high": c.high,
                    "left_out": c.left_out,
                    "expected": c.expected,
                }
                for c in chunks
            ],
        )
        details = window_parameters(since, until, now)
        _audit(connection, now, who, "backfill.started", stream.id, backfill=backfill_id, chunk=chunk, scope=scope,
               windows=sum(c.left_out is None for c in chunks), **details)  # fmt: skip
        return int(backfill_id)


def _lock(connection: Connection, stream: str) -> None:
    """One at a time per stream asks for backfills: two of the same time would not see each other."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(7262335, hashtext(:stream))"), {"stream": stream})


def pause(ledger: Ledger, backfill_id: int, who: str, now: datetime) -> None:
    """No further window begins; the one that is being read ends. Nothing happens to one that is paused."""
    with ledger.write() as connection:
        row = _held(connection, backfill_id)
        if row.state == BackfillState.PAUSED:
            return
        _require(row, BackfillState.OPEN)
        _set(connection, backfill_id, state=BackfillState.PAUSED.value)
        _withdraw(connection, backfill_id, now)
        _audit(connection, now, who, "backfill.paused", row.stream, backfill=backfill_id)


def continue_(ledger: Ledger, backfill_id: int, who: str, now: datetime) -> None:
    """A paused backfill goes on. Nothing happens to one that is open."""
    with ledger.write() as connection:
        row = _held(connection, backfill_id)
        if row.state == BackfillState.OPEN:
            return
        _require(row, BackfillState.PAUSED)
        _set(connection, backfill_id, state=BackfillState.OPEN.value)
        _audit(connection, now, who, "backfill.continued", row.stream, backfill=backfill_id)


def cancel(ledger: Ledger, backfill_id: int, who: str, now: datetime) -> None:
    """End it: what has not begun never will, and the run under way is asked to end."""
    with ledger.write() as connection:
        row = _held(connection, backfill_id)
        _require(row, BackfillState.OPEN, BackfillState.PAUSED)
        _withdraw(connection, backfill_id, now)
        connection.execute(
            update(BackfillChunk)
            .where(
                BackfillChunk.backfill_id == backfill_id,
                BackfillChunk.run_id.is_(None),
                BackfillChunk.left_out.is_(None),
            )
            .values(left_out=_NOT_BEGUN)
        )
        state = BackfillState.CANCELLED.value
        _set(connection, backfill_id, state=state, ended_at=now, headline=f"Cancelled by {who}.")
        _audit(connection, now, who, "backfill.cancelled", row.stream, backfill=backfill_id)
        running = _under_way(connection, [backfill_id])
    for run in running:
        with suppress(ConfigurationError):  # it has ended meanwhile
            requests.ask_to_cancel(ledger, run_id=run.id, who=who, now=now)


def again(ledger: Ledger, backfill_id: int, which: str = "failed", *, who: str, now: datetime) -> int:
    """Put windows back to waiting, open the backfill again, and answer how many.

    ``failed``: those that failed, were cancelled or abandoned; ``missing``: these and those that never began;
    ``all``: every window that is not under way, those left out included. Raises ConfigurationError where there is
    none, or another backfill reads the same time.
    """
    if which not in set(Scope):
        raise ConfigurationError(f"{which!r} is none of {', '.join(Scope)}.", hint="Choose one of them.")
    with ledger.write() as connection:
        row = _held(connection, backfill_id)
        _follow(connection, backfill_id)
        chunks = connection.execute(
            select(BackfillChunk.position, BackfillChunk.left_out, BackfillChunk.run_id, Run.state)
            .outerjoin(Run, Run.id == BackfillChunk.run_id)
            .where(BackfillChunk.backfill_id == backfill_id)
        )
        wanted = []
        for chunk in chunks:
            bad = chunk.state in BAD
            never_begun = chunk.left_out == _NOT_BEGUN
            ended = chunk.left_out is not None or (chunk.state is not None and chunk.state not in UNDER_WAY)
            if bad or (which == Scope.MISSING and never_begun) or (which == Scope.ALL and ended):
                wanted.append(chunk.position)
        if not wanted:
            raise ConfigurationError(
                f"Backfill {backfill_id} has no window that {'could be read' if which == Scope.ALL else 'is ' + which}"
                " again.",
                hint="Look at its windows on Sync, or choose all.",
            )
        if row.state not in ALIVE:
            _lock(connection, row.stream)
            refuse_overlap(connection, row.stream, row.since, row.until, but=backfill_id)
        connection.execute(
            update(BackfillChunk)
            .where(BackfillChunk.backfill_id == backfill_id, BackfillChunk.position.in_(wanted))
            .values(run_id=None, left_out=None)
        )
        _set(connection, backfill_id, state=BackfillState.OPEN.value, ended_at=None, headline=None)
        _audit(
            connection, now, who, "backfill.again", row.stream, backfill=backfill_id, which=which, windows=len(wanted)
        )
        return len(wanted)


def feed(ledger: Ledger, *, now: datetime) -> int:
    """Ask for the next window of each open backfill that has none under way; the number of runs asked for.

    A backfill in which no window waits any more ends. One whose failed window is to be tried again is still under
    way. Safe to call from several processes at once: each window is asked for once.
    """
    with ledger.read() as connection:
        found = connection.execute(
            select(Backfill.id, Backfill.state).where(Backfill.state.in_([s.value for s in ALIVE]))
        ).all()
        if not found:
            return 0
        under_way = _under_way(connection, [row.id for row in found])
    busy = {run.backfill_id for run in under_way}
    strayed = {run.backfill_id for run in under_way if run.position is None}
    queued = {run.backfill_id for run in under_way if run.state == RunState.QUEUED}
    asked = 0
    for row in sorted(found, key=lambda r: r.id):
        idle = row.state == BackfillState.OPEN and row.id not in busy
        # A retry that was queued after its backfill was paused must not begin either.
        late = row.state == BackfillState.PAUSED and row.id in queued
        if idle or late or row.id in strayed:
            asked += _feed_one(ledger, row.id, now)
    return asked


def _feed_one(ledger: Ledger, backfill_id: int, now: datetime) -> int:
    with ledger.write() as connection:
        row = _held(connection, backfill_id)
        _follow(connection, backfill_id)
        if row.state == BackfillState.PAUSED:
            _withdraw(connection, backfill_id, now)
        if row.state != BackfillState.OPEN or _under_way(connection, [backfill_id]):
            return 0
        chunk = connection.execute(
            select(BackfillChunk.position, BackfillChunk.low, BackfillChunk.high)
            .where(
                BackfillChunk.backfill_id == backfill_id,
                BackfillChunk.run_id.is_(None),
                BackfillChunk.left_out.is_(None),
            )
            .order_by(BackfillChunk.position)
            .limit(1)
        ).first()
        if chunk is None:
            said = sentence(summaries(connection, [row])[0])
            _set(connection, backfill_id, state=BackfillState.DONE.value, ended_at=now, headline=said)
            return 0
        # The window was checked when it was asked for; a clock that was set back since does not make it wrong.
        parameters = window_parameters(chunk.low, chunk.high, max(now, chunk.high))
        prefix = f"backfill:{backfill_id}:{chunk.position}:"
        times = select(func.count()).where(Run.backfill_id == backfill_id, Run.idempotency_key.startswith(prefix))
        run_id = connection.execute(
            insert(Run)
            .values(
                subject=row.stream,
                source=row.stream.split(".", 1)[0],
                kind=RunKind.BACKFILL.value,
                state=RunState.QUEUED.value,
                origin="backfill",
                requested_by=row.requested_by,
                requested_at=now,
                priority=PRIORITY,
                attempt=1,
                parameters=parameters,
                idempotency_key=f"{prefix}{connection.execute(times).scalar_one() + 1}",
                backfill_id=backfill_id,
            )
            .returning(Run.id)
        ).scalar_one()
        connection.execute(
            update(BackfillChunk)
            .where(BackfillChunk.backfill_id == backfill_id, BackfillChunk.position == chunk.position)
            .values(run_id=run_id)
        )
        return 1


def _held(connection: Connection, backfill_id: int) -> Row[Any]:
    """The backfill's row, held until the transaction ends. Raises ConfigurationError for an unknown one."""
    query = select(Backfill.__table__).where(Backfill.id == backfill_id).with_for_update()
    return known(connection.execute(query).first(), backfill_id)


def _require(row: Row[Any], *states: BackfillState) -> None:
    if row.state not in states:
        raise ConfigurationError(
            f"Backfill {row.id} is {row.state}.",
            hint=f"Read windows again with `python -m jobs backfill again {row.id}`.",
        )


def _set(connection: Connection, backfill_id: int, **values: Any) -> None:
    connection.execute(update(Backfill).where(Backfill.id == backfill_id).values(**values))


def _under_way(connection: Connection, ids: Sequence[int]) -> Sequence[Any]:
    """Runs of these backfills that have not ended, with the position of their window (None: not yet followed)."""
    return connection.execute(
        select(Run.id, Run.backfill_id, Run.state, BackfillChunk.position)
        .outerjoin(BackfillChunk, (BackfillChunk.backfill_id == Run.backfill_id) & (BackfillChunk.run_id == Run.id))
        .where(Run.backfill_id.in_(list(ids)), Run.state.in_([s.value for s in UNDER_WAY]))
    ).all()


def _withdraw(connection: Connection, backfill_id: int, now: datetime) -> None:
    """End the run that waits in the queue; its window waits again. What a person asked for stays."""
    _follow(connection, backfill_id)
    withdrawn = connection.execute(
        update(Run)
        .where(
            Run.backfill_id == backfill_id,
            Run.state == RunState.QUEUED.value,
            Run.origin.in_(("backfill", "retry")),
        )
        .values(
            state=RunState.CANCELLED.value,
            ended_at=now,
            headline=f"Withdrawn: backfill {backfill_id} was stopped before this window began.",
        )
        .returning(Run.id)
    ).scalars()
    connection.execute(
        update(BackfillChunk)
        .where(BackfillChunk.backfill_id == backfill_id, BackfillChunk.run_id.in_(list(withdrawn)))
        .values(run_id=None)
    )


def _follow(connection: Connection, backfill_id: int) -> None:
    """Let each window point to its newest try."""
    for (low, high), run_id in retries(connection, backfill_id).items():
        connection.execute(
            update(BackfillChunk)
            .where(
                BackfillChunk.backfill_id == backfill_id,
                BackfillChunk.low == low,
                BackfillChunk.high == high,
                BackfillChunk.run_id < run_id,
            )
            .values(run_id=run_id)
        )


def _audit(connection: Connection, now: datetime, who: str, action: str, stream: str, **details: Any) -> None:
    connection.execute(insert(Audit).values(at=now, who=who, action=action, subject=stream, details=details))
