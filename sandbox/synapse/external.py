"""External data sources, file formats, tables and credentials."""

# ruff: noqa: ARG001, S608 - handlers share one signature; identifiers are quoted.
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import parquet, security, storage
from .catalog import Catalog, Column, Table, quote
from .ddl import Handler, Values, column, done, existing, new_name, start
from .errors import SqlError, not_offered
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Engine, Result

_SOURCE = ("LOCATION", "CREDENTIAL", "TYPE")


def place(engine: Engine, source: str, path: str) -> tuple[storage.Place, storage.Credential | None]:
    """Where a path of an external data source is, and who reads it."""
    held = engine.pool.catalog.named("data source", source)
    if held is None:
        raise SqlError(46525, f"External data source '{source}' was not found.")
    found = storage.place_of(f"{held['LOCATION'].rstrip('/')}/{path.lstrip('/')}")
    credential = None
    if held.get("CREDENTIAL"):
        body = engine.pool.catalog.named("credential", held["CREDENTIAL"]) or {}
        credential = storage.Credential(body["IDENTITY"], body.get("SECRET", ""))
    return found, credential


def _files(engine: Engine, where: storage.Place, credential: storage.Credential | None) -> list[Path]:
    """The files of a path, fetched into a folder that the session keeps to its next statement."""
    folder = Path(tempfile.mkdtemp(prefix="external-", dir=engine.pool.folder))
    engine.downloads.append(folder)
    blobs = storage.Blobs(engine, where, credential)
    return [blobs.fetch(n, folder / str(i)) for i, n in enumerate(blobs.names())]


def scan(engine: Engine, table: Table) -> str:
    """The DuckDB query that reads an external table: by position, as the pool's readers do."""
    where, credential = place(engine, table.definition["data_source"], table.definition["location"])
    storage.check_matrix(engine, where, credential, "PARQUET")
    parts = []
    for file in _files(engine, where, credential):
        columns = parquet.file_columns(file)
        if len(columns) != len(table.columns):
            raise parquet.refused(f"{len(columns)} columns in the file, {len(table.columns)} in the table")
        for given, wanted in zip(columns, table.columns, strict=True):
            parquet.check_column(given, wanted.type)
        listed = ", ".join(
            f"CAST({quote(g.name)} AS {w.type.duckdb(collated=False)}) AS {quote(w.name)}"
            for g, w in zip(columns, table.columns, strict=True)
        )
        parts.append(f"SELECT {listed} FROM read_parquet('{file}')")
    empty = ", ".join(f"CAST(NULL AS {c.type.duckdb(collated=False)}) AS {quote(c.name)}" for c in table.columns)
    return " UNION ALL ".join(parts) or f"SELECT {empty} LIMIT 0"


def refuse_openrowset(statement: Statement) -> None:
    """The dedicated pool has no OPENROWSET; the serverless endpoint is not offered."""
    if any(t.text.upper() == "OPENROWSET" for t in statement.tokens):
        raise not_offered("OPENROWSET, which only the serverless endpoint has")


# Definitions


def _control(engine: Engine, permission: str) -> None:
    start(engine)
    security.need(engine, permission)


def create_master_key(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE MASTER KEY [ENCRYPTION BY PASSWORD = '...']."""
    _control(engine, "CONTROL")
    statement.expect("CREATE", "MASTER", "KEY")
    if statement.accept("ENCRYPTION", "BY", "PASSWORD", "="):
        statement.string()
    statement.end()
    if engine.pool.catalog.named("master key", "##MS_DatabaseMasterKey##") is not None:
        raise SqlError(15578, "There is already a master key in the database.")
    engine.pool.catalog.put_named("master key", "##MS_DatabaseMasterKey##", {})
    return done()


def credential(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE | ALTER DATABASE SCOPED CREDENTIAL n WITH IDENTITY = '..' [, SECRET = '..']."""
    _control(engine, "CONTROL")
    creating = statement.accept("CREATE")
    if not creating:
        statement.expect("ALTER")
    statement.expect("DATABASE", "SCOPED", "CREDENTIAL")
    name = statement.name()
    statement.expect("WITH", "IDENTITY", "=")
    body = {"IDENTITY": statement.string()}
    if statement.accept(",", "SECRET", "="):
        body["SECRET"] = statement.string()
    statement.end()
    if body["IDENTITY"].lower() == "shared access signature" and body.get("SECRET", "").startswith("?"):
        raise SqlError(15247, "The SECRET of a shared access signature is written without its leading '?'.")
    if "SECRET" in body and engine.pool.catalog.named("master key", "##MS_DatabaseMasterKey##") is None:
        raise SqlError(
            15581,
            "Please create a master key in the database or open the master key in the session before "
            "performing this operation.",
        )
    if not creating and engine.pool.catalog.named("credential", name) is None:
        raise SqlError(
            15151, f"Cannot alter the credential '{name}', because it does not exist or you do not have permission."
        )
    engine.pool.catalog.put_named("credential", name, body, replace=not creating)
    return done()


def create_source(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE EXTERNAL DATA SOURCE n WITH (LOCATION = '..' [, CREDENTIAL = c] [, TYPE = HADOOP])."""
    _control(engine, "ALTER ANY EXTERNAL DATA SOURCE")
    statement.expect("CREATE", "EXTERNAL", "DATA", "SOURCE")
    name = statement.name()
    statement.expect("WITH")
    body = statement.options()
    statement.end()
    if set(body) - set(_SOURCE) or "LOCATION" not in body:
        raise not_offered(f"EXTERNAL DATA SOURCE with {sorted(body)}")
    location = str(body["LOCATION"])
    storage.place_of(location.rstrip("/") + "/")
    if str(body.get("TYPE", "")).upper() == "HADOOP" and not location.lower().startswith(("wasbs://", "abfss://")):
        raise SqlError(105019, f"External TABLE access failed: the LOCATION '{location}' is not wasbs:// or abfss://.")
    named = body.get("CREDENTIAL")
    if named is not None and engine.pool.catalog.named("credential", str(named)) is None:
        raise SqlError(
            15151, f"Cannot find the CREDENTIAL '{named}', because it does not exist or you do not have permission."
        )
    engine.pool.catalog.put_named("data source", name, body)
    return done()


def create_format(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE EXTERNAL FILE FORMAT n WITH (FORMAT_TYPE = PARQUET [, DATA_COMPRESSION = '..'])."""
    _control(engine, "ALTER ANY EXTERNAL FILE FORMAT")
    statement.expect("CREATE", "EXTERNAL", "FILE", "FORMAT")
    name = statement.name()
    statement.expect("WITH")
    body = statement.options()
    statement.end()
    if set(body) - {"FORMAT_TYPE", "DATA_COMPRESSION"} or str(body.get("FORMAT_TYPE", "")).upper() != "PARQUET":
        raise not_offered("an external file format other than Parquet")
    engine.pool.catalog.put_named("file format", name, body)
    return done()


def create_table(engine: Engine, statement: Statement, values: Values) -> Result:
    """CREATE EXTERNAL TABLE s.x (columns) WITH (LOCATION = '..', DATA_SOURCE = d, FILE_FORMAT = f)."""
    _control(engine, "CREATE TABLE")
    statement.expect("CREATE", "EXTERNAL", "TABLE")
    schema, name = new_name(engine, *statement.object_name())
    security.need(engine, "ALTER", schema)
    statement.expect("(")
    columns: list[Column] = [column(statement)]
    while statement.accept(","):
        columns.append(column(statement))
    statement.expect(")", "WITH")
    body = statement.options()
    statement.end()
    if set(body) - {"LOCATION", "DATA_SOURCE", "FILE_FORMAT"}:
        raise not_offered(f"EXTERNAL TABLE with {sorted(body)}")
    if engine.pool.catalog.named("file format", str(body["FILE_FORMAT"])) is None:
        raise SqlError(46525, f"External file format '{body['FILE_FORMAT']}' was not found.")
    where, given = place(engine, str(body["DATA_SOURCE"]), str(body["LOCATION"]))
    storage.Blobs(engine, where, given).names()  # CREATE looks at the storage
    made = Table(schema, name, tuple(columns), "ET", "", "", "",
                 {"location": body["LOCATION"], "data_source": body["DATA_SOURCE"]})  # fmt: skip

    def work() -> Result:
        Catalog.add(engine.con, made)
        return done()

    return engine.atomically(work)


def drop_table(engine: Engine, statement: Statement, values: Values) -> Result:
    start(engine)
    statement.expect("DROP", "EXTERNAL", "TABLE")
    if statement.word() == "IF":
        raise statement.unexpected()
    table = existing(engine, *statement.object_name(), kind="ET")
    statement.end()
    security.need(engine, "ALTER", table.schema)

    def work() -> Result:
        Catalog.remove(engine.con, table.object_id)
        return done()

    return engine.atomically(work)


def drop_named(engine: Engine, statement: Statement, values: Values) -> Result:
    """DROP EXTERNAL DATA SOURCE | EXTERNAL FILE FORMAT | DATABASE SCOPED CREDENTIAL n."""
    _control(engine, "CONTROL")
    forms = {
        ("EXTERNAL", "DATA", "SOURCE"): "data source",
        ("EXTERNAL", "FILE", "FORMAT"): "file format",
        ("DATABASE", "SCOPED", "CREDENTIAL"): "credential",
    }
    statement.expect("DROP")
    for words, kind in forms.items():
        if statement.accept(*words):
            name = statement.name()
            statement.end()
            if engine.pool.catalog.named(kind, name) is None:
                raise SqlError(
                    15151, f"Cannot drop the {kind} '{name}', because it does not exist or you do not have permission."
                )
            engine.pool.catalog.drop_named(kind, name)
            return done()
    raise statement.unexpected()


HANDLERS: dict[tuple[str, ...], Handler] = {
    ("CREATE", "MASTER"): create_master_key,
    ("CREATE", "DATABASE", "SCOPED"): credential,
    ("ALTER", "DATABASE", "SCOPED"): credential,
    ("CREATE", "EXTERNAL", "DATA"): create_source,
    ("CREATE", "EXTERNAL", "FILE"): create_format,
    ("CREATE", "EXTERNAL", "TABLE"): create_table,
    ("DROP", "EXTERNAL", "TABLE"): drop_table,
    ("DROP", "EXTERNAL"): drop_named,
    ("DROP", "DATABASE"): drop_named,
}
