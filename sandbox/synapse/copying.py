"""COPY INTO: Parquet and CSV from storage into a table."""

# ruff: noqa: S608 - identifiers are quoted, values are parameters or the catalogue's own.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import parquet, security, storage
from .catalog import Column, Table, quote
from .errors import SqlError, no_object, not_offered
from .locks import Wanted
from .sqltypes import SqlType
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Engine, Result

_OPTIONS = {
    "FILE_TYPE", "CREDENTIAL", "MAXERRORS", "COMPRESSION", "FIELDQUOTE", "FIELDTERMINATOR", "ROWTERMINATOR", "FIRSTROW",
    "ENCODING", "IDENTITY_INSERT", "AUTO_CREATE_TABLE",
}  # fmt: skip
_CSV_ONLY = {"FIELDQUOTE", "FIELDTERMINATOR", "ROWTERMINATOR", "FIRSTROW", "ENCODING"}


@dataclass(frozen=True)
class Item:
    """One entry of the column list."""

    column: Column
    field: int  #: from 1
    default: str | None = None  #: DuckDB text


def copy_into(engine: Engine, statement: Statement, _values: Mapping[str, Any]) -> Result:
    """Read the whole statement, check everything that can be checked, then load in one go."""
    statement.expect("COPY", "INTO")
    schema, name = statement.object_name()
    table = engine.pool.catalog.table(schema, name)
    if table is None or table.type != "U":
        raise no_object(f"{schema}.{name}")
    items = _items(statement, table)
    statement.expect("FROM")
    urls = [statement.string()]
    while statement.accept(","):
        urls.append(statement.string())
    statement.expect("WITH")
    options = statement.options()
    statement.end()
    security.need(engine, "INSERT", table.schema, table.name)
    security.need(engine, "ADMINISTER DATABASE BULK OPERATIONS")
    kind = _checked(options)
    listed = {i.column.name for i in items}
    for column in table.columns:
        if not column.nullable and column.name not in listed and column.default is None:
            raise SqlError(
                105211, f"COPY failed because non nullable column '{column.name}' cannot have NULL as its default."
            )
    given = options.get("CREDENTIAL")
    credential = None if given is None else storage.credential_of(given)
    places = [storage.place_of(u) for u in urls]
    if len({(p.account, p.container) for p in places}) > 1:
        raise SqlError(105216, "All paths of a COPY statement must be in one storage account and one container.")
    for place in places:
        storage.check_matrix(engine, place, credential, kind)
    with storage.scratch(engine) as folder:
        files = _fetched(engine, places, credential, folder)
        sources = [_source(kind, f, items, options) for f in files]
        return _load(engine, statement, table, items, sources, kind)


def _items(statement: Statement, table: Table) -> list[Item]:
    if not statement.accept("("):
        return [Item(c, i, c.default) for i, c in enumerate(table.columns, 1)]
    made: list[Item] = []
    while True:
        name = statement.name()
        column = table.column(name)
        if column is None:
            raise SqlError(207, f"Invalid column name '{name}'.")
        default = None
        if statement.accept("DEFAULT"):
            token = statement.tokens[statement.at]
            text = statement.value()
            quoted = token.token_type.name in ("STRING", "NATIONAL_STRING")
            default = "'" + text.replace("'", "''") + "'" if quoted else text
        number = len(made) + 1 if statement.word() in (",", ")") else statement.number()
        made.append(Item(column, number, default))
        if not statement.accept(","):
            break
    statement.expect(")")
    if len({i.column.name for i in made}) < len(made):
        raise SqlError(264, "A column is listed more than once in the column list.")
    return made


def _checked(options: Mapping[str, Any]) -> str:
    """The file type; refuses options that do not go with it."""
    for name in options:
        if name not in _OPTIONS:
            raise not_offered(f"COPY option {name}")
    kind = str(options.get("FILE_TYPE", "CSV")).upper()
    if kind not in ("CSV", "PARQUET"):
        raise not_offered(f"COPY of FILE_TYPE {kind}")
    if kind == "PARQUET" and _CSV_ONLY & set(options):
        raise SqlError(105217, f"Options {sorted(_CSV_ONLY & set(options))} are only for CSV files.")
    if str(options.get("MAXERRORS", "0")) != "0" and kind == "CSV":
        raise not_offered("MAXERRORS above 0")
    if str(options.get("AUTO_CREATE_TABLE", "OFF")).upper() != "OFF":
        raise not_offered("AUTO_CREATE_TABLE")
    if str(options.get("ENCODING", "UTF8")).upper() != "UTF8":
        raise not_offered("another ENCODING than UTF8")
    return kind


def _fetched(
    engine: Engine, places: list[storage.Place], credential: storage.Credential | None, folder: Path
) -> list[Path]:
    files: list[Path] = []
    for place in places:
        blobs = storage.Blobs(engine, place, credential)
        names = blobs.names()
        if not names and engine.pool.settings["copy_no_files"] == "error":
            raise storage.no_access(f"no file is found at path '{place.path}'")
        for name in names:
            engine.look()
            suffix = ".gz" if name.endswith(".gz") else ""
            files.append(blobs.fetch(name, folder / f"{len(files)}{suffix}"))
    return files


def _source(kind: str, file: Path, items: list[Item], options: Mapping[str, Any]) -> str:
    """The DuckDB query that gives a file's columns in the order of the items."""
    path = "'" + str(file).replace("'", "''") + "'"
    if kind == "PARQUET":
        columns = parquet.file_columns(file)
        chosen = []
        for item in items:
            if item.field > len(columns):
                raise parquet.refused(
                    f"ArrayIndexOutOfBoundsException: field {item.field} of {len(columns)} (column {item.column.name})"
                )
            parquet.check_column(columns[item.field - 1], item.column.type)
            chosen.append(_or_default(quote(columns[item.field - 1].name), item))
        return f"SELECT {', '.join(chosen)} FROM read_parquet({path})"
    width = max(i.field for i in items)
    names = ", ".join(f"'f{n}': 'VARCHAR'" for n in range(1, width + 1))
    first = int(str(options.get("FIRSTROW", "1")))
    chosen = [_or_default(f"f{i.field}", i) for i in items]
    return (
        f"SELECT {', '.join(chosen)} FROM read_csv({path}, columns = {{{names}}}, header = false, skip = {first - 1}, "
        f"delim = {_mark(options, 'FIELDTERMINATOR', ',')}, quote = {_mark(options, 'FIELDQUOTE', chr(34))}, "
        f"escape = {_mark(options, 'FIELDQUOTE', chr(34))}, nullstr = '', allow_quoted_nulls = false, "
        f"auto_detect = false, strict_mode = true, new_line = {_line(options)})"
    )


def _or_default(text: str, item: Item) -> str:
    return text if item.default is None else f"coalesce({text}, {item.default})"


def _mark(options: Mapping[str, Any], name: str, default: str) -> str:
    given = str(options.get(name, default))
    if given.lower().startswith("0x"):
        given = bytes.fromhex(given[2:]).decode("latin-1")
    given = given.replace("\\t", "\t")
    return "'" + given.replace("'", "''") + "'"


def _line(options: Mapping[str, Any]) -> str:
    r"""CRLF unless told otherwise; '\n' means CRLF too, LF is written as 0x0A."""
    given = str(options.get("ROWTERMINATOR", "\\n"))
    if given.upper() == "0X0A":
        return "'\\n'"
    if given in ("\\n", "\n") or given.upper() == "0X0D0A":
        return "'\\r\\n'"
    raise not_offered(f"ROWTERMINATOR {given!r}")


def _load(
    engine: Engine, statement: Statement, table: Table, items: list[Item], sources: list[str], kind: str
) -> Result:
    from . import statements
    from .engine import Result

    names = [i.column.name for i in items]
    texts: list[SqlType | None] = [SqlType("nvarchar", -1) if kind == "CSV" else i.column.type for i in items]
    orders = [statements.insert_sql(table, names, source, texts) for source in sources]

    def work() -> Result:
        count = 0
        for index, order in enumerate(orders):
            try:
                count += statements.counted(engine.run(order))
            except SqlError as error:
                if error.number == 8152:
                    raise SqlError(107090, parquet.refused("").message + "Too long string in a column.") from error
                raise
            if index == 0:
                engine.pool.faults.strike(engine, statement.source(), "middle")
        return Result(count=count if engine.pool.settings["copy_row_count"] else None)

    return engine.write(Wanted(table.shown.lower(), exclusive=False), work)


HANDLERS = {("COPY", "INTO"): copy_into}
