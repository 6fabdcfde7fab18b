"""The Taxonomy API, as far as it reads: categories, event types, event and user properties of the tracking plan."""

from __future__ import annotations

from typing import Any

from . import plan
from .http import Asked, Refused, Reply, json_reply
from .project import Amplitude, Project

PREFIX = "/api/2/taxonomy/"


def read(amplitude: Amplitude, project: Project, asked: Asked) -> Reply:
    """GET below /api/2/taxonomy. Errors come in the API's own envelope."""
    del project
    settings = amplitude.settings
    if not settings["enterprise"]:
        return refused(404, "Not found")
    if asked.method != "GET":
        return refused(400, "stand-in: the taxonomy is read only")
    kind, _, name = asked.path.removeprefix(PREFIX).strip("/").partition("/")
    events = {event.name: event for event in plan.tracking_plan(settings["plan_version"])}
    if kind == "category":
        rows = {
            word: {"id": n + 1, "name": word} for n, word in enumerate(sorted({e.category for e in events.values()}))
        }
        return _answer(rows, name)
    if kind == "event":
        shown = {n: _event(amplitude, e) for n, e in events.items() if _visible(amplitude, asked, n)}
        return _answer(shown, name)
    if kind == "event-property":
        wanted = asked.given.get("event_type")
        if wanted is not None and wanted not in events:
            return refused(400, f"Event type {wanted} was not found")
        # Without an event only properties come that all events share; those belong to no event.
        props = events[wanted].properties if wanted is not None else plan.common()
        return _answer({p.name: _property(p, wanted) for p in props}, name)
    if kind == "user-property":
        return _answer({f"gp:{p.name}": _user_property(p) for p in plan.USER_PROPERTIES}, name)
    if kind == "group-property":
        return _answer({}, name)
    raise Refused(404, "Not found")


def refused(status: int, message: str) -> Reply:
    """A refusal in the taxonomy's envelope."""
    return json_reply({"success": False, "errors": [{"message": message}]}, status)


def _answer(rows: dict[str, dict[str, Any]], name: str) -> Reply:
    if not name:
        return json_reply({"success": True, "data": list(rows.values())})
    if name not in rows:
        return refused(400, f"{name} was not found")
    return json_reply({"success": True, "data": rows[name]})


def _visible(amplitude: Amplitude, asked: Asked, name: str) -> bool:
    if name in amplitude.settings["hidden_events"]:
        return False
    return name not in amplitude.settings["deleted_events"] or asked.given.get("showDeleted") == "true"


def _event(amplitude: Amplitude, event: plan.EventType) -> dict[str, Any]:
    return {
        "event_type": event.name,
        "category": {"name": event.category},
        "description": event.description,
        "display_name": event.name,
        "is_active": event.name not in amplitude.settings["deleted_events"],
        "is_hidden_from_dropdowns": False,
        "is_hidden_from_persona_results": False,
        "is_hidden_from_pathfinder": False,
        "is_hidden_from_timeline": False,
        "tags": [],
        "owner": None,
    }


def _property(prop: plan.Property, event: str | None) -> dict[str, Any]:
    return {
        "event_property": prop.name,
        "event_type": event,
        "description": prop.description,
        "type": prop.type,
        "regex": prop.regex or None,
        "enum_values": ",".join(prop.enum) or None,
        "is_array_type": prop.is_array,
        "is_required": prop.required,
        "is_hidden": False,
        "classifications": list(prop.classifications),
    }


def _user_property(prop: plan.Property) -> dict[str, Any]:
    row = _property(prop, None)
    del row["event_property"], row["event_type"], row["is_required"]
    return {"user_property": f"gp:{prop.name}", **row}
