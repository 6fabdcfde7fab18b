"""Past fires: promised against started, with the reason and the runs; filters in the URL, paging by key, CSV."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta, tzinfo
from typing import Any

import streamlit as st

from novade_core.ledger import schedules
from novade_core.ledger.models import RunState
from novade_core.ledger.schedules import FireFacts, FireRun, Schedule
from novade_core.schedules import FireState
from pages.ui import schedule_words as said
from pages.ui import status, tables, words
from pages.ui.markup import address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

#: As long as fires that asked for nothing are looked at here.
_SPAN = timedelta(days=30)
_SHOWN = 30
_CSV_ROWS = 5_000
_RUNS = 8
_ANY, _PROBLEMS = "any", "problems"
_STATES: dict[str, tuple[FireState, ...]] = {
    _PROBLEMS: (FireState.LATE, FireState.SKIPPED, FireState.MISSED),
    **{state.value: (state,) for state in FireState},
}


def _to_url() -> None:
    value = st.session_state["fires_state"]
    st.query_params.pop("before", None)
    if value == _ANY:
        st.query_params.pop("state", None)
    else:
        st.query_params["state"] = value


def draw(services: Services, *, chosen: Schedule | None) -> None:
    """The section, of one schedule or of all but the canary."""
    canary = next((s for s in services.read(schedules.schedules) if s.is_canary), None)
    given = st.query_params.get("state", _ANY)
    state = given if given in _STATES else _ANY
    wanted: dict[str, Any] = {"states": _STATES.get(state, ())}
    if chosen is not None:
        wanted["schedule_id"] = chosen.id
    elif canary is not None:
        wanted["without"] = canary.id
    left_out: list[Any] = ["Of the last 30 days, the latest first."]
    if chosen is None and canary is not None:
        left_out += [" The canary's are ", link("on its own page", said.href(canary.spec.name)), "."]
    status.section("Past fires", *left_out)
    st.session_state["fires_state"] = state
    st.radio(
        "State",
        [_ANY, _PROBLEMS, *[s.value for s in FireState]],
        format_func=lambda name: {_PROBLEMS: "late, skipped or missed"}.get(name, name),
        key="fires_state",
        horizontal=True,
        on_change=_to_url,
    )
    now = services.now()
    before = st.query_params.get("before", "")
    after = min(int(before), 2**62) if before.isdecimal() and before.isascii() else None
    window = {"since": now - _SPAN, "until": now + timedelta(days=1)}
    found = services.read(schedules.fires, **window, **wanted, before=after, limit=_SHOWN + 1)
    name = chosen.spec.name if chosen is not None else None
    own = {"schedule": name, "state": None if state == _ANY else state}
    if not found:
        if state == _ANY and after is None:
            show(tag("p", "Nothing has been due yet. What is promised becomes a fire here when its time has come."))
        else:
            show(tag("p", "No fire matches. ", link("Show all fires", address("schedules", schedule=name)), "."))
        return
    table(services, found[:_SHOWN], with_name=chosen is None)
    turns = []
    if after is not None:
        turns.append(link("Newest", address("schedules", **own)))
    if len(found) > _SHOWN:
        turns.append(link("Older", address("schedules", **own, before=found[_SHOWN - 1].id)))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content"):
            show(tag("nav", turns, class_="nv-row", aria_label="Pages of fires") if turns else tag("span"))
        tables.download(
            "Download CSV",
            lambda: csv_of(_many(services, window | wanted)),
            file_name="fires.csv",
            key="fires_csv",
        )


def table(services: Services, found: Sequence[FireFacts], *, with_name: bool) -> None:
    """The fires with their runs."""
    now, zone = services.now(), services.zone()
    runs: dict[int, list[FireRun]] = defaultdict(list)
    for run in services.read(schedules.runs_of_fires, fire_ids=tuple(f.id for f in found if f.runs)):
        runs[run.fire_id].append(run)
    columns = [
        Column("Promised", "nv-tight"),
        Column("Schedule"),
        Column("State"),
        Column("Lateness", "nv-right nv-extra", "From when it was due, jitter included, to when its runs were queued"),
        Column("Started", "nv-tight nv-extra", "When it was booked and its runs were queued"),
        Column("Why", "nv-wide"),
        Column("Runs", "nv-tight"),
    ]
    body = []
    for fire in found:
        row = (
            words.when(fire.promised, now, zone),
            said.name_link(fire.schedule),
            status.badge(fire.state.value),
            said.late_in_words(fire),
            started(fire, zone),
            fire.reason or words.DASH,
            _runs(services, runs[fire.id]) if fire.runs else words.DASH,
        )
        body.append(row if with_name else (row[0], *row[2:]))
    if not with_name:
        del columns[1]
    show(tables.table(columns, body, caption="Past fires, the latest first"))


def started(fire: FireFacts, zone: tzinfo) -> Any:
    """When its runs were queued; a dash where it asked for none."""
    if fire.state not in (FireState.ON_TIME, FireState.LATE):
        return words.DASH
    clock = f"{fire.booked_at.astimezone(zone):%H:%M:%S}"
    return tag("time", clock, datetime=fire.booked_at.isoformat(), title=words.exact(fire.booked_at, zone))


def _runs(services: Services, runs: Sequence[FireRun]) -> Any:
    """Their numbers, and how many did not end well."""
    links = [
        tables.run_link(run.id, str(run.id), title=f"{services.label(run.subject)}: {run.state.value}")
        for run in runs[:_RUNS]
    ]
    bad = sum(run.state in (RunState.FAILED, RunState.ABANDONED) for run in runs)
    more = f" and {len(runs) - _RUNS:,} more" if len(runs) > _RUNS else None
    trouble = [" ", status.badge("failed"), f" {bad} of {len(runs)}"] if bad else None
    return [join(", ", links), more, trouble]


def _many(services: Services, wanted: dict[str, Any]) -> Iterator[FireFacts]:
    """The fires that match, the latest first, up to a bound."""
    before = None
    for _ in range(_CSV_ROWS // 500):
        found = schedules.fires(services.ledger, **wanted, before=before, limit=500)
        yield from found
        if len(found) < 500:
            return
        before = found[-1].id


def csv_of(found: Iterator[FireFacts]) -> str:
    """Fires for a spreadsheet."""
    names = ("schedule", "promised", "due_at", "booked_at", "late_seconds", "state", "reason", "runs", "booked_by")
    return tables.csv_text(names, ([getattr(fire, name) for name in names] for fire in found))
