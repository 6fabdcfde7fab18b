"""RudderStack's tracking plans as code: a project of YAML files that refer to each other, in both generations.

Source: rudderlabs/rudder-iac, cli/tests/testdata/project and cli/internal/providers/datacatalog/docs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .json_schema import MAX_DEPTH
from .model import EVENT_TYPES, MAX_PROPERTIES, TYPES, Event, Plan, Property, unreadable
from .yaml_text import load

#: Kind of a file -> the list in its spec that others refer to. Files of other kinds hold no plan.
_LISTS = {"events": "events", "properties": "properties", "custom-types": "types"}
_PLANS = ("tp", "tracking-plan")
#: How a reference of the second generation begins -> kind.
_SHORT = {"event": "events", "property": "properties", "custom-type": "custom-types"}


def parse_project(files: Mapping[str, bytes]) -> list[tuple[str, Plan]]:
    """The plans of a project with the file of each; raises ConfigurationError that names file and place.

    Properties of variants hold under a condition, so they are optional here. Variables such as ``{{ .NAME }}`` stay
    as they are: their values are known where the project is applied.
    """
    project = _Project()
    plans = []
    for file in sorted(files):
        for document in load(files[file], file):
            if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
                raise unreadable(file, "", "is no file of a RudderStack project: it has no kind")
            spec = document.get("spec")
            if document["kind"] in (*_LISTS, *_PLANS) and not isinstance(spec, dict):
                raise unreadable(file, "spec", "must be an object")
            if document["kind"] in _PLANS:
                plans.append((file, document))
            elif document["kind"] in _LISTS:
                project.add(document, file)
    return [(file, project.plan(document, file)) for file, document in plans]


class _Project:
    """What the files define, by kind and id."""

    def __init__(self) -> None:
        self._defined: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
        self._made = 0

    def add(self, document: dict[str, Any], file: str) -> None:
        kind = document["kind"]
        group = _object(document.get("metadata") or {}, file, "metadata").get("name", "")
        for number, given in enumerate(_list(document["spec"].get(_LISTS[kind]), file, f"spec/{_LISTS[kind]}")):
            at = f"spec/{_LISTS[kind]}/{number}"
            one = _object(given, file, at)
            if not isinstance(one.get("id"), str):
                raise unreadable(file, f"{at}/id", "must be a text")
            for key in {f"{group}/{one['id']}", one["id"]}:
                known = self._defined.get((kind, key))
                # Ids are unique in a project of the second generation, and in a file of the first one.
                if known is not None and ("/" in key or known[1] == file):
                    raise unreadable(file, at, f"defines {one['id']!r} twice, here and in {known[1]}")
                self._defined.setdefault((kind, key), (one, file))

    def find(self, reference: Any, wanted: str, file: str, at: str) -> dict[str, Any]:
        """What ``#/events/file/id`` or ``#event:id`` refers to."""
        if isinstance(reference, dict):
            reference = reference.get("$ref")
        text = str(reference or "")
        short, colon, name = text.removeprefix("#").partition(":")
        if colon and not text.startswith("#/"):
            kind, key = _SHORT.get(short, short), name
        else:
            kind, _, key = text.removeprefix("#/").partition("/")
        if not text.startswith("#") or kind != wanted or not key:
            raise unreadable(file, at, f"{text!r} is no reference to {wanted}")
        if (kind, key) not in self._defined:
            raise unreadable(file, at, f"refers to {text}, which is not there")
        return self._defined[kind, key][0]

    def plan(self, document: dict[str, Any], file: str) -> Plan:
        spec = document["spec"]
        group = str(_object(document.get("metadata") or {}, file, "metadata").get("name", ""))
        name = str(spec.get("display_name") or spec.get("name") or group)
        events: dict[tuple[str, str], Event] = {}
        for number, given in enumerate(_list(spec.get("rules"), file, "spec/rules")):
            at = f"spec/rules/{number}"
            event = self._event(_object(given, file, at), file, at)
            if (event.type, event.name) in events:
                raise unreadable(file, at, f"{event.type} {event.name!r} has a rule already")
            events[event.type, event.name] = event
        identity = str(spec.get("id") or group)
        about = str(spec.get("description") or "")
        return Plan(name=name, source="rudderstack", id=identity, description=about, events=tuple(events.values()))

    def _event(self, rule: dict[str, Any], file: str, at: str) -> Event:
        found = self.find(rule.get("event"), "events", file, f"{at}/event")
        kind = str(found.get("event_type") or "track").lower()
        if kind not in EVENT_TYPES:
            raise unreadable(file, at, f"{kind!r} is no type of event; known: {', '.join(EVENT_TYPES)}")
        name = str(found.get("name") or "")
        if not name and kind == "track":
            raise unreadable(file, at, "refers to a track event without a name")
        section = "traits" if kind in ("identify", "group") else "properties"
        made: dict[tuple[str, ...], Property] = {}
        for one in self._listed(rule.get("properties"), section, (), file, f"{at}/properties"):
            if one.path in made:
                raise unreadable(file, f"{at}/properties", f"names the property {one.name!r} twice")
            made[one.path] = one
        for number, variant in enumerate(_list(rule.get("variants"), file, f"{at}/variants")):
            where = f"{at}/variants/{number}"
            whole = _object(variant, file, where)
            cases = [*_list(whole.get("cases"), file, f"{where}/cases")]
            cases += [{"properties": whole.get("default")}] if whole.get("default") else []
            for case in cases:
                listed = _object(case, file, f"{where}/cases").get("properties")
                for one in self._listed(listed, section, (), file, f"{where}/cases"):
                    made.setdefault(one.path, _optional(one))
        allowed = rule.get("additional_properties")
        if allowed is None and isinstance(rule.get("event"), dict):
            allowed = rule["event"].get("allow_unplanned")
        return Event(
            name=name or kind,
            type=kind,
            description=str(found.get("description") or ""),
            allows_unplanned=allowed is not False,
            properties=tuple(made.values()),
        )

    def _listed(self, given: Any, section: str, path: tuple[str, ...], file: str, at: str) -> Iterator[Property]:
        """The properties of a list of references, nested ones after their parent."""
        if len(path) > MAX_DEPTH:
            raise unreadable(file, at, f"nested deeper than {MAX_DEPTH} levels, or refers to itself")
        for number, item in enumerate(_list(given, file, at)):
            where = f"{at}/{number}"
            entry = _object(item, file, where)
            one = self.find(entry.get("property") or entry.get("$ref"), "properties", file, where)
            name = one.get("name")
            if not isinstance(name, str) or not name:
                raise unreadable(file, where, "refers to a property without a name")
            own = (*path, name)
            made, inner = self._property(one, section, own, entry.get("required") is True, file, where)
            yield made
            yield from inner
            if entry.get("properties"):
                below = (*own, "[]") if "array" in made.types and "object" not in made.types else own
                yield from self._listed(entry["properties"], section, below, file, f"{where}/properties")

    def _property(
        self, one: dict[str, Any], section: str, path: tuple[str, ...], required: bool, file: str, at: str
    ) -> tuple[Property, list[Property]]:
        """A property and what its custom type or its items bring along."""
        if len(path) > MAX_DEPTH:
            raise unreadable(file, at, f"nested deeper than {MAX_DEPTH} levels, or refers to itself")
        self._made += 1
        if self._made > MAX_PROPERTIES:
            raise unreadable(file, at, f"has more than {MAX_PROPERTIES:,} properties")
        config = _object(one.get("config") or one.get("propConfig") or {}, file, f"{at}/config")
        types = _types(one)
        nested: list[Property] = []
        if len(types) == 1 and types[0].startswith("#"):
            custom = self.find(types[0], "custom-types", file, at)
            types = _types(custom)
            config = {**_object(custom.get("config") or {}, file, f"{at}/config"), **config}
            nested += self._listed(custom.get("properties"), section, path, file, at)
        if unknown := next((t for t in types if t not in TYPES), None):
            raise unreadable(file, at, f"type is {unknown!r}; known: {', '.join(TYPES)}")
        items = one.get("item_types") or one.get("item_type") or config.get("itemTypes") or config.get("item_types")
        if items:
            item = {"type": items if isinstance(items, str) else None, "types": items}
            made, inner = self._property(item, section, (*path, "[]"), False, file, at)
            nested += [made, *inner]
        return _made(config, one, section, path, types, required, file, at), nested


def _made(
    config: dict[str, Any],
    one: dict[str, Any],
    section: str,
    path: tuple[str, ...],
    types: tuple[str, ...],
    required: bool,
    file: str,
    at: str,
) -> Property:
    enum = config.get("enum")
    shortest, longest = (_number(config, names, file, at) for names in (_MIN_LENGTH, _MAX_LENGTH))
    return Property(
        path=path,
        section=section,
        types=types,
        required=required,
        enum=None
        if enum is None
        else tuple(json.dumps(v, ensure_ascii=False, sort_keys=True) for v in _list(enum, file, f"{at}/config/enum")),
        pattern=str(config.get("pattern") or ""),
        format=str(config.get("format") or ""),
        description=str(one.get("description") or ""),
        minimum=_number(config, ("minimum",), file, at),
        maximum=_number(config, ("maximum",), file, at),
        min_length=None if shortest is None else int(shortest),
        max_length=None if longest is None else int(longest),
    )


_MIN_LENGTH, _MAX_LENGTH = ("min_length", "minLength"), ("max_length", "maxLength")


def _optional(one: Property) -> Property:
    return replace(one, required=False)


def _types(one: dict[str, Any]) -> tuple[str, ...]:
    given = one.get("types") or one.get("type")
    names = given if isinstance(given, list) else str(given or "any").split(",")
    found = {str(name).strip() or "any" for name in names}
    return ("any",) if "any" in found else tuple(sorted(found))


def _number(config: dict[str, Any], names: tuple[str, ...], file: str, at: str) -> float | None:
    value = next((config[name] for name in names if config.get(name) is not None), None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise unreadable(file, f"{at}/config/{names[0]}", "must be a number")
    return value


def _object(value: Any, file: str, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unreadable(file, at, "must be an object")
    return value


def _list(value: Any, file: str, at: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise unreadable(file, at, "must be a list")
    return value
