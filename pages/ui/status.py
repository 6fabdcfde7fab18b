"""One icon, colour and word per state, everywhere; and what a page says when there is nothing to draw."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.ui.markup import Markup, show, tag

#: state -> (icon of Material Symbols, tone). The word is the state itself; tones are in console.css.
STREAMS = {
    "fresh": ("check_circle", "good"),
    "late": ("schedule", "warn"),
    "stale": ("error", "bad"),
    "never loaded": ("radio_button_unchecked", "mute"),
    "paused": ("pause_circle", "mute"),
}
RUNS = {
    "queued": ("hourglass_empty", "mute"),
    "running": ("play_circle", "live"),
    "cancelling": ("stop_circle", "warn"),
    "succeeded": ("check_circle", "good"),
    "partial": ("rule", "warn"),
    "landed": ("inventory_2", "mute"),
    "failed": ("cancel", "bad"),
    "cancelled": ("block", "mute"),
    "abandoned": ("link_off", "bad"),
}
BACKFILLS = {
    "open": ("play_circle", "live"),
    "done": ("check_circle", "good"),
    "waiting": ("more_horiz", "mute"),
    "left out": ("remove", "mute"),
}
COMPARISONS = {
    "equal": ("equal", "good"),
    "in flight": ("sync", "warn"),
    "differs": ("difference", "bad"),
    "unknown": ("help", "mute"),
}
FIRES = {
    "on time": ("check_circle", "good"),
    "late": ("schedule", "warn"),
    "skipped": ("redo", "mute"),
    "missed": ("event_busy", "bad"),
}
SCHEDULES = {"active": ("event_available", "good"), "paused": ("pause_circle", "mute")}
WINDOWS = {
    "resuming": ("power_settings_new", "live"),
    "closing": ("hourglass_bottom", "live"),
    "pausing": ("bedtime", "live"),
    "closed": ("check_circle", "good"),
}
VIEWS = {
    "current": ("check_circle", "good"),
    "behind": ("update", "warn"),
    "missing": ("visibility_off", "warn"),
    "not ours": ("lock", "bad"),
    "nothing landed": ("radio_button_unchecked", "mute"),
}
#: What is odd about something that went well, and what was not done yet.
MARKS = {"no rows": ("remove_circle", "warn"), "not compared": ("radio_button_unchecked", "mute")}
SEVERITIES = {"fail": ("error", "bad"), "warn": ("warning", "warn"), "info": ("info", "mute")}
_ALL = VIEWS | STREAMS | RUNS | BACKFILLS | COMPARISONS | FIRES | SCHEDULES | WINDOWS | MARKS | SEVERITIES


def icon(name: str) -> Markup:
    """A symbol that says nothing of its own to a screen reader."""
    return tag("span", name, class_="nv-icon", aria_hidden="true", translate="no")


def badge(state: str, *, title: str | None = None) -> Markup:
    """Icon, colour and word."""
    symbol, tone = _ALL.get(state, ("help", "mute"))
    return tag("span", icon(symbol), state, class_=f"nv-badge nv-{tone}", title=title)


def verdict(state: str, sentence: str | None) -> list[Markup | str]:
    """A comparison's badge and its sentence, without saying the verdict twice."""
    said = sentence or ""
    if said.lower().startswith(f"{state}: "):
        said = said[len(state) + 2 :]
    return [badge(state), " ", said]


def symbol(state: str) -> str:
    """The name of the icon alone, for cells."""
    return _ALL.get(state, ("help", "mute"))[0]


def tone(state: str) -> str:
    """The tone alone, for bars and cells."""
    return _ALL.get(state, ("help", "mute"))[1]


def headline(*parts: Any) -> None:
    """The sentence that answers the page's question."""
    show(tag("p", *parts, class_="nv-headline"))


def notice(*parts: Any, level: str = "warn") -> None:
    """Something that the reader must not miss, in place."""
    symbol, kind = SEVERITIES[level]
    show(tag("div", icon(symbol), tag("div", *parts), class_=f"nv-notice nv-{kind}", role="status"))


def empty(sentence: str, *next_step: Any) -> None:
    """Why there is nothing, and the first step."""
    show(tag("div", tag("p", sentence, class_="nv-headline"), tag("p", *next_step), class_="nv-empty"))


def failed(message: str, hint: str) -> None:
    """The page cannot answer; what happened and what to do. ``st.error`` would interpret the message."""
    show(
        tag(
            "div",
            icon("error"),
            tag("div", tag("strong", message), tag("p", hint)),
            class_="nv-notice nv-bad",
            role="alert",
        )
    )


def section(title: str, *aside: Any) -> None:
    """A heading within a page."""
    st.header(title, anchor=False)
    if aside:
        show(tag("p", *aside, class_="nv-aside"))
