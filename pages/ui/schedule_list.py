"""All schedules: the sentence, how well time is kept, the next 24 hours, the table, past fires."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.ledger import leases, schedules
from novade_core.ledger.schedules import Schedule
from novade_core.ledger.summaries import WorkerFacts
from novade_core.schedules import FireState
from pages.ui import schedule_fires, status, tables, words
from pages.ui import schedule_words as said
from pages.ui.markup import Markup, address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column, Tile

_DAY = timedelta(hours=24)
#: More fires than these are drawn as a band.
_MARKS = 48
_BAD = (FireState.MISSED, FireState.LATE, FireState.SKIPPED)


def draw(services: Services) -> None:
    """The page without a schedule chosen."""
    if done := st.session_state.pop("schedule_done", None):
        status.notice(done, level="info")

    @st.fragment(run_every=services.interval(live=False))
    def moving() -> None:
        now = services.now()
        found = services.read(schedules.schedules)
        if not found:
            nothing(services)
            return
        counts = services.read(schedules.fire_counts, since=now - _DAY, until=now)
        who = leader(services)
        headline(found, counts, who, now)
        tiles(services, found, counts, who, now)
        timeline(services, found, now)
        listed(services, found, now)

    moving()
    if services.read(schedules.schedules):
        schedule_fires.draw(services, chosen=None)


def nothing(services: Services) -> None:
    """No schedule at all."""
    known = [s for s in services.environment.schedules if s.streams]
    if known:
        status.empty(
            f"Nothing is scheduled yet: {words.counted(len(known), 'schedule')} of novade.toml will be taken over when "
            "a worker starts.",
            "Start one with ", tag("code", "python -m jobs worker"), ", or take them over now with ",
            tag("code", "python -m jobs schedule list"), ".",
        )  # fmt: skip
    else:
        status.empty(
            "Nothing is scheduled.",
            link("Add a schedule", address("schedules", view="add")),
            ", or ",
            link("sync streams now", address("sync")),
            ".",
        )


def leader(services: Services) -> tuple[bool | None, str | None]:
    """Whether somebody schedules (None: not known yet), and who."""
    facts = services.read(schedules.leader)
    if facts.holder is None:
        return False, None
    if leases.is_dead_here(facts.holder):
        return False, facts.holder
    beat = WorkerFacts(
        id=f"scheduler {facts.holder}", kind="scheduler", started_at=facts.taken_at or services.now(), beat=facts.beat
    )
    alive = services.beats.alive((beat,), lease_seconds=services.environment.worker.lease_seconds, at=time.monotonic())
    return alive, facts.holder


def _sum(
    counts: dict[int, dict[FireState, int]], found: Sequence[Schedule], *states: FireState, canary: bool = False
) -> int:
    """Fires in these states (all states where none is named), of the canary or of all but it.

    A schedule that was removed meanwhile counts with its fires.
    """
    own = {s.id for s in found if s.is_canary}
    return sum(
        count
        for schedule_id, by_state in counts.items()
        if (schedule_id in own) == canary
        for state, count in by_state.items()
        if not states or state in states
    )


def headline(
    found: Sequence[Schedule],
    counts: dict[int, dict[FireState, int]],
    who: tuple[bool | None, str | None],
    now: datetime,
) -> None:
    """The sentence."""
    real = [s for s in found if not s.is_canary]
    promised = sum(s.count_until(now, now + _DAY) for s in real)
    verb = "promises" if len(real) == 1 else "promise"
    future = f"{words.counted(len(real), 'schedule')} {verb} {words.counted(promised, 'fire')} in the next 24 h"
    clauses: list[Any] = []
    if who[0] is False:
        clauses.append([tag("strong", "Nobody schedules"), f", though {future}" if real else None])
    else:
        clauses.append(future if real else "Only the canary is scheduled")
    total = _sum(counts, found)
    if not total:
        clauses.append("none was due in the last 24 h" if real else "nothing asks for runs")
    elif _sum(counts, found, FireState.ON_TIME) == total:
        clauses.append(
            f"of {total:,} in the last 24 h all were on time" if total > 1 else "the one of the last 24 h was on time"
        )
    else:
        parts: list[Any] = []
        if on_time := _sum(counts, found, FireState.ON_TIME):
            parts.append(f"{on_time:,} {'was' if on_time == 1 else 'were'} on time")
        for state in _BAD:
            if number := _sum(counts, found, state):
                parts.append(link(f"{number:,} {state.value}", address("schedules", state=state.value)))
        clauses.append([f"of {total:,} in the last 24 h ", join(", ", parts)])
    if missed := _sum(counts, found, FireState.MISSED, FireState.LATE, canary=True):
        href = said.href("canary", state="problems")
        clauses.append(link(f"the canary missed its time {words.counted(missed, 'time')}", href))
    paused = [s for s in found if s.paused_at is not None]
    for schedule in paused[:3]:
        clauses.append([said.name_link(schedule.spec.name), " is paused"])
    if len(paused) > 3:
        clauses.append(f"{len(paused) - 3:,} more are paused")
    different = [s for s in found if s.differs]
    if different:
        verb = "differs" if len(different) == 1 else "differ"
        names = join(", ", [said.name_link(s.spec.name) for s in different[:3]])
        more = f" and {len(different) - 3:,} more" if len(different) > 3 else ""
        clauses.append([names, more, f" {verb} from novade.toml"])
    status.headline(join("; ", clauses), ".")


def tiles(
    services: Services,
    found: Sequence[Schedule],
    counts: dict[int, dict[FireState, int]],
    who: tuple[bool | None, str | None],
    now: datetime,
) -> None:
    """How well time was kept within 24 hours, and who keeps it."""
    window = {"since": now - _DAY, "until": now}
    canary = next((s for s in found if s.is_canary), None)
    every = services.read(schedules.lateness, **window)
    own = services.read(schedules.lateness, **window, schedule_id=canary.id) if canary else None
    title = "From when a fire was due to when it was booked, with its runs queued."
    alive, holder = who
    place, _, pid = (holder or "").rpartition(":")[0].rpartition(":")
    place = place.rpartition("-")[0] or place
    drawn = [
        Tile(
            name="Lateness, 24 h",
            value=said.lateness(every.p50),
            note=f"median; p99 {said.lateness(every.p99)}, {words.counted(every.fires, 'fire')}" if every.fires
            else "nothing booked yet",
            title=f"{title} All schedules.",
        ),
        Tile(
            name="Canary's lateness, 24 h",
            value=said.lateness(own.p50 if own else None),
            note="no canary is configured" if own is None
            else f"median; p99 {said.lateness(own.p99)}, worst {said.lateness(own.worst)}" if own.fires
            else "nothing booked yet",
            title=f"{title} The canary fires each minute and asks for nothing: it measures the scheduler itself.",
            href=said.href(canary.spec.name) if canary else None,
        ),
        Tile(
            name="Missed, 24 h",
            value=words.number(_sum(counts, found, FireState.MISSED)),
            note="fires that nobody was there for",
            title="Nobody scheduled when they were due, and the rule for outages left them out.",
            href=address("schedules", state="missed"),
        ),
        Tile(
            name="Skipped, 24 h",
            value=words.number(_sum(counts, found, FireState.SKIPPED)),
            note="on purpose, with the reason",
            title="Paused, or the last run was still under way.",
            href=address("schedules", state="skipped"),
        ),
        Tile(
            name="Who schedules",
            value="nobody" if alive is False else place or words.DASH,
            note=("its worker is gone" if holder else "no worker runs") if alive is False
            else f"process {pid}" if alive else f"process {pid}, not yet seen to live",
            title="The process that holds the lease novade:scheduler" + (f": {holder}" if holder else ""),
        ),
    ]  # fmt: skip
    tables.tiles(drawn)
    if alive is False:
        status.notice(
            tag("strong", "Nobody schedules. "),
            "What was promised meanwhile is booked late or as missed as soon as somebody does. Start a worker with ",
            tag("code", "python -m jobs worker"),
            ".",
            level="fail",
        )


def timeline(services: Services, found: Sequence[Schedule], now: datetime) -> None:
    """The next 24 hours, a lane for each schedule."""
    status.section("The next 24 hours")
    zone = services.zone()
    lanes = [lane(services, schedule, now) for schedule in found]
    hours = [now + timedelta(hours=6 * number) for number in range(5)]
    axis = [tag("span", "now" if i == 0 else f"{at.astimezone(zone):%a %H:%M}") for i, at in enumerate(hours)]
    show(
        tag(
            "div",
            lanes,
            tag("div", tag("span"), tag("div", axis, class_="nv-axis"), class_="nv-when"),
            class_="nv-timeline",
        )
    )


def lane(services: Services, schedule: Schedule, now: datetime) -> Markup:
    """One schedule's next 24 hours: a mark for each fire, a band where there are many."""
    zone, name = services.zone(), schedule.spec.name
    end = now + _DAY
    count = schedule.count_until(now, end)
    marks: list[Markup] = []
    if schedule.paused_at is not None:
        what = "paused, no fire"
    elif not count:
        following = schedule.next_fires(now, 1)
        what = f"no fire; the next one {words.relative(following[0], now)}" if following else "no fire"
    else:
        what = f"{words.counted(count, 'fire')}, {schedule.spec.timing.words()}"
    if 0 < count <= _MARKS:
        for at in schedule.fires_until(now, end):
            share = 100 * (at - now) / _DAY
            marks.append(tag("i", style=f"left:{share:.2f}%", title=f"{name}: {words.exact(at, zone)}"))
    elif count:
        first = schedule.next_fires(now, 1)[0]
        share = min(99.0, 100 * (first - now) / _DAY)
        marks.append(tag("b", style=f"left:{share:.2f}%;right:0", title=f"{name}: {what}"))
    tone = "mute" if schedule.is_canary or schedule.paused_at else "live"
    return tag(
        "div",
        tag("div", said.name_link(name), tag("span", what, class_="nv-mute-text")),
        tag("div", marks, class_=f"nv-marks nv-{tone}", role="img", aria_label=f"{name}: {what}"),
        class_="nv-when",
    )


def listed(services: Services, found: Sequence[Schedule], now: datetime) -> None:
    """The table."""
    zone = services.zone()
    last = services.read(schedules.last_fires)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.header("All schedules", anchor=False, width="content")
        if st.button("Add a schedule", key="schedule_add", icon=":material/add:"):
            st.query_params.from_dict({"view": "add"})
            st.rerun(scope="app")
    columns = (
        Column("Schedule"),
        Column("State"),
        Column("When"),
        Column("Streams", "nv-extra"),
        Column("Next fire", "nv-tight"),
        Column("Last fire"),
        Column("After an outage", "nv-extra", "What becomes of fires that nobody was there for"),
    )
    body = []
    for schedule in found:
        spec, before = schedule.spec, last.get(schedule.id)
        marks: list[Any] = []
        if schedule.is_canary:
            marks.append(tag("div", "measures the scheduler", class_="nv-mute-text"))
        if schedule.differs:
            title = "; ".join(
                f"{field}: {here}, novade.toml says {there}" for field, here, there in said.differences(schedule)
            )
            marks.append(
                tag("div", link("differs from novade.toml", said.href(spec.name), title=title), class_="nv-mute-text")
            )
        body.append(
            (
                [said.name_link(spec.name), marks],
                said.state_of(schedule),
                spec.timing.words(),
                said.streams_in_words(services, spec) if spec.streams else words.DASH,
                words.when(next(iter(schedule.next_fires(now, 1)), None), now, zone),
                words.DASH
                if before is None
                else [status.badge(before.state.value, title=before.reason), " ", words.when(before.due_at, now, zone)],
                said.OUTAGES[spec.outage],
            )
        )
    show(tables.table(columns, body, caption="All schedules"))
