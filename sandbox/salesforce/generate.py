"""Seed data for the default org, written as SQL so that a million rows take seconds and no memory.

Every value is a function of (seed, object, field, row number, epoch); nothing is drawn from a running generator, so
the same seed gives the same org whatever is built first.
"""

# ruff: noqa: S608 - the SQL is made of our own catalogue.
from __future__ import annotations

import re
import zlib
from datetime import datetime

import duckdb

from . import ids
from .schema import Field, SObject
from .words import LISTS

#: Raise it when the generated data change: cached databases of another version are rebuilt.
GENERATOR_VERSION = 5

#: Versions of a row live in [_from, _to); a row nobody has replaced ends at FOREVER.
FOREVER = 1 << 62

YEARS = 3


def row_count(thing: SObject, size: int) -> int:
    """How many rows the object has when there are `size` Contacts."""
    return min(thing.most, max(thing.least, round(size * thing.ratio)))


def _macros(seed: int, epoch: datetime) -> list[str]:
    del seed, epoch
    return [
        *ids.sql_macros(),
        "CREATE OR REPLACE TEMP MACRO pick(h, xs) AS xs[1 + (h % len(xs)::UBIGINT)::BIGINT]",
        # High digits decide whether a value is there, low digits which one it is: so they do not depend on each other.
        "CREATE OR REPLACE TEMP MACRO pct(h, p) AS ((h // 1000003) % 100) < p",
        "CREATE OR REPLACE TEMP MACRO phone(h) AS concat('+', 1 + h % 98, ' ', "
        "lpad((h // 100 % 100000000)::VARCHAR, 8, '0'), CASE WHEN h % 13 = 0 THEN ' x' || (h // 7 % 999) ELSE '' END)",
        # Row 7 and one text in 3,000 are longer than a NVARCHAR(4000), most are short, more than half are missing.
        "CREATE OR REPLACE TEMP MACRO long_text(i, h, t) AS CASE WHEN i = 7 OR h % 3000 = 0 "
        "THEN repeat(t || ' é', 20000 // (length(t) + 2)) "
        "WHEN h % 40 = 1 THEN repeat(t || ' ', 8) WHEN h % 5 < 2 THEN t END",
    ]


def _sql_list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join("'" + v.replace("'", "''") + "'" for v in values) + "]"


def _expression(text: str, where: str, seed: int) -> str:
    """Put the hash and the word lists into a seed expression."""
    salt = zlib.crc32(where.encode()) ^ (seed * 2654435761 % (1 << 31))
    text = text.replace("$h", f"hash(i, {salt})").replace("hash(i, '", f"hash(i, {seed}, '")
    return re.sub(r"@([A-Z]\w+)", lambda m: _sql_list(LISTS[m.group(1)]), text)


def build(
    con: duckdb.DuckDBPyConnection, objects: dict[str, SObject], *, size: int, seed: int, epoch: datetime
) -> None:
    """Create and fill one table per object in an empty database."""
    for macro in _macros(seed, epoch):
        con.execute(macro)
    counts = {name: row_count(thing, size) for name, thing in objects.items()}
    for name, thing in objects.items():
        _number_rows(con, thing, counts[name], seed)
    for name, thing in objects.items():
        _fill(con, thing, counts[name], seed, epoch)
    for name in objects:
        con.execute(f'DROP TABLE "ids_{name}"')
        con.execute(f'DROP TABLE "live_{name}"')
    con.execute("CHECKPOINT")


def _number_rows(con: duckdb.DuckDBPyConnection, thing: SObject, count: int, seed: int) -> None:
    """Ids first, then a dense numbering of rows that are not deleted: links point only to those."""
    prefix = thing.prefix or "000"
    salt = zlib.crc32(thing.name.encode())
    deleted = f"hash(i, {seed}, {salt}, 'del') % 1000 < 20" if thing.has("IsDeleted") else "false"
    con.execute(
        f'CREATE TEMP TABLE "ids_{thing.name}" AS SELECT i, full_id(id15) AS id, {deleted} AS deleted FROM '
        f"(SELECT i, concat('{prefix}{ids.POD}', b62(40000000 + i * 11 + (hash(i, {seed}) % 11)::BIGINT)) AS id15 "
        f"FROM range({count}) r(i))"
    )
    con.execute(
        f'CREATE TEMP TABLE "live_{thing.name}" AS SELECT row_number() OVER (ORDER BY i) - 1 AS k, id '
        f'FROM "ids_{thing.name}" WHERE NOT deleted'
    )


def _base(thing: SObject, count: int, seed: int, epoch: datetime) -> str:
    """Row number, id, and a consistent life: created, last modified, last touched by anything."""
    stamp = f"TIMESTAMP '{epoch:%Y-%m-%d %H:%M:%S}'"
    salt = zlib.crc32(thing.name.encode())
    span = YEARS * 365 * 86400
    h = f"hash(i, {seed}, {salt}, 'life')"
    jump = int(count * 0.20), int(count * 0.23)
    # Older rows are denser than newer ones; users existed before nearly everything.
    age = "4.0" if thing.name in ("User", "Organization", "TaskStatus") else "1.3"
    return f"""
    SELECT *, CASE WHEN i BETWEEN {jump[0]} AND {jump[1]} THEN greatest(_touched, {stamp} - to_days(100))
        ELSE _touched END AS _stamp
    FROM (SELECT *, least({stamp}, CASE WHEN h % 100 < 85 THEN _modified
            ELSE _modified + to_seconds((h // 100 % 9000000)::BIGINT) END) AS _touched
    FROM (SELECT *, least({stamp}, CASE WHEN h % 1000 < 550 THEN _created + to_seconds((h // 1000 % 120)::BIGINT)
            WHEN h % 1000 < 800 THEN _created + to_seconds((h // 1000 % 2592000)::BIGINT)
            ELSE _created + to_seconds((epoch({stamp} - _created) * ((h // 1000 % 100000) / 100000.0))::BIGINT) END)
        AS _modified
    FROM (SELECT i, id AS _id, deleted AS _deleted, {h} AS h, {stamp} AS _epoch,
            {stamp} - to_seconds(({span} * (1 - power((i + ({h} % 100) / 100.0) / {max(count, 1)}, {age})))::BIGINT)
                AS _created
    FROM "ids_{thing.name}"))) ORDER BY i"""


def _fill(con: duckdb.DuckDBPyConnection, thing: SObject, count: int, seed: int, epoch: datetime) -> None:
    """The object's table: stored fields in order, then the version bounds."""
    columns: list[str] = []
    joins: list[str] = []
    late: list[str] = []
    for field in thing.fields:
        if not field.is_stored:
            continue
        columns.append(_column(con, thing, field, seed, joins))
        late.append(f'"{field.name}"')
    late += [f"0::BIGINT AS _from, {FOREVER}::BIGINT AS _to"]
    sql = (
        f'CREATE TABLE "{thing.name}" AS SELECT {", ".join(late)} FROM (SELECT i, {", ".join(columns)} '
        f"FROM ({_base(thing, count, seed, epoch)}) b {' '.join(joins)}) ORDER BY i"
    )
    con.execute(sql)


def _column(con: duckdb.DuckDBPyConnection, thing: SObject, field: Field, seed: int, joins: list[str]) -> str:
    where = f"{thing.name}.{field.name}"
    if field.seed is None:
        value = "false" if field.type == "boolean" else "NULL"
    elif field.seed == "merged":
        value = _link(con, (thing.name,), f"_deleted AND pct({_expression('$h', where, seed)}, 30)", where, seed, joins)
    elif field.seed.startswith("ref "):
        _, targets, share = field.seed.split()
        condition = f"pct({_expression('$h', where, seed)}, {share})"
        value = _link(con, tuple(targets.split("/")), condition, where, seed, joins)
    else:
        value = _expression(field.seed, where, seed)
    return f'CAST({value} AS {field.physical}) AS "{field.name}"'


def _link(
    con: duckdb.DuckDBPyConnection, targets: tuple[str, ...], condition: str, where: str, seed: int, joins: list[str]
) -> str:
    """A link to a live row of one of the target objects, as joins that never match more than one row."""
    aliases = []
    for number, target in enumerate(targets):
        live = con.execute(f'SELECT count(*) FROM "live_{target}"').fetchall()[0][0]
        if not live:
            continue
        alias = f"l{len(joins)}"
        h = _expression("$h", where + "#link", seed)
        joins.append(
            f'LEFT JOIN "live_{target}" {alias} ON {alias}.k = CASE WHEN {condition} '
            f"AND {h} % {len(targets)} = {number} THEN ({h} // 64 % {live})::BIGINT END"
        )
        aliases.append(f"{alias}.id")
    if not aliases:
        return "NULL"
    return aliases[0] if len(aliases) == 1 else f"coalesce({', '.join(aliases)})"
