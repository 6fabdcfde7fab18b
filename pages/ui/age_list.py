"""All streams: how old they are, and on which days they kept their limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import streamlit as st

from novade_core.ledger import ages, summaries
from novade_core.monitoring import freshness
from novade_core.monitoring.freshness import Freshness, FreshState, freshness_of, spoken
from pages.ui import status, tables, words
from pages.ui.markup import Markup, address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

SPANS = {"14 days": 14, "30 days": 30, "90 days": 90}
#: Days that a phone shows.
_NARROW = 10
_MEANS = {
    FreshState.FRESH: "within its limit all day",
    FreshState.LATE: "close to its limit",
    FreshState.STALE: "over its limit",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stream: now, and by day."""

    facts: summaries.StreamFacts
    fresh: Freshness
    by_day: dict[date, timedelta | None]

    @property
    def kept(self) -> float | None:
        """The share of days on which it kept its limit."""
        return freshness.attainment(self.by_day.values(), self.fresh.limit)


def draw(services: Services) -> None:
    """The page without a stream chosen."""

    @st.fragment(run_every=services.interval(live=False))
    def moving() -> None:
        now = services.now()
        given = st.query_params.get("span", "")
        span = given if given in SPANS else "30 days"
        days = freshness.days_between(now.date() - timedelta(days=SPANS[span] - 1), now.date())
        found = lines(services, days, now)
        headline(found, span)
        if any(line.fresh.state is not FreshState.NEVER_LOADED for line in found):
            heatmap(found, days, span)
        listed(services, found, span, now)

    moving()


def lines(services: Services, days: Sequence[date], now: datetime) -> list[Line]:
    """All configured streams."""
    recorded: dict[str, dict[date, int]] = defaultdict(dict)
    for age in services.read(ages.daily_ages, since=days[0], until=days[-1]):
        recorded[age.stream][age.day] = age.oldest_seconds
    return [
        Line(
            facts=facts,
            fresh=fresh_now(facts, now),
            by_day=freshness.ages_by_day(
                recorded[facts.stream],
                days,
                first_loaded_at=facts.first_loaded_at,
                last_load_at=facts.last_load_at,
                now=now,
            ),
        )
        for facts in services.read(summaries.stream_facts, streams=services.environment.streams)
    ]


def fresh_now(facts: summaries.StreamFacts, now: datetime) -> Freshness:
    """A stream's state now."""
    return freshness_of(
        fresh_within_minutes=facts.fresh_within_minutes,
        last_load_at=facts.last_load_at,
        paused=facts.paused,
        now=now,
    )


def headline(found: Sequence[Line], span: str) -> None:
    """The sentence."""
    old = [line for line in found if line.fresh.state is FreshState.STALE]
    late = [line for line in found if line.fresh.state is FreshState.LATE]
    never = sum(line.fresh.state is FreshState.NEVER_LOADED for line in found)
    if never == len(found):
        status.empty(
            f"Nothing has been loaded yet: {words.counted(len(found), 'stream')} configured.",
            link("Start the first sync", address("sync")), "; from then on this page says how old each stream is.",
        )  # fmt: skip
        return
    shares = [line.kept for line in found if line.kept is not None]
    kept = (
        f" Limits were kept on {percent(sum(shares) / len(shares))} of all days of the last {span}." if shares else ""
    )
    left = f", {never} never loaded" if never else ""
    if not old and not late:
        others = [line for line in found if line.fresh.state is FreshState.FRESH]
        oldest = max(others, key=lambda line: line.fresh.age or timedelta(0), default=None)
        if oldest is None or oldest.fresh.age is None:
            status.headline("All loaded streams are paused", left, ".", kept)
            return
        what = (
            f"All {len(found)} streams are"
            if len(others) == len(found)
            else f"{len(others)} of {len(found)} streams are"
        )
        name = link(oldest.facts.label, href(oldest.facts.stream), title=oldest.facts.stream)
        status.headline(
            f"{what} within their limits{left}; the oldest is ", name, f", {spoken(oldest.fresh.age)} old.", kept
        )
        return
    worst = [*sorted(old, key=lambda line: line.fresh.limit - (line.fresh.age or timedelta(0))), *late]
    clauses = [
        [link(line.facts.label, href(line.facts.stream), title=line.facts.stream), " ", line.fresh.sentence.rstrip(".")]
        for line in worst[:3]
    ]
    more = f"; and {len(worst) - 3} more" if len(worst) > 3 else ""
    said = f"{len(old)} of {len(found)} {'is' if len(old) == 1 else 'are'} over the limit" if old else (
        f"{len(late)} of {len(found)} {'is' if len(late) == 1 else 'are'} close to the limit"
    )  # fmt: skip
    status.headline(said, left, ": ", join("; ", clauses), more, ".", kept)


def percent(share: float) -> str:
    """99.1 %; 100 % only where it is all of it."""
    text = f"{share * 100:.1f}"
    return "100 %" if share == 1 else f"{'99.9' if text == '100.0' else text} %"


def href(stream: str, **more: str) -> str:
    """The view of one stream."""
    return address("freshness", stream=stream, **more)


def heatmap(found: Sequence[Line], days: Sequence[date], span: str) -> None:
    """Streams by days, the newest at the right; each cell leads to the day's runs."""
    shares = [line for line in found if line.kept is not None]
    whole = sum(line.kept == 1 for line in shares)
    title = f"{whole} of {words.counted(len(shares), 'stream')} kept the limit each day"
    spans = [
        tag("strong", name) if name == span else link(name, address("freshness", span=name), title=f"The last {name}")
        for name in SPANS
    ]
    status.section(title)
    key = [[status.badge(s.value), " ", tag("span", _MEANS[s], class_="nv-mute-text")] for s in _MEANS]
    show(
        tag("div", tag("span", [[s, " "] for s in spans], class_="nv-row"), class_="nv-row nv-aside"),
        tag("p", [[k, " "] for k in key], class_="nv-row"),
    )
    narrow = len(days) - _NARROW
    head = [tag("th", "Stream", scope="col")]
    for number, day in enumerate(days):
        said = f"{day.day}" if len(days) <= 30 or day.day in (1, 10, 20) else ""
        head.append(
            tag("th", said, scope="col", title=f"{day:%A %d %B}", class_="nv-extra" if number < narrow else None)
        )
    body = [_row(line, days, narrow, icons=len(days) <= 30) for line in found]
    inner = tag("table", tag("thead", tag("tr", head)), tag("tbody", body), aria_label=title)
    show(tag("div", inner, class_="nv-scroll nv-days", tabindex="0", role="region", aria_label=title))


def _row(line: Line, days: Sequence[date], narrow: int, *, icons: bool) -> Markup:
    label, stream, limit = line.facts.label, line.facts.stream, line.fresh.limit
    cells = [tag("th", link(label, href(stream), title=stream), scope="row")]
    for number, day in enumerate(days):
        age = line.by_day[day]
        extra = "nv-extra" if number < narrow else None
        if age is None:
            unknown = tag("span", words.DASH, class_="nv-day nv-mute", title=f"{day}: not known")
            cells.append(tag("td", unknown, class_=extra))
            continue
        state = freshness.state_of_age(age, limit)
        said = f"{label}, {day}: {state.value}, {spoken(age)} old at most, limit {spoken(limit)}"
        where = address("runs", stream=stream, since=f"{day}T00:00", until=f"{day + timedelta(days=1)}T00:00")
        sign = status.icon(status.symbol(state.value)) if icons or state is not FreshState.FRESH else None
        look = f"nv-day nv-{status.tone(state.value)}"
        cell = tag("a", sign, href=where, target="_self", class_=look, title=said, aria_label=said)
        cells.append(tag("td", cell, class_=extra))
    return tag("tr", cells)


def listed(services: Services, found: Sequence[Line], span: str, now: datetime) -> None:
    """The same as figures."""
    zone = services.zone()
    columns = (
        Column("Stream", "nv-tight"),
        Column("State"),
        Column("Proven up to date", "nv-tight", "When a run last proved the stream up to date"),
        Column("Limit", "nv-tight"),
        Column("Stale", "nv-tight nv-extra", "When it becomes stale, or became so"),
        Column(f"Kept, {span}", "nv-right", "Days on which it kept its limit all day"),
        Column("Oldest", "nv-tight nv-extra", f"How old it became within {span}"),
        Column("Newest record", "nv-tight nv-extra", "At the source"),
    )
    body = []
    for line in found:
        known = [age for age in line.by_day.values() if age is not None]
        body.append(
            (
                link(line.facts.label, href(line.facts.stream), title=line.facts.stream),
                status.badge(line.fresh.state.value, title=line.fresh.sentence),
                words.when(line.facts.last_load_at, now, zone),
                spoken(line.fresh.limit),
                words.when(line.fresh.due, now, zone),
                words.DASH if line.kept is None else percent(line.kept),
                spoken(max(known)) if known else words.DASH,
                words.when(line.facts.data_to, now, zone),
            )
        )
    status.section("Streams", "Limits are settings: ", tag("code", "fresh_within_minutes"), " of each stream.")
    show(tables.table(columns, body, caption="Streams and their age"))
    tables.download("Download CSV", lambda: csv_of(found), file_name="freshness.csv", key="freshness_csv")


def csv_of(found: Sequence[Line]) -> str:
    """Streams by days for a spreadsheet."""
    names = ("stream", "label", "day", "oldest_seconds", "limit_seconds", "state")
    return tables.csv_text(
        names,
        (
            (
                line.facts.stream, line.facts.label, day, None if age is None else int(age.total_seconds()),
                int(line.fresh.limit.total_seconds()),
                None if age is None else freshness.state_of_age(age, line.fresh.limit),
            )
            for line in found
            for day, age in line.by_day.items()
        ),
    )  # fmt: skip
