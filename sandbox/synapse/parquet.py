"""Which Parquet columns a pool reads into which types, checked before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from .errors import SqlError
from .sqltypes import SqlType

_PREFIX = "HdfsBridge::recordReaderFillBuffer - Unexpected error encountered filling record reader buffer: "
_JAVA = {"INT32": "Integer", "INT64": "Long", "DOUBLE": "Double", "FLOAT": "Float", "BOOLEAN": "Boolean",
         "INT96": "Timestamp", "BYTE_ARRAY": "String", "FIXED_LEN_BYTE_ARRAY": "Decimal"}  # fmt: skip
_WANTED = {"int": "Integer", "bigint": "Long", "smallint": "Short", "tinyint": "Byte", "bit": "Boolean",
           "float": "Double", "real": "Float", "date": "Date", "datetime2": "Timestamp", "decimal": "Decimal",
           "nvarchar": "String", "varchar": "String", "varbinary": "byte[]", "time": "Time"}  # fmt: skip


def refused(text: str) -> SqlError:
    """The reader's error."""
    return SqlError(106000, _PREFIX + text)


def file_columns(path: Path) -> list[Any]:
    """The file's leaf columns as pyarrow describes them; refused where it is no Parquet file."""
    try:
        schema = pq.ParquetFile(path).schema
    except (OSError, ValueError) as error:
        raise refused(f"RuntimeException: {path.name} is not a Parquet file ({type(error).__name__})") from error
    found = [schema.column(i) for i in range(len(schema.names))]
    for column in found:
        if column.path != column.name:  # a flat column may have a dot in its name
            raise refused(f"UnsupportedOperationException: nested column {column.path}")
    return found


def accepted(column: Any) -> set[str]:
    """Names of the SQL types that take a Parquet column; empty where the pool cannot read it at all."""
    physical = column.physical_type
    logical = column.logical_type
    kind = logical.type if logical is not None else "NONE"
    text = str(logical)
    if kind == "TIMESTAMP":
        return {"datetime2"} if "milliseconds" in text else set()
    if kind == "TIME":
        return {"time"} if "milliseconds" in text else set()
    if kind == "INT":
        signed = "isSigned=true" in text
        width = next(w for w in ("64", "32", "16", "8") if f"bitWidth={w}," in text)
        signed_types = {"8": "smallint", "16": "smallint", "32": "int", "64": "bigint"}
        unsigned = {"8": "tinyint", "16": "int", "32": "bigint", "64": "decimal"}
        return {(signed_types if signed else unsigned)[width]}
    if kind == "DECIMAL":
        return {"decimal"}
    if kind == "DATE":
        return {"date"}
    if kind in ("STRING", "ENUM", "JSON"):
        return {"nvarchar", "varchar", "nchar", "char"}
    if kind == "UUID":
        return {"uniqueidentifier"}
    if kind in ("NONE", "UNKNOWN", "UNDEFINED"):
        return {
            "BOOLEAN": {"bit"}, "INT32": {"int"}, "INT64": {"bigint"}, "FLOAT": {"real"}, "DOUBLE": {"float"},
            "INT96": {"datetime2"}, "BYTE_ARRAY": {"varbinary"}, "FIXED_LEN_BYTE_ARRAY": {"binary", "varbinary"},
        }.get(physical, set())  # fmt: skip
    return set()


def check_column(column: Any, to: SqlType) -> None:
    """Raises what a pool answers to a column that it cannot put into this type."""
    fits = accepted(column)
    if not fits:
        raise refused(f"UnsupportedOperationException: column {column.name}: {column.logical_type} is not supported")
    if to.name not in fits:
        given = _JAVA.get(column.physical_type, column.physical_type)
        wanted = _WANTED.get(to.name, to.name)
        raise refused(
            f"ClassCastException: class java.lang.{given} cannot be cast to class java.lang.{wanted} "
            f"(column {column.name})"
        )
    if (
        "decimal" in fits
        and column.logical_type.type == "DECIMAL"
        and to.precision is not None
        and to.scale is not None
    ):
        whole = column.precision - column.scale
        if column.scale > to.scale or whole > to.precision - to.scale:
            raise refused(
                f"HadoopExecutionException: Decimal({column.precision},{column.scale}) does not fit "
                f"decimal({to.precision},{to.scale}) (column {column.name})"
            )
