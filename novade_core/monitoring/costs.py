"""What did it cost? A pure function of what was used and of dated prices, in euros.

What has no price has no cost: it is None and named, never zero. A sum is of what is known, and says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from novade_core.ledger.costs_of import Used
from novade_core.ledger.prices import RATE, Price

#: Meters of what a pool costs while nothing is loaded.
IDLE = frozenset({"warehouse.idle_pool_seconds"})
#: Meters that are a size and no amount, so they have no price.
SIZES = frozenset({"process.peak_memory_bytes"})


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What 1,000 rows cost before."""

    euros: Decimal
    words: str  #: who asked for it: "the old Salesforce script"
    basis: str  #: where the figure comes from


#: By source. Drift has none: nothing is known of what it cost.
BASELINES: Mapping[str, Baseline] = {
    "salesforce": Baseline(
        euros=Decimal(250), words="the old Salesforce script", basis="about 50 EUR for 200 events, November 2024"
    ),
    "amplitude": Baseline(
        euros=Decimal(400), words="the Amplitude connector", basis="about 400 EUR for 1,000 data points, November 2024"
    ),
}


class PriceBook:
    """Finds the price of a meter on a day."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_meter: dict[str, list[Price]] = {}
        for price in sorted(prices, key=lambda p: p.since, reverse=True):
            self._by_meter.setdefault(price.meter, []).append(price)

    def at(self, meter: str, day: date) -> Price | None:
        """The price that holds on a day; None where there is none yet, or where it is entered as not known."""
        price = next((p for p in self._by_meter.get(meter, ()) if p.since <= day), None)
        return None if price is None or price.price is None else price

    def changes(self) -> tuple[date, ...]:
        """The days on which any price begins."""
        return tuple(sorted({p.since for prices in self._by_meter.values() for p in prices}))

    def price(self, meter: str, quantity: int, day: date) -> Part:
        """What a quantity of a meter cost on a day."""
        price = self.at(meter, day)
        if price is None or price.price is None:
            later = self._by_meter.get(meter, ())
            first = min((p.since for p in later if p.price is not None), default=None)
            why = f"no price before {first}" if first is not None and first > day else "no price"
            return Part(meter=meter, quantity=quantity, missing=why)
        own = price.price * quantity / price.per
        if price.currency == "EUR":
            return Part(meter=meter, quantity=quantity, euros=own, price=price)
        rate = self.at(RATE + price.currency, day)
        if rate is None or rate.price is None:
            # Nothing of a foreign currency is nothing of ours.
            if not own:
                return Part(meter=meter, quantity=quantity, euros=own, price=price)
            return Part(meter=meter, quantity=quantity, price=price, missing=f"no rate of {price.currency}")
        return Part(meter=meter, quantity=quantity, euros=own * rate.price, price=price, rate=rate)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one meter cost. ``euros`` None: not known, for the reason in ``missing``."""

    meter: str
    quantity: int
    euros: Decimal | None = None
    price: Price | None = None
    rate: Price | None = None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What several meters cost together."""

    parts: tuple[Part, ...] = ()  #: by meter, the dearest first, what is not known last
    euros: Decimal | None = None  #: of the parts that are known; None: of nothing is anything known
    failed: Decimal | None = None  #: of it, by runs that failed, were cancelled or abandoned
    repeated: Decimal | None = None  #: of it, by further attempts that worked
    idle: Decimal | None = None  #: of it, of a pool that ran and loaded nothing
    unpriced: tuple[str, ...] = ()  #: meters that are missing in it

    def per_thousand(self, rows: int | None) -> Decimal | None:
        """Euros for 1,000 rows; None where either is not known or nothing came."""
        return None if self.euros is None or not rows else self.euros * 1000 / rows


def cost_of(used: Iterable[Used], book: PriceBook) -> Cost:
    """The cost of all that was used; each amount at the price of its own day."""
    sums: dict[str, Part] = {}
    total = failed = repeated = idle = Decimal(0)
    known = False
    unpriced: set[str] = set()
    for amount in used:
        if amount.meter in SIZES or not amount.quantity:
            continue
        part = book.price(amount.meter, amount.quantity, amount.day)
        if part.euros is None:
            unpriced.add(amount.meter)
        else:
            known = True
            total += part.euros
            if amount.meter in IDLE:
                idle += part.euros
            failed += part.euros * amount.failed / amount.quantity
            repeated += part.euros * amount.repeated / amount.quantity
        sums[amount.meter] = _together(sums[amount.meter], part) if amount.meter in sums else part
    parts = sorted(sums.values(), key=lambda p: (p.euros is None, -(p.euros or 0), p.meter))
    if not known:
        return Cost(parts=tuple(parts), unpriced=tuple(sorted(unpriced)))
    return Cost(
        parts=tuple(parts),
        euros=total,
        failed=failed,
        repeated=repeated,
        idle=idle,
        unpriced=tuple(sorted(unpriced)),
    )


def _together(one: Part, other: Part) -> Part:
    """Two parts of a meter; not known as soon as one of them is not. The later price stands for both."""
    newest = max(one, other, key=lambda p: p.price.since if p.price else date.min)
    both = None if one.euros is None or other.euros is None else one.euros + other.euros
    return Part(
        meter=one.meter,
        quantity=one.quantity + other.quantity,
        euros=both,
        price=newest.price,
        rate=newest.rate,
        missing=one.missing or other.missing,
    )


def cost_of_run(meters: Mapping[str, int], book: PriceBook, day: date) -> Cost:
    """The cost of what one run used, at the prices of its day."""
    return cost_of((Used(day, "", meter, quantity) for meter, quantity in meters.items()), book)
