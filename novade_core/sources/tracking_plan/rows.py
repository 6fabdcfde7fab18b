"""A version of a plan as rows of the three streams, every value as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from novade_core.streams import Column, ColumnType, PlanVersion

from .model import Event, Plan

_NAME = 1_024  #: characters of names; longer ones are rejected by name and length


def _text(name: str, length: int | None = None) -> Column:
    return Column(name=name, type=ColumnType.TEXT, length=length)


def _of(kind: ColumnType, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=kind) for name in names)


_KEY = (_text("id", 32), _text("plan_name", 300), _text("version", 12))
_EVENT = (_text("event_type", 20), _text("event", _NAME), _text("event_version", 40))
_SEEN = _of(ColumnType.TIMESTAMP, "first_seen_at")

#: Columns of each stream. ``id`` is made of the names beside it: names may be long, and differ in case alone.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "plans": (
        *_KEY,
        _text("plan_id", 300),
        _text("description"),
        _text("file_name", _NAME),
        _text("format", 20),
        *_of(ColumnType.INTEGER, "events", "properties"),
        *_of(ColumnType.BOOLEAN, "is_current"),
        *_SEEN,
        *_of(ColumnType.TIMESTAMP, "changed_at"),
    ),
    "events": (
        *_KEY,
        *_EVENT,
        _text("description"),
        *_of(ColumnType.BOOLEAN, "deprecated", "allows_unplanned"),
        *_of(ColumnType.INTEGER, "properties"),
        *_SEEN,
    ),
    "properties": (
        *_KEY,
        *_EVENT,
        _text("section", 20),
        _text("path", 2 * _NAME),
        *_of(ColumnType.JSON, "types"),
        *_of(ColumnType.BOOLEAN, "required"),
        *_of(ColumnType.JSON, "enum"),
        _text("pattern"),
        _text("format", 200),
        _text("description"),
        *_of(ColumnType.DOUBLE, "minimum", "maximum"),
        *_of(ColumnType.BIGINT, "min_length", "max_length"),
        *_SEEN,
    ),
}


def number_of_rows(stream: str, version: PlanVersion) -> int:
    """How many rows a version has in a stream."""
    return {"plans": 1, "events": version.events, "properties": version.properties}[stream]


def rows(stream: str, version: PlanVersion, plan: Plan) -> Iterator[list[str | None]]:
    """The rows of a version, in the order of ``COLUMNS``."""
    seen = version.first_seen_at.isoformat()
    if stream == "plans":
        yield _row(
            "plans", (version.plan, version.version), plan.id, plan.description, version.file, version.format,
            version.events, version.properties, version.current, seen, version.changed_at.isoformat(),
        )  # fmt: skip
        return
    for event in plan.events:
        key = (version.plan, version.version, event.type, event.name, event.version)
        if stream == "events":
            yield _row(
                "events", key, event.description, event.deprecated, event.allows_unplanned, len(event.properties), seen
            )
        else:
            yield from _properties(key, event, seen)


def _properties(key: tuple[str, ...], event: Event, seen: str) -> Iterator[list[str | None]]:
    for one in event.properties:
        enum = None if one.enum is None else f"[{', '.join(one.enum)}]"
        # The path is a list in the key, since a name may hold a dot.
        own = (*key, one.section, json.dumps(one.path))
        yield _row(
            "properties", own, one.name, json.dumps(one.types), one.required, enum, one.pattern, one.format,
            one.description, one.minimum, one.maximum, one.min_length, one.max_length, seen, shown=6,
        )  # fmt: skip


def _row(stream: str, key: Sequence[str], *values: Any, shown: int | None = None) -> list[str | None]:
    digest = hashlib.sha256(json.dumps([stream, *key]).encode()).hexdigest()[:32]
    return [digest, *key[:shown], *map(_value, values)]


def _value(value: Any) -> str | None:
    """Nothing said is NULL."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
