"""One stream: its age over time against its limit, and what was to blame where it was over it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.ledger import ages, schedules, summaries
from novade_core.ledger.fires import chosen
from novade_core.monitoring import freshness
from novade_core.monitoring.freshness import Overdue, spoken
from novade_core.schedules import FireState
from pages.ui import age_list, status, tables, words
from pages.ui.markup import address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

_SPANS = {"24 h": timedelta(hours=24), "7 days": timedelta(days=7)}
_PARTS = 96
#: Times over the limit that are explained.
_EXPLAINED = 10


def draw(services: Services, stream: str) -> None:
    """The view of ``?stream=``."""
    show(link("All streams", address("freshness")))
    now = services.now()
    found = services.read(summaries.stream_facts, streams=services.environment.streams)
    facts = next((f for f in found if f.stream == stream), None)
    if facts is None:
        status.empty(f"There is no stream {stream[:100]}.", link("Look at all streams", address("freshness")), ".")
        return
    given = st.query_params.get("span", "")
    span = given if given in _SPANS else "7 days"
    fresh = age_list.fresh_now(facts, now)
    status.headline(
        link(facts.label, address("runs", stream=stream), title=stream), " is ", status.badge(fresh.state.value), ": ",
        fresh.sentence[0].lower() + fresh.sentence[1:],
    )  # fmt: skip
    if facts.last_load_at is None:
        show(tag("p", link("Start its first sync", address("sync", streams=stream)), ".", class_="nv-aside"))
        return
    since = now - _SPANS[span]
    loads = services.read(ages.loads, stream=stream, since=since)
    curve(loads, fresh.limit, since, now, span, stream)
    late = [o for o in freshness.overdue(loads.at, fresh.limit, now) if o.until is None or o.until > since]
    blame(services, stream, late, span, now, known=bool(loads.at) and loads.at[0] <= since)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="content"):
            links = [
                link("Sync it now", address("sync", streams=stream)),
                link("Its runs", address("runs", stream=stream)),
            ]
            show(tag("nav", links, class_="nv-row", aria_label="What can be done"))
        tables.download(
            "Download CSV",
            lambda: tables.csv_text(("proven_up_to_date_at",), ((at,) for at in loads.at)),
            file_name=f"loads-{stream}.csv",
            key="age_csv",
        )


def curve(loads: ages.Loads, limit: timedelta, since: datetime, now: datetime, span: str, stream: str) -> None:
    """Age over time: bars as high as the age, a line at the limit."""
    parts = freshness.age_curve(loads.at, since, now, _PARTS)
    known = [age for age in parts if age is not None]
    spans = [
        tag("strong", name) if name == span else link(name, age_list.href(stream, span=name), title=f"The last {name}")
        for name in _SPANS
    ]
    if not known:
        status.section(f"Nothing is known of the last {span}")
        return
    oldest = max(known)
    verb = "never over" if oldest <= limit else "over"
    status.section(f"{spoken(oldest)} old at most in the last {span}, {verb} its limit of {spoken(limit)}")
    highest = max(oldest, limit) * 1.08
    step = (now - since) / _PARTS
    bars = []
    for number, age in enumerate(parts):
        at = since + step * number
        if age is None:
            bars.append(tag("span", title=f"{at:%d %b %H:%M} UTC: not known"))
            continue
        state = freshness.state_of_age(age, limit)
        said = f"{at:%d %b %H:%M} UTC: {spoken(age)} old at most, {state.value}"
        bar = tag("i", class_=f"nv-{status.tone(state.value)}", style=f"height:{100 * (age / highest):.1f}%")
        bars.append(tag("span", bar, title=said))
    line = tag("b", tag("small", f"limit {spoken(limit)}"), style=f"bottom:{100 * (limit / highest):.1f}%")
    cut = "" if loads.whole else " Only its newest runs were looked at, so the oldest part may be missing."
    note = tag("span", f"The oldest in each {spoken(step)}.{cut}")
    show(
        tag("div", note, [[s, " "] for s in spans], class_="nv-row nv-aside"),
        tag("div", bars, line, class_="nv-histogram nv-curve", role="img", aria_label=f"Age over the last {span}"),
        tag("div", tag("span", f"{since:%d %b %H:%M}"), tag("span", f"{now:%d %b %H:%M} UTC"), class_="nv-axis"),
    )  # fmt: skip


def blame(services: Services, stream: str, late: Sequence[Overdue], span: str, now: datetime, *, known: bool) -> None:
    """Why it was over its limit."""
    if not late:
        begun = "" if known else ", as far as is known"
        show(tag("p", f"It kept its limit throughout the last {span}{begun}.", class_="nv-aside"))
        return
    zone = services.zone()
    status.section("What was to blame")
    body = []
    for time in late[:_EXPLAINED]:
        end = time.until or now
        lasts = "it lasts" if time.until is None else f"for {spoken(end - time.since)}"
        body.append((words.when(time.since, now, zone), lasts, _why(services, stream, time.loaded, end)))
    columns = (Column("Over its limit", "nv-tight"), Column("How long", "nv-tight"), Column("Why", "nv-wide"))
    show(tables.table(columns, body, caption="Times over the limit, the latest first"))
    if len(late) > _EXPLAINED:
        show(tag("p", f"And {len(late) - _EXPLAINED} times before.", class_="nv-aside"))


def _why(services: Services, stream: str, since: datetime, until: datetime) -> Any:
    """Runs that ended badly, else fires that did not come, else that nobody asked."""
    bad = services.read(ages.culprits, stream=stream, since=since, until=until)
    if bad:
        return join("", [tag("div", _run(run)) for run in bad])
    lost = []
    for schedule in services.read(schedules.schedules):
        if stream not in {s.id for s in chosen(schedule.spec, services.environment.streams)[0]}:
            continue
        lost += services.read(
            schedules.fires,
            since=since,
            until=until,
            schedule_id=schedule.id,
            states=(FireState.MISSED, FireState.SKIPPED),
            limit=3,
        )
    if lost:
        return join("", [tag("div", _fire(fire)) for fire in lost[:3]])
    return ["No run was asked for. ", link("See its schedules", address("schedules")), "."]


def _run(run: ages.Culprit) -> list[Any]:
    return [tables.run_link(run.run_id), " ", status.badge(run.state.value), " ", run.message or ""]


def _fire(fire: schedules.FireFacts) -> list[Any]:
    name = link(fire.schedule, address("schedules", schedule=fire.schedule))
    return [name, " ", status.badge(fire.state.value), f" at {words.utc(fire.due_at)}. ", fire.reason or ""]
