"""Tables, bars and downloads that pages share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.ledger.models import RunState
from novade_core.ledger.queries import RunRow
from pages.ui import status, words
from pages.ui.markup import Markup, address, join, link, show, tag
from pages.ui.page import Services

#: What a spreadsheet takes for the start of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
#: A run that says nothing for longer than this hangs, or its machine does.
_SILENCE = timedelta(seconds=15)


@dataclass(frozen=True)
class Column:
    """A column: its heading, how it lies, and whether the reader may hide it."""

    name: str
    #: classes: nv-right for figures, nv-wide for sentences, nv-tight: no wrapping, nv-extra: left out on a phone
    lies: str = ""
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure that is read first: value, note, and two weeks of bars."""

    name: str
    value: str
    note: str
    title: str
    days: tuple[float, ...] = ()  #: oldest first
    tone: str = "live"
    href: str | None = None


def tiles(given: Iterable[Tile]) -> None:
    """Figures side by side. Drawn here because Streamlit's metric loads a chart library for its bars."""
    drawn = []
    for tile in given:
        most = max(tile.days, default=0)
        bars = [
            tag(
                "i",
                style=f"height:{100 * day / most:.0f}%" if most else "height:0",
                title=f"{day:,.4g}" if isinstance(day, float) else f"{day:,}",
            )
            for day in tile.days
        ]
        drawn.append(
            tag(
                "div",
                tag("dt", tile.name),
                tag("dd", link(tile.value, tile.href) if tile.href else tile.value, class_="nv-value"),
                tag("dd", tile.note, class_="nv-note"),
                tag("dd", bars, class_=f"nv-spark nv-{tile.tone}", aria_hidden="true") if bars else None,
                title=tile.title,
            )
        )
    show(tag("dl", drawn, class_="nv-tiles"))


def table(columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, caption: str, groups: bool = False) -> Markup:
    """A table. With ``groups`` a row of one part is the heading of those below it."""
    head = tag("tr", [tag("th", c.name, class_=c.lies or None, scope="col", title=c.title) for c in columns])
    body = []
    for row in rows:
        if groups and len(row) == 1:
            body.append(tag("tr", tag("th", row[0], scope="rowgroup", colspan=str(len(columns))), class_="nv-group"))
            continue
        body.append(tag("tr", [tag("td", part, class_=c.lies or None) for c, part in zip(columns, row, strict=True)]))
    inner = tag("table", tag("thead", head), tag("tbody", body), aria_label=caption)
    # A scrolling region has to be reachable by keyboard.
    return tag("div", inner, class_="nv-scroll", tabindex="0", role="region", aria_label=caption)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV that a spreadsheet cannot take for formulas: such text gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_plain(c) for c in columns])
    writer.writerows([_plain(value) for value in row] for row in rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith(_FORMULA) else text


def facts(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Names and values side by side."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="nv-facts")


def run_link(run_id: int | None, text: Any = None, *, title: str | None = None) -> Markup | str:
    """A link to a run."""
    if run_id is None:
        return words.DASH
    return link(text if text is not None else f"run {run_id}", address("runs", run=run_id), title=title)


def progress(run: RunRow, now: datetime) -> Markup:
    """Bar and words of a run under way: step, rows, bytes, rate, what remains; what it waits for, if it waits."""
    value: Mapping[str, Any] = run.progress or {}
    rows, total, rate = value.get("rows"), value.get("total"), value.get("rows_per_second")
    waiting = value.get("waiting")
    said: list[Any] = [status.badge(run.state.value)]
    if value.get("step"):
        said.append(words.STEPS.get(value["step"], str(value["step"])))
    if rows is not None:
        said.append(f"{words.number(rows)} of {words.number(total)} rows" if total else f"{words.number(rows)} rows")
    if value.get("bytes"):
        said.append(words.size(value["bytes"]))
    if rate and not waiting:
        said.append(f"{words.number(rate)} rows/s")
        if total and rows is not None and total > rows:
            said.append(f"about {words.duration(round((total - rows) / rate))} left")
    if run.started_at is not None:
        said.append(["for ", words.duration((now - run.started_at).total_seconds())])
    share = None if not total or rows is None else min(100.0, 100.0 * rows / total)
    bar = tag(
        "div",
        tag("div", class_="nv-fill", style=None if share is None else f"width:{share:.1f}%"),
        class_="nv-track" + (" nv-unknown" if share is None else ""),
        role="progressbar",
        aria_label=f"Progress of run {run.id}",
        aria_valuenow=None if share is None else f"{share:.0f}",
        aria_valuemin="0",
        aria_valuemax="100",
    )
    lines = [_waits(waiting, now) if waiting else None, _silent(value.get("at"), now), value.get("message")]
    return Markup(
        tag("div", [tag("span", part) for part in said], class_="nv-row")
        + bar
        + join("", [tag("div", line, class_="nv-mute-text") for line in lines if line])
    )


def _waits(waiting: Mapping[str, Any], now: datetime) -> Markup | None:
    """``{"for", "until"}``: with a countdown where its end is known."""
    reason = str(waiting.get("for") or "something").rstrip(".")
    if not waiting.get("until"):
        return join(" ", [status.badge("waiting"), f"for {reason}."])
    until = datetime.fromisoformat(waiting["until"])
    if until <= now:
        return None
    left = tag("strong", f"{words.countdown(until, now)} left")
    clock = words.clock(until, words.zone_of(st.context.timezone))
    return join("", [status.badge("waiting"), " ", left, f", until {clock}: {reason}."])


def _silent(at: str | None, now: datetime) -> str | None:
    """Progress is published each second or so; silence says that something hangs."""
    silence = now - datetime.fromisoformat(at) if at else _SILENCE
    return (
        f"Nothing was heard of it for {words.duration(int(silence.total_seconds()))}." if silence > _SILENCE else None
    )


def why_queued(services: Services, run: RunRow, others: Iterable[RunRow], now: datetime) -> list[Any]:
    """Why a queued run has not started, from what else is open."""
    if run.not_before is not None and run.not_before > now:
        total = max(len(services.environment.worker.retry_seconds) + 1, run.attempt)
        which = f"Attempt {run.attempt} of {total}" if run.attempt > 1 else "It"
        left = tag("strong", words.countdown(run.not_before, now))
        return [which, " starts in ", left, ", at ", words.clock(run.not_before, services.zone()), "."]
    running = [r for r in others if r.state is not RunState.QUEUED]
    same = next((r for r in running if r.subject == run.subject), None)
    if same is not None:
        return ["Waits for ", run_link(same.id), ", which works on the same stream."]
    # A run that loads has given its place at the source back.
    reading = sum(r.source == run.source and (r.progress or {}).get("step") != "load" for r in running)
    if reading >= services.environment.slots(run.source):
        return [f"Waits for a free place at {run.source.capitalize()}: {words.counted(reading, 'run')} read from it."]
    if len(running) >= services.environment.worker.max_runs:
        return [f"Waits for a free worker: {words.counted(len(running), 'run')} under way."]
    return ["Waits for a worker."]


def open_runs(services: Services, runs: Sequence[RunRow], now: datetime) -> None:
    """What runs now with its progress, then what is queued and why it waits."""
    zone = services.zone()
    items = []
    for run in runs:
        name = [
            tag("strong", run_link(run.id, services.label(run.subject), title=run.subject)),
            tag("span", words.KINDS.get(run.kind, run.kind).lower(), class_="nv-mute-text"),
            tag("span", run_link(run.id)),
        ]
        if run.state is not RunState.QUEUED:
            items.append(tag("div", tag("div", name, class_="nv-row"), progress(run, now), class_="nv-item"))
            continue
        asked = ["asked ", words.when(run.requested_at, now, zone), " by ", run.requested_by]
        why = why_queued(services, run, runs, now)
        parts = [
            tag("div", name, tag("span", asked, class_="nv-mute-text"), class_="nv-row"),
            tag("div", status.badge("queued"), " ", why),
        ]
        items.append(tag("div", parts, class_="nv-item"))
    show(tag("div", items, class_="nv-list"))


def runs(services: Services, rows: Sequence[RunRow], now: datetime) -> None:
    """The list of runs."""
    zone = services.zone()
    columns = (
        Column("Run"),
        Column("State"),
        Column("Stream", "nv-tight nv-fold"),
        Column("Kind", "nv-tight nv-extra"),
        Column("Asked", "nv-tight nv-extra"),
        Column("Took", "nv-right nv-extra"),
        Column("Rows loaded", "nv-right nv-extra"),
        Column("What happened", "nv-wide"),
    )
    body = []
    for run in rows:
        body.append(
            (
                run_link(run.id, str(run.id)),
                [status.badge(run.state.value), no_rows(run)],
                link(services.label(run.subject), address("runs", stream=run.subject), title=run.subject),
                words.KINDS.get(run.kind, run.kind),
                words.when(run.requested_at, now, zone),
                words.duration(took(run, now)),
                words.number(run.loaded),
                said(run),
            )
        )
    show(table(columns, body, caption="Runs, newest first"))


def took(run: RunRow, now: datetime) -> float | None:
    """Seconds from start to end, or until now."""
    return None if run.started_at is None else ((run.ended_at or now) - run.started_at).total_seconds()


def no_rows(run: RunRow) -> Markup | None:
    """The mark of a success that read nothing where rows are usual."""
    return None if run.notice is None else tag("div", status.badge("no rows", title=run.notice))


def said(run: RunRow) -> str:
    """One sentence on a run, whatever its state."""
    if run.headline or run.error_message:
        return run.headline or run.error_message or ""
    if run.state is RunState.QUEUED and run.not_before is not None:
        return "Waits for the time of its next attempt."
    if run.state is RunState.RUNNING and (reason := ((run.progress or {}).get("waiting") or {}).get("for")):
        return f"Under way, waits: {str(reason).rstrip('.')}."
    waiting = {"queued": "Waits for a worker.", "running": "Under way.", "cancelling": "Asked to end."}
    return waiting.get(run.state.value, words.DASH)


def csv_of_runs(rows: Iterable[RunRow]) -> str:
    """Runs for a spreadsheet."""
    names = (
        "id", "subject", "kind", "state", "origin", "requested_by", "requested_at", "started_at", "ended_at",
        "attempt", "read", "loaded", "rejected", "api_calls", "headline", "notice", "error_kind", "error_message",
    )  # fmt: skip
    return csv_text(names, ([getattr(run, name) for name in names] for run in rows))


def keys_line(keys: Sequence[str]) -> Markup:
    """Some keys, and how many more."""
    shown = join(", ", [tag("code", key) for key in keys[:12]])
    return Markup(shown + (f" and {len(keys) - 12:,} more" if len(keys) > 12 else ""))


def download(label: str, text: Any, *, file_name: str, key: str) -> None:
    """A download that is made when it is asked for and reruns nothing."""
    st.download_button(
        label, data=text, file_name=file_name, mime="text/csv", key=key, on_click="ignore", icon=":material/download:"
    )
