"""The pool's column types: their names and limits, and what DuckDB keeps them in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from .errors import SqlError

#: Collations that compare by code point; every other one that is offered ignores case, as the pool's default does.
_BINARY = ("BIN", "BIN2", "BIN2_UTF8")
_PLAIN = {
    "bit": "BOOLEAN",
    "tinyint": "UTINYINT",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "float": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "datetime": "TIMESTAMP",
    "smalldatetime": "TIMESTAMP",
    "datetime2": "TIMESTAMP",
    "uniqueidentifier": "UUID",
}
_SYNONYMS = {"integer": "int", "numeric": "decimal", "dec": "decimal", "double precision": "float", "character": "char"}
#: system_type_id and bytes of each type, for sys.columns.
SYSTEM = {
    "bit": (104, 1),
    "tinyint": (48, 1),
    "smallint": (52, 2),
    "int": (56, 4),
    "bigint": (127, 8),
    "real": (59, 4),
    "float": (62, 8),
    "date": (40, 3),
    "time": (41, 5),
    "datetime": (61, 8),
    "smalldatetime": (58, 4),
    "datetime2": (42, 8),
    "uniqueidentifier": (36, 16),
    "decimal": (106, 17),
    "nvarchar": (231, 0),
    "varchar": (167, 0),
    "nchar": (239, 0),
    "char": (175, 0),
    "varbinary": (165, 0),
    "binary": (173, 0),
}


@dataclass(frozen=True)
class SqlType:
    """One type as the pool writes it. ``length`` is -1 for (max), in characters for n-types, else in bytes."""

    name: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    collation: str | None = None

    @property
    def is_text(self) -> bool:
        return self.name in ("nvarchar", "varchar", "nchar", "char")

    @property
    def is_max(self) -> bool:
        return self.length == -1

    def duckdb(self, *, collated: bool = True) -> str:
        """DuckDB's type; text columns carry the collation's rule."""
        if self.name == "decimal":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.is_text:
            return "VARCHAR" if not collated or is_binary(self.collation) else "VARCHAR COLLATE NOCASE"
        if self.name in ("varbinary", "binary"):
            return "BLOB"
        return _PLAIN[self.name]

    def text(self) -> str:
        """As in a declaration: ``nvarchar(80)``."""
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.length is not None:
            return f"{self.name}({'max' if self.is_max else self.length})"
        return f"{self.name}({self.scale})" if self.name in ("datetime2", "time") else self.name

    def fixed_bytes(self) -> int:
        """What the type adds to the smallest size of a row."""
        if self.length is not None:
            return 0 if "var" in self.name else self.length * (2 if self.name == "nchar" else 1)
        if self.name == "decimal":
            return 5 if self.precision < 10 else 9 if self.precision < 20 else 13 if self.precision < 29 else 17  # type: ignore[operator]  # a decimal has a precision
        return SYSTEM[self.name][1]


def is_binary(collation: str | None) -> bool:
    return collation is not None and collation.upper().endswith(_BINARY)


def check_collation(name: str) -> str:
    """Only what the pool has; unknown names are refused as it refuses them."""
    if not name.lower().startswith(("latin1_general", "sql_latin1_general")):
        raise SqlError(448, f"Invalid collation '{name}'.")
    return name


def make_type(name: str, arguments: list[str], column: str = "") -> SqlType:
    """The type of a declaration, within the pool's limits."""
    name = _SYNONYMS.get(name.lower(), name.lower())
    if name == "decimal":
        precision = int(arguments[0]) if arguments else 18
        scale = int(arguments[1]) if len(arguments) > 1 else 0
        if not 1 <= precision <= 38:
            raise SqlError(
                2750,
                f"Column, parameter, or variable #1: Specified column precision {precision} is greater "
                "than the maximum precision of 38.",
            )
        if scale > precision:
            raise SqlError(
                2751,
                f"Column or parameter #1: Specified column scale {scale} is greater than the specified "
                f"precision of {precision}.",
            )
        return SqlType(name, precision=precision, scale=scale)
    if name in ("nvarchar", "varchar", "nchar", "char", "varbinary", "binary"):
        given = arguments[0].lower() if arguments else "1"
        if given == "max" and name in ("nvarchar", "varchar", "varbinary"):
            return SqlType(name, -1)
        limit = 4000 if name[0] == "n" else 8000
        if not given.isdigit() or not 1 <= int(given) <= limit:
            raise SqlError(
                131,
                f"The size ({given}) given to the column '{column}' exceeds the maximum allowed for any "
                f"data type ({limit}).",
            )
        return SqlType(name, int(given))
    if name in ("datetime2", "time"):
        scale = int(arguments[0]) if arguments else 7
        if not 0 <= scale <= 7:
            raise SqlError(1002, f"Line 1: Specified scale {scale} is invalid.")
        return SqlType(name, scale=scale)
    if name in _PLAIN:
        return SqlType(name)
    raise SqlError(104220, f"Cannot find data type '{name}'.")


def from_ast(kind: exp.DataType) -> SqlType:
    """The type of a CAST or CONVERT."""
    name = kind.this.value if isinstance(kind.this, exp.DType) else str(kind.this)
    name = {
        "TEXT": "text",
        "BOOLEAN": "bit",
        "DOUBLE": "float",
        "FLOAT": "float",  # sqlglot reads real as FLOAT too
        "TIMESTAMP": "datetime2",
        "UTINYINT": "tinyint",
        "UUID": "uniqueidentifier",
        "ROWVERSION": "rowversion",
    }.get(name, name.lower())
    arguments = [str(p.this.name if hasattr(p.this, "name") else p.this) for p in kind.expressions]
    if name in ("nvarchar", "varchar", "nchar", "char", "varbinary", "binary") and not arguments:
        arguments = ["30"]  # CAST's default length
    if name == "float" and arguments:
        name, arguments = ("float" if int(arguments[0]) > 24 else "real"), []
    return make_type(name, arguments)


def from_duckdb(kind: str) -> SqlType:
    """The pool's type of an expression that DuckDB typed; text gets the longest that is not (max)."""
    kind = kind.upper().strip('"')
    if kind.startswith("DECIMAL("):
        precision, scale = kind[8:-1].split(",")
        return SqlType("decimal", precision=int(precision), scale=int(scale))
    known = {
        "VARCHAR": SqlType("nvarchar", 4000),
        "BLOB": SqlType("varbinary", 8000),
        "HUGEINT": SqlType("bigint"),
        "NULL": SqlType("int"),
        "UBIGINT": SqlType("bigint"),
        "TINYINT": SqlType("smallint"),
        "TIMESTAMP": SqlType("datetime2", scale=7),
        "TIME": SqlType("time", scale=7),
    }
    if kind in known:
        return known[kind]
    for name, held in _PLAIN.items():
        if held == kind:
            return SqlType(name)
    raise SqlError(104220, f"Cannot find data type '{kind}'.")


def with_collation(kind: SqlType, collation: str | None) -> SqlType:
    return replace(kind, collation=check_collation(collation)) if collation else kind
