"""The serverless endpoint of the workspace: views and external tables over blobs, no tables of its own."""

# ruff: noqa: ARG001 - handlers share one signature.
from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import external, storage, view_ddl
from .catalog import Catalog, Column, Table
from .ddl import Values, column, done, existing, new_name, start
from .engine import Engine, now
from .errors import SqlError, not_offered
from .pool import Pool
from .serverless_query import Rowset, ServerlessQuery, _names, select, unsupported, without_rowsets
from .sqltypes import from_duckdb
from .statements import parse
from .tokens import Statement

if TYPE_CHECKING:
    from .engine import Result

Handler = Callable[["Session", Statement, Values], "Result"]
#: Begin of each period by which data is limited, from an instant.
_PERIODS: dict[str, Callable[[datetime], datetime]] = {
    "daily": lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0),
    "weekly": lambda at: _PERIODS["daily"](at) - timedelta(days=at.weekday()),
    "monthly": lambda at: _PERIODS["daily"](at).replace(day=1),
}


class Session(Engine):
    """A session of the serverless endpoint: no transactions, no labels, other statements."""

    pool: ServerlessPool

    def begin(self) -> None:
        raise unsupported(self, "BEGIN TRANSACTION")

    def perform(self, statement: Statement, values: Values) -> Result:
        if self.request is not None and self.request.label is not None:
            raise unsupported(self, "OPTION (LABEL)")
        for words, handler in HANDLERS.items():
            if all(statement.word(i) == w for i, w in enumerate(words)):
                return handler(self, statement, values)
        raise unsupported(self, " ".join(w for w in (statement.word(), statement.word(1)) if w) or "This statement")


class ServerlessPool(Pool):
    """Beside a dedicated pool: same login, same storage accounts, same settings, a database of its own."""

    session = Session

    def __init__(self, folder: Path, beside: Pool) -> None:
        super().__init__(folder, beside.password, beside.database, beside.storage)
        self.settings = beside.settings
        #: When so many MB were processed.
        self.read: list[tuple[datetime, int]] = []

    def process(self, megabytes: int) -> None:
        """Count a query."""
        with self.lock:
            self.read.append((now(), megabytes))

    def processed(self) -> list[dict[str, Any]]:
        """Rows of sys.dm_external_data_processed; the names of its columns are in none of the pages read."""
        at = now()
        with self.lock:
            return [
                {"type": period, "data_processed_mb": sum(mb for when, mb in self.read if when >= begin(at))}
                for period, begin in _PERIODS.items()
            ]

    def configurations(self) -> list[dict[str, Any]]:
        """Rows of sys.configurations that say the limits, in TB; -1 where there is none."""
        limits = self.catalog.all_named("data limit")
        return [
            {"name": f"Data processed {period} limit in TB", "value": value, "value_in_use": value}
            for period in _PERIODS
            for value in [int(limits.get(period, {}).get("tb", -1))]
        ]

    def refuse_beyond_limit(self) -> None:
        """What a query gets once a limit is reached; its number is in none of the pages read."""
        used = {row["type"]: row["data_processed_mb"] for row in self.processed()}
        for period, limit in self.catalog.all_named("data limit").items():
            if used[period] >= int(limit["tb"]) * 1_000_000:
                raise SqlError(
                    self.settings["serverless_unknown_number"],
                    f"Query is rejected because the {period} limit of {limit['tb']} TB of data processed is reached.",
                )


# --- definitions ----------------------------------------------------------------------------------


def view(session: Session, statement: Statement, values: Values) -> Result:
    """CREATE | ALTER VIEW n AS SELECT; it looks at no file."""
    start(session)
    altering = statement.accept("ALTER")
    if not altering:
        statement.expect("CREATE")
    statement.expect("VIEW")
    schema, name = statement.object_name()
    statement.expect("AS")
    if not statement.left:
        raise statement.unexpected()
    # The text from behind AS, comments before its first word too.
    body = statement.text[statement.tokens[statement.at - 1].end + 1 : statement.tokens[-1].end + 1].strip()
    rest = Statement(statement.text, statement.tokens[statement.at :])
    old = existing(session, schema, name, "V") if altering else None
    if old is None:
        schema, name = new_name(session, schema, name)
    rewritten, rowsets = without_rowsets(rest)
    query = ServerlessQuery(session, {}, rowsets, reading=False)
    tree = parse(rewritten)
    kinds = query.translator.inference.projection(tree)
    described = session.run(f"DESCRIBE {query.translator.text(tree)}").fetchall()
    columns = []
    for title, kind, *_ in described:
        known, exact = kinds.get(str(title).lower()), from_duckdb(str(kind).split(" COLLATE")[0])
        good = known is not None and known.name != "unknown" and known.is_text == exact.is_text
        columns.append(Column(str(title), known if good and known else exact))
    made = Table(schema, name, tuple(columns), "V", "", "", "", {"text": statement.source(), "body": body})

    def work() -> Result:
        if old is not None:
            Catalog.remove(session.con, old.object_id)
        Catalog.add(session.con, made)
        return done()

    return session.atomically(work)


def drop_view(session: Session, statement: Statement, values: Values) -> Result:
    start(session)
    statement.expect("DROP", "VIEW")
    return _drop(session, statement, "V")


def drop_table(session: Session, statement: Statement, values: Values) -> Result:
    start(session)
    statement.expect("DROP", "EXTERNAL", "TABLE")
    return _drop(session, statement, "ET")


def _drop(session: Session, statement: Statement, kind: str) -> Result:
    found = existing(session, *statement.object_name(), kind=kind)
    statement.end()

    def work() -> Result:
        Catalog.remove(session.con, found.object_id)
        return done()

    return session.atomically(work)


def credential(session: Session, statement: Statement, values: Values) -> Result:
    """As on the dedicated pool, for the identities that serverless knows."""
    for token in statement.tokens:
        if token.text.lower() in ("storage account key", "managed service identity"):
            raise not_offered(f"a credential of the serverless endpoint with IDENTITY '{token.text}'")
    return external.credential(session, statement, values)


def data_source(session: Session, statement: Statement, values: Values) -> Result:
    """As on the dedicated pool, without TYPE = HADOOP."""
    if any(token.text.upper() == "HADOOP" for token in statement.tokens):
        raise unsupported(session, "TYPE = HADOOP")
    return external.create_source(session, statement, values)


def external_table(session: Session, statement: Statement, values: Values) -> Result:
    """CREATE EXTERNAL TABLE over a path with wildcards; its columns are found by name."""
    start(session)
    statement.expect("CREATE", "EXTERNAL", "TABLE")
    schema, name = new_name(session, *statement.object_name())
    if not statement.accept("("):
        raise not_offered("CREATE EXTERNAL TABLE AS SELECT")
    columns = [column(statement)]
    while statement.accept(","):
        columns.append(column(statement))
    statement.expect(")", "WITH")
    body = statement.options()
    statement.end()
    if set(body) - {"LOCATION", "DATA_SOURCE", "FILE_FORMAT"}:
        raise not_offered(f"EXTERNAL TABLE with {sorted(body)}")
    if session.pool.catalog.named("file format", str(body["FILE_FORMAT"])) is None:
        raise SqlError(46525, f"External file format '{body['FILE_FORMAT']}' was not found.")
    rowset = Rowset((str(body["LOCATION"]),), str(body["DATA_SOURCE"]), tuple(columns))
    place, given = external.place(session, rowset.data_source, rowset.paths[0])
    _names(session, storage.Blobs(session, place, given), place.path)  # CREATE looks at the storage
    held = {"location": body["LOCATION"], "data_source": body["DATA_SOURCE"]}
    made = Table(schema, name, tuple(columns), "ET", "", "", "", held)

    def work() -> Result:
        Catalog.add(session.con, made)
        return done()

    return session.atomically(work)


def execute(session: Session, statement: Statement, values: Values) -> Result:
    """EXEC sp_set_data_processed_limit @type = N'daily', @limit_tb = 1."""
    statement.at += 1
    name = statement.name()
    if name.lower() != "sp_set_data_processed_limit":
        raise SqlError(2812, f"Could not find stored procedure '{name}'.")
    said = statement.source(statement.at).replace(" ", "").lower()
    kind, _, limit = said.partition(",")
    period = kind.removeprefix("@type=").removeprefix("n").strip("'")
    amount = limit.removeprefix("@limit_tb=")
    if period not in _PERIODS or not amount.isdigit() or int(amount) < 1:
        raise not_offered(f"sp_set_data_processed_limit with {said}")
    session.pool.catalog.put_named("data limit", period, {"tb": int(amount)}, replace=True)
    return done()


def lacking(what: str) -> Handler:
    """A form that serverless does not have."""

    def refuse(session: Session, statement: Statement, values: Values) -> Result:
        raise unsupported(session, what)

    return refuse


HANDLERS: dict[tuple[str, ...], Handler] = {
    ("SELECT",): select,
    ("WITH",): select,
    ("EXEC",): execute,
    ("EXECUTE",): execute,
    ("CREATE", "MASTER"): external.create_master_key,
    ("CREATE", "DATABASE", "SCOPED"): credential,
    ("ALTER", "DATABASE", "SCOPED"): credential,
    ("CREATE", "EXTERNAL", "DATA"): data_source,
    ("CREATE", "EXTERNAL", "FILE"): external.create_format,
    ("CREATE", "EXTERNAL", "TABLE"): external_table,
    ("CREATE", "SCHEMA"): view_ddl.create_schema,
    ("CREATE", "VIEW"): view,
    ("ALTER", "VIEW"): view,
    ("DROP", "SCHEMA"): view_ddl.drop_schema,
    ("DROP", "VIEW"): drop_view,
    ("DROP", "EXTERNAL", "TABLE"): drop_table,
    ("DROP", "EXTERNAL"): external.drop_named,
    ("DROP", "DATABASE"): external.drop_named,
    ("INSERT",): lacking("INSERT"),
    ("UPDATE",): lacking("UPDATE"),
    ("DELETE",): lacking("DELETE"),
    ("MERGE",): lacking("MERGE"),
    ("CREATE", "TABLE"): lacking("CREATE TABLE"),
}
