"""Views over the landing zone for a serverless SQL pool, and what they stand on. Pure: manifests in, statements out.

A view reads the files of registered manifests, named one by one, and shows the newest version of each key that is not
deleted. So it says what the table in a warehouse says, without one. Its first line holds its version: a number of
this generator and a hash of the rest, so that a view that is behind is told without reading it, and so is one that
somebody edited. An external table reads all that lies in a stream's folders, whether a manifest names it or not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from novade_core.errors import ConfigurationError
from novade_core.streams import LandedFile, Stream
from novade_core.warehouse.synapse_schema import SYNAPSE, definitions, keyed, synapse_type
from novade_core.warehouse.synapse_sql import BINARY, LANDED_COLUMNS, Statement, Table, identifier

GENERATOR = 1
DATA_SOURCE = CREDENTIAL = "novade_landing"
FILE_FORMAT = "novade_parquet"
#: Schema of the external tables of a serverless pool.
LANDED_SCHEMA = "novade_landed"
#: Four literals each; a statement may have 20,000.
MOST_MANIFESTS = 4_000
Engine = Literal["serverless", "dedicated"]


# --- what views and external tables stand on ------------------------------------------------------


def location(account: str, container: str, *, prefix: str = "", endpoint: Literal["blob", "dfs"] = "dfs") -> str:
    """Where a landing is, as a serverless pool is told."""
    return f"https://{account}.{endpoint}.core.windows.net/{container}/{prefix.strip('/')}".rstrip("/")


def foundations(engine: Engine, account: str, container: str, *, place: str | None = None) -> tuple[Statement, ...]:
    """Credential, data source and file format, in this order; the master key comes before.

    A dedicated pool reads through its HADOOP reader and calls the identity otherwise than a serverless one does.
    ``place``: of the data source, where it is not the whole container.
    """
    if engine == "serverless":
        who, kind = "Managed Identity", ""
        place = place or location(account, container)
    else:
        who, kind = "Managed Service Identity", ", TYPE = HADOOP"
        place = f"abfss://{container}@{account}.dfs.core.windows.net"
    return (
        _made(
            "credential", f"CREATE DATABASE SCOPED CREDENTIAL {identifier(CREDENTIAL)} WITH IDENTITY = {_plain(who)}"
        ),
        _made(
            "data_source",
            f"CREATE EXTERNAL DATA SOURCE {identifier(DATA_SOURCE)} WITH (LOCATION = {_plain(place)}, "
            f"CREDENTIAL = {identifier(CREDENTIAL)}{kind})",
        ),
        _made("file_format", f"CREATE EXTERNAL FILE FORMAT {identifier(FILE_FORMAT)} WITH (FORMAT_TYPE = PARQUET)"),
    )


def data_limit(terabytes: int, per: Literal["daily", "weekly", "monthly"]) -> Statement:
    """So much may all queries of the serverless pool read, in whole terabytes. Raises ValueError below 1."""
    if terabytes < 1:
        raise ValueError(f"{terabytes} TB is no limit; the smallest is 1")
    return _made("data_limit", f"EXEC sp_set_data_processed_limit @type = N'{per}', @limit_tb = {terabytes}")


def landed_columns(manifests: Sequence[LandedFile]) -> dict[str, str]:
    """Columns of all landed files of a stream and their types, ours last; those whose type changed are left out."""
    seen: dict[str, set[str]] = {}
    for column in (c for manifest in manifests for c in manifest.columns):
        seen.setdefault(column.name, set()).add(synapse_type(column))
    return {name: types.pop() for name, types in seen.items() if len(types) == 1} | dict(LANDED_COLUMNS)


def external_table(table: Table, types: Mapping[str, str], path: str) -> Statement:
    """Landed files as a table, unregistered ones too; to look at what has landed, not at what counts.

    A dedicated pool takes a folder, reads every file there whose name does not begin with _ or a dot, and puts columns
    by position; a serverless one takes wildcards and finds columns by name.
    """
    listed = ", ".join(f"{identifier(name)} {kind} NULL" for name, kind in types.items())
    return _made(
        "external_table",
        f"CREATE EXTERNAL TABLE {table.sql} ({listed}) WITH (LOCATION = {_plain('/' + path)}, "
        f"DATA_SOURCE = {identifier(DATA_SOURCE)}, FILE_FORMAT = {identifier(FILE_FORMAT)})",
    )


def landed_table(stream: Stream) -> Table:
    """The external table of a stream."""
    return Table(LANDED_SCHEMA, stream.id)


def landed_path(stream: Stream) -> str:
    """All Parquet files of a stream: below year, month, day and run."""
    return f"{stream.source}/{stream.name}/*/*/*/*/part-*.parquet"


# --- the view of a stream -------------------------------------------------------------------------


def view(stream: Stream, manifests: Sequence[LandedFile], *, replacing: bool = False) -> Statement:
    """The stream's view; with ``replacing`` in the place of the one that there is, which has to be ours.

    ``manifests``: in landing order, from the newest full reload on, since what landed before it may hold records that
    the source no longer has. Columns are those that a table of these would have. Raises ConfigurationError where
    nothing landed, or too much for one statement.
    """
    filled = [m for m in manifests if m.files]
    if not filled:
        raise ConfigurationError(
            f"{stream.id} has landed nothing yet, so there is nothing to view.",
            hint=f"Sync it first: python -m jobs sync {stream.id}",
        )
    if len(filled) > MOST_MANIFESTS:
        raise ConfigurationError(
            f"{stream.id} has {len(filled):,} landed chunks; one view can name {MOST_MANIFESTS:,}.",
            hint=f"Reload the stream in full: python -m jobs sync {stream.id} --full; its view then begins anew.",
        )
    body = _body(stream, filled)
    word = "ALTER" if replacing else "CREATE"
    return _made("view", f"{word} VIEW {view_of(stream).sql} AS\n/* novade view {GENERATOR} {_digest(body)} */\n{body}")


def view_of(stream: Stream) -> Table:
    """The view of a stream: named like its table in a warehouse."""
    return Table(stream.source, stream.name)


def version_of(definition: str) -> str | None:
    """The version in a view's text, such as ``1 9f86d081884c7d65``; None for one that is not ours, or was edited."""
    found = re.search(r"/\* novade view (\d+) ([0-9a-f]{16}) \*/\n", definition)
    if found is None or _digest(definition[found.end() :]) != found[2]:
        return None
    return f"{found[1]} {found[2]}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.strip().encode()).hexdigest()[:16]


def _body(stream: Stream, manifests: Sequence[LandedFile]) -> str:
    bounded = {m.seq: keyed(stream, m.columns) for m in manifests}
    target = SYNAPSE.union(list(bounded.values()))
    types = definitions(stream, target)
    # Files of one shape are read together; a column that a shape lacks, or has with another type, is cast.
    shapes: dict[tuple[tuple[str, str], ...], list[LandedFile]] = {}
    for manifest in manifests:
        shapes.setdefault(tuple((c.name, synapse_type(c)) for c in manifest.columns), []).append(manifest)
    kept = _vanished(target, manifests)
    rows = "\nUNION ALL\n".join(
        _rows(types, SYNAPSE.origins(bounded[of[0].seq], target), kept, dict(shape), of) for shape, of in shapes.items()
    )
    apart = ", ".join(
        f"u.{identifier(k)}, DATALENGTH(u.{identifier(k)})" if "char" in types[k] else f"u.{identifier(k)}"
        for k in stream.primary_key
    )
    newest = "u.[_novade_source_version] DESC, u.[_novade_seq] DESC, u.[_novade_place] DESC, u.[_novade_row_hash] DESC"
    last_values = "".join(
        f", FIRST_VALUE(u.{identifier(name)}) OVER (PARTITION BY {apart} ORDER BY u.[_novade_has_{i}] DESC, {newest}) "
        f"AS [_novade_last_{i}]"
        for i, name in enumerate(kept)
    )
    shown = ", ".join(
        f"v.[_novade_last_{kept.index(name)}] AS {identifier(name)}" if name in kept else f"v.{identifier(name)}"
        for name in types
    )
    return (
        f"SELECT {shown}, v.[_novade_source_version], v.[_novade_row_hash] FROM (\n"
        f"SELECT u.*, ROW_NUMBER() OVER (PARTITION BY {apart} ORDER BY {newest}) AS [_novade_rank]{last_values} "
        f"FROM (\n{rows}\n) AS u) AS v WHERE v.[_novade_rank] = 1 AND v.[_novade_deleted_at] IS NULL"
    )


def _vanished(target: Mapping[str, str], manifests: Sequence[LandedFile]) -> list[str]:
    """Columns that something landed without after they were there: they keep their last values, as in a table."""
    answers = [(SYNAPSE.answered(m.columns), m.seq) for m in manifests]
    gone = []
    for name in target:
        having = [seq for names, seq in answers if name in names]
        lacking = [seq for names, seq in answers if name not in names]
        if having and lacking and max(lacking) > min(having):
            gone.append(name)
    return gone


def _rows(
    types: Mapping[str, str],
    origins: Mapping[str, str],
    kept: Sequence[str],
    landed: Mapping[str, str],
    manifests: Sequence[LandedFile],
) -> str:
    ours = ["_novade_source_version", "_novade_row_hash", "_novade_deleted_at", "_novade_place"]
    chosen = [
        f"CAST({f'r.{identifier(origins[name])}' if name in origins else 'NULL'} AS {kind.replace(f' {BINARY}', '')})"
        f"{f' {BINARY}' if BINARY in kind else ''} AS {identifier(name)}"
        for name, kind in types.items()
    ]
    chosen += [f"r.{identifier(name)}" for name in ours] + ["m.[seq] AS [_novade_seq]"]
    answered = SYNAPSE.answered(manifests[0].columns)
    chosen += [f"{int(name in answered)} AS [_novade_has_{i}]" for i, name in enumerate(kept)]
    declared = ", ".join(f"{identifier(n)} {t}" for n, t in {**landed, **LANDED_COLUMNS}.items())
    files = ", ".join(_plain(path) for m in manifests for path in m.files)
    known = ", ".join(f"({m.piece}, {m.seq})" for m in manifests)
    return (
        f"SELECT {', '.join(chosen)} FROM OPENROWSET(BULK ({files}), DATA_SOURCE = {_plain(DATA_SOURCE)}, "
        f"FORMAT = 'PARQUET') WITH ({declared}) AS r JOIN (VALUES {known}) AS m ([piece], [seq]) "
        "ON m.[piece] = r.[_novade_piece]"
    )


def _made(step: str, text: str) -> Statement:
    return Statement(step, text, labelled=False)


def _plain(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
