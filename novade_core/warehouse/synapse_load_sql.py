"""Statements of a load on a dedicated SQL pool: verdicts, rows, tombstones and markers; see ``synapse_sql``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from novade_core.warehouse.synapse_sql import (
    BINARY,
    KEY_TYPE,
    LOADS,
    NOVADE_COLUMNS,
    TOMBSTONES,
    Key,
    Statement,
    Storage,
    Table,
    equal,
    identifier,
    instant,
    key_text,
    listed,
    marks,
)


class Piece(NamedTuple):
    """One manifest as its staged rows name it."""

    piece: int  #: LandedFile.piece, in every row
    seq: int
    run_id: int


class Value(NamedTuple):
    """A column of a target and where a load takes it from."""

    column: str
    sql_type: str  #: without a collation
    landed: str | None = None  #: column of the staging table
    binary: bool = False  #: a text of the key, with the collation of keys
    kept: str | None = None  #: column of the table that ``keep`` fills: the row's own value before the load


def _same_text(left: str, right: str) -> str:
    return equal(f"{left}[key]", f"{right}[key]", text=True)


def _same_key(keys: Sequence[Key], left: str, right: str) -> str:
    """``left`` is the prefix of a table with the key's own columns, ``right`` that of a verdict table."""
    return " AND ".join(
        equal(f"{left}{identifier(k.name)}", f"{right}{identifier(name)}", text=k.text)
        for k, name in zip(keys, _own_keys(keys), strict=True)
    )


def _own_keys(keys: Sequence[Key]) -> list[str]:
    """The key's columns in a verdict table."""
    return [f"k{number}" for number in range(len(keys))]


def verdict_columns(key_types: Sequence[str]) -> dict[str, str]:
    """A verdict table's columns: one row per staged row."""
    return {f"k{number}": kind for number, kind in enumerate(key_types)} | {
        "key": KEY_TYPE,
        "version": "bigint",
        "hash": "bigint",
        "deleted": "bit",
        "seq": "bigint",
        "run_id": "bigint",
        "piece": "bigint",
        "place": "bigint",
        "verdict": "nvarchar(12)",
    }


def classify(
    verdicts: Table, staged: Sequence[tuple[Table, Sequence[Piece]]], keys: Sequence[Key], held: Table | None, of: str
) -> Statement:
    """A verdict per staged row: load, unchanged, superseded or duplicate.

    Newest version wins a key; of equal versions the later landing. Against the table (``held``; None = nothing is
    held): older is superseded, equal version and hash is unchanged, equal version and another hash belongs to the
    later landing. A tombstone of the stream ``of`` stands for the row that a hard delete removed.
    """
    own = _own_keys(keys)
    rows = " UNION ALL ".join(_staged(table, pieces, keys) for table, pieces in staged)
    apart = ", ".join(
        f"u.[{name}], DATALENGTH(u.[{name}])" if key.text else f"u.[{name}]"
        for key, name in zip(keys, own, strict=True)
    )
    carried = [*own, "key", "version", "hash", "deleted", "seq", "run_id", "piece", "place"]
    chosen, inner = (", ".join(f"{prefix}.[{name}]" for name in carried) for prefix in "ru")
    ranked = (
        f"SELECT {inner}, ROW_NUMBER() OVER (PARTITION BY {apart} ORDER BY u.[version] DESC, u.[seq] DESC, "
        f"u.[place] DESC, u.[hash] DESC) AS [rank] FROM ({rows}) AS u"
    )
    against, verdict = "", "N'load'"
    parameters: tuple[str, ...] = ()
    if held is not None:
        version = "COALESCE(t.[_novade_source_version], g.[version])"
        verdict = (
            f"CASE WHEN t.[_novade_landed_seq] IS NULL AND g.[landed_seq] IS NULL THEN N'load' "
            f"WHEN r.[version] > {version} THEN N'load' WHEN r.[version] < {version} THEN N'superseded' "
            f"WHEN r.[hash] = COALESCE(t.[_novade_row_hash], g.[row_hash]) THEN N'unchanged' "
            f"WHEN r.[seq] >= COALESCE(t.[_novade_landed_seq], g.[landed_seq]) THEN N'load' ELSE N'superseded' END"
        )
        against = (
            f" LEFT JOIN {held.sql} AS t ON {_same_key(keys, 't.', 'r.')}"
            f" LEFT JOIN {TOMBSTONES.sql} AS g ON g.[stream] = ? AND {_same_text('g.', 'r.')}"
        )
        parameters = (of,)
    return Statement(
        "classify",
        f"INSERT INTO {verdicts.sql} ({listed([*carried, 'verdict'])}) "
        f"SELECT {chosen}, CASE WHEN r.[rank] > 1 THEN N'duplicate' ELSE {verdict} END FROM ({ranked}) AS r{against}",
        parameters,
    )


def _staged(table: Table, pieces: Sequence[Piece], keys: Sequence[Key]) -> str:
    known = " UNION ALL ".join(
        f"SELECT CAST({p.piece} AS bigint) AS [piece], CAST({p.seq} AS bigint) AS [seq], "
        f"CAST({p.run_id} AS bigint) AS [run_id]"
        for p in pieces
    )
    own = ", ".join(f"s.{identifier(k.name)} AS [k{number}]" for number, k in enumerate(keys))
    return (
        f"SELECT {own}, {key_text(keys, 's.')} {BINARY} AS [key], s.[_novade_source_version] AS [version], "
        "s.[_novade_row_hash] AS [hash], CAST(CASE WHEN s.[_novade_deleted_at] IS NULL THEN 0 ELSE 1 END AS bit) "
        "AS [deleted], m.[seq], m.[run_id], m.[piece], s.[_novade_place] AS [place] "
        f"FROM {table.sql} AS s JOIN ({known}) AS m ON m.[piece] = s.[_novade_piece]"
    )


def verdict_counts(verdicts: Table) -> Statement:
    """Rows, and deleted ones of them, by manifest and verdict."""
    return Statement(
        "verdicts",
        "SELECT [seq], [verdict], COUNT_BIG(*), SUM(CAST([deleted] AS bigint)) "
        f"FROM {verdicts.sql} GROUP BY [seq], [verdict]",
    )


# --- the load's transaction -----------------------------------------------------------------------


def note_landing(table: Table, verdicts: Table, keys: Sequence[Key]) -> Statement:
    """What landed again unchanged takes the place of its later landing in the order of landings."""
    return Statement(
        "note",
        f"UPDATE {table.sql} SET [_novade_landed_seq] = v.[seq] FROM {verdicts.sql} AS v "
        f"WHERE {_same_key(keys, f'{table.sql}.', 'v.')} AND v.[verdict] = N'unchanged' "
        f"AND {table.sql}.[_novade_landed_seq] < v.[seq]",
    )


def note_tombstones(verdicts: Table, stream: str) -> Statement:
    """The same for what a hard delete removed."""
    to = TOMBSTONES.sql
    return Statement(
        "note_tombstones",
        f"UPDATE {to} SET [landed_seq] = v.[seq] FROM {verdicts.sql} AS v WHERE {to}.[stream] = ? "
        f"AND {_same_text(f'{to}.', 'v.')} AND v.[verdict] = N'unchanged' AND {to}.[landed_seq] < v.[seq]",
        (stream,),
    )


def keep(kept: Table, table: Table, verdicts: Table, keys: Sequence[Key], names: Sequence[str]) -> Statement:
    """Values of columns that the source no longer shows, of the rows that are about to be replaced."""
    own = _own_keys(keys)
    chosen = ", ".join(f"t.{identifier(n)}" for n in names)
    return Statement(
        "keep",
        f"INSERT INTO {kept.sql} ({listed(own)}, {listed(_kept(len(names)))}) "
        f"SELECT {', '.join(f'v.[{n}]' for n in own)}, {chosen} FROM {table.sql} AS t "
        f"JOIN {verdicts.sql} AS v ON {_same_key(keys, 't.', 'v.')} WHERE v.[verdict] = N'load'",
    )


def kept_columns(key_types: Sequence[str], types: Sequence[str]) -> dict[str, str]:
    """Columns of the table that ``keep`` fills: keys k0 …, values c0 …."""
    return {f"k{n}": t for n, t in enumerate(key_types)} | dict(zip(_kept(len(types)), types, strict=True))


def _kept(number: int) -> list[str]:
    return [f"c{n}" for n in range(number)]


def delete_replaced(table: Table, verdicts: Table, keys: Sequence[Key]) -> Statement:
    """The rows whose newer version is about to come."""
    return Statement(
        "delete",
        f"DELETE FROM {table.sql} WHERE EXISTS (SELECT 1 FROM {verdicts.sql} AS v "
        f"WHERE {_same_key(keys, f'{table.sql}.', 'v.')} AND v.[verdict] = N'load')",
    )


def delete_all(table: Table) -> Statement:
    """Every row."""
    return Statement("delete_all", f"DELETE FROM {table.sql}")


class Part(NamedTuple):
    """The rows of one staging table on their way into a target."""

    staged: Table
    values: Sequence[Value]


def _rows(
    part: Part, verdicts: Table, keys: Sequence[Key], now: datetime, *, skip_deleted: bool, kept: Table | None
) -> str:
    """The winning rows of one staging table, as the target's columns in the order of ``part.values``, then ours."""
    chosen = []
    for value in part.values:
        origin = f"s.{identifier(value.landed)}" if value.landed else f"x.[{value.kept}]" if value.kept else "NULL"
        collated = f" {BINARY}" if value.binary else ""
        chosen.append(f"CAST({origin} AS {value.sql_type}){collated} AS {identifier(value.column)}")
    chosen += [
        "v.[run_id] AS [_novade_run_id]",
        f"{instant(now)} AS [_novade_loaded_at]",
        "s.[_novade_source_version] AS [_novade_source_version]",
        "s.[_novade_row_hash] AS [_novade_row_hash]",
        "s.[_novade_deleted_at] AS [_novade_deleted_at]",
        "v.[seq] AS [_novade_landed_seq]",
    ]
    joined = f" LEFT JOIN {kept.sql} AS x ON {_kept_key(keys)}" if kept is not None else ""
    return (
        f"SELECT {', '.join(chosen)} FROM {part.staged.sql} AS s JOIN {verdicts.sql} AS v "
        f"ON {_same_key(keys, 's.', 'v.')} AND v.[piece] = s.[_novade_piece] "
        f"AND v.[place] = s.[_novade_place]{joined} WHERE v.[verdict] = N'load'"
        + (" AND v.[deleted] = 0" if skip_deleted else "")
    )


def _kept_key(keys: Sequence[Key]) -> str:
    return " AND ".join(equal(f"x.[k{n}]", f"v.[k{n}]", text=key.text) for n, key in enumerate(keys))


def insert_rows(
    table: Table,
    part: Part,
    verdicts: Table,
    keys: Sequence[Key],
    now: datetime,
    *,
    skip_deleted: bool,
    kept: Table | None,
) -> Statement:
    """The winning rows of one staging table into the target."""
    into = listed([*(v.column for v in part.values), *NOVADE_COLUMNS])
    rows = _rows(part, verdicts, keys, now, skip_deleted=skip_deleted, kept=kept)
    return Statement("insert", f"INSERT INTO {table.sql} ({into}) {rows}")


def replacement(
    table: Table,
    storage: Storage,
    parts: Sequence[Part],
    verdicts: Table,
    keys: Sequence[Key],
    now: datetime,
    *,
    skip_deleted: bool,
) -> Statement:
    """A new table of exactly the winning rows; every part has all of its columns, in one order."""
    rows = " UNION ALL ".join(_rows(p, verdicts, keys, now, skip_deleted=skip_deleted, kept=None) for p in parts)
    return Statement("replace", f"CREATE TABLE {table.sql} WITH ({storage.sql}) AS {rows}")


def unbury(verdicts: Table, stream: str) -> Statement:
    """No tombstone for what is loaded."""
    to = TOMBSTONES.sql
    return Statement(
        "unbury",
        f"DELETE FROM {to} WHERE {to}.[stream] = ? AND EXISTS (SELECT 1 FROM {verdicts.sql} AS v "
        f"WHERE {_same_text('v.', f'{to}.')} AND v.[verdict] = N'load')",
        (stream,),
    )


def bury(verdicts: Table, stream: str) -> Statement:
    """A tombstone for each row that a hard delete removes."""
    return Statement(
        "bury",
        f"INSERT INTO {TOMBSTONES.sql} ([stream], [key], [version], [row_hash], [landed_seq]) "
        f"SELECT CAST(? AS nvarchar(260)), v.[key], v.[version], v.[hash], v.[seq] FROM {verdicts.sql} AS v "
        "WHERE v.[verdict] = N'load' AND v.[deleted] = 1",
        (stream,),
    )


# --- markers --------------------------------------------------------------------------------------

_COUNTS = ("staged", "loaded", "deleted", "unchanged", "superseded", "duplicates")


class Marker(NamedTuple):
    """What becomes of one manifest: counts in the order of LoadResult."""

    load_id: str
    seq: int
    counts: tuple[int, int, int, int, int, int]


def markers(stream: str, load_ids: Sequence[str]) -> Statement:
    """Which manifests are in, with their counts; at most MAX_PARAMETERS at once."""
    return Statement(
        "markers",
        f"SELECT [load_id], {listed(_COUNTS)} FROM {LOADS.sql} "
        f"WHERE [stream] = ? AND [load_id] IN ({marks(len(load_ids))})",
        (stream, *load_ids),
    )


def unmark(stream: str, load_ids: Sequence[str]) -> Statement:
    """Take markers away, to renew them; at most MAX_PARAMETERS at once."""
    return Statement(
        "unmark",
        f"DELETE FROM {LOADS.sql} WHERE [stream] = ? AND [load_id] IN ({marks(len(load_ids))})",
        (stream, *load_ids),
    )


def mark(stream: str, run_id: int, now: datetime, done: Sequence[Marker]) -> Statement:
    """One row a manifest; at most MAX_PARAMETERS at once."""
    rows = " UNION ALL ".join(
        f"SELECT CAST(? AS nvarchar(64)) AS [load_id], CAST({m.seq} AS bigint) AS [landed_seq], "
        + ", ".join(f"CAST({n} AS bigint) AS [{name}]" for name, n in zip(_COUNTS, m.counts, strict=True))
        for m in done
    )
    return Statement(
        "mark",
        f"INSERT INTO {LOADS.sql} ([load_id], [stream], [landed_seq], [run_id], [loaded_at], {listed(_COUNTS)}) "
        f"SELECT m.[load_id], CAST(? AS nvarchar(260)), m.[landed_seq], CAST({run_id} AS bigint), {instant(now)}, "
        f"{', '.join(f'm.[{n}]' for n in _COUNTS)} FROM ({rows}) AS m",
        (stream, *(m.load_id for m in done)),
    )
