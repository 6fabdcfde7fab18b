"""A pool that is paused between load windows: what a run reads lands and waits, and later runs add what changed since.

So files gather while nothing is paid for, no connection is opened, and what has landed is not fetched again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from novade_core.errors import LoadWindowClosed
from novade_core.ledger import leases, plans
from novade_core.ledger.models import PlanState, RunState
from novade_core.ledger.plans import Plan
from novade_core.sources.base import Source
from novade_core.streams import LandedFile, RunKind
from novade_core.sync import planning
from novade_core.sync.loading import Loader
from novade_core.sync.pulse import Pulse

if TYPE_CHECKING:
    from novade_core.sync.engine import Execution


def takes_over(left: Plan, kind: RunKind) -> bool:
    """Whether a run of this kind goes on with a plan that has landed and waits. A full reload contains what an
    incremental sync would read; the other way round it does not."""
    return kind in (RunKind.INCREMENTAL, left.kind)


def has_landed(left: Plan) -> bool:
    """Whether a plan waits for a load window, or did so before a run that added to it died."""
    return left.state is PlanState.LANDED or plans.EXTENDED in left.details


def add_what_changed(execution: Execution, source: Source, plan: Plan) -> Plan:
    """Open a landed plan again, with a window of what changed at the source since it was read."""
    read_from = source.now()
    windows = []
    if execution.stream.cursor_field is not None:
        since = datetime.fromisoformat(plan.details["read_from"])
        windows = planning.live_windows(execution.stream, since, source)
    else:
        # Nothing says what changed; it is as old as its reading.
        read_from = datetime.fromisoformat(plan.details["read_from"])
    with execution.tools.ledger.write() as connection:
        leases.require(connection, stream=execution.stream.id, fence=execution.run.fence)
        plans.extend(connection, plan, windows, read_from)
    execution.log("What landed waits for the warehouse; what changed since is added.", plan=plan.id, run=plan.run_id)
    return replace(
        plan,
        state=PlanState.OPEN,
        windows=(*plan.windows, *windows),
        details={**plan.details, "read_from": read_from.isoformat()},
    )


def load(execution: Execution, plan: Plan, pulse: Pulse) -> str | None:
    """Load what has landed. Where the pool is paused and there is something to load, end the run as landed and answer
    its headline; where there is nothing, there is no need of the warehouse."""
    if execution.surroundings.is_open():
        try:
            Loader(execution, pulse).load(plan)
        except LoadWindowClosed:
            execution.end_steps("Its load window closed before it began.")
        else:
            return None
    with execution.tools.ledger.read() as connection:
        waiting = plans.unloaded(connection, execution.stream.id)
        before = plans.last_details(connection, execution.stream.id)
    rows = sum(m.rows for m in waiting)
    pulse.check()
    if execution.kind is RunKind.FULL or (rows and not _is_known(execution, plan, waiting, before)):
        return _wait(execution, plan, rows, pulse)
    return None


def _is_known(
    execution: Execution, plan: Plan, waiting: Sequence[LandedFile], before: Mapping[str, Any] | None
) -> bool:
    """Whether all that waits is what the plan read again of what had been loaded; then it is noted as loaded."""
    others = any(m.rows and m.plan_id != plan.id for m in waiting)
    if others or execution.kind is RunKind.BACKFILL or execution.tail is None:
        return False
    if not execution.tail.holds_nothing_but(before):
        return False
    execution.tally.unchanged += execution.tally.landed
    with execution.tools.ledger.write() as connection:
        plans.mark_loaded(
            connection,
            stream=execution.stream.id,
            fence=execution.run.fence,
            run_id=execution.run.id,
            now=execution.tools.clock(),
            seqs=[m.seq for m in waiting],
        )
    return True


def _wait(execution: Execution, plan: Plan, rows: int, pulse: Pulse) -> str:
    tally, now = execution.tally, execution.tools.clock()
    new = f"{tally.landed:,} {'row' if tally.landed == 1 else 'rows'} landed" if tally.landed else "nothing new"
    verb = "waits" if rows == 1 else "wait"
    headline = f"{execution.stream.label}: {new}; {rows:,} {verb} for the pool's next load window."
    # A backfill leaves the stream's own plan alone: its rows are loaded with whatever comes next.
    state = PlanState.DONE if execution.kind is RunKind.BACKFILL else PlanState.LANDED
    execution.point("gather.before")
    with execution.tools.ledger.write() as connection:
        leases.require(connection, stream=execution.stream.id, fence=execution.run.fence)
        plans.close_plan(connection, plan.id, state, execution.tail_json())
        values = tally.columns() | {"stillest_ms": pulse.stillest_ms}
        execution.writer.finish(connection, now, state=RunState.LANDED, headline=headline, values=values)
    execution.point("gather.after")
    return headline
