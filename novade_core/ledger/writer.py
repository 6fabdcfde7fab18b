"""What sync and jobs write about a run: claim, steps, log, progress, counts, end.

Every method is one short transaction. Values that could hold a secret never get here: messages are
constant sentences, details are counts, names and instants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from novade_core.errors import ConfigurationError, LeaseLost, NovadeError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import (
    ENDED,
    Artifact,
    Comparison,
    ComparisonState,
    Daily,
    FindingRow,
    LogEntry,
    Run,
    RunState,
    Step,
    StreamStatus,
    Usage,
)
from novade_core.streams import RunKind


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


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A comparison of one window, ready to be stored."""

    window: str
    source: int | None
    warehouse: int | None
    state: ComparisonState
    sentence: str


def claim(
    ledger: Ledger, *, run_id: int, holder: str, now: datetime, watcher: leases.Watcher, code_version: str
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
            abandon(connection, run_id=taken.from_run, now=now, unless=same)
        return Claimed(
            id=run_id,
            subject=run.subject,
            kind=RunKind(run.kind),
            attempt=run.attempt,
            parameters=run.parameters,
            fence=taken.fence,
            requested_by=run.requested_by,
        )


#: A run whose worker vanished is asked for again this often.
MAX_ATTEMPTS = 4


def abandon(
    connection: Connection, *, run_id: int, now: datetime, unless: tuple[str, Mapping[str, Any]] | None = None
) -> bool:
    """End a run whose worker vanished, and ask for it again; False where it had ended properly.

    Where its end had been asked for, it is cancelled and that is all. ``unless`` is kind and parameters of a run
    that takes its place anyway.
    """
    subject = connection.execute(select(Run.subject).where(Run.id == run_id)).scalar()
    if subject is None:
        return False
    leases.lock(connection, subject)
    run = connection.execute(select(Run.__table__).where(Run.id == run_id)).one()
    state = RunState.CANCELLED if run.state == RunState.CANCELLING else RunState.ABANDONED
    end = {"headline": "The run was cancelled."}
    if state is RunState.ABANDONED:
        end = {
            "headline": "Its worker vanished; what had landed is kept and the next run goes on from there.",
            "error_kind": "WorkerVanished",
            "error_origin": "us",
            "error_message": "The process that worked on this run ended without a word.",
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
    _add_daily(connection, run.subject, run.started_at, state, now, {})
    if state is RunState.ABANDONED and run.attempt < MAX_ATTEMPTS and unless != (run.kind, run.parameters):
        connection.execute(
            insert(Run).values(
                subject=run.subject,
                source=run.source,
                kind=run.kind,
                state=RunState.QUEUED,
                origin="retry",
                requested_by=run.requested_by,
                requested_at=now,
                priority=run.priority,
                attempt=run.attempt + 1,
                parameters=run.parameters,
            )
        )
    return True


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


class RunWriter:
    """Writes about one claimed run."""

    def __init__(self, ledger: Ledger, run: Claimed) -> None:
        self.ledger = ledger
        self.run = run

    @contextmanager
    def _holding(self) -> Iterator[Connection]:
        """A writing transaction that proves the lease first: a woken worker stops here (LeaseLost)."""
        with self.ledger.write() as connection:
            leases.require(connection, stream=self.run.subject, fence=self.run.fence)
            yield connection

    def start_step(self, name: str, now: datetime) -> int:
        """Open a step's row and answer its id."""
        with self._holding() as connection:
            return connection.execute(
                insert(Step)
                .values(run_id=self.run.id, name=name, state="running", started_at=now, busy_ms=0)
                .returning(Step.id)
            ).scalar_one()

    def end_step(
        self,
        step_id: int,
        now: datetime,
        *,
        state: str,
        busy_seconds: float,
        rows: int | None = None,
        size: int | None = None,
        message: str | None = None,
    ) -> None:
        """Close a step's row with its figures."""
        with self.ledger.write() as connection:
            connection.execute(
                update(Step)
                .where(Step.id == step_id)
                .values(
                    state=state,
                    ended_at=now,
                    busy_ms=round(busy_seconds * 1000),
                    rows=rows,
                    bytes=size,
                    message=message,
                )
            )

    def log(self, now: datetime, level: str, message: str, **fields: Any) -> None:
        """One line for the run's log: a constant sentence, details as fields."""
        with self.ledger.write() as connection:
            connection.execute(
                insert(LogEntry).values(run_id=self.run.id, at=now, level=level, message=message, fields=fields)
            )

    def progress(self, value: Mapping[str, Any]) -> bool:
        """Publish progress, keep the lease alive (LeaseLost), and answer whether a cancel was asked for."""
        with self.ledger.write() as connection:
            leases.beat(connection, stream=self.run.subject, fence=self.run.fence)
            state = connection.execute(
                update(Run).where(Run.id == self.run.id).values(progress=dict(value)).returning(Run.state)
            ).scalar_one()
            return bool(state == RunState.CANCELLING)

    def usage(self, step: str, meters: Mapping[str, int]) -> None:
        """Record what a step used; zero quantities are left out."""
        rows = [
            {"run_id": self.run.id, "step": step, "meter": meter, "quantity": quantity}
            for meter, quantity in meters.items()
            if quantity
        ]
        if rows:
            with self.ledger.write() as connection:
                connection.execute(insert(Usage), rows)

    def artifact(self, now: datetime, kind: str, content: Sequence[Mapping[str, Any]]) -> None:
        """Keep bounded rows for the run's page."""
        with self._holding() as connection:
            connection.execute(
                insert(Artifact).values(
                    run_id=self.run.id,
                    stream=self.run.subject,
                    kind=kind,
                    at=now,
                    content=[dict(c) for c in content],
                )
            )

    def comparisons(self, now: datetime, counts: Sequence[Counts]) -> None:
        """Store what comparing source and warehouse said, window by window."""
        rows = [
            {
                "run_id": self.run.id,
                "stream": self.run.subject,
                "at": now,
                "window": c.window,
                "source_count": c.source,
                "warehouse_count": c.warehouse,
                "state": c.state.value,
                "sentence": c.sentence,
            }
            for c in counts
        ]
        if rows:
            with self._holding() as connection:
                connection.execute(insert(Comparison), rows)

    def finding(
        self, now: datetime, *, kind: str, severity: str, summary: str, evidence: Mapping[str, Any], next_step: str
    ) -> None:
        """Open a finding, or renew the open one of the same subject and kind."""
        with self._holding() as connection:
            values = {
                "severity": severity,
                "summary": summary,
                "evidence": dict(evidence),
                "next_step": next_step,
                "run_id": self.run.id,
            }
            hit = connection.execute(
                update(FindingRow)
                .where(FindingRow.subject == self.run.subject, FindingRow.kind == kind, FindingRow.closed_at.is_(None))
                .values(**values)
            )
            if hit.rowcount == 0:
                connection.execute(
                    insert(FindingRow).values(subject=self.run.subject, kind=kind, opened_at=now, **values)
                )

    def open_finding(self, kind: str) -> Mapping[str, Any] | None:
        """The evidence of the open finding of this kind, if there is one."""
        with self.ledger.read() as connection:
            return connection.execute(
                select(FindingRow.evidence).where(
                    FindingRow.subject == self.run.subject, FindingRow.kind == kind, FindingRow.closed_at.is_(None)
                )
            ).scalar()

    def close_finding(self, now: datetime, kind: str) -> None:
        """Close the open finding of this kind, if there is one."""
        with self._holding() as connection:
            connection.execute(
                update(FindingRow)
                .where(FindingRow.subject == self.run.subject, FindingRow.kind == kind, FindingRow.closed_at.is_(None))
                .values(closed_at=now)
            )

    def finish(
        self,
        connection: Connection,
        now: datetime,
        *,
        state: RunState,
        headline: str,
        values: Mapping[str, Any],
        status: Mapping[str, Any] | None = None,
    ) -> None:
        """End the run inside the caller's transaction: row, stream status, daily totals, lease.

        ``values`` are columns of the run; ``status`` columns of the stream's status that became true.
        Raises LeaseLost where the run was declared abandoned meanwhile; its successor speaks for the stream.
        """
        leases.lock(connection, self.run.subject)
        before = connection.execute(
            update(Run)
            .where(Run.id == self.run.id, Run.state.not_in(ENDED))
            .values(state=state, ended_at=now, headline=headline, progress=None, **values)
            .returning(Run.started_at, Run.source)
        ).first()
        if before is None:
            raise LeaseLost(f"Run {self.run.id} was declared abandoned and another one took its place.")
        _stream_status(connection, self.run.subject, before.source, self.run.id, state, now, status or {})
        _add_daily(connection, self.run.subject, before.started_at, state, now, values)
        leases.release(connection, stream=self.run.subject, fence=self.run.fence)

    def fail(self, now: datetime, error: NovadeError, values: Mapping[str, Any]) -> None:
        """End the run as failed (or cancelled) with the error's sentence, hint, class and origin.

        Nothing happens to a run that was declared abandoned meanwhile.
        """
        state = RunState.CANCELLED if error.kind == "RunCancelled" else RunState.FAILED
        with suppress(LeaseLost), self.ledger.write() as connection:
            leases.lock(connection, self.run.subject)
            connection.execute(
                update(Step)
                .where(Step.run_id == self.run.id, Step.state == "running")
                .values(state="failed", ended_at=now, message=error.message)
            )
            connection.execute(
                insert(LogEntry).values(
                    run_id=self.run.id,
                    at=now,
                    level="error",
                    message=error.message,
                    fields={"class": error.kind, "origin": error.origin_of_fault, "hint": error.hint},
                )
            )
            self.finish(
                connection,
                now,
                state=state,
                headline=error.message,
                values={
                    **values,
                    "error_kind": error.kind,
                    "error_origin": error.origin_of_fault,
                    "error_message": error.message,
                    "error_hint": error.hint,
                },
            )


def _stream_status(
    connection: Connection,
    stream: str,
    source: str,
    run_id: int,
    state: RunState,
    now: datetime,
    status: Mapping[str, Any],
) -> None:
    values = {**status, "last_run_id": run_id, "last_run_state": state.value}
    hit = connection.execute(update(StreamStatus).where(StreamStatus.stream == stream).values(**values))
    if hit.rowcount == 0:
        first = {"first_loaded_at": now} if "last_load_at" in status else {}
        connection.execute(insert(StreamStatus).values(stream=stream, source=source, paused=False, **first, **values))
    elif "last_load_at" in status:
        connection.execute(
            update(StreamStatus)
            .where(StreamStatus.stream == stream, StreamStatus.first_loaded_at.is_(None))
            .values(first_loaded_at=now)
        )


def _add_daily(
    connection: Connection,
    stream: str,
    started_at: datetime | None,
    state: RunState,
    now: datetime,
    values: Mapping[str, Any],
) -> None:
    add = {name: values.get(name) or 0 for name in ("read", "loaded", "rejected", "bytes_in", "api_calls")}
    add["runs"] = 1
    add["failed"] = int(state in (RunState.FAILED, RunState.ABANDONED))
    add["busy_ms"] = round((now - started_at).total_seconds() * 1000) if started_at else 0
    day = now.date()
    changes = {name: getattr(Daily, name) + amount for name, amount in add.items()}
    hit = connection.execute(update(Daily).where(Daily.day == day, Daily.stream == stream).values(**changes))
    if hit.rowcount == 0:
        connection.execute(insert(Daily).values(day=day, stream=stream, **add))


def queued(connection: Connection, now: datetime) -> Sequence[Any]:
    """Runs that may start now, the most urgent first."""
    return connection.execute(
        select(Run.id, Run.subject, Run.kind, Run.attempt)
        .where(Run.state == RunState.QUEUED, (Run.not_before.is_(None)) | (Run.not_before <= now))
        .order_by(Run.priority, Run.id)
        .limit(50)
    ).all()
