"""What surrounds one run: attempts before and after it, who asked for it, and what it left unfinished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from novade_core.ledger import queries
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import Fire, LandedFileRow, Run, RunState, ScheduleRow, SourceStatus, SyncPlan
from novade_core.ledger.plans import UNFINISHED
from novade_core.ledger.queries import RunRow

#: Attempts that are followed to either side.
_CHAIN = 10
#: Later runs of the stream among which a further attempt is looked for; it follows soon after the failure.
_NEAR = 500
#: What the engine calls a window in whose place two halves are read.
_HALVED = "halved"


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """What has landed for a request that did not end well; a run of the same request goes on behind it."""

    windows: int
    done: int  #: windows that have landed completely
    rows: int  #: that have landed


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """The source's API calls of the rolling 24 hours, as the last run saw them."""

    at: datetime
    used: int | None
    allowed: int | None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What surrounds one run."""

    attempts: tuple[RunRow, ...]  #: the run, those it tries again, and those that try it again; oldest first
    twin: RunRow | None  #: another queued run that would do the same
    schedule: str | None  #: the name of the schedule whose fire asked for it
    unfinished: Unfinished | None
    source: SourceUse | None

    def following(self, run_id: int) -> RunRow | None:
        """The attempt after this one."""
        return next((run for run in self.attempts if run.retry_of == run_id), None)


def around(ledger: Ledger, *, run_id: int, whole: bool = False) -> Surroundings | None:
    """What surrounds a run, None where there is none. ``whole``: its stream is always read whole."""
    with ledger.read() as c:
        run = c.execute(select(Run.__table__).where(Run.id == run_id)).one_or_none()
        if run is None:
            return None
        ids = [*reversed(_before(c, run.retry_of)), run_id, *_after(c, run.subject, run_id)]
        twins = c.execute(
            select(Run.id, Run.parameters)
            .where(
                Run.state == RunState.QUEUED.value,
                Run.subject == run.subject,
                Run.kind == run.kind,
                Run.id.not_in(ids),
            )
            .limit(20)
        ).all()
        twin = next((t.id for t in twins if (t.parameters or {}) == (run.parameters or {})), None)
        schedule = None
        if run.fire_id is not None:
            schedule = c.execute(
                select(ScheduleRow.name).join(Fire, Fire.schedule_id == ScheduleRow.id).where(Fire.id == run.fire_id)
            ).scalar()
        kind = "full" if whole else run.kind
        unfinished = _unfinished(c, run.subject, kind, run.parameters or {})
        use = c.execute(
            select(SourceStatus.at, SourceStatus.calls_used, SourceStatus.calls_allowed).where(
                SourceStatus.source == run.source
            )
        ).one_or_none()
    found = {row.id: row for row in queries.runs_by_id(ledger, [*ids, *([twin] if twin is not None else [])])}
    return Surroundings(
        attempts=tuple(found[i] for i in ids if i in found),
        twin=None if twin is None else found.get(twin),
        schedule=schedule,
        unfinished=unfinished,
        source=None if use is None else SourceUse(at=use.at, used=use.calls_used, allowed=use.calls_allowed),
    )


def _before(c: Connection, retry_of: int | None) -> Sequence[int]:
    """Runs that are tried again, the nearest first."""
    found: list[int] = []
    while retry_of is not None and len(found) < _CHAIN and retry_of not in found:
        found.append(retry_of)
        retry_of = c.execute(select(Run.retry_of).where(Run.id == retry_of)).scalar()
    return found


def _after(c: Connection, subject: str, run_id: int) -> Sequence[int]:
    """Runs that try it again, the nearest first."""
    found: list[int] = []
    at: int | None = run_id
    while at is not None and len(found) < _CHAIN:
        near = (
            select(Run.id, Run.retry_of).where(Run.subject == subject, Run.id > at).order_by(Run.id).limit(_NEAR)
        ).subquery()
        at = c.execute(select(func.min(near.c.id)).where(near.c.retry_of == at)).scalar()
        if at is not None:
            found.append(at)
    return found


def _unfinished(c: Connection, subject: str, kind: str, parameters: dict[str, str]) -> Unfinished | None:
    plan = c.execute(
        select(SyncPlan.id, SyncPlan.kind, SyncPlan.windows, SyncPlan.details)
        .where(SyncPlan.stream == subject, SyncPlan.state.in_(UNFINISHED))
        .order_by(SyncPlan.id.desc())
        .limit(1)
    ).first()
    if plan is None or plan.kind != kind or (plan.details or {}).get("parameters", {}) != parameters:
        return None
    ours = LandedFileRow.plan_id == plan.id
    chunks, rows = c.execute(select(func.count(), func.coalesce(func.sum(LandedFileRow.rows), 0)).where(ours)).one()
    if not chunks:
        return None
    ended = select(func.count(LandedFileRow.window.distinct())).where(ours, LandedFileRow.window_done)
    windows = [w for w in plan.windows if w.get("part") != _HALVED]
    return Unfinished(windows=len(windows), done=c.execute(ended).scalar_one(), rows=int(rows))
