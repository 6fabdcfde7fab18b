"""Overview: is data moving, can I believe it, what does it cost?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

import streamlit as st

from novade_core.ledger import queries, schedules, summaries
from novade_core.ledger.models import RunState
from novade_core.monitoring.costs import Cost
from novade_core.monitoring.freshness import Freshness, FreshState, freshness_of
from pages.ui import money, page, status, tables, window_words, words
from pages.ui.markup import Markup, address, join, link, show, tag
from pages.ui.tables import Column, Tile

services = page.open_page("Overview", "Is data moving, can I believe it, what does it cost?")


@dataclass(frozen=True)
class Line:
    """One stream as this page shows it."""

    facts: summaries.StreamFacts
    fresh: Freshness
    rows: int | None  #: of seven days
    before: int | None  #: of the seven days before those
    unit: Decimal | None  #: euros for 1,000 rows of this month


@dataclass(frozen=True)
class Spending:
    """What this month and the last two weeks cost."""

    month: money.Spent
    by_day: dict[date, Cost]  #: of two weeks

    def unit(self, stream: str) -> Decimal | None:
        """Euros for 1,000 rows of a stream in this month."""
        cost = self.month.by_stream.get(stream)
        return None if cost is None else cost.per_thousand(self.month.rows.get(stream))


def spending(now: datetime) -> Spending:
    """Costs as this page shows them."""
    today, known = now.date(), money.book(services)
    return Spending(
        month=money.spent(services, known, today.replace(day=1), today),
        by_day=money.by_day(services, known, today - timedelta(days=13), today),
    )


def lines(now: datetime, totals: tuple[summaries.DayTotal, ...], costs: Spending) -> list[Line]:
    """All streams with their state now."""
    week = now.date() - timedelta(days=6)
    sums: dict[tuple[str, bool], int] = defaultdict(int)
    for day in totals:
        sums[day.stream, day.day >= week] += day.loaded
    found = []
    for facts in services.read(summaries.stream_facts, streams=services.environment.streams):
        fresh = freshness_of(
            fresh_within_minutes=facts.fresh_within_minutes,
            last_load_at=facts.last_load_at,
            paused=facts.paused,
            now=now,
        )
        rows = sums.get((facts.stream, True), 0) if facts.first_loaded_at is not None else None
        unit = costs.unit(facts.stream)
        found.append(Line(facts=facts, fresh=fresh, rows=rows, before=sums.get((facts.stream, False)), unit=unit))
    return found


def trouble(line: Line) -> Markup | None:
    """What is wrong with a stream, as a clause; None where nothing is."""
    facts, fresh = line.facts, line.fresh
    runs = address("runs", stream=facts.stream)
    if fresh.state in (FreshState.PAUSED, FreshState.NEVER_LOADED):
        return None
    if facts.last_run_state in (RunState.FAILED, RunState.ABANDONED) and facts.last_run_id is not None:
        verb = "failed" if facts.last_run_state is RunState.FAILED else "lost its worker"
        aged = f", {fresh.sentence.rstrip('.')}" if fresh.state is FreshState.STALE else ""
        return link(f"{facts.label} {verb}{aged}", address("runs", run=facts.last_run_id), title=facts.stream)
    if fresh.state is FreshState.STALE:
        return link(f"{facts.label} is {fresh.sentence.rstrip('.')}", runs, title=facts.stream)
    if facts.comparison_state == "differs":
        return link(
            f"{facts.label} differs from its source", address("reconciliation", stream=facts.stream), title=facts.stream
        )
    if fresh.state is FreshState.LATE:
        return link(f"{facts.label} is late, {fresh.sentence.rstrip('.')}", runs, title=facts.stream)
    return None


def headline(all_lines: list[Line], today: int, running: int, spent: Cost | None) -> None:
    """The sentence."""
    count = len(all_lines)
    loaded = [line for line in all_lines if line.fresh.state is not FreshState.NEVER_LOADED]
    if not loaded:
        first = address("runs", state="running") if running else address("sync")
        status.empty(
            f"Nothing has been loaded yet: {words.counted(count, 'stream')} configured.",
            link("The first syncs are under way." if running else "Start the first sync.", first),
            None
            if running
            else " It reads each stream once from its oldest record on, then, each time, what changed since.",
        )
        return
    clauses = [clause for line in all_lines if (clause := trouble(line)) is not None]
    fresh = sum(line.fresh.state is FreshState.FRESH for line in all_lines)
    arrived = [
        link(words.counted(today, "row"), address("runs", state="succeeded")),
        " arrived today; cost not known yet."
        if spent is None or spent.euros is None
        else [" arrived today for ", link(words.money(spent.euros), address("costs")), "."],
    ]
    if not clauses:
        never = count - len(loaded)
        others = f", {never} never loaded" if never else ""
        what = f"All {count} streams are fresh" if fresh == count else f"{fresh} of {count} streams are fresh{others}"
        status.headline(what, "; ", arrived)
        return
    verb = ("stream" if count == 1 else "streams") + (" needs" if len(clauses) == 1 else " need")
    parts: list[object] = [f"{len(clauses)} of {count} {verb} you: ", join("; ", clauses[:3])]
    if len(clauses) > 3:
        parts.append(f"; and {len(clauses) - 3} more")
    status.headline(parts, ". ", arrived)


def metrics(all_lines: list[Line], totals: tuple[summaries.DayTotal, ...], costs: Spending, now: datetime) -> None:
    """Five figures, each with two weeks and the change against the week before."""
    days = [now.date() - timedelta(days=back) for back in range(13, -1, -1)]
    loaded: dict[date, int] = defaultdict(int)
    failed: dict[date, int] = defaultdict(int)
    moving: dict[date, int] = defaultdict(int)
    for day in totals:
        loaded[day.day] += day.loaded
        failed[day.day] += day.failed
        moving[day.day] += day.runs > day.failed
    rows, failures = [loaded[d] for d in days], [failed[d] for d in days]
    counts = services.read(summaries.count_by_state, since=now - timedelta(hours=24), until=now)
    broken = counts.get(RunState.FAILED, 0) + counts.get(RunState.ABANDONED, 0)
    fresh = sum(line.fresh.state is FreshState.FRESH for line in all_lines)
    differ = sum(line.facts.comparison_state == "differs" for line in all_lines)
    compared = sum(line.facts.comparison_state not in (None, "unknown") for line in all_lines)
    more = sum(failures[7:]) - sum(failures[:7])
    rows_change = words.change(sum(rows[7:]), sum(rows[:7]))
    tiles = (
        Tile(
            name="Fresh streams",
            value=f"{fresh} of {len(all_lines)}",
            note="with a run that worked, by day",
            days=tuple(moving[d] for d in days),
            href=address("freshness"),
            title="Loaded within their limit. Bars: streams with a run that worked, by day, for two weeks.",
        ),
        Tile(
            name="Rows today",
            value=words.number(loaded[days[-1]]),
            note=f"{rows_change} this week vs last".replace("-", "−") if rows_change else "loaded, by day",
            days=tuple(rows),
            title="Loaded since 00:00 UTC. Bars: by day, for two weeks; change: 7 days against the 7 before.",
        ),
        Tile(
            name="Failed runs, 24 h",
            value=words.number(broken),
            note=f"{more:+d} this week vs last".replace("-", "−") if more else "as many this week as last",
            days=tuple(failures),
            tone="bad",
            href=address("runs", state="failed"),
            title="Failed or abandoned. Bars: failed by day, for two weeks; change: 7 days against the 7 before.",
        ),
        Tile(
            name="Streams that differ",
            value=words.number(differ) if compared else words.DASH,
            note=f"{compared} compared" if compared else "none compared yet",
            href=address("reconciliation"),
            title="Between the source's count and the warehouse's, at the last comparison.",
        ),
        cost_tile(costs, days),
    )
    tables.tiles(tiles)


def cost_tile(costs: Spending, days: list[date]) -> Tile:
    """This month's cost, with what two weeks cost by day."""
    total, rows = costs.month.total, costs.month.all_rows
    unit = total.per_thousand(rows)
    note = (
        "not known yet" if total.euros is None else "no rows yet" if unit is None else f"{words.money(unit)} per 1,000"
    )
    spent = [costs.by_day[day].euros or Decimal(0) if day in costs.by_day else Decimal(0) for day in days]
    return Tile(
        name="Cost this month",
        value=words.money(total.euros),
        note=note,
        days=tuple(float(euros) for euros in spent) if total.euros else (),
        title=f"At the prices entered{', ' + left if (left := money.without(total.unpriced)) else ''}. Bars: by day.",
        href=address("costs"),
    )


_ORDER = {
    FreshState.STALE: 0,
    FreshState.LATE: 1,
    FreshState.NEVER_LOADED: 2,
    FreshState.FRESH: 3,
    FreshState.PAUSED: 4,
}
_SORTS = {
    "as configured": None,
    "worst first": lambda line: (_ORDER[line.fresh.state], line.facts.label),
    "oldest first": lambda line: -(line.fresh.age or timedelta.max).total_seconds(),
    "most rows first": lambda line: -(line.rows or 0),
    "name": lambda line: line.facts.label.lower(),
}
_COLUMNS = (
    Column("Stream", "nv-tight"),
    Column("State"),
    Column("Proven up to date", "nv-tight", "When a run last proved the stream up to date, against its limit"),
    Column("Newest record", "nv-tight nv-extra", "Age of the newest record at the source"),
    Column("Last run", "nv-tight nv-extra"),
    Column("Rows, 7 days", "nv-right"),
    Column("EUR per 1,000", "nv-right nv-extra", "This month, for rows that were loaded"),
    Column("Last comparison", "nv-wide"),
)


def streams_table(all_lines: list[Line], now: datetime) -> None:
    """Streams by source."""
    zone = services.zone()
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.header("Streams", anchor=False, width="content")
        with st.popover("Search, sort, columns", type="tertiary", key="overview_view"):
            wanted = st.text_input("Search", key="overview_search", type="search")
            order = st.selectbox("Sort", list(_SORTS), key="overview_sort")
            names = [c.name for c in _COLUMNS[1:]]
            hidden = st.multiselect("Hide columns", names, key="overview_hidden", wrap=True)
            tables.download(
                "Download CSV",
                lambda: csv_of(all_lines),
                file_name="streams.csv",
                key="overview_csv",
            )
    chosen = [x for x in all_lines if wanted.lower() in f"{x.facts.label} {x.facts.stream} {x.fresh.state}".lower()]
    if (sort := _SORTS[order]) is not None:
        chosen.sort(key=sort)
    shown = [i for i, c in enumerate(_COLUMNS) if c.name not in hidden]
    body: list[tuple[object, ...]] = []
    for source in dict.fromkeys(line.facts.source for line in chosen):
        of_source = [line for line in chosen if line.facts.source == source]
        body.append(
            ([source.capitalize(), " ", tag("span", words.counted(len(of_source), "stream"), class_="nv-aside")],)
        )
        for line in of_source:
            cells = row_of(line, now, zone)
            body.append(tuple(cells[i] for i in shown))
    if not chosen:
        show(tag("p", "No stream matches the search.", class_="nv-aside"))
        return
    show(tables.table([_COLUMNS[i] for i in shown], body, caption="Streams by source", groups=True))


def row_of(line: Line, now: datetime, zone: object) -> tuple[object, ...]:
    """One stream's cells."""
    facts = line.facts
    compared: object = words.DASH
    if facts.comparison_state is not None:
        compared = status.verdict(facts.comparison_state, facts.comparison_sentence)
    last: object = words.DASH
    if facts.last_run_id is not None and facts.last_run_state is not None:
        last = [
            status.badge(facts.last_run_state.value),
            [" ", status.badge("no rows", title=facts.last_run_notice)] if facts.last_run_notice else None,
            " ",
            tables.run_link(facts.last_run_id, str(facts.last_run_id)),
        ]
    return (
        link(facts.label, address("runs", stream=facts.stream), title=facts.stream),
        status.badge(line.fresh.state.value, title=line.fresh.sentence),
        words.when(facts.last_load_at, now, zone),
        words.when(facts.data_to, now, zone),
        last,
        words.number(line.rows),
        words.DASH if line.unit is None else link(words.money(line.unit, ""), address("costs", stream=facts.stream)),
        compared,
    )


def csv_of(all_lines: list[Line]) -> str:
    """The table for a spreadsheet."""
    names = (
        "stream", "label", "source", "state", "last_load_at", "data_to", "last_run", "rows_7_days", "eur_per_1000",
        "comparison",
    )  # fmt: skip
    return tables.csv_text(
        names,
        (
            (
                x.facts.stream, x.facts.label, x.facts.source, x.fresh.state, x.facts.last_load_at, x.facts.data_to,
                x.facts.last_run_id, x.rows, x.unit, x.facts.comparison_sentence,
            )
            for x in all_lines
        ),
    )  # fmt: skip


def findings(now: datetime) -> None:
    """What is open, and what to do."""
    found = services.read(summaries.open_findings)
    if not found:
        return
    status.section("Open findings")
    items = []
    for finding in found:
        head = [
            status.badge(finding.severity),
            tag("strong", finding.summary),
            link(services.label(finding.subject), address("runs", stream=finding.subject), title=finding.subject),
            tag("span", "open since ", words.when(finding.opened_at, now, services.zone()), class_="nv-aside"),
            None if finding.run_id is None else tables.run_link(finding.run_id),
        ]
        row = tag("div", [tag("span", part) for part in head if part is not None], class_="nv-row")
        items.append(tag("div", row, tag("div", "Next: ", finding.next_step), class_="nv-item"))
    show(tag("div", items, class_="nv-list"))


_live = any(r.state is not RunState.QUEUED for r in services.read(queries.open_runs))


@st.fragment(run_every=services.interval(live=False) if not _live else 5.0)
def summary() -> None:
    """Everything but what runs now."""
    now = services.now()
    totals = services.read(summaries.daily_totals, since=now.date() - timedelta(days=13), until=now.date())
    costs = spending(now)
    all_lines = lines(now, totals, costs)
    today = sum(day.loaded for day in totals if day.day == now.date())
    running = len(services.read(queries.open_runs))
    headline(all_lines, today, running, costs.by_day.get(now.date()))
    window_words.line(services, now)
    metrics(all_lines, totals, costs, now)
    streams_table(all_lines, now)
    findings(now)


def comes_next(now: datetime) -> None:
    """The next five fires."""
    found = services.read(schedules.schedules)
    due = schedules.upcoming(found, now)
    if not due:
        paused = any(s.paused_at is not None for s in found)
        said = "Every schedule is paused." if paused else "Nothing is scheduled."
        show(tag("p", link(said, address("schedules")), class_="nv-aside"))
        return
    parts = [
        [link(s.spec.name, address("schedules", schedule=s.spec.name)), " ", words.when(at, now, services.zone())]
        for at, s in due
    ]
    show(tag("p", link("Comes next", address("schedules")), ": ", join(", ", parts), ".", class_="nv-aside"))


@st.fragment(run_every=services.interval(live=_live))
def under_way() -> None:
    """What runs now, what is queued."""
    now = services.now()
    runs = services.read(queries.open_runs)
    if any(r.state is not RunState.QUEUED for r in runs) != _live:
        st.rerun(scope="app")
    queued = sum(r.state is RunState.QUEUED for r in runs)
    status.section("Now and next")
    page.worker_notice(services, queued=queued)
    comes_next(now)
    if not runs:
        show(
            tag("p", "Nothing runs and nothing is queued. ", link("Start a sync.", address("sync")), class_="nv-aside")
        )
        return
    tables.open_runs(services, runs, now)


summary()
under_way()
