"""Taxonomy API: the plan as Amplitude knows it, event types and the properties of each.

Source: amplitude.com/docs, "Taxonomy API". It belongs to the Enterprise plan; a GET costs 1 of 7,200 in an hour, and 4
at once are allowed: here calls follow each other. Hidden and deleted events are not listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from novade_core.errors import ProtocolBroken
from novade_core.sources.amplitude.client import Client
from novade_core.sources.amplitude.faults import NoData, not_enterprise

_PREFIX = "/api/2/taxonomy/"


def event_types(client: Client) -> list[dict[str, Any]]:
    """All event types that are planned. Raises AccessMissing where the plan is none with a taxonomy."""
    return _list(client, "event", "listing event types", None)


def event_properties(client: Client) -> Iterator[dict[str, Any]]:
    """Properties that all events share, with an empty ``event_type``, then those of each event; a call for each."""
    doing = "listing event properties"
    for row in _list(client, "event-property", doing, None):
        yield {**row, "event_type": row.get("event_type") or ""}
    for event in event_types(client):
        name = str(event.get("event_type"))
        for row in _list(client, "event-property", f"{doing} of {name[:80]!r}", name):
            yield {**row, "event_type": name}


def line_of(row: dict[str, Any]) -> bytes:
    """A definition as a line; escaped throughout, so that it is one line of plain characters."""
    return json.dumps(row).encode() + b"\n"


def _list(client: Client, kind: str, doing: str, event: str | None) -> list[dict[str, Any]]:
    # Documented as a form's body, although the method is GET.
    form = {} if event is None else {
        "data": urlencode({"event_type": event}), "headers": {"Content-Type": "application/x-www-form-urlencoded"}
    }  # fmt: skip
    try:
        answer = client.json(_PREFIX + kind, doing, **form)
    except NoData as error:
        raise not_enterprise(doing) from error
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not answer.get("success"):
        raise ProtocolBroken(f"Amplitude's answer holds no list of definitions while {doing}.")
    return rows
