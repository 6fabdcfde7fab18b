"""From describe to columns: every field type, what is not loaded, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from novade_core.errors import ConfigurationError
from novade_core.streams import Column, ColumnType, Stream, StreamSchema

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")

#: Types whose values are text. Unknown types are text too, with a note: a new type must not stop a sync.
_TEXT = frozenset(
    "id reference string textarea picklist multipicklist combobox email phone url encryptedstring anyType "
    "complexvalue masterrecord datacategorygroupreference".split()
)

_PLAIN = {
    "boolean": ColumnType.BOOLEAN,
    "int": ColumnType.INTEGER,
    "long": ColumnType.BIGINT,
    "double": ColumnType.DOUBLE,  # Salesforce itself holds xsd:double
    "percent": ColumnType.DOUBLE,
    "date": ColumnType.DATE,
    "datetime": ColumnType.TIMESTAMP,
    "time": ColumnType.TIME,
    "json": ColumnType.JSON,
}

_SKIPPED = {
    "address": "compound; its parts are loaded as columns of their own",
    "location": "compound; its latitude and longitude are loaded as columns of their own",
    "base64": "file content, which neither query nor Bulk returns",
}


def is_name(text: str | None) -> bool:
    """Whether a text can be an API name."""
    return text is not None and _NAME.fullmatch(text) is not None


def column(field: Mapping[str, Any]) -> Column | str:
    """The column for one described field, or the reason why it is not loaded."""
    kind = str(field.get("type"))
    name = str(field["name"])
    if kind in _SKIPPED:
        return _SKIPPED[kind]
    if field.get("deprecatedAndHidden"):
        return "deprecated and hidden"
    note = "formula: a change does not move SystemModstamp" if field.get("calculated") else ""
    if kind in _PLAIN:
        return Column(name=name, type=_PLAIN[kind], note=note)
    if kind == "currency":
        precision, scale = int(field.get("precision") or 0), int(field.get("scale") or 0)
        # A formula reports precision 18 whatever it computes, so only stored amounts are exact decimals.
        if field.get("calculated") or not 0 < precision <= 38 or not 0 <= scale <= precision:
            return Column(name=name, type=ColumnType.DOUBLE, note=note)
        return Column(name=name, type=ColumnType.DECIMAL, precision=precision, scale=scale, note=note)
    if kind not in _TEXT:
        note = f"unknown type {kind}, kept as text"
    return Column(name=name, type=ColumnType.TEXT, length=int(field.get("length") or 0) or None, note=note)


def schema(stream: Stream, fields: Sequence[Mapping[str, Any]]) -> StreamSchema:
    """Columns in the order of describe. Raises ConfigurationError where a field that the stream needs is hidden."""
    needed = {*stream.primary_key}
    needed |= {f for f in (stream.cursor_field, stream.created_field, stream.deleted_field) if f}
    columns: list[Column] = []
    skipped: dict[str, str] = {}
    for field in fields:
        name = str(field["name"])
        if not is_name(name):
            skipped[name] = "not an API name"
            continue
        if stream.fields and name not in stream.fields and name not in needed:
            skipped[name] = "not among the stream's fields"
            continue
        made = column(field)
        if isinstance(made, Column):
            columns.append(made)
        else:
            skipped[name] = made
    shown = {c.name for c in columns}
    hidden = sorted(needed - shown)
    if hidden:
        raise ConfigurationError(
            f"Salesforce {stream.object_name} shows no field {', '.join(hidden)}, which the sync needs.",
            hint="Give the integration user read access to it; an object without it cannot be synced.",
            origin="source",
        )
    unknown = sorted(set(stream.fields) - shown - skipped.keys())
    if unknown:
        raise ConfigurationError(
            f"Salesforce {stream.object_name} shows no field {', '.join(unknown)}, which novade.toml lists.",
            hint="Correct the stream's fields, or give the integration user read access to them.",
            origin="source",
        )
    return StreamSchema(columns=tuple(columns), skipped=skipped)
