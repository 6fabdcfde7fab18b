"""The product's tracking plan: which events it plans to send, with which properties.

One declaration serves three readers: the generator writes what it says, the Taxonomy API lists it, and tests compare a
conformance report with it. The product is invented: software for building sites.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache


@dataclass(frozen=True, kw_only=True)
class Property:
    """One property. `sql` is its valid JSON value, an expression over the generator's columns."""

    name: str
    #: string, number, boolean, enum or any, as Amplitude's taxonomy names them.
    type: str
    sql: str
    required: bool = False
    enum: tuple[str, ...] = ()
    is_array: bool = False
    integer: bool = False
    regex: str = ""
    description: str = ""
    classifications: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One planned event with all properties that it may have."""

    name: str
    category: str
    description: str
    properties: tuple[Property, ...] = field(default=())


def _text(words: tuple[str, ...], salt: int) -> str:
    """A JSON string out of a list that is escaped here, once, so that no row pays for it."""
    return f"pick(hash(g, {salt}), {_list(words)})"


def _list(words: tuple[str, ...]) -> str:
    quoted = (json.dumps(word, ensure_ascii=False).replace("'", "''") for word in words)
    return "[" + ", ".join(f"'{word}'" for word in quoted) + "]"


def _enum(name: str, words: tuple[str, ...], salt: int, *, required: bool = False) -> Property:
    return Property(name=name, type="enum", enum=words, sql=_text(words, salt), required=required)


def _count(name: str, most: int, salt: int, *, required: bool = False) -> Property:
    sql = f"(hash(g, {salt}) % {most})::VARCHAR"
    return Property(name=name, type="number", integer=True, sql=sql, required=required)


def _measure(name: str, most: int, salt: int) -> Property:
    """A number that comes as 12, 12.0 and 12.25: clients do not agree how to write one."""
    sql = (
        f"concat((hash(g, {salt}) % {most})::VARCHAR, "
        f"CASE hash(g, {salt}, 1) % 3 WHEN 0 THEN '' WHEN 1 THEN '.0' ELSE '.25' END)"
    )
    return Property(name=name, type="number", sql=sql)


def _flag(name: str, salt: int, *, required: bool = False) -> Property:
    sql = f"CASE WHEN hash(g, {salt}) % 3 = 0 THEN 'true' ELSE 'false' END"
    return Property(name=name, type="boolean", sql=sql, required=required)


def _words(name: str, words: tuple[str, ...], salt: int) -> Property:
    return Property(name=name, type="string", sql=_text(words, salt))


SOURCES = ("toolbar", "shortcut", "deep link", "notification", "api")
COMMENTS = (
    "Geländer fehlt", "鉄筋のかぶり不足", 'He said "later"', "naïve façade", "line one\nline two", "🚧 closed 👷🏽‍♀️",
    "NA", "null", "  padded  ", "a,b;c|d", "back\\slash", "مكتمل", "<b>bold</b>", "Wand OK", "see drawing A-101",
)  # fmt: skip

_COMMON = (
    Property(
        name="project_id",
        type="string",
        regex="^P-[0-9]{5}$",
        required=True,
        sql="""concat('"P-', lpad((hash(d, 41) % 90000)::VARCHAR, 5, '0'), '"')""",
    ),
    _enum("source", SOURCES, 42, required=True),
    _count("duration_ms", 90_000, 43, required=True),
    _flag("offline", 44),
    # Ids beyond 2**53 and within 64 bits: a reader that takes numbers for floats changes them.
    Property(name="record_ref", type="number", integer=True, sql="(hash(g, 45) % 9223372036854775807)::VARCHAR"),
    Property(
        name="labels",
        type="string",
        is_array=True,
        sql="CASE hash(g, 46) % 3 WHEN 0 THEN '[]' WHEN 1 THEN '[\"urgent\"]' ELSE '[\"Außen\",\"階段\"]' END",
    ),
)

_OBJECTS: dict[str, tuple[Property, ...]] = {
    "Project": (_enum("phase", ("tender", "design", "build", "handover"), 50), _count("members", 400, 51),
                _measure("area_m2", 90_000, 52), _words("site.name", ("Nord", "Süd", "丸の内", "São Paulo 2"), 53)),
    "Task": (_enum("priority", ("low", "normal", "high"), 55, required=True), _measure("due_in_days", 60, 56),
             _flag("recurring", 57), _words("comment", COMMENTS, 58), _count("assignees", 6, 59)),
    "Inspection": (_enum("result", ("passed", "failed", "postponed"), 60), _count("items", 80, 61),
                   _count("failed_items", 9, 62), _words("checklist", ("Scaffold", "Crane", "Beton", "配管"), 63)),
    "Permit": (_enum("permit_type", ("hot work", "height", "confined space", "lifting"), 65, required=True),
               _measure("valid_hours", 72, 66), _flag("extended", 67), _words("zone", ("A1", "B2", "Tower 3"), 68)),
    "Defect": (_enum("severity", ("minor", "major", "critical"), 70, required=True), _words("trade", COMMENTS, 71),
               _count("photos", 12, 72), _measure("cost", 5_000, 73), _flag("reopened", 74)),
    "Form": (_words("template", ("Daily log", "Tool box talk", "Abnahme", "検査表"), 75), _count("fields", 120, 76),
             _count("blank_fields", 20, 77), _flag("signed", 78)),
    "Drawing": (_count("revision", 14, 80), _enum("format", ("pdf", "dwg", "ifc"), 81, required=True),
                _measure("size_mb", 300, 82), _measure("zoom", 8, 83), _count("markups", 30, 84)),
    "Photo": (_enum("camera", ("front", "rear", "drone", "360"), 85), _count("width", 6_000, 86),
              _count("height", 4_000, 87), _flag("geotagged", 88), _words("caption", COMMENTS, 89)),
    "Report": (_enum("format", ("pdf", "xlsx", "csv"), 90, required=True), _count("pages", 300, 91),
               _measure("render_s", 40, 92), _count("recipients", 25, 93)),
    "Meeting": (_count("attendees", 30, 95), _measure("length_min", 180, 96), _flag("remote", 97),
                _words("topic", COMMENTS, 98)),
    "Worker": (_enum("role", ("foreman", "engineer", "subcontractor", "visitor"), 100), _flag("inducted", 101),
               _count("certificates", 9, 102), _words("company", ("Hochtief AG", "Obayashi 大林組", "Vinci"), 103)),
    "Equipment": (_enum("kind", ("crane", "excavator", "lift", "pump"), 105), _measure("hours", 9_000, 106),
                  _flag("rented", 107), _count("alarms", 5, 108)),
    "Material": (_enum("unit", ("kg", "m", "m2", "m3", "piece"), 110, required=True), _measure("quantity", 4_000, 111),
                 _words("supplier", ("Holcim", "Łódź Stal", "Kone"), 112), _flag("certified", 113)),
}  # fmt: skip

_ACTIONS: dict[str, tuple[Property, ...]] = {
    "Viewed": (_enum("view", ("list", "board", "map", "detail"), 120), _measure("load_ms", 4_000, 121)),
    "Created": (_enum("method", ("blank", "copy", "import", "template"), 122, required=True),),
    "Updated": (_count("changed_fields", 12, 123), _words("changed_field", ("status", "owner", "due date"), 124)),
    "Completed": (_measure("age_days", 120, 125), _flag("on_time", 126)),
}

USER_PROPERTIES = (
    Property(name="role", type="enum", enum=("admin", "manager", "field", "guest"), sql=""),
    Property(name="company_size", type="number", integer=True, sql=""),
    Property(name="email", type="string", sql="", classifications=("PII",)),
    Property(name="languages", type="string", is_array=True, sql=""),
    Property(name="beta", type="boolean", sql=""),
    Property(name="city", type="string", sql=""),
    Property(name="settings", type="any", sql=""),
)

#: Names that no version plans; the first one is a planned event's name in another spelling.
UNPLANNED = ("task_viewed", "Debug Ping", "Tset Event", "Überprüfung gestartet")


def objects() -> dict[str, tuple[Property, ...]]:
    """Properties that all events of one object have."""
    return dict(_OBJECTS)


def actions() -> dict[str, tuple[Property, ...]]:
    """Properties that all events of one action have."""
    return dict(_ACTIONS)


def common() -> tuple[Property, ...]:
    """Properties that every planned event has."""
    return _COMMON


@cache
def tracking_plan(version: int = 1) -> tuple[EventType, ...]:
    """All planned events, 52 of them with 627 properties in all.

    Version 2 plans one unplanned event more, allows one value more of `source`, and requires `offline`: so the same
    events conform otherwise. Raises ValueError for other versions.
    """
    if version not in (1, 2):
        raise ValueError(f"the plan has versions 1 and 2, not {version}")
    made = []
    for thing, own in _OBJECTS.items():
        for action, more in _ACTIONS.items():
            properties = _COMMON + own + more
            if version == 2:
                properties = tuple(_second(p) for p in properties)
            made.append(
                EventType(
                    name=f"{thing} {action}",
                    category=thing,
                    description=f"Somebody has {action.lower()} a {thing.lower()}.",
                    properties=properties,
                )
            )
    if version == 2:
        made.append(EventType(name="Debug Ping", category="Internal", description="Sent by test builds."))
    return tuple(made)


def _second(prop: Property) -> Property:
    if prop.name == "source":
        return replace(prop, enum=(*prop.enum, "carrier pigeon"))
    if prop.name == "offline":
        return replace(prop, required=True)
    return prop
