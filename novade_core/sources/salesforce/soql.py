"""SOQL statements. Names come from describe and are checked; instants are the only values, and are ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from novade_core.errors import ConfigurationError
from novade_core.sources.salesforce.types import is_name
from novade_core.streams import Stream, Window

_MONTH = re.compile(r"\d{4}-\d{2}")


def name(text: str) -> str:
    """A field's or object's API name, or ConfigurationError: nothing else enters a statement."""
    if not is_name(text):
        raise ConfigurationError(f"{text!r} is not a Salesforce API name.")
    return text


def instant(value: datetime) -> str:
    """An instant as SOQL writes it. Z, never an offset: a raw + in a URL would become a blank."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _window(stream: Stream, window: Window) -> list[str]:
    if stream.cursor_field is None:
        return []
    field = name(stream.cursor_field)
    conditions = []
    if window.low is not None:
        conditions.append(f"{field} >= {instant(window.low)}")
    if window.high is not None:
        conditions.append(f"{field} < {instant(window.high)}")
    return conditions


def _live(stream: Stream) -> list[str]:
    return [f"{name(stream.deleted_field)} = false"] if stream.deleted_field else []


def select(stream: Stream, fields: Sequence[str], window: Window) -> str:
    """The window's records. No ORDER BY and no LIMIT: both switch off Bulk's chunking by key."""
    listed = ", ".join(name(f) for f in fields)
    return f"SELECT {listed} FROM {name(stream.object_name)}{_where(_window(stream, window))}"


def count_window(stream: Stream, window: Window) -> str:
    """How many records, deleted ones included, lie in the window."""
    return f"SELECT COUNT() FROM {name(stream.object_name)}{_where(_window(stream, window))}"


def count_live(stream: Stream) -> str:
    """How many records are not deleted."""
    return f"SELECT COUNT() FROM {name(stream.object_name)}{_where(_live(stream))}"


def count_months(stream: Stream, field: str, *, include_deleted: bool) -> str:
    """Records by year and month of a date-time field; SOQL's date functions work in UTC."""
    where = _where([] if include_deleted else _live(stream))
    year, month = f"CALENDAR_YEAR({name(field)})", f"CALENDAR_MONTH({name(field)})"
    return f"SELECT {year} y, {month} m, COUNT(Id) n FROM {name(stream.object_name)}{where} GROUP BY {year}, {month}"


def keys_of_month(stream: Stream, field: str, low: datetime, high: datetime) -> str:
    """Ids of the live records of one month."""
    conditions = [*_live(stream), f"{name(field)} >= {instant(low)}", f"{name(field)} < {instant(high)}"]
    return f"SELECT Id FROM {name(stream.object_name)}{_where(conditions)}"


def is_month(text: str) -> bool:
    """Whether a text is ``yyyy-mm``."""
    return _MONTH.fullmatch(text) is not None
