"""The row hash is what docs/row-hash.md says: its vectors, recomputed in DuckDB and in plain Python."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novade_core.rowhash import key_hash_duckdb, quote, quote_path, row_hash_duckdb
from novade_core.streams import Column, ColumnType
from novade_core.warehouse.schema import duckdb_type

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "row-hash.md").read_text(encoding="utf-8")
LINE = re.compile(r"\| `(?P<columns>[^`]+)` \| `(?P<values>\[.*\])` \| `(?P<text>[^`]*)` \| (?P<hash>\d+) \|")
COLUMN = re.compile(r"(?P<name>\w+) (?P<type>[a-z]+)(?:\((?P<precision>\d+),(?P<scale>\d+)\))?")
VECTORS = list(LINE.finditer(DOCUMENT))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def columns_of(vector: re.Match[str]) -> list[Column]:
    return [
        Column(
            name=found["name"],
            type=ColumnType(found["type"]),
            precision=int(found["precision"]) if found["precision"] else None,
            scale=int(found["scale"]) if found["scale"] else None,
        )
        for found in COLUMN.finditer(vector["columns"])
    ]


def canonical(column: Column, value: Any) -> str:
    """The documented text of one value, written from the document and from nothing else."""
    if value is None:
        return "\x1e"
    match column.type:
        case ColumnType.BOOLEAN:
            return "1" if value else "0"
        case ColumnType.INTEGER | ColumnType.BIGINT:
            return str(int(value))
        case ColumnType.DECIMAL:
            return f"{Decimal(value):.{column.scale}f}"
        case ColumnType.DOUBLE:
            return f"{float(value):.16e}"
        case ColumnType.DATE:
            return date.fromisoformat(value).isoformat()
        case ColumnType.TIMESTAMP:
            return str((datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1))
        case _:
            return str(value)


def in_python(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little") & (2**63 - 1)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        yield connection


def in_duckdb(engine: duckdb.DuckDBPyConnection, columns: Sequence[Column], values: Sequence[Any]) -> int:
    listed = ", ".join(f"CAST(? AS {duckdb_type(c)}) AS {quote(c.name)}" for c in columns)
    found = engine.execute(f"SELECT {row_hash_duckdb(columns)} FROM (SELECT {listed})", list(values)).fetchone()
    assert found is not None
    return int(found[0])


def test_the_document_holds_vectors_of_every_type():
    assert len(VECTORS) >= 12
    assert len(VECTORS) == DOCUMENT.count("\n| `")
    assert {c.type for v in VECTORS for c in columns_of(v)} == set(ColumnType)


@pytest.mark.parametrize("vector", VECTORS, ids=range(1, len(VECTORS) + 1))
def test_a_vector_holds_in_python_and_in_duckdb(engine, vector):
    columns, values = columns_of(vector), json.loads(vector["values"])
    assert len(columns) == len(values)
    ordered = sorted(zip(columns, values, strict=True), key=lambda pair: pair[0].name)
    text = "\x1f".join(canonical(c, v) for c, v in ordered)
    assert text == vector["text"].replace("␟", "\x1f").replace("␞", "\x1e")
    assert in_python(text) == int(vector["hash"])
    assert in_duckdb(engine, columns, values) == int(vector["hash"])


@settings(max_examples=150, deadline=None)
@given(
    text=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    whole=st.none() | st.integers(-(2**63), 2**63 - 1),
    double=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    amount=st.none() | st.decimals(Decimal("-9999999999999999.99"), Decimal("9999999999999999.99"), places=2),
    day=st.none() | st.dates().map(date.isoformat),
    instant=st.none() | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    truth=st.none() | st.booleans(),
)
def test_python_and_duckdb_agree_on_any_row(engine, text, whole, double, amount, day, instant, truth):
    row = {
        "text": (Column(name="text", type=ColumnType.TEXT), text),
        "whole": (Column(name="whole", type=ColumnType.BIGINT), whole),
        "double": (Column(name="double", type=ColumnType.DOUBLE), double),
        "amount": (Column(name="amount", type=ColumnType.DECIMAL, precision=18, scale=2), amount),
        "day": (Column(name="day", type=ColumnType.DATE), day),
        "instant": (Column(name="instant", type=ColumnType.TIMESTAMP), instant),
        "truth": (Column(name="truth", type=ColumnType.BOOLEAN), truth),
    }
    if amount is not None and not amount:
        amount = abs(amount)  # a decimal in a database knows no negative zero
        row["amount"] = (row["amount"][0], amount)
    expected = in_python("\x1f".join(canonical(*row[name]) for name in sorted(row)))
    assert in_duckdb(engine, [c for c, _ in row.values()], [v for _, v in row.values()]) == expected


def test_the_order_of_columns_does_not_matter(engine):
    one, two = Column(name="a", type=ColumnType.TEXT), Column(name="b", type=ColumnType.TEXT)
    assert in_duckdb(engine, [one, two], ["x", "y"]) == in_duckdb(engine, [two, one], ["y", "x"])
    assert in_duckdb(engine, [one, two], ["x", "y"]) != in_duckdb(engine, [one, two], ["y", "x"])


def test_the_key_hash_takes_the_key_in_its_own_order_and_the_version(engine):
    expression = key_hash_duckdb(("b", "a"), "version")
    found = engine.execute(f"SELECT {expression} FROM (SELECT 'x' AS a, 7 AS b, 12 AS version)").fetchone()
    assert found == (in_python("7\x1fx\x1f12"),)


def test_a_table_prefix_reaches_every_column(engine):
    columns = [Column(name="a", type=ColumnType.TEXT), Column(name='b "c"', type=ColumnType.DOUBLE)]
    tables = [
        f"""(SELECT '{text}' AS a, {number}::DOUBLE AS "b ""c\""")""" for text, number in (("x", 1.5), ("y", 2.5))
    ]
    found = engine.execute(f"SELECT {row_hash_duckdb(columns, 't.')} FROM {tables[0]} t, {tables[1]} u").fetchone()
    assert found == (in_python("x\x1f1.5000000000000000e+00"),)


@pytest.mark.parametrize("name", ["plain.csv", "it's.csv", "[a]*?.csv", "a b.csv", "{x}.csv"])
def test_a_quoted_path_is_that_file_and_no_pattern(engine, tmp_path, name):
    for other in ("a.csv", "x.csv", name):
        (tmp_path / other).write_text(f"value\n{other}\n")
    found = engine.execute(f"SELECT value FROM read_csv({quote_path(str(tmp_path / name))}, delim='|')").fetchall()
    assert found == [(name,)]
