"""The form of a schedule, new or known: what it will do is shown before it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import available_timezones

import streamlit as st

from novade_core.errors import ConfigurationError, NovadeError
from novade_core.ledger import schedules
from novade_core.ledger.fires import chosen
from novade_core.ledger.schedules import Schedule, next_due
from novade_core.schedules import UNITS, Outage, ScheduleSpec, Timing
from novade_core.streams import RunKind
from pages.ui import schedule_words as said
from pages.ui import status, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services

_BLANK = ScheduleSpec(
    name="", streams=(), kind=RunKind.INCREMENTAL, timing=Timing(cron="*/15 * * * *"), outage=Outage.ONCE
)
_HOW = {"cron": "Cron expression", "every": "Interval"}
_SIZES = {f"{name}s": size for _, name, size in reversed(UNITS)}


@cache
def _zones() -> list[str]:
    """UTC first, then what this machine knows."""
    return ["UTC", *sorted(available_timezones() - {"UTC"})]


def instants(services: Services, found: Sequence[datetime]) -> Markup:
    """Fires to come: relative and exact."""
    now, zone = services.now(), services.zone()
    rows = [
        tag("li", words.relative(at, now), " ", tag("span", words.exact(at, zone), class_="nv-mute-text"))
        for at in found
    ]
    return tag("ol", rows, class_="nv-next")


def add(services: Services) -> None:
    """The view of a new schedule."""
    show(link("All schedules", address("schedules")))
    status.headline("A new schedule promises fires from the moment when it is saved.")
    _form(services, _BLANK, known=None)


def edit(services: Services, schedule: Schedule) -> None:
    """The form of one that is there."""
    status.section("Edit", "What was promised before stays as it was; the new fires are promised from the saving on.")
    _form(services, schedule.spec, known=schedule)


def _form(services: Services, before: ScheduleSpec, *, known: Schedule | None) -> None:
    with st.container(border=True):
        name = before.name
        if known is None:
            name = st.text_input(
                "Name", key="schedule_name", max_chars=100, placeholder="Such as: every quarter"
            ).strip()
        is_canary = known is not None and known.is_canary
        streams, kind = before.streams, before.kind
        if is_canary:
            show(tag("p", "The canary asks for nothing, so it has no streams.", class_="nv-aside"))
        else:
            streams, kind = _what(services, before)
        refused: ConfigurationError | None = None
        spec = None
        how = st.radio(
            "When",
            list(_HOW),
            format_func=_HOW.__getitem__,
            index=0 if before.timing.cron else 1,
            key="schedule_how",
            horizontal=True,
        )
        outage = before.outage
        try:
            timing = _when(before.timing, how)
        except ConfigurationError as error:
            refused = error
        outage = st.radio(
            "After an outage: fires that nobody was there for",
            list(Outage),
            format_func=said.OUTAGES.__getitem__,
            index=list(Outage).index(before.outage),
            key="schedule_outage",
        )
        if refused is None:
            spec = replace(before, name=name, streams=streams, kind=kind, timing=timing, outage=outage)
            _preview(services, spec, known)
        _save(services, spec, refused, known)


def _what(services: Services, before: ScheduleSpec) -> tuple[tuple[str, ...], RunKind]:
    sources = sorted({s.source for s in services.environment.streams})
    options = list(dict.fromkeys(["*", *sources, *[s.id for s in services.environment.streams], *before.streams]))
    streams = st.multiselect(
        "Streams",
        options,
        default=list(before.streams),
        format_func=lambda name: said.stream_in_words(services, name),
        key="schedule_streams",
        placeholder="Streams, all of a source, or all",
        wrap=True,
    )
    kinds = [RunKind.INCREMENTAL, RunKind.FULL]
    kind = st.radio(
        "Kind",
        kinds,
        format_func=lambda k: words.KINDS[k.value],
        index=kinds.index(before.kind) if before.kind in kinds else 0,
        key="schedule_kind",
        horizontal=True,
    )
    return tuple(streams), kind


def _when(before: Timing, how: str) -> Timing:
    """The fields of the timing. Raises ConfigurationError, once all of them are drawn."""
    with st.grid(3, min_column_width=180):
        if how == "cron":
            cron = st.text_input(
                "Minute, hour, day, month, weekday",
                value=before.cron or "*/15 * * * *",
                key="schedule_cron",
                help="*/15 6-20 * * 1-5 is each quarter of an hour from 06:00 to 20:45 on working days.",
                max_chars=100,
            )
            zones = _zones()
            zones = zones if before.timezone in zones else [before.timezone, *zones]
            zone = st.selectbox("Time zone", zones, index=zones.index(before.timezone), key="schedule_timezone")
        else:
            seconds = before.every_seconds or 900
            unit_now = next(name for name, size in reversed(_SIZES.items()) if seconds % size == 0)
            every = st.number_input(
                "Every", min_value=1, max_value=31_622_400, value=seconds // _SIZES[unit_now], key="schedule_every"
            )
            unit = st.selectbox("Unit", list(_SIZES), index=list(_SIZES).index(unit_now), key="schedule_unit")
        jitter = st.number_input(
            "Jitter, seconds",
            min_value=0,
            max_value=86_400,
            value=before.jitter_seconds,
            key="schedule_jitter",
            help="Each fire is delayed by a part of it, so that not everybody calls at the full minute.",
        )
    if how == "cron":
        return Timing(cron=" ".join(cron.split()), timezone=zone or "UTC", jitter_seconds=int(jitter))
    return Timing(every_seconds=int(every) * _SIZES[unit], timezone=before.timezone, jitter_seconds=int(jitter))


def _preview(services: Services, spec: ScheduleSpec, known: Schedule | None) -> None:
    """In words, the next five fires, what a day of it asks for, the command."""
    now = services.now()
    fires = spec.timing.count(now, now + timedelta(hours=24))
    streams = len(chosen(spec, services.environment.streams)[0])
    runs = f", which ask for {words.counted(fires * streams, 'run')}" if streams else ""
    show(
        tag("p", tag("strong", f"It fires {spec.timing.words()}: "), f"{words.counted(fires, 'fire')} in 24 h{runs}."),
        instants(services, next_due(spec, now, now)),
    )
    if known is None:
        if spec.name and spec.streams:
            st.code(said.add_command(spec), language=None, wrap_lines=True)
    elif spec != known.spec:
        st.code(said.edit_command(known.spec, spec), language=None, wrap_lines=True)


def _save(
    services: Services, spec: ScheduleSpec | None, refused: ConfigurationError | None, known: Schedule | None
) -> None:
    """The buttons, and why they cannot be pressed."""
    if refused is not None:
        status.notice(tag("strong", refused.message), " ", refused.hint, level="fail")
    reason = None
    if spec is None:
        reason = "Correct what is wrong first."
    elif not spec.name:
        reason = "Name it first."
    elif not spec.streams and not (known is not None and known.is_canary):
        reason = "Choose at least one stream first."
    elif known is not None and spec == known.spec:
        reason = "Nothing has been changed."
    if failed := st.session_state.pop("schedule_form_refused", None):
        status.failed(*failed)
    with st.container(horizontal=True):
        st.button(
            "Save",
            key="schedule_save",
            type="primary",
            icon=":material/check:",
            disabled=reason is not None,
            help=reason,
            on_click=_write,
            args=(services, spec, known),
        )
        if st.button("Cancel", key="schedule_cancel"):
            st.query_params.pop("view", None)
            st.rerun()
    if reason is not None and refused is None:
        show(tag("p", reason, class_="nv-aside"))


def _write(services: Services, spec: ScheduleSpec, known: Schedule | None) -> None:
    """Save it and show it, or say why not."""
    given = {"now": services.now(), "who": services.who, "rules": said.rules_of(services)}
    try:
        if known is None:
            schedules.add(services.ledger, spec, **given)
        else:
            schedules.edit(services.ledger, spec, **given)
    except NovadeError as error:
        st.session_state["schedule_form_refused"] = (error.message, error.hint)
        services.forget()
        return
    services.forget()
    verb = "added" if known is None else "changed"
    st.session_state["schedule_done"] = f"{spec.name} was {verb}: it fires {spec.timing.words()}, from now on."
    st.query_params.from_dict({"schedule": spec.name})
