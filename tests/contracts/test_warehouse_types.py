"""Every value that a column can hold comes back as it was, and every name is taken as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pytest

from novade_core.rowhash import quote, row_hash_duckdb
from novade_core.streams import ColumnType
from tests.contracts.houses import COLUMNS, House, column, row, stream

LONG = "ä" * 999_999 + "😀"

#: name -> (column, text from the source, value in the warehouse)
VALUES = {
    "text": (column("v"), "plain", "plain"),
    "empty text": (column("v"), "", ""),
    "null": (column("v"), None, None),
    "blanks": (column("v"), "  x\t ", "  x\t "),
    "emoji": (column("v"), "👩‍🚀 Ünïcödé 漢字", "👩‍🚀 Ünïcödé 漢字"),
    "quotes": (column("v"), "a \"b\" 'c' \\ ; --", "a \"b\" 'c' \\ ; --"),
    "lines": (column("v"), "a\nb\r\nc\r", "a\nb\r\nc\r"),
    "separators": (column("v"), "a\x1fb\x1ec", "a\x1fb\x1ec"),
    "a million characters": (column("v"), LONG, LONG),
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
    "double": (column("v", ColumnType.DOUBLE), "0.1", 0.1),
    "largest double": (column("v", ColumnType.DOUBLE), "1.7976931348623157E308", 1.7976931348623157e308),
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


def test_the_hash_that_was_made_at_landing_is_the_one_of_the_warehouses_own_values(loaded: House):
    if loaded.warehouse.capabilities.engine != "DuckDB":
        pytest.skip("the hash is written in this engine's words only")
    statement = f"SELECT _novade_row_hash = {row_hash_duckdb((*COLUMNS, *KINDS))} FROM test.thing"
    assert loaded.query(statement) == [(True,), (True,)]


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
