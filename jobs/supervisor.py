"""Takes queued runs and executes each in a child process; ends what hangs, puts right what dead processes left.

A child is killable, gives its memory back, and leaves the console's Python thread free: a page beside a
thread that parses takes two hundred times as long.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from jobs.execute import ARRIVED
from jobs.stalls import Stalls
from novade_core.ledger import leases
from novade_core.ledger.models import ENDED, Lease, Run, RunState, WorkerRow
from novade_core.ledger.queue import Ending, abandon, fail_queued, queued, reserve, unreserve
from novade_core.settings import PROJECT
from novade_core.wiring import Services, utc_now

_log = logging.getLogger(__name__)

#: Exit code of a child whose stream another worker holds; its run stays queued.
HELD = 75
#: A child that is killed so often before it claims its run is not started again.
_KILLED_AT_MOST = 3
#: A child renews its stream's view after its run, on a serverless pool that may have to wake up first.
_VIEW_SECONDS = 300.0


@dataclass
class Child:
    """A process that executes a run."""

    process: subprocess.Popen[bytes]
    run_id: int
    subject: str
    source: str
    idle_since: float | None = None  #: when we first saw that its run had ended, monotonic


class Supervisor:
    """One worker's children. ``tick()`` never blocks on a run."""

    def __init__(
        self, services: Services, *, clock: Callable[[], datetime] = utc_now, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._services = services
        self._settings = services.environment.worker
        self._clock = clock
        self._wake = wake  #: called from another thread when a child has ended
        self._children: list[Child] = []
        self.watcher = leases.Watcher(self._settings.lease_seconds)  #: its writes are noted at each beat
        self._stalls = Stalls(services)
        self._unclaimed: Counter[int] = Counter()  #: run -> children that died before they claimed it
        self._cancels: dict[int, float] = {}  #: run -> when we first saw that its end was asked for, monotonic

    def tick(self) -> None:
        """Look after the children, put right what dead workers left, start what may start."""
        self._look_after_children()
        self.beat()
        self._reap()
        self.start_next()

    def look(self, *, more: bool) -> None:
        """Between ticks: see whether a child has ended, and start what may start now."""
        before = len(self._children)
        self._look_after_children()
        if more or len(self._children) < before:
            self._reap()
            self.start_next()

    def stop(self) -> None:
        """End the children: SIGTERM, then SIGKILL; what they had landed is kept and their runs are queued again."""
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_seconds
        for child in self._children:
            try:
                child.process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        stopped = {child.run_id for child in self._children}
        self._children = []
        self._reap(stopped)

    # Children

    def start_next(self) -> None:
        """Start queued runs, the most urgent first, as far as this worker and their sources have room."""
        while len(self._children) < self._settings.max_runs:
            run = self._next()
            if run is None:
                return
            if reserve(self._services.ledger, run_id=run.id, worker=leases.own_name()):
                self._start(run)

    def _next(self) -> Any:
        environment = self._services.environment
        with self._services.ledger.read() as connection:
            held = connection.execute(
                select(Lease.stream).where(Lease.stream.like("slot:%"), Lease.holder.is_not(None))
            ).scalars()
            reading = Counter(name.split(":")[1] for name in held)
            # A child that has only just started holds no slot yet.
            claimed = set(
                connection.execute(
                    select(Run.id).where(Run.id.in_([c.run_id for c in self._children]), Run.state != RunState.QUEUED)
                ).scalars()
            )
            reading.update(child.source for child in self._children if child.run_id not in claimed)
            found = queued(
                connection,
                self._clock(),
                leases.own_name(),
                not_of={source for source, runs in reading.items() if runs >= environment.slots(source)},
                not_on={child.subject for child in self._children},
                limit=1,
            )
        return found[0] if found else None

    def _start(self, run: Any) -> None:
        environment = self._services.environment
        environ = {**os.environ, "NOVADE_CONFIG": str(environment.file), "NOVADE_HOME": str(environment.home)}
        process = subprocess.Popen(
            self.command(run.id), cwd=PROJECT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._children.append(Child(process=process, run_id=run.id, subject=run.subject, source=run.source))
        # The next tick is a second away; the end of a child is known at once.
        threading.Thread(target=self._await, args=(process,), name=f"child of run {run.id}", daemon=True).start()

    def command(self, run_id: int) -> list[str]:
        """What executes a run."""
        name = self._services.environment.name
        return [sys.executable, "-m", "jobs", "execute", str(run_id), "--environment", name]

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._wake()

    def _look_after_children(self) -> None:
        for child in [c for c in self._children if c.process.poll() is not None]:
            self._children.remove(child)
            if child.process.returncode not in (0, HELD):
                self._fail_if_never_claimed(child.run_id, child.process.returncode)
            unreserve(self._services.ledger, run_id=child.run_id, worker=leases.own_name())
        self._end_idle()

    def _end_idle(self) -> None:
        """Kill children that live on after their run has ended: another worker took it over while they hung.

        They may not write any more, but they keep the warehouse's file open and take a place here.
        """
        if not self._children:
            return
        with self._services.ledger.read() as connection:
            found = connection.execute(
                select(Run.id, Run.state).where(Run.id.in_([c.run_id for c in self._children]), Run.state.in_(ENDED))
            ).all()
        ended = {run.id: run.state for run in found}
        publishes = self._services.environment.serverless is not None
        for child in self._children:
            if child.run_id not in ended:
                continue
            child.idle_since = child.idle_since or time.monotonic()
            longest = self._settings.stop_seconds
            if publishes and ended[child.run_id] in ARRIVED:
                longest = max(longest, _VIEW_SECONDS)
            if time.monotonic() - child.idle_since > longest:
                _log.warning("the process of run %s outlived its run and is ended", child.run_id)
                child.process.kill()

    def _fail_if_never_claimed(self, run_id: int, code: int) -> None:
        """A child that dies before it claims its run (a broken installation) must not be started for ever.

        One that somebody killed is started again, a few times.
        """
        self._unclaimed[run_id] += 1
        if code < 0 and self._unclaimed[run_id] < _KILLED_AT_MOST:
            return
        fail_queued(
            self._services.ledger,
            run_id=run_id,
            now=self._clock(),
            kind="WorkerBroken",
            message=f"The process for this run could not start (exit code {code}).",
            hint=f"Try `python -m jobs execute {run_id}` in a terminal; it says why.",
        )

    # What others left

    def _reap(self, stopped: set[int] | None = None) -> None:
        """Runs, slots and workers whose process is dead: runs are ended and asked for again, the rest is freed.

        Only a holder whose beat stood still while we ourselves could write is judged. ``stopped`` are runs whose
        children we ended ourselves.
        """
        with self._services.ledger.read() as connection:
            running = connection.execute(
                select(Run.id, Run.subject, Run.state, Run.worker, Run.progress, Lease.holder, Lease.beat)
                .outerjoin(Lease, (Lease.stream == Run.subject) & (Lease.run_id == Run.id))
                .where(Run.state.in_([RunState.RUNNING, RunState.CANCELLING]))
            ).all()
            others = connection.execute(
                select(Lease.stream, Lease.holder, Lease.beat).where(
                    Lease.holder.is_not(None), Lease.stream.like("slot:%") | Lease.stream.like("novade:%")
                )
            ).all()
            workers = connection.execute(
                select(WorkerRow.id, WorkerRow.beat).where(WorkerRow.stopped_at.is_(None))
            ).all()
        for run in running:
            holder = run.holder or run.worker
            if holder is None:
                continue
            if self.watcher.is_expired(run.subject, holder, run.beat or 0):
                ending: Ending = "WorkerStopped" if run.id in (stopped or ()) else "WorkerVanished"
                self._abandon(run.id, run.subject, run.holder, run.beat, ending)
            elif run.state == RunState.CANCELLING:
                self._press(run.id, holder)
            elif self._stalls.is_stalled(run.id, run.subject, run.progress):
                self._end_stalled(run.id, run.subject, holder)
        self._cancels = {r.id: self._cancels[r.id] for r in running if r.id in self._cancels}
        self._stalls.keep_only({run.id for run in running})
        for lease in others:
            if self.watcher.is_expired(lease.stream, lease.holder, lease.beat):
                with self._services.ledger.write() as connection:
                    leases.take_away(connection, stream=lease.stream, holder=lease.holder, beat=lease.beat)
        for worker in workers:
            if self.watcher.is_expired(f"worker {worker.id}", worker.id, worker.beat):
                with self._services.ledger.write() as connection:
                    connection.execute(
                        update(WorkerRow)
                        .where(WorkerRow.id == worker.id, WorkerRow.beat == worker.beat)
                        .values(stopped_at=self._clock())
                    )

    def _press(self, run_id: int, holder: str) -> None:
        """A run whose end was asked for hears of it at its next beat; one that hangs in a call gets SIGTERM, which
        ends a wait of Python's, and one that cannot be ended like this is killed. Only processes of this machine.
        """
        seen = self._cancels.setdefault(run_id, time.monotonic())
        waited = time.monotonic() - seen
        if waited > self._settings.stop_seconds:
            leases.send_signal(holder, signal.SIGKILL)
        elif waited > min(1.5, self._settings.stop_seconds / 4):
            leases.send_signal(holder, signal.SIGTERM)

    def _end_stalled(self, run_id: int, stream: str, holder: str) -> None:
        """End the process where it is ours to end, and take the stream away from it in any case."""
        _log.error("run %s makes no progress and is ended", run_id)
        leases.send_signal(holder, signal.SIGKILL)
        with self._services.ledger.read() as connection:
            beat = connection.execute(select(Lease.beat).where(Lease.stream == stream, Lease.run_id == run_id)).scalar()
        self._abandon(run_id, stream, holder, beat, "RunStalled")

    def _abandon(
        self, run_id: int, stream: str, holder: str | None, beat: int | None, ending: Ending = "WorkerVanished"
    ) -> None:
        """Free the stream with a higher fence, unless its holder moved after all, and end the run."""
        with self._services.ledger.write() as connection:
            if holder is not None and not leases.take_away(
                connection, stream=stream, holder=holder, beat=beat, run_id=run_id
            ):
                return
            abandon(
                connection, run_id=run_id, now=self._clock(), kind=ending, retry_seconds=self._settings.retry_seconds
            )

    def beat(self) -> None:
        """Show that this worker lives, and learn that the ledger takes writes."""
        with self._services.ledger.write() as connection:
            # Who was taken for dead and woke up is there again.
            connection.execute(
                update(WorkerRow)
                .where(WorkerRow.id == leases.own_name())
                .values(beat=WorkerRow.beat + 1, stopped_at=None)
            )
        if not self.watcher.note_write():
            self._stalls.forget()


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
