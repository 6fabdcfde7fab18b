"""From Drift's JSON to columns, without losing a digit.

Numbers keep Drift's own spelling, in a column of their own as inside JSON. A nested value becomes JSON text: keys in
Drift's order, no blanks, characters as they are; of keys that come twice in one object the last one counts. What has
no column of its own is kept in ``_extra``. A null and a value that is absent are both NULL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from novade_core.errors import ConfigurationError, ProtocolBroken
from novade_core.streams import Column, ColumnType, Stream, StreamSchema

_MILLISECONDS = re.compile(r"-?[0-9]{1,15}")


class Number(str):
    """A JSON number as it was spelled."""

    __slots__ = ()


def parse(text: str | bytes) -> Any:
    """JSON with its numbers as :class:`Number`; NaN and Infinity, which are no JSON, become texts."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=str)


def dump(value: Any) -> str:
    """The reverse of :func:`parse`. Half of a surrogate pair and NUL stay escaped, since no column could hold them."""
    # Loops, because a comprehension is one more frame per level of what nests.
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if text.isascii() or _is_whole(text) else json.dumps(value)
    if isinstance(value, dict):
        members = []
        for key, member in value.items():
            members.append(f"{dump(key)}:{dump(member)}")
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        members = []
        for member in value:
            members.append(dump(member))
        return "[" + ",".join(members) + "]"
    return "null" if value is None else "true" if value is True else "false"


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def instant(value: Any) -> int | None:
    """Epoch milliseconds; None where it is none."""
    return int(value) if isinstance(value, Number) and _MILLISECONDS.fullmatch(value) else None


def changed(record: Mapping[str, Any], updated: str = "updatedAt", created: str = "createdAt") -> Any:
    """When the record changed last, as Drift spelled it: its update, else its creation, else nothing."""
    value = record.get(updated)
    return record.get(created) if value is None else value


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column and where its value stands in the record; an empty path is a value of ours."""

    column: Column
    path: tuple[str, ...]


_T = ColumnType
_CHANGED = "updatedAt, or createdAt where that is absent; tells versions"


def _fields(*listed: tuple[str, ColumnType], changed: str = _CHANGED) -> tuple[Field, ...]:
    """``author.id`` becomes the column ``author_id``; names that begin with _ are ours."""
    found = []
    for name, kind in (*listed, ("_extra", _T.JSON), ("_changed_at", _T.TIMESTAMP)):
        path = () if name.startswith("_") else tuple(name.split("."))
        note = {"_changed_at": changed, "_extra": "fields without a column of their own"}.get(name, "")
        found.append(Field(column=Column(name=name.replace(".", "_"), type=kind, note=note), path=path))
    return tuple(found)


#: The columns of each stream. Source: the vendor's models of conversation, message, contact, user and account.
FIELDS: Mapping[str, tuple[Field, ...]] = {
    "conversations": _fields(
        ("id", _T.BIGINT),
        ("contactId", _T.BIGINT),
        ("inboxId", _T.BIGINT),
        ("status", _T.TEXT),
        ("createdAt", _T.TIMESTAMP),
        ("updatedAt", _T.TIMESTAMP),
        ("participants", _T.JSON),
        ("conversationTags", _T.JSON),
        ("relatedPlaybookId", _T.TEXT),
    ),
    "messages": _fields(
        ("id", _T.BIGINT),
        ("orgId", _T.BIGINT),
        ("conversationId", _T.BIGINT),
        ("body", _T.TEXT),
        ("type", _T.TEXT),
        ("author.type", _T.TEXT),
        ("author.id", _T.BIGINT),
        ("author.bot", _T.BOOLEAN),
        ("createdAt", _T.TIMESTAMP),
        ("editedMessageId", _T.BIGINT),
        ("editType", _T.TEXT),
        ("buttons", _T.JSON),
        ("attachments", _T.JSON),
        ("attributes", _T.JSON),
        ("context", _T.JSON),
        changed="of the conversation, since a message has none; tells versions",
    ),
    "contacts": _fields(
        ("id", _T.BIGINT),
        ("createdAt", _T.TIMESTAMP),
        ("attributes", _T.JSON),
        ("_deleted", _T.BOOLEAN),
        ("_blocked", _T.BOOLEAN),
        changed="of the newest conversation that names the contact; tells versions",
    ),
    "users": _fields(
        ("id", _T.BIGINT),
        ("orgId", _T.BIGINT),
        *((name, _T.TEXT) for name in ("name", "alias", "email", "phone", "locale", "availability", "role")),
        ("timeZone", _T.TEXT),
        ("avatarUrl", _T.TEXT),
        ("verified", _T.BOOLEAN),
        ("bot", _T.BOOLEAN),
        ("createdAt", _T.TIMESTAMP),
        ("updatedAt", _T.TIMESTAMP),
    ),
    "accounts": _fields(
        ("accountId", _T.TEXT),
        ("ownerId", _T.BIGINT),
        ("name", _T.TEXT),
        ("domain", _T.TEXT),
        ("deleted", _T.BOOLEAN),
        ("targeted", _T.BOOLEAN),
        ("createDateTime", _T.TIMESTAMP),
        ("updateDateTime", _T.TIMESTAMP),
        ("customProperties", _T.JSON),
        changed="updateDateTime, or createDateTime, or 1970 where both are absent; tells versions",
    ),
}


def schema(stream: Stream) -> StreamSchema:
    """The stream's columns. Raises ConfigurationError where ``fields`` names one that does not exist."""
    known = {f.column.name: f.column for f in FIELDS[stream.object_name]}
    if unknown := sorted(set(stream.fields) - known.keys()):
        raise ConfigurationError(
            f"{stream.id} has no field {', '.join(unknown)}, which novade.toml lists.",
            hint=f"Known are: {', '.join(known)}.",
        )
    needed = {*stream.primary_key, stream.cursor_field, stream.created_field, stream.deleted_field, *stream.fields}
    if not stream.fields:
        return StreamSchema(columns=tuple(known.values()))
    skipped = dict.fromkeys((n for n in known if n not in needed), "not among the stream's fields")
    return StreamSchema(columns=tuple(c for n, c in known.items() if n in needed), skipped=skipped)


class Cells:
    """Rows of text for the chosen columns of a stream."""

    def __init__(self, stream: Stream, columns: Sequence[Column]) -> None:
        fields = FIELDS[stream.object_name]
        chosen = {c.name for c in columns}
        self._fields = [f for f in fields if f.column.name in chosen]
        self._known = {f.path[0] for f in fields if f.path}
        self._parents = {
            f.path[0]: {g.path[1] for g in fields if g.path[:1] == f.path[:1]} for f in fields if f.path[1:]
        }
        self.header = tuple(f.column.name for f in self._fields)

    def row(self, record: Any, ours: Mapping[str, str | None]) -> list[str | None]:
        """One record; ``ours`` holds the values of our columns. Raises ProtocolBroken where it is no object."""
        if not isinstance(record, dict):
            raise ProtocolBroken(f"Drift sent {dump(record)[:40]} where a record should be.")
        own = {**ours, "_extra": self._extra(record)}
        return [cell(_at(record, f.path), f.column.type) if f.path else own.get(f.column.name) for f in self._fields]

    def _extra(self, record: Mapping[str, Any]) -> str | None:
        """What has no column of its own: other fields, and other members of an object that was taken apart."""
        rest = {name: value for name, value in record.items() if name not in self._known}
        for name, taken in self._parents.items():
            value = record.get(name)
            if isinstance(value, dict):
                value = {k: v for k, v in value.items() if k not in taken}
            if value:
                rest[name] = value
        return dump(rest) if rest else None


def _at(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = record
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def cell(value: Any, kind: ColumnType) -> str | None:
    """A value as the text that the engine types; an empty text is kept where the column is text."""
    if value is None:
        return None
    if kind is ColumnType.JSON:
        return dump(value)
    if isinstance(value, str):
        return str(value) if value or kind is ColumnType.TEXT else None
    return dump(value)
