"""The product's tracking plan as a file that people would export: Amplitude Data's CSV, in the folder of the stand-ins.

Columns: Amplitude's documentation of CSV import and export. The layout of property rows is not confirmed there; here
the event's name is repeated on each.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from .amplitude.plan import EventType, Property, tracking_plan

NAME = "Product.csv"
COLUMNS = (
    "Action", "Object type", "Object name", "Object owner", "Object description", "Event category",
    "Event display name", "Event source", "Event activity", "Event hidden from dropdowns",
    "Event hidden from persona results", "Event hidden from pathfinder", "Event hidden from timeline", "Tags",
    "Property type", "Property group names", "Event property name", "Property description", "Property value type",
    "Property required", "Property visibility", "Property is array", "Array min items", "Array max items",
    "Array unique items", "Enum values", "Const value", "Property regex", "String property value min length",
    "String property value max length", "Number property value min", "Number property value max", "Number is integer",
)  # fmt: skip


def write(folder: Path, version: int = 1, *, again: bool = False) -> Path:
    """Write the plan into ``folder``, unless it is there: people may have edited it. Gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    if again or not file.exists():
        draft = folder / f".{NAME}.{os.getpid()}"
        draft.write_text(text(version), encoding="utf-8")
        os.replace(draft, file)
    return folder


def text(version: int = 1) -> str:
    """The file's text; versions are those of ``tracking_plan``."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    for event in tracking_plan(version):
        writer.writerow(_event(event))
        writer.writerows({**_named(event), **_property(prop)} for prop in event.properties)
    return out.getvalue()


def _named(event: EventType) -> dict[str, str]:
    return {"Object type": "Event", "Object name": event.name}


def _event(event: EventType) -> dict[str, str]:
    return {
        **_named(event),
        "Object description": event.description,
        "Event category": event.category,
        "Event activity": "Active",
    }


def _property(prop: Property) -> dict[str, str]:
    return {
        "Property type": "Event Property",
        "Event property name": prop.name,
        "Property description": prop.description,
        "Property value type": prop.type,
        "Property required": str(prop.required),
        "Property visibility": "VISIBLE",
        "Property is array": str(prop.is_array),
        "Enum values": _listed(prop.enum),
        "Property regex": prop.regex,
        "Number is integer": str(prop.integer),
    }


def _listed(values: tuple[str, ...]) -> str:
    """Comma-separated, as a cell holds them."""
    line = io.StringIO()
    if values:
        csv.writer(line).writerow(values)
    return line.getvalue().strip("\r\n")
