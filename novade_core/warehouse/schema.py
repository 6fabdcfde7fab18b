"""Types of columns in an engine's words, and what may become of a column whose type changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from novade_core.errors import SchemaFrozen
from novade_core.streams import Column, ColumnType, SchemaPolicy, Stream
from novade_core.warehouse.base import SchemaChange

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


class Change(NamedTuple):
    """A change that fits the landed columns in, and the type that its column gets."""

    told: SchemaChange
    column: str
    sql_type: str


@dataclass(frozen=True, kw_only=True)
class Words:
    """Types in one engine's words, and what may become of a table's columns in them."""

    of: Callable[[Column], str]
    widened: Callable[[str, str], str | None]
    max_name: int | None = None  #: characters of an identifier, where the engine has a limit

    def sideline(self, name: str, kind: ColumnType) -> str:
        """The name of the column that takes values whose type does not fit the old one: ``name__type``."""
        side = f"{name}__{kind.value}"
        if self.max_name is not None and len(side) > self.max_name:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            side = f"{name[: self.max_name // 2]}_{digest}__{kind.value}"
        return side

    def goes_to(self, column: Column, targets: Mapping[str, str]) -> str:
        """The table's column that takes this column's values: its own name, or its sideline."""
        own = targets.get(column.name)
        fits = own is not None and self.widened(own, self.of(column)) == own
        return column.name if fits else self.sideline(column.name, column.type)

    def origins(self, columns: Sequence[Column], targets: Mapping[str, str]) -> dict[str, str]:
        """Target column -> landed column, for all that these landed columns fill."""
        return {self.goes_to(c, targets): c.name for c in columns}

    def answered(self, columns: Iterable[Column]) -> set[str]:
        """Columns that a manifest answers for: its own, and every sideline of theirs."""
        return {name for c in columns for name in (c.name, *(self.sideline(c.name, t) for t in ColumnType))}

    def union(self, sets: Sequence[Sequence[Column]]) -> dict[str, str]:
        """Columns of a new table that holds all of these: widened where they differ, or else sidelined."""
        types: dict[str, str] = {}
        for column in (c for columns in sets for c in columns):
            wanted = self.of(column)
            fitting = self.widened(types.setdefault(column.name, wanted), wanted)
            types[column.name if fitting else self.sideline(column.name, column.type)] = fitting or wanted
        return types

    def changes(self, existing: Mapping[str, str], sets: Sequence[Sequence[Column]]) -> list[Change]:
        """What has to happen to a table of these columns, in order; the last ones tell of absent columns."""
        now, found = dict(existing), []
        columns = [c for columns in sets for c in columns]
        for column in columns:
            wanted, current = self.of(column), now.get(column.name)
            fitting = wanted if current is None else self.widened(current, wanted)
            side = self.sideline(column.name, column.type)
            if current is None:
                kind, name, detail = "added", column.name, column.describe()
            elif fitting == current:
                continue
            elif fitting is not None:
                kind, name, detail = "widened", column.name, f"{current} -> {fitting}"
            elif side not in now:
                kind, name, detail = "sidelined", side, f"{current} -> {wanted}"
            else:
                continue
            now[name] = fitting or wanted
            found.append(Change(SchemaChange(kind=kind, column=column.name, detail=detail), name, now[name]))
        answered = self.answered(columns)
        found += [
            Change(SchemaChange(kind="absent", column=n, detail=t), n, t) for n, t in now.items() if n not in answered
        ]
        return found


def refuse_if_frozen(stream: Stream, changes: Iterable[Change]) -> None:
    """SchemaFrozen where the stream's policy forbids a change that would be made."""
    for change in (c.told for c in changes if c.told.kind != "absent"):
        if stream.schema_policy is SchemaPolicy.FREEZE:
            raise SchemaFrozen(
                f"{stream.id}: column {change.column} would be {change.kind} ({change.detail}), "
                "and the stream's schema policy is freeze."
            )


DUCKDB = Words(of=duckdb_type, widened=widened)
