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
from novade_core.ledger.writer import abandon, fail_queued, queued
from novade_core.settings import PROJECT
from novade_core.wiring import Services, utc_now

_log = logging.getLogger(__name__)

#: Exit code of a child whose stream another worker holds; its run stays queued.
HELD = 75


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
        self.beat()
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
        fail_queued(
            self._services.ledger,
            run_id=run_id,
            now=utc_now(),
            kind="WorkerBroken",
            message=f"The process for this run could not start (exit code {code}).",
            hint=f"Try `python -m jobs execute {run_id}` in a terminal; it says why.",
        )

    def _reap(self) -> None:
        """Runs and workers whose process is dead: runs are ended and asked for again, workers marked as stopped.

        Only a holder whose beat stood still while we ourselves could write is judged.
        """
        with self._services.ledger.read() as connection:
            running = connection.execute(
                select(Run.id, Run.subject, Run.worker, Lease.holder, Lease.beat)
                .outerjoin(Lease, (Lease.stream == Run.subject) & (Lease.run_id == Run.id))
                .where(Run.state.in_([RunState.RUNNING, RunState.CANCELLING]))
            ).all()
            workers = connection.execute(
                select(WorkerRow.id, WorkerRow.beat).where(WorkerRow.stopped_at.is_(None))
            ).all()
        for run in running:
            holder = run.holder or run.worker
            if holder is not None and self._watcher.is_expired(run.subject, holder, run.beat or 0):
                self._abandon(run.id, run.subject, run.holder, run.beat)
        for worker in workers:
            if self._watcher.is_expired(f"worker {worker.id}", worker.id, worker.beat):
                with self._services.ledger.write() as connection:
                    connection.execute(
                        update(WorkerRow)
                        .where(WorkerRow.id == worker.id, WorkerRow.beat == worker.beat)
                        .values(stopped_at=utc_now())
                    )

    def _abandon(self, run_id: int, stream: str, holder: str | None, beat: int | None) -> None:
        """Free the stream with a higher fence, unless its holder moved after all, and end the run."""
        with self._services.ledger.write() as connection:
            if holder is not None:
                freed = connection.execute(
                    update(Lease)
                    .where(Lease.stream == stream, Lease.holder == holder, Lease.run_id == run_id, Lease.beat == beat)
                    .values(holder=None, run_id=None, beat=Lease.beat + 1, fence=Lease.fence + 1)
                )
                if freed.rowcount != 1:
                    return
            abandon(connection, run_id=run_id, now=utc_now())

    def beat(self) -> None:
        """Show that this worker lives, and learn that the ledger takes writes."""
        with self._services.ledger.write() as connection:
            connection.execute(
                update(WorkerRow).where(WorkerRow.id == leases.own_name()).values(beat=WorkerRow.beat + 1)
            )
        self._watcher.note_write()


def is_alive(services: Services) -> bool:
    """Whether some worker takes runs: one on this host whose process lives, or one elsewhere whose beat moves.

    A worker elsewhere is watched for three of its beats, so a worker that a power cut took does not count.
    """
    rows = _unstopped(services)
    elsewhere = {name: beat for name, beat in rows.items() if not leases.is_on_this_host(name)}
    if any(name not in elsewhere and not leases.is_dead_here(name) for name in rows):
        return True
    deadline = time.monotonic() + 3 * services.environment.worker.beat_seconds
    while elsewhere and time.monotonic() < deadline:
        time.sleep(services.environment.worker.beat_seconds / 4)
        now = _unstopped(services)
        if any(now.get(name, beat) != beat for name, beat in elsewhere.items()):
            return True
    return False


def _unstopped(services: Services) -> dict[str, int]:
    with services.ledger.read() as connection:
        rows = connection.execute(select(WorkerRow.id, WorkerRow.beat).where(WorkerRow.stopped_at.is_(None)))
        return {row.id: row.beat for row in rows}
