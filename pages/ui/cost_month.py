"""A month's costs: the sentence, the unit price of each stream against what it was before, days, parts, prices."""

from __future__ import annotations

import math
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import streamlit as st

from novade_core.ledger import costs_of
from novade_core.monitoring.costs import Cost, Part, PriceBook
from pages.ui import money, price_list, status, tables, words
from pages.ui.markup import address, link, show, tag
from pages.ui.money import Spent
from pages.ui.page import Services
from pages.ui.tables import Column, Tile

#: The scale of unit prices: from a ten-thousandth of a euro to a thousand euros, in powers of ten.
_LOW, _HIGH = -4, 3


def draw(services: Services) -> None:
    """The page without a form."""
    if done := st.session_state.pop("price_done", None):
        status.notice(done, level="info")
    today = services.now().date()
    first, last = month_of(st.query_params.get("month", ""), today)
    until = min(last, today)
    known = money.book(services)
    found = money.spent(services, known, first, until)
    stream = st.query_params.get("stream")
    if stream is not None:
        found = _only(found, stream)
    headline(services, found, known, first, until, stream)
    months(services, first, today, stream)
    if found.total.parts:
        figures(found, first, last, until)
        if stream is None:
            by_stream(services, found, first)
        days(services, known, first, until, stream)
        parts(services, found, first, stream)
    if stream is None:
        price_list.draw(services, {p.meter for p in found.total.parts if p.euros is None})


def _only(found: Spent, stream: str) -> Spent:
    own = found.by_stream.get(stream, Cost())
    rows = {s: n for s, n in found.rows.items() if s == stream}
    return Spent(total=own, by_stream={stream: own}, rows=rows)


def month_of(given: str, today: date) -> tuple[date, date]:
    """First and last day of a month as the URL says it; this one where it says none."""
    try:
        return money.month_of(min(date.fromisoformat(f"{given}-01"), today))
    except ValueError:
        return money.month_of(today)


def _named(first: date, until: date) -> str:
    return f"{first:%B %Y}" + (" so far" if until != money.month_of(first)[1] else "")


def headline(services: Services, found: Spent, known: PriceBook, first: date, until: date, stream: str | None) -> None:
    """The sentence."""
    name = _named(first, until) + (f", {services.label(stream)}" if stream is not None else "")
    if not found.total.parts:
        status.empty(
            f"{name}: nothing was used.",
            link("Start a sync", address("sync")),
            "; what its run uses is priced here as soon as it has ended.",
        )
        return
    rows, total = found.all_rows, found.total
    if total.euros is None:
        missing = money.without(total.unpriced).removeprefix("without ")
        status.headline(
            f"{name}: {words.counted(rows, 'row')} arrived; what they cost is not known: {missing}. ",
            link("Enter prices", address("costs", view="price", meter=total.unpriced[0])),
            ".",
        )
        return
    sentence: list[Any] = [f"{name}: {words.money(total.euros)} for {words.counted(rows, 'row')}"]
    unit = total.per_thousand(rows)
    if unit is not None:
        sentence.append(f", {words.money(unit)} per 1,000")
    labels = {s.id: s.source for s in services.environment.streams}
    if before := money.against(labels.get(s, s.partition(".")[0]) for s, n in found.rows.items() if n):
        sentence.append(f", {before}")
    if left_out := money.without(total.unpriced):
        sentence.append(f"; {left_out}")
    sentence.append(".")
    if stream is None and (change := _change(services, known, unit, first)):
        sentence.append(change)
    status.headline(sentence)


def _change(services: Services, known: PriceBook, unit: Decimal | None, first: date) -> list[Any] | None:
    """Against the month before, and by what most."""
    low, high = money.month_of(first - timedelta(days=1))
    before = money.spent(services, known, low, high)
    old = before.total.per_thousand(before.all_rows)
    if unit is None or not old:
        return None
    share = (unit - old) / old * 100
    name = link(f"{low:%B}", address("costs", month=f"{low:%Y-%m}"))
    if abs(share) < 1:
        return [" As much per 1,000 as in ", name, "."]
    return [f" That is {abs(share):,.0f} % {'more' if share > 0 else 'less'} per 1,000 than in ", name, "."]


def months(services: Services, first: date, today: date, stream: str | None) -> None:
    """Neighbouring months as links, and the way back from one stream."""
    earliest = services.read(costs_of.first_day)
    links: list[Any] = []
    if stream is not None:
        links.append(link("All streams", address("costs", month=f"{first:%Y-%m}")))
    before, after = first - timedelta(days=1), money.month_of(first)[1] + timedelta(days=1)
    if earliest is not None and earliest < first:
        links.append(link(f"{before:%B %Y}", address("costs", month=f"{before:%Y-%m}", stream=stream)))
    if after <= today:
        links.append(link(f"{after:%B %Y}", address("costs", month=f"{after:%Y-%m}", stream=stream)))
    if links:
        show(tag("nav", links, class_="nv-row", aria_label="Months"))


def figures(found: Spent, first: date, last: date, until: date) -> None:
    """What is read first."""
    total = found.total
    passed, whole = (until - first).days + 1, (last - first).days + 1
    unit = total.per_thousand(found.all_rows)
    lost = None if total.failed is None or total.repeated is None else total.failed + total.repeated
    share = f"{lost / total.euros * 100:.1f} % of all" if lost is not None and total.euros else "of failed runs"
    pool = [p for p in total.parts if p.meter.startswith("warehouse.") and "pool" in p.meter]
    ends = None if total.euros is None else total.euros * whole / passed
    tables.tiles(
        (
            Tile(
                name="Spent",
                value=words.money(total.euros),
                note=f"about {words.money(ends)} by {last.day} {last:%b} at this rate" if until < last else "all month",
                title="At the prices below, of what has a price.",
            ),
            Tile(
                name="For 1,000 rows",
                value=words.money(unit),
                note=f"{words.counted(found.all_rows, 'row')} loaded",
                title="All that was spent, over the rows that were loaded.",
            ),
            Tile(
                name="Failed and repeated",
                value=words.money(lost),
                note=share,
                title="Runs that failed, were cancelled or abandoned, and further attempts that worked.",
                href=address("runs", state="failed"),
            ),
            Tile(
                name="Idle pool",
                value=words.money(total.idle) if pool else words.DASH,
                note="it ran and loaded nothing" if pool else "no pool was used",
                title="A dedicated pool costs while it runs, whether or not it loads.",
            ),
        )
    )


def _at(value: Decimal) -> float:
    """Where a unit price stands on the scale, in percent."""
    return max(0.5, min(100.0, 100 * (math.log10(float(value)) - _LOW) / (_HIGH - _LOW)))


def by_stream(services: Services, found: Spent, first: date) -> None:
    """Unit prices side by side, on a scale of powers of ten, with what it was before."""
    status.section(
        "What 1,000 rows cost, by stream",
        "Each step of the scale is ten times the one before; the line is what 1,000 rows cost before.",
    )
    sources = {s.id: s.source for s in services.environment.streams}
    ids = [*(i for i in sources if i in found.by_stream), *sorted(set(found.by_stream) - set(sources))]
    body = []
    for stream in ids:
        cost, rows = found.by_stream[stream], found.rows.get(stream, 0)
        unit = cost.per_thousand(rows)
        before = money.baseline(sources.get(stream, stream.partition(".")[0]))
        drawn: list[Any] = []
        if unit:
            drawn.append(tag("div", tag("div"), style=f"left:0;width:{_at(unit):.1f}%", class_="nv-good"))
        if before is not None:
            drawn.append(tag("b", style=f"left:{_at(before.euros):.1f}%", title=f"{before.euros} EUR: {before.basis}"))
        times = None if not unit or before is None else before.euros / unit
        body.append(
            (
                link(services.label(stream), address("costs", month=f"{first:%Y-%m}", stream=stream), title=stream),
                words.number(rows),
                words.money(cost.euros),
                words.money(unit, ""),
                words.DASH if before is None else words.number(float(before.euros)),
                words.DASH if times is None else _fewer(times),
                tag("div", drawn),
            )
        )
    columns = (
        Column("Stream", "nv-tight"),
        Column("Rows loaded", "nv-right nv-extra"),
        Column("Spent", "nv-right"),
        Column("EUR per 1,000", "nv-right"),
        Column(
            "Before", "nv-right nv-extra", "EUR per 1,000 with what brought them before; a dash where none is known"
        ),
        Column("So", "nv-tight nv-extra"),
        Column("0.0001 to 1,000 EUR", "nv-lane nv-scale"),
    )
    show(tag("div", tables.table(columns, body, caption="Unit price by stream"), class_="nv-bars"))


def _fewer(times: Decimal) -> str:
    if times >= 2:
        return f"{times:,.0f} times less"
    return f"{times:.1f} times less" if times > 1 else f"{1 / times:,.1f} times more"


def days(services: Services, known: PriceBook, first: date, until: date, stream: str | None) -> None:
    """What each day cost."""
    spent = {d: c.euros for d, c in money.by_day(services, known, first, until, stream).items() if c.euros is not None}
    most = max(spent.values(), default=Decimal(0))
    if not most:
        return
    dearest = max(spent, key=lambda d: spent[d])
    status.section(f"{dearest.day} {dearest:%B} was the dearest day: {words.money(most)}")
    bars = []
    last = money.month_of(first)[1]
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        euros = spent.get(day)
        said = f"{day:%d %b}: {words.money(euros)}"
        bar = tag("i", class_="nv-live", style=f"height:{100 * euros / most:.1f}%") if euros else None
        if bar is None:
            bars.append(tag("span", title=said))
        else:
            where = address("runs", since=f"{day}T00:00", until=f"{day + timedelta(days=1)}T00:00", stream=stream)
            bars.append(tag("a", bar, href=where, target="_self", title=said, aria_label=said))
    show(
        tag("div", bars, class_="nv-histogram", role="group", aria_label="Spent by day"),
        tag("div", tag("span", f"{first:%d %b}"), tag("span", f"{last:%d %b}"), class_="nv-axis"),
    )


def parts(services: Services, found: Spent, first: date, stream: str | None) -> None:
    """The lines of the sum, then meter by meter with price, date and source."""
    total = found.total
    status.section("What it is made of")
    if total.euros is not None and total.failed is not None and total.repeated is not None:
        useful = total.euros - total.failed - total.repeated - (total.idle or 0)
        lines = [
            ("Work that arrived", words.money(useful), "runs that worked at their first attempt"),
            (
                "Repeated work",
                words.money(total.repeated),
                "further attempts that worked; they go on behind what had landed",
            ),
            ("Failed work", words.money(total.failed), "runs that failed, were cancelled or abandoned"),
            (
                "Idle pool time",
                words.money(total.idle) if _pool(total) else words.DASH,
                "a pool that ran and loaded nothing",
            ),
        ]
        columns = (Column("Line", "nv-tight"), Column("EUR", "nv-right"), Column("What it is", "nv-wide"))
        show(tables.table(columns, lines, caption="Lines of the sum"))
    columns = (
        Column("Meter", "nv-tight"),
        Column("Used", "nv-right"),
        Column("Price", "nv-tight nv-extra"),
        Column("EUR", "nv-right"),
        Column(
            "Basis", "nv-tight", "measured: the meter counts what is billed; allocated: a share; estimated: a stand-in"
        ),
        Column("Where the price comes from", "nv-wide nv-extra"),
    )
    show(tables.table(columns, [_part(p) for p in total.parts], caption="Parts of the sum"))
    name = f"costs-{first:%Y-%m}" + (f"-{stream}" if stream else "")
    tables.download("Download CSV", lambda: csv_of(services, found), file_name=f"{name}.csv", key="costs_csv")


def _pool(total: Cost) -> bool:
    return any(p.meter.startswith("warehouse.") and "pool" in p.meter for p in total.parts)


def _part(part: Part) -> tuple[Any, ...]:
    meter = tag("code", part.meter)
    if part.euros is None:
        missing = link(f"{part.missing}; enter one", address("costs", view="price", meter=part.meter))
        return (meter, words.quantity(part.meter, part.quantity), words.DASH, words.DASH, words.DASH, missing)
    price = part.price
    rate = (
        f"; {money.plain(part.rate)} EUR for 1 {price.currency} since {part.rate.since}" if part.rate and price else ""
    )
    return (
        meter,
        words.quantity(part.meter, part.quantity),
        money.price_in_words(price),
        words.money(part.euros, ""),
        price.basis.value if price else words.DASH,
        _source(price) + rate if price else words.DASH,
    )


def _source(price: Any) -> str:
    return f"{price.source}{f' ({price.region})' if price.region else ''}, since {price.since}"


def csv_of(services: Services, found: Spent) -> str:
    """Every meter of every stream for a spreadsheet."""
    names = (
        "stream",
        "label",
        "rows_loaded",
        "meter",
        "quantity",
        "eur",
        "price",
        "per",
        "currency",
        "basis",
        "source",
    )

    def rows() -> Any:
        for stream, cost in found.by_stream.items():
            for p in cost.parts:
                price = p.price
                tail = (
                    (price.price, price.per, price.currency, price.basis.value, price.source) if price else (None,) * 5
                )
                yield (stream, services.label(stream), found.rows.get(stream), p.meter, p.quantity, p.euros, *tail)

    return tables.csv_text(names, rows())
