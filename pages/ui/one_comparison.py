"""One stream: its three legs, the months that were compared, the keys, and how it is repaired."""

from __future__ import annotations

from typing import Any

import streamlit as st

from novade_core.ledger import comparisons_of, queries, summaries
from novade_core.ledger.comparisons_of import Compared, Waiting
from novade_core.ledger.models import ComparisonState
from pages.ui import comparison_list, status, tables, words
from pages.ui.comparison_list import signed
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column


def draw(services: Services, stream: str) -> None:
    """The view of ``?stream=``."""
    show(link("All streams", address("reconciliation")))
    if stream not in {s.id for s in services.environment.streams}:
        status.empty(f"There is no stream {stream[:100]}.", link("Look at all streams", address("reconciliation")), ".")
        return
    found = services.read(comparisons_of.history, stream=stream)
    label = services.label(stream)
    if not found:
        status.empty(
            f"{label} has not been compared yet.",
            link("Sync it", address("sync", streams=stream)), "; each run ends by counting both sides.",
        )  # fmt: skip
        return
    now, zone, newest = services.now(), services.zone(), found[0]
    status.headline(
        link(label, address("runs", stream=stream), title=stream), " ", comparison_list.short(newest), ", as ",
        tables.run_link(newest.run_id, f"run {newest.run_id} counted"), " ", words.when(newest.at, now, zone), ".",
    )  # fmt: skip
    waiting = services.read(comparisons_of.waiting, streams=(stream,)).get(stream)
    months = services.read(comparisons_of.by_month, stream=stream)
    legs(newest, waiting, services.engine)
    if newest.state is not ComparisonState.EQUAL:
        keys(services, newest)
        repair(services, stream, newest, waiting)
    by_month(services, months, stream)
    history(services, found)


def legs(newest: Compared, waiting: Waiting | None, engine: str) -> None:
    """Source, landing, warehouse."""
    status.section("Three legs", status.verdict(newest.state.value, newest.sentence))
    body = [
        ("Source", words.number(newest.source_count), "counted there at the end of the run"),
        ("Landing", words.DASH, f"{comparison_list.landing(waiting)}; its keys are not compared yet"),
        (engine, words.number(newest.warehouse_count), "rows of the table that are not marked as deleted"),
        (tag("strong", "Difference"), tag("strong", signed(newest.difference)), f"{engine} less source"),
    ]
    columns = (Column("Leg", "nv-tight"), Column("Records", "nv-right"), Column("What it is", "nv-wide"))
    show(tables.table(columns, body, caption="Source, landing and warehouse"))


def keys(services: Services, newest: Compared) -> None:
    """Records that one side lacks, by name."""
    if newest.run_id is None:
        return
    for artifact in services.read(queries.artifacts, run_id=newest.run_id):
        if artifact.kind not in ("missing_keys", "extra_keys"):
            continue
        names = [str(r.get("key", "") if isinstance(r, dict) else r) for r in artifact.content]
        where = "in the source only" if artifact.kind == "missing_keys" else "in the warehouse only"
        show(tag("p", f"{words.counted(len(names), 'record')} {where}: ", tables.keys_line(names)))
        tables.download(
            f"Download {artifact.kind.replace('_', ' ')}",
            tables.csv_text(("key",), ((name,) for name in names)),
            file_name=f"{newest.stream}-{artifact.kind}.csv",
            key=f"comparison_{artifact.kind}",
        )


def repair(services: Services, stream: str, newest: Compared, waiting: Waiting | None) -> None:
    """The next step, with its command."""
    status.section("Next step")
    if waiting is not None or newest.state is ComparisonState.IN_FLIGHT:
        what = (
            "Landed rows wait for their loading" if waiting is not None else "Records changed while they were counted"
        )
        show(tag("p", f"{what}; ", link("the next sync brings them", address("sync", streams=stream)), "."))
        st.code(words.command(kind="incremental", streams=[stream]), language=None, wrap_lines=True)
        return
    if newest.state is ComparisonState.UNKNOWN:
        show(tag("p", "One side could not be counted; ", tables.run_link(newest.run_id, "its run says why"), "."))
        return
    finding = next(
        (f for f in services.read(summaries.open_findings) if (f.subject, f.kind) == (stream, "count_difference")), None
    )
    since = [" Open since ", words.when(finding.opened_at, services.now(), services.zone()), "."] if finding else None
    show(
        tag(
            "p",
            "A full reload reads everything again and replaces the table; it brings what is missing and takes out "
            "what is gone. ",
            link("See what it takes", address("sync", streams=stream, kind="full")),
            ".",
            since,
        )
    )
    st.code(words.command(kind="full", streams=[stream]), language=None, wrap_lines=True)


def by_month(services: Services, months: tuple[Compared, ...], stream: str) -> None:
    """Months that were compared, those that differ first."""
    if not months:
        show(
            tag(
                "p",
                "No month has been compared by itself; that is done at the seam between history and live, and where "
                "the whole differs.",
                class_="nv-aside",
            )
        )
        return
    differ = [m for m in months if m.state is not ComparisonState.EQUAL]
    plain = [m for m in months if m.state is ComparisonState.EQUAL]
    said = f"{len(differ)} of {words.counted(len(months), 'month')} differ" if differ else "Every month is equal"
    status.section(said, "By when records were created, as last compared.")
    if differ:
        show(_table(services, differ, "Months that differ"))
    if plain:
        summary = tag("summary", words.counted(len(plain), "month is equal", "months are equal"))
        show(tag("details", summary, _table(services, plain, "Months that are equal")))
    tables.download(
        "Download months", lambda: csv_of(months), file_name=f"months-{stream}.csv", key="comparison_months"
    )


def history(services: Services, found: tuple[Compared, ...]) -> None:
    """The comparisons before."""
    status.section("Comparisons so far", "Each run ends with one; the last 30.")
    show(_table(services, found, "Comparisons, the latest first"))


def _table(services: Services, found: Any, caption: str) -> Any:
    now, zone = services.now(), services.zone()
    columns = (
        Column("Window", "nv-tight"),
        Column("State"),
        Column("Source", "nv-right"),
        Column(services.engine, "nv-right"),
        Column("Difference", "nv-right"),
        Column("Compared", "nv-tight"),
        Column("Run", "nv-extra"),
    )
    body = [
        (
            "All" if c.window == comparisons_of.ALL else c.window,
            status.badge(c.state.value, title=c.sentence),
            words.number(c.source_count),
            words.number(c.warehouse_count),
            signed(c.difference),
            words.when(c.at, now, zone),
            tables.run_link(c.run_id),
        )
        for c in found
    ]
    return tables.table(columns, body, caption=caption)


def csv_of(months: tuple[Compared, ...]) -> str:
    """Months for a spreadsheet."""
    names = ("window", "state", "source_count", "warehouse_count", "difference", "at", "run_id")
    return tables.csv_text(names, ([getattr(m, name) for name in names] for m in months))
