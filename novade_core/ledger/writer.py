"""What sync and jobs write about a run: steps, log, progress, counts, end.

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
from sqlalchemy.dialects import postgresql, sqlite

from novade_core.errors import LeaseLost, NovadeError
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import (
    ENDED,
    Artifact,
    Comparison,
    ComparisonState,
    FindingRow,
    LogEntry,
    Run,
    RunState,
    SourceStatus,
    Step,
    Usage,
)
from novade_core.ledger.queue import Claimed, try_again
from novade_core.ledger.totals import add_daily, add_daily_usage, set_stream_status


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A comparison of one window, ready to be stored."""

    window: str
    source: int | None
    warehouse: int | None
    state: ComparisonState
    sentence: str


class RunWriter:
    """Writes about one claimed run."""

    def __init__(self, ledger: Ledger, run: Claimed, retry_seconds: Sequence[float] = ()) -> None:
        self.ledger = ledger
        self.run = run
        self._retry_seconds = retry_seconds  #: where it fails with what may pass; none: whoever asked is here to see

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

    def progress(self, value: Mapping[str, Any], slots: Mapping[str, int] | None = None) -> bool:
        """Publish progress, keep lease (LeaseLost) and slots alive, and answer whether a cancel was asked for."""
        with self.ledger.write() as connection:
            leases.beat(connection, stream=self.run.subject, fence=self.run.fence)
            leases.keep(connection, slots or {})
            state = connection.execute(
                update(Run).where(Run.id == self.run.id).values(progress=dict(value)).returning(Run.state)
            ).scalar_one()
            return bool(state == RunState.CANCELLING)

    def context(self, value: Mapping[str, Any], *, plan_id: int | None = None) -> None:
        """Keep what the run works with: configuration, fingerprint of the credentials, facts about the source, plan."""
        with self._holding() as connection:
            connection.execute(update(Run).where(Run.id == self.run.id).values(context=dict(value), plan_id=plan_id))

    def source_status(
        self, now: datetime, source: str, *, used: int | None, allowed: int | None, facts: Mapping[str, Any]
    ) -> None:
        """Keep what was learnt about a source: its daily calls, and what it says of itself."""
        values = {"at": now, "calls_used": used, "calls_allowed": allowed, "facts": dict(facts)}
        with self.ledger.write() as connection:
            into = sqlite.insert if self.ledger.is_sqlite else postgresql.insert
            statement = into(SourceStatus).values(source=source, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=values))

    def usage(self, step: str, meters: Mapping[str, int]) -> None:
        """Record what a step used; zero quantities are left out. After the run's end it counts into its day, too."""
        used = {meter: quantity for meter, quantity in meters.items() if quantity}
        rows = [{"run_id": self.run.id, "step": step, "meter": m, "quantity": q} for m, q in used.items()]
        if rows:
            with self.ledger.write() as connection:
                leases.lock(connection, self.run.subject)
                connection.execute(insert(Usage), rows)
                add_daily_usage(connection, self.run.id, meters=used)

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
        set_stream_status(connection, self.run.subject, before.source, self.run.id, state, now, status or {})
        add_daily(connection, self.run.subject, before.started_at, state, now, values)
        add_daily_usage(connection, self.run.id)
        leases.release(connection, stream=self.run.subject, fence=self.run.fence)

    def fail(self, now: datetime, error: NovadeError, values: Mapping[str, Any]) -> None:
        """End the run as failed (or cancelled) with the error's sentence, hint, class and origin.

        What may pass is asked for again, unless the run's end was asked for. Nothing happens to a run that was
        declared abandoned meanwhile.
        """
        with suppress(LeaseLost), self.ledger.write() as connection:
            leases.lock(connection, self.run.subject)
            before = connection.execute(select(Run.state).where(Run.id == self.run.id)).scalar_one()
            wanted = error.kind == "RunCancelled" or before == RunState.CANCELLING
            state = RunState.CANCELLED if wanted else RunState.FAILED
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
            if state is RunState.FAILED and error.retryable and self._retry_seconds:
                self._ask_again(connection, now, getattr(error, "retry_after", None))

    def _ask_again(self, connection: Connection, now: datetime, at_least: float | None) -> None:
        run = connection.execute(select(Run.__table__).where(Run.id == self.run.id)).one()
        again = try_again(connection, run, now=now, retry_seconds=self._retry_seconds, at_least=at_least)
        if again is not None:
            entry = {"level": "info", "message": "It is tried again.", "fields": {"not_before": again.isoformat()}}
            connection.execute(insert(LogEntry).values(run_id=self.run.id, at=now, **entry))
