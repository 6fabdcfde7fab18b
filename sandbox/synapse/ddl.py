"""Tables. None of it runs within a transaction."""

# ruff: noqa: ARG001, S608 - handlers share one signature; identifiers are quoted, values are parameters.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import security
from .catalog import Catalog, Column, Table, quote
from .errors import SqlError, in_transaction, no_object, not_offered, parse_error
from .locks import Wanted
from .sqltypes import SqlType, from_duckdb
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Engine, Result

Values = Mapping[str, Any]
Handler = Callable[["Engine", Statement, Values], "Result"]
_ROW_BYTES = 8060


def start(engine: Engine) -> None:
    if engine.in_transaction:
        raise in_transaction()


def done(count: int | None = None) -> Result:
    from .engine import Result

    return Result(count=count)


def name_of(table: Table) -> str:
    """The DuckDB name of a table."""
    return f"{quote(table.schema)}.{quote(table.name)}"


def existing(engine: Engine, schema: str, name: str, kind: str = "U") -> Table:
    """A table that there is, or what DROP says of one that there is not."""
    found = engine.pool.catalog.table(schema, name)
    if found is None or found.type != kind:
        word = {"U": "table", "V": "view", "ET": "external table"}[kind]
        raise SqlError(
            3701, f"Cannot drop the {word} '{name}', because it does not exist or you do not have permission.", 11, 5
        )
    return found


def new_name(engine: Engine, schema: str, name: str) -> tuple[str, str]:
    """Schema in its own spelling; raises where the schema is missing or the name is taken."""
    spelled = next((s for s in engine.pool.catalog.schemas() if s.lower() == schema.lower()), None)
    if spelled is None:
        raise SqlError(
            2760, f'The specified schema name "{schema}" either does not exist or you do not have permission to use it.'
        )
    if name.startswith("#"):
        raise not_offered("temporary tables")
    if engine.pool.catalog.table(schema, name) is not None:
        raise SqlError(2714, f"There is already an object named '{name}' in the database.", 16, 6)
    return spelled, name


def _locked(engine: Engine, table: Table, work: Callable[[], Result]) -> Result:
    """DDL waits for every transaction that changed the table."""
    return engine.write(Wanted(table.shown.lower(), exclusive=True), work)


# Tables


def create_table(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE TABLE with columns, or AS SELECT."""
    start(engine)
    statement.expect("CREATE", "TABLE")
    if statement.word() == "IF":
        raise statement.unexpected()
    schema, name = new_name(engine, *statement.object_name())
    security.need(engine, "CREATE TABLE")
    security.need(engine, "ALTER", schema)
    columns: tuple[Column, ...] = ()
    if statement.accept("("):
        columns = _columns(statement)
    table = Table(schema, name, columns)
    if statement.accept("WITH"):
        table = _options(statement, table)
    if statement.accept("AS"):
        if columns:
            raise parse_error("AS")
        return _as_select(engine, statement, table, values)
    statement.end()
    if not columns:
        raise parse_error("end of statement")
    _check(table)

    def work() -> Result:
        _make(engine, table)
        return done()

    return engine.atomically(work)


def _columns(statement: Statement) -> tuple[Column, ...]:
    made: list[Column] = []
    while True:
        if statement.word() in ("PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN", "CHECK"):
            _constraint(statement)
        else:
            made.append(column(statement))
        if not statement.accept(","):
            break
    statement.expect(")")
    if len({c.name.lower() for c in made}) < len(made):
        names = [c.name.lower() for c in made]
        double = next(n for n in names if names.count(n) > 1)
        raise SqlError(
            2705, f"Column names in each table must be unique. Column name '{double}' is specified more than once."
        )
    return tuple(made)


def column(statement: Statement) -> Column:
    """A column's definition."""
    name = statement.name()
    made = Column(name, statement.type(name))
    while statement.left and statement.word() not in (",", ")"):
        if statement.accept("NOT", "NULL"):
            made = replace(made, nullable=False)
        elif statement.accept("NULL"):
            made = replace(made, nullable=True)
        elif statement.accept("DEFAULT"):
            made = replace(made, default=_constant(statement))
        elif statement.word() in ("PRIMARY", "UNIQUE", "CONSTRAINT", "REFERENCES", "CHECK"):
            _constraint(statement)
        elif statement.word() == "IDENTITY":
            raise not_offered("IDENTITY")
        else:
            raise statement.unexpected()
    return made


def _constraint(statement: Statement) -> None:
    """Keys only unenforced, and then without effect; no foreign keys, no checks."""
    if statement.accept("CONSTRAINT"):
        statement.name()
    if statement.word() in ("FOREIGN", "REFERENCES", "CHECK"):
        raise parse_error(statement.word())
    words = []
    depth = 0
    while statement.left and not (depth == 0 and statement.word() in (",", ")")):
        depth += {"(": 1, ")": -1}.get(statement.word(), 0)
        words.append(statement.value().upper())
    if words[-2:] != ["NOT", "ENFORCED"]:
        raise SqlError(
            104467,
            "Enforced unique constraints are not supported. To create an unenforced unique constraint you must include "
            "the NOT ENFORCED syntax as part of your statement.",
        )
    if words[0] == "PRIMARY" and "NONCLUSTERED" not in words:
        raise SqlError(104467, "A primary key must be NONCLUSTERED and NOT ENFORCED.")


def _constant(statement: Statement) -> str:
    """A DEFAULT: constants only, as DuckDB text."""
    depth = 0
    while statement.accept("("):
        depth += 1
    sign = "-" if statement.accept("-") else ""
    token = statement.tokens[statement.at] if statement.left else None
    if token is None or (not statement.word() and token.token_type.name not in ("STRING", "NATIONAL_STRING")):
        raise statement.unexpected()
    if statement.word() and statement.word() != "NULL" and token.token_type.name != "NUMBER":
        raise SqlError(104472, "The DEFAULT of a column must be a constant.")
    statement.at += 1
    for _ in range(depth):
        statement.expect(")")
    if token.token_type.name in ("STRING", "NATIONAL_STRING"):
        return "'" + token.text.replace("'", "''") + "'"
    return sign + token.text


def _options(statement: Statement, table: Table) -> Table:
    """WITH (DISTRIBUTION = ..., HEAP | CLUSTERED COLUMNSTORE INDEX | CLUSTERED INDEX (...))."""
    statement.expect("(")
    while True:
        if statement.accept("DISTRIBUTION", "="):
            kind = statement.value().upper()
            if kind not in ("HASH", "ROUND_ROBIN", "REPLICATE"):
                raise parse_error(kind)
            column = ""
            if kind == "HASH":
                statement.expect("(")
                column = statement.name()
                statement.expect(")")
            table = replace(table, distribution=kind, distribution_column=column)
        elif statement.accept("HEAP"):
            table = replace(table, index="HEAP")
        elif statement.accept("CLUSTERED", "COLUMNSTORE", "INDEX"):
            table = replace(table, index="CLUSTERED COLUMNSTORE")
        elif statement.accept("CLUSTERED", "INDEX"):
            statement.expect("(")
            while not statement.accept(")"):
                statement.value()
            table = replace(table, index="CLUSTERED")
        elif statement.word() == "PARTITION":
            raise not_offered("PARTITION")
        else:
            raise statement.unexpected()
        if not statement.accept(","):
            break
    statement.expect(")")
    return table


def _check(table: Table) -> None:
    """The pool's limits for a table."""
    if len(table.columns) > 1024:
        raise SqlError(
            1702,
            f"CREATE TABLE failed because column '{table.columns[1024].name}' in table '{table.name}' "
            "exceeds the maximum of 1024 columns.",
        )
    smallest = sum(c.type.fixed_bytes() for c in table.columns)
    if smallest > _ROW_BYTES:
        raise SqlError(
            1701,
            f"Creating or altering table '{table.name}' failed because the minimum row size would be "
            f"{smallest}, including internal overhead. This exceeds the maximum allowable table row size of "
            f"{_ROW_BYTES} bytes.",
        )
    if table.distribution == "HASH":
        found = table.column(table.distribution_column)
        if found is None:
            raise SqlError(
                1911, f"Column name '{table.distribution_column}' does not exist in the target table or view."
            )
        if found.type.is_max:
            raise SqlError(104358, f"The column '{found.name}' of a (max) type cannot be the distribution column.")
    if table.index == "CLUSTERED COLUMNSTORE":
        _columnstore(table.columns)


def _columnstore(columns: tuple[Column, ...]) -> None:
    for c in columns:
        if c.type.is_max:
            raise SqlError(
                35343,
                f"The statement failed. Column '{c.name}' has a data type that cannot participate in a "
                "columnstore index. Omit column '" + c.name + "'.",
            )


def _make(engine: Engine, table: Table) -> None:
    listed = ", ".join(
        f"{quote(c.name)} {c.type.duckdb()}{'' if c.nullable else ' NOT NULL'}"
        f"{f' DEFAULT {c.default}' if c.default is not None else ''}"
        for c in table.columns
    )
    engine.run(f"CREATE TABLE {name_of(table)} ({listed})")
    Catalog.add(engine.con, table)


def _as_select(engine: Engine, statement: Statement, table: Table, values: Values) -> Result:
    """CREATE TABLE AS SELECT: types follow the query's expressions."""
    from . import statements

    part = Statement(statement.text, statement.tokens[statement.at :])
    tree = statements.parse(part)
    if part.word() == "WITH":
        raise parse_error("WITH")
    query = statements.Query(engine, values)
    kinds = query.translator.inference.projection(tree)
    sql = query.translator.text(tree)
    described = engine.run(f"DESCRIBE {sql}", query.bound()).fetchall()
    columns = []
    for name, kind, *_ in described:
        known = kinds.get(str(name).lower())
        exact = from_duckdb(str(kind).split(" COLLATE")[0])
        if known is None or known.name == "unknown" or (known.is_text != exact.is_text):
            known = exact
        columns.append(Column(str(name), known))
    table = replace(table, columns=tuple(columns))
    _check(table)
    names = [c.name for c in table.columns]
    given: list[SqlType | None] = [kinds.get(n.lower()) for n in names]
    given = [None if k is None or k.name == "unknown" else k for k in given]
    text = statements.insert_sql(table, names, sql, given)

    def work() -> Result:
        _make(engine, table)
        return done(statements.counted(engine.run(text, query.bound())))

    return engine.atomically(work)


def drop_table(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("DROP", "TABLE")
    if statement.word() == "IF":
        raise statement.unexpected()
    table = existing(engine, *statement.object_name())
    statement.end()
    security.need(engine, "ALTER", table.schema)

    def work() -> Result:
        engine.run(f"DROP TABLE {name_of(table)}")
        Catalog.remove(engine.con, table.object_id)
        return done()

    return _locked(engine, table, work)


def truncate(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("TRUNCATE", "TABLE")
    schema, name = statement.object_name()
    statement.end()
    table = engine.pool.catalog.table(schema, name)
    if table is None or table.type != "U":
        raise SqlError(
            4701, f'Cannot find the object "{name}" because it does not exist or you do not have permissions.'
        )
    security.need(engine, "ALTER", table.schema, table.name)

    def work() -> Result:
        engine.run(f"DELETE FROM {name_of(table)}")
        return done()

    return _locked(engine, table, work)


def rename(engine: Engine, statement: Statement, values: Values) -> Result:
    """RENAME OBJECT s.t TO n. Views are not rebound: they go on reading by name."""
    start(engine)
    statement.expect("RENAME", "OBJECT")
    while statement.accept(":") or statement.accept("::"):
        pass
    schema, name = statement.object_name()
    statement.expect("TO")
    to = statement.name()
    statement.end()
    table = engine.pool.catalog.table(schema, name)
    if table is None:
        raise no_object(f"{schema}.{name}")
    if table.type != "U":
        raise SqlError(104340, "RENAME OBJECT is not supported for views and external tables.")
    security.need(engine, "ALTER", table.schema, table.name)
    new_name(engine, schema, to)

    def work() -> Result:
        engine.run(f"ALTER TABLE {name_of(table)} RENAME TO {quote(to)}")
        engine.con.execute("UPDATE pool.objects SET name = ? WHERE object_id = ?", [to, table.object_id])
        return done()

    result = _locked(engine, table, work)
    engine.pool.changed({f"{schema}.{to}".lower()})
    return result


def transfer(engine: Engine, statement: Statement, values: Values) -> Result:
    """ALTER SCHEMA s TRANSFER OBJECT::t."""
    raise not_offered("ALTER SCHEMA ... TRANSFER")


def alter_table(engine: Engine, statement: Statement, values: Values) -> Result:
    """ADD columns, ALTER COLUMN to a wider type, DROP COLUMN."""
    start(engine)
    statement.expect("ALTER", "TABLE")
    schema, name = statement.object_name()
    table = engine.pool.catalog.table(schema, name)
    if table is None or table.type != "U":
        raise SqlError(
            4902, f'Cannot find the object "{schema}.{name}" because it does not exist or you do not have permissions.'
        )
    security.need(engine, "ALTER", table.schema, table.name)
    if statement.accept("ADD"):
        if statement.word() == "COLUMN":
            raise statement.unexpected()
        added = [column(statement)]
        while statement.accept(","):
            added.append(column(statement))
        statement.end()
        return _add(engine, table, added)
    if statement.accept("ALTER", "COLUMN"):
        changed = column(statement)
        statement.end()
        return _alter(engine, table, changed)
    if statement.accept("DROP", "COLUMN"):
        gone = statement.name()
        statement.end()
        return _drop_column(engine, table, gone)
    raise not_offered(f"ALTER TABLE ... {statement.word()}")


def _add(engine: Engine, table: Table, added: list[Column]) -> Result:
    for c in added:
        if table.column(c.name) is not None:
            raise SqlError(
                2705,
                f"Column names in each table must be unique. Column name '{c.name}' in table "
                f"'{table.name}' is specified more than once.",
                16,
                4,
            )
        if not c.nullable and c.default is None:
            raise SqlError(
                4901,
                f"ALTER TABLE only allows columns to be added that can contain nulls, or have a DEFAULT "
                f"definition specified. Column '{c.name}' cannot be added to table '{table.name}'.",
            )
    _check(replace(table, columns=(*table.columns, *added)))

    def work() -> Result:
        for index, c in enumerate(added, len(table.columns) + 1):
            default = f" DEFAULT {c.default}" if c.default is not None else ""
            engine.run(f"ALTER TABLE {name_of(table)} ADD COLUMN {quote(c.name)} {c.type.duckdb()}{default}")
            Catalog.add_column(engine.con, table.object_id, index, c)
        return done()

    return _locked(engine, table, work)


def _alter(engine: Engine, table: Table, changed: Column) -> Result:
    old = table.column(changed.name)
    if old is None:
        raise SqlError(
            4924,
            f"ALTER TABLE ALTER COLUMN failed because column '{changed.name}' does not exist in table '{table.name}'.",
        )
    if table.distribution_column.lower() == changed.name.lower():
        raise SqlError(
            4922,
            f"ALTER TABLE ALTER COLUMN {changed.name} failed because one or more objects access this column.",
            16,
            9,
        )
    made = tuple(replace(changed, name=c.name) if c is old else c for c in table.columns)
    _check(replace(table, columns=made))
    t = changed.type

    def work() -> Result:
        if t.is_text and t.length and t.length > 0 and old.type.is_text:
            engine.run(f"SELECT count(pool_fit({quote(old.name)}, {t.length})) FROM {name_of(table)}").fetchall()
        if t.duckdb() != old.type.duckdb():
            engine.run(f"ALTER TABLE {name_of(table)} ALTER COLUMN {quote(old.name)} SET DATA TYPE {t.duckdb()}")
        engine.con.execute(
            'UPDATE pool.columns SET type = ?, length = ?, precision = ?, scale = ?, "collation" = ?, nullable = ? '
            "WHERE object_id = ? AND name = ?",
            [t.name, t.length, t.precision, t.scale, t.collation, changed.nullable, table.object_id, old.name],
        )
        return done()

    return _locked(engine, table, work)


def _drop_column(engine: Engine, table: Table, gone: str) -> Result:
    found = table.column(gone)
    if found is None:
        raise SqlError(
            4924, f"ALTER TABLE DROP COLUMN failed because column '{gone}' does not exist in table '{table.name}'."
        )
    if table.distribution_column.lower() == gone.lower():
        raise SqlError(
            4922, f"ALTER TABLE DROP COLUMN {gone} failed because one or more objects access this column.", 16, 9
        )

    def work() -> Result:
        engine.run(f"ALTER TABLE {name_of(table)} DROP COLUMN {quote(found.name)}")
        engine.con.execute("DELETE FROM pool.columns WHERE object_id = ? AND name = ?", [table.object_id, found.name])
        return done()

    return _locked(engine, table, work)


HANDLERS: dict[tuple[str, ...], Handler] = {
    ("CREATE", "TABLE"): create_table,
    ("DROP", "TABLE"): drop_table,
    ("TRUNCATE",): truncate,
    ("RENAME",): rename,
    ("ALTER", "SCHEMA"): transfer,
    ("ALTER", "TABLE"): alter_table,
}
