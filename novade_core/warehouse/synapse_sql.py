"""Statements that go to a dedicated SQL pool, made by pure functions; those of a load are in ``synapse_load_sql``.

These two files list every form that we can send.

Identifiers are bracketed, values are parameters. DDL, COPY INTO and the select lists that a CREATE TABLE … AS shares
with an INSERT take none, so they spell numbers, instants and our own names as literals. What a pool refuses (several
rows of VALUES, DDL in a transaction, MERGE into a round-robin table, DROP TABLE IF EXISTS) has no function here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

#: Characters of an identifier: sysname is nvarchar(128), so a character beyond U+FFFF counts twice.
MAX_IDENTIFIER = 128
#: Parameters that one statement may have on a pool, less some room.
MAX_PARAMETERS = 2_000
#: Comparisons of keys see case and accents, whatever the database's collation is.
BINARY = "COLLATE Latin1_General_100_BIN2"
KEY_TYPE = f"nvarchar(4000) {BINARY}"


class Statement(NamedTuple):
    """One statement. ``step`` names its form and ends its label."""

    step: str
    text: str
    parameters: tuple[Any, ...] = ()
    labelled: bool = True  #: does the grammar take OPTION (LABEL = …)?


class Table(NamedTuple):
    """A table by schema and name."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """``[salesforce].[contact]``."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"


class Key(NamedTuple):
    """One column of a primary key."""

    name: str
    text: bool  #: compared with its length too: T-SQL's = ignores trailing blanks


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How a table is spread and stored."""

    hash_column: str | None = None  #: None: round robin
    index: str = "HEAP"  #: HEAP, CLUSTERED COLUMNSTORE INDEX or CLUSTERED INDEX ([…])

    @property
    def sql(self) -> str:
        """The WITH clause's inside."""
        spread = f"HASH({identifier(self.hash_column)})" if self.hash_column else "ROUND_ROBIN"
        return f"DISTRIBUTION = {spread}, {self.index}"


STAGING = Storage()
FENCE = Table("novade", "novade_fence")
LOADS = Table("novade", "novade_loads")
TOMBSTONES = Table("novade", "novade_tombstones")
SWAPS = Table("novade", "novade_swaps")
STAGE_SCHEMA = "novade_stage"

#: Our own tables but the fence, whose first row comes with it. Clustered by stream, so that two loads do not wait for
#: each other's rows.
OWN_TABLES: Mapping[Table, tuple[Mapping[str, str], Storage]] = {
    LOADS: (
        {
            "load_id": "nvarchar(64)",
            "stream": "nvarchar(260)",
            "landed_seq": "bigint",
            "run_id": "bigint",
            "loaded_at": "datetime2(6)",
            "staged": "bigint",
            "loaded": "bigint",
            "deleted": "bigint",
            "unchanged": "bigint",
            "superseded": "bigint",
            "duplicates": "bigint",
        },
        Storage(hash_column="stream", index="CLUSTERED INDEX ([stream], [load_id])"),
    ),
    TOMBSTONES: (
        {
            "stream": "nvarchar(260)",
            "key": KEY_TYPE,
            "version": "bigint",
            "row_hash": "bigint",
            "landed_seq": "bigint",
        },
        Storage(hash_column="stream", index="CLUSTERED INDEX ([stream])"),
    ),
    SWAPS: (
        {
            "stream": "nvarchar(260)",
            "swap": "nvarchar(64)",
            "fence": "bigint",
            "state": "nvarchar(16)",
            "replaces": "bit",
            "new_name": "nvarchar(128)",
            "old_name": "nvarchar(128)",
        },
        Storage(hash_column="stream", index="CLUSTERED INDEX ([stream])"),
    ),
}

#: Ours on every table, in order.
NOVADE_COLUMNS: Mapping[str, str] = {
    "_novade_run_id": "bigint",
    "_novade_loaded_at": "datetime2(6)",
    "_novade_source_version": "bigint",
    "_novade_row_hash": "bigint",
    "_novade_deleted_at": "datetime2(6)",
    "_novade_landed_seq": "bigint",
}

#: Ours in every landed file, after the stream's own columns and in this order.
LANDED_COLUMNS: Mapping[str, str] = {
    "_novade_source_version": "bigint",
    "_novade_row_hash": "bigint",
    "_novade_deleted_at": "datetime2(6)",
    "_novade_piece": "bigint",
    "_novade_place": "bigint",
}


# --- parts of statements --------------------------------------------------------------------------


def identifier(name: str) -> str:
    """A name in brackets; ValueError for what no pool can hold."""
    units = len(name.encode("utf-16-le")) // 2
    if not name or "\0" in name or units > MAX_IDENTIFIER:
        raise ValueError(f"{name!r} cannot be an identifier of at most {MAX_IDENTIFIER} characters")
    return "[" + name.replace("]", "]]") + "]"


def literal(text: str) -> str:
    """A text of ours inside a statement that takes no parameters."""
    return "N'" + text.replace("'", "''") + "'"


def instant(moment: datetime) -> str:
    """An instant as UTC, in microseconds."""
    plain = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"CAST('{plain}' AS datetime2(6))"


def label(run_id: int, table: str, step: str) -> str:
    """``OPTION (LABEL = 'nv_7_contact_copy')``: letters, digits and underscores only."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", table)[:100].strip("_")
    return f" OPTION (LABEL = 'nv_{run_id}_{name}_{step}')"


def key_text(keys: Sequence[Key], prefix: str = "") -> str:
    """The key as one text; parts of a composite key are joined by U+001F."""
    parts = [f"CAST({prefix}{identifier(k.name)} AS nvarchar(4000))" for k in keys]
    return parts[0] if len(parts) == 1 else f"CONCAT({', NCHAR(31), '.join(parts)})"


def equal(left: str, right: str, *, text: bool) -> str:
    """Whether two values are the same, trailing blanks counted."""
    return f"{left} = {right}" + (f" AND DATALENGTH({left}) = DATALENGTH({right})" if text else "")


def _defined(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{identifier(n)} {t} NULL" for n, t in columns.items())


def listed(names: Iterable[str]) -> str:
    """Identifiers side by side."""
    return ", ".join(identifier(n) for n in names)


def marks(number: int) -> str:
    """Places of parameters."""
    return ", ".join("?" * number)


# --- transactions ---------------------------------------------------------------------------------

BEGIN = Statement("begin", "BEGIN TRAN", labelled=False)
COMMIT = Statement("commit", "COMMIT", labelled=False)
ROLLBACK = Statement("rollback", "ROLLBACK", labelled=False)


def lock_fences() -> Statement:
    """Held while a stream's fence row is made: no key keeps two at once from making one each."""
    return Statement("fence_lock", f"UPDATE {FENCE.sql} SET [fence] = [fence] + 1 WHERE [stream] = N''")


def fence_of(stream: str) -> Statement:
    """The stored fence of a stream; no row where there is none yet."""
    return Statement("fence_read", f"SELECT [fence] FROM {FENCE.sql} WHERE [stream] = ?", (stream,))


def make_fence(stream: str) -> Statement:
    """The stream's row, below every holder's fence."""
    return Statement("fence_make", f"INSERT INTO {FENCE.sql} ([stream], [fence]) SELECT ?, 0", (stream,))


# --- catalogue ------------------------------------------------------------------------------------


def schemas() -> Statement:
    """Names of all schemas."""
    return Statement("schemas", "SELECT [name] FROM sys.schemas")


def tables(*in_schemas: str) -> Statement:
    """Schema and name of every table in these schemas."""
    return Statement(
        "tables",
        "SELECT s.[name], t.[name] FROM sys.tables AS t JOIN sys.schemas AS s ON s.[schema_id] = t.[schema_id] "
        f"WHERE s.[name] IN ({marks(len(in_schemas))})",
        in_schemas,
    )


def columns(table: Table) -> Statement:
    """Name and type of a table's columns, in order."""
    return Statement(
        "columns",
        "SELECT [COLUMN_NAME], [DATA_TYPE], [CHARACTER_MAXIMUM_LENGTH], [NUMERIC_PRECISION], [NUMERIC_SCALE], "
        "[DATETIME_PRECISION] FROM INFORMATION_SCHEMA.COLUMNS WHERE [TABLE_SCHEMA] = ? AND [TABLE_NAME] = ? "
        "ORDER BY [ORDINAL_POSITION]",
        (table.schema, table.name),
    )


def columnstore(table: Table) -> Statement:
    """One row where the table is a clustered columnstore, which takes no (max) column."""
    return Statement(
        "columnstore",
        "SELECT i.[type] FROM sys.indexes AS i JOIN sys.tables AS t ON t.[object_id] = i.[object_id] "
        "JOIN sys.schemas AS s ON s.[schema_id] = t.[schema_id] WHERE s.[name] = ? AND t.[name] = ? AND i.[type] = 5",
        (table.schema, table.name),
    )


# --- definitions; none of them may run inside a transaction ---------------------------------------


def create_schema(name: str) -> Statement:
    """A schema."""
    return Statement("create_schema", f"CREATE SCHEMA {identifier(name)}", labelled=False)


def create_table(table: Table, defined: Mapping[str, str], storage: Storage) -> Statement:
    """An empty table; every column may be NULL."""
    return Statement("create", f"CREATE TABLE {table.sql} ({_defined(defined)}) WITH ({storage.sql})", labelled=False)


def create_fence_table() -> Statement:
    """The fences, with the row that ``lock_fences`` locks: made by one statement, so there is never a second one."""
    storage = Storage(hash_column="stream", index="CLUSTERED INDEX ([stream])")
    return Statement(
        "create_fence",
        f"CREATE TABLE {FENCE.sql} WITH ({storage.sql}) AS "
        "SELECT CAST(N'' AS nvarchar(260)) AS [stream], CAST(0 AS bigint) AS [fence]",
    )


def drop_table(table: Table) -> Statement:
    """Drop it where it is."""
    return Statement(
        "drop", f"IF OBJECT_ID({literal(table.sql)}, 'U') IS NOT NULL DROP TABLE {table.sql}", labelled=False
    )


def add_columns(table: Table, added: Mapping[str, str]) -> Statement:
    """Columns that older rows hold NULL in."""
    return Statement("add", f"ALTER TABLE {table.sql} ADD {_defined(added)}", labelled=False)


def widen_column(table: Table, name: str, sql_type: str) -> Statement:
    """Give a column a type that holds all its values and more."""
    return Statement(
        "widen", f"ALTER TABLE {table.sql} ALTER COLUMN {identifier(name)} {sql_type} NULL", labelled=False
    )


def update_statistics(table: Table) -> Statement:
    """A pool makes statistics by itself and never brings them up to date."""
    return Statement("statistics", f"UPDATE STATISTICS {table.sql}", labelled=False)


# --- staging --------------------------------------------------------------------------------------


def copy_into(
    table: Table, names: Sequence[str], urls: Sequence[str], identity: str | None, secret: str | None
) -> Statement:
    """Parquet files, named one by one, into a table whose columns are given in the files' order.

    Without ``identity`` the files are public or the connection's own Entra user reads them.
    """
    listed = ", ".join(f"{identifier(name)} {number}" for number, name in enumerate(names, 1))
    given = f"IDENTITY = {_plain(identity)}" if identity else ""
    given += f", SECRET = {_plain(secret)}" if secret else ""
    credential = f", CREDENTIAL = ({given})" if given else ""
    return Statement(
        "copy",
        f"COPY INTO {table.sql} ({listed}) FROM {', '.join(_plain(u) for u in urls)} "
        f"WITH (FILE_TYPE = 'PARQUET'{credential})",
    )


def _plain(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def redacted(text: str) -> str:
    """A statement without the secret of its credential, fit for a log."""
    return re.sub(r"(SECRET = )'(?:[^']|'')*'", r"\1'***'", text)


# --- the swap of a full reload --------------------------------------------------------------------


class Swap(NamedTuple):
    """A row of the journal: a new table that is to take the place of the old one."""

    swap: str  #: unique; letters, digits and underscores
    fence: int
    state: str  #: open; closed: its renames may not happen any more
    replaces: bool  #: was there a table before?
    new_name: str
    old_name: str
    committed: bool = False  #: with its markers, in one transaction


_SWAP = ("swap", "fence", "state", "replaces", "new_name", "old_name")


def swaps(stream: str) -> Statement:
    """Swaps of a stream that were begun and not cleared away, and 1 or 0: were they committed?"""
    chosen = ", ".join(f"s.{identifier(n)}" for n in _SWAP)
    return Statement(
        "swaps",
        f"SELECT {chosen}, CASE WHEN c.[state] IS NULL THEN 0 ELSE 1 END FROM {SWAPS.sql} AS s "
        f"LEFT JOIN {SWAPS.sql} AS c ON c.[stream] = s.[stream] AND c.[swap] = s.[swap] AND c.[state] = N'committed' "
        "WHERE s.[stream] = ? AND s.[state] <> N'committed'",
        (stream,),
    )


def open_swap(stream: str, swap: Swap) -> Statement:
    """Write the intention down before anything happens."""
    return Statement(
        "swap_open",
        f"INSERT INTO {SWAPS.sql} ([stream], {listed(_SWAP)}) "
        "SELECT CAST(? AS nvarchar(260)), CAST(? AS nvarchar(64)), CAST(? AS bigint), CAST(? AS nvarchar(16)), "
        "CAST(? AS bit), CAST(? AS nvarchar(128)), CAST(? AS nvarchar(128))",
        (stream, *swap[: len(_SWAP)]),
    )


def close_swaps(stream: str) -> Statement:
    """From here on the renames of open swaps do nothing, whoever sends them."""
    return Statement(
        "swap_close",
        f"UPDATE {SWAPS.sql} SET [state] = N'closed' WHERE [stream] = ? AND [state] = N'open'",
        (stream,),
    )


def commit_swap(stream: str, swap: str) -> Statement:
    """Part of the transaction that holds the fence: there where that has committed."""
    return Statement(
        "swap_commit",
        f"INSERT INTO {SWAPS.sql} ([stream], [swap], [state]) "
        "SELECT CAST(? AS nvarchar(260)), CAST(? AS nvarchar(64)), N'committed'",
        (stream, swap),
    )


def forget_swap(stream: str, swap: str) -> Statement:
    """Nothing of the swap is left."""
    return Statement("swap_forget", f"DELETE FROM {SWAPS.sql} WHERE [stream] = ? AND [swap] = ?", (stream, swap))


def rename_in_swap(table: Table, new_name: str, swap: str) -> Statement:
    """Rename unless the swap was closed: one batch, so that a worker which wakes late cannot rename any more."""
    rename = f"RENAME OBJECT {table.sql} TO {identifier(new_name)}"
    return Statement(
        "swap_rename",
        f"IF EXISTS (SELECT 1 FROM {SWAPS.sql} WHERE [swap] = {literal(swap)} AND [state] = N'open') "
        f"BEGIN EXEC({literal(rename)}) END",
        labelled=False,
    )


def rename(table: Table, new_name: str) -> Statement:
    """Rename, as a repair does."""
    return Statement("rename", f"RENAME OBJECT {table.sql} TO {identifier(new_name)}", labelled=False)


# --- counting -------------------------------------------------------------------------------------


def count_all(table: Table) -> Statement:
    """Every row, exactly."""
    return Statement("count_staged", f"SELECT COUNT_BIG(*) FROM {table.sql}")


def count_live(table: Table) -> Statement:
    """Live rows, exactly."""
    return Statement("count", f"SELECT COUNT_BIG(*) FROM {table.sql} WHERE [_novade_deleted_at] IS NULL")


def count_approximately(table: Table) -> Statement:
    """Rows, marked ones too, from the pool's own books; needs VIEW DATABASE STATE."""
    return Statement(
        "count_approximate",
        "SELECT SUM(p.[row_count]) FROM sys.schemas AS s JOIN sys.tables AS t ON t.[schema_id] = s.[schema_id] "
        "JOIN sys.indexes AS i ON i.[object_id] = t.[object_id] AND i.[index_id] <= 1 "
        "JOIN sys.pdw_table_mappings AS m ON m.[object_id] = t.[object_id] "
        "JOIN sys.pdw_nodes_tables AS n ON n.[name] = m.[physical_name] "
        "JOIN sys.dm_pdw_nodes_db_partition_stats AS p ON p.[object_id] = n.[object_id] "
        "AND p.[pdw_node_id] = n.[pdw_node_id] AND p.[distribution_id] = n.[distribution_id] "
        "AND p.[index_id] = i.[index_id] WHERE s.[name] = ? AND t.[name] = ?",
        (table.schema, table.name),
    )


def count_by_month(table: Table, field: str) -> Statement:
    """Live rows by year and month of a column."""
    name = identifier(field)
    return Statement(
        "count_months",
        f"SELECT YEAR({name}), MONTH({name}), COUNT_BIG(*) FROM {table.sql} WHERE [_novade_deleted_at] IS NULL "
        f"GROUP BY YEAR({name}), MONTH({name})",
    )


def keys_of_month(table: Table, keys: Sequence[Key], field: str, year: int, month: int) -> Statement:
    """Keys of the live rows of one month."""
    name = identifier(field)
    return Statement(
        "keys",
        f"SELECT {key_text(keys)} FROM {table.sql} "
        f"WHERE [_novade_deleted_at] IS NULL AND YEAR({name}) = ? AND MONTH({name}) = ?",
        (year, month),
    )
