"""A batch of text becomes a landed file: typed, hashed, counted by the hour, written as Parquet.

All of it happens in columns inside an in-memory DuckDB; Python sees counts only, and rows one by one only
where some of them are rejected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from novade_core.errors import ConfigurationError
from novade_core.rowhash import key_hash_duckdb, quote, row_hash_duckdb
from novade_core.streams import Batch, Column, ColumnType, Stream, WindowCount
from novade_core.sync.typed import TypedExpression, typed

#: Rejected rows whose reasons are worked out at once.
_REJECTS_AT_ONCE = 1_000


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What became of one batch; the file is still in the scratch folder."""

    file: Path | None  #: None where every row was rejected
    rows: int
    rejects: Sequence[Mapping[str, Any]]  #: {"key", "column", "value", "reason", "record"}
    cursor_low: datetime | None
    cursor_high: datetime | None
    hours: Sequence[WindowCount]


class ChunkWriter:
    """Types and writes the batches of one run."""

    def __init__(self, stream: Stream, columns: Sequence[Column], scratch: Path, name: str) -> None:
        self.stream = stream
        self.columns = columns
        self._scratch = scratch
        self._name = name
        self._expressions = {c.name: typed(c) for c in columns}
        self._c = duckdb.connect(config={"threads": "2", "memory_limit": "256MB", "temp_directory": str(scratch)})
        self._c.execute("SET TimeZone='UTC'")
        self._select = self._typed_select()
        self._hash = row_hash_duckdb(columns)
        self._key_hash = key_hash_duckdb(stream.primary_key, "_novade_source_version")

    def close(self) -> None:
        """Give the memory back."""
        self._c.close()

    def write(self, batch: Batch, chunk: int) -> Chunk:
        """Type the batch and write its good rows; raises nothing for bad rows, they come back as rejects."""
        self._c.register("raw", batch.table)
        try:
            self._c.execute(f"CREATE OR REPLACE TEMP TABLE typed AS {self._select}")
            rejects = self._rejects()
        finally:
            self._c.unregister("raw")
        path = self._scratch / f"{self._name}-{chunk:05d}.parquet"
        listed = ", ".join(self._landed(c) for c in self.columns)
        good = "FROM typed WHERE NOT _bad"
        written = self._c.execute(
            f"COPY (SELECT {listed}, _novade_source_version, {self._hash} AS _novade_row_hash, "
            f"CAST(_novade_deleted_at AS TIMESTAMP_MS) AS _novade_deleted_at {good}) "
            f"TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet, COMPRESSION snappy)"
        ).fetchone()
        rows = int(written[0]) if written else 0
        hours = self._hours(path) if rows else []
        low, high = self._c.execute(
            f"SELECT min(_novade_source_version), max(_novade_source_version) {good}"
        ).fetchone() or (None, None)
        self._c.execute("DROP TABLE typed")
        if rows == 0:
            path.unlink(missing_ok=True)
        return Chunk(
            file=path if rows else None,
            rows=rows,
            rejects=rejects,
            cursor_low=self._instant(low),
            cursor_high=self._instant(high),
            hours=hours,
        )

    @staticmethod
    def _landed(column: Column) -> str:
        """TIMESTAMP(MILLIS) in Parquet: a dedicated pool reads no MICROS."""
        name = quote(column.name)
        return f"CAST({name} AS TIMESTAMP_MS) AS {name}" if column.type is ColumnType.TIMESTAMP else name

    def _typed_select(self) -> str:
        values = [f"{e.value} AS {quote(name)}" for name, e in self._expressions.items()]
        bad = [f"({quote(n)} IS NOT NULL AND {e.bad})" for n, e in self._expressions.items() if e.bad]
        bad += [f"{quote(k)} IS NULL" for k in self.stream.primary_key]
        version, instant = "CAST(0 AS BIGINT)", "CAST(NULL AS TIMESTAMP)"
        field = self.stream.version_field
        if field:
            column = next((c for c in self.columns if c.name == field), None)
            if column is None:
                raise ConfigurationError(f"{self.stream.id}: the source shows no field {field}, which tells versions.")
            value = self._expressions[field].value
            bad.append(f"{quote(field)} IS NULL")
            if column.type is ColumnType.TIMESTAMP:
                version, instant = f"epoch_us({value})", value
            else:
                version = f"CAST({value} AS BIGINT)"
        deleted = "CAST(NULL AS TIMESTAMP)"
        flag = self.stream.deleted_field
        if flag and flag in self._expressions:
            deleted = f"CASE WHEN {self._expressions[flag].value} THEN {instant} END"
        return (
            f"SELECT {', '.join(values)}, {version} AS _novade_source_version, {deleted} AS _novade_deleted_at, "
            f"coalesce({' OR '.join(bad)}, true) AS _bad, "
            f"CASE WHEN _bad THEN CAST(raw AS VARCHAR) END AS _record, "
            f"{self._reasons()} AS _reasons FROM raw"
        )

    def _reasons(self) -> str:
        """The names of the columns that are bad, worked out for bad rows only."""
        cases = [
            f"CASE WHEN {quote(n)} IS NOT NULL AND {e.bad} THEN {_text(n)} END"
            for n, e in self._expressions.items()
            if e.bad
        ]
        needed = [*self.stream.primary_key, *([self.stream.version_field] if self.stream.version_field else [])]
        cases += [f"CASE WHEN {quote(n)} IS NULL THEN {_text(n)} END" for n in needed]
        return f"CASE WHEN _bad THEN list_value({', '.join(cases)}) END"

    def _rejects(self) -> list[Mapping[str, Any]]:
        rows = self._c.execute("SELECT _record, _reasons FROM typed WHERE _bad").fetchall()
        return [self._reject(record, [n for n in names if n]) for record, names in rows]

    def _reject(self, record: str, names: Sequence[str]) -> Mapping[str, Any]:
        name = names[0] if names else "?"
        expression = self._expressions.get(name, TypedExpression(value="", bad=None))
        return {
            "column": name,
            "columns": list(names),
            "reason": f"{name} {expression.reason or 'is missing'}",
            "record": record,
        }

    def _hours(self, path: Path) -> list[WindowCount]:
        """Rows and order-free hashes per hour of the version, from the file as it was written."""
        hour = "strftime(make_timestamp(_novade_source_version), '%Y-%m-%dT%H')" if self.stream.version_field else "''"
        rows = self._c.execute(
            f"SELECT {hour} AS hour, count(*), sum({self._key_hash}), sum(_novade_row_hash) "
            f"FROM read_parquet(?) GROUP BY ALL ORDER BY ALL",
            [str(path)],
        ).fetchall()
        return [WindowCount(hour=h, rows=n, key_hash=str(k), row_hash=str(r)) for h, n, k, r in rows]

    def _instant(self, version: int | None) -> datetime | None:
        if version is None or not self.stream.version_field:
            return None
        seconds, micros = divmod(version, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def _text(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def rejects_as_lines(rejects: Sequence[Mapping[str, Any]]) -> bytes:
    """One JSON object a line, for ``_rejects/``."""
    return b"".join(json.dumps(dict(r), ensure_ascii=False).encode() + b"\n" for r in rejects)
