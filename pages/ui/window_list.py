"""Past load windows with what they cost against a pool that is always on, and one window by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from novade_core.ledger import queries, window_views
from novade_core.ledger.windows import Window
from novade_core.monitoring import window_costs
from novade_core.monitoring.window_costs import WindowCost, cost_of_window, costs_of_windows
from pages.ui import money, status, tables, window_now, window_words, words
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column, Tile

#: Windows that are listed, and days that are summed up.
_SHOWN, _DAYS = 50, 30
#: Statements of a window that are listed.
_LABELS = 40


def draw(services: Services) -> None:
    """The sum of thirty days and the newest windows."""
    now = services.now()
    # To the minute, so that the cache of a second serves several sessions.
    since = (now - timedelta(days=_DAYS)).replace(second=0, microsecond=0)
    found = services.read(window_views.past, since=since, limit=_SHOWN + 1)
    if not found:
        return
    _figures(services, found, now)
    costs = costs_of_windows(found, money.book(services), now)
    _table(services, found[:_SHOWN], costs, now)


def _figures(services: Services, found: Sequence[Window], now: datetime) -> None:
    total = window_costs.summary(found, money.book(services), now, days=_DAYS)
    whole = total.days >= _DAYS
    saved = None if total.euros is None or not total.always_on else 1 - total.euros / total.always_on
    span = f"in {_DAYS} days" if whole else f"since {total.since.day} {total.since:%b}"
    left_out = f"; {total.unknown} not known" if total.unknown and total.euros is not None else ""
    status.section(f"What windows cost {span}")
    tables.tiles(
        (
            Tile(
                name="Load windows",
                value=words.money(total.euros),
                note=f"{words.counted(total.windows, 'window')}{left_out}",
                title="Windows that closed or are under way in this time, at the prices of their days.",
                href=address("costs"),
            ),
            Tile(
                name="A pool that is always on",
                value=words.money(total.always_on),
                note="of the same size, over the same time",
                title="Every second of this time at the price of an idle pool.",
            ),
            Tile(
                name="Saved",
                value=words.DASH if saved is None else f"{saved * 100:.0f} %",
                note=words.DASH
                if total.euros is None or total.always_on is None
                else f"{words.money(total.always_on - total.euros)} less",
                title="By windows, against the pool that is always on.",
            ),
            Tile(
                name="Online",
                value=words.duration(total.online_seconds),
                note=f"of {words.duration(float(total.days) * 86_400)}",
                title="From each resume to its pause, of pools that were resumed for windows.",
            ),
        )
    )
    if total.windows and (total.euros is None or total.always_on is None):
        status.notice(
            "What windows cost is not known: a price, a rate or the pool's size is missing. ",
            link("Enter prices", address("costs", view="price", meter="warehouse.idle_pool_seconds")),
            ".",
        )


def _table(services: Services, found: Sequence[Window], costs: dict[int, WindowCost], now: datetime) -> None:
    status.section("Windows, newest first")
    zone, stands = services.zone(), window_words.standing(services)
    columns = (
        Column("Window", "nv-tight"),
        Column("Opened", "nv-tight"),
        Column("Online", "nv-right nv-extra", "For us, from the resume to the pause"),
        Column("Loads", "nv-right nv-extra", "Runs that it asked for"),
        Column("Rows", "nv-right", "Of the landed files that it loaded"),
        Column("EUR", "nv-right"),
        Column("Always on", "nv-right nv-extra", "EUR of the same pool, always on since the window before closed"),
        Column("Why it was opened", "nv-wide nv-extra"),
        Column("How it ended", "nv-wide"),
    )
    body = []
    for window in found:
        cost = costs[window.id]
        end: Any = status.badge(window.state.value) if window.closed_at is None else window_words.ended(window)
        wrong = window_words.trouble([window.trouble])
        body.append(
            (
                link(str(window.id), address("load-windows", window=window.id)),
                words.when(window.opened_at, now, zone),
                words.duration(cost.online_seconds),
                words.number(window.loads),
                words.number(window_words.rows_loaded(window, stands)),
                tag("span", words.money(cost.euros, ""), title=cost.missing),
                words.money(cost.always_on, ""),
                f"{window.reason[:1].upper()}{window.reason[1:]}",
                [end, tag("div", wrong) if wrong else None],
            )
        )
    show(tables.table(columns, body, caption="Load windows, newest first"))
    name = f"load-windows-{now:%Y-%m-%d}.csv"
    tables.download("Download CSV", lambda: csv_of(found, costs), file_name=name, key="windows_csv")


def csv_of(found: Sequence[Window], costs: dict[int, WindowCost]) -> str:
    """The table for a spreadsheet."""
    names = (
        "window", "state", "ours", "opened_at", "resumed_at", "paused_at", "closed_at", "online_seconds", "size",
        "loads", "rows", "eur", "always_on_eur", "always_on_since", "reason", "ended", "trouble",
    )  # fmt: skip

    def rows() -> Any:
        for w in found:
            cost, kept = costs[w.id], window_words.booked(w)
            yield (
                w.id, w.state.value, w.ours, w.opened_at, w.resumed_at, w.paused_at, w.closed_at, cost.online_seconds,
                w.size, w.loads, kept.loaded.rows if kept else None, cost.euros, cost.always_on, cost.since, w.reason,
                window_words.ended(w), w.trouble,
            )  # fmt: skip

    return tables.csv_text(names, rows())


def draw_one(services: Services, window_id: int) -> None:
    """The view ``?window=N``: its steps, its runs, what statements took."""
    now = services.now()
    show(link("All load windows", address("load-windows")))
    window, before, run_ids = services.read(window_views.one, window_id=window_id)
    stands = window_words.standing(services)
    since = before.closed_at if before is not None else None
    cost = cost_of_window(window, money.book(services), since=since, now=now)
    rows = window_words.rows_loaded(window, stands)
    status.headline(_said(window, cost, rows, now))
    if window.trouble:
        status.notice(window.trouble)
    if cost.euros is None and cost.missing:
        status.notice(f"Its cost is not known: {cost.missing}.", level="info")
    status.section("What it went through")
    window_now.steps_table(services, window_words.steps(window, rows), now)
    status.section("Its runs", "Those that it asked for, and others that loaded while it was open.")
    if run_ids:
        tables.runs(services, services.read(queries.runs_by_id, run_ids=run_ids), now)
    else:
        show(tag("p", "None.", class_="nv-aside"))
    _statements(window)


def _said(window: Window, cost: WindowCost, rows: int | None, now: datetime) -> list[Any]:
    until = window.closed_at or now
    took = words.duration((until - window.opened_at).total_seconds())
    said = [f"Window {window.id} {'is' if window.closed_at is None else 'was'} open for {took}"]
    said.append("" if rows is None else f" and loaded {words.counted(rows, 'row')}")
    if cost.euros is not None:
        said.append(f" for {words.money(cost.euros)}")
    if cost.always_on is not None:
        span = words.duration((until - cost.since).total_seconds())
        since = "at that time" if cost.since == window.opened_at else f"in the {span} since the window before"
        said.append(f"; always-on would have cost {words.money(cost.always_on)} {since}")
    end = window_words.ended(window)
    return [*said, f". {end[0].upper()}{end[1:]}."]


def _statements(window: Window) -> None:
    labels = (window.work or {}).get("labels") or {}
    if not labels:
        return
    work = window.work or {}
    status.section(
        "What its statements took",
        f"{words.counted(work['statements'], 'statement')}, {words.duration(work['ms'] / 1000)} by the pool's view. "
        "Statements that overlap count each.",
    )
    longest = sorted(labels.items(), key=lambda item: -item[1]["ms"])
    columns = (
        Column("Label", "nv-wide"),
        Column("Statements", "nv-right"),
        Column("Took", "nv-right"),
        Column("Failed", "nv-right"),
    )
    body = [
        (tag("code", label), words.number(w["statements"]), words.duration(w["ms"] / 1000), words.number(w["failed"]))
        for label, w in longest[:_LABELS]
    ]
    show(tables.table(columns, body, caption="Statements by label"))
    if len(longest) > _LABELS:
        show(tag("p", f"{len(longest) - _LABELS:,} shorter ones are left out.", class_="nv-aside"))


def number_of(given: str) -> int | None:
    """The window of the URL."""
    return int(given) if given.isascii() and given.isdigit() and len(given) < 18 else None


def no_pool(services: Services) -> None:
    """What load windows are, where nobody here resumes a pool."""
    name = services.environment.name
    status.empty(
        "No load windows here: this environment has no pool that is resumed and paused.",
        "A dedicated SQL pool costs while it is online. With load windows landed files gather while it is paused; then "
        "it is resumed, loads them all, and is paused again, never while somebody else works in it.",
    )
    show(tag("p", "To set one up: a warehouse of kind ", tag("code", "synapse"), " and, in novade.toml,"))
    st.code(
        f'[environments.{name}.pool]\nkind = "workspace"\nsubscription = "…"\nresource_group = "…"\nworkspace = "…"',
        language=None,
    )
    show(
        tag(
            "p",
            "The console's identity needs the right to resume and pause it: ",
            tag("code", "python -m jobs azure plan"),
            " prints it. docs/azure.md, section Load windows, says all of it.",
        )
    )
