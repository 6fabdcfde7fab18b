"""A batch of text becomes a landed file: typed, hashed, counted by the hour, written as Parquet.

All of it happens in columns inside an in-memory DuckDB; Python sees counts only, and rows one by one only
where some of them are rejected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from novade_core.errors import ConfigurationError, StorageRefused, TransferBroken
from novade_core.rowhash import key_hash_duckdb, quote, quote_path, row_hash_duckdb
from novade_core.streams import Batch, Column, ColumnType, JsonLines, Stream, TextFile, WindowCount, piece
from novade_core.sync import reading
from novade_core.sync.typed import typed

#: Rows of one Parquet row group that is written from Arrow.
_ROW_GROUP = 50_000
#: An hour in the unit of timestamp versions.
_HOUR = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What became of one batch; the file is still in the scratch folder."""

    file: Path | None  #: None where every row was rejected
    rows: int
    rejected: int
    rejects: Sequence[
        Mapping[str, Any]
    ]  #: of them, at most as many as were asked for;: {"column", "columns", "reason", "record"}
    cursor_low: datetime | None
    cursor_high: datetime | None
    hours: Sequence[WindowCount]


class ChunkWriter:
    """Types and writes the batches of one run."""

    def __init__(self, stream: Stream, columns: Sequence[Column], scratch: Path, name: str, *, run_id: int = 0) -> None:
        self.stream = stream
        self.run_id = run_id
        self.columns = columns
        self._scratch = scratch
        self._name = name
        self._expressions = {c.name: typed(c) for c in columns}
        field = stream.version_field
        version = next((c for c in columns if c.name == field), None)
        if field is not None and version is None:
            raise ConfigurationError(f"{stream.id}: the source shows no field {field}, which tells versions.")
        self._version_is_an_instant = version is not None and version.type is ColumnType.TIMESTAMP
        self._c = duckdb.connect(
            config={"threads": "1", "memory_limit": "256MB", "temp_directory": str(scratch / f"{name}-duckdb")}
        )
        self._c.execute("SET TimeZone='UTC'")
        self._hash = row_hash_duckdb(columns)
        self._key_hash = key_hash_duckdb(stream.primary_key, "_novade_source_version")

    def close(self) -> None:
        """Give the memory back."""
        self._c.close()

    def write(self, batch: Batch, chunk: int, keep: int = 10_000, *, part: int = 0) -> Chunk:
        """Type the batch and write its good rows in one pass; bad rows come back as rejects, at most ``keep``.

        ``part`` numbers the files of a chunk that has several. Every row says which chunk it is of and its place in
        it, because a warehouse that loads many files at once does not tell their rows apart.
        Raises TransferBroken where the file is malformed or holds fewer records than announced.
        """
        path = self._scratch / f"{self._name}-{chunk:05d}{f'-{part}' if part else ''}.parquet"
        typed_rows = f"({self._typed_select(reading.table_of(batch.text))})"
        listed = ", ".join(self._landed(c) for c in self.columns)
        try:
            rows = self._copy(
                f"SELECT {listed}, _novade_source_version, {self._hash} AS _novade_row_hash, "
                f"CAST(_novade_deleted_at AS TIMESTAMP_MS) AS _novade_deleted_at, "
                f"CAST({piece(self.run_id, chunk)} AS BIGINT) AS _novade_piece, "
                f"CAST({part << 32} AS BIGINT) + row_number() OVER () AS _novade_place "
                f"FROM {typed_rows} WHERE NOT _bad",
                path,
            )
            # Only where some are missing is the batch read again, for the rows that could not be typed.
            rejected, rejects = (0, []) if rows == batch.rows else self._rejects(batch.text, keep)
        except duckdb.InvalidInputException as error:
            path.unlink(missing_ok=True)
            line = next((part for part in str(error).splitlines() if part.strip()), type(error).__name__)
            raise TransferBroken(f"A batch of {self.stream.label} is malformed: {line[:120]}.") from error
        except duckdb.IOException as error:
            path.unlink(missing_ok=True)
            raise StorageRefused(
                f"A chunk of {self.stream.label} cannot be written to {self._scratch}: {str(error).splitlines()[0]}."
            ) from error
        if rows + rejected != batch.rows:
            path.unlink(missing_ok=True)
            raise TransferBroken(
                f"A batch of {self.stream.label} announces {batch.rows:,} records and holds {rows + rejected:,}."
            )
        rejected += len(batch.refused)
        rejects = [*rejects, *({"column": "", "columns": [""], **asdict(refused)} for refused in batch.refused)][:keep]
        low, high, hours = self._statistics(path) if rows else (None, None, [])
        if rows == 0:
            path.unlink(missing_ok=True)
        return Chunk(
            file=path if rows else None,
            rows=rows,
            rejected=rejected,
            rejects=rejects,
            cursor_low=self._instant(low),
            cursor_high=self._instant(high),
            hours=hours,
        )

    def _copy(self, select: str, path: Path) -> int:
        """Write rows as Parquet, answer how many."""
        if not any(_is_fine(column) for column in self.columns):
            written = self._c.execute(
                f"COPY ({select}) TO {reading.sql_text(str(path))} (FORMAT parquet, COMPRESSION snappy)"
            ).fetchone()
            return int(written[0]) if written else 0
        # INT96 is the one form of microseconds that a dedicated pool reads, and DuckDB writes none.
        import pyarrow.parquet

        rows = 0
        batches: Any = self._c.sql(select).to_arrow_reader(_ROW_GROUP)
        try:
            with pyarrow.parquet.ParquetWriter(
                path, batches.schema, compression="snappy", use_deprecated_int96_timestamps=True
            ) as file:
                for batch in batches:
                    rows += batch.num_rows
                    file.write_batch(batch)
        except OSError as error:
            raise StorageRefused(
                f"A chunk of {self.stream.label} cannot be written to {self._scratch}: {error.strerror or error}."
            ) from error
        return rows

    @staticmethod
    def _landed(column: Column) -> str:
        """TIMESTAMP(MILLIS) in Parquet, INT96 where it is finer: a dedicated pool reads no MICROS."""
        name = quote(column.name)
        if column.type is not ColumnType.TIMESTAMP or _is_fine(column):
            return name
        return f"CAST({name} AS TIMESTAMP_MS) AS {name}"

    def _typed_select(self, source: str) -> str:
        """The typed rows of ``source``, with version, delete mark and whether something could not be taken.

        Each value is worked out once, below, and looked at above: DuckDB does not share a TRY_CAST that is
        written twice.
        """
        own = {name: quote(f"_typed_{number}") for number, name in enumerate(self._expressions)}
        below = ", ".join(f"{e.value} AS {own[name]}" for name, e in self._expressions.items())
        values = ", ".join(f"{own[name]} AS {quote(name)}" for name in self._expressions)
        bad = [
            f"({quote(name)} IS NOT NULL AND {e.bad.replace(e.value, own[name])})"
            for name, e in self._expressions.items()
            if e.bad
        ]
        bad += [f"{quote(name)} IS NULL" for name in self._needed()]
        version, instant = self._version(own)
        deleted = "CAST(NULL AS TIMESTAMP)"
        if self.stream.deleted_field in self._expressions:
            deleted = f"CASE WHEN {own[self.stream.deleted_field]} THEN {instant} END"
        return (
            f"SELECT {values}, {version} AS _novade_source_version, {deleted} AS _novade_deleted_at, "
            f"coalesce({' OR '.join(bad)}, true) AS _bad FROM (SELECT *, {below} FROM {source})"
        )

    def _version(self, own: Mapping[str, str]) -> tuple[str, str]:
        """The version as BIGINT and as instant, from the typed columns."""
        field = self.stream.version_field
        if field is None:
            return "CAST(0 AS BIGINT)", "CAST(NULL AS TIMESTAMP)"
        if self._version_is_an_instant:
            return f"epoch_us({own[field]})", own[field]
        return f"CAST({own[field]} AS BIGINT)", "CAST(NULL AS TIMESTAMP)"

    def _needed(self) -> list[str]:
        """Without these a record has no place in the warehouse."""
        return [*self.stream.primary_key, *([self.stream.version_field] if self.stream.version_field else [])]

    def _rejects(self, text: TextFile | JsonLines, keep: int) -> tuple[int, list[Mapping[str, Any]]]:
        """How many records cannot be taken, and the first of them with the columns that are to blame."""
        cases = [
            f"CASE WHEN {quote(n)} IS NOT NULL AND {e.bad} "
            f"THEN [{reading.sql_text(n)}, {reading.sql_text(e.reason)}] END"
            for n, e in self._expressions.items()
            if e.bad
        ]
        cases += [
            f"CASE WHEN {quote(n)} IS NULL THEN [{reading.sql_text(n)}, 'is missing'] END" for n in self._needed()
        ]
        if no_record := reading.is_no_record(text):
            cases = [f"CASE WHEN {no_record} THEN ['', 'is no JSON object'] END"] + [
                f"CASE WHEN NOT {no_record} THEN {case} END" for case in cases
            ]
        blame = f"list_filter([{', '.join(cases)}], lambda why: why IS NOT NULL)"
        [(number,)] = self._c.execute(
            f"SELECT count(*) FILTER (WHERE len({blame}) > 0) FROM {reading.table_of(text)}"
        ).fetchall()
        rows = self._c.execute(
            f"SELECT {reading.whole(text)}, {blame} AS blame FROM {reading.table_of(text)} "
            f"WHERE len(blame) > 0 LIMIT {keep}"
        ).fetchall()
        return number, [
            {
                "column": blame[0][0],
                "columns": [name for name, _ in blame],
                "reason": " ".join(blame[0]),
                "record": record,
            }
            for record, blame in rows
        ]

    def _statistics(self, path: Path) -> tuple[int | None, int | None, list[WindowCount]]:
        """Bounds of the version, and rows and order-free hashes per hour of it, from the file as it was written."""
        # Grouped by a number and spelled out per group: formatting an instant per row costs more than the hashes.
        hour = f"_novade_source_version // {_HOUR}" if self._version_is_an_instant else "0"
        spelled = f"strftime(make_timestamp(hour * {_HOUR}), '%Y-%m-%dT%H')" if self._version_is_an_instant else "''"
        source = f"read_parquet({quote_path(str(path))})"
        rows = self._c.execute(
            f"SELECT {spelled}, number, CAST(keys AS VARCHAR), CAST(hashes AS VARCHAR) FROM "
            f"(SELECT {hour} AS hour, count(*) AS number, sum({self._key_hash}) AS keys, "
            f"sum(_novade_row_hash) AS hashes FROM {source} GROUP BY 1) ORDER BY hour"
        ).fetchall()
        [(low, high)] = self._c.execute(
            f"SELECT min(_novade_source_version), max(_novade_source_version) FROM {source}"
        ).fetchall()
        return low, high, [WindowCount._make(row) for row in rows]

    def hashes_from(self, path: Path, version: int, limit: int) -> list[tuple[int, int]]:
        """Row hash and version of the rows of a written file from a version on, at most ``limit``."""
        rows = self._c.execute(
            f"SELECT _novade_row_hash, _novade_source_version FROM read_parquet({quote_path(str(path))}) "
            "WHERE _novade_source_version >= ? LIMIT ?",
            [version, limit],
        ).fetchall()
        return [(int(hash_), int(at)) for hash_, at in rows]

    def _instant(self, version: int | None) -> datetime | None:
        if version is None or not self._version_is_an_instant:
            return None
        seconds, micros = divmod(version, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def _is_fine(column: Column) -> bool:
    return column.type is ColumnType.TIMESTAMP and column.precision == 6


def rejects_as_lines(rejects: Sequence[Mapping[str, Any]]) -> bytes:
    """One JSON object a line, for ``_rejects/``."""
    return b"".join(json.dumps(dict(r), ensure_ascii=False).encode() + b"\n" for r in rejects)
