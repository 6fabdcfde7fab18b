"""The canonical text of a row and its hash: one definition, one SQL dialect at a time.

A row's canonical text joins its columns in the order of their names by U+001F; NULL is U+001E. Per type:

=========  =================================================================
text       as it is
boolean    ``1`` or ``0``
integers   decimal digits
decimal    digits with exactly ``scale`` places after the point
double     17 significant digits in scientific notation (``7.5000000000000000e+01``)
date       ``YYYY-MM-DD``
timestamp  microseconds since 1970-01-01 UTC
time, json the text
=========  =================================================================

The hash is MD5 over the UTF-8 bytes, its last eight bytes read as a little-endian integer, sign bit
cleared: 63 bits fit a BIGINT in every warehouse, and sums of it are order-free. It finds changes, it is
not a signature. Test vectors: docs/row-hash.md. Every column of the stream takes part, none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from novade_core.streams import Column, ColumnType

#: Clears the sign bit so that the value fits a signed 64-bit column.
_MASK = "9223372036854775807"


def quote(name: str) -> str:
    """An SQL identifier for DuckDB, quoted; refuses NUL (ValueError), which no engine can hold."""
    if "\0" in name or not name:
        raise ValueError(f"{name!r} cannot be an SQL identifier")
    return '"' + name.replace('"', '""') + '"'


def quote_path(path: str) -> str:
    """One file's name as an SQL string; to DuckDB's readers ``*``, ``?`` and ``[`` would be patterns."""
    return "'" + re.sub(r"([*?\[])", r"[\1]", path).replace("'", "''") + "'"


def canonical_duckdb(column: Column, reference: str) -> str:
    """The canonical text of one column as a DuckDB expression over ``reference`` (quoted already)."""
    match column.type:
        case ColumnType.BOOLEAN:
            text = f"CASE WHEN {reference} THEN '1' WHEN NOT {reference} THEN '0' END"
        case ColumnType.DOUBLE:
            text = f"format('{{:.16e}}', {reference})"
        case ColumnType.TIMESTAMP:
            text = f"CAST(epoch_us({reference}) AS VARCHAR)"
        case ColumnType.TEXT | ColumnType.TIME | ColumnType.JSON:
            text = reference
        case ColumnType.DECIMAL if column.precision == column.scale:
            # DuckDB leaves out the zero before the point here, and only here.
            text = f"CASE WHEN {reference} < 0 THEN '-0' ELSE '0' END || CAST(abs({reference}) AS VARCHAR)"
        case _:
            text = f"CAST({reference} AS VARCHAR)"
    return f"coalesce({text}, chr(30))"


def row_hash_duckdb(columns: Iterable[Column], table: str = "") -> str:
    """The row hash as a DuckDB expression of type BIGINT; ``table`` is a prefix such as ``t.``."""
    ordered = sorted(columns, key=lambda c: c.name)
    parts = ", ".join(canonical_duckdb(c, table + quote(c.name)) for c in ordered)
    return f"CAST(md5_number_lower(concat_ws(chr(31), {parts})) & {_MASK} AS BIGINT)"


def key_hash_duckdb(primary_key: Iterable[str], version: str, table: str = "") -> str:
    """The hash of (key, version) as a DuckDB expression of type BIGINT."""
    parts = ", ".join(f"coalesce(CAST({table}{quote(k)} AS VARCHAR), chr(30))" for k in primary_key)
    return f"CAST(md5_number_lower(concat_ws(chr(31), {parts}, CAST({table}{version} AS VARCHAR))) & {_MASK} AS BIGINT)"
