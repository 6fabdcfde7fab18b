"""Properties out of JSON Schema, drafts 04 to 2019-09, as far as tracking plans use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .model import MAX_PROPERTIES, TYPES, Property, unreadable

#: Deeper plans are refused: vendors allow three levels, and a schema that refers to itself has no end.
MAX_DEPTH = 24


class Reader:
    """Reads one document; `root` is what `$ref` refers to."""

    def __init__(self, file: str, root: Any) -> None:
        self.file, self.root = file, root
        self._made = 0

    def properties(self, schema: Any, section: str, pointer: str, path: tuple[str, ...] = ()) -> Iterator[Property]:
        """The properties of an object's schema, nested ones and those of array items after their parent."""
        if len(path) > MAX_DEPTH:
            raise unreadable(self.file, pointer, f"nested deeper than {MAX_DEPTH} levels")
        whole = self.resolved(schema, pointer)
        required = self._list(whole.get("required", []), f"{pointer}/required")
        # Draft 03 says `required: true` on the property itself; an empty object stands for none.
        named = whole.get("properties") or {}
        if not isinstance(named, dict):
            raise unreadable(self.file, f"{pointer}/properties", "must be an object")
        for name, inner in named.items():
            at = f"{pointer}/properties/{name.replace('~', '~0').replace('/', '~1')}"
            made = self.resolved(inner, at)
            yield self._one(made, section, at, (*path, name), name in required or made.get("required") is True)
            yield from self.properties(made, section, at, (*path, name))
            yield from self._items(made, section, at, (*path, name))

    def _items(self, schema: dict[str, Any], section: str, pointer: str, path: tuple[str, ...]) -> Iterator[Property]:
        items = schema.get("items")
        if not isinstance(items, dict) or not items:
            return
        if len(path) > MAX_DEPTH:
            raise unreadable(self.file, pointer, f"nested deeper than {MAX_DEPTH} levels")
        made = self.resolved(items, f"{pointer}/items")
        yield self._one(made, section, f"{pointer}/items", (*path, "[]"), False)
        yield from self.properties(made, section, f"{pointer}/items", (*path, "[]"))
        yield from self._items(made, section, f"{pointer}/items", (*path, "[]"))

    def _one(self, schema: dict[str, Any], section: str, at: str, path: tuple[str, ...], required: bool) -> Property:
        self._made += 1
        if self._made > MAX_PROPERTIES:
            # References multiply: a short document can say a property a million times.
            raise unreadable(self.file, at, f"has more than {MAX_PROPERTIES:,} properties")
        enum = schema.get("enum")
        if "const" in schema:
            enum = [schema["const"]]
        if enum is not None:
            enum = self._list(enum, f"{at}/enum")
        return Property(
            path=path,
            section=section,
            types=self.types(schema, at),
            required=required,
            enum=None if enum is None else tuple(json.dumps(v, ensure_ascii=False, sort_keys=True) for v in enum),
            pattern=self._text(schema, "pattern", at),
            format=self._text(schema, "format", at),
            description=self._text(schema, "description", at),
            minimum=self._number(schema, "minimum", at),
            maximum=self._number(schema, "maximum", at),
            min_length=self._count(schema, "minLength", at),
            max_length=self._count(schema, "maxLength", at),
        )

    def resolved(self, schema: Any, pointer: str) -> dict[str, Any]:
        """The schema with its `$ref` followed and its `allOf` laid over it."""
        seen = 0
        while isinstance(schema, dict) and "$ref" in schema:
            target, seen = str(schema["$ref"]), seen + 1
            if not target.startswith("#") or seen > MAX_DEPTH:
                reason = "refers to itself" if target.startswith("#") else f"refers to another document ({target})"
                raise unreadable(self.file, pointer, reason)
            schema = self._at(target, pointer)
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise unreadable(self.file, pointer, "must be a schema, that is an object")
        if not schema.get("allOf"):
            return schema
        made = {k: v for k, v in schema.items() if k != "allOf"}
        for number, part in enumerate(self._list(schema["allOf"], f"{pointer}/allOf")):
            if pointer.count("/allOf/") > MAX_DEPTH:
                raise unreadable(self.file, pointer, "refers to itself")
            inner = self.resolved(part, f"{pointer}/allOf/{number}")
            both = {**(made.get("properties") or {}), **(inner.get("properties") or {})}
            needed = [*(made.get("required") or []), *(inner.get("required") or [])]
            made = {
                **inner,
                **made,
                **({"properties": both} if both else {}),
                **({"required": needed} if needed else {}),
            }
        return made

    def types(self, schema: dict[str, Any], pointer: str) -> tuple[str, ...]:
        """The types that a value may have; `any` where the schema leaves it open."""
        given = schema.get("type")
        if given is None:
            parts = schema.get("anyOf") or schema.get("oneOf") or []
            found = {t for n, s in enumerate(parts) for t in self.types(self.resolved(s, pointer), f"{pointer}/{n}")}
            return ("any",) if not found or "any" in found else tuple(sorted(found))
        names = [given] if isinstance(given, str) else self._list(given, f"{pointer}/type")
        for name in names:
            if name not in TYPES:
                raise unreadable(self.file, f"{pointer}/type", f"{name!r} is no type; known: {', '.join(TYPES)}")
        return tuple(sorted(set(names))) or ("any",)

    def _at(self, target: str, pointer: str) -> Any:
        here = self.root
        for part in [p for p in target.removeprefix("#").split("/") if p]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(here, dict) or key not in here:
                raise unreadable(self.file, pointer, f"refers to {target}, which is not there")
            here = here[key]
        return here

    def _list(self, value: Any, pointer: str) -> list[Any]:
        if isinstance(value, bool):
            return []
        if not isinstance(value, list):
            raise unreadable(self.file, pointer, "must be a list")
        return value

    def _text(self, schema: dict[str, Any], name: str, pointer: str) -> str:
        value = schema.get(name) or ""
        if not isinstance(value, str):
            raise unreadable(self.file, f"{pointer}/{name}", "must be a text")
        return value

    def _number(self, schema: dict[str, Any], name: str, pointer: str) -> float | None:
        value = schema.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise unreadable(self.file, f"{pointer}/{name}", "must be a number")
        return value

    def _count(self, schema: dict[str, Any], name: str, pointer: str) -> int | None:
        value = self._number(schema, name, pointer)
        return None if value is None else int(value)
