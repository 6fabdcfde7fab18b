"""The load step: registered manifests go into the warehouse, group by group, each in one fenced transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from novade_core.errors import ConfigurationError
from novade_core.ledger import leases, plans
from novade_core.ledger.plans import Plan
from novade_core.streams import LandedFile, RunKind
from novade_core.sync import planning
from novade_core.sync.pulse import Pulse
from novade_core.sync.tally import StepTimer
from novade_core.sync.verify import check_sums
from novade_core.warehouse.base import LoadOutcome, LoadRequest

if TYPE_CHECKING:
    from novade_core.sync.engine import Execution


class Loader:
    """Loads for one execution and counts into its tally."""

    def __init__(self, execution: Execution, pulse: Pulse) -> None:
        self._run = execution
        self._pulse = pulse

    def load(self, plan: Plan) -> None:
        """Load what is registered and waits; a full reload puts the plan's rows in the place of the table."""
        step = self._run.step("load")
        self._run.point("load.started")
        with self._run.tools.ledger.read() as connection:
            waiting = plans.unloaded(connection, self._run.stream.id)
            if self._run.kind is RunKind.FULL:
                waiting = plans.of_plan(connection, plan)
        self._pulse.update(step="load", rows=0, total=sum(m.rows for m in waiting) or None)
        # From here on the run answers for the manifests that it loads, those of a run that died before it too.
        self._run.tally.landed = sum(m.rows for m in waiting)
        self._run.tally.rejected = sum(m.rejected for m in waiting)
        self._run.tally.read = self._run.tally.landed + self._run.tally.rejected
        with step.working():
            if self._run.kind is RunKind.FULL:
                self._replace(waiting, step)
            elif waiting:
                groups = planning.groups(waiting, self._run.tools.warehouse.capabilities.max_rows_per_load)
                with self._run.warehouse() as session:
                    for group in groups:
                        self._pulse.check()
                        self._run.point("load.group", manifests=len(group))
                        outcome = self._committed(session.load, self._request(group), last=group is groups[-1])
                        self._account(outcome, group, step)
                        self._run.point("load.committed", manifests=len(group))
                        self._mark_loaded([m.seq for m in group])
                        self._pulse.update(rows=step.rows)
        step.end()
        self._run.point("load.ended")

    def _replace(self, manifests: Sequence[LandedFile], step: StepTimer) -> None:
        with self._run.warehouse() as session:
            held = session.count(self._run.stream) or 0
            if not sum(m.rows for m in manifests) and held:
                raise ConfigurationError(
                    f"The full reload of {self._run.stream.label} read no record, but the warehouse holds {held:,}.",
                    hint="Check the integration user's sharing rights; the table was left as it is.",
                    origin="source",
                )
            self._run.point("load.group", manifests=len(manifests))
            with self._run.tools.ledger.read() as connection:
                ours = {m.seq for m in manifests}
                older = [m for m in plans.unloaded(connection, self._run.stream.id) if m.seq not in ours]
            # What landed before a full reload is contained in it; loading it later could revive purged rows.
            request = replace(self._request(manifests), contained=older)
            self._account(self._committed(session.replace, request, last=True), manifests, step)
            self._run.point("load.committed", manifests=len(manifests))
        self._mark_loaded([m.seq for m in (*manifests, *older)])

    def _request(self, manifests: Sequence[LandedFile]) -> LoadRequest:
        return LoadRequest(
            stream=self._run.stream,
            manifests=manifests,
            locations=[[self._run.tools.landing.location(f) for f in m.files] for m in manifests],
            fence=self._run.run.fence,
            run_id=self._run.run.id,
            now=self._run.tools.clock(),
            before_commit=self._before_commit,
            older_waiting=self._older_waiting(min(m.seq for m in manifests)) if manifests else False,
        )

    def _older_waiting(self, seq: int) -> bool:
        with self._run.tools.ledger.read() as connection:
            return any(m.seq < seq for m in plans.unloaded(connection, self._run.stream.id))

    def _committed(
        self, load: Callable[[LoadRequest], LoadOutcome], request: LoadRequest, *, last: bool
    ) -> LoadOutcome:
        """One transaction. A cancel before its COMMIT ends it, one that comes later waits for it."""
        try:
            outcome = load(request)
        except BaseException:
            self._pulse.unshield()
            raise
        self._pulse.unshield(last=last)
        return outcome

    def _before_commit(self) -> None:
        self._run.point("load.before_commit")
        with self._run.tools.ledger.write() as connection:
            leases.require(connection, stream=self._run.stream.id, fence=self._run.run.fence)
        self._pulse.shield()

    def _account(self, outcome: LoadOutcome, manifests: Sequence[LandedFile], step: StepTimer) -> None:
        check_sums(manifests, outcome.results)
        for result in outcome.results:
            step.rows += result.staged
            for name in ("loaded", "deleted", "unchanged", "superseded", "duplicates"):
                setattr(self._run.tally, name, getattr(self._run.tally, name) + getattr(result, name))
        for change in outcome.changes:
            if change.kind != "absent":
                self._run.log(
                    "The table's schema changed.", change=change.kind, column=change.column, detail=change.detail
                )

    def _mark_loaded(self, seqs: Sequence[int]) -> None:
        with self._run.tools.ledger.write() as connection:
            plans.mark_loaded(
                connection,
                stream=self._run.stream.id,
                fence=self._run.run.fence,
                run_id=self._run.run.id,
                now=self._run.tools.clock(),
                seqs=seqs,
            )
        self._run.point("load.marked")
