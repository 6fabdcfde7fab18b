"""Names and types of columns that come from files without a schema."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

from .catalogue import standard_org
from .schema import NUMERIC, Field, words

_DATE = re.compile(r"\d{4}-\d\d-\d\d$")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+0000|\+00:00)?$")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?$")
#: Digits that are names, not amounts.
_TEXTUAL = re.compile(r"phone|fax|postal|zip|code|number|key|external|ext_id|duns|sic|name|street|_id__c$|id$", re.I)


@cache
def _spellings() -> dict[str, str]:
    """Field names of the catalogue by their letters alone: stagename -> StageName."""
    return {f.name.lower().replace("_", ""): f.name for t in standard_org().values() for f in t.fields if not f.custom}


def column_name(header: str, exported: bool) -> str:
    """The API name behind a CSV header; `exported` files write every name in snake_case, custom ones with _c."""
    if header.endswith(("__c", "__r")) or header.lower() != header:
        return header
    if exported and header.endswith("_c"):
        return "_".join(part.capitalize() for part in header[:-2].split("_") if part) + "__c"
    squeezed = header.replace("_", "")
    if squeezed in _spellings():
        return _spellings()[squeezed]
    if exported or "_" not in header:
        return "".join(part.capitalize() for part in header.split("_"))
    return f"{header}__c"


def text_of(value: Any) -> str | None:
    """A file's value as text for the database."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _MOMENT.match(text):
        return re.sub(r"(Z|\+0000|\+00:00)$", "", text).replace("T", " ")
    return text


def infer_field(name: str, values: list[Any], model: Field | None, target: str | None) -> Field:
    """A field for a column: the catalogue's when its values fit, else judged by the values."""
    texts = [t for v in values if (t := text_of(v)) is not None]
    longest = max((len(t) for t in texts), default=0)
    if model is not None and _fits(model, texts):
        if model.length and longest > model.length:
            model = replace(model, length=max(255, longest))
        return replace(model, formula=None, seed=None)
    label = words(name)
    if target is not None and all(len(t) == 18 for t in texts) and (texts or name.endswith("Id")):
        relation = name[:-2] if name.endswith("Id") else name.replace("__c", "__r")
        return Field(name=name, type="reference", length=18, label=label, reference_to=(target,), relationship=relation)
    if texts and all(t.lower() in ("true", "false") for t in texts):
        return Field(name=name, type="boolean", label=label, nillable=False)
    if texts and all(_DATE.match(t) for t in texts):
        return Field(name=name, type="date", label=label)
    if texts and all(_MOMENT.match(t) for t in texts):
        return Field(name=name, type="datetime", label=label)
    if texts and not _TEXTUAL.search(name) and all(_NUMBER.match(t) and not re.match(r"-?0\d", t) for t in texts):
        scale = max((len(t.partition(".")[2]) for t in texts), default=0)
        return Field(name=name, type="double", precision=18, scale=min(scale, 9), label=label)
    if longest > 255:
        return Field(name=name, type="textarea", length=32_000, label=label, extra="plaintextarea")
    return Field(name=name, type="string", length=255, label=label)


def _fits(model: Field, texts: list[str]) -> bool:
    if model.type == "boolean":
        return all(t.lower() in ("true", "false") for t in texts)
    if model.type in NUMERIC:
        return all(_NUMBER.match(t) for t in texts)
    if model.type in ("date", "datetime"):
        return all(_DATE.match(t) or _MOMENT.match(t) for t in texts)
    if model.type == "reference":
        return all(len(t) == 18 for t in texts)
    return model.type not in ("address", "location")
