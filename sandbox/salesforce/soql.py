"""SOQL text to a small tree. Only grammar lives here; what names mean is decided in `plan`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from .errors import ApiError, malformed

AGGREGATES = ("COUNT", "COUNT_DISTINCT", "MIN", "MAX", "SUM", "AVG")
DATE_FUNCTIONS = ("CALENDAR_YEAR", "CALENDAR_MONTH", "CALENDAR_QUARTER", "DAY_ONLY", "HOUR_IN_DAY", "DAY_IN_MONTH")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<datetime>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d))
    |(?P<date>\d{4}-\d\d-\d\d(?![\dTt:]))
    |(?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w:]))
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<name>[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*)
    |(?P<op><=|>=|!=|<>|=|<|>|\(|\)|,|:)
    |(?P<bad>.)""",
    re.X | re.S,
)
_ESCAPES = {"n": "\n", "N": "\n", "r": "\r", "R": "\r", "t": "\t", "T": "\t", "b": "\b", "B": "\b", "f": "\f",
            "F": "\f", '"': '"', "'": "'", "\\": "\\"}  # fmt: skip
_PLAIN_LITERALS = ("TODAY", "YESTERDAY", "TOMORROW", "THIS_WEEK", "LAST_WEEK", "THIS_MONTH", "LAST_MONTH", "NEXT_MONTH",
                   "THIS_QUARTER", "THIS_YEAR", "LAST_YEAR", "NEXT_YEAR", "LAST_90_DAYS")  # fmt: skip
_COUNTED_LITERALS = ("LAST_N_DAYS", "NEXT_N_DAYS", "LAST_N_MONTHS", "LAST_N_YEARS", "N_DAYS_AGO")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    position: int

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "name" else self.text


@dataclass(frozen=True)
class FieldRef:
    """A dotted name as written."""

    path: str
    position: int = field(compare=False)  #: where it stands is no part of what it is


@dataclass(frozen=True)
class Call:
    """An aggregate, date function or FIELDS(); `argument` is None for COUNT()."""

    name: str
    argument: FieldRef | None
    position: int = field(compare=False)


@dataclass(frozen=True)
class DateLiteral:
    name: str
    count: int = 0


@dataclass(frozen=True)
class Compare:
    left: FieldRef | Call
    operator: str
    value: Any
    position: int


@dataclass(frozen=True)
class Among:
    left: FieldRef | Call
    negated: bool
    values: tuple[Any, ...] | Query
    position: int


@dataclass(frozen=True)
class Not:
    inner: Condition


@dataclass(frozen=True)
class Chain:
    """Conditions joined by one word; SOQL does not let AND and OR mix without brackets."""

    word: str
    parts: tuple[Condition, ...]


Condition = Compare | Among | Not | Chain


@dataclass(frozen=True)
class Selected:
    what: FieldRef | Call
    alias: str | None = None


@dataclass(frozen=True)
class Ordered:
    what: FieldRef | Call
    descending: bool
    nulls_last: bool


@dataclass(frozen=True, kw_only=True)
class Query:
    text: str
    selected: tuple[Selected, ...]
    entity: str
    entity_position: int
    entity_alias: str | None = None
    where: Condition | None = None
    group_by: tuple[FieldRef | Call, ...] = ()
    having: Condition | None = None
    order_by: tuple[Ordered, ...] = ()
    limit: int | None = None
    offset: int | None = None
    #: Constructs read but not answered by this stand-in or by Bulk: TYPEOF, child sub-queries.
    traits: frozenset[str] = field(default_factory=frozenset)


def parse(text: str) -> Query:
    """The query as a tree, or MALFORMED_QUERY with the place of the mistake."""
    return _Parser(text).query(top=True)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        for match in _TOKEN.finditer(text):
            kind: str = match.lastgroup or "bad"
            if kind == "space":
                continue
            if kind == "bad":
                raise malformed(text, match.start(), f"unexpected token: '{match.group()}'")
            self.tokens.append(Token(kind, match.group(), match.start()))
        self.tokens.append(Token("end", "<EOF>", len(text)))
        self.here = 0

    # -- walking over tokens

    @property
    def now(self) -> Token:
        return self.tokens[self.here]

    def step(self) -> Token:
        token = self.now
        self.here += 1
        return token

    def fail(self, token: Token | None = None) -> ApiError:
        token = token or self.now
        shown = token.text if token.kind == "end" else f"'{token.text}'"
        return malformed(self.text, token.position, f"unexpected token: {shown}")

    def accept(self, *words: str) -> bool:
        if [t.word for t in self.tokens[self.here : self.here + len(words)]] == list(words):
            self.here += len(words)
            return True
        return False

    def expect(self, word: str) -> Token:
        if self.now.word != word:
            raise self.fail()
        return self.step()

    def name(self) -> Token:
        if self.now.kind != "name":
            raise self.fail()
        return self.step()

    # -- clauses

    def query(self, *, top: bool = False) -> Query:
        self.expect("SELECT")
        traits: set[str] = set()
        selected = [self.selected(traits)]
        while self.accept(","):
            selected.append(self.selected(traits))
        self.expect("FROM")
        entity = self.name()
        alias = None
        if self.now.kind == "name" and self.now.word not in (
            "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FOR", "ALL", "WITH", "USING",
        ):  # fmt: skip
            alias = self.step().text
        where = self.condition() if self.accept("WHERE") else None
        group_by: list[FieldRef | Call] = []
        having = None
        if self.accept("GROUP", "BY"):
            group_by.append(self.operand())
            while self.accept(","):
                group_by.append(self.operand())
            if self.accept("HAVING"):
                having = self.condition()
        order_by = []
        if self.accept("ORDER", "BY"):
            order_by.append(self.ordered())
            while self.accept(","):
                order_by.append(self.ordered())
        limit = self.count() if self.accept("LIMIT") else None
        offset = self.count() if self.accept("OFFSET") else None
        if self.now.kind != "end" if top else self.now.text != ")":
            raise self.fail()
        return Query(
            text=self.text,
            selected=tuple(selected),
            entity=entity.text,
            entity_position=entity.position,
            entity_alias=alias,
            where=where,
            group_by=tuple(group_by),
            having=having,
            order_by=tuple(order_by),
            limit=limit,
            offset=offset,
            traits=frozenset(traits),
        )

    def count(self) -> int:
        token = self.step()
        if token.kind != "number" or not token.text.isdigit():
            raise self.fail(token)
        return int(token.text)

    def selected(self, traits: set[str]) -> Selected:
        if self.now.text == "(":
            start = self.step()
            traits.add("subquery")
            self.query()
            self.expect(")")
            return Selected(FieldRef("(subquery)", start.position))
        if self.now.word == "TYPEOF":
            start = self.step()
            traits.add("typeof")
            while self.now.word != "END":
                if self.now.kind == "end":
                    raise self.fail()
                self.step()
            self.step()
            return Selected(FieldRef("(typeof)", start.position))
        what = self.operand()
        alias = None
        if self.now.kind == "name" and self.now.word not in ("FROM",):
            alias = self.step().text
        return Selected(what, alias)

    def operand(self) -> FieldRef | Call:
        token = self.name()
        if self.now.text != "(":
            return FieldRef(token.text, token.position)
        word = token.word
        if word not in AGGREGATES + DATE_FUNCTIONS + ("FIELDS",):
            raise self.fail(self.now)
        self.step()
        argument = None
        if self.now.text != ")":
            inner = self.name()
            argument = FieldRef(inner.text, inner.position)
        elif word != "COUNT":
            raise self.fail()
        self.expect(")")
        return Call(word, argument, token.position)

    def ordered(self) -> Ordered:
        what = self.operand()
        descending = self.accept("DESC")
        if not descending:
            self.accept("ASC")
        nulls_last = False
        if self.accept("NULLS"):
            nulls_last = self.now.word == "LAST"
            if self.now.word not in ("FIRST", "LAST"):
                raise self.fail()
            self.step()
        return Ordered(what, descending, nulls_last)

    # -- conditions

    def condition(self) -> Condition:
        parts = [self.simple()]
        word = ""
        while self.now.word in ("AND", "OR"):
            if word and self.now.word != word:
                raise self.fail()
            word = self.step().word
            parts.append(self.simple())
        return parts[0] if len(parts) == 1 else Chain(word, tuple(parts))

    def simple(self) -> Condition:
        if self.accept("NOT"):
            return Not(self.simple())
        if self.accept("("):
            inner = self.condition()
            self.expect(")")
            return inner
        start = self.now
        left = self.operand()
        if self.accept("NOT", "IN"):
            return Among(left, True, self.members(), start.position)
        if self.accept("IN"):
            return Among(left, False, self.members(), start.position)
        if self.now.word in ("INCLUDES", "EXCLUDES"):
            return Compare(left, self.step().word, self.members(), start.position)
        operator = self.step()
        if operator.word not in ("=", "!=", "<>", "<", "<=", ">", ">=", "LIKE"):
            raise self.fail(operator)
        value_at = self.now.position
        return Compare(left, operator.word.replace("<>", "!="), self.value(operator.word == "LIKE"), value_at)

    def members(self) -> tuple[Any, ...] | Query:
        self.expect("(")
        if self.now.word == "SELECT":
            inner = self.query()
            self.expect(")")
            return inner
        values = [self.value()]
        while self.accept(","):
            values.append(self.value())
        self.expect(")")
        return tuple(values)

    def value(self, pattern: bool = False) -> Any:
        token = self.step()
        if token.kind == "string":
            return _unescape(token.text[1:-1], pattern)
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "datetime":
            return self.moment(token)
        if token.kind == "date":
            try:
                return date.fromisoformat(token.text)
            except ValueError:
                raise self.fail(token) from None
        word = token.word
        if token.kind == "name":
            if word in ("TRUE", "FALSE"):
                return word == "TRUE"
            if word == "NULL":
                return None
            if word in _PLAIN_LITERALS:
                return DateLiteral(word)
            if word in _COUNTED_LITERALS:
                self.expect(":")
                return DateLiteral(word, self.count())
        raise self.fail(token)

    def moment(self, token: Token) -> datetime:
        text = token.text.upper().replace("Z", "+00:00")
        text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text)
        text = re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m.group(1).ljust(6, "0"), text)
        try:
            return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
        except ValueError:
            raise self.fail(token) from None


def _unescape(text: str, pattern: bool) -> str:
    r"""The text a SOQL literal stands for; in LIKE, ``\_`` and ``\%`` stay escaped for the database."""
    out = []
    position = 0
    while position < len(text):
        char = text[position]
        if char != "\\":
            out.append(char)
            position += 1
            continue
        following = text[position + 1]
        digits = text[position + 2 : position + 6]
        if following in "uU" and re.fullmatch(r"[0-9A-Fa-f]{4}", digits):
            out.append(chr(int(digits, 16)))
            position += 6
            continue
        if following in "_%":
            out.append("\\" + following if pattern else following)
        elif following in _ESCAPES:
            out.append("\\\\" if pattern and following == "\\" else _ESCAPES[following])
        else:
            raise ApiError(400, "MALFORMED_QUERY", f"Invalid string literal '{text}'. Illegal character sequence "
                           f"'\\{following}' in string literal.")  # fmt: skip
        position += 2
    return "".join(out)
