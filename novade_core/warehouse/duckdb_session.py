"""One open DuckDB file: fenced load, full refresh, counts.

Only keys, versions and hashes are staged; the wide rows go from the landed Parquet straight into the table.
So memory does not grow with the width of a row, and what is unchanged is never read in full.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb

from novade_core.errors import ConfigurationError
from novade_core.rowhash import quote, quote_path
from novade_core.streams import Column, DeleteMode, LoadResult, Stream
from novade_core.warehouse.base import LoadOutcome, LoadRequest, SchemaChange
from novade_core.warehouse.fence import Fence
from novade_core.warehouse.schema import DUCKDB, NOVADE_COLUMNS_DUCKDB, refuse_if_frozen

#: The part of a fenced transaction that differs: takes the request and the indexes of manifests not loaded yet.
Work = Callable[[LoadRequest, Sequence[int]], LoadOutcome]


def table_name(stream: Stream) -> str:
    """``"salesforce"."contact"``."""
    return f"{quote(stream.source)}.{quote(stream.name)}"


def _key(stream: Stream, prefix: str = "") -> str:
    """The key as one text; parts of a composite key are joined by U+001F."""
    parts = [f"CAST({prefix}{quote(k)} AS VARCHAR)" for k in stream.primary_key]
    return parts[0] if len(parts) == 1 else f"concat_ws(chr(31), {', '.join(parts)})"


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


class DuckDBSession:
    """See warehouse.base.Session."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._c = connection
        self._fence = Fence(execute=self._hit, table="novade.novade_fence")

    # Loading

    def load(self, request: LoadRequest) -> LoadOutcome:
        """See Session.load."""
        return self._fenced(request, self._upsert)

    def replace(self, request: LoadRequest) -> LoadOutcome:
        """See Session.replace."""
        return self._fenced(request, self._swap)

    def _fenced(self, request: LoadRequest, work: Work) -> LoadOutcome:
        """One fenced transaction: markers, then the work on what is not loaded yet; see Fence.transaction."""

        def inside() -> tuple[LoadOutcome, dict[str, LoadResult]]:
            known = self._markers([m.load_id for m in (*request.manifests, *request.contained)])
            fresh = [i for i, m in enumerate(request.manifests) if m.load_id not in known]
            outcome = LoadOutcome(results=(), changes=())
            # A replacement by no manifest at all empties the table; one whose manifests are all in has happened.
            if fresh or (work == self._swap and not request.manifests):
                outcome = work(request, fresh)
                self._mark(request, outcome.results, known)
            return outcome, known | {r.load_id: r for r in outcome.results}

        outcome, by_id = self._fence.transaction(request.stream.id, request.fence, inside, request.before_commit)
        return LoadOutcome(results=tuple(by_id[m.load_id] for m in request.manifests), changes=outcome.changes)

    def _hit(self, statement: str, parameters: Sequence[Any]) -> int:
        row = self._c.execute(statement, list(parameters)).fetchone()
        return int(row[0]) if row else 0

    def _markers(self, load_ids: Sequence[str]) -> dict[str, LoadResult]:
        rows = self._c.execute(
            "SELECT load_id, staged, loaded, deleted, unchanged, superseded, duplicates "
            "FROM novade.novade_loads WHERE list_contains(?, load_id)",
            [list(load_ids)],
        ).fetchall()
        return {
            r[0]: LoadResult(
                load_id=r[0], staged=r[1], loaded=r[2], deleted=r[3], unchanged=r[4], superseded=r[5], duplicates=r[6]
            )
            for r in rows
        }

    def _mark(self, request: LoadRequest, results: Sequence[LoadResult], known: Container[str]) -> None:
        seqs = {m.load_id: m.seq for m in request.manifests}
        done = [
            LoadResult(
                load_id=m.load_id, staged=m.rows, loaded=0, deleted=0, unchanged=0, superseded=m.rows, duplicates=0
            )
            for m in request.contained
            if m.load_id not in known
        ]
        seqs |= {m.load_id: m.seq for m in request.contained}
        for r in (*results, *done):
            self._c.execute(
                "INSERT INTO novade.novade_loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    r.load_id,
                    request.stream.id,
                    seqs[r.load_id],
                    request.run_id,
                    _naive(request.now),
                    r.staged,
                    r.loaded,
                    r.deleted,
                    r.unchanged,
                    r.superseded,
                    r.duplicates,
                ],
            )

    def _upsert(self, request: LoadRequest, fresh: Sequence[int]) -> LoadOutcome:
        stream = request.stream
        table = table_name(stream)
        changes, targets = self._shape(request, [request.manifests[i].columns for i in fresh])
        self._stage(request, fresh)
        self._classify(stream, table)
        if request.older_waiting:
            self._note_landing(stream, table)
        hard = stream.delete_mode is DeleteMode.HARD
        self._c.execute("CREATE TEMP TABLE stage_keys AS SELECT key FROM stage_verdict WHERE verdict = 'load'")
        shown = [DUCKDB.answered(request.manifests[i].columns) for i in fresh]
        absent = [name for name in targets if any(name not in names for names in shown)]
        if absent:
            # A field that the source no longer shows keeps its last value: a lost permission is not a NULL.
            kept = ", ".join(quote(n) for n in absent)
            self._c.execute(
                f"CREATE TEMP TABLE stage_kept AS SELECT {_key(stream, 't.')} AS _novade_key, {kept} FROM {table} t "
                f"WHERE {_key(stream, 't.')} IN (SELECT key FROM stage_keys)"
            )
        self._c.execute(f"DELETE FROM {table} WHERE {_key(stream)} IN (SELECT key FROM stage_keys)")
        self._insert(request, fresh, table, targets, absent, skip_deleted=hard)
        self._bury(stream)
        results = self._results(request, fresh)
        self._drop_stage()
        return LoadOutcome(results=results, changes=changes)

    def _swap(self, request: LoadRequest, _fresh: Sequence[int]) -> LoadOutcome:
        """A new table beside the old one, filled with all manifests (their markers are renewed), then renamed."""
        stream = request.stream
        if not request.manifests:  # nothing tells the columns, so an empty table keeps its own
            if self._table_columns(stream):
                self._c.execute(f"DELETE FROM {table_name(stream)}")
            return LoadOutcome(results=(), changes=())
        everything = range(len(request.manifests))
        targets = DUCKDB.union([m.columns for m in request.manifests])
        new = f"{quote(stream.source)}.{quote(stream.name + '__novade_new')}"
        self._c.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(stream.source)}")
        self._c.execute(f"DROP TABLE IF EXISTS {new}")
        self._create(new, targets)
        self._stage(request, everything)
        self._classify(stream, None)
        self._insert(request, everything, new, targets, [], skip_deleted=stream.delete_mode is DeleteMode.HARD)
        self._bury(stream)
        results = self._results(request, everything)
        self._drop_stage()
        self._c.execute(f"DROP TABLE IF EXISTS {table_name(stream)}")
        self._c.execute(f"ALTER TABLE {new} RENAME TO {quote(stream.name)}")
        self._c.execute(
            "DELETE FROM novade.novade_loads WHERE list_contains(?, load_id)", [[m.load_id for m in request.manifests]]
        )
        return LoadOutcome(results=results, changes=())

    # Staging

    def _stage(self, request: LoadRequest, fresh: Sequence[int]) -> None:
        """Key, version, hash, delete mark and place of every landed row; nothing wide."""
        stream = request.stream
        self._drop_stage()
        parts = [
            f"SELECT {_key(stream)} AS key, _novade_source_version AS version, _novade_row_hash AS hash, "
            f"_novade_deleted_at IS NOT NULL AS deleted, {request.manifests[i].seq}::BIGINT AS seq, "
            f"file_index AS file, file_row_number AS place FROM ({self._files(request.locations[i])})"
            for i in fresh
            if request.locations[i]  # a manifest of rejects only has no file
        ] or [
            "SELECT '' AS key, 0::BIGINT AS version, 0::BIGINT AS hash, false AS deleted, 0::BIGINT AS seq, 0 AS file, "
            "0::BIGINT AS place LIMIT 0"
        ]
        self._c.execute("CREATE TEMP TABLE stage AS " + " UNION ALL ".join(parts))

    def _files(self, locations: Sequence[str]) -> str:
        """The files of one manifest, named one by one, each row with its place."""
        return " UNION ALL BY NAME ".join(
            f"SELECT *, {index} AS file_index FROM read_parquet({quote_path(path)}, file_row_number = true)"
            for index, path in enumerate(locations)
        )

    def _classify(self, stream: Stream, table: str | None) -> None:
        """A verdict per staged row: load, unchanged, superseded or duplicate.

        Newest version wins a key; of equal versions the later landing. Against the table: older is superseded,
        equal version and hash is unchanged, equal version and another hash belongs to the later landing. A
        tombstone stands for the row that a hard delete removed.
        """
        winner = (
            "row_number() OVER (PARTITION BY key ORDER BY version DESC, seq DESC, file DESC, place DESC) = 1"
            if self._one("SELECT count(*) > count(DISTINCT key) FROM stage")
            else "true"
        )
        if table is None:
            against = "SELECT NULL::VARCHAR AS key, 0::BIGINT AS version, 0::BIGINT AS hash, 0::BIGINT AS seq LIMIT 0"
        else:
            against = (
                f"SELECT {_key(stream)} AS key, _novade_source_version AS version, _novade_row_hash AS hash, "
                f"_novade_landed_seq AS seq FROM {table} UNION ALL "
                f"SELECT key, version, row_hash, landed_seq FROM novade.novade_tombstones WHERE stream = $stream"
            )
        self._c.execute(
            f"""CREATE TEMP TABLE stage_verdict AS
            WITH ranked AS (SELECT *, {winner} AS wins FROM stage), held AS ({against})
            SELECT r.key, r.version, r.hash, r.deleted, r.seq, r.file, r.place,
                CASE WHEN NOT r.wins THEN 'duplicate'
                     WHEN h.key IS NULL OR r.version > h.version THEN 'load'
                     WHEN r.version < h.version THEN 'superseded'
                     WHEN r.hash = h.hash THEN 'unchanged'
                     WHEN r.seq >= h.seq THEN 'load'
                     ELSE 'superseded' END AS verdict
            FROM ranked r LEFT JOIN held h ON h.key = r.key""",
            {"stream": stream.id} if table is not None else None,
        )
        if self._one("SELECT count(*) FROM stage_verdict") != self._one("SELECT count(*) FROM stage"):
            raise ConfigurationError(
                f"{stream.id}: the warehouse table holds a key twice, so a load cannot tell which row it replaces.",
                hint=f"Reload the stream in full: python -m jobs sync {stream.id} --full",
                origin="warehouse",
            )

    def _note_landing(self, stream: Stream, table: str) -> None:
        """What landed again unchanged has its place in the order of landings from the later one.

        Otherwise a manifest that landed between the two and is loaded after them would pass for the latest.
        """
        for target, key, of in (
            (table, _key(stream, "t."), "true"),
            ("novade.novade_tombstones", "t.key", "t.stream = $stream"),
        ):
            seq = "_novade_landed_seq" if target == table else "landed_seq"
            self._c.execute(
                f"UPDATE {target} t SET {seq} = v.seq FROM stage_verdict v "
                f"WHERE v.verdict = 'unchanged' AND {of} AND {key} = v.key AND t.{seq} < v.seq",
                {"stream": stream.id} if "$" in of else None,
            )

    def _bury(self, stream: Stream) -> None:
        """Tombstones of the loaded keys: none for what lives, one for what a hard delete removed."""
        self._c.execute(
            "DELETE FROM novade.novade_tombstones WHERE stream = ? "
            "AND key IN (SELECT key FROM stage_verdict WHERE verdict = 'load')",
            [stream.id],
        )
        if stream.delete_mode is DeleteMode.HARD:
            self._c.execute(
                "INSERT INTO novade.novade_tombstones SELECT ?, key, version, hash, seq FROM stage_verdict "
                "WHERE verdict = 'load' AND deleted",
                [stream.id],
            )

    def _insert(
        self,
        request: LoadRequest,
        fresh: Sequence[int],
        table: str,
        targets: dict[str, str],
        absent: Sequence[str],
        *,
        skip_deleted: bool,
    ) -> None:
        """The winning rows, file by file, from Parquet into the table."""
        stream = request.stream
        condition = "v.verdict = 'load'" + (" AND NOT v.deleted" if skip_deleted else "")
        for index in fresh:
            manifest = request.manifests[index]
            origins, answered = DUCKDB.origins(manifest.columns, targets), DUCKDB.answered(manifest.columns)
            names, values = [], []
            for name, sql_type in targets.items():
                if name in origins:
                    names.append(name)
                    values.append(f"CAST(s.{quote(origins[name])} AS {sql_type})")
                elif name in absent and name not in answered:
                    names.append(name)
                    values.append(f"k.{quote(name)}")
            source = f"({self._files(request.locations[index])}) s"
            if absent:
                source += f" LEFT JOIN stage_kept k ON k._novade_key = {_key(stream, 's.')}"
            total, wanted = self._pair(
                f"SELECT count(*), count(*) FILTER (WHERE {condition}) FROM stage_verdict v "
                f"WHERE v.seq = {manifest.seq}"
            )
            if wanted == 0:
                continue
            if wanted < total:
                source += (
                    f" JOIN stage_verdict v ON v.seq = {manifest.seq} AND v.file = s.file_index "
                    f"AND v.place = s.file_row_number AND {condition}"
                )
            ours = ", ".join(quote(n) for n in NOVADE_COLUMNS_DUCKDB)
            self._c.execute(
                f"INSERT INTO {table} ({', '.join(quote(n) for n in names)}, {ours}) "
                f"SELECT {', '.join(values)}, ?, ?, s._novade_source_version, s._novade_row_hash, "
                f"s._novade_deleted_at, {manifest.seq} FROM {source}",
                [manifest.run_id, _naive(request.now)],
            )

    def _results(self, request: LoadRequest, fresh: Sequence[int]) -> tuple[LoadResult, ...]:
        rows = self._c.execute(
            "SELECT seq, verdict, count(*), count(*) FILTER (WHERE deleted) FROM stage_verdict GROUP BY ALL"
        ).fetchall()
        found = {(seq, verdict): (n, deleted) for seq, verdict, n, deleted in rows}
        results = []
        for index in fresh:
            manifest = request.manifests[index]

            def of(verdict: str, seq: int = manifest.seq) -> tuple[int, int]:
                return found.get((seq, verdict), (0, 0))

            results.append(
                LoadResult(
                    load_id=manifest.load_id,
                    staged=sum(of(v)[0] for v in ("load", "unchanged", "superseded", "duplicate")),
                    loaded=of("load")[0],
                    deleted=of("load")[1],
                    unchanged=of("unchanged")[0],
                    superseded=of("superseded")[0],
                    duplicates=of("duplicate")[0],
                )
            )
        return tuple(results)

    def _drop_stage(self) -> None:
        for name in ("stage", "stage_verdict", "stage_keys", "stage_kept"):
            self._c.execute(f"DROP TABLE IF EXISTS temp.{name}")

    # Schema

    def _create(self, table: str, types: dict[str, str]) -> None:
        listed = [f"{quote(n)} {t}" for n, t in (types | NOVADE_COLUMNS_DUCKDB).items()]
        self._c.execute(f"CREATE TABLE {table} ({', '.join(listed)})")

    def _table_columns(self, stream: Stream) -> dict[str, str]:
        rows = self._c.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
            [stream.source, stream.name],
        ).fetchall()
        return dict(rows)

    def _shape(
        self, request: LoadRequest, sets: Sequence[Sequence[Column]]
    ) -> tuple[tuple[SchemaChange, ...], dict[str, str]]:
        """Create or alter the table so that the landed columns fit; answers changes and the table's own columns."""
        stream = request.stream
        table = table_name(stream)
        self._c.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(stream.source)}")
        existing = {n: t for n, t in self._table_columns(stream).items() if n not in NOVADE_COLUMNS_DUCKDB}
        if not existing:
            existing = DUCKDB.union(sets)
            self._create(table, existing)
            return (), existing
        changes = DUCKDB.changes(existing, sets)
        refuse_if_frozen(stream, changes)
        for change in changes:
            name = quote(change.column)
            if change.told.kind == "widened":
                self._c.execute(f"ALTER TABLE {table} ALTER COLUMN {name} SET DATA TYPE {change.sql_type}")
            elif change.told.kind != "absent":
                self._c.execute(f"ALTER TABLE {table} ADD COLUMN {name} {change.sql_type}")
            existing[change.column] = change.sql_type
        return tuple(c.told for c in changes), existing

    # Counting

    def count(self, stream: Stream) -> int | None:
        """See Session.count."""
        if not self._table_columns(stream):
            return None
        return int(self._one(f"SELECT count(*) FROM {table_name(stream)} WHERE _novade_deleted_at IS NULL"))

    def counts_by_month(self, stream: Stream, field: str) -> dict[str, int]:
        """See Session.counts_by_month."""
        if not self._table_columns(stream):
            return {}
        rows = self._c.execute(
            f"SELECT strftime({quote(field)}, '%Y-%m') AS month, count(*) FROM {table_name(stream)} "
            "WHERE _novade_deleted_at IS NULL GROUP BY ALL"
        ).fetchall()
        return {month or "": n for month, n in rows}

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Session.keys."""
        if not self._table_columns(stream):
            return
        cursor = self._c.execute(
            f"SELECT {_key(stream)} FROM {table_name(stream)} "
            f"WHERE _novade_deleted_at IS NULL AND strftime({quote(field)}, '%Y-%m') = ?",
            [month],
        )
        while rows := cursor.fetchmany(10_000):
            yield from (row[0] for row in rows)

    def interrupt(self) -> None:
        """See Session.interrupt."""
        self._c.interrupt()

    def _one(self, statement: str) -> int:
        row = self._c.execute(statement).fetchone()
        return int(row[0]) if row else 0

    def _pair(self, statement: str) -> tuple[int, int]:
        row = self._c.execute(statement).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)
