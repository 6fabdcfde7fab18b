"""The end of a run: both sides are counted, a difference is followed to its keys, and a sentence says so."""

from __future__ import annotations

import errno
import logging
import resource
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from novade_core.errors import LeaseLost, NotOffered, NovadeError, RunCancelled, StorageRefused
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import ComparisonState, Run, RunState
from novade_core.ledger.plans import Plan
from novade_core.ledger.queue import Claimed
from novade_core.ledger.writer import Counts, RunWriter
from novade_core.sources.base import Source
from novade_core.streams import Column, RunKind, Stream, Window
from novade_core.sync.tally import Tally
from novade_core.sync.verify import Difference, KeyDifference, by_month, name_difference, overall

if TYPE_CHECKING:
    from novade_core.sync.engine import Execution

_log = logging.getLogger(__name__)

#: A month with more live rows than this is compared by count only; its keys would not fit the memory promise.
MAX_KEYS_PER_MONTH = 500_000
#: Differing months whose keys are compared in one run.
MAX_MONTHS = 24


def compare(execution: Execution, source: Source, plan: Plan, *, first: bool, is_open: bool = True) -> Counts:
    """Count both sides, by month too where history was read, and name the keys where they differ.

    A diagnosis that fails must not hold up the stream: what is loaded is loaded, and the comparison says
    that it is unknown. ``first`` tells that the stream's history has not been imported yet,
    ``is_open`` that the warehouse may be opened.
    """
    stream, tally, now = execution.stream, execution.tally, execution.tools.clock()
    sentence = ""
    if first and execution.kind is RunKind.BACKFILL:
        sentence = "Not compared: only a window was read, and the history has not been imported yet."
    elif not is_open:
        sentence = "Not compared: the pool is paused until its next load window."
    if sentence:
        return Counts(window="all", source=None, warehouse=None, state=ComparisonState.UNKNOWN, sentence=sentence)
    in_flight = 0
    try:
        tally.source_count, sentence = _source_count(source, stream)
        with execution.warehouse() as session:
            tally.warehouse_count = session.count(stream) or 0
        if sentence:
            here = tally.warehouse_count
            return Counts(window="all", source=None, warehouse=here, state=ComparisonState.UNKNOWN, sentence=sentence)
        if tally.source_count != tally.warehouse_count:
            in_flight = _in_flight(source, stream, tally.data_to)
    except NovadeError as error:
        _not_compared(execution, error)
    counts = overall(stream.label, tally.source_count, tally.warehouse_count, in_flight)
    months: list[Counts] = []
    difference = Difference()
    differs = counts.state is ComparisonState.DIFFERS
    created = stream.created_field
    if created and any(c.name == created for c in plan.columns) and (differs or plan.seam is not None):
        try:
            months = _by_month(execution, source, stream, created)
            if differs:
                difference = _keys(execution, source, stream, created, months)
                said = f"{counts.sentence} {name_difference(stream.label, difference)}"
                counts = replace(counts, sentence=said)
        except NovadeError as error:
            _not_compared(execution, error)
    if differs:
        _keep(execution.writer, now, stream, counts, difference)
    elif counts.state is ComparisonState.EQUAL:
        execution.writer.close_finding(now, "count_difference")
    execution.writer.comparisons(now, [counts, *months])
    return counts


def _source_count(source: Source, stream: Stream) -> tuple[int | None, str]:
    """The source's count, or why it has none."""
    try:
        return source.count(stream), ""
    except NotOffered as error:
        return None, f"Not compared: {error.message}"


def _not_compared(execution: Execution, error: NovadeError) -> None:
    """Note why; a lost lease or a cancel is no diagnosis and goes on up."""
    if isinstance(error, LeaseLost | RunCancelled):
        raise error
    execution.log("Source and warehouse could not be compared in full.", "warning", reason=error.message)


def _in_flight(source: Source, stream: Stream, data_to: datetime | None) -> int:
    """Records that changed at the source after the newest one that was read."""
    if data_to is None:
        return 0
    return source.window_count(stream, Window(low=data_to + timedelta(milliseconds=1), high=None)) or 0


def _by_month(execution: Execution, source: Source, stream: Stream, created: str) -> list[Counts]:
    there = source.counts_by_month(stream, created, include_deleted=False)
    with execution.warehouse() as session:
        here = session.counts_by_month(stream, created)
    return by_month(there, here)


def _keys(
    execution: Execution, source: Source, stream: Stream, created: str | None, months: Sequence[Counts]
) -> Difference:
    """The keys behind the differing months; the source is read before the warehouse is opened."""
    found = KeyDifference()
    if created is None:
        return found.result()
    wrong = [m for m in months if m.state is ComparisonState.DIFFERS]
    for number, month in enumerate(wrong):
        if number >= MAX_MONTHS or max(month.source or 0, month.warehouse or 0) > MAX_KEYS_PER_MONTH:
            found.skip(month.source or 0, month.warehouse or 0)
            continue
        there = list(source.keys(stream, created, month.window))
        with execution.warehouse() as session:
            found.add(there, session.keys(stream, created, month.window))
    return found.result()


def _keep(writer: RunWriter, now: datetime, stream: Stream, counts: Counts, difference: Difference) -> None:
    for kind, keys in (("missing_keys", difference.missing), ("extra_keys", difference.extra)):
        if keys:
            writer.artifact(now, kind, [{"key": key} for key in keys])
    writer.log(now, "warning", "Source and warehouse differ.", sentence=counts.sentence)
    only_purged = difference.extra_total and not difference.missing_total
    writer.finding(
        now,
        kind="count_difference",
        severity="warn",
        summary=f"{stream.label}: {counts.sentence}",
        evidence={
            "source": counts.source,
            "warehouse": counts.warehouse,
            "missing": difference.missing_total,
            "extra": difference.extra_total,
            "keys": [*difference.missing[:20], *difference.extra[:20]],
        },
        next_step=(
            f"Take the purged records out with a full reload: python -m jobs sync {stream.id} --full"
            if only_purged
            else f"Fetch the missing records with a full reload: python -m jobs sync {stream.id} --full"
        ),
    )


def note_vanished(
    writer: RunWriter, now: datetime, stream: Stream, before: Sequence[Column] | None, after: Sequence[Column]
) -> None:
    """Fields that the source showed before and hides now: a finding that stays open until they are back.

    A field without read permission is absent from describe exactly like a deleted one, so the table's column
    and its values stay.
    """
    names = {c.name for c in after}
    known = writer.open_finding("field_vanished") or {}
    gone = {c.name for c in before or () if c.name not in names}
    gone |= {n for n in known.get("fields", []) if n not in names}
    if not gone:
        if known:
            writer.close_finding(now, "field_vanished")
        return
    listed = ", ".join(sorted(gone)[:5]) + (" …" if len(gone) > 5 else "")
    writer.log(now, "warning", "Fields are no longer shown by the source.", fields=sorted(gone))
    writer.finding(
        now,
        kind="field_vanished",
        severity="warn",
        summary=f"{stream.label}: the source no longer shows {listed}; the column keeps its last values.",
        evidence={"fields": sorted(gone)},
        next_step=(
            f"Check the integration user's field permissions on {stream.object_name} ({listed}); "
            "if the fields were deleted on purpose, nothing needs to be done."
        ),
    )


def headline(stream: Stream, tally: Tally, counts: Counts, *, held_back: bool, published: bool = False) -> str:
    """The run in one sentence. ``published``: no key was compared yet, the newest record is chosen at reading."""
    if held_back:
        return (
            f"{stream.label}: the schema changed, so {tally.landed:,} rows wait in quarantine; "
            "accept it by setting schema_policy to evolve."
        )
    if not tally.loaded:
        what = "nothing new" if not tally.rejected else f"nothing new, {tally.rejected:,} rejected"
    else:
        what = f"{tally.loaded:,} {'row' if tally.loaded == 1 else 'rows'} {'published' if published else 'loaded'}"
        if tally.deleted:
            what += f", {tally.deleted:,} of them deleted"
        if tally.rejected:
            what += f", {tally.rejected:,} rejected"
    return f"{stream.label}: {what}. {counts.sentence}"


#: Runs that a usual number of rows stands on, and how many there must be before one is odd.
_USUAL_OF, _USUAL_FROM = 10, 5


def silence(ledger: Ledger, run: Claimed, read: int) -> str | None:
    """What is odd about a run that read nothing: every one of the last runs of its stream and kind did read."""
    if read:
        return None
    query = (
        select(Run.read)
        .where(
            Run.subject == run.subject,
            Run.kind == run.kind.value,
            Run.id < run.id,
            Run.state.in_([RunState.SUCCEEDED.value, RunState.PARTIAL.value]),
        )
        .order_by(Run.id.desc())
        .limit(_USUAL_OF)
    )
    with ledger.read() as connection:
        before = [count or 0 for count in connection.execute(query).scalars()]
    if len(before) < _USUAL_FROM or not all(before):
        return None
    return f"It read nothing, where {round(statistics.median(before)):,} rows are usual."


def process_meters() -> Mapping[str, int]:
    """What this process used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "process.cpu_ms": round((used.ru_utime + used.ru_stime) * 1000),
        "process.peak_memory_bytes": used.ru_maxrss * 1024,
    }


def as_error(raised: BaseException, run_id: int, folder: Path) -> NovadeError:
    """Whatever stopped a run as one of our errors; a fault of ours leaves its trace in the log, never on a page."""
    if isinstance(raised, NovadeError):
        return raised
    if isinstance(raised, OSError):
        return _storage_fault(raised, folder)
    if isinstance(raised, KeyboardInterrupt):
        return RunCancelled("The run was interrupted from the keyboard.")
    _log.error("run %s met a fault of ours", run_id, exc_info=raised)
    return NovadeError(
        f"A fault of ours stopped the run ({type(raised).__name__}).",
        hint="The worker's own log holds the trace; report it. What has landed is kept.",
    )


def _storage_fault(error: OSError, folder: Path) -> NovadeError:
    """An operating system's refusal."""
    where = error.filename or folder
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageRefused(f"The disk that holds {where} is full.", origin="us")
    return StorageRefused(
        f"{where} cannot be used: {error.strerror or type(error).__name__}.",
        hint="Check the folder's rights and free space, then start the run again.",
        origin="us",
    )
