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
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from novade_core.errors import (
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
from novade_core.ledger.queue import Claimed
from novade_core.ledger.writer import RunWriter
from novade_core.sources.base import Source
from novade_core.streams import Batch, Column, RunKind, SchemaPolicy, StreamSchema, Window
from novade_core.sync import gathering, planning, proof
from novade_core.sync.chunks import Chunk, ChunkWriter, rejects_as_lines
from novade_core.sync.pulse import Pulse
from novade_core.sync.scratch import tidy
from novade_core.sync.surroundings import Surroundings
from novade_core.sync.tail import Tail
from novade_core.sync.tally import StepTimer, Tally
from novade_core.sync.tools import Observer, Outcome, Tools

_log = logging.getLogger(__name__)

#: The part of a window that was cut in two; nothing is read for it.
HALVED = "halved"
#: How often in a row a window is taken up again without a chunk in between.
RESTARTS = 2


def _received(source: Source) -> int:
    return sum(source.usage().values())


class Execution:
    """One claimed run from plan to checkpoint."""

    def __init__(self, tools: Tools, run: Claimed, observer: Observer | None = None, *, retries: bool = False) -> None:
        """``retries``: where it fails with what may pass, the next attempt is queued; a worker's runs do so."""
        self.tools = tools
        self.run = run
        self.writer = RunWriter(tools.ledger, run, tools.retry_seconds if retries else ())
        self.pulse = Pulse(self.writer, tools.beat_seconds)
        self.stream = tools.stream(run.subject)
        self.surroundings = Surroundings(tools, run, self.stream, self.writer, self.pulse)
        self.warehouse = self.surroundings.warehouse
        self.kind = planning.kind_for(self.stream, run.kind)
        self.tally = Tally()
        self.started_at = tools.clock()
        self._observer = observer
        self.tail: Tail | None = None  #: of what the plan read, where a pool is paused between load windows
        self._open_steps: list[StepTimer] = []
        self._rejects: Counter[int] = Counter()  #: of the plan, by window, what an earlier run met included

    def point(self, name: str, **details: Any) -> None:
        """Pass a named point: tell the observer, then hear of cancel and lost lease."""
        if self._observer is not None:
            self._observer(name, details)

    def step(self, name: str) -> StepTimer:
        return StepTimer(self.writer, self.tools.clock, name, self._open_steps)

    def tail_json(self) -> dict[str, int] | None:
        """What the plan keeps of its newest rows."""
        return self.tail.to_json() if self.tail is not None else None

    def end_steps(self, message: str) -> None:
        """End what is open without having failed."""
        for step in list(self._open_steps):
            step.message = message
            step.end()

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
        used_before = Counter(self.tools.landing.usage())
        asked_before = Counter(self.tools.warehouse.usage())
        try:
            self.tools.temp.mkdir(parents=True, exist_ok=True)
            tidy(self.tools.ledger, [self.tools.temp, self.tools.landing.scratch()])
            folder = Path(tempfile.mkdtemp(prefix=f"run-{self.run.id}-", dir=self.tools.temp))
            source = self.tools.source(self.stream.source, folder)
            source.on_wait = self.pulse.wait
            self.pulse.vital = partial(_received, source)
            with self.pulse:
                state, headline = self._steps(source, self.pulse)
        except (Exception, KeyboardInterrupt) as raised:
            cause = self.pulse.cause(raised)
            if isinstance(cause, SystemExit):
                raise cause from raised
            error = proof.as_error(cause, self.run.id, self.tools.temp)
        finally:
            if source is not None:
                with suppress(NovadeError):  # the run counts, not what is known of its source
                    self.surroundings.note_source(source)
                self.tally.api_calls = source.usage().get(f"{source.name}.api_calls", 0)
                self.writer.usage("extract", source.usage())
                self.writer.usage("land", Counter(self.tools.landing.usage()) - used_before)
                self.writer.usage("verify", Counter(self.tools.warehouse.usage()) - asked_before)
                self.writer.usage("run", proof.process_meters())
                source.close()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        if error is not None:
            with suppress(NovadeError):  # a lost lease, say; then the run's end is not ours to tell either
                for step in list(self._open_steps):
                    step.end("failed")
            values = self.tally.columns() | {"stillest_ms": self.pulse.stillest_ms}
            self.writer.fail(self.tools.clock(), error, values)
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
        self.surroundings.note_context()  # before anything can fail: a refused login is when a new credential matters
        with self.surroundings.source_slot():
            plan = self._plan(source)
            pulse.check()
            self.surroundings.note_context(source, plan)
            self._extract_and_land(source, plan, pulse)
        held_back = self._held_back(plan)
        if not held_back and (waits := gathering.load(self, plan, pulse)) is not None:
            return RunState.LANDED, waits
        with self.surroundings.source_slot():
            return self._verify(source, plan, pulse, held_back=held_back)

    # Plan

    def _plan(self, source: Source) -> Plan:
        step = self.step("plan")
        self.point("plan.started")
        with step.working():
            schema = source.schema(self.stream)
            self._note_schema(schema.skipped)
            with self.tools.ledger.read() as connection:
                left = plans.unfinished(connection, self.stream.id)
            fitting = (self._adopt(one, source, schema.columns) for one in left)
            plan = next((one for one in fitting if one is not None), None)
            if plan is None:
                plan = self._new_plan(source, schema.columns)
        step.message = f"{len(plan.windows)} window{'s'[: len(plan.windows) != 1]}, {len(plan.columns)} columns"
        step.end()
        self.point("plan.ended", plan=plan)
        return plan

    def _note_schema(self, skipped: Mapping[str, str]) -> None:
        if skipped:
            self.log("Some fields are not loaded.", fields=dict(skipped))

    def _adopt(self, left: Plan, source: Source, columns: Sequence[Column]) -> Plan | None:
        """The unfinished plan, where it is about the same thing; otherwise it is void and what landed stays."""
        same = left.columns == tuple(replace(c, note="") for c in columns)
        if gathering.has_landed(left):
            if self.kind is RunKind.BACKFILL:
                return None
            if gathering.takes_over(left, self.kind):
                # Also where it no longer fits: a full reload that waited is read again, not forgotten.
                self.kind = left.kind
            if same and self.kind == left.kind and left.state is PlanState.LANDED:
                return gathering.add_what_changed(self, source, left)
        if same and left.kind == self.kind and left.details.get("parameters", {}) == dict(self.run.parameters):
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
        # Records may change while they are read; nothing newer than this instant is proven read.
        read_from = source.now()
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
                details={"parameters": dict(self.run.parameters), "read_from": read_from.isoformat()},
            )
        proof.note_vanished(self.writer, self.tools.clock(), self.stream, before, plan.columns)
        self.log("Planned.", windows=len(windows), seam=seam.isoformat() if seam else None, columns=len(columns))
        return plan

    # Extract and land

    def _extract_and_land(self, source: Source, plan: Plan, pulse: Pulse) -> None:
        extract, land = self.step("extract"), self.step("land")
        total = sum(w.expected or 0 for w in plan.windows) or None
        pulse.update(step="extract", total=total)
        with self.tools.ledger.read() as connection:
            done = plans.positions(connection, plan.id)
            if self.tools.has_windows:
                self.tail = Tail(self.stream, plan, fresh=not done)
            for landed in plans.of_plan(connection, plan):
                self._rejects[landed.window] += landed.rejected
        scratch, run = self.tools.landing.scratch(), self.run.id
        writer = ChunkWriter(self.stream, plan.columns, scratch, f"run-{run}", run_id=run)
        try:
            chunk, index, windows = 0, 0, list(plan.windows)
            while index < len(windows):
                position = done.get(index)
                if windows[index].part != HALVED and not (position and position.done):
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
        self._check_reject_limit(plan)
        extract.end()
        land.end()
        self.point("land.ended")

    def _halve(
        self, plan: Plan, windows: list[Window], index: int, now: datetime, error: WindowTooLarge
    ) -> list[Window]:
        halves = windows[index].halves(now)
        if halves is None:
            raise error
        # The halves are windows of their own: a position inside the whole is none inside a half.
        windows = [*windows[:index], replace(windows[index], part=HALVED), *windows[index + 1 :], *halves]
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
        restarts = lost = 0
        while True:
            try:
                # Closed at once when something breaks, so that its files go before the folder does.
                with closing(source.extract(self.stream, schema, window, resume)) as batches:
                    while True:
                        self.point("extract.batch", window=index, chunk=chunk)
                        with extract.working():
                            batch = next(batches, None)
                        pulse.check()
                        if batch is None:
                            return chunk
                        extract.rows += batch.records
                        extract.size += batch.bytes_in
                        self.tally.bytes_in += batch.bytes_in
                        self.tally.read += batch.records
                        with land.working():
                            land.size += self._land(plan, index, window, batch, writer, chunk)
                        land.rows += batch.rows
                        resume, restarts, chunk = batch.resume, 0, chunk + 1
                        pulse.update(rows=extract.rows, bytes=extract.size)
                        pulse.check()
            except (ExtractionLost, TransferBroken) as error:
                if isinstance(error, ExtractionLost):
                    # Whatever lands again is no progress, so these are counted over the whole window.
                    resume, lost = None, lost + 1
                    self._rejects[index] = 0
                else:
                    restarts += 1
                if max(restarts, lost) > RESTARTS:
                    raise
                self.log("The extraction broke off and is taken up again.", "warning", reason=error.message)

    def _land(self, plan: Plan, index: int, window: Window, batch: Batch, writer: ChunkWriter, chunk: int) -> int:
        """Parquet, rejects, manifest, registration, in this order; answers the bytes written."""
        made = writer.write(batch, chunk, keep=self.stream.reject_limit + 1)
        self._rejects[index] += made.rejected
        if self.tail is not None:
            self.tail.add(writer, made)
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
            self._keep_rejects(made, paths.rejects(folder, chunk), now)
        self.point("land.file", chunk=chunk)
        manifest = Manifest(
            stream=self.stream.id,
            run_id=self.run.id,
            chunk=chunk,
            window=window.to_json(),
            files=files,
            rows=made.rows,
            rejected=made.rejected,
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
                rejected=made.rejected,
                size=size,
                max_cursor=made.cursor_high,
                resume=batch.resume,
            )
        self.tally.landed += made.rows
        self.point("land.registered", chunk=chunk, rows=made.rows)
        self._check_reject_limit(plan)
        return size

    def _keep_rejects(self, made: Chunk, path: str, now: datetime) -> None:
        rejects = made.rejects
        self.tools.landing.put_once(path, rejects_as_lines(rejects))
        self.tally.rejected += made.rejected
        shown = [{k: r[k] for k in ("column", "reason")} for r in rejects[:50]]
        self.writer.artifact(now, "rejects", shown)
        self.log(
            "Some records could not be typed.", "warning", count=made.rejected, first=rejects[0]["reason"], file=path
        )

    def _check_reject_limit(self, plan: Plan) -> None:
        """Too many rejects: what landed is set aside with the plan, and the next run reads the windows again."""
        if self._rejects.total() > self.stream.reject_limit:
            with self.tools.ledger.write() as connection:
                leases.require(connection, stream=self.stream.id, fence=self.run.fence)
                plans.close_plan(connection, plan.id, PlanState.REJECTED)
            raise DataRejected(
                f"{self._rejects.total():,} records of {self.stream.label} could not be typed; "
                f"the stream's limit is {self.stream.reject_limit:,}."
            )

    def _held_back(self, plan: Plan) -> bool:
        """Whether policy ``quarantine`` keeps this plan's rows out of the warehouse."""
        if self.stream.schema_policy is not SchemaPolicy.QUARANTINE:
            return False
        with self.tools.ledger.read() as connection:
            before = plans.last_columns(connection, self.stream.id)
        return bool(planning.schema_changes(before, plan.columns))

    # Verify

    def _verify(self, source: Source, plan: Plan, pulse: Pulse, *, held_back: bool) -> tuple[RunState, str]:
        step = self.step("verify")
        self.point("verify.started")
        pulse.update(step="verify", total=None)
        with step.working():
            with self.tools.ledger.read() as connection:
                self.tally.data_to = plans.max_cursor(connection, plan.id)
                before = plans.checkpoint(connection, self.stream.id)
            highest = [c for c in (self.tally.data_to, before.cursor if before else None) if c]
            self.tally.data_to = max(highest) if highest else None
            is_open = self.surroundings.is_open()
            counts = proof.compare(self, source, plan, first=before is None, is_open=is_open)
        # What an earlier run marked as loaded just before it died was rejected all the same.
        unsaid = max(0, self._rejects.total() - self.tally.rejected)
        self.tally.rejected += unsaid
        self.tally.read += unsaid
        step.message = counts.sentence
        step.rows = counts.warehouse or 0
        step.end()
        pulse.check()
        self.point("checkpoint.before")
        state = RunState.PARTIAL if self.tally.rejected or held_back else RunState.SUCCEEDED
        headline = proof.headline(
            self.stream,
            self.tally,
            counts,
            held_back=held_back,
            published=self.tools.warehouse.capabilities.decides_at_reading,
        )
        if pulse.cancelled:
            headline += " The cancel came after its data was committed."
        notice = proof.silence(self.tools.ledger, self.run, self.tally.read)
        if notice:
            self.log("Nothing was read where something is usual.", "warning", usual=notice)
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
                    cursor=planning.proven(self.tally.data_to, plan),
                    seam=plan.seam,
                )
            plans.close_plan(connection, plan.id, PlanState.HELD if held_back else PlanState.DONE, self.tail_json())
            status: dict[str, Any] = {"data_to": self.tally.data_to}
            if is_open:  # otherwise the last comparison stands
                status |= {
                    "source_count": counts.source,
                    "warehouse_count": counts.warehouse,
                    "comparison_state": counts.state.value,
                    "comparison_sentence": counts.sentence,
                }
            if not held_back and self.kind is not RunKind.BACKFILL:
                status |= {"last_load_at": now, "last_success_id": self.run.id}
            values = self.tally.columns() | {"stillest_ms": pulse.stillest_ms, "notice": notice}
            self.writer.finish(connection, now, state=state, headline=headline, values=values, status=status)
        self.point("checkpoint.after")
        return state, headline
