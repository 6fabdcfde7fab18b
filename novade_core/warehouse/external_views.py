"""Views over the landing zone for a serverless SQL pool, and what they stand on. Pure: manifests in, statements out.

A view reads the files of registered manifests, named one by one, and shows the newest version of each key that is not
deleted. So it says what the table in a warehouse says, without one. Its first line holds its version: a number of
this generator and a hash of the rest, so that a view that is behind is told without reading it, and so is one that
somebody edited. An external table reads all that lies in a stream's folders, whether a manifest names it or not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from novade_core.errors import ConfigurationError
from novade_core.streams import Column, LandedFile, Stream
from novade_core.warehouse.synapse_schema import SYNAPSE, definitions, keyed, synapse_type
from novade_core.warehouse.synapse_sql import BINARY, LANDED_COLUMNS, Statement, Table, identifier, literal

GENERATOR = 1
DATA_SOURCE = CREDENTIAL = "novade_landing"
FILE_FORMAT = "novade_parquet"
#: Schema of the external tables of a serverless pool.
LANDED_SCHEMA = "novade_landed"
#: Four literals each; a statement may have 20,000.
MOST_MANIFESTS = 4_000
Engine = Literal["serverless", "dedicated"]
#: Ours, at the end of a view.
_SHOWN_COLUMNS = {"_novade_source_version": "bigint", "_novade_row_hash": "bigint"}
_STAMP = re.compile(r"\*/\n/\* novade shows fence (\d+) reloaded (\d+) manifests ([\d,-]*) \*/\n")


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


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What a view that is loaded into says of itself: the fence and the markers of a warehouse without tables."""

    fence: int  #: of the run that published it
    reloaded: int  #: the highest manifest that its last full reload took in; 0 without one
    seqs: tuple[int, ...]  #: of the manifests that it shows, rising

    @property
    def sql(self) -> str:
        """A comment, such as ``/* novade shows fence 7 reloaded 3 manifests 1-4,9 */``."""
        return f"/* novade shows fence {self.fence} reloaded {self.reloaded} manifests {_ranges(self.seqs)} */\n"


def view(
    stream: Stream, manifests: Sequence[LandedFile], *, replacing: bool = False, stamp: Stamp | None = None
) -> Statement:
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
    return _view(stream, _body(stream, filled), replacing, stamp)


def empty_view(stream: Stream, columns: Sequence[Sequence[Column]], *, replacing: bool, stamp: Stamp) -> Statement:
    """A view without rows, with the columns that a table of these would have."""
    types = definitions(stream, SYNAPSE.union([keyed(stream, of) for of in columns])) | _SHOWN_COLUMNS
    listed = ", ".join(f"{_cast('NULL', kind)} AS {identifier(name)}" for name, kind in types.items())
    return _view(stream, f"SELECT {listed} WHERE 1 = 0", replacing, stamp)


def _view(stream: Stream, body: str, replacing: bool, stamp: Stamp | None) -> Statement:
    body = (stamp.sql if stamp is not None else "") + body
    word = "ALTER" if replacing else "CREATE"
    return _made("view", f"{word} VIEW {view_of(stream).sql} AS\n/* novade view {GENERATOR} {_digest(body)} */\n{body}")


def landed_counts(manifests: Sequence[LandedFile]) -> Statement:
    """Rows of each manifest by its piece, as the pool finds them in their files; all of these have some."""
    files = ", ".join(_plain(path) for m in manifests for path in m.files)
    return _made(
        "count_landed",
        f"SELECT r.[_novade_piece], COUNT_BIG(*) FROM OPENROWSET(BULK ({files}), DATA_SOURCE = {_plain(DATA_SOURCE)}, "
        "FORMAT = 'PARQUET') WITH ([_novade_piece] bigint) AS r GROUP BY r.[_novade_piece]",
    )


def renewal(statement: Statement, table: Table, over: str) -> Statement:
    """The statement, done only where the view is of the version ``over`` when it arrives.

    The look and the change are one batch, so that nothing that happens to us in between lets an older list of files
    come in the place of a newer one. What is left is the moment between the two on the pool itself.
    """
    return _made(
        "renew_view",
        "IF EXISTS (SELECT 1 FROM sys.views v JOIN sys.schemas s ON s.schema_id = v.schema_id "
        "JOIN sys.sql_modules m ON m.object_id = v.object_id "
        f"WHERE LOWER(s.name) = {literal(table.schema.lower())} AND LOWER(v.name) = {literal(table.name.lower())} "
        f"AND m.definition LIKE {literal(f'%/* novade view {over} */%')}) "
        f"EXEC ({literal(statement.text)})",
    )


def view_of(stream: Stream) -> Table:
    """The view of a stream: named like its table in a warehouse."""
    return Table(stream.source, stream.name)


def version_of(definition: str) -> str | None:
    """The version in a view's text, such as ``1 9f86d081884c7d65``; None for one that is not ours, or was edited."""
    found = re.search(r"/\* novade view (\d+) ([0-9a-f]{16}) \*/\n", definition)
    if found is None or _digest(definition[found.end() :]) != found[2]:
        return None
    return f"{found[1]} {found[2]}"


def stamp_of(definition: str) -> Stamp | None:
    """What a view's text says of itself; None for one that another warehouse stands beside, or that is not ours."""
    found = _STAMP.search(definition) if version_of(definition) is not None else None
    if found is None:
        return None
    seqs: list[int] = []
    for part in filter(None, found[3].split(",")):
        first, _, last = part.partition("-")
        seqs += range(int(first), int(last or first) + 1)
    return Stamp(fence=int(found[1]), reloaded=int(found[2]), seqs=tuple(seqs))


def _ranges(seqs: Iterable[int]) -> str:
    made: list[tuple[int, int]] = []
    for seq in sorted(seqs):
        if made and made[-1][1] == seq - 1:
            made[-1] = (made[-1][0], seq)
        else:
            made.append((seq, seq))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in made)


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
        f"{_cast(f'r.{identifier(origins[name])}' if name in origins else 'NULL', kind)} AS {identifier(name)}"
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


def _cast(value: str, kind: str) -> str:
    return f"CAST({value} AS {kind.replace(f' {BINARY}', '')}){f' {BINARY}' if BINARY in kind else ''}"


def _made(step: str, text: str) -> Statement:
    return Statement(step, text, labelled=False)


def _plain(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
