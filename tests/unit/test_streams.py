"""The nouns: what they refuse, and that they survive being written down."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.streams import LOADED_COLUMNS, Column, ColumnType, Stream, StreamSchema, Window
from novade_core.warehouse.schema import NOVADE_COLUMNS_DUCKDB

NOON = datetime(2024, 11, 18, 12, tzinfo=UTC)
COLUMNS = st.builds(
    Column,
    name=st.text(min_size=1, max_size=20),
    type=st.sampled_from(ColumnType),
    length=st.none() | st.integers(1, 10**6),
    precision=st.none() | st.integers(1, 38),
    scale=st.none() | st.integers(0, 38),
)


@given(COLUMNS)
def test_a_column_survives_being_written_down(column):
    assert Column.from_json(column.to_json()) == column


@given(
    low=st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    high=st.none() | st.datetimes(datetime(2000, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    part=st.sampled_from(["history", "live", "full", "backfill"]),
    expected=st.none() | st.integers(0),
)
def test_a_window_survives_being_written_down(low, high, part, expected):
    window = Window(low=low, high=high, part=part, expected=expected)
    assert Window.from_json(window.to_json()) == window


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column(name="a", type=ColumnType.DECIMAL, precision=18, scale=2), "decimal(18,2)"),
        (Column(name="a", type=ColumnType.TEXT, length=80), "text(80)"),
        (Column(name="a", type=ColumnType.TEXT), "text"),
        (Column(name="a", type=ColumnType.BIGINT, length=80), "bigint"),
    ],
)
def test_a_type_is_told_in_words(column, words):
    assert column.describe() == words


def test_a_window_without_a_time_zone_is_refused():
    for bounds in ({"low": NOON.replace(tzinfo=None), "high": None}, {"low": None, "high": NOON.replace(tzinfo=None)}):
        with pytest.raises(ValueError, match="no time zone"):
            Window(**bounds)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1)])
def test_a_window_that_ends_before_it_starts_is_refused(length):
    with pytest.raises(ValueError, match="before it starts"):
        Window(low=NOON, high=NOON + length)


def test_bounds_of_two_time_zones_are_compared_as_instants():
    berlin = timezone(timedelta(hours=1))
    with pytest.raises(ValueError, match="before it starts"):
        Window(low=NOON, high=NOON.replace(tzinfo=berlin))


def test_a_stream_is_known_by_source_and_name_and_never_changes():
    stream = Stream(
        source="salesforce", name="contact", label="C", object_name="Contact", primary_key=("Id",), cursor_field=None
    )
    assert stream.id == "salesforce.contact"
    with pytest.raises(FrozenInstanceError):
        stream.name = "other"  # type: ignore[misc]


def test_a_schema_finds_its_columns_by_name():
    a, b = Column(name="a", type=ColumnType.TEXT), Column(name="b", type=ColumnType.DATE)
    schema = StreamSchema(columns=(a, b))
    assert (schema.column("b"), schema.column("c"), schema.names()) == (b, None, ("a", "b"))


def test_our_own_columns_are_all_marked_as_ours():
    assert all(name.startswith("_novade_") for name in NOVADE_COLUMNS_DUCKDB)
    assert set(LOADED_COLUMNS) <= set(NOVADE_COLUMNS_DUCKDB)
