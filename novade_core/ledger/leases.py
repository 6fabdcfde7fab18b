"""Who works on a stream: one row per stream, a fence that only rises, beats judged by the watcher's own clock."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from novade_core.errors import LeaseHeld, LeaseLost
from novade_core.ledger.models import Lease


@cache
def _host() -> str:
    """Host name and boot: a process number means something only between two of these."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    suffix = boot.read_text().strip()[:8] if boot.exists() else "0"
    return f"{socket.gethostname()}-{suffix}"


def _start_ticks(pid: int) -> str | None:
    """When a process started, in ticks since boot; None where there is no such process (or only its corpse)."""
    try:
        # The command name (field 2) may hold blanks and parentheses; everything after the last ')' is regular.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def own_name() -> str:
    """This process as a lease holder: ``host-boot:pid:start-ticks``, never used twice."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_start_ticks(pid) or '0'}"


def is_on_this_host(holder: str) -> bool:
    """Whether ``holder`` names a process of this host since its last start."""
    return holder.rpartition(":")[0].rpartition(":")[0] == _host()


def is_dead_here(holder: str) -> bool:
    """Whether ``holder`` was a process of this host that is provably gone. False where it cannot be known."""
    host, _, rest = holder.rpartition(":")[0].rpartition(":")
    ticks = holder.rpartition(":")[2]
    if host != _host():
        return False
    return _start_ticks(int(rest)) != ticks


def send_signal(holder: str, number: int) -> bool:
    """Signal the process that ``holder`` names, if it is one of this host and lives; whether it was sent."""
    if not is_on_this_host(holder) or is_dead_here(holder):
        return False
    pid = int(holder.rpartition(":")[0].rpartition(":")[2])
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@dataclass
class _Seen:
    holder: str
    beat: int
    since: float


class Watcher:
    """Judges foreign leases: dead when the beat stood still for a lease length on our monotonic clock.

    Clocks of machines are never compared. A holder on this host whose process is gone is dead at once.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._seen: dict[str, _Seen] = {}
        self._wrote = time.monotonic()

    def note_write(self) -> bool:
        """Call after each write of our own: who could not write meanwhile cannot tell a silent holder from a
        blocked ledger, so after a gap of half a lease all judging starts over, and the answer is False.
        """
        now = time.monotonic()
        steady = now - self._wrote <= self.lease_seconds / 2
        if not steady:
            self._seen.clear()
        self._wrote = now
        return steady

    def is_expired(self, stream: str, holder: str, beat: int) -> bool:
        """Look at a lease now; call it again later to let time judge."""
        if is_dead_here(holder):
            return True
        now = time.monotonic()
        seen = self._seen.get(stream)
        if seen is None or (seen.holder, seen.beat) != (holder, beat):
            self._seen[stream] = _Seen(holder, beat, now)
            return False
        return now - seen.since >= self.lease_seconds


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A lease that was taken: the new fence, and whose run it was taken from (a dead one), if any."""

    fence: int
    from_run: int | None


def take(
    connection: Connection, *, stream: str, holder: str, run_id: int | None, now: datetime, watcher: Watcher
) -> Taken:
    """Take the stream's lease (or a slot, or the scheduler's) in this transaction, before anything else is written.

    Raises LeaseHeld while its holder lives or cannot be judged yet.
    """
    row = connection.execute(select(Lease).where(Lease.stream == stream)).first()
    if row is None:
        # Another worker may insert it at this moment; the UPDATE below says who was first.
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(insert(Lease).values(stream=stream, fence=0, beat=0).on_conflict_do_nothing())
        free, from_run, seen_beat = Lease.holder.is_(None), None, 0
    elif row.holder is None:
        free, from_run, seen_beat = Lease.holder.is_(None), None, row.beat
    elif watcher.is_expired(stream, row.holder, row.beat):
        free, from_run, seen_beat = Lease.holder == row.holder, row.run_id, row.beat
    else:
        raise LeaseHeld(
            f"{stream} is being worked on by run {row.run_id}.",
            hint=f"Wait for run {row.run_id} to end, or cancel it.",
        )
    hit = connection.execute(
        update(Lease)
        .where(Lease.stream == stream, free, Lease.beat == seen_beat)
        .values(holder=holder, fence=Lease.fence + 1, beat=Lease.beat + 1, run_id=run_id, taken_at=now)
    )
    if hit.rowcount != 1:
        raise LeaseHeld(f"{stream} was taken by another worker at this moment.")
    fence = connection.execute(select(Lease.fence).where(Lease.stream == stream)).scalar_one()
    return Taken(fence=fence, from_run=from_run)


def lock(connection: Connection, stream: str) -> None:
    """Hold the row of the stream's lease, whoever's it is, until the transaction ends.

    Who writes about several rows of a stream does this first, so that nobody waits for each other in a circle.
    SQLite's writers queue at BEGIN already.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(select(Lease.fence).where(Lease.stream == stream).with_for_update())


def beat(connection: Connection, *, stream: str, fence: int) -> None:
    """Move the beat; raises LeaseLost where another worker took over."""
    hit = connection.execute(
        update(Lease).where(Lease.stream == stream, Lease.fence == fence).values(beat=Lease.beat + 1)
    )
    if hit.rowcount != 1:
        raise LeaseLost(f"The lease of {stream} went to another worker (ours was fence {fence}).")


#: Proving the lease and keeping it alive are the same UPDATE: what cannot be written is not held.
require = beat


def keep(connection: Connection, held: Mapping[str, int]) -> None:
    """Move the beats of slots, given as name -> fence. One that was lost is no harm: slots only limit how many work."""
    for name, fence in held.items():
        connection.execute(update(Lease).where(Lease.stream == name, Lease.fence == fence).values(beat=Lease.beat + 1))


def take_away(connection: Connection, *, stream: str, holder: str, beat: int | None, run_id: int | None = None) -> bool:
    """Free a lease with a higher fence, unless its holder moved after all; whether it was freed."""
    wanted = [Lease.stream == stream, Lease.holder == holder, Lease.beat == beat]
    if run_id is not None:
        wanted.append(Lease.run_id == run_id)
    hit = connection.execute(
        update(Lease).where(*wanted).values(holder=None, run_id=None, beat=Lease.beat + 1, fence=Lease.fence + 1)
    )
    return hit.rowcount == 1


def release(connection: Connection, *, stream: str, fence: int) -> None:
    """Give the lease back; nothing happens where it is not ours any more."""
    connection.execute(
        update(Lease)
        .where(Lease.stream == stream, Lease.fence == fence)
        .values(holder=None, beat=Lease.beat + 1, run_id=None)
    )
