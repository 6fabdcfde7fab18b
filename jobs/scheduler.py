"""The clock: APScheduler wakes leader and supervisor; the console's start hook and ``python -m jobs worker`` start it.

APScheduler keeps its jobs in memory and decides nothing: what runs is derived from the ledger.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import delete, insert, select, update

from jobs import sandbox
from jobs.leader import Leader
from jobs.supervisor import Supervisor
from novade_core.errors import NovadeError
from novade_core.ledger import leases, prices, schedules
from novade_core.ledger.models import Run, RunState, StreamStatus, WorkerRow
from novade_core.ledger.requests import ask_for_run
from novade_core.settings import Environment, load_settings
from novade_core.streams import RunKind
from novade_core.sync.load_window import LoadWindows
from novade_core.wiring import Services, build_services, utc_now

_log = logging.getLogger(__name__)

#: Fires that are due within this are booked in one transaction.
_TOGETHER_SECONDS = 0.1

# It warns when a tick takes longer than the interval, which the first one does while the sandbox starts.
logging.getLogger("apscheduler").setLevel(logging.ERROR)


class Worker:
    """A started worker. ``stop()`` ends it with running work finished or resumable."""

    def __init__(self, environment: Environment, kind: str, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._environment = environment
        self._services: Services = build_services(environment)
        self._clock = clock
        self._supervisor = Supervisor(self._services, clock=clock, wake=self._wake)
        self._leader = Leader(self._services, self._supervisor.watcher, clock=clock)
        self._kind = kind
        self._lock = threading.Lock()
        self._stopped = False
        self._sandbox_ready = environment.sandbox is None
        self._windows: LoadWindows | None = None
        self._pool_services: Services | None = None
        self._windows_lock = threading.Lock()
        self._scheduler = BackgroundScheduler(timezone="UTC")

    def start(self) -> None:
        """Register, seed schedules, ask for the first syncs, and begin to tick; returns at once."""
        self._register()
        schedules.seed(self._services.ledger, self._environment.schedules, now=self._clock())
        prices.seed(self._services.ledger, self._environment.prices, now=self._clock())
        if self._environment.first_sync:
            self._ask_for_first_syncs()
        self._every(self._tick, "tick")
        if self._environment.sandbox is not None:
            self._every(self._keep_sandbox, "sandbox")
        if self._environment.pool.kind != "none":
            self._every(self._keep_pool, "pool")
        self._scheduler.start()

    def _every(self, work: Callable[[], None], name: str) -> None:
        """At each poll, however late: a tick that comes late has the more to do."""
        self._scheduler.add_job(
            work,
            "interval",
            seconds=self._environment.worker.poll_seconds,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
            id=name,
            next_run_time=utc_now(),
        )

    def stop(self) -> None:
        """Stop ticking, end the children, say goodbye in the ledger. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self._scheduler.shutdown(wait=False)
        with self._lock:
            self._leader.step_down()
            self._supervisor.stop()
        # A call to Azure may be under way; the lease runs out by itself.
        if self._windows_lock.acquire(timeout=_TOGETHER_SECONDS):
            self._forget_pool()
            self._windows_lock.release()
        with self._services.ledger.write() as connection:
            connection.execute(
                update(WorkerRow).where(WorkerRow.id == leases.own_name()).values(stopped_at=self._clock())
            )
        self._services.ledger.close()

    def _keep_sandbox(self) -> None:
        """The stand-ins run as long as we do; starting them holds up no fire."""
        try:
            if not self._sandbox_ready or not sandbox.is_up(self._environment):
                self._sandbox_ready = False
                sandbox.start(self._environment, parent=os.getpid())
                with self._windows_lock:
                    self._forget_pool()
                self._sandbox_ready = True
                self._wake()
        except NovadeError as error:
            _log.error("%s %s", error.message, error.hint)

    def _keep_pool(self) -> None:
        """Resume and pause the pool; Azure takes its time to answer, which holds up no fire."""
        with self._windows_lock:
            if self._stopped or not self._sandbox_ready:
                return
            try:
                if self._windows is None:
                    # Only now, because stand-ins write down where they are and what they ask for when they start.
                    told = load_settings(self._environment.name, file=self._environment.file)
                    self._pool_services = build_services(told)
                    self._windows = self._pool_services.load_windows(self._supervisor.watcher, clock=self._clock)
                if self._windows is None:
                    return
                if (taken := self._windows.tick()) is not None and taken.step == "load":
                    self._wake()
            except NovadeError as error:
                _log.error("%s %s", error.message, error.hint)

    def _forget_pool(self) -> None:
        if self._windows is not None:
            self._windows.stop()
            self._windows = None
        if self._pool_services is not None:
            self._pool_services.ledger.close()
            self._pool_services = None

    def _tick(self) -> None:
        """Fires first, then children and queue; a fault of one is no fault of the other."""
        with self._lock:
            if self._stopped:
                return
            next_due = None
            try:
                _, next_due = self._leader.tick()
            except NovadeError as error:
                _log.error("%s %s", error.message, error.hint)
            try:
                if self._sandbox_ready:
                    self._supervisor.tick()
                else:
                    self._supervisor.beat()
            except NovadeError as error:
                # The next tick tries again; runs stay queued meanwhile and the page says that nothing takes them.
                _log.error("%s %s", error.message, error.hint)
            self._set_alarm(next_due)

    def _alarm(self) -> None:
        """A fire is due, or a child has ended."""
        with self._lock:
            if self._stopped:
                return
            try:
                asked, next_due = self._leader.tick()
                if self._sandbox_ready:
                    self._supervisor.look(more=asked > 0)
            except NovadeError as error:
                _log.error("%s %s", error.message, error.hint)
                return
            self._set_alarm(next_due)

    def _set_alarm(self, due: datetime | None) -> None:
        """Wake for a fire that is due before the next tick; those that come together are booked together."""
        if due is None:
            return
        wait = (due - self._clock()).total_seconds()
        if wait < self._environment.worker.poll_seconds:
            self._wake(max(wait, _TOGETHER_SECONDS))

    def _wake(self, seconds: float = 0.0) -> None:
        if self._stopped:
            return
        # The alarm is on the machine's own time: what is passed is a wait, not an instant of the (settable) clock.
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        try:
            self._scheduler.add_job(
                self._alarm, "date", run_date=at, id="alarm", replace_existing=True, misfire_grace_time=None
            )
        except SchedulerNotRunningError:
            return

    def _register(self) -> None:
        name, now = leases.own_name(), self._clock()
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
                    now=self._clock(),
                )


def start_worker(environment: Environment, kind: str = "console") -> Worker:
    """Start working the environment's queue in this process; call ``stop()`` on what comes back."""
    worker = Worker(environment, kind)
    worker.start()
    return worker
