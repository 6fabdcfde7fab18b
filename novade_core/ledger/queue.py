"""The queue: which run is next, taking one, ending one that went wrong, asking for it again."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from novade_core.errors import ConfigurationError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Lease, Run, RunState, Step, WorkerRow
from novade_core.ledger.totals import add_daily, add_daily_usage
from novade_core.streams import RunKind

#: Waits before each further attempt, in seconds; one more attempt than there are waits.
RETRY_SECONDS = (10.0, 30.0, 90.0, 270.0)


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A run that this process now executes."""

    id: int
    subject: str
    kind: RunKind
    attempt: int
    parameters: Mapping[str, Any]
    fence: int
    requested_by: str


def queued(
    connection: Connection,
    now: datetime,
    worker: str | None = None,
    *,
    not_of: Collection[str] = (),
    not_on: Collection[str] = (),
    limit: int = 50,
) -> Sequence[Any]:
    """Runs that may start now, the most urgent first; those of streams that somebody works on are left out, and
    those that another living worker than ``worker`` is starting. ``not_of`` are sources without room, ``not_on``
    streams that the caller works on.
    """
    held = select(Lease.stream).where(Lease.holder.is_not(None))
    return connection.execute(
        select(Run.id, Run.subject, Run.source, Run.kind, Run.attempt)
        .where(
            Run.state == RunState.QUEUED,
            (Run.not_before.is_(None)) | (Run.not_before <= now),
            Run.subject.not_in(held.scalar_subquery()),
            Run.source.not_in(not_of),
            Run.subject.not_in(not_on),
            _is_startable(worker),
        )
        .order_by(Run.priority, Run.id)
        .limit(limit)
    ).all()


def _is_startable(worker: str | None) -> ColumnElement[bool]:
    living = select(WorkerRow.id).where(WorkerRow.stopped_at.is_(None), WorkerRow.id != (worker or ""))
    return Run.worker.is_(None) | Run.worker.not_in(living.scalar_subquery())


def reserve(ledger: Ledger, *, run_id: int, worker: str) -> bool:
    """Note that ``worker`` starts a process for a queued run, so that no other one does; False where one does.

    This only saves work: who executes the run is decided by ``claim``.
    """
    with ledger.write() as connection:
        hit = connection.execute(
            update(Run)
            .where(Run.id == run_id, Run.state == RunState.QUEUED, _is_startable(worker))
            .values(worker=worker)
        )
        return hit.rowcount == 1


def unreserve(ledger: Ledger, *, run_id: int, worker: str) -> None:
    """The process ended without having claimed the run; anybody may start it."""
    with ledger.write() as connection:
        connection.execute(
            update(Run).where(Run.id == run_id, Run.state == RunState.QUEUED, Run.worker == worker).values(worker=None)
        )


def is_queued(ledger: Ledger, run_id: int) -> bool:
    """Whether the run still waits for somebody to claim it."""
    with ledger.read() as connection:
        return connection.execute(select(Run.state).where(Run.id == run_id)).scalar() == RunState.QUEUED


def claim(
    ledger: Ledger,
    *,
    run_id: int,
    holder: str,
    now: datetime,
    watcher: leases.Watcher,
    code_version: str,
    retry_seconds: Sequence[float] = RETRY_SECONDS,
) -> Claimed:
    """Take the run's stream and the run, in this order and in one transaction.

    Raises LeaseHeld while another worker lives on the stream, ConfigurationError where the run is not queued.
    """
    with ledger.write() as connection:
        run = connection.execute(select(Run.__table__).where(Run.id == run_id)).first()
        if run is None:
            raise ConfigurationError(f"There is no run {run_id}.", hint="List runs with `python -m jobs runs list`.")
        taken = leases.take(connection, stream=run.subject, holder=holder, run_id=run_id, now=now, watcher=watcher)
        hit = connection.execute(
            update(Run)
            .where(Run.id == run_id, Run.state == RunState.QUEUED)
            .values(state=RunState.RUNNING, worker=holder, fence=taken.fence, started_at=now, code_version=code_version)
        )
        if hit.rowcount != 1:
            # Asked again: it may have been cancelled, or taken by another worker, since we read it.
            state = connection.execute(select(Run.state).where(Run.id == run_id)).scalar_one()
            raise ConfigurationError(f"Run {run_id} is {state}, not queued.", hint="Start a new run.")
        if taken.from_run is not None and taken.from_run != run_id:
            same = (run.kind, run.parameters)
            abandon(connection, run_id=taken.from_run, now=now, retry_seconds=retry_seconds, unless=same)
        return Claimed(
            id=run_id,
            subject=run.subject,
            kind=RunKind(run.kind),
            attempt=run.attempt,
            parameters=run.parameters,
            fence=taken.fence,
            requested_by=run.requested_by,
        )


#: How a run ended that could not say so itself.
Ending = Literal["WorkerVanished", "WorkerStopped", "RunStalled"]

#: What is said of a run that ended without a word, by class.
_ENDS = {
    "WorkerVanished": (
        "Its worker vanished; what had landed is kept and the next run goes on from there.",
        "The process that worked on this run ended without a word.",
    ),
    "WorkerStopped": (
        "Its worker stopped; what had landed is kept and the next run goes on from there.",
        "The worker was told to stop while this run was under way.",
    ),
    "RunStalled": (
        "It made no progress for too long and was ended; what had landed is kept and the next run goes on from there.",
        "The process that worked on this run lived, but nothing moved.",
    ),
}


def abandon(
    connection: Connection,
    *,
    run_id: int,
    now: datetime,
    kind: Ending = "WorkerVanished",
    retry_seconds: Sequence[float] = RETRY_SECONDS,
    unless: tuple[str, Mapping[str, Any]] | None = None,
) -> bool:
    """End a run whose worker vanished (or was ended by us), and ask for it again; False where it had ended properly.

    Where its end had been asked for, it is cancelled and that is all. ``unless`` is kind and parameters of a run
    that takes its place anyway. The first new attempt comes at once, later ones wait as failed ones do; the end of
    a worker that was told to stop is no attempt at all.
    """
    subject = connection.execute(select(Run.subject).where(Run.id == run_id)).scalar()
    if subject is None:
        return False
    leases.lock(connection, subject)
    run = connection.execute(select(Run.__table__).where(Run.id == run_id)).one()
    state = RunState.CANCELLED if run.state == RunState.CANCELLING else RunState.ABANDONED
    end = {"headline": "The run was cancelled."}
    if state is RunState.ABANDONED:
        headline, message = _ENDS[kind]
        end = {
            "headline": headline,
            "error_kind": kind,
            "error_origin": "us",
            "error_message": message,
            "error_hint": "Nothing to do while it is tried again by itself; then start the stream again.",
        }
    hit = connection.execute(
        update(Run)
        .where(Run.id == run_id, Run.state.in_([RunState.RUNNING, RunState.CANCELLING]))
        .values(state=state, ended_at=now, progress=None, **end)
    )
    if hit.rowcount != 1:
        return False
    connection.execute(
        update(Step).where(Step.run_id == run_id, Step.state == "running").values(state="failed", ended_at=now)
    )
    add_daily(connection, run.subject, run.started_at, state, now, {})
    add_daily_usage(connection, run_id)
    if state is RunState.ABANDONED and unless != (run.kind, run.parameters):
        orderly = kind == "WorkerStopped"
        wait = 0.0 if run.attempt == 1 or orderly else None
        try_again(connection, run, now=now, retry_seconds=retry_seconds, wait=wait, counts=not orderly)
    return True


def try_again(
    connection: Connection,
    run: Row[Any],
    *,
    now: datetime,
    retry_seconds: Sequence[float],
    wait: float | None = None,
    at_least: float | None = None,
    counts: bool = True,
) -> datetime | None:
    """Queue the next attempt of a run that ended badly; None where it had its attempts or is asked for already.

    It waits as ``retry_seconds`` says, spread by a quarter so that runs that fell together do not rise together;
    ``at_least`` is what the remote asked for.
    """
    if counts and run.attempt > len(retry_seconds):
        return None
    others = connection.execute(
        select(Run.parameters).where(
            Run.state == RunState.QUEUED, Run.subject == run.subject, Run.kind == run.kind, Run.id != run.id
        )
    ).scalars()
    if any((other or {}) == (run.parameters or {}) for other in others):
        return None
    if wait is None:
        wait = retry_seconds[run.attempt - 1] * random.uniform(0.75, 1.25)  # noqa: S311 (no secret, only spread)
    seconds = max(wait, at_least or 0.0)
    not_before = now + timedelta(seconds=seconds) if seconds else None
    connection.execute(
        insert(Run).values(
            subject=run.subject,
            source=run.source,
            kind=run.kind,
            state=RunState.QUEUED,
            origin="retry",
            requested_by=run.requested_by,
            requested_at=now,
            not_before=not_before,
            priority=run.priority,
            attempt=run.attempt + int(counts),
            parameters=run.parameters,
            backfill_id=run.backfill_id,
            retry_of=run.id,
        )
    )
    return not_before or now


def fail_queued(ledger: Ledger, *, run_id: int, now: datetime, kind: str, message: str, hint: str) -> None:
    """End a run that could not even be claimed, so that nobody waits for it."""
    with ledger.write() as connection:
        connection.execute(
            update(Run)
            .where(Run.id == run_id, Run.state == RunState.QUEUED)
            .values(
                state=RunState.FAILED,
                ended_at=now,
                headline=message,
                error_kind=kind,
                error_origin="us",
                error_message=message,
                error_hint=hint,
            )
        )
