"""T-SQL queries in DuckDB's words. Whatever is not known by name here is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from .catalog import Table
from .errors import SqlError, not_offered, parse_error
from .infer import Inference
from .sqltypes import SYSTEM, SqlType, check_collation, from_ast, is_binary

NOW = "CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP)"

#: Expressions whose meaning is the same on both sides.
_PLAIN: tuple[type[exp.Expr], ...] = (
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Subquery, exp.Union,
    exp.Except, exp.Intersect, exp.With, exp.CTE, exp.TableAlias, exp.Table, exp.Column, exp.Identifier, exp.Star,
    exp.Alias, exp.Literal, exp.National, exp.Null, exp.Boolean, exp.Paren, exp.Tuple, exp.And, exp.Or, exp.Not,
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.Like, exp.Escape, exp.Exists,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor,
    exp.BitwiseNot, exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Cast, exp.TryCast, exp.Convert, exp.DataType,
    exp.DataTypeParam, exp.Parameter, exp.Var, exp.Window, exp.WindowSpec, exp.RowNumber, exp.Rank, exp.DenseRank,
    exp.Lag, exp.Lead, exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.Distinct, exp.Abs, exp.Upper, exp.Lower,
    exp.Trim, exp.Substring, exp.Left, exp.Right, exp.Replace, exp.Concat, exp.ConcatWs, exp.Length, exp.Year,
    exp.Month, exp.Day, exp.DateAdd, exp.DateDiff, exp.SHA2, exp.HexString, exp.Collate, exp.CurrentTimestamp,
    exp.CurrentSchema, exp.Limit, exp.Insert, exp.Update, exp.Delete, exp.Values, exp.Schema, exp.Anonymous,
    exp.Floor, exp.Ceil, exp.Round, exp.ApproxDistinct, exp.Hint, exp.WithTableHint, exp.TimeToStr, exp.Stddev,
    exp.StrPosition, exp.Interval, exp.UtcTimestamp, exp.CurrentTimestampLTZ, exp.LastDay, exp.DateFromParts,
    exp.GroupConcat, exp.Ascii, exp.Chr, exp.Sign, exp.Pow, exp.Sqrt, exp.FirstValue, exp.LastValue, exp.PropertyEQ,
    exp.TsOrDsToDate,
)  # fmt: skip
#: Functions by name that sqlglot does not know: DuckDB text with {0}, {1} for the arguments.
_ANONYMOUS = {
    "NCHAR": "chr(CAST({0} AS INTEGER))",
    "SYSUTCDATETIME": NOW,
    "SYSDATETIME": NOW,
    "GETUTCDATE": NOW,
    "DATALENGTH": "octet_length(encode(CAST({0} AS VARCHAR)))",
    "ISNUMERIC": "CAST(TRY_CAST({0} AS DOUBLE) IS NOT NULL AS INTEGER)",
    "XACT_STATE": "{xact_state}",
    "SESSION_ID": "{session_id}",
    "SUSER_SNAME": "{user}",
    "SUSER_NAME": "{user}",
    "USER_NAME": "{user}",
    "DB_NAME": "{database}",
    "OBJECT_ID": "{object_id}",
    "SCHEMA_ID": "{schema_id}",
    "SERVERPROPERTY": "{server_property}",
    "HAS_PERMS_BY_NAME": "{has_perms}",
    "DATABASEPROPERTYEX": "{database_property}",
    "IS_ROLEMEMBER": "{is_rolemember}",
    "IS_MEMBER": "{is_rolemember}",
}
_PARTS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND"}


class Translator:
    """Translates one statement. ``source`` answers what stands for a table; ``fact`` what a session function gives."""

    def __init__(
        self,
        find: Callable[[exp.Table], Table | None],
        source: Callable[[exp.Table], exp.Expr | None],
        fact: Callable[[str, list[str]], str],
        parameters: Mapping[str, SqlType | None],
    ) -> None:
        self.inference = Inference(find, parameters)
        self.source = source
        self.fact = fact
        self.parameters = parameters
        self.used: set[str] = set()

    def check(self, tree: exp.Expr) -> None:
        """Refuse every form that the pool or the stand-in does not have."""
        for node in tree.walk():
            if isinstance(node, exp.Offset | exp.Fetch):
                raise parse_error("OFFSET")
            if isinstance(node, exp.Returning):
                raise parse_error("OUTPUT")
            if node.args.get("for_"):
                raise parse_error("FOR")
            if isinstance(node, exp.Values) and len(node.expressions) > 1:
                raise parse_error(",")
            if isinstance(node, exp.Anonymous) and node.name.upper() not in _ANONYMOUS:
                raise SqlError(195, f"'{node.name}' is not a recognized built-in function name.", 15, 10)
            if isinstance(node, exp.Delete) and any(t.name.upper() == "TOP" for t in node.args.get("tables") or ()):
                raise parse_error("TOP")
            if isinstance(node, exp.Into) or node.args.get("into"):
                raise not_offered("SELECT ... INTO")
            if not isinstance(node, _PLAIN):
                raise not_offered(f"{type(node).__name__} in a query")
            for join in [node] if isinstance(node, exp.Join) else []:
                if join.args.get("using") or join.method:
                    raise parse_error("USING")
        self._check_names(tree)

    @staticmethod
    def _check_names(tree: exp.Expr) -> None:
        for with_ in tree.find_all(exp.With):
            if with_.recursive or any(c.this.find(exp.With) for c in with_.expressions):
                raise not_offered("nested or recursive common table expressions")

    def text(self, tree: exp.Expr) -> str:
        """The statement for DuckDB."""
        self.check(tree)
        return self.change(tree).sql(dialect="duckdb", identify=True)

    def change(self, tree: exp.Expr) -> exp.Expr:
        # Leaves first: inference of a parent looks at the original children only through their kept types.
        kinds = {
            id(n): self.inference.of(n)
            for n in tree.walk()
            if isinstance(
                n,
                exp.Cast
                | exp.Convert
                | exp.Add
                | exp.Literal
                | exp.Column
                | exp.National
                | exp.Coalesce
                | exp.Case
                | exp.Parameter
                | exp.Window
                | exp.Max
                | exp.Min
                | exp.SHA2
                | exp.Substring
                | exp.Concat
                | exp.ConcatWs
                | exp.Paren
                | exp.If
                | exp.Upper
                | exp.Lower
                | exp.Replace
                | exp.Left
                | exp.Right
                | exp.Trim
                | exp.Collate,
            )
        }
        nodes = list(tree.walk())
        root = tree
        for node in reversed(nodes):
            new = self._node(node, kinds)
            if new is node:
                continue
            if node is root:
                root = new
            else:
                kinds[id(new)] = kinds.get(id(node))
                node.replace(new)
        return root

    def _node(self, node: exp.Expr, kinds: dict[int, SqlType | None]) -> exp.Expr:
        if isinstance(node, exp.Table):
            node.set("hints", None)
            return self.source(node) or node
        if isinstance(node, exp.National):
            return exp.Literal.string(node.this)
        if isinstance(node, exp.HexString):
            return raw(f"unhex('{node.this}')")
        if isinstance(node, exp.Parameter):
            return self._parameter(node)
        if isinstance(node, exp.Cast):
            return cast(
                node.this, from_ast(node.to), kinds.get(id(node.this)), None, safe=isinstance(node, exp.TryCast)
            )
        if isinstance(node, exp.Convert):
            style = node.args.get("style")
            return cast(
                node.expression,
                from_ast(node.this),
                kinds.get(id(node.expression)),
                int(style.name) if style is not None else None,
                safe=bool(node.args.get("safe")),
            )
        if isinstance(node, exp.Add) and any(
            (k := kinds.get(id(n))) and k.is_text for n in (node.this, node.expression)
        ):
            return exp.DPipe(this=node.this, expression=node.expression)
        if isinstance(node, exp.Div):
            whole = ("int", "bigint", "smallint", "tinyint")
            sides = [kinds.get(id(n)) for n in (node.this, node.expression)]
            if all(k is not None and k.name in whole for k in sides):
                return raw(f"({_sql(node.this)} // {_sql(node.expression)})")
        if isinstance(node, exp.Collate):
            name, binary = check_collation(node.expression.name), '"binary"'
            return raw(f"({_sql(node.this)} COLLATE {binary if is_binary(name) else 'NOCASE'})")
        if isinstance(node, exp.Length):
            inner = node.this.this if isinstance(node.this, exp.Cast) else node.this
            return raw(f"pool_len({_sql(inner)})")
        if isinstance(node, exp.SHA2):
            kind = kinds.get(id(node.this))
            if kind is not None and kind.name.startswith("n"):
                return raw(f"unhex(sha256(pool_utf16({_sql(node.this)})))")
            return raw(f"unhex(sha256({_sql(node.this)}))")
        if isinstance(node, exp.CurrentTimestamp | exp.UtcTimestamp | exp.CurrentTimestampLTZ):
            return raw(NOW)
        if isinstance(node, exp.CurrentSchema):
            return raw("'dbo'")
        if isinstance(node, exp.DateAdd):
            unit = _unit(node)
            return raw(f"({_sql(node.this)} + to_{unit.lower()}s(CAST({_sql(node.expression)} AS BIGINT)))")
        if isinstance(node, exp.DateDiff):
            return raw(f"CAST(date_diff('{_unit(node)}', {_sql(node.expression)}, {_sql(node.this)}) AS INTEGER)")
        if isinstance(node, exp.Anonymous):
            if node.name.upper() == "DATALENGTH":
                return _datalength(_sql(node.expressions[0]), kinds.get(id(node.expressions[0])))
            return self._anonymous(node)
        if isinstance(node, exp.EQ | exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
            _same_collation(node, kinds)
        return node

    def _parameter(self, node: exp.Parameter) -> exp.Expr:
        if isinstance(node.parent, exp.Parameter):
            return node  # the inner half of @@NAME, which comes first
        if isinstance(node.this, exp.Parameter):
            return raw(self.fact("@@" + node.this.this.name.upper(), []))
        name = node.this.name.lower()
        if name not in self.parameters:
            raise SqlError(137, f'Must declare the scalar variable "@{node.this.name}".', 15, 2)
        self.used.add(name)
        kind = self.parameters[name]
        return raw("$" + name if kind is None else f"CAST(${name} AS {kind.duckdb(collated=False)})")

    def _anonymous(self, node: exp.Anonymous) -> exp.Expr:
        arguments = [_sql(a) for a in node.expressions]
        form = _ANONYMOUS[node.name.upper()]
        if form.startswith("{") and not form.startswith("{0"):
            return raw(self.fact(form[1:-1], arguments))
        return raw(form.format(*arguments))


def raw(text: str) -> exp.Expr:
    """DuckDB text as a node."""
    return exp.Var(this=text)


def _sql(node: exp.Expr) -> str:
    return node.sql(dialect="duckdb", identify=True)


def _datalength(text: str, kind: SqlType | None) -> exp.Expr:
    """Bytes as the pool stores them: two for each UTF-16 unit of n-types."""
    if kind is None or kind.is_text:
        plain = f"CASE WHEN strlen({text}) = length({text}) THEN length({text}) ELSE pool_units({text}) END"
        return raw(f"({plain}) * {1 if kind is not None and kind.name[0] != 'n' else 2}")
    if kind.name in ("varbinary", "binary"):
        return raw(f"octet_length({text})")
    return raw(f"CASE WHEN {text} IS NOT NULL THEN {SYSTEM[kind.name][1]} END")


def _same_collation(node: exp.Expr, kinds: dict[int, SqlType | None]) -> None:
    """Two columns of different collations do not compare without COLLATE."""
    left, right = kinds.get(id(node.this)), kinds.get(id(node.expression))
    columns = isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column)
    if columns and left and right and left.is_text and right.is_text:
        names = [k.collation or "SQL_Latin1_General_CP1_CI_AS" for k in (left, right)]
        if names[0].lower() != names[1].lower():
            raise SqlError(
                468,
                f'Cannot resolve the collation conflict between "{names[1]}" and "{names[0]}" in the equal to '
                "operation.",
                16,
                9,
            )


def _unit(node: exp.Expr) -> str:
    unit = node.args.get("unit")
    name = (unit.name if unit is not None else "DAY").upper()
    if name not in _PARTS:
        raise SqlError(155, f"'{name}' is not a recognized datepart option.", 15, 1)
    return name


def cast(node: exp.Expr, to: SqlType, given: SqlType | None, style: int | None, *, safe: bool = False) -> exp.Expr:
    """CAST or CONVERT by T-SQL's rules where they differ from DuckDB's."""
    text = _sql(node)
    word = "TRY_CAST" if safe else "CAST"
    if to.is_text:
        made = _as_text(text, given, style)
        if to.length and not to.is_max:
            made = f"left({made}, {to.length})"
        return raw(f'({made} COLLATE "binary")' if is_binary(to.collation) else made)
    if to.name in ("varbinary", "binary"):
        if given is not None and given.is_text:
            return raw(f"{'pool_utf16' if given.name[0] == 'n' else 'encode'}({text})")
        return raw(f"{word}({text} AS BLOB)")
    if (
        to.name in ("int", "bigint", "smallint", "tinyint")
        and given is not None
        and (given.name in ("float", "real", "decimal"))
    ):
        return raw(f"{word}(trunc({text}) AS {to.duckdb()})")
    if to.name in ("bigint", "int") and given is not None and given.name in ("varbinary", "binary"):
        size = 16 if to.name == "bigint" else 8
        return raw(f"pool_{to.name}_of(lpad(right(hex({text}), {size}), {size}, '0'))")
    return raw(f"{word}({text} AS {to.duckdb()})")


def _as_text(text: str, given: SqlType | None, style: int | None) -> str:
    if given is None:
        return f"CAST({text} AS VARCHAR)"
    if given.is_text:
        return text
    if given.name == "bit":
        return f"CAST(CAST({text} AS INTEGER) AS VARCHAR)"
    if given.name == "datetime2":
        if style not in (None, 0, 121, 126, 127):
            raise not_offered(f"CONVERT of datetime2 with style {style}")
        form = "%Y-%m-%dT%H:%M:%S" if style in (126, 127) else "%Y-%m-%d %H:%M:%S"
        scale = 7 if given.scale is None else given.scale
        digits = f"|| '.' || left(strftime({text}, '%f') || '0', {scale})" if scale else ""
        return f"(strftime({text}, '{form}') {digits})"
    if given.name == "date" and style not in (None, 23, 120, 121, 126):
        raise not_offered(f"CONVERT of date with style {style}")
    if given.name in ("float", "real") and style is None:
        return f"pool_float_text({text})"
    if given.name in ("varbinary", "binary"):
        if style == 2:
            return f"hex({text})"
        raise not_offered("a text of varbinary without style 2")
    return f"CAST({text} AS VARCHAR)"


MACROS = (
    "CREATE OR REPLACE TEMP MACRO pool_len(v) AS length(rtrim(v, ' '))",
    "CREATE OR REPLACE TEMP MACRO pool_units(v) AS length(v) + length(regexp_replace(v, '[^\\x{10000}-\\x{10FFFF}]', "
    "'', 'g'))",
    "CREATE OR REPLACE TEMP MACRO pool_fit(v, n) AS CASE WHEN v IS NULL OR strlen(v) <= n OR pool_units(v) <= n "
    "THEN v ELSE error('2628') END",
    "CREATE OR REPLACE TEMP MACRO pool_bigint_of(h) AS CAST(CASE WHEN h >= '8' THEN "
    "CAST(('0x' || h)::UBIGINT AS HUGEINT) - 18446744073709551616 ELSE ('0x' || h)::UBIGINT END AS BIGINT)",
    "CREATE OR REPLACE TEMP MACRO pool_int_of(h) AS CAST(CASE WHEN h >= '8' THEN "
    "CAST(('0x' || h)::UINTEGER AS BIGINT) - 4294967296 ELSE ('0x' || h)::UINTEGER END AS INTEGER)",
    "CREATE OR REPLACE TEMP MACRO pool_float_text(v) AS format('{:g}', v)",
)
