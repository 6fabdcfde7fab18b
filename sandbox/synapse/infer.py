"""Types of expressions, as far as translation, CREATE TABLE AS and the pool's own rules need them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlglot import exp

from .catalog import Table
from .errors import SqlError
from .sqltypes import SqlType, from_ast

Columns = dict[str, SqlType]
_TEXT = (exp.Concat, exp.ConcatWs, exp.Substring, exp.Upper, exp.Lower, exp.Trim, exp.Left, exp.Right, exp.Replace)
_INTS = (exp.Length, exp.Year, exp.Month, exp.Day, exp.DateDiff, exp.Ascii, exp.StrPosition)


class Inference:
    """Types within one statement. ``find`` answers the catalogue's table of a reference, None for derived ones."""

    def __init__(self, find: Callable[[exp.Table], Table | None], parameters: Mapping[str, SqlType | None]) -> None:
        self.find = find
        self.parameters = parameters
        #: By identity: the tree outlives the inference, and is changed only when that is done.
        self._known: dict[int, SqlType | None] = {}
        self._columns: dict[int, Columns] = {}

    def sources(self, node: exp.Expr) -> list[tuple[str, Columns]]:
        """Name and columns of everything that a SELECT, UPDATE or DELETE reads from."""
        found: list[exp.Expr] = []
        start = node.args.get("from_") or node.args.get("from")
        if start is not None:
            found.append(start.this)
        if isinstance(node, exp.Update | exp.Delete):
            found.append(node.this)
        found += [j.this for j in node.args.get("joins") or ()]
        for part in list(found):
            found += [j.this for j in part.args.get("joins") or ()]
        return [(p.alias_or_name.lower(), self.columns(p)) for p in found]

    def columns(self, source: exp.Expr) -> Columns:
        """Columns of one table, common table expression or derived table."""
        if id(source) not in self._columns:
            self._columns[id(source)] = {}  # what a column inside of it sees when it asks the SELECT around it
            self._columns[id(source)] = self._read(source)
        return self._columns[id(source)]

    def _read(self, source: exp.Expr) -> Columns:
        if isinstance(source, exp.Table):
            with_ = None
            if not source.db:
                for ancestor in _ancestors(source):
                    held = ancestor.args.get("with_") or ancestor.args.get("with")
                    with_ = (
                        next((c for c in held.expressions if c.alias.lower() == source.name.lower()), with_)
                        if held
                        else with_
                    )
            if with_ is not None:
                return self._renamed(self.projection(with_.this), with_)
            table = self.find(source)
            return {c.name.lower(): c.type for c in table.columns} if table else {}
        if isinstance(source, exp.Subquery):
            return self._renamed(self.projection(source.this), source)
        if isinstance(source, exp.Values) and source.expressions:
            first = {str(i): self.of(e) or SqlType("unknown") for i, e in enumerate(source.expressions[0].expressions)}
            return self._renamed(first, source)
        return {}

    @staticmethod
    def _renamed(columns: Columns, source: exp.Expr) -> Columns:
        alias = source.args.get("alias")
        names = [c.name.lower() for c in alias.args.get("columns") or ()] if alias is not None else []
        return dict(zip(names, columns.values(), strict=False)) if names else columns

    def projection(self, query: exp.Expr) -> dict[str, SqlType]:
        """Names (in small letters) and types of a query's columns; ``unknown`` where only the engine knows."""
        while isinstance(query, exp.Subquery):
            query = query.this
        if isinstance(query, exp.SetOperation):
            left, right = self.projection(query.left), self.projection(query.right)
            return {
                name: _wider(kind, other) or kind
                for (name, kind), other in zip(left.items(), right.values(), strict=False)
            }
        made: Columns = {}
        for index, item in enumerate(query.expressions):
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                wanted = item.table.lower() if isinstance(item, exp.Column) else ""
                for name, columns in self.sources(query):
                    if wanted in ("", name):
                        made |= columns
                continue
            name = item.alias_or_name.lower() if isinstance(item, exp.Alias | exp.Column) else ""
            if not name or name in made:
                name = f"{name}#{index}"
            kind = self.of(item.this if isinstance(item, exp.Alias) else item)
            made[name] = kind or SqlType("unknown")
        return made

    def of(self, node: exp.Expr | None) -> SqlType | None:
        """The type of an expression; None where only the engine knows."""
        if node is None:
            return None
        if id(node) not in self._known:
            self._known[id(node)] = self._type(node)
        return self._known[id(node)]

    def _type(self, node: exp.Expr) -> SqlType | None:
        if isinstance(node, exp.Paren | exp.Alias):
            return self.of(node.this)
        if isinstance(node, exp.Collate):
            kind = self.of(node.this) or SqlType("nvarchar", 4000)
            return replace(kind, collation=node.expression.name)
        if isinstance(node, exp.Cast):
            return self._keeping(_safely(node.to), [node.this])
        if isinstance(node, exp.Convert):
            return self._keeping(_safely(node.this), [node.expression])
        if isinstance(node, exp.Literal | exp.National):
            if isinstance(node, exp.National) or node.is_string:
                size = len(str(node.this).encode("utf-16-le")) // 2
                return SqlType("nvarchar" if isinstance(node, exp.National) else "varchar", max(size, 1))
            return SqlType("int") if str(node.this).isdigit() and int(node.this) < 2**31 else None
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Parameter):
            return self.parameters.get(node.this.name.lower())
        if isinstance(node, exp.Coalesce):
            return self._widest([node.this, *node.expressions])
        if isinstance(node, exp.Case):
            return self._widest([*(i.args["true"] for i in node.args["ifs"]), node.args.get("default")])
        if isinstance(node, exp.If):
            return self._widest([node.args.get("true"), node.args.get("false")])
        if isinstance(node, exp.Max | exp.Min | exp.Window | exp.Nullif | exp.Abs | exp.Neg | exp.Lag | exp.Lead):
            return self.of(node.this)
        if isinstance(node, exp.Add):
            return self._widest([node.this, node.expression])
        if isinstance(node, exp.SHA2):
            return SqlType("varbinary", 8000)
        if isinstance(node, exp.Subquery):
            return next(iter(self.projection(node.this).values()), None)
        if isinstance(node, exp.Substring) and (held := self.of(node.this)) and not held.is_text:
            return held
        if isinstance(node, _TEXT):
            parts = [self.of(c) for c in (node.this, *node.expressions) if isinstance(c, exp.Expr)]
            made = SqlType("nvarchar", -1 if any(p and p.is_max for p in parts) else 4000)
            return self._keeping(made, [c for c in (node.this, *node.expressions) if isinstance(c, exp.Expr)])
        if isinstance(node, _INTS):
            return SqlType("int")
        return None

    def _keeping(self, made: SqlType | None, of: list[exp.Expr]) -> SqlType | None:
        """A text that is made of texts has their collation."""
        if made is None or not made.is_text:
            return made
        kinds = [self.of(n) for n in of]
        return replace(made, collation=next((k.collation for k in kinds if k and k.is_text and k.collation), None))

    def is_text(self, node: exp.Expr) -> bool:
        kind = self.of(node)
        return kind is not None and kind.is_text

    def _widest(self, nodes: list[exp.Expr | None]) -> SqlType | None:
        kinds = [k for k in (self.of(n) for n in nodes) if k is not None]
        widest = kinds[0] if kinds else None
        for kind in kinds[1:]:
            widest = _wider(widest, kind)
        return widest

    def _column(self, node: exp.Column) -> SqlType | None:
        wanted, prefix = node.name.lower(), node.table.lower()
        for ancestor in _ancestors(node):
            if not isinstance(ancestor, exp.Select | exp.Update | exp.Delete):
                continue
            for name, columns in self.sources(ancestor):
                if prefix in ("", name) and wanted in columns:
                    kind = columns[wanted]
                    return None if kind.name == "unknown" else kind
        return None


def _ancestors(node: exp.Expr) -> list[exp.Expr]:
    found = []
    parent = node.parent
    while parent is not None:
        found.append(parent)
        parent = parent.parent
    return found


def _safely(kind: exp.DataType) -> SqlType | None:
    try:
        return from_ast(kind)
    except SqlError:
        return None


_RANK = ("bit", "tinyint", "smallint", "int", "bigint", "decimal", "real", "float", "date", "datetime2")


def _wider(left: SqlType | None, right: SqlType | None) -> SqlType | None:
    """The type that holds both: longer text, higher rank of numbers."""
    if left is None or right is None or left == right:
        return left or right
    if left.is_text and right.is_text:
        length = -1 if left.is_max or right.is_max else max(left.length or 0, right.length or 0)
        name = "nvarchar" if "n" in (left.name[0], right.name[0]) else "varchar"
        return SqlType(name, length, collation=left.collation or right.collation)
    if left.is_text or right.is_text:
        return right if left.is_text else left
    if left.name in _RANK and right.name in _RANK and left.name != right.name:
        return left if _RANK.index(left.name) > _RANK.index(right.name) else right
    if left.name == right.name == "decimal":
        sides = [(k.precision or 18, k.scale or 0) for k in (left, right)]
        scale = max(s for _, s in sides)
        whole = max(p - s for p, s in sides)
        return SqlType("decimal", precision=min(whole + scale, 38), scale=scale)
    return left
