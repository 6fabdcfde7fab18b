"""Takes queued runs one by one and executes each in a child process; puts right what dead processes left.

A child is killable, gives its memory back, and leaves the console's Python thread free: a page beside a
thread that parses takes two hundred times as long.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

from sqlalchemy import select, update

from novade_core.ledger import leases
from novade_core.ledger.models import Lease, Run, RunState, WorkerRow
from novade_core.ledger.writer import abandon, queued
from novade_core.settings import PROJECT
from novade_core.wiring import Services, utc_now

_log = logging.getLogger(__name__)

#: Exit code of a child whose stream another worker holds; its run stays queued.
HELD = 75

#: A run whose worker vanished is queued again this often.
MAX_ATTEMPTS = 4


class Supervisor:
    """One queue, one child at a time. ``tick()`` never blocks on a run."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.environment.worker
        self._child: subprocess.Popen[bytes] | None = None
        self._run_id: int | None = None
        self._cancel_seen: float | None = None
        self._watcher = leases.Watcher(self._settings.lease_seconds)

    def tick(self) -> None:
        """Look after the child, put right what dead workers left, start the next run."""
        self._look_after_child()
        self._reap()
        if self._child is None:
            self._start_next()

    def stop(self) -> None:
        """End the child: SIGTERM, then SIGKILL; what it had landed is kept and its run is queued again."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(timeout=self._settings.stop_seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
        self._reap()

    def _start_next(self) -> None:
        with self._services.ledger.read() as connection:
            waiting = queued(connection, utc_now())
            held = set(connection.execute(select(Lease.stream).where(Lease.holder.is_not(None))).scalars())
        free = next((run for run in waiting if run.subject not in held), None)
        if free is None:
            return
        command = [sys.executable, "-m", "jobs", "execute", str(free.id)]
        command += ["--environment", self._services.environment.name]
        environ = {
            **os.environ,
            "NOVADE_CONFIG": str(self._services.environment.file),
            "NOVADE_HOME": str(self._services.environment.home),
        }
        self._child = subprocess.Popen(
            command, cwd=PROJECT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._run_id = free.id
        self._cancel_seen = None

    def _look_after_child(self) -> None:
        if self._child is None or self._run_id is None:
            return
        if self._child.poll() is not None:
            if self._child.returncode not in (0, HELD):
                self._fail_if_never_claimed(self._run_id, self._child.returncode)
            self._child = None
            return
        with self._services.ledger.read() as connection:
            state = connection.execute(select(Run.state).where(Run.id == self._run_id)).scalar()
        if state != RunState.CANCELLING:
            return
        # The child hears of it at its next beat; one that hangs in a call that cannot be interrupted is killed.
        self._cancel_seen = self._cancel_seen or time.monotonic()
        if time.monotonic() - self._cancel_seen > self._settings.stop_seconds:
            self._child.kill()

    def _fail_if_never_claimed(self, run_id: int, code: int) -> None:
        """A child that dies before it claims its run (a broken installation) must not be started for ever."""
        with self._services.ledger.write() as connection:
            connection.execute(
                update(Run)
                .where(Run.id == run_id, Run.state == RunState.QUEUED)
                .values(
                    state=RunState.FAILED,
                    ended_at=utc_now(),
                    headline=f"The process for this run could not start (exit code {code}).",
                    error_kind="WorkerBroken",
                    error_origin="us",
                    error_message=f"The process for this run could not start (exit code {code}).",
                    error_hint=f"Try `python -m jobs execute {run_id}` in a terminal; it says why.",
                )
            )

    def _reap(self) -> None:
        """Runs whose worker is dead become abandoned (or cancelled) and queue their retry."""
        with self._services.ledger.read() as connection:
            running = connection.execute(
                select(Run.id, Run.subject, Run.worker, Lease.holder, Lease.beat)
                .outerjoin(Lease, (Lease.stream == Run.subject) & (Lease.run_id == Run.id))
                .where(Run.state.in_([RunState.RUNNING, RunState.CANCELLING]))
            ).all()
        for run in running:
            holder = run.holder or run.worker
            if holder is not None and self._watcher.is_expired(run.subject, holder, run.beat or 0):
                self._abandon(run.id, run.subject, holder)

    def _abandon(self, run_id: int, stream: str, holder: str) -> None:
        at = utc_now()
        with self._services.ledger.write() as connection:
            row = connection.execute(select(Run.__table__).where(Run.id == run_id)).one()
            connection.execute(
                update(Lease)
                .where(Lease.stream == stream, Lease.holder == holder, Lease.run_id == run_id)
                .values(holder=None, run_id=None, beat=Lease.beat + 1)
            )
            if not abandon(connection, run_id=run_id, now=at):
                return
            if row.state == RunState.CANCELLING:
                connection.execute(
                    update(Run)
                    .where(Run.id == run_id)
                    .values(state=RunState.CANCELLED, headline="The run was cancelled.", error_message=None)
                )
                return
            if row.attempt >= MAX_ATTEMPTS:
                return
            connection.execute(
                Run.__table__.insert().values(  # type: ignore[attr-defined]
                    subject=row.subject,
                    source=row.source,
                    kind=row.kind,
                    state=RunState.QUEUED,
                    origin="retry",
                    requested_by=row.requested_by,
                    requested_at=at,
                    not_before=at,
                    priority=row.priority,
                    attempt=row.attempt + 1,
                    parameters=row.parameters,
                )
            )

    def beat(self) -> None:
        """Show that this worker lives."""
        with self._services.ledger.write() as connection:
            connection.execute(
                update(WorkerRow).where(WorkerRow.id == leases.own_name()).values(beat=WorkerRow.beat + 1)
            )


def is_alive(services: Services) -> bool:
    """Whether some worker takes runs: one on this host whose process lives, or one elsewhere that has not stopped."""
    with services.ledger.read() as connection:
        names = connection.execute(select(WorkerRow.id).where(WorkerRow.stopped_at.is_(None))).scalars().all()
    return any(not leases.is_dead_here(name) for name in names)
