"""The windows of a backfill: how they are cut, which have been read already, how many rows they will bring.

A window is a pair of instants, half-open: ``low <= cursor < high``. Lists of them are in the order of time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

from sqlalchemy import Connection, func, or_, select

from novade_core.errors import BadWindow
from novade_core.ledger.models import ENDED, LandedFileRow, PlanState, Run, RunState, SyncPlan
from novade_core.streams import RunKind

Window = tuple[datetime, datetime]

#: More windows than this are refused.
MOST = 2_000
#: Finished plans, and runs of a stream, that are looked at. What lies further back counts as not read: that costs
#: a needless reading, never a gap.
_PLANS, _RUNS = 30_000, 50_000
#: The part of a plan's window that was cut in two; its halves follow it.
_HALVED = "halved"
#: Ends after which a window is worth reading again.
BAD = (RunState.FAILED, RunState.CANCELLED, RunState.ABANDONED)


class ChunkSize(StrEnum):
    """How long a window is: a UTC day, a week from Monday on, a month."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Scope(StrEnum):
    """Which windows are read."""

    ALL = "all"
    MISSING = "missing"  #: those that no finished reading covers wholly
    FAILED = "failed"  #: those whose newest backfill so far ended badly


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a finished plan has read: everything of ``low <= cursor < high``."""

    low: datetime | None  #: None: from the very beginning
    high: datetime
    rows: int | None


def cut(since: datetime, until: datetime, size: ChunkSize) -> list[Window]:
    """Windows that tile ``since`` to ``until`` without gap or overlap; the first and the last may be shorter.

    Raises BadWindow where there would be more than ``MOST``.
    """
    windows = list(islice(_cut(since.astimezone(UTC), until.astimezone(UTC), size), MOST + 1))
    if len(windows) > MOST:
        larger = {ChunkSize.DAY: "Cut it by week or month", ChunkSize.WEEK: "Cut it by month"}.get(size)
        raise BadWindow(
            f"Cut by {size.value}, this makes more than {MOST:,} windows.",
            hint=f"{larger}, or ask for a shorter time." if larger else "Ask for a shorter time.",
        )
    return windows


def _cut(since: datetime, until: datetime, size: ChunkSize) -> Iterator[Window]:
    low = since
    while low < until:
        high = min(_boundary_after(low, size), until)
        yield low, high
        low = high


def _boundary_after(instant: datetime, size: ChunkSize) -> datetime:
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    if size is ChunkSize.DAY:
        return midnight + timedelta(days=1)
    if size is ChunkSize.WEEK:
        return midnight + timedelta(days=7 - midnight.weekday())
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


def readings(connection: Connection, stream: str, since: datetime, until: datetime) -> list[Reading]:
    """What finished plans have read that may touch ``since`` to ``until``, the newest first.

    A window that is open above was read up to the instant at which its reading began, by the source's clock. A plan
    with a seam has read everything before it.
    """
    finished = (SyncPlan.stream == stream, SyncPlan.state == PlanState.DONE.value)
    incremental = SyncPlan.kind == RunKind.INCREMENTAL.value
    # Each incremental plan begins where the one before ended: none that follows the first one past the window
    # reaches back into it.
    last = select(func.min(SyncPlan.created_at)).where(*finished, incremental, SyncPlan.created_at >= until)
    bound = last.scalar_subquery()
    rows = connection.execute(
        select(SyncPlan.id, SyncPlan.seam, SyncPlan.windows, SyncPlan.created_at, SyncPlan.details)
        .where(
            *finished,
            SyncPlan.created_at >= since,
            or_(~incremental, bound.is_(None), SyncPlan.created_at <= bound),
        )
        .order_by(SyncPlan.id.desc())
        .limit(_PLANS)
    ).all()
    uncounted = [r.id for r in rows if any(w["expected"] is None for w in r.windows)]
    landed = {
        (row.plan_id, row.window): int(row.rows)
        for row in connection.execute(
            select(
                LandedFileRow.plan_id,
                LandedFileRow.window,
                func.sum(LandedFileRow.rows + LandedFileRow.rejected).label("rows"),
            )
            .where(LandedFileRow.plan_id.in_(uncounted))
            .group_by(LandedFileRow.plan_id, LandedFileRow.window)
        )
    }
    found: list[Reading] = []
    for row in rows:
        began = (row.details or {}).get("read_from")
        read_to = datetime.fromisoformat(began) if began else row.created_at
        for number, window in enumerate(row.windows):
            low = datetime.fromisoformat(window["low"]) if window["low"] else None
            high = datetime.fromisoformat(window["high"]) if window["high"] else read_to
            if window["part"] == _HALVED or (low is not None and high <= low):
                continue
            count = window["expected"] if window["expected"] is not None else landed.get((row.id, number))
            found.append(Reading(low=low, high=high, rows=count))
        if row.seam is not None:
            found.append(Reading(low=None, high=row.seam, rows=None))
    return found


def covered(windows: Sequence[Window], read: Sequence[Reading]) -> list[bool]:
    """For each window, whether readings cover it wholly, together if need be."""
    beginning = datetime.min.replace(tzinfo=UTC)
    joined: list[Window] = []
    for low, high in sorted((r.low or beginning, r.high) for r in read):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    lows = [low for low, _ in joined]
    answers = []
    for low, high in windows:
        at = bisect_right(lows, low) - 1
        answers.append(at >= 0 and joined[at][1] >= high)
    return answers


def expected(windows: Sequence[Window], read: Sequence[Reading]) -> list[int | None]:
    """For each window the rows that it will probably bring; None where less than half of it is known.

    Of several readings of the same time the newest counts; its rows are taken for evenly spread.
    """
    lows = [low for low, _ in windows]
    unknown: list[list[Window]] = [[window] for window in windows]
    rows = [0.0] * len(windows)
    for reading in read:
        if reading.rows is None or reading.low is None:
            continue
        for at in range(max(0, bisect_right(lows, reading.low) - 1), len(windows)):
            if lows[at] >= reading.high:
                break
            left: list[Window] = []
            for low, high in unknown[at]:
                begin, end = max(low, reading.low), min(high, reading.high)
                if begin >= end:
                    left.append((low, high))
                    continue
                rows[at] += reading.rows * ((end - begin) / (reading.high - reading.low))
                left += [part for part in ((low, begin), (end, high)) if part[0] < part[1]]
            unknown[at] = left
    answers: list[int | None] = []
    for (low, high), left, count in zip(windows, unknown, rows, strict=True):
        known = 1 - sum((b - a for a, b in left), timedelta()) / (high - low)
        answers.append(round(count / known) if known >= 0.5 else None)
    return answers


def left_out(
    connection: Connection, stream: str, windows: Sequence[Window], read: Sequence[Reading], scope: Scope
) -> list[str | None]:
    """For each window why the scope leaves it out, in words; None for those that are read."""
    if scope is Scope.MISSING:
        return ["It has been read already." if there else None for there in covered(windows, read)]
    if scope is Scope.FAILED:
        return [_why_not(newest) for newest in _newest_backfills(connection, stream, windows)]
    return [None] * len(windows)


def _why_not(newest: tuple[int, RunState] | None) -> str | None:
    if newest is None:
        return "No backfill has tried it yet."
    return None if newest[1] in BAD else f"Run {newest[0]} has read it."


def _newest_backfills(
    connection: Connection, stream: str, windows: Sequence[Window]
) -> list[tuple[int, RunState] | None]:
    """For each window the newest backfill run that has ended and touched it."""
    looked = select(Run.id).where(Run.subject == stream).order_by(Run.id.desc()).limit(_RUNS).subquery()
    rows = connection.execute(
        select(Run.id, Run.state, Run.parameters)
        .join(looked, looked.c.id == Run.id)
        .where(Run.kind == RunKind.BACKFILL.value, Run.state.in_([s.value for s in ENDED]))
        .order_by(Run.id.desc())
    )
    lows = [low for low, _ in windows]
    newest: list[tuple[int, RunState] | None] = [None] * len(windows)
    for row in rows:
        window = window_of(row.parameters)
        if window is None:
            continue
        for at in range(max(0, bisect_right(lows, window[0]) - 1), len(windows)):
            if lows[at] >= window[1]:
                break
            if newest[at] is None and windows[at][1] > window[0]:
                newest[at] = (row.id, RunState(row.state))
    return newest


def window_of(parameters: dict[str, Any] | None) -> Window | None:
    """The window that a run was asked for; None where its parameters hold none."""
    try:
        given = parameters or {}
        return datetime.fromisoformat(given["since"]), datetime.fromisoformat(given["until"])
    except (KeyError, TypeError, ValueError):
        return None
