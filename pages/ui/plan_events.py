"""The events of a plan: searched, listed, one with its properties, and all of them for a spreadsheet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from novade_core.sources.tracking_plan.model import Event, Plan, Property
from pages.ui import status, tables, words
from pages.ui.markup import Markup, join, link, show, tag
from pages.ui.tables import Column

#: Events and properties that are drawn at most; the search narrows them, the download holds all.
_DRAWN = 200
_EVENTS = (
    Column("Event", "nv-tight"),
    Column("Properties", "nv-right"),
    Column("Required", "nv-wide", "Properties that each event must have"),
    Column("Unplanned", "nv-tight nv-extra", "Whether properties beyond the planned ones are allowed"),
    Column("Description", "nv-extra"),
)
_PROPERTIES = (
    Column("Property", "nv-tight"),
    Column("Type", "nv-tight"),
    Column("Required", "nv-tight"),
    Column("Allowed", "nv-wide", "Values, pattern, format and limits"),
    Column("Description", "nv-extra"),
)


def draw(plan: Plan, here: str) -> None:
    """Search and list. ``here`` is the address of the version."""
    wanted = st.query_params.get("text", "")
    found = matching(plan, wanted)
    status.section("Events")
    st.session_state["plan_text"] = wanted
    st.text_input(
        "Search events and properties",
        key="plan_text",
        on_change=_to_url,
        type="search",
        max_chars=200,
        placeholder="In names and descriptions",
    )
    if not plan.events:
        show(tag("p", "This version plans no event.", class_="nv-aside"))
    elif not found:
        show(tag("p", f"No event or property holds “{wanted}”.", class_="nv-aside"))
    else:
        if wanted:
            count = f"{len(found):,} of {words.counted(len(plan.events), 'event')}"
            show(tag("p", f"{count} {'holds' if len(found) == 1 else 'hold'} “{wanted}”.", class_="nv-aside"))
        show(tables.table(_EVENTS, [_row(event, wanted, here) for event in found[:_DRAWN]], caption="Planned events"))
        if len(found) > _DRAWN:
            show(tag("p", f"{len(found) - _DRAWN:,} more events; search, or download them.", class_="nv-aside"))
    tables.download("Download CSV", lambda: csv_of(plan), file_name="tracking-plan.csv", key="plan_csv")


def _to_url() -> None:
    if st.session_state["plan_text"]:
        st.query_params["text"] = st.session_state["plan_text"]
    else:
        st.query_params.pop("text", None)


def matching(plan: Plan, wanted: str) -> list[Event]:
    """Events whose name, description or properties hold the text, by name; all of them for an empty one."""
    text = wanted.strip().casefold()
    chosen = [event for event in plan.events if not text or text in _words(event) or _hits(event, text)]
    return sorted(chosen, key=lambda event: (event.name.casefold(), event.type, event.version))


def _words(event: Event) -> str:
    return f"{event.name}\n{event.description}".casefold()


def _hits(event: Event, text: str) -> list[Property]:
    return [one for one in event.properties if text in f"{one.name}\n{one.description}".casefold()]


def _row(event: Event, wanted: str, here: str) -> tuple[Any, ...]:
    required = [one.name for one in event.properties if one.required and len(one.path) == 1]
    text = wanted.strip().casefold()
    hits = _hits(event, text) if text else []
    said: list[Any] = [_some(required)]
    if hits:
        said.append(tag("div", "Found: ", _some([one.name for one in hits]), class_="nv-mute-text"))
    return (
        [link(event.name, _address(here, event)), *_marks(event)],
        words.number(len(event.properties)),
        said,
        "allowed" if event.allows_unplanned else "not allowed",
        event.description or words.DASH,
    )


def _marks(event: Event) -> list[Markup]:
    """What sets an event apart from an ordinary one, in words."""
    marks = [] if event.type == "track" else [event.type]
    marks += [] if event.version == "1" else [f"version {event.version}"]
    marks += ["no longer to be sent"] if event.deprecated else []
    return [tag("div", ", ".join(marks), class_="nv-mute-text")] if marks else []


def _some(names: Sequence[str]) -> Markup | str:
    if not names:
        return words.DASH
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return Markup(join(", ", [tag("code", name) for name in names[:8]]) + more)


def _key(event: Event) -> str:
    """An event in an address: its name may stand there in several types and versions."""
    return json.dumps([event.type, event.name, event.version], ensure_ascii=False)


def _address(here: str, event: Event) -> str:
    return f"{here}&{urlencode({'event': _key(event)})}"


def one(plan: Plan, key: str, here: str) -> None:
    """One event with its properties."""
    show(tag("p", link("All events", here)))
    event = next((event for event in plan.events if _key(event) == key), None)
    if event is None:
        status.empty("This version does not plan that event.", link("All events", here))
        return
    # Not Streamlit's heading, which would interpret the name.
    show(
        tag("h2", event.name),
        tag("p", event.description) if event.description else None,
        *_marks(event),
        tag(
            "p",
            f"Properties beyond these are {'allowed' if event.allows_unplanned else 'not allowed'}.",
            class_="nv-aside",
        ),
    )
    if not event.properties:
        show(tag("p", "No property is planned for it.", class_="nv-aside"))
        return
    rows = [
        (
            [tag("code", one.name), _section(one)],
            " or ".join(one.types),
            "required" if one.required else "optional",
            _allowed(one),
            one.description or words.DASH,
        )
        for one in event.properties[:_DRAWN]
    ]
    show(tables.table(_PROPERTIES, rows, caption="Properties"))
    if len(event.properties) > _DRAWN:
        show(tag("p", f"{len(event.properties) - _DRAWN:,} more; the download holds them.", class_="nv-aside"))


def _section(one: Property) -> Markup | None:
    return None if one.section == "properties" else tag("div", one.section, class_="nv-mute-text")


def _allowed(one: Property) -> list[Markup | str]:
    """Values and limits, a line each; a dash where anything of the type will do."""
    lines: list[Markup | str] = []
    if one.enum is not None:
        more = f" and {len(one.enum) - 20:,} more" if len(one.enum) > 20 else ""
        lines.append(Markup(join(", ", [tag("code", value) for value in one.enum[:20]]) + more))
    if one.pattern:
        lines.append(Markup("pattern " + tag("code", one.pattern)))
    if one.format:
        lines.append(Markup("format " + tag("code", one.format)))
    lines += [text for text in (_range(one.minimum, one.maximum, ""), _length(one)) if text]
    return [tag("div", line) for line in lines] if lines else [words.DASH]


def _length(one: Property) -> str:
    return _range(one.min_length, one.max_length, " characters")


def _range(low: float | None, high: float | None, unit: str) -> str:
    if low is not None and high is not None:
        return f"{low:,g} to {high:,g}{unit}"
    return f"from {low:,g}{unit}" if low is not None else f"up to {high:,g}{unit}" if high is not None else ""


def csv_of(plan: Plan) -> str:
    """All events and properties for a spreadsheet, an event without properties on a row of its own."""
    names = (
        "event_type", "event", "event_version", "deprecated", "event_description", "section", "property", "types",
        "required", "enum", "pattern", "format", "minimum", "maximum", "min_length", "max_length", "description",
    )  # fmt: skip
    return tables.csv_text(names, _cells(plan))


def _cells(plan: Plan) -> Iterator[list[Any]]:
    for event in plan.events:
        whole = [event.type, event.name, event.version, event.deprecated, event.description]
        if not event.properties:
            yield [*whole, *[None] * 12]
        for one in event.properties:
            enum = None if one.enum is None else ", ".join(one.enum)
            yield [
                *whole, one.section, one.name, " | ".join(one.types), one.required, enum, one.pattern, one.format,
                one.minimum, one.maximum, one.min_length, one.max_length, one.description,
            ]  # fmt: skip
