"""What each type takes from a source's text, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from novade_core.streams import Column, ColumnType
from novade_core.sync.typed import typed

REFUSED = object()


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """As the chunk writer sets it."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        yield connection


def take(engine: duckdb.DuckDBPyConnection, type_: ColumnType, text: str, **more: Any) -> Any:
    """The typed value, or REFUSED."""
    expression = typed(Column(name='a "name"', type=type_, **more))
    statement = f'SELECT {expression.value}, {expression.bad or "false"} FROM (SELECT ?::VARCHAR AS "a ""name""")'
    try:
        value, bad = engine.execute(statement, [text]).fetchone() or (None, True)
    except ValueError:  # a value that Python cannot hold, refused or not
        statement = statement.replace(f"SELECT {expression.value},", "SELECT 'beyond Python',", 1)
        value, bad = engine.execute(statement, [text]).fetchone() or (None, True)
    return REFUSED if bad else value


@pytest.mark.parametrize("type_", [ColumnType.TEXT, ColumnType.TIME, ColumnType.JSON])
@pytest.mark.parametrize("text", ["", " ", "NA", "null", "None", "NULL", "a\nb", "\x1f", "😀", "25:99", "{not json"])
def test_text_takes_everything_as_it_is(engine, type_, text):
    assert take(engine, type_, text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((t, True) for t in ("true", "TRUE", "True", "1")),
        *((t, False) for t in ("false", "FALSE", "False", "0")),
        *((t, REFUSED) for t in ("", "2", "maybe", "-1", "truefalse", "null", " true")),
    ],
)
def test_booleans(engine, text, value):
    assert take(engine, ColumnType.BOOLEAN, text) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5", 5),
        ("0.0", 0),
        ("7.000", 7),
        ("1.5E3", 1500),
        ("1.5e+3", 1500),
        ("150E-1", 15),
        ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)),
        *((t, REFUSED) for t in ("0.5", "15E-1", "-0.1", "2147483648", "-2147483649", "1E10", "1e400")),
        *((t, REFUSED) for t in ("", "abc", "1e", "NaN", "Infinity", "1,000", "1 000", "--1", "true")),
    ],
)
def test_integers_lose_nothing(engine, text, value):
    assert take(engine, ColumnType.INTEGER, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9.223372036854775807E18", 2**63 - 1),
        ("9007199254740993.0", 9007199254740993),
        ("2147483648", 2**31),
        *((t, REFUSED) for t in ("9223372036854775808", "123456789012345678.5", "9.3E18", "")),
    ],
)
def test_bigints_lose_nothing_beyond_what_a_double_holds(engine, text, value):
    assert take(engine, ColumnType.BIGINT, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("75", "75.00"),
        ("75.0000", "75.00"),
        (".5", "0.50"),
        ("1.5E+7", "15000000.00"),
        ("1.5E-1", "0.15"),
        ("1E15", "1000000000000000.00"),
        ("9999999999999999.99", "9999999999999999.99"),
        ("-9999999999999999.99", "-9999999999999999.99"),
        *((t, None) for t in ("75.005", "75.001", "1E-3", "10000000000000000", "1E16", "", "abc", "NaN", "1,5")),
    ],
)
def test_decimals_keep_every_digit(engine, text, value):
    found = take(engine, ColumnType.DECIMAL, text, precision=18, scale=2)
    assert found == (REFUSED if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("precision", "scale", "text", "value"),
    [
        (38, 0, "9" * 38, "9" * 38),
        (38, 0, "75.0", "75"),
        (38, 0, "75.5", None),
        (38, 2, "75.00", "75.00"),
        (38, 2, "75.005", None),
        (36, 2, "75.00001", None),
        (38, 38, "0." + "1" * 38, "0." + "1" * 38),
        (38, 38, "1", None),
        (5, 5, "0.99999", "0.99999"),
        (5, 5, "0.999999", None),
    ],
)
def test_decimals_of_any_size_refuse_what_they_would_round(engine, precision, scale, text, value):
    found = take(engine, ColumnType.DECIMAL, text, precision=precision, scale=scale)
    assert found == (REFUSED if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("7", 7.0),
        ("1.0E-7", 1e-7),
        ("1.7976931348623157E308", 1.7976931348623157e308),
        *((t, REFUSED) for t in ("1E309", "-1E309", "NaN", "Infinity", "inf", "", "abc", "1,5")),
    ],
)
def test_doubles_are_finite(engine, text, value):
    assert take(engine, ColumnType.DOUBLE, text) == value


@pytest.mark.parametrize("text", ["2024-02-29", "0001-01-01", "9999-12-31", "0044-03-15"])
def test_dates(engine, text):
    assert take(engine, ColumnType.DATE, text) == date.fromisoformat(text)


@pytest.mark.parametrize(
    "text",
    [
        *("2023-02-29", "2024-13-01", "2024-00-10", "2024-1-15", "2024-1-015", "20240115", "15-01-2024", "01/15/2024"),
        *("2024/01/15", "2024 01 15", "2024\\01\\15", "2024-01-1 ", " 2024-01-1", "2024-01-15 ", "02024-1-01"),
        *("2024-01-15T00:00:00Z", "0000-01-01", "-001-01-01", "1-1-1 (BC)", "10000-01-01", "99999-1-01"),
        *("", "today", "epoch", "epoch     ", "infinity", "-infinity", "-infinity ", "2024-W03-1"),
    ],
)
def test_dates_are_spelled_one_way_only(engine, text):
    assert take(engine, ColumnType.DATE, text) is REFUSED


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01T10:00:00.000Z", (2024, 1, 1, 10)),
        ("2024-01-01T10:00:00Z", (2024, 1, 1, 10)),
        ("2024-01-01T10:00:00.000+0000", (2024, 1, 1, 10)),
        ("2024-01-01T10:00:00.000+00:00", (2024, 1, 1, 10)),
        ("2024-01-01T10:00:00.000+0200", (2024, 1, 1, 8)),
        ("2024-01-01T10:00:00.000+02:00", (2024, 1, 1, 8)),
        ("2024-01-01T23:00:00.000-0500", (2024, 1, 2, 4)),
        ("2024-01-01T10:00:00.000+0530", (2024, 1, 1, 4, 30)),
        ("2024-01-01T10:00:00.123456Z", (2024, 1, 1, 10, 0, 0, 123456)),
        ("2024-01-01T10:00:00", (2024, 1, 1, 10)),
        ("1704103200000", (2024, 1, 1, 10)),
        ("1704103200123", (2024, 1, 1, 10, 0, 0, 123000)),
        ("0", (1970, 1, 1)),
        ("-1", (1969, 12, 31, 23, 59, 59, 999000)),
        ("-62135596800000", (1, 1, 1)),
        ("253402300799999", (9999, 12, 31, 23, 59, 59, 999000)),
        ("0001-01-01T00:00:00.000Z", (1, 1, 1)),
        ("9999-12-31T23:59:59.999Z", (9999, 12, 31, 23, 59, 59, 999000)),
    ],
)
def test_instants_are_turned_to_utc(engine, text, value):
    assert take(engine, ColumnType.TIMESTAMP, text) == datetime(*value)  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "yesterday",
            "2024-02-30T00:00:00Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01T23:59:60Z",
        ),
        *("infinity", "-infinity", "epoch", "now", "2024-01-01T10:00:00+0200Z", "2024-01-01T10:00:00 Nowhere/City"),
        *("-62135596800001", "253402300800000", "99999999999999999", "9223372036854775807", "9223372036854775808"),
        *("0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "-001-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+0100", "9999-12-31T23:59:59-0100"),
    ],
)
def test_what_is_no_instant_between_the_years_1_and_9999_is_refused(engine, text):
    """Among them values that DuckDB raises on and values that Python cannot hold: one of those stopped a whole run."""
    assert take(engine, ColumnType.TIMESTAMP, text) is REFUSED


@pytest.mark.parametrize("type_", list(ColumnType))
def test_every_type_that_can_refuse_says_why(type_):
    expression = typed(Column(name="x", type=type_, precision=18, scale=2))
    assert (expression.bad is None) == (expression.reason == "")
