"""sp_datatype_info_100, which drivers ask for the sizes of parameters when they connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Result

_COLUMNS = [
    ("TYPE_NAME", "VARCHAR"), ("DATA_TYPE", "SMALLINT"), ("PRECISION", "INTEGER"), ("LITERAL_PREFIX", "VARCHAR"),
    ("LITERAL_SUFFIX", "VARCHAR"), ("CREATE_PARAMS", "VARCHAR"), ("NULLABLE", "SMALLINT"),
    ("CASE_SENSITIVE", "SMALLINT"), ("SEARCHABLE", "SMALLINT"), ("UNSIGNED_ATTRIBUTE", "SMALLINT"),
    ("MONEY", "SMALLINT"), ("AUTO_INCREMENT", "SMALLINT"), ("LOCAL_TYPE_NAME", "VARCHAR"),
    ("MINIMUM_SCALE", "SMALLINT"), ("MAXIMUM_SCALE", "SMALLINT"), ("SQL_DATA_TYPE", "SMALLINT"),
    ("SQL_DATETIME_SUB", "SMALLINT"), ("NUM_PREC_RADIX", "INTEGER"), ("INTERVAL_PRECISION", "SMALLINT"),
    ("USERTYPE", "SMALLINT"),
]  # fmt: skip
#: ODBC code -> name, size, prefix, suffix, parameters, scales, verbose type, sub-code.
_TYPES: dict[int, tuple[Any, ...]] = {
    12: ("varchar", 8000, "'", "'", "max length", None, None, 12, None),
    -9: ("nvarchar", 4000, "N'", "'", "max length", None, None, -9, None),
    -3: ("varbinary", 8000, "0x", None, "max length", None, None, -3, None),
    93: ("datetime2", 27, "'", "'", "scale", 0, 7, 9, 3),
}


def datatype_info(code: int) -> Result:
    """The one type of an ODBC code; no row for the codes that nobody asks for."""
    from .engine import Result

    found = _TYPES.get(code)
    rows = []
    if found is not None:
        name, size, prefix, suffix, given, low, high, verbose, sub = found
        rows = [(name, code, size, prefix, suffix, given, 1, 0, 3, None, 0, None, name, low, high, verbose, sub, None,
                 None, 0)]  # fmt: skip
    return Result(columns=_COLUMNS, rows=rows)
