"""What becomes of a table when the source's schema changes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from novade_core.errors import SchemaFrozen
from novade_core.streams import Column, ColumnType, SchemaPolicy
from tests.contracts.houses import COLUMNS, House, column, row, stream

THING = stream()
FROZEN = stream("frozen", schema_policy=SchemaPolicy.FREEZE)
INTEGER, BIGINT, TEXT = (column("Value", t) for t in (ColumnType.INTEGER, ColumnType.BIGINT, ColumnType.TEXT))


def decimal(precision: int, scale: int) -> Column:
    return column("Value", ColumnType.DECIMAL, precision=precision, scale=scale)


def load(house: House, key: str, version: int, value: str | None, kind: Column | None, to=THING):
    """One record, with a column Value of this kind or without it."""
    columns = (*COLUMNS, kind) if kind else COLUMNS
    record = (*row(key, version), value) if kind else row(key, version)
    return house.load(to, house.land(to, record, columns=columns)).changes


def values(house: House, *names: str, to=THING):
    return house.rows(to, "Id", *(names or ("Value",)))


def kinds(changes) -> list[tuple[str, str]]:
    return [(c.kind, c.column) for c in changes]


def test_a_new_column_is_added_and_older_rows_hold_null(house: House):
    load(house, "a", 1, None, None)
    changes = load(house, "b", 1, "7", column("Value", ColumnType.TEXT, length=80))
    assert kinds(changes) == [("added", "Value")]
    assert changes[0].detail == "text(80)"
    assert values(house) == [("a", None), ("b", "7")]


def test_integers_widen_to_bigint_and_on_to_decimal(house: House):
    load(house, "a", 1, "2147483647", INTEGER)
    assert kinds(load(house, "b", 1, "9223372036854775807", BIGINT)) == [("widened", "Value")]
    assert kinds(load(house, "c", 1, "0.25", decimal(18, 2))) == [("widened", "Value")]
    assert values(house) == [("a", Decimal(2147483647)), ("b", Decimal(9223372036854775807)), ("c", Decimal("0.25"))]


def test_decimals_widen_on_both_sides_of_the_point(house: House):
    load(house, "a", 1, "99999999.99", decimal(10, 2))
    assert kinds(load(house, "b", 1, "0.123456", decimal(8, 6))) == [("widened", "Value")]
    assert values(house) == [("a", Decimal("99999999.99")), ("b", Decimal("0.123456"))]


def test_a_narrower_type_fits_into_the_wider_column(house: House):
    load(house, "a", 1, "9223372036854775807", BIGINT)
    assert load(house, "b", 1, "5", INTEGER) == ()
    assert values(house) == [("a", 9223372036854775807), ("b", 5)]


@pytest.mark.parametrize(
    ("first", "second", "name", "expected"),
    [
        (("7", INTEGER), ("seven", TEXT), "Value__text", (7, "seven")),
        (("seven", TEXT), ("7", INTEGER), "Value__integer", ("seven", 7)),
        (("7", INTEGER), ("0.5", column("Value", ColumnType.DOUBLE)), "Value__double", (7, 0.5)),
        (("1", decimal(38, 0)), ("0.1", decimal(38, 38)), "Value__decimal", (Decimal(1), Decimal("0.1"))),
    ],
)
def test_what_cannot_widen_lands_in_a_column_of_its_own(house: House, first, second, name, expected):
    load(house, "a", 1, *first)
    assert kinds(load(house, "b", 1, *second)) == [("sidelined", "Value")]
    assert values(house, "Value", name) == [("a", expected[0], None), ("b", None, expected[1])]
    assert load(house, "c", 1, *second) == ()
    assert values(house, name)[2] == ("c", expected[1])


def test_a_record_that_moves_to_the_sideline_leaves_nothing_in_the_old_column(house: House):
    load(house, "a", 1, "7", INTEGER)
    load(house, "a", 2, "seven", TEXT)
    assert values(house, "Value", "Value__text") == [("a", None, "seven")]
    load(house, "a", 3, "8", INTEGER)
    assert values(house, "Value", "Value__text") == [("a", 8, None)]


def test_types_that_change_inside_one_load_lose_no_value(house: House):
    manifests = [
        house.land(THING, (*row(key, 1), value), columns=(*COLUMNS, kind))
        for key, value, kind in (("a", "5000000000", BIGINT), ("b", "7", INTEGER), ("c", "seven", TEXT))
    ]
    house.load(THING, *manifests)
    assert values(house, "Value", "Value__text") == [("a", 5000000000, None), ("b", 7, None), ("c", None, "seven")]


def test_a_column_that_is_absent_keeps_its_old_values(house: House):
    load(house, "a", 1, "kept", TEXT)
    changes = load(house, "a", 2, None, None)
    assert kinds(changes) == [("absent", "Value")]
    assert values(house, "Name", "Value") == [("a", "x", "kept")]
    load(house, "b", 1, None, None)
    assert values(house) == [("a", "kept"), ("b", None)]


def test_a_column_that_is_absent_from_one_of_two_manifests_keeps_its_values_too(house: House):
    load(house, "a", 1, "kept", TEXT)
    load(house, "b", 1, "old", TEXT)
    with_it = house.land(THING, (*row("b", 2), "new"), columns=(*COLUMNS, TEXT))
    house.load(THING, with_it, house.land(THING, row("a", 2)))
    assert values(house) == [("a", "kept"), ("b", "new")]


def test_an_undeleted_row_starts_without_old_values(house: House):
    load(house, "a", 1, "old", TEXT)
    load(house, "b", 1, None, TEXT)
    assert values(house) == [("a", "old"), ("b", None)]


def test_a_null_is_not_an_absent_column(house: House):
    load(house, "a", 1, "old", TEXT)
    load(house, "a", 2, None, TEXT)
    assert values(house) == [("a", None)]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (None, ("7", INTEGER), "column Value would be added"),
        (("7", INTEGER), ("7", BIGINT), "column Value would be widened"),
        (("7", INTEGER), ("seven", TEXT), "column Value would be sidelined"),
    ],
)
def test_a_frozen_stream_refuses_the_change_and_leaves_the_table(house: House, first, second, words):
    load(house, "a", 1, *(first or (None, None)), to=FROZEN)
    before, columns = house.everything(), house.columns_of(FROZEN)
    with pytest.raises(SchemaFrozen, match=words) as refused:
        load(house, "b", 1, *second, to=FROZEN)
    assert "test.frozen" in refused.value.message
    assert "evolve" in refused.value.hint
    assert house.everything() == before
    assert house.columns_of(FROZEN) == columns


def test_a_frozen_stream_takes_what_fits(house: House):
    load(house, "a", 1, "9223372036854775807", BIGINT, to=FROZEN)
    assert load(house, "b", 1, "7", INTEGER, to=FROZEN) == ()
    assert values(house, to=FROZEN) == [("a", 9223372036854775807), ("b", 7)]
