"""Prices as they stand, their history, and where they differ from the configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from typing import Any

import streamlit as st

from novade_core.ledger import prices
from novade_core.ledger.prices import RATE, KnownPrice, Price
from pages.ui import money, price_form, status, tables, words
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services
from pages.ui.tables import Column

_COLUMNS = (
    Column("Meter", "nv-tight"),
    Column("Price", "nv-tight"),
    Column("Since", "nv-tight"),
    Column("Basis", "nv-tight nv-extra"),
    Column("Where it comes from", "nv-wide nv-extra"),
    Column("Entered", "nv-tight nv-extra"),
    Column("", "nv-tight", "What can be done"),
)


def draw(services: Services, missing: Collection[str]) -> None:
    """The section of the page Costs."""
    status.section(
        "Prices", "Dated, so that a new price leaves the past as it was; list prices until yours are entered."
    )
    if refused := st.session_state.pop("price_refused", None):
        status.failed(*refused)
    found = services.read(prices.prices)
    if missing:
        named = [tag("code", meter) for meter in sorted(missing)]
        status.notice("Used this month and without a price: ", [[n, " "] for n in named], level="warn")
    if not found:
        said = len(services.environment.prices)
        waits = (
            f" {words.counted(said, 'price')} of novade.toml will be taken over when a worker starts." if said else ""
        )
        show(tag("p", f"No price has been entered.{waits} ", link("Enter one", _form()), ".", class_="nv-aside"))
        return
    today = services.now().date()
    now = of_today(found, today)
    body = [_row(services, p, holds=True) for p in now]
    show(tables.table(_COLUMNS, body, caption="Prices of today"))
    differs(services, now)
    rest = [p for p in found if p not in now]
    if rest:
        summary = tag("summary", f"{words.counted(len(rest), 'price')} of other days")
        table = tables.table(_COLUMNS, [_row(services, p, holds=False) for p in rest], caption="Prices of other days")
        show(tag("details", summary, table))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="content"):
            show(link("Enter a price", _form()))
        tables.download("Download prices", lambda: csv_of(found), file_name="prices.csv", key="prices_csv")


def _form(meter: str | None = None, since: date | None = None) -> str:
    return address("costs", view="price", meter=meter, since=since)


def of_today(found: Iterable[KnownPrice], today: date) -> list[KnownPrice]:
    """The price of each meter that holds, or that says that none does; ``found`` has a meter's newest first."""
    holds: dict[str, KnownPrice] = {}
    for price in found:
        if price.since <= today:
            holds.setdefault(price.meter, price)
    return list(holds.values())


def _row(services: Services, price: KnownPrice, *, holds: bool) -> tuple[Any, ...]:
    said = "not known from this day on" if price.price is None else money.price_in_words(price)
    entered = [words.when(price.changed_at, services.now(), services.zone()), f" by {price.changed_by}"]
    fix = link(
        "Correct", _form(price.meter, price.since), title=f"Correct the price of {price.meter} from {price.since}"
    )
    change = (
        [link("Change", _form(price.meter), title=f"Enter another price of {price.meter}"), " · "] if holds else None
    )
    region = f" ({price.region})" if price.region else ""
    rate = "exchange rate" if price.meter.startswith(RATE) else price.basis.value
    return (tag("code", price.meter), said, str(price.since), rate, price.source + region, entered, [change, fix])


def differs(services: Services, now: Iterable[KnownPrice]) -> None:
    """What the configuration says instead, with the way back to it."""
    said = {p.meter: p for p in prices.from_settings(services.environment.prices)}
    other = [(p, said[p.meter]) for p in now if p.meter in said and not _same(p, said[p.meter])]
    if not other:
        return
    show(
        tag("p", tag("strong", "Differs from novade.toml. "), "What stands here counts; the file was taken over once.")
    )
    body = [(tag("code", here.meter), _dated(here), _dated(there)) for here, there in other]
    columns = (Column("Meter", "nv-tight"), Column("Here", "nv-wide"), Column("In novade.toml", "nv-wide"))
    show(tables.table(columns, body, caption="Differences from novade.toml"))
    with st.container(horizontal=True):
        for here, there in other[:10]:
            st.button(
                f"Take over the file's {here.meter}",
                key=f"price_reset_{here.meter}",
                on_click=price_form.write,
                args=(services, price_form.from_today(there, services.now().date())),
                help="From today on; the past keeps its cost.",
            )


def _dated(price: Price) -> str:
    return f"{money.price_in_words(price)}, since {price.since}"


def _same(here: Price, there: Price) -> bool:
    """Whether both say the same price; the day from which is the ledger's own."""
    return (here.price, here.per, here.currency) == (there.price, there.per, there.currency)


def csv_of(found: Iterable[KnownPrice]) -> str:
    """All prices for a spreadsheet."""
    names = (
        "meter", "since", "price", "per", "unit", "currency", "region", "basis", "source", "changed_at", "changed_by",
    )  # fmt: skip
    return tables.csv_text(names, ([getattr(p, name) for name in names] for p in found))
