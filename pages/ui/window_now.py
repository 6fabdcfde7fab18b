"""What load windows do now: the sentence, the one under way with its steps, what waits, opening and ending one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import windows
from novade_core.ledger.window_views import Gathered, Standing
from novade_core.monitoring.window_costs import hour
from pages.ui import money, status, tables, window_words, words
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column


def draw(services: Services) -> None:
    """The first part of the page; it refreshes itself."""
    if done := st.session_state.pop("window_done", None):
        status.notice(done, level="info")
    if refused := st.session_state.pop("window_refused", None):
        status.failed(*refused)
    found = window_words.standing(services)
    shape = _shape(found)
    live = found.window is not None

    @st.fragment(run_every=services.interval(live=live))
    def said() -> None:
        newest = window_words.standing(services)
        if _shape(newest) != shape:
            st.rerun(scope="app")
        now = services.now()
        status.headline(window_words.sentence(services, newest, now))
        _notices(services, newest, now)

    @st.fragment(run_every=services.interval(live=live))
    def details() -> None:
        newest, now = window_words.standing(services), services.now()
        if newest.window is not None:
            _steps(services, newest, now)
        if newest.gathered:
            _waiting(services, newest, now)

    said()
    _buttons(services, found)
    details()


def _shape(found: Standing) -> tuple[Any, ...]:
    """What decides on buttons and past windows; the rest refreshes by itself."""
    window = found.window
    return (None, None) if window is None else (window.id, window.end_asked_at)


def _notices(services: Services, found: Standing, now: datetime) -> None:
    window = found.window
    # Who keeps it open is said below by name, all of them.
    if window is not None and window.trouble and not (window.others and window.trouble.startswith("Kept online by")):
        status.notice(window.trouble)
    if window is not None and window.others:
        cost = hour(window.size, money.book(services), now.date())
        status.notice(
            "Who holds the pool open: ",
            tag("strong", words.listed(list(window.others))),
            ". A pause would end their sessions, idle ones too, so it waits: ",
            window_words.hour_in_words(cost, window.size),
            " until they are gone.",
        )
    if (window is not None or found.waiting.streams) and window_words.nobody_works(services):
        what = "nobody pauses the pool" if window is not None else "nobody opens a window"
        status.notice(
            tag("strong", f"No worker lives, so {what}. "),
            "Start one with ",
            tag("code", "python -m jobs worker"),
            ".",
        )


def _buttons(services: Services, found: Standing) -> None:
    window = found.window
    why_not = None if window is None else f"Window {window.id} is under way."
    with st.container(horizontal=True):
        if st.button(
            "Open a window now",
            key="window_open",
            type="primary" if window is None else "secondary",
            icon=":material/play_arrow:",
            disabled=window is not None,
            help=why_not,
        ):
            _confirm_open(services, found)
        reason = "No window is under way." if window is None else None
        if window is not None and window.end_asked_at is not None:
            reason = "Its end has been asked for."
        if st.button(
            "End this window",
            key="window_end",
            icon=":material/stop:",
            disabled=reason is not None,
            help=reason,
        ):
            _confirm_end(services, found)


@st.dialog("Open a load window now?")
def _confirm_open(services: Services, found: Standing) -> None:
    """It costs, so it asks once."""
    rows = sum(g.rows for g in found.gathered if g.failed_run is None)
    count = len(found.waiting.streams)
    idle = words.duration(services.environment.pool.idle_minutes * 60)
    size = found.last.size if found.last is not None else None
    cost = hour(size, money.book(services), services.now().date())
    loads = f"loads {words.counted(count, 'stream')} ({rows:,} rows)" if count else "loads nothing, since nothing waits"
    show(
        tag(
            "p",
            f"The pool is resumed, {loads}, and is paused again when nothing is left for {idle}. From the resume on "
            f"it costs money: {window_words.hour_in_words(cost, size)}.",
        )
    )
    st.code("python -m jobs window open", language=None)
    with st.container(horizontal=True):
        if st.button("Open it", key="window_open_yes", type="primary", on_click=_open, args=(services,)):
            st.rerun()
        if st.button("Not now", key="window_open_no"):
            st.rerun()


@st.dialog("End this load window?")
def _confirm_end(services: Services, found: Standing) -> None:
    """What it leaves waits for the next one, so it asks once."""
    gather = words.duration(services.environment.pool.gather_minutes * 60)
    left = words.counted(len(found.waiting.streams), "stream")
    show(
        tag(
            "p",
            "No further load begins. What loads now ends first, then the pool is paused, unless somebody else is "
            f"there. {left} may be left over, and gather anew for {gather}.",
        )
    )
    st.code("python -m jobs window end", language=None)
    with st.container(horizontal=True):
        if st.button("End it", key="window_end_yes", type="primary", on_click=_end, args=(services,)):
            st.rerun()
        if st.button("Let it go on", key="window_end_no"):
            st.rerun()


def _open(services: Services) -> None:
    opened = windows.ask_for_window(services.ledger, who=services.who, now=services.now())
    services.forget()
    st.session_state["window_done"] = f"Window {opened} was asked for; a worker resumes the pool."


def _end(services: Services) -> None:
    try:
        ended = windows.ask_to_end(services.ledger, who=services.who, now=services.now())
        st.session_state["window_done"] = f"The end of window {ended} was asked for."
    except NovadeError as error:
        st.session_state["window_refused"] = (error.message, error.hint)
    services.forget()


def _steps(services: Services, found: Standing, now: datetime) -> None:
    window = found.window
    if window is None:
        return
    age = words.duration((now - window.opened_at).total_seconds())
    status.section(f"Window {window.id}, {age} old")
    steps_table(services, window_words.steps(window, found.loaded.rows), now)


def steps_table(services: Services, found: list[tuple[str, str, datetime | None, str]], now: datetime) -> None:
    """Steps of a window."""
    columns = (
        Column("Step", "nv-tight"),
        Column("State", "nv-tight"),
        Column("When", "nv-tight"),
        Column("What", "nv-wide"),
    )
    body = [
        (name, status.badge(state), words.when(instant, now, services.zone()), said)
        for name, state, instant, said in found
    ]
    show(tables.table(columns, body, caption="Steps of the window"))


def _waiting(services: Services, found: Standing, now: datetime) -> None:
    status.section(
        "What waits for a window",
        "Landed and registered, not in the warehouse yet.",
    )
    columns = (
        Column("Stream", "nv-tight"),
        Column("Rows", "nv-right"),
        Column("Files", "nv-right nv-extra", "Manifests"),
        Column("Waits since", "nv-tight nv-extra"),
        Column("What happens", "nv-wide"),
    )
    body = [
        (
            link(services.label(g.stream), address("runs", stream=g.stream), title=g.stream),
            words.number(g.rows),
            words.number(g.files),
            words.when(g.since, now, services.zone()),
            _happens(services, found, g, now),
        )
        for g in found.gathered
    ]
    show(tables.table(columns, body, caption="What waits for a window"))


def _happens(services: Services, found: Standing, waits: Gathered, now: datetime) -> Any:
    if waits.failed_run is not None:
        # In a paragraph, where links are underlined.
        return tag(
            "p",
            status.badge("failed"),
            " Opens no window before something new lands: ",
            tables.run_link(waits.failed_run),
            f" did not load it: {waits.why} ",
            link("Start a run", address("sync", streams=waits.stream)),
            " when the cause is mended.",
        )
    window = found.window
    if window is None:
        due = found.waiting.due(timedelta(minutes=services.environment.pool.gather_minutes))
        return (
            ["Goes with the next window, by ", window_words.at(due, now, services.zone()), "."] if due else words.DASH
        )
    if waits.stream in found.loading:
        return [status.badge("running"), " A run works on it."]
    if window.end_asked_at is not None:
        return "Is left for a later window."
    return "Is loaded in this window."
