"""The form of a price: what the month would cost with it is shown before it is saved."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import date
from decimal import Decimal

import streamlit as st

from novade_core.errors import ConfigurationError, NovadeError
from novade_core.ledger import prices
from novade_core.ledger.prices import Basis, KnownPrice, Price
from novade_core.monitoring.costs import PriceBook
from pages.ui import money, status, words
from pages.ui.markup import address, link, show, tag
from pages.ui.page import Services

_BASES = {
    Basis.MEASURED: "Measured: the meter counts what the bill counts",
    Basis.ALLOCATED: "Allocated: its share of something that is billed as a whole",
    Basis.ESTIMATED: "Estimated: price or quantity stands in for one that is not known",
}


def draw(services: Services) -> None:
    """The view ``?view=price``."""
    show(link("All costs", address("costs")))
    found = services.read(prices.prices)
    today = services.now().date()
    meter = st.query_params.get("meter", "")[:60]
    given = st.query_params.get("since", "")
    own = [p for p in found if p.meter == meter]
    corrected = next((p for p in own if str(p.since) == given), None)
    newest = next((p for p in own if p.since <= today), None)
    before: Price | None = corrected or (None if newest is None else replace(newest, since=today))
    status.headline(
        f"A price of {meter} holds from its day on; days before keep theirs."
        if meter
        else "A price holds from its day on; days before keep theirs."
    )
    if refused := st.session_state.pop("price_refused", None):
        status.failed(*refused)
    with st.container(border=True):
        entered, wrong = _fields(before, meter, today)
        if wrong is not None:
            status.notice(tag("strong", wrong.message), " ", wrong.hint, level="fail")
        elif entered is not None and not _is_known(entered, own, newest):
            _preview(services, found, entered, before, today)
        reason = "Correct what is wrong first." if entered is None else None
        if entered is not None and _is_known(entered, own, newest):
            reason = "Nothing has been changed."
        with st.container(horizontal=True):
            st.button(
                "Save",
                key="price_save",
                type="primary",
                icon=":material/check:",
                disabled=reason is not None,
                help=reason,
                on_click=write,
                args=(services, entered),
            )
            if st.button("Cancel", key="price_cancel"):
                st.query_params.clear()
                st.rerun()


def _is_known(entered: Price, own: Sequence[KnownPrice], newest: KnownPrice | None) -> bool:
    """Whether it stands there already, for its day or as what holds anyway."""
    on_its_day = next((p for p in own if p.since == entered.since), newest)
    return on_its_day is not None and replace(_plain(on_its_day), since=entered.since) == entered


def _plain(price: KnownPrice) -> Price:
    return Price(**{f.name: getattr(price, f.name) for f in fields(Price)})


def _fields(before: Price | None, meter: str, today: date) -> tuple[Price | None, ConfigurationError | None]:
    """The price as the form says it, or what is wrong with it."""
    start = before or Price(meter=meter, since=today, price=None)
    with st.grid(3, min_column_width=200):
        name = st.text_input("Meter", value=start.meter, key="price_meter", max_chars=60)
        typed = st.text_input(
            "Price", value=money.plain(start).replace(",", ""), key="price_price", max_chars=40,
            help="Such as 0.055. Empty: not known from this day on.",
        )  # fmt: skip
        currency = st.text_input("Currency", value=start.currency, key="price_currency", max_chars=3)
        unit = st.text_input(
            "For", value=start.unit, key="price_unit", max_chars=40, placeholder="Such as: 10,000 operations"
        )
        per = st.number_input(
            "That is so much of the meter", min_value=1, max_value=10**15, value=start.per, key="price_per",
            help="1 h of a meter in seconds is 3600; 1 GB of a meter in bytes is 1000000000.",
        )  # fmt: skip
        since = st.date_input("From (UTC, included)", value=start.since, key="price_since")
        region = st.text_input("Region", value=start.region or "", key="price_region", max_chars=40)
        basis = st.selectbox(
            "Basis",
            list(Basis),
            index=list(Basis).index(start.basis),
            format_func=_BASES.__getitem__,
            key="price_basis",
        )
    source = st.text_input(
        "Where it comes from", value=start.source, key="price_source", max_chars=300,
        placeholder="Such as: our contract of 2026",
    )  # fmt: skip
    try:
        price = Price(
            meter=name.strip(),
            since=since if isinstance(since, date) else today,
            price=prices.amount(typed),
            per=int(per),
            unit=unit.strip(),
            currency=currency.strip().upper(),
            region=region.strip() or None,
            basis=basis,
            source=source.strip(),
        )
        prices.check(price)
    except ConfigurationError as error:
        return None, error
    return price, None


def _preview(
    services: Services, found: tuple[KnownPrice, ...], entered: Price, before: Price | None, today: date
) -> None:
    """What this month costs with it and without."""
    first, _ = money.month_of(today)
    same = [p for p in found if (p.meter, p.since) != (entered.meter, entered.since)]
    old, new = PriceBook(found), PriceBook([*same, entered])
    costs: list[Decimal | None] = [money.spent(services, book, first, today).total.euros for book in (old, new)]
    what = money.price_in_words(entered) if entered.price is not None else "not known"
    corrects = len(same) != len(found)
    said = f"Corrects the price of {entered.since}: {what}." if corrects else f"From {entered.since} on: {what}."
    change = f"This month so far costs {words.money(costs[1])} with it, {words.money(costs[0])} without."
    was = f" It was {money.price_in_words(before)}." if before is not None and before.price != entered.price else ""
    show(tag("p", tag("strong", said), f"{was} {change}"))
    st.code(command(entered, before), language=None, wrap_lines=True)


def command(entered: Price, before: Price | None) -> str:
    """The same as a command, which leaves out what stays as it was."""
    parts = ["python", "-m", "jobs", "price", "set", entered.meter]
    parts += ["unknown" if entered.price is None else f"{entered.price:f}", "--since", str(entered.since)]
    for name in ("per", "unit", "currency", "region", "basis", "source"):
        value = getattr(entered, name)
        if value is not None and (before is None or value != getattr(before, name)):
            parts += [f"--{name}", str(value)]
    return shlex.join(parts)


def from_today(price: Price, today: date) -> Price:
    """A price of the configuration as it is taken over again: for the days to come, not for those that were."""
    return replace(price, since=max(price.since, today))


def write(services: Services, price: Price) -> None:
    """Save it and show it, or say why not."""
    try:
        prices.enter(services.ledger, price, now=services.now(), who=services.who)
    except NovadeError as error:
        st.session_state["price_refused"] = (error.message, error.hint)
        return
    finally:
        services.forget()
    st.session_state["price_done"] = f"{price.meter} costs {money.price_in_words(price)} from {price.since} on."
    st.query_params.clear()
