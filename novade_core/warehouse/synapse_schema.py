"""Types of columns in a dedicated SQL pool's words, and how its tables are spread and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from novade_core.settings import WarehouseSettings
from novade_core.streams import Column, ColumnType, Stream
from novade_core.warehouse.schema import Words, duckdb_type, widened
from novade_core.warehouse.synapse_sql import BINARY, MAX_IDENTIFIER, Key, Storage

#: Texts of the source's so many characters fit nvarchar(4000) even where each takes two units.
_BOUNDED = 2_000
UNLIMITED = "nvarchar(max)"
BOUNDED = "nvarchar(4000)"

_TYPES = {
    ColumnType.BOOLEAN: "bit",
    ColumnType.INTEGER: "int",
    ColumnType.BIGINT: "bigint",
    ColumnType.DOUBLE: "float",
    ColumnType.DATE: "date",
    ColumnType.TIMESTAMP: "datetime2(6)",
    ColumnType.TIME: BOUNDED,
    ColumnType.JSON: UNLIMITED,
}
_NUMBERS = {"int": "INTEGER", "bigint": "BIGINT"}


def synapse_type(column: Column) -> str:
    """The column's type; DECIMAL needs precision and scale (ValueError)."""
    if column.type is ColumnType.TEXT:
        return BOUNDED if column.length and column.length <= _BOUNDED else UNLIMITED
    if column.type is ColumnType.DECIMAL:
        return duckdb_type(column).lower()
    return _TYPES[column.type]


def synapse_widened(current: str, wanted: str) -> str | None:
    """The type that holds both without loss, or None; the rules of schema.widened, and texts grow."""
    if current == wanted:
        return current
    if current.startswith("nvarchar") and wanted.startswith("nvarchar"):
        return UNLIMITED
    fitting = widened(*(_NUMBERS.get(t, t.upper() if t.startswith("decimal") else t) for t in (current, wanted)))
    if fitting is None:
        return None
    return {sql: name for name, sql in _NUMBERS.items()}.get(fitting, fitting.lower())


SYNAPSE = Words(of=synapse_type, widened=synapse_widened, max_name=MAX_IDENTIFIER)


def keyed(stream: Stream, columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns with texts of the key bounded: an unlimited text can neither be spread by nor compared fast."""
    key = set(stream.primary_key)
    return tuple(
        replace(c, type=ColumnType.TEXT, length=_BOUNDED)
        if c.name in key and synapse_type(c).startswith("nvarchar")
        else c
        for c in columns
    )


def keys_of(stream: Stream, types: Mapping[str, str]) -> list[Key]:
    """The primary key as statements want it."""
    return [Key(name, types[name].startswith("nvarchar")) for name in stream.primary_key]


def definitions(stream: Stream, types: Mapping[str, str]) -> dict[str, str]:
    """The types with the collation that keys have: capitals and accents tell keys apart."""
    key = set(stream.primary_key)
    return {n: f"{t} {BINARY}" if n in key and t.startswith("nvarchar") else t for n, t in types.items()}


def read_type(row: Sequence[Any]) -> str:
    """A row of INFORMATION_SCHEMA.COLUMNS after its name, in the words above."""
    kind, length, precision, scale, fraction = row
    if kind == "nvarchar":
        return UNLIMITED if length == -1 else f"nvarchar({length})"
    if kind in ("decimal", "numeric"):
        return f"decimal({precision},{scale})"
    return f"datetime2({fraction})" if kind == "datetime2" else str(kind)


def storage(settings: WarehouseSettings, stream: Stream, types: Mapping[str, str], rows: int) -> Storage:
    """How a table is made that begins with so many rows."""
    spread = stream.primary_key[0] if rows >= settings.hash_from_rows else None
    columnar = rows >= settings.columnstore_from_rows and UNLIMITED not in types.values()
    return Storage(hash_column=spread, index="CLUSTERED COLUMNSTORE INDEX" if columnar else "HEAP")
