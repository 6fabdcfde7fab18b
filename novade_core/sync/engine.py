"""The loop you can read: plan, extract and land chunk by chunk, load, verify, move the checkpoint.

Delivery is at least once; the fenced, versioned upsert makes it exactly once in effect. Each step is a row in
the ledger. What has landed and is registered is never fetched again: a run that died leaves its plan open, and
the next one adopts it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from novade_core.errors import (
    ConfigurationError,
    DataRejected,
    ExtractionLost,
    NovadeError,
    TransferBroken,
    WindowTooLarge,
)
from novade_core.landing import paths
from novade_core.landing.base import Manifest, file_sha256, load_id
from novade_core.ledger import leases, plans
from novade_core.ledger.models import PlanState, RunState
from novade_core.ledger.plans import Plan
from novade_core.ledger.writer import Claimed, RunWriter
from novade_core.sources.base import Source
from novade_core.streams import Batch, Column, LandedFile, RunKind, SchemaPolicy, StreamSchema, Window
from novade_core.sync import planning, proof
from novade_core.sync.chunks import ChunkWriter, rejects_as_lines
from novade_core.sync.pulse import Pulse
from novade_core.sync.tally import StepTimer, Tally
from novade_core.sync.tools import Observer, Outcome, Tools
from novade_core.sync.verify import check_sums
from novade_core.warehouse.base import LoadOutcome, LoadRequest

_log = logging.getLogger(__name__)

#: How often in a row a window is taken up again without a chunk in between.
RESTARTS = 2


class Execution:
    """One claimed run from plan to checkpoint."""

    def __init__(self, tools: Tools, run: Claimed, observer: Observer | None = None) -> None:
        self.tools = tools
        self.run = run
        self.writer = RunWriter(tools.ledger, run)
        self.stream = tools.stream(run.subject)
        self.kind = planning.kind_for(self.stream, run.kind)
        self.tally = Tally()
        self.started_at = tools.clock()
        self._observer = observer
        self._open_steps: list[StepTimer] = []

    def point(self, name: str, **details: Any) -> None:
        """Pass a named point: tell the observer, then hear of cancel and lost lease."""
        if self._observer is not None:
            self._observer(name, details)

    def _step(self, name: str) -> StepTimer:
        return StepTimer(self.writer, self.tools.clock, name, self._open_steps)

    def log(self, message: str, level: str = "info", **fields: Any) -> None:
        """A line for the run's log and for ours."""
        self.writer.log(self.tools.clock(), level, message, **fields)

    def perform(self) -> Outcome:
        """Run it; every end is recorded. Only a fault that the ledger cannot take is raised."""
        begun = time.perf_counter()
        error: NovadeError | None = None
        state, headline = RunState.FAILED, ""
        source: Source | None = None
        folder: Path | None = None
        try:
            self.tools.temp.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"run-{self.run.id}-", dir=self.tools.temp))
            source = self.tools.source(self.stream.source)
            with Pulse(self.writer, self.tools.beat_seconds) as pulse:
                state, headline = self._steps(source, pulse)
        except (Exception, KeyboardInterrupt) as raised:
            error = proof.as_error(raised, self.run.id, self.tools.temp)
        finally:
            if source is not None:
                self.tally.api_calls = source.usage().get(f"{source.name}.api_calls", 0)
                self.writer.usage("extract", source.usage())
                self.writer.usage("run", proof.process_meters())
                source.close()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        if error is not None:
            for step in list(self._open_steps):
                step.end("failed")
            self.writer.fail(self.tools.clock(), error, self.tally.columns())
            cancelled = error.kind == "RunCancelled"
            state, headline = (RunState.CANCELLED if cancelled else RunState.FAILED), error.message
        return Outcome(
            run_id=self.run.id,
            stream=self.stream.id,
            state=state,
            headline=headline,
            counts={k: v for k, v in self.tally.columns().items() if k != "data_to"},
            seconds=time.perf_counter() - begun,
            error=error,
        )

    def _steps(self, source: Source, pulse: Pulse) -> tuple[RunState, str]:
        plan = self._plan(source)
        pulse.check()
        self._extract_and_land(source, plan, pulse)
        held_back = self._held_back(plan)
        if not held_back:
            self._load(plan, pulse)
        return self._verify(source, plan, pulse, held_back=held_back)

    # Plan

    def _plan(self, source: Source) -> Plan:
        step = self._step("plan")
        self.point("plan.started")
        with step.working():
            schema = source.schema(self.stream)
            self._note_schema(schema.skipped)
            with self.tools.ledger.read() as connection:
                left = plans.open_plan(connection, self.stream.id)
            plan = self._adopt(left, schema.columns) if left else None
            if plan is None:
                plan = self._new_plan(source, schema.columns)
        step.message = f"{len(plan.windows)} window{'s'[: len(plan.windows) != 1]}, {len(plan.columns)} columns"
        step.end()
        self.point("plan.ended", plan=plan)
        return plan

    def _note_schema(self, skipped: Mapping[str, str]) -> None:
        if skipped:
            self.log("Some fields are not loaded.", fields=dict(skipped))

    def _adopt(self, left: Plan, columns: Sequence[Column]) -> Plan | None:
        """The open plan, where it is about the same thing; otherwise it is void and what landed stays."""
        same = left.kind == self.kind and left.columns == tuple(replace(c, note="") for c in columns)
        if same and left.details.get("parameters", {}) == dict(self.run.parameters):
            self.log("This run goes on with the plan of an earlier one.", plan=left.id, run=left.run_id)
            return left
        with self.tools.ledger.write() as connection:
            leases.require(connection, stream=self.stream.id, fence=self.run.fence)
            plans.close_plan(connection, left.id, PlanState.VOID)
        self.log("An unfinished plan no longer fits and was set aside.", plan=left.id, run=left.run_id)
        return None

    def _new_plan(self, source: Source, columns: Sequence[Column]) -> Plan:
        with self.tools.ledger.read() as connection:
            checkpoint = plans.checkpoint(connection, self.stream.id)
            before = plans.last_columns(connection, self.stream.id)
        planning.check_schema(self.stream, before, columns)
        windows, seam = planning.windows_for(
            self.stream, self.kind, self.run.parameters, checkpoint, source, self.tools.history_rows
        )
        with self.tools.ledger.write() as connection:
            leases.require(connection, stream=self.stream.id, fence=self.run.fence)
            plan = plans.add_plan(
                connection,
                stream=self.stream.id,
                kind=self.kind,
                run_id=self.run.id,
                now=self.tools.clock(),
                seam=seam,
                windows=windows,
                columns=columns,
                details={"parameters": dict(self.run.parameters)},
            )
        proof.note_vanished(self.writer, self.tools.clock(), self.stream, before, plan.columns)
        self.log("Planned.", windows=len(windows), seam=seam.isoformat() if seam else None, columns=len(columns))
        return plan

    # Extract and land

    def _extract_and_land(self, source: Source, plan: Plan, pulse: Pulse) -> None:
        extract, land = self._step("extract"), self._step("land")
        total = sum(w.expected or 0 for w in plan.windows) or None
        pulse.update(step="extract", total=total)
        with self.tools.ledger.read() as connection:
            done = plans.positions(connection, plan.id)
            self.tally.adopted = sum(m.rows + m.rejected for m in plans.of_plan(connection, plan))
        writer = ChunkWriter(self.stream, plan.columns, self.tools.landing.scratch(), f"run-{self.run.id}")
        try:
            chunk, index, windows = 0, 0, list(plan.windows)
            while index < len(windows):
                position = done.get(index)
                if not (position and position.done):
                    resume = position.resume if position else None
                    try:
                        chunk = self._window(
                            source, plan, index, windows[index], resume, writer, chunk, pulse, extract, land
                        )
                    except WindowTooLarge as error:
                        windows = self._halve(plan, windows, index, source.now(), error)
                        continue
                index += 1
        finally:
            writer.close()
        extract.end()
        land.end()
        self.point("land.ended")

    def _halve(
        self, plan: Plan, windows: list[Window], index: int, now: datetime, error: WindowTooLarge
    ) -> list[Window]:
        halves = windows[index].halves(now)
        if halves is None:
            raise error
        windows = [*windows[:index], halves[0], *windows[index + 1 :], halves[1]]
        with self.tools.ledger.write() as connection:
            leases.require(connection, stream=self.stream.id, fence=self.run.fence)
            plans.set_windows(connection, plan, windows)
        self.log("A window was too large for the source and was halved.", level="warning", window=index)
        return windows

    def _window(
        self,
        source: Source,
        plan: Plan,
        index: int,
        window: Window,
        resume: Mapping[str, Any] | None,
        writer: ChunkWriter,
        chunk: int,
        pulse: Pulse,
        extract: StepTimer,
        land: StepTimer,
    ) -> int:
        """Land one window; answers the next chunk number.

        A batch that arrives broken is asked for again from the last registered position; an extraction that the
        source dropped starts the window again. Each at most RESTARTS times in a row without progress.
        """
        schema = StreamSchema(columns=plan.columns)
        restarts = 0
        while True:
            try:
                batches = source.extract(self.stream, schema, window, resume)
                while True:
                    self.point("extract.batch", window=index, chunk=chunk)
                    with extract.working():
                        batch = next(batches, None)
                    pulse.check()
                    if batch is None:
                        return chunk
                    extract.rows += batch.rows
                    extract.size += batch.bytes_in
                    self.tally.bytes_in += batch.bytes_in
                    self.tally.read += batch.rows
                    with land.working():
                        land.size += self._land(plan, index, batch, writer, chunk)
                    land.rows += batch.rows
                    resume, restarts, chunk = batch.resume, 0, chunk + 1
                    pulse.update(rows=extract.rows, bytes=extract.size)
                    pulse.check()
            except (ExtractionLost, TransferBroken) as error:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                if isinstance(error, ExtractionLost):
                    resume = None
                self.log("The extraction broke off and is taken up again.", "warning", reason=error.message)

    def _land(self, plan: Plan, index: int, batch: Batch, writer: ChunkWriter, chunk: int) -> int:
        """Parquet, rejects, manifest, registration, in this order; answers the bytes written."""
        made = writer.write(batch, chunk)
        self.point("land.written", chunk=chunk)
        folder = paths.run_folder(self.stream, self.run.id, self.started_at)
        now = self.tools.clock()
        size = 0
        files: list[dict[str, Any]] = []
        if made.file is not None:
            digest, path = file_sha256(made.file), paths.part(folder, chunk)
            size = self.tools.landing.put_file(path, made.file)
            files.append({"path": path, "rows": made.rows, "bytes": size, "sha256": digest})
        if made.rejects:
            self._keep_rejects(made.rejects, paths.rejects(folder, chunk), now)
        self.point("land.file", chunk=chunk)
        manifest = Manifest(
            stream=self.stream.id,
            run_id=self.run.id,
            chunk=chunk,
            window=plan.windows[index].to_json() if index < len(plan.windows) else {},
            files=files,
            rows=made.rows,
            rejected=len(made.rejects),
            cursor_low=made.cursor_low,
            cursor_high=made.cursor_high,
            hours=made.hours,
            columns=plan.columns,
            landed_at=now,
        ).to_bytes()
        path = paths.manifest(folder, chunk)
        self.tools.landing.put_once(path, manifest)
        self.point("land.manifest", chunk=chunk)
        with self.tools.ledger.write() as connection:
            plans.register(
                connection,
                fence=self.run.fence,
                now=now,
                stream=self.stream.id,
                run_id=self.run.id,
                plan_id=plan.id,
                window=index,
                chunk=chunk,
                manifest_path=path,
                load_id=load_id(manifest),
                files=[f["path"] for f in files],
                rows=made.rows,
                rejected=len(made.rejects),
                size=size,
                max_cursor=made.cursor_high,
                resume=batch.resume,
            )
        self.tally.landed += made.rows
        self.point("land.registered", chunk=chunk, rows=made.rows)
        self._check_reject_limit(plan)
        return size

    def _keep_rejects(self, rejects: Sequence[Mapping[str, Any]], path: str, now: datetime) -> None:
        self.tools.landing.put_once(path, rejects_as_lines(rejects))
        self.tally.rejected += len(rejects)
        shown = [{k: r[k] for k in ("column", "reason")} for r in rejects[:50]]
        self.writer.artifact(now, "rejects", shown)
        self.log(
            "Some records could not be typed.", "warning", count=len(rejects), first=rejects[0]["reason"], file=path
        )

    def _check_reject_limit(self, plan: Plan) -> None:
        """Too many rejects: what landed is set aside with the plan, and the next run reads the windows again."""
        if self.tally.rejected > self.stream.reject_limit:
            with self.tools.ledger.write() as connection:
                leases.require(connection, stream=self.stream.id, fence=self.run.fence)
                plans.close_plan(connection, plan.id, PlanState.REJECTED)
            raise DataRejected(
                f"{self.tally.rejected:,} records of {self.stream.label} could not be typed; "
                f"the stream's limit is {self.stream.reject_limit:,}."
            )

    # Load

    def _held_back(self, plan: Plan) -> bool:
        """Whether policy ``quarantine`` keeps this plan's rows out of the warehouse."""
        if self.stream.schema_policy is not SchemaPolicy.QUARANTINE:
            return False
        with self.tools.ledger.read() as connection:
            before = plans.last_columns(connection, self.stream.id)
        return bool(planning.schema_changes(before, plan.columns))

    def _load(self, plan: Plan, pulse: Pulse) -> None:
        step = self._step("load")
        self.point("load.started")
        with self.tools.ledger.read() as connection:
            waiting = plans.unloaded(connection, self.stream.id)
            if self.kind is RunKind.FULL:
                waiting = plans.of_plan(connection, plan)
        pulse.update(step="load", rows=0, total=sum(m.rows for m in waiting) or None)
        # From here on the run answers for the manifests that it loads, those of a run that died before it too.
        self.tally.landed = sum(m.rows for m in waiting)
        self.tally.rejected = sum(m.rejected for m in waiting)
        self.tally.read = self.tally.landed + self.tally.rejected
        with step.working():
            if self.kind is RunKind.FULL:
                self._replace(waiting, step)
            elif waiting:
                with self.tools.warehouse.session() as session:
                    for group in planning.groups(waiting, self.tools.warehouse.capabilities.max_rows_per_load):
                        pulse.check()
                        self.point("load.group", manifests=len(group))
                        self._account(session.load(self._request(group)), group, step)
                        self.point("load.committed", manifests=len(group))
                        self._mark_loaded([m.seq for m in group])
                        pulse.update(rows=step.rows)
        step.end()
        self.point("load.ended")

    def _replace(self, manifests: Sequence[LandedFile], step: StepTimer) -> None:
        with self.tools.warehouse.session() as session:
            held = session.count(self.stream) or 0
            if not sum(m.rows for m in manifests) and held:
                raise ConfigurationError(
                    f"The full reload of {self.stream.label} read no record, but the warehouse holds {held:,}.",
                    hint="Check the integration user's sharing rights; the table was left as it is.",
                    origin="source",
                )
            self.point("load.group", manifests=len(manifests))
            self._account(session.replace(self._request(manifests)), manifests, step)
            self.point("load.committed", manifests=len(manifests))
        with self.tools.ledger.read() as connection:
            older = [m.seq for m in plans.unloaded(connection, self.stream.id)]
        # What landed before a full reload is contained in it; loading it later could revive purged rows.
        self._mark_loaded(sorted({m.seq for m in manifests} | set(older)))

    def _request(self, manifests: Sequence[LandedFile]) -> LoadRequest:
        return LoadRequest(
            stream=self.stream,
            manifests=manifests,
            locations=[[self.tools.landing.location(f) for f in m.files] for m in manifests],
            fence=self.run.fence,
            run_id=self.run.id,
            now=self.tools.clock(),
            before_commit=self._before_commit,
            older_waiting=self._older_waiting(min(m.seq for m in manifests)) if manifests else False,
        )

    def _older_waiting(self, seq: int) -> bool:
        with self.tools.ledger.read() as connection:
            return any(m.seq < seq for m in plans.unloaded(connection, self.stream.id))

    def _before_commit(self) -> None:
        self.point("load.before_commit")
        with self.tools.ledger.write() as connection:
            leases.require(connection, stream=self.stream.id, fence=self.run.fence)

    def _account(self, outcome: LoadOutcome, manifests: Sequence[LandedFile], step: StepTimer) -> None:
        check_sums(manifests, outcome.results)
        for result in outcome.results:
            step.rows += result.staged
            for name in ("loaded", "deleted", "unchanged", "superseded", "duplicates"):
                setattr(self.tally, name, getattr(self.tally, name) + getattr(result, name))
        for change in outcome.changes:
            if change.kind != "absent":
                self.log("The table's schema changed.", change=change.kind, column=change.column, detail=change.detail)

    def _mark_loaded(self, seqs: Sequence[int]) -> None:
        with self.tools.ledger.write() as connection:
            plans.mark_loaded(
                connection,
                stream=self.stream.id,
                fence=self.run.fence,
                run_id=self.run.id,
                now=self.tools.clock(),
                seqs=seqs,
            )
        self.point("load.marked")

    # Verify

    def _verify(self, source: Source, plan: Plan, pulse: Pulse, *, held_back: bool) -> tuple[RunState, str]:
        step = self._step("verify")
        self.point("verify.started")
        pulse.update(step="verify", total=None)
        with step.working():
            with self.tools.ledger.read() as connection:
                self.tally.data_to = plans.max_cursor(connection, plan.id)
                before = plans.checkpoint(connection, self.stream.id)
            highest = [c for c in (self.tally.data_to, before.cursor if before else None) if c]
            self.tally.data_to = max(highest) if highest else None
            counts = proof.compare(self, source, plan)
        step.message = counts.sentence
        step.rows = counts.warehouse or 0
        step.end()
        pulse.check()
        self.point("checkpoint.before")
        state = RunState.PARTIAL if self.tally.rejected or held_back else RunState.SUCCEEDED
        headline = proof.headline(self.stream, self.tally, counts, held_back=held_back)
        self.tally.api_calls = source.usage().get(f"{source.name}.api_calls", 0)
        now = self.tools.clock()
        with self.tools.ledger.write() as connection:
            leases.require(connection, stream=self.stream.id, fence=self.run.fence)
            if self.kind is not RunKind.BACKFILL and not held_back:
                plans.move_checkpoint(
                    connection,
                    stream=self.stream.id,
                    fence=self.run.fence,
                    run_id=self.run.id,
                    now=now,
                    cursor=self.tally.data_to,
                    seam=plan.seam,
                )
            if not held_back:
                plans.close_plan(connection, plan.id, PlanState.DONE)
            status: dict[str, Any] = {
                "source_count": counts.source,
                "warehouse_count": counts.warehouse,
                "comparison_state": counts.state.value,
                "comparison_sentence": counts.sentence,
                "data_to": self.tally.data_to,
            }
            if not held_back:
                status |= {"last_load_at": now, "last_success_id": self.run.id}
            self.writer.finish(
                connection, now, state=state, headline=headline, values=self.tally.columns(), status=status
            )
        self.point("checkpoint.after")
        return state, headline
