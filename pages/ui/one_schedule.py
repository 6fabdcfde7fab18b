"""One schedule: when it fires next, what differs from the configuration, what can be done, what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import schedules
from novade_core.ledger.schedules import Schedule
from pages.ui import schedule_fires, schedule_form, schedule_list, status, tables, words
from pages.ui import schedule_words as said
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column


def draw(services: Services, name: str) -> None:
    """The view of ``?schedule=``."""
    show(link("All schedules", address("schedules")))
    found = next((s for s in services.read(schedules.schedules) if s.spec.name == name), None)
    done = st.session_state.pop("schedule_done", None)
    if found is None:
        status.empty(
            f"There is no schedule {name[:100]}.",
            link("Look at all schedules", address("schedules")),
            ", or ",
            link("add one", address("schedules", view="add")),
            ".",
        )
        return
    headline(services, found)
    if done is not None:
        status.notice(done, level="info")
    if refused := st.session_state.pop("schedule_refused", None):
        status.failed(*refused)
    details(services, found)
    if st.query_params.get("view") == "edit":
        schedule_form.edit(services, found)
    else:
        following(services, found)
        differs(services, found)
        actions(services, found)
    schedule_fires.draw(services, chosen=found)


def headline(services: Services, schedule: Schedule) -> None:
    """The sentence."""
    now, zone, spec = services.now(), services.zone(), schedule.spec
    if schedule.paused_at is not None:
        status.headline(
            f"{spec.name} is paused by {schedule.paused_by} since ",
            words.when(schedule.paused_at, now, zone),
            "; its fires are skipped until it is resumed.",
        )
        return
    following = schedule.next_fires(now, 1)
    due = ["; the next one ", words.when(following[0], now, zone)] if following else "; no fire is to come"
    alone = " It asks for nothing: its lateness says how well the scheduler keeps time." if schedule.is_canary else ""
    nobody = schedule_list.leader(services)[0] is False
    warned = [", but ", link("nobody schedules", address("schedules"))] if nobody else None
    status.headline(f"{spec.name} fires {spec.timing.words()}", due, warned, ".", alone)


def details(services: Services, schedule: Schedule) -> None:
    """What, when, and the rule."""
    now, zone, spec = services.now(), services.zone(), schedule.spec
    last = services.read(schedules.last_fires).get(schedule.id)
    last_said: Any = "none yet"
    if last is not None:
        last_said = [status.badge(last.state.value, title=last.reason), " ", words.when(last.due_at, now, zone)]
    timing = spec.timing
    exact = tag("code", timing.cron) if timing.cron else f"{timing.every_seconds:,} s, counted from 1970 in UTC"
    pairs = [
        ("State", said.state_of(schedule)),
        ("Streams", said.streams_in_words(services, spec)),
        ("Kind", words.KINDS.get(spec.kind.value, spec.kind.value) if spec.streams else words.DASH),
        ("Cron expression" if timing.cron else "Interval", exact),
        ("Time zone", timing.timezone if timing.cron else words.DASH),
        ("Jitter", f"up to {words.duration(timing.jitter_seconds)}" if timing.jitter_seconds else "none"),
        ("After an outage", said.OUTAGES[spec.outage]),
        ("Last fire", last_said),
        ("Last changed", [words.when(schedule.changed_at, now, zone), f" by {schedule.changed_by}"]),
    ]
    show(tables.facts(pairs))


def following(services: Services, schedule: Schedule) -> None:
    """The next five fires."""
    found = schedule.next_fires(services.now(), 5)
    if found:
        status.section("Next fires")
        show(schedule_form.instants(services, found))


def differs(services: Services, schedule: Schedule) -> None:
    """What the configuration says instead, and the way back to it."""
    if not schedule.differs:
        return
    status.section("Differs from novade.toml", "What stands here counts; the file was taken over once.")
    columns = (Column("Setting"), Column("Here", "nv-wide"), Column("In novade.toml", "nv-wide"))
    show(tables.table(columns, said.differences(schedule), caption="Differences from novade.toml"))
    name = schedule.spec.name
    st.code(said.command("reset", name), language=None, wrap_lines=True)
    st.button(
        "Take over the file's version",
        key="schedule_reset",
        on_click=change,
        args=(services, schedules.reset, name, f"{name} is as novade.toml says, from now on."),
        help="Its new fires are promised from now on.",
    )


def actions(services: Services, schedule: Schedule) -> None:
    """Pause or resume, edit, remove; with what they do and their commands."""
    name = schedule.spec.name
    status.section("What you can do")
    verb = "pause" if schedule.paused_at is None else "resume"
    does = {
        "pause": "Pausing skips its fires from now on, with a note; what runs already goes on.",
        "resume": "Resuming lets it fire again from now on; what was skipped stays skipped.",
    }
    show(tag("p", does[verb], " Removing ends it; its past fires stay.", class_="nv-aside"))
    with st.container(horizontal=True):
        if verb == "pause":
            st.button(
                "Pause",
                key="schedule_pause",
                icon=":material/pause:",
                on_click=change,
                args=(services, schedules.pause, name, f"{name} is paused: its fires are skipped until it is resumed."),
            )
        else:
            st.button(
                "Resume",
                key="schedule_resume",
                type="primary",
                icon=":material/play_arrow:",
                on_click=change,
                args=(services, schedules.resume, name, f"{name} fires again from now on."),
            )
        if st.button("Edit", key="schedule_edit", icon=":material/edit:"):
            st.query_params["view"] = "edit"
            st.rerun()
        if st.button(
            "Remove",
            key="schedule_remove",
            icon=":material/delete:",
            disabled=schedule.is_canary,
            help="The canary is left out by canary = false in novade.toml." if schedule.is_canary else None,
        ):
            confirm(services, name, len(schedule.next_fires(services.now(), 1)) > 0)
    st.code(said.command(verb, name), language=None, wrap_lines=True)


@st.dialog("Remove this schedule?")
def confirm(services: Services, name: str, fires: bool) -> None:
    """Removing asks once."""
    tail = "Its streams are synced by it no more" if fires else "It is paused now, and will not come back"
    show(tag("p", f"{name}: {tail}, and a restart does not bring it back. Its past fires stay."))
    st.code(said.command("remove", name), language=None, wrap_lines=True)
    with st.container(horizontal=True):
        if st.button(
            "Remove it",
            key="schedule_remove_confirm",
            type="primary",
            on_click=change,
            args=(services, schedules.remove, name, f"{name} was removed. Its past fires stay in the list of all."),
        ):
            st.rerun()
        if st.button("Keep it", key="schedule_keep"):
            st.rerun()


def change(services: Services, request: Callable[..., None], name: str, done: str) -> None:
    """Write the request; say what is so now, or why not."""
    try:
        request(services.ledger, name, now=services.now(), who=services.who, rules=said.rules_of(services))
        st.session_state["schedule_done"] = done
        if request is schedules.remove:
            st.query_params.pop("schedule", None)
    except NovadeError as error:
        st.session_state["schedule_refused"] = (error.message, error.hint)
    services.forget()
