"""What the pool knows of its own objects: tables with distribution and types, principals, grants, external objects."""

# ruff: noqa: S608 - identifiers are quoted, values are parameters or the catalogue's own.
from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

import duckdb

from .errors import SqlError
from .sqltypes import SqlType

_DDL = """
CREATE SCHEMA IF NOT EXISTS pool;
CREATE SCHEMA IF NOT EXISTS dbo;
CREATE SEQUENCE IF NOT EXISTS pool.ids START 100001;
CREATE TABLE IF NOT EXISTS pool.schemas (schema_id INTEGER, name VARCHAR);
CREATE TABLE IF NOT EXISTS pool.objects (object_id INTEGER, schema_name VARCHAR COLLATE NOCASE,
    name VARCHAR COLLATE NOCASE, type VARCHAR, distribution VARCHAR, distribution_column VARCHAR, index_kind VARCHAR,
    definition VARCHAR, created TIMESTAMP DEFAULT now()::TIMESTAMP);
CREATE TABLE IF NOT EXISTS pool.columns (object_id INTEGER, column_id INTEGER, name VARCHAR COLLATE NOCASE,
    type VARCHAR, length INTEGER, precision INTEGER, scale INTEGER, nullable BOOLEAN, "collation" VARCHAR,
    def VARCHAR);
CREATE TABLE IF NOT EXISTS pool.statistics (object_id INTEGER, name VARCHAR, columns VARCHAR);
CREATE TABLE IF NOT EXISTS pool.named (kind VARCHAR, name VARCHAR COLLATE NOCASE, body VARCHAR);
"""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: SqlType
    nullable: bool = True
    default: str | None = None


@dataclass(frozen=True)
class Table:
    """A table, view or external table. ``type`` as in sys.objects: U, V, and ET for external ones."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    type: str = "U"
    distribution: str = "ROUND_ROBIN"
    distribution_column: str = ""
    index: str = "CLUSTERED COLUMNSTORE"
    definition: dict[str, Any] = field(default_factory=dict)
    object_id: int = 0

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name.lower() == name.lower()), None)

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


def quote(name: str) -> str:
    """A DuckDB identifier."""
    return '"' + name.replace('"', '""') + '"'


class Catalog:
    """Reads and writes the catalogue tables on a connection of its own, or on the engine's for DDL."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.lock = threading.Lock()
        self.con = con
        for statement in _DDL.split(";"):
            if statement.strip():
                con.execute(statement)
        if not con.execute("SELECT 1 FROM pool.schemas").fetchone():
            con.execute("INSERT INTO pool.schemas VALUES (1, 'dbo'), (3, 'INFORMATION_SCHEMA'), (4, 'sys')")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.lock:
            return self.con.execute(statement, list(values)).fetchall()

    # Reading

    def schemas(self) -> list[str]:
        return [r[0] for r in self.rows("SELECT name FROM pool.schemas")]

    def has_schema(self, name: str) -> bool:
        return name.lower() in (s.lower() for s in self.schemas())

    def table(self, schema: str, name: str) -> Table | None:
        found = self.rows(
            "SELECT schema_name, name, type, distribution, distribution_column, index_kind, definition, object_id "
            "FROM pool.objects WHERE schema_name = ? AND name = ?",
            schema,
            name,
        )
        if not found:
            return None
        held = found[0]
        columns = self.rows(
            'SELECT name, type, length, precision, scale, "collation", nullable, def FROM pool.columns '
            "WHERE object_id = ? ORDER BY column_id",
            held[7],
        )
        made = tuple(Column(c[0], SqlType(*c[1:6]), c[6], c[7]) for c in columns)
        return Table(held[0], held[1], made, held[2], held[3], held[4], held[5], json.loads(held[6]), held[7])

    def named(self, kind: str, name: str) -> dict[str, Any] | None:
        """An external data source, file format, credential, principal and so on."""
        found = self.rows("SELECT body FROM pool.named WHERE kind = ? AND name = ?", kind, name)
        return dict(json.loads(found[0][0])) if found else None

    def all_named(self, kind: str) -> dict[str, dict[str, Any]]:
        return {n: json.loads(b) for n, b in self.rows("SELECT name, body FROM pool.named WHERE kind = ?", kind)}

    # Writing

    def put_named(self, kind: str, name: str, body: dict[str, Any], *, replace: bool = False) -> None:
        if self.named(kind, name) is not None:
            if not replace:
                raise SqlError(46502, f"Type with name '{name}' already exists.")
            self.drop_named(kind, name)
        self.rows("INSERT INTO pool.named VALUES (?, ?, ?)", kind, name, json.dumps(body))

    def drop_named(self, kind: str, name: str) -> None:
        self.rows("DELETE FROM pool.named WHERE kind = ? AND name = ?", kind, name)

    @staticmethod
    def add(con: duckdb.DuckDBPyConnection, table: Table) -> None:
        """Enter a table, in the caller's transaction."""
        (number,) = con.execute("SELECT nextval('pool.ids')").fetchone() or (0,)
        con.execute(
            "INSERT INTO pool.objects (object_id, schema_name, name, type, distribution, distribution_column, "
            "index_kind, definition) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                number,
                table.schema,
                table.name,
                table.type,
                table.distribution,
                table.distribution_column,
                table.index,
                json.dumps(table.definition),
            ],
        )
        for index, column in enumerate(table.columns, 1):
            Catalog.add_column(con, number, index, column)

    @staticmethod
    def add_column(con: duckdb.DuckDBPyConnection, object_id: int, column_id: int, column: Column) -> None:
        t = column.type
        con.execute(
            "INSERT INTO pool.columns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                object_id,
                column_id,
                column.name,
                t.name,
                t.length,
                t.precision,
                t.scale,
                column.nullable,
                t.collation,
                column.default,
            ],
        )

    @staticmethod
    def remove(con: duckdb.DuckDBPyConnection, object_id: int) -> None:
        for name in ("objects", "columns", "statistics"):
            con.execute(f"DELETE FROM pool.{name} WHERE object_id = ?", [object_id])
