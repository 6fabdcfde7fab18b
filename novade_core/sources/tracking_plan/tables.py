"""Plans as tables, CSV or XLSX: Amplitude Data's columns, or plain ones with a row per property."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace

from .model import EVENT_TYPES, MAX_BYTES, TYPES, Event, Plan, Property, unreadable
from .spreadsheet import sheet_rows

PLAIN = ("event", "property")
AMPLITUDE = ("Object type", "Object name", "Event property name", "Property value type", "Property required")
_TRUE, _FALSE = ("true", "yes", "1", "required", "x"), ("", "false", "no", "0", "optional")

Rows = Iterator[tuple[str, dict[str, str]]]


def parse_table(data: bytes, file: str) -> Plan:
    """The plan in a table, recognised by its header; raises ConfigurationError naming the row."""
    if len(data) > MAX_BYTES:
        raise unreadable(file, "", f"larger than {MAX_BYTES:,} bytes")
    lines = sheet_rows(data, file) if data[:4] == b"PK\x03\x04" else _csv(data, file)
    lines = [(n, cells) for n, cells in lines if any(c.strip() for c in cells)]
    if not lines:
        raise unreadable(file, "", "is empty")
    header = [c.strip() for c in lines[0][1]]
    if twice := sorted({c for c in header if c and header.count(c) > 1}):
        raise unreadable(file, f"row {lines[0][0]}", f"names columns twice: {', '.join(twice)}")
    rows = (_named(header, n, cells, file) for n, cells in lines[1:])
    if "Object name" in header:
        if missing := [c for c in AMPLITUDE if c not in header]:
            raise unreadable(file, f"row {lines[0][0]}", f"lacks the columns {', '.join(missing)}")
        return Plan(name=_stem(file), source="amplitude", events=_amplitude(rows, file))
    if "Property name" in header and "Property value type" in header:
        return Plan(name=_stem(file), source="amplitude", events=_amplitude_traits(rows, file))
    lower = [c.lower() for c in header]
    if missing := [c for c in PLAIN if c not in lower]:
        raise unreadable(file, f"row {lines[0][0]}", f"lacks the columns {', '.join(missing)}")
    plain = ((w, {k.lower(): v for k, v in r.items()}) for w, r in rows)
    return Plan(name=_stem(file), source="plain", events=_plain(plain, file))


def _stem(file: str) -> str:
    return file.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _csv(data: bytes, file: str) -> list[tuple[int, list[str]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(file, f"byte {error.start}", "is not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for cells in reader:
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise unreadable(file, f"line {reader.line_num}", f"is not CSV: {error}") from None
    return rows


def _named(header: list[str], number: int, cells: list[str], file: str) -> tuple[str, dict[str, str]]:
    if len(cells) > len(header) and any(c.strip() for c in cells[len(header) :]):
        raise unreadable(file, f"row {number}", f"has {len(cells)} cells, the header {len(header)}")
    return f"row {number}", {**dict.fromkeys(header, ""), **dict(zip(header, cells, strict=False))}


def _is(text: str, file: str, where: str, column: str) -> bool:
    word = text.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise unreadable(file, where, f"{column} is {text!r}, neither true nor false")
    return word in _TRUE


def _number(text: str, file: str, where: str, column: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise unreadable(file, where, f"{column} is {text!r}, not a number") from None


def _count(text: str, file: str, where: str, column: str) -> int | None:
    value = _number(text, file, where, column)
    return None if value is None else int(value)


def _values(text: str) -> tuple[str, ...] | None:
    """Comma-separated values as JSON texts; a value with a comma stands in quotes."""
    if not text.strip():
        return None
    cells = next(csv.reader([text], skipinitialspace=True))
    return tuple(json.dumps(c.strip(), ensure_ascii=False) for c in cells)


def _gathered(file: str, where: str, events: dict[str, Event], name: str, one: Property) -> None:
    event = events[name]
    if any(p.path == one.path and p.section == one.section for p in event.properties):
        raise unreadable(file, where, f"{name!r} has the property {one.name!r} twice")
    events[name] = replace(event, properties=(*event.properties, one))


def _amplitude(rows: Rows, file: str) -> tuple[Event, ...]:
    """A row per event, further rows for its properties, with the name repeated or left blank.

    Source: Amplitude's documentation of CSV import and export; the layout of property rows is not confirmed.
    """
    events: dict[str, Event] = {}
    name = ""
    for where, row in rows:
        if row.get("Action", "").strip().lower() in ("ignore", "remove"):
            continue
        name = row["Object name"] or name
        if not name:
            raise unreadable(file, where, "names no event, nor does a row above it")
        if row["Object type"].strip() == "Property Group":
            continue
        if name not in events:
            inactive = row.get("Event activity", "").strip().lower() == "inactive"
            events[name] = Event(name=name, description=row.get("Object description", ""), deprecated=inactive)
        if not row["Event property name"]:
            continue
        _gathered(file, where, events, name, _amplitude_property(row, file, where))
    return tuple(events.values())


def _amplitude_traits(rows: Rows, file: str) -> tuple[Event, ...]:
    """The separate file of user properties: rules of identify calls."""
    events = {"identify": Event(name="identify", type="identify")}
    for where, row in rows:
        if row.get("Action", "").strip().lower() in ("ignore", "remove"):
            continue
        if not row["Property name"]:
            raise unreadable(file, where, "names no property")
        shown = {"Property required": "", **row, "Event property name": row["Property name"]}
        one = replace(_amplitude_property(shown, file, where), section="traits")
        _gathered(file, where, events, "identify", one)
    return tuple(events.values())


def _amplitude_property(row: dict[str, str], file: str, where: str) -> Property:
    kind = row["Property value type"].strip().lower() or "any"
    types = {"enum": "string", "const": "any"}.get(kind, kind)
    if types not in TYPES:
        raise unreadable(file, where, f"Property value type is {kind!r}")
    if _is(row.get("Number is integer", ""), file, where, "Number is integer") and types == "number":
        types = "integer"
    if _is(row.get("Property is array", ""), file, where, "Property is array"):
        types = "array"
    constant = row.get("Const value", "")
    name = row["Event property name"]
    return Property(
        path=(name,),
        types=(types,),
        required=_is(row["Property required"], file, where, "Property required"),
        enum=(json.dumps(constant, ensure_ascii=False),) if kind == "const" else _values(row.get("Enum values", "")),
        pattern=row.get("Property regex", ""),
        description=row.get("Property description", ""),
        minimum=_number(row.get("Number property value min", ""), file, where, "Number property value min"),
        maximum=_number(row.get("Number property value max", ""), file, where, "Number property value max"),
        min_length=_count(row.get("String property value min length", ""), file, where, "the shortest length"),
        max_length=_count(row.get("String property value max length", ""), file, where, "the longest length"),
    )


def _plain(rows: Rows, file: str) -> tuple[Event, ...]:
    """Columns event, property and, where wanted, event_type, section, type, required, enum, pattern, description.

    Several types stand beside each other with `|`; items of arrays end in `[]`, levels are set apart by dots.
    """
    events: dict[str, Event] = {}
    name = ""
    for where, row in rows:
        name = row["event"].strip() or name
        if not name:
            raise unreadable(file, where, "names no event, nor does a row above it")
        kind = row.get("event_type", "").strip().lower() or "track"
        if kind not in EVENT_TYPES:
            raise unreadable(file, where, f"event_type is {kind!r}; known: {', '.join(EVENT_TYPES)}")
        path = row["property"].strip().replace("[]", ".[]")
        if name not in events:
            events[name] = Event(name=name, type=kind, description="" if path else row.get("description", ""))
        if not path:
            continue
        types = tuple(sorted(t.strip().lower() for t in (row.get("type") or "any").split("|")))
        if unknown := [t for t in types if t not in TYPES]:
            raise unreadable(file, where, f"type is {unknown[0]!r}; known: {', '.join(TYPES)}")
        one = Property(
            path=tuple(path.split(".")),
            section=row.get("section", "").strip().lower() or "properties",
            types=types,
            required=_is(row.get("required", ""), file, where, "required"),
            enum=_values(row.get("enum", "")),
            pattern=row.get("pattern", ""),
            description=row.get("description", ""),
        )
        _gathered(file, where, events, name, one)
    return tuple(events.values())
