"""One run: headline, problem, steps, funnel, comparison, log, usage, what changed, actions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.errors import NovadeError
from novade_core.ledger import queries, summaries
from novade_core.ledger.models import ENDED, RunState
from novade_core.ledger.queries import LogLine, RunDetail
from novade_core.ledger.requests import ask_for_run, ask_to_cancel
from novade_core.monitoring.freshness import freshness_of
from novade_core.streams import RunKind
from pages.ui import status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

_LOG_LINES = 200
_ORIGINS = {"source": "the source", "landing": "the landing", "warehouse": "the warehouse", "us": "this installation"}
_SEEMS = {
    "queued": "waits for a worker, asked for",
    "running": "is running, started",
    "cancelling": "was asked to end, started",
    "succeeded": "succeeded",
    "partial": "succeeded, with rejected records",
    "failed": "failed",
    "cancelled": "was cancelled",
    "abandoned": "was abandoned: its worker vanished",
}


def draw(services: Services, number: str) -> None:
    """The view of ``?run=``."""
    show(link("All runs", address("runs")))
    run = None
    if number.isdecimal() and number.isascii():
        run = services.read(queries.run, run_id=min(int(number), 2**62))
    if run is None:
        status.empty(f"There is no run {number[:40]}.", link("Look at all runs.", address("runs")))
        return
    top(services, run)
    live = run.state not in ENDED
    now = services.now()
    if run.state in (RunState.FAILED, RunState.ABANDONED):
        problem(services, run, now)
    actions(services, run)

    @st.fragment(run_every=services.interval(live=True) if live else None)
    def moving() -> None:
        """What changes while the run is under way."""
        current = services.read(queries.run, run_id=run.id) or run
        if current.state is not run.state:
            st.rerun(scope="app")
        clock = services.now()
        if current.state in (RunState.RUNNING, RunState.CANCELLING):
            show(tables.progress(current, clock))
        left, right = st.columns(2, gap="medium")
        with left:
            waterfall(current, clock)
        with right:
            funnel(current)
        log(services, current)

    details(services, run, now)
    moving()
    compared(services, run)
    left, right = st.columns(2, gap="medium")
    with left:
        changed(services, run, now)
    with right:
        used(services, run)


def top(services: Services, run: RunDetail) -> None:
    """The sentence."""
    now, zone = services.now(), services.zone()
    instant = run.ended_at or run.started_at or run.requested_at
    stream = link(services.label(run.subject), address("runs", stream=run.subject), title=run.subject)
    parts: list[Any] = [f"Run {run.id:,}: ", stream, f" {_SEEMS.get(run.state.value, run.state.value)} "]
    parts.append(words.when(instant, now, zone))
    if run.ended_at is not None and run.started_at is not None:
        parts.append(f", in {words.duration((run.ended_at - run.started_at).total_seconds())}")
    named = f"{services.label(run.subject)}: "  # which the sentence has said already
    said = (run.headline or "").removeprefix(named) if run.state not in (RunState.FAILED, RunState.ABANDONED) else None
    parts.append([". ", said] if said else ".")
    status.headline(parts)


def details(services: Services, run: RunDetail, now: datetime) -> None:
    """Who asked for what, and where it ran."""
    zone = services.zone()
    window: Any = None
    if run.parameters.get("since"):
        window = f"{str(run.parameters['since'])[:16]} to {str(run.parameters.get('until'))[:16]} UTC"
    pairs: list[tuple[str, Any]] = [
        ("State", status.badge(run.state.value)),
        ("Kind", [words.KINDS.get(run.kind, run.kind), [", ", window] if window else None]),
        (
            "Asked",
            [
                words.when(run.requested_at, now, zone),
                f" by {run.requested_by}",
                f" ({run.origin})" if run.origin != run.requested_by else None,
            ],
        ),
        ("Started", words.when(run.started_at, now, zone)),
        ("Ended", words.when(run.ended_at, now, zone)),
        ("Attempt", str(run.attempt)),
        ("Newest record", words.when(run.data_to, now, zone)),
        ("Code", run.code_version or words.DASH),
    ]
    if run.state is RunState.QUEUED and run.not_before is not None:
        pairs.append(("Starts", words.when(run.not_before, now, zone)))
    if run.cancel_requested_by:
        pairs.append(
            ("End asked for", [words.when(run.cancel_requested_at, now, zone), f" by {run.cancel_requested_by}"])
        )
    show(tables.facts(pairs))


def problem(services: Services, run: RunDetail, now: datetime) -> None:
    """What, since when, what it affects, why, next step, command."""
    zone = services.zone()
    before = services.read(queries.before_run, run=_as_row(run))
    since: list[Any] = ["Never worked before." if before.worked is None else "Last worked "]
    if before.worked is not None:
        since += [tables.run_link(before.worked.id, words.when(before.worked.ended_at, now, zone)), "."]
    if before.failures > 1 and before.failing_since is not None:
        count = f"{before.failures}{' or more' if before.more else ''}"
        first = tables.run_link(before.failing_since.id, words.when(before.failing_since.requested_at, now, zone))
        since += [f" {count} failures in a row, the first ", first, "."]
    facts = next(
        (
            f
            for f in services.read(summaries.stream_facts, streams=services.environment.streams)
            if f.stream == run.subject
        ),
        None,
    )
    affects: Any = "A stream that is not configured any more."
    if facts is not None:
        fresh = freshness_of(
            fresh_within_minutes=facts.fresh_within_minutes,
            last_load_at=facts.last_load_at,
            paused=facts.paused,
            now=now,
        )
        affects = [facts.label, " ", status.badge(fresh.state.value), " ", fresh.sentence]
        if facts.last_run_id is not None and facts.last_run_id > run.id and facts.last_run_state in queries.WORKED:
            affects = [affects, " A later run worked: ", tables.run_link(facts.last_run_id), "."]
    message = (
        run.error_message or run.headline or "Its worker vanished before it could say why; it is tried again by itself."
    )
    origin = _ORIGINS.get(run.error_origin or "", run.error_origin or "not known")
    command = words.command(
        kind=run.kind,
        streams=[run.subject],
        since=run.parameters.get("since"),
        until=run.parameters.get("until"),
    )
    pairs = (
        ("What", tag("strong", message)),
        ("Since", since),
        ("Affects", affects),
        ("Why", f"{run.error_kind or 'not known'}; the fault lies with {origin}."),
        ("Next", run.error_hint or "Run it again."),
        ("Command", tag("code", command)),
    )
    inner = tag("dl", [[tag("dt", name), tag("dd", value)] for name, value in pairs])
    show(tag("div", inner, class_="nv-problem", role="region", aria_label="What went wrong"))


def _as_row(run: RunDetail) -> queries.RunRow:
    names = queries.RunRow.__dataclass_fields__
    return queries.RunRow(**{name: getattr(run, name) for name in names})


def actions(services: Services, run: RunDetail) -> None:
    """Run again, or cancel; each says what came of it."""
    with st.container(horizontal=True, gap="small"):
        if run.state in ENDED:
            known = run.subject in {s.id for s in services.environment.streams}
            reason = None if known else "This stream is not configured any more."
            if run.kind not in words.KINDS:
                reason = "Only syncs can be run again from here."
            if st.button(
                "Run again", key="run_again", icon=":material/replay:", disabled=reason is not None, help=reason
            ):
                again(services, run)
        else:
            asked = run.state is RunState.CANCELLING
            why = "Its end has been asked for already." if asked else None
            if st.button("Cancel run", key="run_cancel", icon=":material/stop:", disabled=asked, help=why):
                confirm_cancel(services, run)
    if said := st.session_state.pop("run_said", None):
        if isinstance(said, int):
            status.notice("Asked for ", tables.run_link(said), ".", level="info")
        else:
            status.failed(*said)


def again(services: Services, run: RunDetail) -> None:
    """Ask for the same once more."""
    window = {k: datetime.fromisoformat(run.parameters[k]) for k in ("since", "until") if run.parameters.get(k)}
    try:
        st.session_state["run_said"] = ask_for_run(
            services.ledger,
            stream=services.environment.stream(run.subject),
            kind=RunKind(run.kind),
            who=services.who,
            origin="person",
            now=services.now(),
            **window,
        )
    except NovadeError as error:
        st.session_state["run_said"] = (error.message, error.hint)
    services.forget()


def cancel(services: Services, run_id: int) -> None:
    """Ask for the run's end; a run that has ended meanwhile says so."""
    try:
        ask_to_cancel(services.ledger, run_id=run_id, who=services.who, now=services.now())
    except NovadeError as error:
        st.session_state["run_said"] = (error.message, error.hint)
    services.forget()


@st.dialog("Cancel this run?")
def confirm_cancel(services: Services, run: RunDetail) -> None:
    """Ask once."""
    kept = (
        "It has not started."
        if run.state is RunState.QUEUED
        else "What has landed is kept; a load under way is finished."
    )
    show(tag("p", f"Run {run.id:,}, {services.label(run.subject)}. {kept}"))
    with st.container(horizontal=True):
        if st.button("Cancel it", key="run_cancel_confirm", type="primary", on_click=cancel, args=(services, run.id)):
            st.rerun()
        if st.button("Let it run", key="run_cancel_keep"):
            st.rerun()


def waterfall(run: RunDetail, now: datetime) -> None:
    """Steps over time; the solid part is a step's own time, because extract and land alternate."""
    status.section("Steps")
    if not run.steps:
        show(tag("p", "No step has begun.", class_="nv-aside"))
        return
    start = min(s.started_at for s in run.steps)
    end = max([s.ended_at or now for s in run.steps] + [start + timedelta(milliseconds=1)])
    whole = (end - start).total_seconds()
    body = []
    for step in run.steps:
        length = ((step.ended_at or now) - step.started_at).total_seconds()
        left = 100 * (step.started_at - start).total_seconds() / whole
        own = 100.0 if step.ended_at is None or length <= 0 else min(100.0, 100 * step.busy_ms / 1000 / length)
        tone = {"failed": "bad", "running": "live"}.get(step.state, "live")
        lane = tag(
            "div",
            tag(
                "div",
                tag("div", style=f"width:{own:.1f}%"),
                style=f"left:{left:.2f}%;width:{100 * length / whole:.2f}%",
                class_=f"nv-{tone}",
            ),
        )
        name = [step.name, [" ", status.badge("failed")] if step.state == "failed" else None]
        body.append((name, words.number(step.rows), words.duration(step.busy_ms / 1000), lane))
    columns = (
        Column("Step", "nv-tight"),
        Column("Rows", "nv-right"),
        Column("Own time", "nv-right"),
        Column("Time", "nv-lane"),
    )
    show(tag("div", tables.table(columns, body, caption="Steps of the run over time"), class_="nv-bars"))
    messages = [f"{s.name}: {s.message}" for s in run.steps if s.message and s.message != run.error_message]
    if messages:
        show(tag("p", " · ".join(messages), class_="nv-aside"))


def funnel(run: RunDetail) -> None:
    """Where each record went."""
    status.section("Records")
    if run.read is None:
        show(tag("p", "Nothing has been read yet.", class_="nv-aside"))
        return
    stages = (
        ("Read", run.read, "live"),
        ("Landed", run.landed, "live"),
        ("Loaded", run.loaded, "good"),
        ("of these deleted", run.deleted, "mute"),
        ("Unchanged", run.unchanged, "mute"),
        ("Superseded", run.superseded, "mute"),
        ("Duplicates", run.duplicates, "mute"),
        ("Rejected", run.rejected, "bad"),
    )
    most = max(run.read, 1)
    body = []
    for name, value, tone in stages:
        share = 0.0 if not value else min(100.0, 100 * value / most)
        bar = tag(
            "div", tag("div", tag("div"), style=f"left:0;width:{share:.2f}%", class_=f"nv-{tone}") if value else None
        )
        body.append((name, words.number(value), bar))
    columns = (Column("Stage", "nv-tight"), Column("Records", "nv-right"), Column("Share of what was read", "nv-lane"))
    show(tag("div", tables.table(columns, body, caption="Where the run's records went"), class_="nv-bars"))
    parts = (run.loaded, run.unchanged, run.superseded, run.duplicates, run.rejected)
    if None not in parts and run.state in queries.WORKED:
        total = sum(p for p in parts if p is not None)
        if total == run.read:
            show(tag("p", "Every record that was read is accounted for.", class_="nv-aside"))
        else:
            status.notice(f"{abs(run.read - total):,} records are not accounted for.", level="fail")


def counts(found: Iterable[queries.ComparisonRow], caption: str) -> Markup:
    """Both sides' counts, by window."""
    columns = (
        Column("Window", "nv-tight"),
        Column("Source", "nv-right"),
        Column("Warehouse", "nv-right"),
        Column("Verdict", "nv-wide"),
    )
    body = [
        (
            "All" if c.window == "all" else c.window,
            words.number(c.source_count),
            words.number(c.warehouse_count),
            status.verdict(c.state, c.sentence),
        )
        for c in found
    ]
    return tables.table(columns, body, caption=caption)


def compared(services: Services, run: RunDetail) -> None:
    """Source against warehouse, with the keys by name."""
    found = services.read(queries.comparisons, run_id=run.id)
    left = services.read(queries.artifacts, run_id=run.id)
    if not found and not left:
        return
    status.section("Source against warehouse")
    if found:
        plain = [c for c in found if c.state == "equal" and c.window != "all"]
        show(counts([c for c in found if c not in plain], "Counts of the source and the warehouse"))
        if plain:
            summary = tag("summary", words.counted(len(plain), "window is equal", "windows are equal"))
            show(tag("details", summary, counts(plain, "Windows whose counts are equal")))
    for i, artifact in enumerate(left):
        rows = [r if isinstance(r, dict) else {"value": r} for r in artifact.content]
        if artifact.kind in ("missing_keys", "extra_keys"):
            where = "in the source only" if artifact.kind == "missing_keys" else "in the warehouse only"
            line = f"{words.counted(len(rows), 'record')} {where}: "
            show(tag("p", line, tables.keys_line([str(r.get("key", "")) for r in rows])))
        else:
            names = list(dict.fromkeys(str(k) for r in rows for k in r))
            show(
                tag(
                    "p",
                    tag("strong", artifact.kind.replace("_", " ").capitalize()),
                    f", {words.counted(len(rows), 'sample')}",
                )
            )
            body = [tuple(words.DASH if r.get(n) is None else str(r.get(n)) for n in names) for r in rows[:20]]
            show(tables.table([Column(n.replace("_", " ").capitalize()) for n in names], body, caption=artifact.kind))
        columns_of = list(dict.fromkeys(str(k) for r in rows for k in r))
        text = tables.csv_text(columns_of, ([r.get(n) for n in columns_of] for r in rows))
        tables.download(
            f"Download {artifact.kind.replace('_', ' ')}",
            text,
            file_name=f"run-{run.id}-{artifact.kind}.csv",
            key=f"run_artifact_{i}",
        )


def used(services: Services, run: RunDetail) -> None:
    """Usage; its price is not known yet."""
    status.section("Usage and cost")
    found = services.read(queries.usage, run_id=run.id)
    if not found:
        show(tag("p", "No usage has been recorded.", class_="nv-aside"))
        return
    body = [(u.meter, u.step, _quantity(u.meter, u.quantity), words.DASH) for u in found]
    columns = (
        Column("Meter"),
        Column("Step"),
        Column("Used", "nv-right"),
        Column("EUR", "nv-right", "Not known before prices are entered"),
    )
    show(tables.table(columns, body, caption="What the run used"))


def _quantity(meter: str, value: int) -> str:
    if "bytes" in meter:
        return words.size(value)
    return words.duration(value / 1000) if meter.endswith("_ms") else words.number(value)


def changed(services: Services, run: RunDetail, now: datetime) -> None:
    """Code, columns and volume against the last run that worked before this one."""
    status.section("Changed since it last worked")
    before = services.read(queries.before_run, run=_as_row(run)).worked
    if before is None:
        show(tag("p", "It never worked before this run.", class_="nv-aside"))
        return
    rows: list[tuple[Any, ...]] = [
        ("Code", before.code_version or words.DASH, run.code_version or words.DASH),
        ("Kind", words.KINDS.get(before.kind, before.kind), words.KINDS.get(run.kind, run.kind)),
        ("Records read", words.number(before.read), words.number(run.read)),
        ("API calls", words.number(before.api_calls), words.number(run.api_calls)),
        ("Time", words.duration(tables.took(before, now)), words.duration(tables.took(run, now))),
    ]
    plans = [p for p in (before.plan_id, run.plan_id) if p is not None]
    columns = services.read(queries.plan_columns, plan_ids=tuple(plans)) if plans else {}
    old = columns.get(before.plan_id) if before.plan_id is not None else None
    new = columns.get(run.plan_id) if run.plan_id is not None else None
    if old is not None and new is not None:
        rows += [(f"Column {n}", words.DASH, t) for n, t in new.items() if n not in old]
        rows += [(f"Column {n}", t, words.DASH) for n, t in old.items() if n not in new]
        rows += [(f"Column {n}", old[n], t) for n, t in new.items() if n in old and old[n] != t]
    body = [(name, a, tag("strong", b) if a != b else b) for name, a, b in rows]
    heads = (Column("What"), Column(f"Run {before.id:,}"), Column(f"Run {run.id:,}"))
    show(tables.table(heads, body, caption="This run against the last one that worked"))
    show(tag("p", "Compared with ", tables.run_link(before.id), ".", class_="nv-aside"))


def log(services: Services, run: RunDetail) -> None:
    """The last lines, live while it runs. Plain text throughout."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        st.header("Log", anchor=False, width="content")
        level = st.radio(
            "Level", ["all", "warning", "error"], key="run_log_level", horizontal=True, label_visibility="collapsed"
        )
    lines = services.read(queries.log, run_id=run.id, level=None if level == "all" else level, limit=_LOG_LINES)
    if not lines:
        show(tag("p", "No lines." if level == "all" else f"No lines of level {level}.", class_="nv-aside"))
        return
    if len(lines) == _LOG_LINES:
        show(tag("p", f"The last {_LOG_LINES} lines; the download has all.", class_="nv-aside"))
    st.code(
        "\n".join(_line(entry) for entry in lines),
        language=None,
        wrap_lines=True,
        height=320 if len(lines) > 14 else "content",
    )
    st.download_button(
        "Download log",
        data=lambda: "\n".join(_line(entry) for entry in _all_lines(services, run.id)),
        file_name=f"run-{run.id}.log",
        mime="text/plain",
        key="run_log_download",
        on_click="ignore",
        icon=":material/download:",
    )


def _line(entry: LogLine) -> str:
    extra = " ".join(f"{k}={v}" for k, v in (entry.fields or {}).items())
    return (
        f"{entry.at:%H:%M:%S}.{entry.at.microsecond // 1000:03d}  {entry.level:<7}  {entry.message}  {extra}".rstrip()
    )


def _all_lines(services: Services, run_id: int) -> Iterable[LogLine]:
    after = 0
    while lines := queries.log(services.ledger, run_id, after=after, limit=1_000):
        yield from lines
        after = lines[-1].id
