"""SOQL statements, to the letter; and nothing enters them that is no name and no instant of ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.errors import ConfigurationError
from novade_core.sources.salesforce import soql
from novade_core.streams import Stream, Window

CONTACT = Stream(
    source="salesforce",
    name="contact",
    label="Salesforce Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
    created_field="CreatedDate",
    deleted_field="IsDeleted",
)
USER = replace(CONTACT, object_name="User", deleted_field=None)
LOW = datetime(2024, 11, 18, 14, 0, 0, 123999, tzinfo=UTC)
HIGH = datetime(2024, 12, 1, tzinfo=timezone(timedelta(hours=1)))
BOUNDS = "SystemModstamp >= 2024-11-18T14:00:00.123Z AND SystemModstamp < 2024-11-30T23:00:00.000Z"


@pytest.mark.parametrize(
    ("low", "high", "where"),
    [
        (None, None, ""),
        (LOW, None, " WHERE SystemModstamp >= 2024-11-18T14:00:00.123Z"),
        (None, HIGH, " WHERE SystemModstamp < 2024-11-30T23:00:00.000Z"),
        (LOW, HIGH, f" WHERE {BOUNDS}"),
    ],
)
def test_a_window_is_half_open(low, high, where):
    window = Window(low=low, high=high)
    assert soql.select(CONTACT, ["Id", "Name"], window) == f"SELECT Id, Name FROM Contact{where}"
    assert soql.count_window(CONTACT, window) == f"SELECT COUNT() FROM Contact{where}"


def test_records_are_selected_without_order_and_limit():
    statement = soql.select(CONTACT, ["Id"], Window(low=LOW, high=HIGH)).upper()
    assert "ORDER BY" not in statement
    assert "LIMIT" not in statement


def test_a_stream_without_a_cursor_is_selected_whole():
    plain = replace(CONTACT, cursor_field=None)
    assert soql.select(plain, ["Id"], Window(low=LOW, high=HIGH)) == "SELECT Id FROM Contact"


def test_live_records_are_counted_without_the_deleted():
    assert soql.count_live(CONTACT) == "SELECT COUNT() FROM Contact WHERE IsDeleted = false"
    assert soql.count_live(USER) == "SELECT COUNT() FROM User"


@pytest.mark.parametrize(("include_deleted", "where"), [(True, ""), (False, " WHERE IsDeleted = false")])
def test_months_are_counted_at_the_source(include_deleted, where):
    assert soql.count_months(CONTACT, "CreatedDate", include_deleted=include_deleted) == (
        "SELECT CALENDAR_YEAR(CreatedDate) y, CALENDAR_MONTH(CreatedDate) m, COUNT(Id) n "
        f"FROM Contact{where} GROUP BY CALENDAR_YEAR(CreatedDate), CALENDAR_MONTH(CreatedDate)"
    )


def test_keys_of_a_month_are_those_of_live_records():
    low, high = datetime(2024, 11, 1, tzinfo=UTC), datetime(2024, 12, 1, tzinfo=UTC)
    bounds = "CreatedDate >= 2024-11-01T00:00:00.000Z AND CreatedDate < 2024-12-01T00:00:00.000Z"
    assert soql.keys_of_month(CONTACT, "CreatedDate", low, high) == (
        f"SELECT Id FROM Contact WHERE IsDeleted = false AND {bounds}"
    )
    assert soql.keys_of_month(USER, "CreatedDate", low, high) == f"SELECT Id FROM User WHERE {bounds}"


@given(st.datetimes(datetime(1700, 1, 1), datetime(4000, 12, 31), timezones=st.sampled_from(  # noqa: DTZ001
    [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-9, minutes=-30))]
)))  # fmt: skip
def test_instants_are_always_z_and_never_later_than_given(value):
    """A raw + in a URL would become a blank; a low bound that was rounded up would lose records."""
    text = soql.instant(value)
    assert len(text) == 24
    assert text.endswith("Z")
    assert "+" not in text
    assert timedelta(0) <= value - datetime.fromisoformat(text) < timedelta(milliseconds=1)


BAD = ["Id'", 'Id"', "Id; DELETE", "Id,Name", "a b", "", "Id)", "Id\n", "COUNT()", "Account.Name", "Ïd", "x" * 81]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_name_enters_no_statement(bad):
    window = Window(low=LOW, high=None)
    for attempt in (
        lambda: soql.name(bad),
        lambda: soql.select(CONTACT, ["Id", bad], window),
        lambda: soql.select(replace(CONTACT, object_name=bad), ["Id"], window),
        lambda: soql.count_window(replace(CONTACT, cursor_field=bad), window),
        lambda: soql.count_live(replace(CONTACT, deleted_field=bad or "a b")),
        lambda: soql.count_months(CONTACT, bad, include_deleted=True),
        lambda: soql.keys_of_month(CONTACT, bad, LOW, HIGH),
    ):
        with pytest.raises(ConfigurationError, match="is not a Salesforce API name"):
            attempt()


@pytest.mark.parametrize(("text", "answer"), [("2024-11", True), ("", False), ("2024-1", False), ("2024-11-01", False)])
def test_months_are_told_from_other_texts(text, answer):
    assert soql.is_month(text) is answer
