"""Queries of the serverless endpoint: OPENROWSET, views over it and external tables, read by name from blobs."""

# ruff: noqa: S608 - identifiers are quoted, paths are the stand-in's own.
from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from azure.core.exceptions import AzureError
from sqlglot import exp

from . import external, parquet, storage
from .catalog import Column, Table, quote
from .errors import SqlError, not_offered
from .sqltypes import SqlType
from .statements import Bound, Query, named, own_names, parse
from .statements import _aliased as aliased
from .tokens import Statement, tokenize
from .translate import Translator

if TYPE_CHECKING:
    from .engine import Result
    from .serverless import Session

_ROWSETS = "rowset of this statement"
_PATHS = "rowset path "
_MB = 1_000_000


@dataclass
class Rowset:
    """One OPENROWSET: its paths, its columns as WITH declares them, and which of its path functions are used."""

    paths: tuple[str, ...]
    data_source: str
    columns: tuple[Column, ...]
    functions: set[str] = field(default_factory=set)

    @property
    def table(self) -> Table:
        """As inference sees it."""
        text = SqlType("nvarchar", 4000)
        extra = tuple(Column(f"{_PATHS}{f}", text) for f in sorted(self.functions))
        return Table(_ROWSETS, "", (*self.columns, *extra))


def unsupported(session: Session, what: str) -> SqlError:
    """What serverless says of a form that it lacks; its number is in none of the pages read."""
    return SqlError(session.pool.settings["serverless_unknown_number"], f"{what} is not supported.")


# --- the text -----------------------------------------------------------------------------------


def without_rowsets(statement: Statement) -> tuple[Statement, list[Rowset]]:
    """The statement with a table's name in the place of each OPENROWSET, and what these were."""
    tokens = statement.tokens
    made: list[Rowset] = []
    aliases: dict[str, Rowset] = {}
    changes: list[tuple[int, int, str]] = []
    at = 0
    while at < len(tokens):
        reader = Statement(statement.text, tokens)
        reader.at = at
        at += 1
        if reader.accept("OPENROWSET"):
            rowset = _rowset(reader)
            reader.accept("AS")
            alias = reader.name()
            changes.append((at - 1, reader.at, f"[{_ROWSETS}].[{len(made)}] AS {_bracketed(alias)}"))
            made.append(rowset)
            aliases[alias.lower()] = rowset
            at = reader.at
    for index in range(len(tokens) - 3):
        reader = Statement(statement.text, tokens)
        reader.at = index + 2
        if tokens[index + 1].text != "." or reader.word() not in ("FILEPATH", "FILENAME"):
            continue
        known = aliases.get(tokens[index].text.lower())
        if known is None:
            continue
        function = reader.name().lower()
        reader.expect("(")
        if function == "filepath" and reader.word() != ")":
            function += f" {reader.number()}"
        reader.expect(")")
        known.functions.add(function)
        changes.append((index + 2, reader.at, f"[{_PATHS}{function}]"))
    if not changes:
        return statement, made
    parts, last = [], 0
    for first, end, text in sorted(changes):
        # The very text between two changes, blanks and all.
        begin = tokens[last].start if last < len(tokens) else len(statement.text)
        parts += [statement.text[begin : tokens[first].start], text, " "]
        last = end
    if last < len(tokens):
        parts.append(statement.text[tokens[last].start : tokens[-1].end + 1])
    text = "".join(parts)
    return Statement(text, tokenize(text)), made


def _bracketed(name: str) -> str:
    return "[" + name.replace("]", "]]") + "]"


def _rowset(reader: Statement) -> Rowset:
    """``(BULK 'p' | (BULK ('p', 'q')), DATA_SOURCE = 'd', FORMAT = 'PARQUET') WITH (columns)``."""
    reader.expect("(", "BULK")
    paths = []
    if reader.accept("("):
        paths.append(reader.string())
        while reader.accept(","):
            paths.append(reader.string())
        reader.expect(")")
    else:
        paths.append(reader.string())
    options = {}
    while reader.accept(","):
        key = reader.name().upper()
        reader.expect("=")
        options[key] = reader.string()
    reader.expect(")")
    if options.pop("FORMAT", "").upper() != "PARQUET":
        raise not_offered("OPENROWSET of another FORMAT than PARQUET")
    source = options.pop("DATA_SOURCE", None)
    if source is None:
        raise not_offered("OPENROWSET without DATA_SOURCE, which needs a credential of the server")
    if options:
        raise not_offered(f"OPENROWSET with {', '.join(sorted(options))}")
    if not reader.accept("WITH"):
        raise not_offered("OPENROWSET without WITH, which infers types from the files")
    reader.expect("(")
    columns = []
    while True:
        name = reader.name()
        columns.append(Column(name, reader.type(name)))
        if reader.word() not in (",", ")"):
            raise not_offered(f"OPENROWSET with a path or an ordinal for the column {name}")
        if not reader.accept(","):
            break
    reader.expect(")")
    return Rowset(tuple(paths), source, tuple(columns))


# --- the files ----------------------------------------------------------------------------------


def _names(session: Session, blobs: storage.Blobs, path: str) -> list[str]:
    """Blobs of a path: one, those straight in a folder (hidden ones too), or what its wildcards say."""
    pattern = path.strip("/")
    fixed = pattern.split("*")[0]
    try:
        if "*" not in pattern and blobs.client.get_blob_client(pattern).exists():
            return [pattern]
        if "*" not in pattern:
            pattern, fixed = f"{pattern}/*", f"{fixed}/"
        found = list(blobs.client.list_blob_names(name_starts_with=fixed or None))
    except (AzureError, ValueError) as error:
        raise storage.no_access(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    inside = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    names = sorted(n for n in found if re.fullmatch(inside, n))
    if not names:
        number = session.pool.settings["serverless_unknown_number"]
        raise SqlError(number, f"Content of directory on path '{path}' cannot be listed: nothing is there.")
    return names


def _fits(session: Session, given: Any, wanted: Column) -> None:
    """Raises where serverless cannot put a Parquet column into this type; MICROS fit here, NANOS nowhere."""
    text = str(given.logical_type)
    kind = given.logical_type.type if given.logical_type is not None else "NONE"
    if kind in ("TIMESTAMP", "TIME") and "microseconds" in text:
        fits = wanted.type.name == ("datetime2" if kind == "TIMESTAMP" else "time")
    else:
        try:
            parquet.check_column(given, wanted.type)
            fits = True
        except SqlError:
            fits = False
    if not fits:
        raise SqlError(
            session.pool.settings["serverless_unknown_number"],
            f"Column '{wanted.name}' of type '{wanted.type.text()}' is not compatible with external data type "
            f"'Parquet physical type: {given.physical_type}, logical type: {kind}'.",
        )


def scan(session: Session, rowset: Rowset, scanned: list[int]) -> str:
    """DuckDB's query over the files of a rowset; the bytes that its columns take are added to ``scanned``."""
    fetched: dict[str, tuple[Path, dict[str, Any]]] = {}
    folder = Path(tempfile.mkdtemp(prefix="rowset-", dir=session.pool.folder))
    session.downloads.append(folder)
    for path in rowset.paths:
        place, credential = external.place(session, rowset.data_source, path)
        blobs = storage.Blobs(session, place, credential)
        for name in _names(session, blobs, place.path):
            if name in fetched:
                raise not_offered(f"OPENROWSET that names {name} twice")
            file = blobs.fetch(name, folder / str(len(fetched)))
            columns = {c.name: c for c in parquet.file_columns(file)}
            for wanted in rowset.columns:
                if wanted.name in columns:
                    _fits(session, columns[wanted.name], wanted)
            fetched[name] = (file, columns)
            scanned.append(_bytes(file, {c.name for c in rowset.columns}))
    # Files of the same columns are read together: a statement may name thousands.
    groups: dict[tuple[str, ...], list[tuple[str, Path]]] = {}
    for name, (file, columns) in fetched.items():
        groups.setdefault(tuple(c.name for c in rowset.columns if c.name in columns), []).append((name, file))
    return " UNION ALL ".join(_select(rowset, set(known), files) for known, files in groups.items())


def _select(rowset: Rowset, known: set[str], files: list[tuple[str, Path]]) -> str:
    listed = [
        f"CAST({quote(c.name) if c.name in known else 'NULL'} AS {c.type.duckdb(collated=False)}) AS {quote(c.name)}"
        for c in rowset.columns
    ]
    if not rowset.functions:
        paths = ", ".join(f"'{file}'" for _, file in files)
        return f"SELECT {', '.join(listed)} FROM read_parquet([{paths}])"
    parts = []
    for name, file in files:
        said = [f"'{_said(f, name, rowset.paths)}' AS {quote(_PATHS + f)}" for f in sorted(rowset.functions)]
        parts.append(f"SELECT {', '.join([*listed, *said])} FROM read_parquet('{file}')")
    return " UNION ALL ".join(parts)


def _said(function: str, name: str, paths: tuple[str, ...]) -> str:
    """filename(), filepath() or the part of the path that stands for its n-th wildcard."""
    if function == "filename":
        answer = name.rpartition("/")[2]
    elif function == "filepath":
        answer = name
    else:
        number = int(function.split()[1])
        answer = ""
        for path in paths:
            inside = re.escape(path.strip("/")).replace(r"\*\*", "(.*)").replace(r"\*", "([^/]*)")
            found = re.search(f"{inside}$", name)
            if found and number <= len(found.groups()):
                answer = found[number]
    return answer.replace("'", "''")


def _bytes(file: Path, wanted: set[str]) -> int:
    about = pq.ParquetFile(file).metadata
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    return int(about.serialized_size + sum(c.total_compressed_size for c in columns if c.path_in_schema in wanted))


# --- the query ----------------------------------------------------------------------------------


class ServerlessTranslator(Translator):
    """Takes rows of VALUES as a table, which the dedicated pool does not have."""

    def check(self, tree: exp.Expr) -> None:
        plain = tree.copy()
        for values in plain.find_all(exp.Values):
            if isinstance(values.parent, exp.Join | exp.From):
                values.set("expressions", values.expressions[:1])
        super().check(plain)


class ServerlessQuery(Query):
    """One query; ``reading`` false makes its shape alone and touches no storage."""

    engine: Session

    def __init__(self, session: Session, values: Bound, rowsets: list[Rowset], *, reading: bool = True) -> None:
        super().__init__(session, values)
        self.rowsets = rowsets
        self.reading = reading
        self.scanned: list[int] = []
        self.translator = ServerlessTranslator(
            self.find, self.source, self.fact, {n: k for n, (k, _) in values.items()}
        )

    def find(self, node: exp.Table) -> Table | None:
        if node.db == _ROWSETS:
            return self.rowsets[int(node.name)].table
        return super().find(node)

    def source(self, node: exp.Table) -> exp.Expr | None:
        if node.db == _ROWSETS:
            return aliased(self._rows(self.rowsets[int(node.name)]), node)
        table = None
        if isinstance(node.this, exp.Identifier) and node.db.lower() not in ("sys", "information_schema"):
            table = self.find(node)
        if table is not None and table.type == "V":
            body = table.definition["body"]
            statement, rowsets = without_rowsets(Statement(body, tokenize(body)))
            inner = ServerlessQuery(self.engine, {}, rowsets, reading=self.reading)
            inner.scanned = self.scanned
            names = ", ".join(quote(c.name) for c in table.columns)
            made = f"SELECT * FROM ({inner.translator.text(parse(statement))}) AS v({names})"
            return aliased(made, node)
        if table is not None and table.type == "ET":
            held = table.definition
            return aliased(self._rows(Rowset((held["location"],), held["data_source"], table.columns)), node)
        return super().source(node)

    def _rows(self, rowset: Rowset) -> str:
        if self.reading:
            return scan(self.engine, rowset, self.scanned)
        empty = (f"CAST(NULL AS {c.type.duckdb(collated=False)}) AS {quote(c.name)}" for c in rowset.table.columns)
        return f"SELECT {', '.join(empty)} LIMIT 0"

    def _system(self, name: str) -> str:
        if name == "sys.configurations":
            return f"SELECT * FROM {self._register(pa.Table.from_pylist(self.engine.pool.configurations()))}"
        if name == "sys.dm_external_data_processed":
            return f"SELECT * FROM {self._register(pa.Table.from_pylist(self.engine.pool.processed()))}"
        return super()._system(name)

    def fact(self, name: str, arguments: list[str]) -> str:
        if name == "@@TRANCOUNT":
            raise unsupported(self.engine, "'@@TRANCOUNT'")
        if name == "server_property" and arguments[0].strip("'").lower() == "engineedition":
            return "11"
        return super().fact(name, arguments)


def select(session: Session, statement: Statement, values: Bound) -> Result:
    """SELECT: refused where the limit of data is reached; what it reads is counted."""
    from .engine import Result

    rewritten, rowsets = without_rowsets(statement)
    tree = parse(rewritten)
    if not isinstance(tree, exp.Query):
        raise not_offered(f"{type(tree).__name__} behind WITH")
    names = own_names(tree)
    query = ServerlessQuery(session, values, rowsets)
    sql = query.translator.text(tree)
    if query.scanned:
        session.pool.refuse_beyond_limit()
    cursor = session.run(sql, query.bound())
    if query.scanned:
        # Read from storage, with its metadata, by whole MB and at least 10; what moves to the client is left out.
        session.pool.process(max(10, -(-sum(query.scanned) // _MB)))
    return Result(columns=named(names, cursor), rows=session.fetch(cursor))
