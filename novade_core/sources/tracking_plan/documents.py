"""Plans in JSON: Segment Protocols (Config API and Public API), RudderStack's API, Iglu's self-describing schemas."""

from __future__ import annotations

import json
from typing import Any

from .json_schema import Reader
from .model import EVENT_TYPES, MAX_BYTES, Event, Plan, Property, unreadable

#: How the Public API says that a rule is not deprecated.
NEVER = "0001-01-01T00:00:00.000Z"
SECTIONS = ("properties", "traits", "context")
#: Parts of a call beside the event's own properties. A schema that names anything else is of those properties alone.
CALL_FIELDS = {*SECTIONS, "event", "type", "name", "category", "userId", "anonymousId", "groupId", "messageId",
               "timestamp", "originalTimestamp", "sentAt", "receivedAt", "integrations"}  # fmt: skip


def parse_document(data: bytes, file: str) -> Plan:
    """The plan in a JSON document, recognised by its shape; raises ConfigurationError naming line or pointer."""
    if len(data) > MAX_BYTES:
        raise unreadable(file, "", f"larger than {MAX_BYTES:,} bytes")
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise unreadable(file, f"line {error.lineno}", f"is not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise unreadable(file, f"byte {error.start}", "is not UTF-8") from None
    except (RecursionError, ValueError) as error:
        raise unreadable(file, "", f"is not JSON that can be read: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise unreadable(file, "/", "must be an object")
    try:
        return _recognised(value, file)
    except RecursionError:
        raise unreadable(file, "/", "is nested too deeply") from None


def _recognised(value: dict[str, Any], file: str) -> Plan:
    inner = value.get("data") if isinstance(value.get("data"), dict) else None
    value = (inner.get("trackingPlan") or inner) if inner else value
    rules = value.get("rules")
    if isinstance(value.get("self"), dict):
        return _iglu(value, file)
    if isinstance(rules, list):
        return _segment(value, rules, file)
    if isinstance(rules, dict):
        return _segment_old(value, rules, file)
    if isinstance(value.get("events"), list):
        return _rudderstack(value, value["events"], file)
    raise unreadable(file, "/", "is no tracking plan of Segment, RudderStack or Iglu: neither rules, events nor self")


def _text(value: dict[str, Any], *names: str) -> str:
    return next((str(value[n]) for n in names if value.get(n)), "")


def _event(rule: Any, schema: Any, kind: str, name: str, file: str, pointer: str, inside: str) -> Event:
    """An event whose JSON Schema describes the whole call, in which its own properties are nested."""
    if kind not in EVENT_TYPES:
        raise unreadable(file, pointer, f"{kind!r} is no type of event; known: {', '.join(EVENT_TYPES)}")
    reader = Reader(file, schema)
    whole = reader.resolved(schema, pointer + inside)
    call = whole.get("properties") or {}
    if not isinstance(call, dict):
        raise unreadable(file, f"{pointer}{inside}/properties", "must be an object")
    found: list[Property] = []
    open_ended = True
    if not call.keys() <= CALL_FIELDS:
        # Published plans also hold schemas of the event's own properties, without the call around them.
        section = "traits" if kind in ("identify", "group") else "properties"
        found += reader.properties(whole, section, pointer + inside)
        open_ended = whole.get("additionalProperties") is not False
        call = {}
    for section in SECTIONS:
        part = call.get(section)
        if isinstance(part, dict):
            found += reader.properties(part, section, f"{pointer}{inside}/properties/{section}")
            closed = part.get("additionalProperties", part.get("unevaluatedProperties"))
            open_ended = open_ended and closed is not False
    deprecated = rule.get("deprecatedAt")
    return Event(
        name=name,
        type=kind,
        version=str(rule.get("version", "1")),
        description=_text(rule, "description") or _text(whole, "description"),
        deprecated=bool(deprecated) and deprecated != NEVER,
        allows_unplanned=open_ended,
        properties=tuple(found),
    )


def _rule(rule: Any, file: str, pointer: str) -> dict[str, Any]:
    if not isinstance(rule, dict):
        raise unreadable(file, pointer, "must be an object")
    return rule


def _plan(value: dict[str, Any], source: str, events: list[Event], file: str) -> Plan:
    seen = set()
    for event in events:
        key = (event.type, event.name, event.version)
        if key in seen:
            raise unreadable(file, "", f"{event.type} {event.name!r} version {event.version} stands there twice")
        seen.add(key)
    name = _text(value, "display_name", "name")
    identity = _text(value, "id") or (_text(value, "name").rsplit("/", 1)[-1] if source == "segment" else "")
    return Plan(name=name, source=source, id=identity, description=_text(value, "description"), events=tuple(events))


def _segment(value: dict[str, Any], rules: list[Any], file: str) -> Plan:
    """Public API: rules[] with type, key, version and jsonSchema. Source: docs.segmentapis.com, Tracking Plans."""
    events = []
    for number, given in enumerate(rules):
        at = f"/rules/{number}"
        rule = _rule(given, file, at)
        kind = str(rule.get("type", "TRACK")).lower()
        name = str(rule.get("key") or "")
        if not name and kind == "track":
            raise unreadable(file, f"{at}/key", "a track rule needs the event's name")
        if "jsonSchema" not in rule:
            raise unreadable(file, at, "has no jsonSchema")
        events.append(_event(rule, rule["jsonSchema"], kind, name or kind, file, at, "/jsonSchema"))
    return _plan(value, "segment", events, file)


def _segment_old(value: dict[str, Any], rules: dict[str, Any], file: str) -> Plan:
    """Config API: rules.events[] with name, version and rules, beside rules.identify, rules.group and rules.global."""
    events = []
    for number, given in enumerate(rules.get("events") or []):
        at = f"/rules/events/{number}"
        rule = _rule(given, file, at)
        if not rule.get("name"):
            raise unreadable(file, f"{at}/name", "an event needs a name")
        events.append(_event(rule, rule.get("rules", {}), "track", str(rule["name"]), file, at, "/rules"))
    for key, kind in (("identify", "identify"), ("group", "group"), ("global", "common")):
        schema = rules.get(f"{key}_traits") or rules.get(key)
        if isinstance(schema, list) and schema:
            raise unreadable(file, f"/rules/{key}_traits", "is a list, a form that is not documented")
        if isinstance(schema, dict) and schema:
            events.append(_event({}, schema, kind, kind, file, f"/rules/{key}", ""))
    return _plan(value, "segment", events, file)


def _rudderstack(value: dict[str, Any], rules: list[Any], file: str) -> Plan:
    """RudderStack's API: events[] with eventType and rules of draft 2019-09."""
    events = []
    for number, given in enumerate(rules):
        at = f"/events/{number}"
        rule = _rule(given, file, at)
        kind = str(rule.get("eventType", "track")).lower()
        name = str(rule.get("name") or "")
        if not name and kind == "track":
            raise unreadable(file, f"{at}/name", "a track event needs a name")
        events.append(_event(rule, rule.get("rules", {}), kind, name or kind, file, at, "/rules"))
    return _plan(value, "rudderstack", events, file)


def _iglu(value: dict[str, Any], file: str) -> Plan:
    """One self-describing schema: vendor, name and version MODEL-REVISION-ADDITION. Source: docs.snowplow.io."""
    said = value["self"]
    missing = [n for n in ("vendor", "name", "version") if not isinstance(said.get(n), str)]
    if missing:
        raise unreadable(file, "/self", f"lacks {', '.join(missing)}")
    found = tuple(Reader(file, value).properties(value, "properties", ""))
    event = Event(
        name=f"{said['vendor']}/{said['name']}",
        type="entity",
        version=said["version"],
        description=_text(value, "description"),
        allows_unplanned=value.get("additionalProperties") is not False,
        properties=found,
    )
    return Plan(name=event.name, source="iglu", id=event.name, description=event.description, events=(event,))
