"""One tracking plan, whatever format it came in, and what differs between two versions of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ...errors import ConfigurationError

#: Event types of Segment's calls; `common` applies to every call, `entity` is a self-describing Iglu schema.
EVENT_TYPES = ("track", "identify", "group", "page", "screen", "alias", "common", "entity")
#: JSON Schema's types; a date-time is a string with that format.
TYPES = ("any", "array", "boolean", "integer", "null", "number", "object", "string")
MAX_BYTES = 15_000_000
#: Of a plan, nested ones included; Segment takes fewer than 100,000 rows.
MAX_PROPERTIES = 100_000


def unreadable(file: str, where: str, reason: str) -> ConfigurationError:
    """The error for a plan that cannot be read: file, line, row or pointer, and why."""
    place = f"{file}, {where}" if where else file
    return ConfigurationError(f"{place}: {reason}.", hint="Correct the file and load the plan again.", origin="source")


@dataclass(frozen=True, kw_only=True)
class Property:
    """What the plan says of one property."""

    #: Names from the outside in; `[]` stands for the items of an array.
    path: tuple[str, ...]
    #: Which part of the call: properties, traits or context.
    section: str = "properties"
    #: One or more of `TYPES`.
    types: tuple[str, ...] = ("any",)
    required: bool = False
    #: Allowed values as JSON texts, so that 1, true and "1" stay apart; None: any value.
    enum: tuple[str, ...] | None = None
    pattern: str = ""
    format: str = ""
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None

    @property
    def name(self) -> str:
        """The path as people write it: products[].price."""
        return ".".join(self.path).replace(".[]", "[]")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event, or the rules of identify and group calls."""

    name: str
    type: str = "track"
    #: The rule's version; several versions of a name may stand beside each other.
    version: str = "1"
    description: str = ""
    deprecated: bool = False
    #: Whether properties beyond the planned ones are allowed.
    allows_unplanned: bool = True
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One version of a tracking plan."""

    name: str
    #: segment, amplitude, rudderstack, iglu or plain.
    source: str
    id: str = ""
    description: str = ""
    events: tuple[Event, ...] = field(default=())

    @property
    def version(self) -> str:
        """Twelve digits that change whenever an event or property does, whatever order the file lists them in."""
        text = json.dumps([asdict(e) for e in _ordered(self.events)], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    @property
    def size(self) -> int:
        """How many properties its events have, nested ones included."""
        return sum(len(event.properties) for event in self.events)

    def to_json(self) -> dict[str, Any]:
        """As kept in the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """The reverse of :meth:`to_json`, from JSON's lists too."""
        events = tuple(
            Event(
                **{k: v for k, v in event.items() if k != "properties"},
                properties=tuple(_property_from(p) for p in event["properties"]),
            )
            for event in value["events"]
        )
        return cls(**{k: v for k, v in value.items() if k != "events"}, events=events)


def _property_from(value: Mapping[str, Any]) -> Property:
    listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return Property(**listed)


def _ordered(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda e: (e.type, e.name, e.version))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One change between two versions, in words."""

    #: added, removed or changed.
    kind: str
    event: str
    #: Empty where the event itself is meant.
    property: str
    text: str


def differences(old: Plan, new: Plan) -> list[Difference]:
    """What changed from one version to the next, by event and property."""
    before = {(e.type, e.name, e.version): e for e in old.events}
    after = {(e.type, e.name, e.version): e for e in new.events}
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is None:
            found.append(Difference(kind="added", event=key[1], property="", text=f"{key[0]} event is new"))
        elif now is None:
            found.append(Difference(kind="removed", event=key[1], property="", text=f"{key[0]} event is gone"))
        else:
            found += _of_event(was, now)
    return found


def _of_event(was: Event, now: Event) -> list[Difference]:
    found = [
        Difference(kind="changed", event=was.name, property="", text=text)
        for text in _values(was, now, ("description", "deprecated", "allows_unplanned"))
    ]
    before = {(p.section, p.path): p for p in was.properties}
    after = {(p.section, p.path): p for p in now.properties}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is not None and new is not None:
            names = tuple(f for f in Property.__dataclass_fields__ if f not in ("path", "section"))
            found += [
                Difference(kind="changed", event=was.name, property=old.name, text=text)
                for text in _values(old, new, names)
            ]
        elif new is not None:
            text = f"{' or '.join(new.types)}, {'required' if new.required else 'optional'}"
            found.append(Difference(kind="added", event=was.name, property=new.name, text=text))
        elif old is not None:
            found.append(Difference(kind="removed", event=was.name, property=old.name, text="no longer planned"))
    return found


def _values(was: object, now: object, names: tuple[str, ...]) -> list[str]:
    return [
        f"{name.replace('_', ' ')}: {_shown(getattr(was, name))} → {_shown(getattr(now, name))}"
        for name in names
        if getattr(was, name) != getattr(now, name)
    ]


def _shown(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
