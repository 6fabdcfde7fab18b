"""A query ready to run at any moment of the journal: what `planner` makes and `results` runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from .schema import SObject

#: Replaced by the journal number at which the query looks at the data.
SEQ = "{seq}"


@dataclass(frozen=True)
class Column:
    """One selected value: its place in the answer, its type, and the SQL that reads it."""

    #: Relationship names and field name in the spelling of describe: ("Account", "Name").
    path: tuple[str, ...]
    type: str
    sql: str
    #: Parents along the path, for the attributes of nested records: (object, SQL of its Id).
    parents: tuple[tuple[str, str], ...] = ()
    #: Members of a compound field: (key in the answer, SQL).
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(kw_only=True)
class Plan:
    """A query ready to run at any moment of the journal."""

    entity: SObject
    columns: list[Column]
    joins: list[str]
    where: str
    params: list[object]
    order_by: str = ""
    limit: int | None = None
    offset: int | None = None
    group_by: list[str] = field(default_factory=list)
    having: str = ""
    #: COUNT() alone: the answer is the total, without rows.
    count_only: bool = False
    aggregate: bool = False
    #: The WHERE clause looks only at the row itself, so a slice of row numbers plus it finds the same rows again.
    local: bool = True
    #: Parents take part in finding or ordering the rows, not only in showing them.
    joins_find: bool = True

    def source(self, seq: int, *, finding: bool = False) -> str:
        """FROM and WHERE at one moment; without the joins when rows are only looked for and joins do not matter."""
        joins = "" if finding and not self.joins_find else " ".join(self.joins)
        text = f'FROM "{self.entity.name}" t {joins} WHERE {alive("t")} AND ({self.where})'
        return text.replace(SEQ, str(int(seq)))

    def at(self, text: str, seq: int) -> str:
        return text.replace(SEQ, str(int(seq)))


def alive(alias: str) -> str:
    """The version of a row that was current at the moment looked at."""
    return f"{alias}._from <= {SEQ} AND {alias}._to > {SEQ}"
