"""Which statement it is, and the four that read and write rows."""

# ruff: noqa: ARG001, S608 - handlers share one signature; identifiers are quoted, values are parameters.
from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from . import copying, ddl, external, security, view_ddl, views
from .catalog import Table, quote
from .errors import SqlError, no_object, not_offered, parse_error
from .locks import Wanted
from .sqltypes import SqlType
from .tokens import Statement
from .translate import Translator, cast, raw

if TYPE_CHECKING:
    from .engine import Engine, Result

Bound = Mapping[str, tuple[SqlType, Any]]
Handler = Callable[["Engine", Statement, Bound], "Result"]


def run(engine: Engine, statement: Statement, values: Bound) -> Result:
    """One statement that is none of the session's own."""
    for words, handler in HANDLERS.items():
        if all(statement.word(i) == w for i, w in enumerate(words)):
            return handler(engine, statement, values)
    raise parse_error(statement.source()[:40] if not statement.word() else statement.word())


def parse(statement: Statement) -> exp.Expr:
    """sqlglot's tree of a query."""
    try:
        found = [t for t in sqlglot.parse(statement.source(), read="tsql") if t is not None]
    except ParseError as error:
        at = error.errors[0] if error.errors else {}
        raise parse_error(str(at.get("highlight", "")), int(at.get("line") or 1), int(at.get("col") or 1)) from error
    if len(found) != 1 or isinstance(found[0], exp.Command):
        raise not_offered(f"this form of {statement.word()}")
    return found[0].transform(_as_function, copy=False)


def _as_function(node: exp.Expr) -> exp.Expr:
    """OBJECT_ID has a class of its own in sqlglot; here it is a function by name like the others."""
    if not isinstance(node, exp.ObjectId):
        return node
    arguments = [node.this, *([node.expression] if node.expression else [])]
    return exp.Anonymous(this="OBJECT_ID", expressions=arguments)


class Query:
    """One query being made: what it reads, its parameters, its translation."""

    def __init__(self, engine: Engine, values: Bound, target: exp.Table | None = None) -> None:
        self.engine = engine
        self.values = values
        self.target = target
        self.images = 0
        self.reads: set[str] = set()
        self.tables: dict[tuple[str, str], Table | None] = {}
        kinds = {n: k for n, (k, _) in values.items()}
        self.translator = Translator(self.find, self.source, self.fact, kinds)
        self.scratch = f"_{time.monotonic_ns()}"

    def find(self, node: exp.Table) -> Table | None:
        """The catalogue's table of a reference; None for system views."""
        if node.catalog and node.catalog.lower() != self.engine.pool.database.lower():
            raise not_offered("a name of another database")
        key = (node.db.lower() or "dbo", node.name.lower())
        if key not in self.tables:
            self.tables[key] = self.engine.pool.catalog.table(*key)
        return self.tables[key]

    def source(self, node: exp.Table) -> exp.Expr | None:
        """What DuckDB reads in the place of a table."""
        if not isinstance(node.this, exp.Identifier):
            raise not_offered("a function in FROM")
        name = f"{node.db}.{node.name}".lower()
        if not node.db and _is_cte(node):
            return None
        if node.db.lower() in ("sys", "information_schema"):
            return _aliased(self._system(name), node)
        table = self.find(node)
        if table is None:
            raise no_object(f"{node.db}.{node.name}" if node.db else node.name)
        if self.target is not None and node is self.target:
            return None
        self.reads.add(table.shown.lower())
        security.need(self.engine, "SELECT", table.schema, table.name)
        if table.type == "ET":
            return _aliased(external.scan(self.engine, table), node)
        image = self._dirty(table)
        if image is not None:
            return _aliased(image, node)
        node.set("db", exp.to_identifier(table.schema))
        node.set("catalog", None)
        return None

    def _system(self, name: str) -> str:
        if name.startswith(views.STATE):
            security.need(self.engine, "VIEW DATABASE STATE")
        if name in views.STATIC:
            return views.STATIC[name]
        rows = views.dynamic(self.engine, name)
        if rows is None:
            raise no_object(name)
        missing = self.engine.pool.settings["missing_columns"].get(name, [])
        return f"SELECT * FROM {self._register(rows.drop_columns(missing))}"

    def _register(self, rows: Any) -> str:
        self.images += 1
        name = f"image{self.scratch}_{self.images}"
        self.engine.register(name, rows)
        return name

    def _dirty(self, table: Table) -> str | None:
        """Without RCSI, what an open transaction made of the table, committed or not."""
        engine = self.engine
        if engine.pool.rcsi:
            return None
        other = engine.pool.locks.holder(table.shown.lower(), engine)
        if other is None:
            return None
        rows = other.image(table, engine.look)  # type: ignore[attr-defined]  # owners of locks are engines
        if rows is None:
            return None
        listed = ", ".join(
            f"CAST({quote(c.name)} AS VARCHAR) COLLATE NOCASE AS {quote(c.name)}"
            if c.type.duckdb() == "VARCHAR COLLATE NOCASE"
            else quote(c.name)
            for c in table.columns
        )
        return f"SELECT {listed} FROM {self._register(rows)}"

    def fact(self, name: str, arguments: list[str]) -> str:
        """What a function of the session or the server answers."""
        engine = self.engine
        if name in ("object_id", "schema_id"):
            return _looked_up(engine, name, arguments)
        known = {
            "@@SPID": engine.session_id.removeprefix("SID"),
            "@@LANGUAGE": _text(engine.pool.settings["language"]),
            "@@TRANCOUNT": str(int(engine.in_transaction)),
            "@@VERSION": f"'Microsoft Azure SQL Data Warehouse - {engine.pool.settings['product_version']}'",
            "xact_state": "-2" if engine.doomed else str(int(engine.in_transaction)),
            "session_id": f"'{engine.session_id}'",
            "user": "'" + engine.user.replace("'", "''") + "'",
            "database": f"'{engine.database}'",
        }
        if name in known:
            return known[name]
        if name == "server_property":
            wanted = arguments[0].strip("'").lower()
            settings = engine.pool.settings
            facts = {"productversion": _text(settings["product_version"]), "edition": "'SQL Azure'",
                     "engineedition": _text(settings["engine_edition"])}  # fmt: skip
            return facts.get(wanted, "NULL")
        if name == "database_property":
            facts = {"serviceobjective": _text(engine.pool.settings["size"]), "edition": "'DataWarehouse'",
                     "status": "'ONLINE'", "collation": "'SQL_Latin1_General_CP1_CI_AS'"}  # fmt: skip
            return facts.get(arguments[-1].strip("'").lower(), "NULL")
        if name == "has_perms":
            return security.has_perms(engine, [a.strip("'") for a in arguments])
        if name == "is_rolemember":
            return str(int(security.is_member(engine, engine.user, arguments[0].strip("'"))))
        raise SqlError(137, f'Must declare the scalar variable "{name}".', 15, 2)

    def bound(self) -> dict[str, Any]:
        """The parameters that the translation uses."""
        return {n: self.values[n][1] for n in self.translator.used}


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_cte(node: exp.Table) -> bool:
    parent = node.parent
    while parent is not None:
        held = parent.args.get("with_")
        if held is not None and any(c.alias.lower() == node.name.lower() for c in held.expressions):
            return True
        parent = parent.parent
    return False


def _aliased(sql: str, node: exp.Table) -> exp.Expr:
    """A query in the place of a table, under the table's name or alias."""
    return raw(f"({sql}) AS {quote(node.alias_or_name)}")


def _looked_up(engine: Engine, name: str, arguments: list[str]) -> str:
    text = arguments[0]
    if not text.startswith("'"):
        raise not_offered(f"{name.upper()} of something else than a text")
    statement = Statement(text[1:-1].replace("''", "'"), [])
    from .tokens import tokenize

    statement.tokens = tokenize(statement.text)
    schema, item = statement.object_name()
    if name == "schema_id":
        found = engine.pool.catalog.rows("SELECT schema_id FROM pool.schemas WHERE lower(name) = lower(?)", item)
        return str(found[0][0]) if found else "NULL"
    table = engine.pool.catalog.table(schema, item)
    wanted = arguments[1].strip("'").upper() if len(arguments) > 1 else ""
    if table is None or (wanted and wanted != {"ET": "U"}.get(table.type, table.type)):
        return "NULL"
    return str(table.object_id)


# Reading


def own_names(tree: exp.Query) -> list[str | None]:
    """What each projection is called: nothing where it is an expression without an alias, None for a star."""

    def called(projection: exp.Expr) -> str | None:
        if projection.is_star:
            return None
        if isinstance(projection, exp.Paren):
            return called(projection.this)
        return projection.alias_or_name if isinstance(projection, exp.Alias | exp.Column) else ""

    return [called(projection) for projection in tree.selects]


def named(names: list[str | None], cursor: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Names and types of a result's columns; DuckDB, which names expressions by their text, is asked for stars only."""
    found = [(d[0], str(d[1])) for d in cursor.description or ()]
    stars = [n for n, name in enumerate(names) if name is None]
    before = names[: stars[0]] if stars else names
    after = names[stars[-1] + 1 :] if stars else []
    middle = [name for name, _ in found[len(before) : len(found) - len(after)]]
    told = [*before, *middle, *after]
    return [(name or "", kind) for name, (_, kind) in zip(told, found, strict=True)]


def select(engine: Engine, statement: Statement, values: Bound) -> Result:
    """SELECT: columns and a stream of rows."""
    from .engine import Result

    external.refuse_openrowset(statement)
    tree = parse(statement)
    if not isinstance(tree, exp.Query):
        raise not_offered(f"{type(tree).__name__} behind WITH")
    names = own_names(tree)
    query = Query(engine, values)
    sql = query.translator.text(tree)
    engine.touch(query.reads)
    cursor = engine.run(sql, query.bound())
    columns = named(names, cursor)
    return Result(columns=columns, rows=engine.fetch(cursor))


# Writing


def target_table(engine: Engine, node: exp.Expr | None) -> Table:
    if not isinstance(node, exp.Table):
        raise not_offered("this target")
    table = engine.pool.catalog.table(node.db or "dbo", node.name)
    if table is None:
        raise no_object(f"{node.db}.{node.name}" if node.db else node.name)
    if table.type != "U":
        raise SqlError(
            46519, f"DML Operations are not supported with {'external tables' if table.type == 'ET' else 'views'}."
        )
    return table


def counted(cursor: duckdb.DuckDBPyConnection) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def converted(text: str, to: SqlType, given: SqlType | None) -> str:
    """A value as a column takes it: converted by T-SQL's rules, and refused where it would be cut off."""
    if to.is_text:
        plain = SqlType(to.name, -1) if "var" in to.name else to
        made = cast(raw(text), plain, given, None).name
        return f"pool_fit({made}, {to.length})" if to.length and to.length > 0 else made
    return cast(raw(text), to, given, None).name


def insert_sql(table: Table, names: list[str], source: str, kinds: list[SqlType | None]) -> str:
    """INSERT of a DuckDB query's columns, each converted to its column's type."""
    columns = [table.column(n) for n in names]
    for name, column in zip(names, columns, strict=True):
        if column is None:
            raise SqlError(207, f"Invalid column name '{name}'.")
    if len({n.lower() for n in names}) < len(names):
        raise SqlError(264, "A column is listed more than once in the column list.")
    listed = ", ".join(quote(n) for n in names)
    given = [f"c{i}" for i in range(len(names))]
    values = ", ".join(
        f"{converted('q.' + g, c.type, k)}" for g, c, k in zip(given, columns, kinds, strict=True) if c is not None
    )
    return (
        f"INSERT INTO {quote(table.schema)}.{quote(table.name)} ({listed}) "
        f"SELECT {values} FROM ({source}) AS q({', '.join(given)})"
    )


def insert(engine: Engine, statement: Statement, values: Bound) -> Result:
    if not statement.word(1) == "INTO":
        raise not_offered("INSERT without INTO")
    tree = parse(statement)
    into = tree.this
    table = target_table(engine, into.this if isinstance(into, exp.Schema) else into)
    security.need(engine, "INSERT", table.schema, table.name)
    listed = [c.name for c in into.expressions] if isinstance(into, exp.Schema) else [c.name for c in table.columns]
    source = tree.expression
    if isinstance(source, exp.Values):
        if len(source.expressions) != 1:
            raise parse_error(",")
        source = exp.select(*[e.copy() for e in source.expressions[0].expressions])
    elif not isinstance(source, exp.Query):
        raise not_offered("this form of INSERT")
    source = source.copy()
    query = Query(engine, values)
    kinds = list(query.translator.inference.projection(source).values())
    sql = query.translator.text(source)
    given = [None if k.name == "unknown" else k for k in kinds]
    if len(given) != len(listed):
        if not any(isinstance(e, exp.Star) for e in source.selects):
            word = "fewer" if len(given) < len(listed) else "more"
            number = {"fewer": 120, "more": 121}[word]
            raise SqlError(
                number, f"The select list for the INSERT statement contains {word} items than the insert list.", 15
            )
        given = [None] * len(listed)
    text = insert_sql(table, listed, sql, given)
    return engine.write_rows(Wanted(table.shown.lower(), exclusive=False), text, query.bound(), query.reads)


def part(table: Table, tree: exp.Expr, values: Bound) -> str | None:
    """The one value of the distribution column that a statement is limited to; see locks.Wanted."""
    where = tree.args.get("where")
    if where is None or table.distribution != "HASH":
        return None
    for item in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column):
            continue
        if item.this.name.lower() == table.distribution_column.lower():
            if isinstance(item.expression, exp.Parameter):
                return str(values[item.expression.this.name.lower()][1]).lower()
            if isinstance(item.expression, exp.Literal | exp.National):
                return str(item.expression.this).lower()
    return None


def update(engine: Engine, statement: Statement, values: Bound) -> Result:
    tree = parse(statement)
    table = target_table(engine, tree.this)
    security.need(engine, "UPDATE", table.schema, table.name)
    query = Query(engine, values, target=tree.this)
    wanted = Wanted(table.shown.lower(), exclusive=True, part=part(table, tree, values))
    kinds: list[tuple[SqlType, SqlType | None]] = []
    for item in tree.expressions:
        if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column):
            raise not_offered("this SET clause")
        column = table.column(item.this.name)
        if column is None:
            raise SqlError(207, f"Invalid column name '{item.this.name}'.")
        if item.this.name.lower() == table.distribution_column.lower():
            raise SqlError(104359, "Update of the distribution column is not supported.")
        kinds.append((column.type, query.translator.inference.of(item.expression)))
    query.translator.check(tree)
    tree.this.set("db", exp.to_identifier(table.schema))
    changed = query.translator.change(tree)
    for item, (to, given) in zip(changed.expressions, kinds, strict=True):
        item.set("this", exp.column(item.this.name))
        item.set("expression", raw(converted(item.expression.sql("duckdb", identify=True), to, given)))
    text = changed.sql(dialect="duckdb", identify=True)
    return engine.write_rows(wanted, text, query.bound(), query.reads)


def delete(engine: Engine, statement: Statement, values: Bound) -> Result:
    tree = parse(statement)
    if tree.args.get("tables") and tree.args["tables"][0].name.upper() == "TOP":
        raise parse_error("TOP")
    if tree.args.get("tables") or tree.args.get("using") or tree.this.args.get("joins"):
        raise not_offered("DELETE with a join; write WHERE EXISTS")
    if tree.this.alias:
        raise parse_error(tree.this.alias)
    table = target_table(engine, tree.this)
    security.need(engine, "DELETE", table.schema, table.name)
    query = Query(engine, values, target=tree.this)
    wanted = Wanted(table.shown.lower(), exclusive=True, part=part(table, tree, values))
    tree.this.set("db", exp.to_identifier(table.schema))
    text = query.translator.text(tree)
    return engine.write_rows(wanted, text, query.bound(), query.reads)


def _merge(engine: Engine, statement: Statement, values: Bound) -> Result:
    raise not_offered("MERGE")


def _use(engine: Engine, statement: Statement, values: Bound) -> Result:
    raise SqlError(
        40508,
        "USE statement is not supported to switch between databases. Use a new connection to connect "
        "to a different database.",
    )


# Errors


def refusal_for(error: duckdb.Error) -> SqlError:
    """The pool's error for one of DuckDB's."""
    text = str(error).splitlines()[0]
    if found := re.search(r"Table with name (\S+) does not exist", text):
        return no_object(found[1])
    if found := re.search(r'Referenced (?:column|table) "([^"]+)" not found', text):
        return SqlError(207, f"Invalid column name '{found[1]}'.")
    if found := re.search(r'does not have a column named "([^"]+)"', text):
        return SqlError(207, f"Invalid column name '{found[1]}'.")
    if found := re.search(r'with name "?([^"\s]+)"? already exists', text):
        # Two sessions made it at the same time.
        return SqlError(2714, f"There is already an object named '{found[1]}' in the database.", 16, 6)
    if "NOT NULL constraint" in text:
        name = re.search(r"failed: (\S+)", text)
        return SqlError(
            515, f"Cannot insert the value NULL into column '{name[1] if name else ''}'; column does not allow nulls."
        )
    if text.endswith("Error: 2628"):
        return SqlError(8152, "String or binary data would be truncated.")
    if isinstance(error, duckdb.OutOfRangeException) or "out of range" in text or "Overflow" in text:
        return SqlError(8115, f"Arithmetic overflow error converting expression. ({text})")
    if isinstance(error, duckdb.ConversionException):
        return SqlError(8114, f"Error converting data type. ({text})")
    if isinstance(error, duckdb.TransactionException):
        return SqlError(1205, f"stand-in: two transactions changed the same rows ({text})", 13)
    return not_offered(f"{type(error).__name__}: {text}")


HANDLERS: dict[tuple[str, ...], Handler] = {
    ("SELECT",): select,
    ("WITH",): select,
    ("INSERT",): insert,
    ("UPDATE", "STATISTICS"): view_ddl.update_statistics,
    ("UPDATE",): update,
    ("DELETE",): delete,
    ("MERGE",): _merge,
    ("USE",): _use,
    **copying.HANDLERS,
    **external.HANDLERS,
    **ddl.HANDLERS,
    **view_ddl.HANDLERS,
    **security.HANDLERS,
}
