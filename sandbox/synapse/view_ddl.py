"""Schemas, views and statistics."""

# ruff: noqa: ARG001 - handlers share one signature; identifiers are quoted, values are parameters.
from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import security
from .catalog import Catalog, Column, Table, quote
from .ddl import Handler, Values, done, existing, name_of, new_name, start
from .errors import SqlError, no_object
from .sqltypes import from_duckdb
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Engine, Result


def create_schema(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("CREATE", "SCHEMA")
    name = statement.name()
    if statement.accept("AUTHORIZATION"):
        statement.name()
    statement.end()
    security.need(engine, "CREATE SCHEMA")
    if engine.pool.catalog.has_schema(name):
        raise SqlError(2714, f"There is already an object named '{name}' in the database.", 16, 6)

    def work() -> Result:
        engine.run(f"CREATE SCHEMA {quote(name)}")
        engine.con.execute("INSERT INTO pool.schemas SELECT max(schema_id) + 1, ? FROM pool.schemas", [name])
        return done()

    return engine.atomically(work)


def drop_schema(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("DROP", "SCHEMA")
    name = statement.name()
    statement.end()
    security.need(engine, "ALTER", name)
    if not engine.pool.catalog.has_schema(name):
        raise SqlError(
            15151, f"Cannot drop the schema '{name}', because it does not exist or you do not have permission."
        )
    if engine.pool.catalog.rows("SELECT 1 FROM pool.objects WHERE schema_name = ? LIMIT 1", name):
        raise SqlError(3729, f"Cannot drop schema '{name}' because it is being referenced by an object.")

    def work() -> Result:
        engine.run(f"DROP SCHEMA {quote(name)}")
        engine.con.execute("DELETE FROM pool.schemas WHERE lower(name) = lower(?)", [name])
        return done()

    return engine.atomically(work)


def create_view(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE | ALTER VIEW, alone in its batch."""
    from . import statements

    start(engine)
    altering = statement.accept("ALTER")
    if not altering:
        statement.expect("CREATE")
    if statement.word() == "OR":
        raise statement.unexpected()
    statement.expect("VIEW")
    schema, name = statement.object_name()
    names = []
    if statement.accept("("):
        names.append(statement.name())
        while statement.accept(","):
            names.append(statement.name())
        statement.expect(")")
    statement.expect("AS")
    rest = Statement(statement.text, statement.tokens[statement.at :])
    security.need(engine, "CREATE VIEW")
    security.need(engine, "ALTER", schema)
    old = existing(engine, schema, name, "V") if altering else None
    if old is None:
        schema, name = new_name(engine, schema, name)
    query = statements.Query(engine, {})
    tree = statements.parse(rest)
    kinds = query.translator.inference.projection(tree)
    sql = query.translator.text(tree)
    described = engine.run(f"DESCRIBE {sql}").fetchall()
    columns = []
    for index, (title, kind, *_) in enumerate(described):
        known = kinds.get(str(title).lower())
        exact = from_duckdb(str(kind).split(" COLLATE")[0])
        good = known is not None and known.name != "unknown" and known.is_text == exact.is_text
        columns.append(Column(names[index] if names else str(title), known if good and known else exact))
    view = Table(schema, name, tuple(columns), "V", "", "", "", {"text": statement.source()})

    def work() -> Result:
        if old is not None:
            Catalog.remove(engine.con, old.object_id)
        listed = f" ({', '.join(quote(c.name) for c in columns)})"
        engine.run(f"CREATE OR REPLACE VIEW {name_of(view)}{listed} AS {sql}")
        Catalog.add(engine.con, view)
        return done()

    return engine.atomically(work)


def drop_view(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("DROP", "VIEW")
    if statement.word() == "IF":
        raise statement.unexpected()
    view = existing(engine, *statement.object_name(), kind="V")
    statement.end()
    security.need(engine, "ALTER", view.schema)

    def work() -> Result:
        engine.run(f"DROP VIEW {name_of(view)}")
        Catalog.remove(engine.con, view.object_id)
        return done()

    return engine.atomically(work)


def update_statistics(engine: Engine, statement: Statement, values: Values) -> Result:
    """UPDATE STATISTICS s.t [(names)] [WITH FULLSCAN | SAMPLE n PERCENT | RESAMPLE]."""
    start(engine)
    statement.expect("UPDATE", "STATISTICS")
    schema, name = statement.object_name()
    if engine.pool.catalog.table(schema, name) is None:
        raise no_object(f"{schema}.{name}")
    rest = statement.source(statement.at).upper()
    if rest and not re.fullmatch(r"(\([^)]*\)\s*)?(WITH\s+(FULLSCAN|RESAMPLE|SAMPLE\s+\d+\s+PERCENT))?", rest):
        raise statement.unexpected()
    security.need(engine, "ALTER", schema, name)
    return done()


def create_statistics(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE STATISTICS n ON s.t (columns) [WITH FULLSCAN | SAMPLE n PERCENT]."""
    start(engine)
    statement.expect("CREATE", "STATISTICS")
    title = statement.name()
    statement.expect("ON")
    schema, name = statement.object_name()
    table = engine.pool.catalog.table(schema, name)
    if table is None:
        raise no_object(f"{schema}.{name}")
    statement.expect("(")
    columns = [statement.name()]
    while statement.accept(","):
        columns.append(statement.name())
    statement.expect(")")
    if statement.accept("WITH") and not statement.accept("FULLSCAN"):
        statement.expect("SAMPLE")
        statement.number()
        statement.expect("PERCENT")
    statement.end()
    security.need(engine, "ALTER", table.schema, table.name)
    for wanted in columns:
        if table.column(wanted) is None:
            raise SqlError(1911, f"Column name '{wanted}' does not exist in the target table or view.")
    if engine.pool.catalog.rows(
        "SELECT 1 FROM pool.statistics WHERE object_id = ? AND name = ?", table.object_id, title
    ):
        raise SqlError(1927, f"There are already statistics on table '{name}' named '{title}'.")
    engine.pool.catalog.rows("INSERT INTO pool.statistics VALUES (?, ?, ?)", table.object_id, title, ",".join(columns))
    return done()


HANDLERS: dict[tuple[str, ...], Handler] = {
    ("UPDATE", "STATISTICS"): update_statistics,
    ("CREATE", "SCHEMA"): create_schema,
    ("DROP", "SCHEMA"): drop_schema,
    ("CREATE", "VIEW"): create_view,
    ("ALTER", "VIEW"): create_view,
    ("CREATE", "OR"): create_view,
    ("DROP", "VIEW"): drop_view,
    ("CREATE", "STATISTICS"): create_statistics,
}
