"""Backfills on the Sync page: how to cut one, what it will take, and those that there are, window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import backfills, summaries
from novade_core.ledger.backfill_views import (
    ALIVE,
    WAITING,
    Chunk,
    Proposal,
    Summary,
    basis,
    grid,
    listing,
    preview,
    sentence,
    summary,
)
from novade_core.ledger.models import BackfillState
from novade_core.monitoring.estimates import Forecast, forecast_of
from novade_core.streams import Stream
from pages.ui import status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

ONE = "one"
SIZES = {ONE: "One window", "day": "By day", "week": "By week", "month": "By month"}
ORDERS = {"newest": "Newest first", "oldest": "Oldest first"}
SCOPES = {"all": "All windows", "missing": "Missing only", "failed": "Failed only"}
_SCOPES_EXPLAINED = {
    "all": "Every window is read.",
    "missing": "Windows that finished runs have read wholly are left out.",
    "failed": "Only windows whose newest backfill failed, was cancelled or abandoned are read.",
}
#: More windows than this are drawn less often.
_MANY = 400
#: Open ones and the last that ended.
_LISTED = 6


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the form says."""

    since: datetime
    until: datetime
    size: str
    newest_first: bool
    scope: str

    def arguments(self, stream: Stream) -> dict[str, Any]:
        """As the core wants it."""
        return {
            "stream": stream,
            "since": self.since,
            "until": self.until,
            "chunk": self.size,
            "newest_first": self.newest_first,
            "scope": self.scope,
        }


def chosen(window: tuple[datetime, datetime], to_url: Callable[[str, str], None]) -> Wish:
    """How the window is cut, where to begin, and which windows are read."""

    def choice(label: str, name: str, options: dict[str, str]) -> str:
        key = f"sync_{name}"
        given = st.query_params.get(name, "")
        st.session_state[key] = given if given in options else next(iter(options))
        st.radio(
            label,
            list(options),
            format_func=options.__getitem__,
            key=key,
            horizontal=True,
            on_change=to_url,
            args=(name, key),
        )
        return str(st.session_state[key])

    size = choice("Cut the window", "chunk", SIZES)
    order, scope = "newest", "all"
    if size != ONE:
        left, right = st.columns(2)
        with left:
            order = choice("Order", "order", ORDERS)
        with right:
            scope = choice("Which windows", "scope", SCOPES)
        show(
            tag(
                "p",
                _SCOPES_EXPLAINED[scope],
                " One window is read at a time, after whatever people and schedules ask for.",
                class_="nv-aside",
            )
        )
    return Wish(since=window[0], until=window[1], size=size, newest_first=order == "newest", scope=scope)


def commands(streams: Sequence[Stream], wish: Wish) -> str:
    """The same as commands, one a line."""
    since, until = (f"{w:%Y-%m-%dT%H:%M:%SZ}" for w in (wish.since, wish.until))
    order = "--newest-first" if wish.newest_first else "--oldest-first"
    how = f"--since {since} --until {until} --chunk {wish.size} {order} --scope {wish.scope}"
    return "\n".join(f"python -m jobs backfill start {stream.id} {how}" for stream in streams)


def _proposed(ledger: Any, **wanted: Any) -> Proposal | tuple[str, str]:
    """What it would do, or why it is refused: message and hint."""
    try:
        return preview(ledger, **wanted)
    except NovadeError as error:
        return error.message, error.hint


def previewed(services: Services, streams: Sequence[Stream], wish: Wish, now: datetime) -> int | None:
    """Draw what it will take; answers the windows that will be read, None where it is refused."""
    body: list[tuple[Any, ...]] = []
    windows = 0
    for stream in streams:
        proposal = services.read(_proposed, **wish.arguments(stream), now=now)
        if not isinstance(proposal, Proposal):
            status.notice(tag("strong", proposal[0]), " ", proposal[1])
            return None
        if not proposal.read:
            status.notice(f"{stream.label}: nothing of this time is {wish.scope}; all windows would be left out.")
            return None
        forecast = forecast_of([c.expected for c in proposal.read], proposal.basis)
        windows += forecast.windows
        share = [] if forecast.share is None else [f" ({_percent(forecast.share)} of a day's)"]
        body.append(
            (
                stream.label,
                words.number(forecast.windows),
                words.number(len(proposal.chunks) - len(proposal.read)),
                words.number(forecast.rows),
                [words.number(forecast.calls), *share],
                words.minutes(forecast.minutes),
                forecast.basis,
            )
        )
    columns = (
        Column("Stream", "nv-tight"),
        Column("Windows", "nv-right"),
        Column("Left out", "nv-right"),
        Column("Rows", "nv-right"),
        Column("API calls", "nv-right"),
        Column("Time", "nv-right"),
        Column("From", "nv-wide"),
    )
    show(tables.table(columns, body, caption="What this backfill will probably take"))
    return windows


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{share * 100:.0f} %"


def start(services: Services, streams: Sequence[Stream], wish: Wish) -> None:
    """Open the backfills; what was refused is said, what was opened stays."""
    opened: list[int] = []
    st.session_state["sync_refused"] = None
    for stream in streams:
        try:
            opened.append(
                backfills.start(services.ledger, **wish.arguments(stream), who=services.who, now=services.now())
            )
        except NovadeError as error:
            st.session_state["sync_refused"] = (error.message, error.hint)
            break
    st.session_state["sync_opened"] = opened
    services.forget()


@st.dialog("Start this backfill?")
def confirm(services: Services, streams: Sequence[Stream], wish: Wish, windows: int) -> None:
    """Many windows keep the source busy for long, so it asks once."""
    names = words.listed([s.label for s in streams])
    show(
        tag(
            "p",
            f"{names}: {words.counted(windows, 'window')} {'is' if windows == 1 else 'are'} read one after another,"
            " between the normal syncs. It can be paused at any time, and the checkpoint stays where it is.",
        )
    )
    with st.container(horizontal=True):
        asked = (services, streams, wish)
        if st.button("Start now", key="sync_confirm", type="primary", on_click=start, args=asked):
            st.rerun()
        if st.button("Not now", key="sync_keep"):
            st.rerun()


# --- those that there are -------------------------------------------------------------------------


def _one(ledger: Any, backfill_id: int) -> Summary | None:
    try:
        return summary(ledger, backfill_id)
    except NovadeError:
        return None


def _act(services: Services, action: Callable[..., Any], backfill_id: int) -> None:
    st.session_state["backfill_refused"] = None
    try:
        action(services.ledger, backfill_id, who=services.who, now=services.now())
    except NovadeError as error:
        st.session_state["backfill_refused"] = (error.message, error.hint)
    services.forget()


def listed(services: Services) -> None:
    """Open backfills with their windows, and the last ones that ended; drawn anew while one is open."""
    given = st.query_params.get("backfill", "")
    wanted = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
    found = _found(services, wanted)
    if not found and wanted is None:
        return
    live = any(facts.state is BackfillState.OPEN or facts.under_way for facts in found)
    slow = 3 if max((facts.windows for facts in found), default=0) > _MANY else 1

    @st.fragment(run_every=services.interval(live=live) * slow)
    def drawn() -> None:
        now, facts = services.now(), _found(services, wanted)
        if any(f.state is BackfillState.OPEN or f.under_way for f in facts) != live:
            st.rerun(scope="app")
        status.section("Backfills")
        if wanted is not None and all(f.id != wanted for f in facts):
            status.failed(f"There is no backfill {wanted}.", "Look at the list, or start one above.")
        if refused := st.session_state.get("backfill_refused"):
            status.failed(*refused)
        if any(f.state is BackfillState.OPEN for f in facts) and not services.read(summaries.workers):
            status.notice(
                "No worker lives that could read the windows. Start one with ",
                tag("code", "python -m jobs worker"),
                ".",
            )
        mine = st.session_state.get("sync_opened", [])
        for place, one in enumerate(facts):
            # Whoever has watched one fill wants to see it whole at the end.
            _drawn(services, one, now, whole=place == 0 or one.state in ALIVE or one.id in mine)

    drawn()


def _found(services: Services, wanted: int | None) -> list[Summary]:
    """The one that the link names first, then the list."""
    found = list(services.read(listing, limit=_LISTED))
    if wanted is None:
        return found
    chosen_one = services.read(_one, backfill_id=wanted)
    return ([] if chosen_one is None else [chosen_one]) + [f for f in found if f.id != wanted]


def _drawn(services: Services, facts: Summary, now: datetime, *, whole: bool) -> None:
    zone = services.zone()
    scope = "" if facts.scope == "all" else f", {SCOPES[facts.scope].lower()}"
    order = ORDERS["newest" if facts.newest_first else "oldest"].lower()
    name = [
        tag("strong", link(f"Backfill {facts.id}", address("sync", backfill=facts.id))),
        tag("span", services.label(facts.stream), title=facts.stream),
        status.badge(facts.state.value),
        tag("span", f"{_instant(facts.since)} to {_instant(facts.until)} by {facts.chunk}, {order}{scope}"),
        tag(
            "span",
            "asked ",
            words.when(facts.requested_at, now, zone),
            " by ",
            facts.requested_by,
            class_="nv-mute-text",
        ),
    ]
    chunks = services.read(grid, backfill_id=facts.id) if whole else ()
    said: list[Any] = [sentence(facts)]
    if facts.state is BackfillState.CANCELLED and facts.headline:
        said.append(f" {facts.headline}")
    parts = [tag("div", name, class_="nv-row"), tag("p", said)]
    if facts.state in ALIVE:
        parts.append(_progress(facts))
        if rest := _rest(services, facts, chunks):
            parts.append(tag("p", rest, class_="nv-mute-text"))
    if whole:
        parts += [_legend(chunks), _grid(facts, chunks)]
    else:
        parts.append(tag("p", link("Show its windows", address("sync", backfill=facts.id))))
    show(tag("div", parts, class_="nv-item nv-open"))
    _buttons(services, facts)


def _buttons(services: Services, facts: Summary) -> None:
    given: list[tuple[str, str, str, Callable[..., Any], str]] = []
    if facts.state is BackfillState.OPEN:
        given.append(("Pause", "pause", ":material/pause:", backfills.pause, "pause"))
    if facts.state is BackfillState.PAUSED:
        given.append(("Continue", "continue", ":material/play_arrow:", backfills.continue_, "continue"))
    if facts.failed or facts.cancelled:
        given.append(("Read failed again", "failed", ":material/replay:", backfills.again, "again"))
    if facts.state in ALIVE:
        given.append(("Cancel", "cancel", ":material/stop:", backfills.cancel, "cancel"))
    if not given:
        return
    with st.container(horizontal=True, gap="small"):
        for label, name, icon, action, command in given:
            st.button(
                label,
                key=f"backfill_{name}_{facts.id}",
                icon=icon,
                on_click=_act,
                args=(services, action, facts.id),
                help=f"`python -m jobs backfill {command} {facts.id}`",
            )


def _progress(facts: Summary) -> Markup:
    ended = facts.read + facts.failed + facts.cancelled
    share = 100 * ended / facts.windows if facts.windows else 0
    bar = tag(
        "div",
        tag("div", class_="nv-fill", style=f"width:{share:.1f}%"),
        class_="nv-track",
        role="progressbar",
        aria_label=f"Progress of backfill {facts.id}",
        aria_valuenow=f"{share:.0f}",
        aria_valuemin="0",
        aria_valuemax="100",
    )
    return Markup(tag("div", f"{ended:,} of {words.counted(facts.windows, 'window')}") + bar)


def _rest(services: Services, facts: Summary, chunks: Sequence[Chunk]) -> str | None:
    """What is still to come, in words."""
    waiting = [chunk.expected for chunk in chunks if chunk.state == WAITING]
    stream = next((s for s in services.environment.streams if s.id == facts.stream), None)
    if not waiting or stream is None:
        return None
    forecast: Forecast = forecast_of(waiting, services.read(basis, stream=stream))
    still = f"Still to come: {words.counted(forecast.windows, 'window')}"
    if forecast.rows is None:
        return f"{still}; what they take is {forecast.basis}."
    share = "" if forecast.share is None else f" ({_percent(forecast.share)} of a day's)"
    took = words.minutes(forecast.minutes)
    return f"{still}, about {forecast.rows:,} rows, {forecast.calls:,} API calls{share}, {took} of work."


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d}" if instant.time() == datetime.min.time() else f"{instant:%Y-%m-%d %H:%M}"


def _legend(chunks: Sequence[Chunk]) -> Markup:
    counted = Counter(chunk.state for chunk in chunks)
    known = [state for state in (*status.RUNS, *status.BACKFILLS) if state in counted]
    return tag("div", [tag("span", status.badge(s), f" {counted[s]:,}") for s in known], class_="nv-row nv-legend")


def _grid(facts: Summary, chunks: Sequence[Chunk]) -> Markup:
    """One cell a window, in the order of time, a line for each year (of days: for each month)."""
    days = facts.chunk == "day"
    lines = [
        tag("div", tag("span", head, class_="nv-mute-text"), tag("ol", [tag("li", _cell(facts, c)) for c in members]))
        for head, members in groupby(
            sorted(chunks, key=lambda c: c.low), key=lambda c: f"{c.low:%Y-%m}" if days else f"{c.low:%Y}"
        )
    ]
    label = f"Windows of backfill {facts.id}"
    return tag("div", lines, class_=f"nv-cells nv-by-{facts.chunk}", tabindex="0", role="region", aria_label=label)


def _cell(facts: Summary, chunk: Chunk) -> Markup:
    rows = f", {chunk.rows:,} rows" if chunk.rows is not None else ""
    if chunk.rows is None and chunk.expected is not None:
        rows = f", about {chunk.expected:,} rows expected"
    run = f", run {chunk.run_id}" if chunk.run_id is not None else ""
    reason = f" {chunk.left_out}" if chunk.left_out else ""
    said = f"{_instant(chunk.low)} to {_instant(chunk.high)}: {chunk.state}{rows}{run}.{reason}"
    short = {"day": "%d", "week": "%d %b", "month": "%b"}[facts.chunk]
    inner = [status.icon(status.symbol(chunk.state)), tag("span", f"{chunk.low:{short}}")]
    look = f"nv-cell nv-{status.tone(chunk.state)}"
    if chunk.run_id is None:
        return tag("span", inner, class_=look, role="img", aria_label=said, title=said)
    return tag(
        "a", inner, class_=look, href=address("runs", run=chunk.run_id), target="_self", aria_label=said, title=said
    )
