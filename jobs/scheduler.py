"""The clock: APScheduler wakes the supervisor; the console's start hook and ``python -m jobs worker`` start it.

APScheduler keeps its jobs in memory and decides nothing: what runs is derived from the ledger.
"""

from __future__ import annotations

import logging
import os
import threading

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import delete, insert, select, update

from jobs import sandbox
from jobs.supervisor import Supervisor
from novade_core.errors import NovadeError
from novade_core.ledger import leases
from novade_core.ledger.models import Run, RunState, StreamStatus, WorkerRow
from novade_core.ledger.requests import ask_for_run
from novade_core.settings import Environment
from novade_core.streams import RunKind
from novade_core.wiring import Services, build_services, utc_now

_log = logging.getLogger(__name__)

# It warns when a tick takes longer than the interval, which the first one does while the sandbox starts.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Worker:
    """A started worker. ``stop()`` ends it with running work finished or resumable."""

    def __init__(self, environment: Environment, kind: str) -> None:
        self._environment = environment
        self._services: Services = build_services(environment)
        self._supervisor = Supervisor(self._services)
        self._kind = kind
        self._lock = threading.Lock()
        self._stopped = False
        self._sandbox_ready = environment.sandbox is None
        self._scheduler = BackgroundScheduler(timezone="UTC")

    def start(self) -> None:
        """Register, ask for the first syncs, and begin to tick; returns at once."""
        self._register()
        if self._environment.first_sync:
            self._ask_for_first_syncs()
        self._scheduler.add_job(
            self._tick,
            "interval",
            seconds=self._environment.worker.poll_seconds,
            max_instances=1,
            coalesce=True,
            id="tick",
            next_run_time=utc_now(),
        )
        self._scheduler.start()

    def stop(self) -> None:
        """Stop ticking, end the child, say goodbye in the ledger. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self._scheduler.shutdown(wait=False)
        with self._lock:
            self._supervisor.stop()
        with self._services.ledger.write() as connection:
            connection.execute(update(WorkerRow).where(WorkerRow.id == leases.own_name()).values(stopped_at=utc_now()))
        self._services.ledger.close()

    def _tick(self) -> None:
        with self._lock:
            if self._stopped:
                return
            try:
                if not self._sandbox_ready:
                    sandbox.start(self._environment, parent=os.getpid())
                    self._sandbox_ready = True
                self._supervisor.tick()
            except NovadeError as error:
                # The next tick tries again; runs stay queued meanwhile and the page says that nothing takes them.
                _log.error("%s %s", error.message, error.hint)
            if self._environment.sandbox is not None and not sandbox.is_up(self._environment):
                self._sandbox_ready = False

    def _register(self) -> None:
        name, now = leases.own_name(), utc_now()
        with self._services.ledger.write() as connection:
            gone = [
                worker
                for worker in connection.execute(select(WorkerRow.id).where(WorkerRow.stopped_at.is_(None))).scalars()
                if leases.is_dead_here(worker)
            ]
            connection.execute(update(WorkerRow).where(WorkerRow.id.in_(gone)).values(stopped_at=now))
            connection.execute(delete(WorkerRow).where(WorkerRow.id == name))
            connection.execute(insert(WorkerRow).values(id=name, kind=self._kind, started_at=now, beat=0))

    def _ask_for_first_syncs(self) -> None:
        """So that no page is empty: each stream that was never loaded and has no run under way."""
        with self._services.ledger.read() as connection:
            loaded = set(
                connection.execute(
                    select(StreamStatus.stream).where(StreamStatus.first_loaded_at.is_not(None))
                ).scalars()
            )
            under_way = set(
                connection.execute(
                    select(Run.subject).where(Run.state.in_([RunState.QUEUED, RunState.RUNNING, RunState.CANCELLING]))
                ).scalars()
            )
        for stream in self._environment.streams:
            if stream.id not in loaded | under_way:
                ask_for_run(
                    self._services.ledger,
                    stream=stream,
                    kind=RunKind.INCREMENTAL,
                    who="novade",
                    origin="start",
                    now=utc_now(),
                )


def start_worker(environment: Environment, kind: str = "console") -> Worker:
    """Start working the environment's queue in this process; call ``stop()`` on what comes back."""
    worker = Worker(environment, kind)
    worker.start()
    return worker
