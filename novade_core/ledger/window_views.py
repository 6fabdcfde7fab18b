"""Load windows as pages and commands show them: what is under way, what waits and why, past windows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from novade_core.errors import ConfigurationError
from novade_core.ledger import window_usage, windows
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import LandedFileRow, LoadWindow, Run, RunState, SyncPlan
from novade_core.ledger.plans import SET_ASIDE
from novade_core.ledger.window_usage import Loaded
from novade_core.ledger.windows import Waiting, Window

#: Columns of a list: without what each label took, which is long.
_LIGHT = [column for column in LoadWindow.__table__.columns if column.key != "work"]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What of a stream landed and is not in the warehouse."""

    stream: str
    rows: int
    files: int  #: manifests
    since: datetime  #: when the first was registered
    #: The run that did not load it, which keeps it out of further windows until a run reads more; None: it goes with
    #: the next.
    failed_run: int | None = None
    why: str | None = None  #: what that run said


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How load windows stand."""

    window: Window | None  #: under way
    last: Window | None  #: the newest one that closed, without its work
    waiting: Waiting
    gathered: tuple[Gathered, ...]
    loaded: Loaded  #: by the window under way
    loading: tuple[str, ...]  #: streams with a run under way


def standing(ledger: Ledger, *, streams: Collection[str]) -> Standing:
    """How it stands now, for the configured streams."""
    with ledger.read() as c:
        window, waits = windows.current(c), windows.waiting(c, streams)
        closed = c.execute(
            select(*_LIGHT).where(LoadWindow.closed_at.is_not(None)).order_by(LoadWindow.id.desc()).limit(1)
        ).first()
        running = c.execute(
            select(Run.subject).where(Run.state.in_([RunState.RUNNING, RunState.CANCELLING])).distinct()
        ).scalars()
        return Standing(
            window=window,
            last=None if closed is None else windows.stored(closed),
            waiting=waits,
            gathered=_gathered(c, waits),
            loaded=Loaded() if window is None else window_usage.loaded(c, window.opened_at),
            loading=tuple(sorted(running)),
        )


def _gathered(c: Connection, waits: Waiting) -> tuple[Gathered, ...]:
    rows = c.execute(
        select(
            LandedFileRow.stream,
            func.sum(LandedFileRow.rows),
            func.count(),
            func.min(LandedFileRow.registered_at),
        )
        .join(SyncPlan, SyncPlan.id == LandedFileRow.plan_id)
        .where(LandedFileRow.stream.in_([*waits.streams, *waits.stuck]))
        .where(LandedFileRow.loaded_at.is_(None), SyncPlan.state.not_in(SET_ASIDE))
        .group_by(LandedFileRow.stream)
        .order_by(func.min(LandedFileRow.registered_at), LandedFileRow.stream)
    ).all()
    found = []
    for stream, count, files, since in rows:
        failed = _last_run(c, stream) if stream in waits.stuck else None
        found.append(
            Gathered(
                stream=stream,
                rows=int(count),
                files=files,
                since=since,
                failed_run=failed.id if failed else None,
                why=(failed.error_message or failed.headline or f"It is {failed.state}.") if failed else None,
            )
        )
    return tuple(found)


def _last_run(c: Connection, stream: str) -> Any:
    return c.execute(
        select(Run.id, Run.state, Run.error_message, Run.headline)
        .where(Run.subject == stream, Run.origin == windows.ORIGIN)
        .order_by(Run.id.desc())
        .limit(1)
    ).first()


def past(ledger: Ledger, *, since: datetime | None = None, limit: int = 50) -> tuple[Window, ...]:
    """The newest windows, the one under way first: ``limit`` of them, and further ones that closed from ``since`` on.

    Of their work they have what was booked. At most 2,000.
    """
    query = select(*_LIGHT, LoadWindow.work["booked"].label("kept")).order_by(LoadWindow.id.desc())
    with ledger.read() as c:
        rows: Sequence[Any] = c.execute(query.limit(limit)).all()
        if since is not None and len(rows) == limit and rows[-1].closed_at >= since:
            rows = c.execute(
                query.where(LoadWindow.closed_at.is_(None) | (LoadWindow.closed_at >= since)).limit(2_000)
            ).all()
    return tuple(windows.stored(row) for row in rows)


def one(ledger: Ledger, *, window_id: int) -> tuple[Window, Window | None, tuple[int, ...]]:
    """A window, the one before it, and its runs: those that loaded, and those that it asked for; at most 200.

    Raises ConfigurationError where there is none.
    """
    with ledger.read() as c:
        rows = c.execute(
            select(LoadWindow.__table__).where(LoadWindow.id <= window_id).order_by(LoadWindow.id.desc()).limit(2)
        ).all()
        if not rows or rows[0].id != window_id:
            raise ConfigurationError(f"There is no load window {window_id}.", hint="Open the page Load windows.")
        window = windows.stored(rows[0])
        asked = select(Run.id).where(Run.origin == windows.ORIGIN, Run.requested_at >= window.opened_at)
        if window.closed_at is not None:
            asked = asked.where(Run.requested_at <= window.closed_at)
        runs = set(c.execute(asked.order_by(Run.id).limit(200)).scalars())
        kept = window_usage.booked(window)
        runs |= set((kept.loaded if kept is not None else window_usage.loaded(c, window.opened_at)).runs)
    before = windows.stored(rows[1]) if len(rows) > 1 else None
    return window, before, tuple(sorted(runs)[-200:])
