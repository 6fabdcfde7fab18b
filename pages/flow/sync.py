"""Sync: bring this here, now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import queries, summaries
from novade_core.ledger.models import ENDED, RunState
from novade_core.ledger.requests import ask_for_run
from novade_core.monitoring.estimates import preview_of, total_of
from novade_core.monitoring.freshness import FreshState, freshness_of
from novade_core.streams import RunKind, Stream
from pages.ui import backfills, money, page, status, tables, words
from pages.ui.markup import address, join, link, show, tag
from pages.ui.tables import Column

services = page.open_page("Sync", "Bring streams here now.")
streams = {stream.id: stream for stream in services.environment.streams}
sources = sorted({stream.source for stream in streams.values()})

_EXPLAINED = {
    RunKind.INCREMENTAL: "Reads what changed since the last sync. The first one reads everything.",
    RunKind.FULL: "Reads everything again and replaces the table.",
    RunKind.BACKFILL: "Reads what changed within the window again; the checkpoint stays where it is.",
}


def to_url(name: str, key: str) -> None:
    """A widget's value into the URL, so that the view is a link."""
    value = st.session_state[key]
    if isinstance(value, list):
        value = ",".join(value)
    elif isinstance(value, datetime):
        value = value.isoformat(timespec="minutes")
    if value:
        st.query_params[name] = str(value)
    else:
        st.query_params.pop(name, None)


def choose(ids: list[str]) -> None:
    """Select these streams."""
    st.query_params["streams"] = ",".join(ids)


def instant(name: str, otherwise: datetime) -> datetime:
    """An instant of the URL as the widget wants it: without a zone, meant as UTC."""
    try:
        given = datetime.fromisoformat(st.query_params.get(name, ""))
    except ValueError:
        return otherwise.replace(tzinfo=None, second=0, microsecond=0)
    return (given.astimezone(UTC) if given.tzinfo else given).replace(tzinfo=None)


def chosen_streams(now: datetime) -> list[Stream]:
    """The chooser: search, all of a source, those that need it."""
    wanted = [i for i in st.query_params.get("streams", "").split(",") if i in streams]
    st.session_state["sync_streams"] = wanted
    st.multiselect(
        "Streams",
        list(streams),
        format_func=lambda i: streams[i].label,
        placeholder="Search streams",
        key="sync_streams",
        on_change=to_url,
        args=("streams", "sync_streams"),
        wrap=True,
    )
    facts = services.read(summaries.stream_facts, streams=services.environment.streams)
    old = [
        f.stream
        for f in facts
        if freshness_of(
            fresh_within_minutes=f.fresh_within_minutes, last_load_at=f.last_load_at, paused=f.paused, now=now
        ).state
        in (FreshState.STALE, FreshState.LATE, FreshState.NEVER_LOADED)
    ]
    with st.container(horizontal=True, gap="small"):
        for source in sources:
            ids = [s.id for s in streams.values() if s.source == source]
            st.button(f"All of {source.capitalize()}", key=f"sync_all_{source}", on_click=choose, args=(ids,))
        st.button(
            f"Late, stale or never loaded ({len(old)})",
            key="sync_old",
            on_click=choose,
            args=(old,),
            disabled=not old,
            help=None if old else "All streams are fresh.",
        )
    return [streams[i] for i in wanted]


def chosen_kind() -> RunKind:
    """Incremental, full or a window."""
    given = st.query_params.get("kind", "")
    st.session_state["sync_kind"] = given if given in words.KINDS else RunKind.INCREMENTAL.value
    st.radio(
        "Kind",
        list(words.KINDS),
        format_func=words.KINDS.__getitem__,
        key="sync_kind",
        horizontal=True,
        on_change=to_url,
        args=("kind", "sync_kind"),
    )
    kind = RunKind(st.session_state["sync_kind"])
    show(tag("p", _EXPLAINED[kind], class_="nv-aside"))
    return kind


def chosen_window(now: datetime) -> tuple[datetime, datetime]:
    """Both ends, UTC."""
    st.session_state["sync_since"] = instant("since", now - timedelta(days=7))
    st.session_state["sync_until"] = instant("until", now)
    low, high = st.columns(2)
    for column, name, label in ((low, "since", "From (UTC, included)"), (high, "until", "Until (UTC, not included)")):
        column.datetime_input(label, key=f"sync_{name}", on_change=to_url, args=(name, f"sync_{name}"))
    ends = []
    for name in ("since", "until"):
        given = st.session_state[f"sync_{name}"] or now.replace(tzinfo=None)
        ends.append(given.replace(tzinfo=UTC))
    return ends[0], ends[1]


def start(chosen: list[Stream], kind: RunKind, window: tuple[datetime, datetime] | None) -> None:
    """Write the requests; what was refused is said, what was asked for is kept."""
    since, until = window or (None, None)
    asked: list[int] = []
    st.session_state["sync_refused"] = None
    for stream in chosen:
        try:
            asked.append(
                ask_for_run(
                    services.ledger,
                    stream=stream,
                    kind=kind,
                    who=services.who,
                    origin="person",
                    now=services.now(),
                    since=since,
                    until=until,
                )
            )
        except NovadeError as error:
            st.session_state["sync_refused"] = (error.message, error.hint)
            break
    st.session_state["sync_started"] = asked
    st.session_state["sync_opened"] = []
    services.forget()


@st.dialog("Reload in full?")
def confirm(chosen: list[Stream], rows: str) -> None:
    """A full reload reads everything again, so it asks once."""
    names = words.listed([s.label for s in chosen])
    show(tag("p", f"{names}: everything is read again ({rows} rows), and the tables are replaced when it has worked."))
    with st.container(horizontal=True):
        asked = (chosen, RunKind.FULL, None)
        if st.button("Reload now", key="sync_confirm", type="primary", on_click=start, args=asked):
            st.rerun()
        if st.button("Keep as it is", key="sync_keep"):
            st.rerun()


def preview(chosen: list[Stream], kind: RunKind) -> str:
    """What it will take; gives the rows in words."""
    histories = services.read(summaries.stream_history, streams=tuple(chosen), kind=kind)
    costs = money.mean_of_runs(services, [history.run_ids for history in histories])
    previews = [preview_of(history, euros) for history, euros in zip(histories, costs, strict=True)]
    total = total_of(previews)
    columns = (
        Column("Stream", "nv-tight"),
        Column("Rows", "nv-right"),
        Column("API calls", "nv-right"),
        Column("Time", "nv-right"),
        Column("EUR", "nv-right", "What its earlier runs of this kind cost in the mean, at today's prices"),
        Column("From", "nv-wide"),
    )

    def cells(name: object, p: object) -> tuple[object, ...]:
        return (
            name,
            words.number(p.rows),
            words.number(p.calls),
            words.minutes(p.minutes),
            words.money(p.euros, ""),
            p.basis,
        )

    body = [cells(stream.label, p) for stream, p in zip(chosen, previews, strict=True)]
    if len(body) > 1:
        body.append(cells(tag("strong", "Together"), total))
    show(tables.table(columns, body, caption="What this sync will probably take"))
    return words.number(total.rows) if total.rows is not None else "an unknown number of"


def headline() -> None:
    """The sentence: what is under way, and that this page starts more."""
    runs = services.read(queries.open_runs)
    running = [r for r in runs if r.state is not RunState.QUEUED]
    queued = len(runs) - len(running)
    if not runs:
        status.headline("Nothing runs. Choose streams below to bring them up to date now.")
        return
    names = [link(services.label(r.subject), address("runs", run=r.id), title=r.subject) for r in running[:3]]
    clauses = []
    if names:
        more = f" and {len(running) - 3} more" if len(running) > 3 else ""
        clauses.append([join(", ", names), more, " is running" if len(running) == 1 else " are running"])
    if queued:
        clauses.append(link(words.counted(queued, "run") + " queued", address("runs", state="queued")))
    status.headline(join("; ", clauses), ".")


_now = services.now()
headline()
with st.container(border=True):
    _chosen = chosen_streams(_now)
    _kind = chosen_kind()
    _window = chosen_window(_now) if _kind is RunKind.BACKFILL else None
    _wish = backfills.chosen(_window, to_url) if _window is not None else None
    _many = _wish is not None and _wish.size != backfills.ONE
    _backwards = _window is not None and _window[1] <= _window[0]
    _rows, _windows = "", None
    if _chosen and not _backwards and _many:
        _windows = backfills.previewed(services, _chosen, _wish, _now)
        st.code(backfills.commands(_chosen, _wish), language=None, wrap_lines=True)
    elif _chosen:
        _rows = preview(_chosen, _kind)
        _since, _until = (f"{w:%Y-%m-%dT%H:%MZ}" for w in _window) if _window else (None, None)
        st.code(
            words.command(kind=_kind.value, streams=[s.id for s in _chosen], since=_since, until=_until),
            language=None,
            wrap_lines=True,
        )
    if _backwards:
        status.notice("The window ends before it starts. Choose a later end.", level="fail")
    _reason = (
        "Choose at least one stream first."
        if not _chosen
        else "Correct the window first."
        if _backwards
        else "Choose other windows first."
        if _many and not _windows
        else None
    )
    if st.button(
        "Start backfill" if _many else "Start sync",
        key="sync_start",
        type="primary",
        icon=":material/play_arrow:",
        disabled=_reason is not None,
        help=_reason,
    ):
        if _kind is RunKind.FULL:
            confirm(_chosen, _rows)
        elif _many and _windows == 1:
            backfills.start(services, _chosen, _wish)
        elif _many:
            backfills.confirm(services, _chosen, _wish, _windows)
        else:
            start(_chosen, _kind, _window)

if _refused := st.session_state.get("sync_refused"):
    status.failed(*_refused)

if _opened := st.session_state.get("sync_opened"):
    _names = words.listed([f"Backfill {i}" for i in _opened])
    status.notice(f"{_names} {'was' if len(_opened) == 1 else 'were'} started; the windows are below.", level="info")

_live = any(r.state is not RunState.QUEUED for r in services.read(queries.open_runs))
_started: list[int] = st.session_state.get("sync_started", [])


@st.fragment(run_every=services.interval(live=_live or bool(_started)))
def under_way() -> None:
    """What was just asked for, then all that runs and waits."""
    now = services.now()
    runs = services.read(queries.open_runs)
    if any(r.state is not RunState.QUEUED for r in runs) != _live:
        st.rerun(scope="app")
    if _started:
        asked = services.read(queries.runs_by_id, run_ids=tuple(_started))
        done = sum(r.state in ENDED for r in asked)
        status.section("Just asked for")
        columns = (Column("Run"), Column("Stream", "nv-tight"), Column("State"), Column("What happened", "nv-wide"))
        body = [
            (
                tables.run_link(r.id),
                services.label(r.subject),
                status.badge(r.state.value),
                tables.said(r) if r.state is not RunState.RUNNING else tables.progress(r, now),
            )
            for r in asked
        ]
        show(tables.table(columns, body, caption="Runs just asked for"))
        if done == len(asked):
            show(tag("p", "All of them have ended.", class_="nv-aside"))
    status.section("Now and next")
    page.worker_notice(services, queued=sum(r.state is RunState.QUEUED for r in runs))
    if runs:
        tables.open_runs(services, runs, now)
    else:
        show(tag("p", "Nothing runs and nothing is queued.", class_="nv-aside"))


under_way()
backfills.listed(services)
