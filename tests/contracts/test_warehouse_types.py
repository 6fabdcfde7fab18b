"""Every value that a column can hold comes back as it was, and every name is taken as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import duckdb
import pyarrow.parquet
import pytest

from novade_core.rowhash import quote, row_hash_duckdb
from novade_core.streams import Column, ColumnType
from novade_core.warehouse.schema import duckdb_type
from tests.contracts.houses import COLUMNS, House, column, row, stream

LONG = "ä" * 999_999 + "😀"

#: name -> (column, text from the source, value in the warehouse)
VALUES = {
    "text": (column("v"), "plain", "plain"),
    "empty text": (column("v"), "", ""),
    "null": (column("v"), None, None),
    "blanks": (column("v"), "  x\t ", "  x\t "),
    "emoji": (column("v"), "👩‍🚀 Ünïcödé 漢字", "👩‍🚀 Ünïcödé 漢字"),
    "combining characters": (column("v"), "e\u0301 é क्षि 🇩🇪", "e\u0301 é क्षि 🇩🇪"),
    "quotes": (column("v"), "a \"b\" 'c' \\ ; --", "a \"b\" 'c' \\ ; --"),
    "lines": (column("v"), "a\nb\r\nc\r", "a\nb\r\nc\r"),
    "separators": (column("v"), "a\x1fb\x1ec", "a\x1fb\x1ec"),
    "a million characters": (column("v"), LONG, LONG),
    "4,000 characters": (column("v", length=4_000), "é" * 3_999 + "x", "é" * 3_999 + "x"),
    "4,000 units": (column("v", length=2_000), "😀" * 2_000, "😀" * 2_000),
    "true": (column("v", ColumnType.BOOLEAN), "true", True),
    "false": (column("v", ColumnType.BOOLEAN), "false", False),
    "no boolean": (column("v", ColumnType.BOOLEAN), None, None),
    "smallest integer": (column("v", ColumnType.INTEGER), "-2147483648", -(2**31)),
    "largest integer": (column("v", ColumnType.INTEGER), "2147483647", 2**31 - 1),
    "smallest bigint": (column("v", ColumnType.BIGINT), "-9223372036854775808", -(2**63)),
    "largest bigint": (column("v", ColumnType.BIGINT), "9223372036854775807", 2**63 - 1),
    "decimal": (column("v", ColumnType.DECIMAL, precision=18, scale=2), "-0.05", Decimal("-0.05")),
    "largest decimal": (column("v", ColumnType.DECIMAL, precision=38, scale=0), "9" * 38, Decimal("9" * 38)),
    "smallest decimal": (
        column("v", ColumnType.DECIMAL, precision=38, scale=38),
        "-0." + "0" * 37 + "1",
        Decimal("-0." + "0" * 37 + "1"),
    ),
    "middle decimal": (
        column("v", ColumnType.DECIMAL, precision=38, scale=19),
        "-" + "9" * 19 + "." + "9" * 19,
        Decimal("-" + "9" * 19 + "." + "9" * 19),
    ),
    "double": (column("v", ColumnType.DOUBLE), "0.1", 0.1),
    "largest double": (column("v", ColumnType.DOUBLE), "1.7976931348623157E308", 1.7976931348623157e308),
    "lowest double": (column("v", ColumnType.DOUBLE), "-1.7976931348623157E308", -1.7976931348623157e308),
    "smallest normal double": (column("v", ColumnType.DOUBLE), "2.2250738585072014e-308", 2.2250738585072014e-308),
    "smallest double": (column("v", ColumnType.DOUBLE), "5e-324", 5e-324),
    "first date": (column("v", ColumnType.DATE), "0001-01-01", date(1, 1, 1)),
    "last date": (column("v", ColumnType.DATE), "9999-12-31", date(9999, 12, 31)),
    "leap day": (column("v", ColumnType.DATE), "2024-02-29", date(2024, 2, 29)),
    "first instant": (column("v", ColumnType.TIMESTAMP), "0001-01-01T00:00:00.000Z", datetime(1, 1, 1)),  # noqa: DTZ001 naive UTC
    "last instant": (
        column("v", ColumnType.TIMESTAMP),
        "9999-12-31T23:59:59.999Z",
        datetime(9999, 12, 31, 23, 59, 59, 999000),  # noqa: DTZ001 naive UTC, as the engine gives it
    ),
    "before 1970": (
        column("v", ColumnType.TIMESTAMP),
        "1969-12-31T23:59:59.999Z",
        datetime(1969, 12, 31, 23, 59, 59, 999000),  # noqa: DTZ001 naive UTC, as the engine gives it
    ),
    "time": (column("v", ColumnType.TIME), "10:30:00.000Z", "10:30:00.000Z"),
    "json": (column("v", ColumnType.JSON), '{"a": [1, null, "ü"]}', '{"a": [1, null, "ü"]}'),
}
THING = stream()
KINDS = [replace(kind, name=name) for name, (kind, _, _) in VALUES.items()]


@pytest.fixture
def loaded(house: House) -> House:
    """A table with a column of each kind: one row holds all values, the other nothing but NULL."""
    nothing = [None] * len(VALUES)
    texts = [text for _, text, _ in VALUES.values()]
    house.load(THING, house.land(THING, (*row("a", 1), *texts), (*row("b", 1), *nothing), columns=(*COLUMNS, *KINDS)))
    return house


def test_every_value_comes_back_as_it_was(loaded: House):
    full, empty = loaded.rows(THING, "Id", *VALUES)
    for name, found in zip(VALUES, full[1:], strict=True):
        value = VALUES[name][2]
        assert (name, type(found), found) == (name, type(value), value)
    assert empty == ("b", *[None] * len(VALUES))


def hash_of(columns: Sequence[Column], values: Sequence[object]) -> int:
    """The row hash of values as a warehouse gave them back."""
    with duckdb.connect() as c:
        c.execute(f"CREATE TABLE t ({', '.join(f'{quote(k.name)} {duckdb_type(k)}' for k in columns)})")
        c.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", values)
        [(found,)] = c.execute(f"SELECT {row_hash_duckdb(columns)} FROM t").fetchall()
        return int(found)


def test_the_hash_that_was_made_at_landing_is_the_one_of_the_warehouses_own_values(loaded: House):
    columns = (*COLUMNS, *KINDS)
    full, empty = loaded.rows(THING, *(c.name for c in columns), "_novade_row_hash")
    for *values, made in (full, empty):
        assert hash_of(columns, values) == made


def instant(text: str) -> datetime:
    """A naive instant in UTC."""
    return datetime.fromisoformat(text)


#: Of timestamps with microseconds; beyond 1677 and 2262 nanoseconds in 64 bits would wrap.
INSTANTS = [
    "0001-01-01T00:00:00.000000", "0001-01-01T00:00:00.000001", "1582-10-04T23:59:59.999999",
    "1582-10-15T00:00:00.000000", "1677-09-21T00:12:43.145223", "1969-12-31T23:59:59.999999",
    "1970-01-01T00:00:00.000001", "2024-02-29T12:30:00.123456", "2262-04-11T23:47:16.854776",
    "9999-12-31T23:59:59.999999",
]  # fmt: skip


def test_microseconds_and_milliseconds_of_all_years_come_back_from_one_file(house: House):
    fine, coarse = column("fine", ColumnType.TIMESTAMP, precision=6), column("coarse", ColumnType.TIMESTAMP)
    columns = (*COLUMNS, fine, coarse)
    landed = house.land(
        THING,
        *((*row(f"{n}", 1), f"{text}Z", f"{text[:-3]}Z") for n, text in enumerate(INSTANTS)),
        (*row("none", 1), None, None),
        columns=columns,
    )
    schema = pyarrow.parquet.ParquetFile(landed.files[0]).schema
    kinds = {schema.column(n).name: schema.column(n).physical_type for n in range(len(schema))}
    assert kinds["fine"] == kinds["coarse"] == kinds["_novade_deleted_at"] == "INT96"
    house.load(THING, landed)
    assert house.rows(THING, "Id", "fine", "coarse") == [
        *((f"{n}", instant(text), instant(text[:-3])) for n, text in enumerate(INSTANTS)),
        ("none", None, None),
    ]
    for *values, made in house.rows(THING, *(c.name for c in columns), "_novade_row_hash"):
        assert hash_of(columns, values) == made
    same = (*row("0", 1), f"{INSTANTS[0]}Z", f"{INSTANTS[0][:-3]}Z")
    other = (*row("1", 1), f"{INSTANTS[0]}Z", f"{INSTANTS[1][:-3]}Z")
    (again,) = house.load(THING, house.land(THING, same, other, columns=columns)).results
    assert (again.loaded, again.unchanged) == (1, 1), "a microsecond alone is a change"
    assert house.rows(THING, "Id", "fine")[1] == ("1", instant(INSTANTS[0]))


def test_versions_a_microsecond_apart_are_two(house: House):
    columns = tuple(replace(c, precision=6) if c.name == "Stamp" else c for c in COLUMNS)
    ones = ("a", "2024-11-18T14:00:00.000001Z", "false", "older")
    twos = ("a", "2024-11-18T14:00:00.000002Z", "false", "newer")
    house.load(THING, house.land(THING, twos, columns=columns))
    (late,) = house.load(THING, house.land(THING, ones, columns=columns)).results
    assert late.superseded == 1
    assert house.names(THING) == {"a": "newer"}


def test_an_empty_text_is_not_null(house: House):
    house.load(THING, house.land(THING, row("a", 1, ""), row("b", 1, None)))
    assert house.rows(THING, "Id", "Name") == [("a", ""), ("b", None)]
    (again,) = house.load(THING, house.land(THING, row("a", 1, None), row("b", 1, ""))).results
    assert (again.loaded, again.unchanged) == (2, 0)
    assert house.rows(THING, "Id", "Name") == [("a", None), ("b", "")]


NAMES = [
    'a"b',
    "a'b",
    "it''s",
    "select",
    "Order",
    "table",
    "two words",
    " leading",
    "a.b",
    "a;drop table x;--",
    "ключ",
    "列",
    "😀",
    "what?",
    "$1",
    "%s",
    "{x}",
    "key",
    "version",
    "hash",
    "verdict",
    "seq",
    "raw",
    "x" * 128,
]


def test_any_name_can_be_a_column(house: House):
    columns = (*COLUMNS, *(column(name) for name in NAMES))
    ones, twos = [f"one {n}" for n in NAMES], [f"two {n}" for n in NAMES]
    house.load(THING, house.land(THING, row("a", 1)))
    house.load(THING, house.land(THING, (*row("a", 2), *ones), columns=columns))  # each is added
    house.load(THING, house.land(THING, row("a", 3)))  # each is absent, so its value is kept
    house.load(THING, house.land(THING, (*row("b", 1), *twos), columns=columns))
    assert house.rows(THING, "Id", *NAMES) == [("a", *ones), ("b", *twos)]


@pytest.mark.parametrize("name", ["order", "two words", 'q"uote', "it's", "ключ", "y" * 100])
def test_any_name_can_be_a_table_and_a_key(house: House, name: str):
    to = stream(name, primary_key=("the 'key'",))
    columns = (column("the 'key'"), *COLUMNS[1:])
    house.load(to, house.land(to, row("a", 1), columns=columns))
    house.load(to, house.land(to, row("a", 2, "newer"), columns=columns))
    assert house.rows(to, "the 'key'", "Name") == [("a", "newer")]
    house.replace(to, house.land(to, row("b", 1), columns=columns))
    assert house.count(to) == 1


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_no_engine_can_hold_is_refused(name: str):
    with pytest.raises(ValueError, match="cannot be an SQL identifier"):
        quote(name)
