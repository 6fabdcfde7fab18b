"""What a run left behind: steps, records, comparison, usage, log."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import streamlit as st

from novade_core.ledger import queries
from novade_core.ledger.models import ENDED
from novade_core.ledger.queries import LogLine, RunDetail
from novade_core.monitoring.costs import cost_of_run
from pages.ui import money, status, tables, words
from pages.ui.markup import Markup, address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

_LOG_LINES = 200


def waterfall(run: RunDetail, now: datetime) -> None:
    """Steps over time; the solid part is a step's own time, because extract and land alternate."""
    status.section("Steps")
    if not run.steps:
        show(tag("p", "No step has begun.", class_="nv-aside"))
        return
    start = min(s.started_at for s in run.steps)
    end = max([s.ended_at or now for s in run.steps] + [start + timedelta(milliseconds=1)])
    whole = (end - start).total_seconds()
    live = run.progress or {}
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
        mark = step.state in ("failed", "running")
        name = [step.name, [" ", status.badge(step.state)] if mark else None]
        known = step.ended_at is not None
        rows = step.rows if known else live.get("rows") if live.get("step") == step.name else None
        body.append((name, words.number(rows), words.duration(step.busy_ms / 1000) if known else words.DASH, lane))
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
        show(tag("p", _so_far(run), class_="nv-aside"))
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


def _so_far(run: RunDetail) -> str:
    """Records are counted when a run ends; before that, its progress is all that is known."""
    if run.state in ENDED:
        return "Nothing was read." if not run.steps else "Not counted: the run ended before it could say."
    live = run.progress or {}
    rows = live.get("rows") or 0
    if live.get("step") == "load":
        of = f" of {words.number(live['total'])}" if live.get("total") else ""
        return f"{words.number(rows)}{of} landed records have been loaded so far."
    if live.get("step") == "verify":
        return "All have been loaded; both sides are being counted."
    return f"{words.number(rows)} records have been read and landed so far." if rows else "Nothing has been read yet."


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
    """Usage, each step's at the prices of the run's day."""
    status.section("Usage and cost")
    found = services.read(queries.usage, run_id=run.id)
    if not found:
        show(tag("p", "No usage has been recorded.", class_="nv-aside"))
        return
    book, day = money.book(services), (run.ended_at or services.now()).date()
    each = [cost_of_run({u.meter: u.quantity}, book, day) for u in found]
    body: list[tuple[object, ...]] = [
        (u.meter, u.step, words.quantity(u.meter, u.quantity), words.money(cost.euros, ""))
        for u, cost in zip(found, each, strict=True)
    ]
    meters: dict[str, int] = {}
    for u in found:
        meters[u.meter] = meters.get(u.meter, 0) + u.quantity
    total = cost_of_run(meters, book, day)
    if total.euros is not None:
        unit = total.per_thousand(run.loaded)
        per = f", {words.money(unit)} per 1,000 rows loaded" if unit is not None else ""
        left_out = f"; {money.without(total.unpriced)}" if total.unpriced else ""
        costs = link("at these prices", address("costs", stream=run.subject))
        show(tag("p", tag("strong", words.money(total.euros)), per, " ", costs, left_out, ".", class_="nv-aside"))
    columns = (
        Column("Meter"),
        Column("Step"),
        Column("Used", "nv-right"),
        Column("EUR", "nv-right", "A dash where a meter has no price"),
    )
    show(tables.table(columns, body, caption="What the run used"))


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
