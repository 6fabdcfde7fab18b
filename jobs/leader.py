"""Scheduling: of all workers on a ledger one leads, books what is due and feeds backfills."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select

from novade_core.errors import LeaseHeld, LeaseLost
from novade_core.ledger import backfills, fires, leases
from novade_core.ledger.fires import SCHEDULER, Rules
from novade_core.ledger.models import Lease
from novade_core.wiring import Services, utc_now

_log = logging.getLogger(__name__)

#: Fires that asked for nothing are kept for so long.
_KEPT = timedelta(days=30)
_TIDY_SECONDS = 3600.0


class _ClockJumped(Exception):
    pass


class Leader:
    """This worker's part in scheduling. ``tick()`` leads where nobody else does, and then books.

    A clock that jumps against the machine's own count of seconds is not trusted: its worker steps down for two
    lease lengths, so that another one takes over. Where there is none, the new time is taken for good.
    """

    def __init__(self, services: Services, watcher: leases.Watcher, *, clock: Callable[[], datetime] = utc_now) -> None:
        """``watcher``: judges the leader; whoever gives it notes our writes in it at each beat."""
        self._ledger = services.ledger
        self._settings = services.environment.worker
        self._clock = clock
        self._rules = Rules(
            streams=services.environment.streams,
            on_time_seconds=self._settings.on_time_seconds,
            booked_by=leases.own_name(),
        )
        self._watcher = watcher
        self._fence: int | None = None
        self._beat_at = 0.0
        self._tidied = time.monotonic()
        self._steady = (self._clock(), time.monotonic())
        self._aside_until = 0.0

    @property
    def leads(self) -> bool:
        """Whether this worker schedules, as far as it knows."""
        return self._fence is not None

    def tick(self) -> tuple[int, datetime | None]:
        """Book what is due; answers the runs asked for and when the next fire is due (None: not ours to know)."""
        try:
            self._now()
            if time.monotonic() < self._aside_until or not (self.leads or self._take()):
                return 0, None
            booked = fires.book(self._ledger, fence=self._fence, clock=self._now, rules=self._rules)
            self._beat(moved=booked.fires > 0)
            fed = backfills.feed(self._ledger, now=self._clock())
        except LeaseLost:
            _log.warning("another worker schedules now")
            self._fence = None
            return 0, None
        except _ClockJumped as jump:
            _log.warning("%s; this worker does not schedule for a while", jump)
            self._aside_until = time.monotonic() + 2 * self._settings.lease_seconds
            self.step_down()
            return 0, None
        if time.monotonic() - self._tidied > _TIDY_SECONDS:
            self._tidied = time.monotonic()
            fires.forget_fires(self._ledger, before=self._clock() - _KEPT)
        return booked.runs + fed, booked.next_due

    def step_down(self) -> None:
        """Let another worker lead."""
        if self._fence is not None:
            with self._ledger.write() as connection:
                leases.release(connection, stream=SCHEDULER, fence=self._fence)
            self._fence = None

    def _now(self) -> datetime:
        """The clock, each time held against the machine's count of seconds since the last look."""
        now, count = self._clock(), time.monotonic()
        jumped = (now - self._steady[0]).total_seconds() - (count - self._steady[1])
        self._steady = (now, count)
        if abs(jumped) > self._settings.clock_step_seconds:
            raise _ClockJumped(f"the clock jumped by {jumped:.0f} s")
        return now

    def _take(self) -> bool:
        with self._ledger.read() as connection:
            row = connection.execute(select(Lease.holder, Lease.beat).where(Lease.stream == SCHEDULER)).first()
        if row is not None and row.holder is not None and not self._watcher.is_expired(SCHEDULER, row.holder, row.beat):
            return False
        try:
            with self._ledger.write() as connection:
                self._watcher.note_write()
                taken = leases.take(
                    connection,
                    stream=SCHEDULER,
                    holder=leases.own_name(),
                    run_id=None,
                    now=self._clock(),
                    watcher=self._watcher,
                )
        except LeaseHeld:
            return False
        self._fence, self._beat_at = taken.fence, time.monotonic()
        return True

    def _beat(self, *, moved: bool) -> None:
        """Booking proves the lease and keeps it alive; where nothing was due, this does."""
        if not moved and time.monotonic() - self._beat_at >= self._settings.beat_seconds / 2:
            with self._ledger.write() as connection:
                leases.beat(connection, stream=SCHEDULER, fence=self._fence or 0)
            moved = True
        if moved:
            self._beat_at = time.monotonic()
