"""All streams: what the source holds, what has landed and waits, what the warehouse holds, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import streamlit as st

from novade_core.ledger import comparisons_of
from novade_core.ledger.comparisons_of import Compared, Waiting
from novade_core.ledger.models import ComparisonState
from pages.ui import status, tables, words
from pages.ui.markup import Markup, address, join, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

#: What has no comparison yet, among the states.
NEVER = "not compared"
_ORDER = (
    ComparisonState.DIFFERS.value,
    ComparisonState.UNKNOWN.value,
    ComparisonState.IN_FLIGHT.value,
    ComparisonState.EQUAL.value,
    NEVER,
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stream."""

    stream: str
    label: str
    compared: Compared | None
    waiting: Waiting | None  #: landed and not loaded; None: nothing

    @property
    def state(self) -> str:
        """What the latest comparison said."""
        return NEVER if self.compared is None else self.compared.state.value


def draw(services: Services) -> None:
    """The page without a stream chosen."""

    @st.fragment(run_every=services.interval(live=False))
    def moving() -> None:
        now = services.now()
        found = lines(services)
        headline(found, now)
        if all(line.compared is None for line in found):
            return
        wanted = st.query_params.get("state", "")
        filters(found, wanted)
        chosen = [line for line in found if wanted in ("", line.state)]
        listed(services, chosen, now)
        tables.download(
            "Download CSV", lambda: csv_of(chosen), file_name="reconciliation.csv", key="reconciliation_csv"
        )
        show(
            tag(
                "p",
                "Each run ends with this comparison of counts. Landing is shown as what has landed and waits for "
                "its loading; landed files against the source, key by key, are not compared yet.",
                class_="nv-aside",
            )
        )

    moving()


def lines(services: Services) -> list[Line]:
    """All configured streams, the worst first."""
    streams = services.environment.streams
    ids = tuple(s.id for s in streams)
    compared = services.read(comparisons_of.latest, streams=ids)
    waiting = services.read(comparisons_of.waiting, streams=ids)
    found = [Line(stream=s.id, label=s.label, compared=compared.get(s.id), waiting=waiting.get(s.id)) for s in streams]
    return sorted(found, key=lambda line: _ORDER.index(line.state))


def href(stream: str) -> str:
    """The view of one stream."""
    return address("reconciliation", stream=stream)


def headline(found: Sequence[Line], now: datetime) -> None:
    """The sentence."""
    compared = [line.compared for line in found if line.compared is not None]
    if not compared:
        status.empty(
            f"Nothing has been compared yet: {words.counted(len(found), 'stream')} configured.",
            link("Start a sync", address("sync")), "; it ends by counting the source and the warehouse.",
        )  # fmt: skip
        return
    oldest = min(c.at for c in compared)
    when = [". The oldest comparison was made ", words.when(oldest, now), "."]
    left = f"; {len(found) - len(compared)} not compared yet" if len(compared) < len(found) else ""
    differ = [line for line in found if line.state == ComparisonState.DIFFERS.value]
    if differ:
        clauses = [[_name(line), " ", short(line.compared)] for line in differ[:3]]
        more = f"; and {len(differ) - 3} more" if len(differ) > 3 else ""
        verb = "differs" if len(differ) == 1 else "differ"
        status.headline(
            f"{len(differ)} of {words.counted(len(found), 'stream')} {verb}: ", join("; ", clauses), more, left, when
        )
        return
    equal = sum(c.state is ComparisonState.EQUAL for c in compared)
    flight = sum(c.state is ComparisonState.IN_FLIGHT for c in compared)
    unknown = sum(c.state is ComparisonState.UNKNOWN for c in compared)
    records = sum(c.warehouse_count or 0 for c in compared)
    what = "All" if equal == len(found) else f"{equal} of"
    parts: list[Any] = [
        f"{what} {words.counted(len(found), 'stream')} {'is' if equal == 1 else 'are'} equal on both sides"
    ]
    if flight:
        parts.append(f", {flight} in flight (changed while it was counted)")
    if unknown:
        parts.append(f", {unknown} could not be counted")
    status.headline(parts, f": {words.counted(records, 'record')} in the warehouse", left, when)


def _name(line: Line) -> Markup:
    return link(line.label, href(line.stream), title=line.stream)


def short(compared: Compared | None) -> str:
    """The difference as a clause."""
    difference = None if compared is None else compared.difference
    if difference is None:
        return "could not be counted on both sides"
    if not difference:
        return "is equal"
    return f"has {words.counted(abs(difference), 'record')} {'fewer' if difference < 0 else 'more'} in the warehouse"


def signed(difference: int | None) -> str:
    """+3, −3, 0."""
    return words.DASH if difference is None else f"{difference:+,d}".replace("-", "−") if difference else "0"


def filters(found: Sequence[Line], wanted: str) -> None:
    """States as links, with how many streams are in each."""
    counts = {state: sum(line.state == state for line in found) for state in _ORDER}
    parts = [tag("strong", f"all {len(found)}") if not wanted else link(f"all {len(found)}", address("reconciliation"))]
    for state, count in counts.items():
        if count or state == wanted:
            said = f"{state} {count}"
            parts.append(tag("strong", said) if state == wanted else link(said, address("reconciliation", state=state)))
    show(tag("nav", [tag("span", p) for p in parts], class_="nv-row", aria_label="Which streams"))


def landing(waiting: Waiting | None) -> str:
    """What waits between source and warehouse."""
    if waiting is None:
        return "all loaded"
    return f"{words.counted(waiting.rows, 'row')} in {words.counted(waiting.files, 'file')} not loaded"


def listed(services: Services, chosen: Sequence[Line], now: datetime) -> None:
    """The table."""
    if not chosen:
        show(tag("p", "No stream is in this state. ", link("Show all", address("reconciliation")), class_="nv-aside"))
        return
    columns = (
        Column("Stream", "nv-tight"),
        Column("State"),
        Column("Source", "nv-right"),
        Column("Landing", "nv-tight nv-extra", "Rows that have landed and are not in the warehouse"),
        Column(services.engine, "nv-right", "Rows of the table that are not marked as deleted"),
        Column("Difference", "nv-right"),
        Column("Compared", "nv-tight"),
        Column("What it said", "nv-wide nv-extra"),
    )
    zone = services.zone()
    body = []
    for line in chosen:
        c = line.compared
        if c is None:
            body.append((_name(line), status.badge(NEVER), words.DASH, landing(line.waiting), *[words.DASH] * 4))
            continue
        said = status.verdict(c.state.value, c.sentence)[1:]
        body.append(
            (
                _name(line),
                status.badge(c.state.value),
                words.number(c.source_count),
                landing(line.waiting),
                words.number(c.warehouse_count),
                signed(c.difference),
                [words.when(c.at, now, zone), " ", tables.run_link(c.run_id)],
                said,
            )
        )
    show(tables.table(columns, body, caption="Source against warehouse, by stream"))


def csv_of(chosen: Sequence[Line]) -> str:
    """The table for a spreadsheet."""
    names = (
        "stream", "label", "state", "source_count", "landed_not_loaded_rows", "warehouse_count", "difference",
        "compared_at", "run_id", "sentence",
    )  # fmt: skip

    def row(line: Line) -> tuple[Any, ...]:
        c, waits = line.compared, 0 if line.waiting is None else line.waiting.rows
        if c is None:
            return (line.stream, line.label, line.state, None, waits, None, None, None, None, None)
        tail = (c.warehouse_count, c.difference, c.at, c.run_id, c.sentence)
        return (line.stream, line.label, line.state, c.source_count, waits, *tail)

    return tables.csv_text(names, (row(line) for line in chosen))
