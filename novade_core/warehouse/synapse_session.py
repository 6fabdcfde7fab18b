"""One open dedicated SQL pool: fenced load, full refresh, counts.

DDL cannot be part of a transaction there, so a load stages and alters first and then changes rows, markers and
tombstones in one fenced transaction. Only what was staged under our own names precedes the fence; a table that it
made or widened for a load that then stopped stays as it is, empty or wider.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from novade_core.errors import ConfigurationError, LeaseLost, RetryableError
from novade_core.settings import WarehouseSettings
from novade_core.streams import DeleteMode, LoadResult, Stream
from novade_core.warehouse import synapse_load_sql as load_sql
from novade_core.warehouse import synapse_sql as sql
from novade_core.warehouse.base import LoadOutcome, LoadRequest, SchemaChange
from novade_core.warehouse.fence import Fence
from novade_core.warehouse.schema import refuse_if_frozen
from novade_core.warehouse.synapse_link import EXISTS_ALREADY, Link, Refused
from novade_core.warehouse.synapse_schema import (
    BOUNDED,
    SYNAPSE,
    UNLIMITED,
    definitions,
    keyed,
    keys_of,
    read_type,
    storage,
)
from novade_core.warehouse.synapse_sql import Statement, Table
from novade_core.warehouse.synapse_stage import Stage, leftovers
from novade_core.warehouse.synapse_swap import Swapper

_log = logging.getLogger(__name__)

T = TypeVar("T")
_LONGEST_PAUSE = 60.0
#: An earlier holder may drop its own staging tables while our DROP waits for its transaction.
GONE_ALREADY = frozenset({208, 3701})
_VERDICTS = ("load", "unchanged", "superseded", "duplicate")


def table_of(stream: Stream) -> Table:
    """The stream's table."""
    return Table(stream.source, stream.name)


def fence_on(link: Link) -> Fence:
    """The fence whose transaction runs on this connection."""

    def execute(text: str, parameters: Sequence[Any]) -> int:
        steps = {"BEGIN": sql.BEGIN, "COMMIT": sql.COMMIT, "ROLLBACK": sql.ROLLBACK}
        if text in steps:
            return link.hit(steps[text])
        return link.hit(Statement("fence_row" if text.startswith("INSERT") else "fence", text, tuple(parameters)))

    return Fence(execute=execute, table=sql.FENCE.sql)


@dataclass
class _Attempt:
    """What one try at a load has come to."""

    asked: bool = False  #: the lease was asked for the last time: from here on nothing is tried again in place
    changes: tuple[SchemaChange, ...] = ()


class SynapseSession:
    """See warehouse.base.Session."""

    def __init__(self, settings: WarehouseSettings) -> None:
        self._settings = settings
        self._link = Link(settings)
        #: The second connection, which holds the fence while tables are renamed on the first.
        self._guard = Link(settings)
        self._stop = threading.Event()

    def open(self) -> None:
        """Connect, with patience for faults that pass."""
        self._patiently(self._link.open, lambda: True)

    def close(self) -> None:
        """Hang up."""
        self._link.close()
        self._guard.close()

    def interrupt(self) -> None:
        """See Session.interrupt."""
        self._stop.set()
        self._link.cancel()
        self._guard.cancel()

    def _patiently(self, work: Callable[[], T], repeatable: Callable[[], bool]) -> T:
        """Do it again after a fault that passes, as long as it can be repeated."""
        for attempt in range(self._settings.tries):
            try:
                return work()
            except Refused as refused:
                last = attempt == self._settings.tries - 1
                if last or not refused.transient or not repeatable() or self._stop.is_set():
                    raise
                _log.warning("Synapse: %s failed and is tried again.", refused.step)
                self._stop.wait(min(self._settings.retry_base_seconds * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError("unreachable")  # tries is at least 1

    # Loading

    def load(self, request: LoadRequest) -> LoadOutcome:
        """See Session.load."""
        return self._tried(request, self._load)

    def replace(self, request: LoadRequest) -> LoadOutcome:
        """See Session.replace."""
        return self._tried(request, self._replace)

    def _tried(self, request: LoadRequest, work: Callable[[LoadRequest, _Attempt], LoadOutcome]) -> LoadOutcome:
        for link in (self._link, self._guard):
            link.tag = (request.run_id, request.stream.name)
        attempts = [_Attempt()]

        def once() -> LoadOutcome:
            attempts.append(_Attempt())
            return work(request, attempts[-1])

        try:
            return self._patiently(once, lambda: not attempts[-1].asked)
        except Refused as refused:
            if not attempts[-1].asked or not (refused.lost or refused.timed_out):
                raise
            return self._settle(request, attempts[-1], refused)
        finally:
            self._guard.close()

    def _settle(self, request: LoadRequest, attempt: _Attempt, refused: Refused) -> LoadOutcome:
        """COMMIT was sent and no answer came. Our own fence waits for that transaction's end; its marker tells.

        Asked by SELECT alone, a marker could be one that is about to be rolled back.
        """
        self._link.close()
        self._guard.close()
        self._swapper(request).repair()
        known = self._patiently(lambda: self._known(request), lambda: True)
        if not request.manifests or any(m.load_id not in known for m in request.manifests):
            raise RetryableError(
                "The connection was lost at COMMIT, and the load is not in the warehouse.", origin="warehouse"
            ) from refused
        results = tuple(known[m.load_id] for m in request.manifests)
        return LoadOutcome(results=results, changes=attempt.changes)

    def _known(self, request: LoadRequest) -> dict[str, LoadResult]:
        """The markers, read behind the fence."""
        return fence_on(self._link).transaction(
            request.stream.id, request.fence, lambda: self._markers(self._link, request), lambda: None
        )

    def _load(self, request: LoadRequest, attempt: _Attempt) -> LoadOutcome:
        stream, table = request.stream, table_of(request.stream)
        known = self._prepare(request)
        fresh = [i for i, m in enumerate(request.manifests) if m.load_id not in known]
        types: dict[str, str] = {}
        if fresh:
            attempt.changes, types = self._shape(request, fresh)
        stage = Stage(self._link, self._settings, request, types)
        sets = [keyed(stream, request.manifests[i].columns) for i in fresh]
        absent = [n for n in types if any(n not in SYNAPSE.answered(columns) for columns in sets)]

        def inside() -> dict[str, LoadResult]:
            known = self._markers(self._link, request)
            if not fresh:
                return known
            results = self._upsert(request, stage, absent, known)
            return known | {r.load_id: r for r in results}

        try:
            if fresh:
                stage.fill(fresh)
                stage.create(stage.verdicts, load_sql.verdict_columns(stage.key_types))
                if absent:
                    stage.create(stage.kept, load_sql.kept_columns(stage.key_types, [types[n] for n in absent]))
            by_id = fence_on(self._link).transaction(
                stream.id, request.fence, inside, lambda: self._ask(request, attempt)
            )
            if any(m.load_id not in by_id for m in request.manifests):
                raise RetryableError(f"Another load of {stream.id} was taken back meanwhile.", origin="warehouse")
            if sum(m.rows for m in request.manifests) >= self._settings.statistics_from_rows and fresh:
                self._link.hit(sql.update_statistics(table))
        finally:
            self._tidy(stage)
        return LoadOutcome(results=tuple(by_id[m.load_id] for m in request.manifests), changes=attempt.changes)

    @staticmethod
    def _ask(request: LoadRequest, attempt: _Attempt) -> None:
        request.before_commit()
        attempt.asked = True

    def _upsert(
        self, request: LoadRequest, stage: Stage, absent: Sequence[str], known: dict[str, LoadResult]
    ) -> list[LoadResult]:
        """The rows of what is staged and not known, inside the fence's transaction."""
        stream, table, hit = request.stream, table_of(request.stream), self._link.hit
        verdicts, keys = stage.verdicts, stage.keys
        stage.classify(table, list(known))
        results = self._results(request, stage, known)
        if request.older_waiting:
            hit(load_sql.note_landing(table, verdicts, keys))
            hit(load_sql.note_tombstones(verdicts, stream.id))
        if absent:
            # A field that the source no longer shows keeps its last value: a lost permission is not a NULL.
            hit(load_sql.keep(stage.kept, table, verdicts, keys, absent))
        hit(load_sql.delete_replaced(table, verdicts, keys))
        hard = stream.delete_mode is DeleteMode.HARD
        for part in stage.parts(absent):
            kept = stage.kept if any(v.kept for v in part.values) else None
            hit(load_sql.insert_rows(table, part, verdicts, keys, request.now, skip_deleted=hard, kept=kept))
        self._bury(self._link, request, stage)
        self._mark(self._link, request, results)
        return results

    def _bury(self, link: Link, request: LoadRequest, stage: Stage) -> None:
        """Tombstones of the loaded keys: none for what lives, one for what a hard delete removed."""
        link.hit(load_sql.unbury(stage.verdicts, request.stream.id))
        if request.stream.delete_mode is DeleteMode.HARD:
            link.hit(load_sql.bury(stage.verdicts, request.stream.id))

    def _replace(self, request: LoadRequest, attempt: _Attempt) -> LoadOutcome:
        """A new table beside the old one, filled with all manifests (their markers are renewed), then renamed."""
        stream, table = request.stream, table_of(request.stream)
        known = self._prepare(request)
        if not request.manifests:  # nothing tells the columns, so an empty table keeps its own
            there = self._exists(table)
            fence_on(self._link).transaction(
                stream.id,
                request.fence,
                lambda: self._link.hit(load_sql.delete_all(table)) if there else 0,
                lambda: self._ask(request, attempt),
            )
            return LoadOutcome(results=(), changes=())
        if all(m.load_id in known for m in request.manifests):
            known = self._known(request)
            if all(m.load_id in known for m in request.manifests):
                request.before_commit()
                return LoadOutcome(results=tuple(known[m.load_id] for m in request.manifests), changes=())
        types = SYNAPSE.union([keyed(stream, m.columns) for m in request.manifests])
        stage = Stage(self._link, self._settings, request, types)
        try:
            stage.fill(range(len(request.manifests)))
            stage.create(stage.verdicts, load_sql.verdict_columns(stage.key_types))
            stage.classify(None)
            results = self._results(request, stage, {})

            def remember() -> None:
                self._bury(self._guard, request, stage)
                self._mark(self._guard, request, results)

            rows = sum(r.loaded for r in results)
            made = storage(self._settings, stream, types, rows)
            self._swapper(request).swap(
                fill=lambda new: load_sql.replacement(
                    new,
                    made,
                    stage.parts([]),
                    stage.verdicts,
                    stage.keys,
                    request.now,
                    skip_deleted=stream.delete_mode is DeleteMode.HARD,
                ),
                remember=remember,
                ask=lambda: self._ask(request, attempt),
            )
            if rows >= self._settings.statistics_from_rows:
                self._link.hit(sql.update_statistics(table))
        finally:
            self._tidy(stage)
        by_id = {r.load_id: r for r in results}
        return LoadOutcome(results=tuple(by_id[m.load_id] for m in request.manifests), changes=())

    def _swapper(self, request: LoadRequest) -> Swapper:
        return Swapper(
            link=self._link,
            guard=self._guard,
            fence=fence_on(self._guard),
            table=table_of(request.stream),
            stream=request.stream.id,
            mine=request.fence,
            run_id=request.run_id,
        )

    def _tidy(self, stage: Stage) -> None:
        """Staging goes; where it cannot, the next load of the stream takes it away."""
        try:
            stage.drop()
        except Refused as refused:
            _log.warning("Staging tables stay until the next load: %s", refused)

    # Preparing

    def _prepare(self, request: LoadRequest) -> dict[str, LoadResult]:
        """Our own tables, what earlier loads left behind, the stream's fence; answers the markers that show."""
        stream = request.stream
        names = {name for (name,) in self._link.rows(sql.schemas())}
        for name in (sql.FENCE.schema, sql.STAGE_SCHEMA, stream.source):
            if name not in names:
                self._make(sql.create_schema(name))
        there = {Table(*row) for row in self._link.rows(sql.tables(sql.FENCE.schema, sql.STAGE_SCHEMA))}
        if sql.FENCE not in there:
            self._make(sql.create_fence_table())
        for table, (defined, stored) in sql.OWN_TABLES.items():
            if table not in there:
                self._make(sql.create_table(table, defined, stored))
        stored_fence = self._link.rows(sql.fence_of(stream.id))
        if not stored_fence:
            self._make_fence(stream)
        elif any(fence > request.fence for (fence,) in stored_fence):
            raise LeaseLost(f"A later holder than fence {request.fence} has loaded {stream.id}.")
        staged = [t.name for t in there if t.schema == sql.STAGE_SCHEMA]
        for name in leftovers(stream, request.fence, staged):
            self._do(sql.drop_table(Table(sql.STAGE_SCHEMA, name)), unless=GONE_ALREADY)
        self._swapper(request).repair()
        return self._markers(self._link, request)

    def _make(self, statement: Statement) -> None:
        """Create it, unless somebody else was faster."""
        self._do(statement, unless=EXISTS_ALREADY)

    def _do(self, statement: Statement, *, unless: frozenset[int]) -> None:
        """Run it; these refusals say that somebody else was faster."""
        try:
            self._link.hit(statement)
        except Refused as refused:
            if refused.number not in unless:
                raise

    def _make_fence(self, stream: Stream) -> None:
        """The stream's one row. No key keeps two at once from making one each, so the first row is locked for it."""
        link = self._link
        link.hit(sql.BEGIN)
        try:
            link.hit(sql.lock_fences())
            if not link.rows(sql.fence_of(stream.id)):
                link.hit(sql.make_fence(stream.id))
            link.hit(sql.COMMIT)
        except BaseException:
            link.close()  # which rolls back
            raise

    def _exists(self, table: Table) -> bool:
        return tuple(table) in self._link.rows(sql.tables(table.schema))

    def _types(self, table: Table) -> dict[str, str]:
        return {name: read_type(kind) for name, *kind in self._link.rows(sql.columns(table))}

    def _shape(self, request: LoadRequest, fresh: Sequence[int]) -> tuple[tuple[SchemaChange, ...], dict[str, str]]:
        """Create or alter the table so that the landed columns fit; answers changes and the table's own columns.

        Before the fence, because DDL cannot be behind it: all of it only adds, so it does no harm to a later holder.
        """
        stream, table = request.stream, table_of(request.stream)
        sets = [keyed(stream, request.manifests[i].columns) for i in fresh]
        existing = {n: t for n, t in self._types(table).items() if n not in sql.NOVADE_COLUMNS}
        if not existing:
            types = SYNAPSE.union(sets)
            rows = sum(request.manifests[i].rows for i in fresh)
            self._make(
                sql.create_table(
                    table,
                    {**definitions(stream, types), **sql.NOVADE_COLUMNS},
                    storage(self._settings, stream, types, rows),
                )
            )
            return (), types
        changes = SYNAPSE.changes(existing, sets)
        refuse_if_frozen(stream, changes)
        if any(c.sql_type == UNLIMITED for c in changes) and self._link.rows(sql.columnstore(table)):
            # A columnstore takes no (max) column; a longer text then fails the COPY aloud.
            changes = [c._replace(sql_type=BOUNDED) if c.sql_type == UNLIMITED else c for c in changes]
        added = {c.column: c.sql_type for c in changes if c.told.kind in ("added", "sidelined")}
        if added:
            self._link.hit(sql.add_columns(table, definitions(stream, added)))
        for change in changes:
            if change.told.kind == "widened":
                wider = definitions(stream, {change.column: change.sql_type})[change.column]
                self._link.hit(sql.widen_column(table, change.column, wider))
        final = {c.column: c.sql_type for c in changes if c.told.kind != "absent"}
        return tuple(c.told for c in changes), existing | final

    # Markers

    def _markers(self, link: Link, request: LoadRequest) -> dict[str, LoadResult]:
        ids = [m.load_id for m in request.manifests]
        found = {}
        for part in _parts(ids):
            for load_id, *counts in link.rows(load_sql.markers(request.stream.id, part)):
                staged, loaded, deleted, unchanged, superseded, duplicates = counts
                found[load_id] = LoadResult(
                    load_id=load_id,
                    staged=staged,
                    loaded=loaded,
                    deleted=deleted,
                    unchanged=unchanged,
                    superseded=superseded,
                    duplicates=duplicates,
                )
        return found

    @staticmethod
    def _mark(link: Link, request: LoadRequest, results: Sequence[LoadResult]) -> None:
        """A marker per result; what a full reload contains counts as superseded."""
        seqs = {m.load_id: m.seq for m in (*request.manifests, *request.contained)}
        done = [
            load_sql.Marker(
                r.load_id,
                seqs[r.load_id],
                (r.staged, r.loaded, r.deleted, r.unchanged, r.superseded, r.duplicates),
            )
            for r in results
        ]
        done += [load_sql.Marker(m.load_id, m.seq, (m.rows, 0, 0, 0, m.rows, 0)) for m in request.contained]
        for part in _parts([m.load_id for m in done]):
            link.hit(load_sql.unmark(request.stream.id, part))
        for some in _parts(done):
            link.hit(load_sql.mark(request.stream.id, request.run_id, request.now, some))

    def _results(self, request: LoadRequest, stage: Stage, known: dict[str, LoadResult]) -> list[LoadResult]:
        """What the verdicts say of each manifest. A key that the table holds twice shows as a row too many."""
        counts = {
            (seq, verdict): (n, gone)
            for seq, verdict, n, gone in self._link.rows(load_sql.verdict_counts(stage.verdicts))
        }
        results = []
        for manifest in (m for shape in stage.shapes for m in shape.manifests if m.load_id not in known):
            of = {verdict: counts.get((manifest.seq, verdict), (0, 0)) for verdict in _VERDICTS}
            if sum(n for n, _ in of.values()) != manifest.rows:
                raise ConfigurationError(
                    f"{request.stream.id}: the warehouse table holds a key twice, so a load cannot tell which row it "
                    "replaces.",
                    hint=f"Reload the stream in full: python -m jobs sync {request.stream.id} --full",
                    origin="warehouse",
                )
            results.append(
                LoadResult(
                    load_id=manifest.load_id,
                    staged=manifest.rows,
                    loaded=of["load"][0],
                    deleted=of["load"][1],
                    unchanged=of["unchanged"][0],
                    superseded=of["superseded"][0],
                    duplicates=of["duplicate"][0],
                )
            )
        return results

    # Counting

    def count(self, stream: Stream) -> int | None:
        """See Session.count. Exact; ``count_approximately`` is not."""
        table = table_of(stream)
        return int(self._link.rows(sql.count_live(table))[0][0]) if self._exists(table) else None

    def count_approximately(self, stream: Stream) -> int | None:
        """Rows, those marked deleted too, as the pool's own books have them: quick, approximate, None if unknown."""
        [(rows,)] = self._link.rows(sql.count_approximately(table_of(stream)))
        return None if rows is None else int(rows)

    def counts_by_month(self, stream: Stream, field: str) -> dict[str, int]:
        """See Session.counts_by_month."""
        table = table_of(stream)
        if not self._exists(table):
            return {}
        rows = self._link.rows(sql.count_by_month(table, field))
        return {f"{year:04d}-{month:02d}" if year else "": n for year, month, n in rows}

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Session.keys."""
        table = table_of(stream)
        types = self._types(table)
        if types and month:
            year, number = (int(part) for part in month.split("-"))
            statement = sql.keys_of_month(table, keys_of(stream, types), field, year, number)
            yield from (key for (key,) in self._link.stream(statement))


def _parts(items: Sequence[T], size: int = 1_000) -> Iterator[Sequence[T]]:
    """So many at a time that one statement can hold them."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
