"""The list of runs: a histogram that filters, filters in the URL, paging by key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.ledger import queries, summaries
from novade_core.ledger.models import RunState
from novade_core.ledger.queries import RunFilter, RunRow
from pages.ui import status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services

#: name in the URL -> (length, a bar is a day)
_SPANS = {
    "24 h": (timedelta(hours=24), False),
    "7 days": (timedelta(days=7), False),
    "30 days": (timedelta(days=30), True),
}
_PROBLEMS = "problems"
_ANY = "any"
_SHOWN = 50
_CSV_ROWS = 5_000


def params() -> dict[str, str]:
    """What the URL says, unknown names left out."""
    known = ("state", "source", "stream", "kind", "text", "since", "until", "span", "before", "after")
    return {name: st.query_params[name] for name in known if st.query_params.get(name)}


def href(**changes: Any) -> str:
    """This view with some changes; paging starts anew unless it is what changes."""
    kept = {k: v for k, v in params().items() if k not in ("before", "after")}
    return address("runs", **(kept | changes))


def _to_url(name: str, key: str) -> None:
    value = st.session_state[key]
    for page_name in ("before", "after"):
        st.query_params.pop(page_name, None)
    if value and value != _ANY:
        st.query_params[name] = value
    else:
        st.query_params.pop(name, None)


def _instant(text: str | None) -> datetime | None:
    try:
        given = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _number(text: str | None) -> int | None:
    return min(int(text), 2**62) if text and text.isdecimal() and text.isascii() else None


def filters_of(given: dict[str, str]) -> RunFilter:
    """The URL as a filter; what it does not understand does not restrict."""
    state = given.get("state", "")
    states: tuple[RunState, ...] = ()
    if state == _PROBLEMS:
        states = queries.PROBLEMS
    elif state in {s.value for s in RunState}:
        states = (RunState(state),)
    return RunFilter(
        states=states,
        source=given.get("source"),
        subject=given.get("stream"),
        kind=given.get("kind"),
        since=_instant(given.get("since")),
        until=_instant(given.get("until")),
        text=given.get("text", "")[:200],
    )


def draw(services: Services) -> None:
    """The list."""
    given = params()
    wanted = filters_of(given)
    now = services.now()
    headline(services, now)
    choose(services, given)
    histogram(services, wanted, given, now)
    listed(services, given, wanted, now)


def headline(services: Services, now: datetime) -> None:
    """The sentence: the last 24 hours."""
    counts = services.read(summaries.count_by_state, since=now - timedelta(hours=24), until=now)
    total = sum(counts.values())
    if not total:
        status.headline("No run was asked for within 24 hours.")
        return
    bad = sum(counts.get(s, 0) for s in queries.PROBLEMS)
    parts: list[Any] = [words.counted(total, "run"), " in 24 hours: "]
    well = counts.get(RunState.SUCCEEDED, 0)
    clauses = [link(f"{well:,} succeeded", address("runs", state="succeeded"))] if well else []
    for state in (RunState.LANDED, RunState.FAILED, RunState.ABANDONED, RunState.PARTIAL, RunState.CANCELLED):
        if counts.get(state):
            clauses.append(link(f"{counts[state]:,} {state.value}", address("runs", state=state.value)))
    open_now = sum(counts.get(s, 0) for s in queries.OPEN)
    if open_now:
        clauses.append(Markup(f"{open_now:,} under way or queued"))
    parts.append([clauses[0], *[[", ", clause] for clause in clauses[1:]]])
    status.headline(parts, "." if bad else "; none needs you.")


def choose(services: Services, given: dict[str, str]) -> None:
    """The filters. The URL is what counts; a widget only writes it."""
    states = [_ANY, _PROBLEMS, *[s.value for s in RunState]]
    streams = [_ANY, *[s.id for s in services.environment.streams]]
    sources = [_ANY, *sorted({s.source for s in services.environment.streams})]
    kinds = [_ANY, *words.KINDS]
    labels = {s.id: s.label for s in services.environment.streams}
    boxes = (
        ("state", "State", states, {_PROBLEMS: "failed, abandoned, partial"}),
        ("source", "Source", sources, {}),
        ("stream", "Stream", streams, labels),
        ("kind", "Kind", kinds, words.KINDS),
    )
    with st.grid(5, min_column_width=140):
        for name, label, options, spoken in boxes:
            value = given.get(name, _ANY)
            key = f"runs_{name}"
            st.session_state[key] = value
            st.selectbox(
                label,
                options if value in options else [*options, value],
                key=key,
                format_func=lambda v, s=spoken: s.get(v, v),
                on_change=_to_url,
                args=(name, key),
            )
        st.session_state["runs_text"] = given.get("text", "")
        st.text_input(
            "Text or run number",
            key="runs_text",
            on_change=_to_url,
            args=("text", "runs_text"),
            type="search",
            max_chars=200,
            placeholder="In the headline or error",
        )


def histogram(services: Services, wanted: RunFilter, given: dict[str, str], now: datetime) -> None:
    """Bars by hour (or day), failures in the colour of failures; each bar is a link to its hour."""
    span = given.get("span", "24 h")
    length, by_day = _SPANS.get(span, _SPANS["24 h"])
    step = timedelta(days=1) if by_day else timedelta(hours=1)
    end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    if by_day:
        end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    begin = end - length
    buckets = services.read(
        summaries.histogram, since=begin, until=end, by_day=by_day, source=wanted.source, subject=wanted.subject
    )
    by_start: dict[str, dict[RunState, int]] = defaultdict(dict)
    for bucket in buckets:
        if not wanted.states or bucket.state in wanted.states:
            by_start[bucket.start][bucket.state] = bucket.runs
    highest = max((sum(b.values()) for b in by_start.values()), default=0)
    bars: list[Markup] = []
    at = begin
    while at < end:
        counts = by_start.get(f"{at:%Y-%m-%d}" if by_day else f"{at:%Y-%m-%dT%H}", {})
        bars.append(_bar(at, at + step, counts, highest, by_day))
        at += step
    spans = [
        tag("strong", name) if name == span else link(name, href(span=name), title=f"Show the last {name}")
        for name in _SPANS
    ]
    bad = sum(n for b in by_start.values() for s, n in b.items() if s in queries.PROBLEMS)
    total = sum(sum(b.values()) for b in by_start.values())
    title = f"{words.counted(total, 'run')} by {'day' if by_day else 'hour'}, {bad:,} with trouble"
    span_links = tag("span", [[s, " "] for s in spans], class_="nv-row")
    limits: list[Any] = []
    if given.get("since") or given.get("until"):
        limits = [
            tag(
                "span",
                f"Only {given.get('since', 'the start')} to {given.get('until', 'now')} UTC. ",
                link("All times", href(since=None, until=None)),
            )
        ]
    show(
        tag("div", tag("span", title), span_links, limits, class_="nv-row nv-aside"),
        tag("div", bars, class_="nv-histogram", role="group", aria_label=title),
        tag("div", tag("span", f"{begin:%d %b %H:%M}"), tag("span", f"{end:%d %b %H:%M} UTC"), class_="nv-axis"),
    )


def _bar(start: datetime, end: datetime, counts: dict[RunState, int], highest: int, by_day: bool) -> Markup:
    if not counts:
        return tag("span")
    parts = [
        tag("i", class_=f"nv-{status.tone(state.value)}", style=f"height:{100 * runs / highest:.1f}%")
        for state, runs in sorted(counts.items(), key=lambda item: item[0] not in queries.PROBLEMS)
    ]
    said = ", ".join(f"{runs:,} {state.value}" for state, runs in sorted(counts.items()))
    name = f"{start:%d %b}" if by_day else f"{start:%d %b %H:%M} UTC"
    target = href(since=f"{start:%Y-%m-%dT%H:%M}", until=f"{end:%Y-%m-%dT%H:%M}")
    return tag("a", parts, href=target, target="_self", title=f"{name}: {said}", aria_label=f"{name}: {said}")


def listed(services: Services, given: dict[str, str], wanted: RunFilter, now: datetime) -> None:
    """The table, its neighbours and its download."""
    before, after = _number(given.get("before")), _number(given.get("after"))
    found = services.read(
        queries.recent_runs, filters=wanted, before=before, after=None if before else after, limit=_SHOWN
    )
    if not found.rows and found.looked_to is None:
        _nothing(given)
        return
    if found.rows:
        tables.runs(services, found.rows, now)
    if found.looked_to is not None:
        show(
            tag(
                "p",
                f"Looked at runs back to {found.looked_to:,} only. ",
                link("Look further back.", href(before=found.looked_to)),
                class_="nv-aside",
            )
        )
    turns = []
    if found.newer is not None:
        turns += [link("Newest", href()), link("Newer", href(after=found.newer))]
    if found.older is not None:
        turns.append(link("Older", href(before=found.older)))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="content"):
            show(tag("nav", turns, class_="nv-row", aria_label="Pages of runs") if turns else tag("span"))
        tables.download(
            "Download CSV",
            lambda: tables.csv_of_runs(_many(services, wanted)),
            file_name="runs.csv",
            key="runs_csv",
        )


def _many(services: Services, wanted: RunFilter) -> Iterator[RunRow]:
    """The runs that match, newest first, up to a bound."""
    before = None
    for _ in range(_CSV_ROWS // 500):
        found = queries.recent_runs(services.ledger, filters=wanted, before=before, limit=500)
        yield from found.rows
        before = found.older if found.older is not None else found.looked_to
        if before is None:
            return


def _nothing(given: dict[str, str]) -> None:
    if given:
        status.empty("No run matches.", link("Show all runs.", address("runs")))
    else:
        status.empty("Nothing has run yet.", link("Start a sync.", address("sync")), " Its run appears here at once.")
