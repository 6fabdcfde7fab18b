"""Types of columns in an engine's words, and what may become of a column whose type changes."""

from __future__ import annotations

from novade_core.streams import Column, ColumnType

#: Ours, in the order in which tables carry them.
NOVADE_COLUMNS_DUCKDB = {
    "_novade_run_id": "BIGINT",
    "_novade_loaded_at": "TIMESTAMP",
    "_novade_source_version": "BIGINT",
    "_novade_row_hash": "BIGINT",
    "_novade_deleted_at": "TIMESTAMP",
    "_novade_landed_seq": "BIGINT",
}

_DUCKDB = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.INTEGER: "INTEGER",
    ColumnType.BIGINT: "BIGINT",
    ColumnType.DOUBLE: "DOUBLE",
    ColumnType.DATE: "DATE",
    ColumnType.TIMESTAMP: "TIMESTAMP",
    ColumnType.TIME: "VARCHAR",
    ColumnType.JSON: "VARCHAR",
}


def duckdb_type(column: Column) -> str:
    """The column's type in DuckDB; DECIMAL needs precision and scale (ValueError)."""
    if column.type is ColumnType.DECIMAL:
        if not column.precision or column.scale is None or not 0 <= column.scale <= column.precision <= 38:
            raise ValueError(f"{column.name}: decimal({column.precision},{column.scale}) is not a type")
        return f"DECIMAL({column.precision},{column.scale})"
    return _DUCKDB[column.type]


def _decimal(sql_type: str) -> tuple[int, int] | None:
    if not sql_type.startswith("DECIMAL("):
        return None
    precision, scale = sql_type[len("DECIMAL(") : -1].split(",")
    return int(precision), int(scale)


def widened(current: str, wanted: str) -> str | None:
    """The type that holds both without loss, or None. ``current`` itself where nothing changes.

    INTEGER < BIGINT < DECIMAL(38,…); decimals grow on both sides of the point; DATE does not become a
    TIMESTAMP and nothing becomes text: a reader's query would change its meaning without a word.
    """
    if current == wanted:
        return current
    if {current, wanted} == {"INTEGER", "BIGINT"}:
        return "BIGINT"
    old, new = _decimal(current), _decimal(wanted)
    whole = {"INTEGER": (10, 0), "BIGINT": (19, 0)}
    old, new = old or whole.get(current), new or whole.get(wanted)
    if old is None or new is None:
        return None
    scale = max(old[1], new[1])
    precision = max(old[0] - old[1], new[0] - new[1]) + scale
    return f"DECIMAL({precision},{scale})" if precision <= 38 else None


def sideline(column: Column) -> str:
    """The name of the column that takes values whose type does not fit the old one: ``name__type``."""
    return f"{column.name}__{column.type.value}"
