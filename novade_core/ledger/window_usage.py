"""What a load window took: pool seconds of the runs that loaded in it and the idle rest, booked once as it closes.

Seconds are counted in DW100c, as prices are: a second of a DW300c is three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from novade_core.ledger import leases, windows
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import LandedFileRow, Lease, LoadWindow, Run, Usage, WindowState
from novade_core.ledger.totals import add_daily_usage, add_pool_usage
from novade_core.ledger.windows import Window

#: Meters: the pool worked for a run, and it was online for us and did not.
WORKED, IDLE = "warehouse.pool_seconds", "warehouse.idle_pool_seconds"
#: Beside whatever else ``work`` holds.
_BOOKED = "booked"
#: Our labels begin with the run, see ``warehouse/synapse_sql.py``.
_LABEL = re.compile(r"nv_(\d{1,18})_")
#: Sizes are called so: https://learn.microsoft.com/azure/synapse-analytics/sql-data-warehouse/memory-concurrency-limits
_SIZE = re.compile(r"DW(\d+)00c?", re.IGNORECASE)
#: Runs that are kept with a window.
_MOST_RUNS = 200


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What came into the warehouse in a time."""

    rows: int = 0
    streams: tuple[str, ...] = ()
    runs: tuple[int, ...] = ()  #: oldest first, at most 200


@dataclass(frozen=True, kw_only=True)
class Booked:
    """What was booked when a window closed, in seconds of DW100c by UTC day."""

    worked: Mapping[date, int]
    idle: Mapping[date, int]
    loaded: Loaded


def factor(size: str | None) -> int | None:
    """How many DW100c a pool of this size is; None where the size is not known."""
    found = _SIZE.fullmatch(size or "")
    return int(found[1]) if found else None


def seconds_by_day(start: datetime, end: datetime) -> dict[date, int]:
    """Whole seconds from one instant to another, by UTC day."""
    low, high = (int(instant.timestamp()) for instant in (start, end))
    found: dict[date, int] = {}
    while low < high:
        day = datetime.fromtimestamp(low, UTC).date()
        midnight = int(datetime.combine(day + timedelta(days=1), time(), UTC).timestamp())
        found[day] = min(midnight, high) - low
        low = min(midnight, high)
    return found


def shares(took: Mapping[int, int], *, most: int, times: int) -> dict[int, int]:
    """Seconds by run out of milliseconds by run, ``times`` as many, together never more than ``most``.

    Statements of several runs overlap, so their sum may be longer than the pool was online; then each gets less.
    """
    total = sum(took.values()) * times
    done = given = 0
    found: dict[int, int] = {}
    for run_id, ms in sorted(took.items()):
        done += ms * times
        # By running sums, so that all of them together are rounded once.
        until = (done + 500) // 1000 if total <= most * 1000 else most * done // total
        found[run_id] = until - given
        given = until
    return found


def spread(amount: int, weights: Mapping[date, int]) -> dict[date, int]:
    """An amount over days by their weights; the parts make the whole."""
    total = sum(weights.values())
    done = given = 0
    found: dict[date, int] = {}
    for day, weight in sorted(weights.items()):
        done += weight
        until = amount * done // total if total else 0
        found[day] = until - given
        given = until
    return {day: part for day, part in found.items() if part}


def online(window: Window, now: datetime) -> tuple[datetime, datetime] | None:
    """From when to when the pool was or is online for us; None where it is somebody else's or was never resumed.

    Azure bills from the resume on; where the pause was asked for it ends there.
    """
    if not window.ours or window.resume_asked_at is None:
        return None
    until = window.pause_asked_at or window.closed_at or now
    if window.online_seconds is not None:
        until = window.resume_asked_at + timedelta(seconds=window.online_seconds)
    return window.resume_asked_at, max(until, window.resume_asked_at)


def booked(window: Window) -> Booked | None:
    """What was booked for a window; None while it is under way."""
    found = (window.work or {}).get(_BOOKED)
    if found is None:
        return None
    worked, idle = (
        {date.fromisoformat(day): int(seconds) for day, seconds in found[name].items()} for name in ("worked", "idle")
    )
    loaded = Loaded(rows=found["rows"], streams=tuple(found["streams"]), runs=tuple(found["runs"]))
    return Booked(worked=worked, idle=idle, loaded=loaded)


def loaded(connection: Connection, since: datetime, until: datetime | None = None) -> Loaded:
    """What came into the warehouse in a time; only windows bring something there."""
    ended = [] if until is None else [LandedFileRow.loaded_at <= until]
    rows = connection.execute(
        select(LandedFileRow.stream, LandedFileRow.loaded_by, func.sum(LandedFileRow.rows))
        # By stream, for the index: each that a run ever worked on has its lease.
        .where(LandedFileRow.stream.in_(select(Lease.stream)))
        .where(LandedFileRow.loaded_at >= since, *ended)
        .group_by(LandedFileRow.stream, LandedFileRow.loaded_by)
    ).all()
    runs = sorted({int(row[1]) for row in rows if row[1] is not None})
    streams = tuple(sorted({row[0] for row in rows}))
    return Loaded(rows=sum(int(row[2]) for row in rows), streams=streams, runs=tuple(runs[-_MOST_RUNS:]))


def close(ledger: Ledger, window_id: int, *, fence: int, values: Mapping[str, Any]) -> None:
    """Write the columns of a window that closes and book what it took, in one transaction under the lease.

    Nothing happens to one that is closed already. Raises LeaseLost where another worker took over.
    """
    with ledger.write() as connection:
        leases.require(connection, stream=windows.POOL, fence=fence)
        before = windows.current(connection)
        if before is None or before.id != window_id:
            return
        window = replace(before, **values)
        found, said = _book(connection, window, complete=before.state is not WindowState.OPEN)
        trouble = " ".join(part for part in (window.trouble, said) if part) or None
        work = {**(window.work or {}), _BOOKED: found}
        connection.execute(
            update(LoadWindow).where(LoadWindow.id == window_id).values(**{**values, "trouble": trouble, "work": work})
        )


def _book(connection: Connection, window: Window, *, complete: bool) -> tuple[dict[str, Any], str | None]:
    """What is kept of it, and what is wrong with it. ``complete``: loads had ended when the work was copied."""
    ended = window.closed_at or window.opened_at
    times = factor(window.size) or 1
    span = online(window, ended)
    days = seconds_by_day(*span) if span else {}
    most = (window.online_seconds or 0) if span else int((ended - window.opened_at).total_seconds())
    pool = shares(_took(connection, window, ended), most=most * times, times=times)
    worked: dict[date, int] = {}
    for run_id, seconds in pool.items():
        day = _book_run(connection, run_id, seconds) or ended.date()
        worked[day] = worked.get(day, 0) + seconds
    idle = spread(most * times - sum(pool.values()), days) if span else {}
    for day, seconds in idle.items():
        add_pool_usage(connection, day, idle_seconds=seconds)
    arrived = loaded(connection, window.opened_at, ended)
    kept = {
        "worked": {day.isoformat(): seconds for day, seconds in worked.items() if seconds},
        "idle": {day.isoformat(): seconds for day, seconds in idle.items()},
        "rows": arrived.rows,
        "streams": list(arrived.streams),
        "runs": sorted({*arrived.runs, *pool})[-_MOST_RUNS:],
    }
    if times == 1 and window.size is None and (worked or idle):
        return kept, "The size of the pool is not known; its seconds are counted as those of a DW100c."
    return kept, _unknown(window, arrived, complete=complete)


def _unknown(window: Window, arrived: Loaded, *, complete: bool) -> str | None:
    """What is not known of its statements, as a sentence."""
    if not window.loads and not arrived.runs:
        return None  # nothing was there to be known
    if window.work is None and window.ours:
        return "What its statements took is not known, so all of its time online is booked as idle."
    if window.work is None:
        return "What its statements took is not known, so nothing is booked for them."
    if window.ours and not complete:
        return f"What was loaded after {window.drained_at:%H:%M} UTC is not known, and its time is booked as idle."
    return None


def _took(connection: Connection, window: Window, ended: datetime) -> dict[int, int]:
    """Milliseconds by run that were not booked with an earlier window."""
    took = _by_run(window.work)
    if not window.ours:
        # Only a pause empties the pool's view, so it may still show what the window before has copied and booked.
        before = connection.execute(
            select(LoadWindow.work, LoadWindow.paused_at)
            .where(LoadWindow.id < window.id)
            .order_by(LoadWindow.id.desc())
            .limit(1)
        ).first()
        known = _by_run(before.work) if before is not None and before.paused_at is None else {}
        took = {run_id: max(0, ms - known.get(run_id, 0)) for run_id, ms in took.items()}
    # Another installation has labels of the same form, and its runs have numbers that ours have, too.
    ours = set(
        connection.execute(
            select(Run.id).where(
                Run.id.in_(list(took)),
                Run.started_at <= ended,
                Run.ended_at.is_(None) | (Run.ended_at >= window.opened_at),
            )
        ).scalars()
    )
    return {run_id: ms for run_id, ms in took.items() if run_id in ours and ms > 0}


def _by_run(work: Mapping[str, Any] | None) -> dict[int, int]:
    found: dict[int, int] = {}
    for label, what in ((work or {}).get("labels") or {}).items():
        if match := _LABEL.match(label):
            run_id = int(match[1])
            found[run_id] = found.get(run_id, 0) + int(what.get("ms") or 0)
    return found


def _book_run(connection: Connection, run_id: int, seconds: int) -> date | None:
    """Note what the pool did for a run; gives the day that it counts into, None where the run has not ended."""
    subject = connection.execute(select(Run.subject).where(Run.id == run_id)).scalar_one()
    # Whoever ends a run holds this row while it sums what the run used.
    leases.lock(connection, subject)
    if seconds:
        connection.execute(insert(Usage).values(run_id=run_id, step="load", meter=WORKED, quantity=seconds))
        add_daily_usage(connection, run_id, meters={WORKED: seconds})
    ended = connection.execute(select(Run.ended_at).where(Run.id == run_id)).scalar_one()
    return None if ended is None else ended.date()
