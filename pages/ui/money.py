"""What pages say of money: the costs of a time, by stream and by day, and each figure in words."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from novade_core.ledger import costs_of, prices
from novade_core.ledger.costs_of import Used
from novade_core.ledger.prices import Price
from novade_core.monitoring.costs import BASELINES, Baseline, Cost, PriceBook, cost_of, cost_of_run
from pages.ui import words
from pages.ui.page import Services


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent from one day to another, both included."""

    total: Cost
    by_stream: dict[str, Cost]
    rows: dict[str, int]  #: loaded, by stream

    @property
    def all_rows(self) -> int:
        """Loaded, of all streams."""
        return sum(self.rows.values())


def book(services: Services) -> PriceBook:
    """The prices as they stand."""
    return PriceBook(services.read(prices.prices))


def used(services: Services, known: PriceBook, since: date, until: date) -> tuple[Used, ...]:
    """What was used in a time, by stream and meter, apart where a price changed within it."""
    cuts = tuple(day for day in known.changes() if since < day <= until)
    return services.read(costs_of.used_by_stream, since=since, until=until, cuts=cuts)


def spent(services: Services, known: PriceBook, since: date, until: date) -> Spent:
    """What was spent in a time."""
    return priced(used(services, known, since, until), known, rows_of(services, since, until))


def rows_of(services: Services, since: date, until: date) -> dict[str, int]:
    """Rows loaded in a time, by stream."""
    return services.read(costs_of.rows_by_stream, since=since, until=until)


def priced(found: Sequence[Used], known: PriceBook, rows: dict[str, int]) -> Spent:
    """The same at given prices."""
    by_stream: dict[str, list[Used]] = {}
    for amount in found:
        by_stream.setdefault(amount.stream, []).append(amount)
    return Spent(
        total=cost_of(found, known),
        by_stream={stream: cost_of(part, known) for stream, part in by_stream.items()},
        rows=rows,
    )


def by_day(
    services: Services, known: PriceBook, since: date, until: date, stream: str | None = None
) -> dict[date, Cost]:
    """What was spent day by day; days on which nothing was used are left out."""
    found: dict[date, list[Used]] = {}
    for amount in services.read(costs_of.used_by_day, since=since, until=until, stream=stream):
        found.setdefault(amount.day, []).append(amount)
    return {day: cost_of(part, known) for day, part in found.items()}


def mean_of_runs(services: Services, runs: Sequence[Sequence[int]]) -> list[Decimal | None]:
    """What runs cost in the mean at today's prices, group by group; None where of none of a group a cost is known."""
    ids = tuple(run_id for group in runs for run_id in group)
    if not ids:
        return [None] * len(runs)
    known, today = book(services), services.now().date()
    meters = services.read(costs_of.used_by_run, run_ids=ids)
    each = {run_id: cost_of_run(used, known, today).euros for run_id, used in meters.items()}
    means: list[Decimal | None] = []
    for group in runs:
        euros = [value for run_id in group if (value := each.get(run_id)) is not None]
        means.append(sum(euros, Decimal(0)) / len(euros) if euros else None)
    return means


def baseline(source: str) -> Baseline | None:
    """What 1,000 rows of a source cost before."""
    return BASELINES.get(source)


def month_of(day: date) -> tuple[date, date]:
    """The first and the last day of a day's month."""
    return day.replace(day=1), day.replace(day=monthrange(day.year, day.month)[1])


def without(meters: Sequence[str]) -> str:
    """What a sum leaves out, as a clause; empty where it leaves out nothing."""
    if not meters:
        return ""
    named = (
        words.listed(list(meters[:3])) if len(meters) <= 3 else f"{', '.join(meters[:2])} and {len(meters) - 2} more"
    )
    return f"without {named}, which {'has' if len(meters) == 1 else 'have'} no price"


def price_in_words(price: Price | None) -> str:
    """0.055 USD per 10,000 operations."""
    if price is None or price.price is None:
        return words.DASH
    return f"{plain(price)} {price.currency} per {price.unit.removeprefix('1 ')}"


def plain(price: Price) -> str:
    """The number as people write it, without zeros at its end."""
    if price.price is None:
        return ""
    text = f"{price.price:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def against(unit: Iterable[str]) -> str:
    """What the sources of these streams cost before, as a clause; empty where nothing is known of it."""
    known = {source: found for source in dict.fromkeys(unit) if (found := baseline(source)) is not None}
    said = [
        f"{words.money(b.euros).removesuffix(' EUR').removesuffix('.00')} EUR with {b.words}" for b in known.values()
    ]
    return f"against {words.listed(said)}" if said else ""
