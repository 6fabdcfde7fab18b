"""Costs are a pure function of usage and dated prices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novade_core.ledger.costs_of import Used
from novade_core.ledger.prices import Basis, Price
from novade_core.monitoring.costs import BASELINES, Cost, PriceBook, cost_of, cost_of_run
from novade_core.settings import load_settings

JULY, AUGUST, TODAY = date(2026, 7, 1), date(2026, 8, 1), date(2026, 8, 15)


def price(meter: str, amount: str | None, *, since: date = JULY, per: int = 1, currency: str = "EUR") -> Price:
    number = None if amount is None else Decimal(amount)
    return Price(meter=meter, since=since, price=number, per=per, unit="x", currency=currency, source="a test")


def test_an_amount_costs_its_share_of_what_the_price_is_for():
    book = PriceBook([price("landing.write_operations", "0.055", per=10_000)])
    cost = cost_of_run({"landing.write_operations": 23_000}, book, TODAY)
    assert cost.euros == Decimal("0.1265")
    assert cost.unpriced == ()


def test_a_foreign_currency_takes_the_rate_of_the_day():
    book = PriceBook(
        [price("a.b", "2", currency="USD"), price("rate.USD", "0.9"), price("rate.USD", "0.8", since=AUGUST)]
    )
    assert cost_of_run({"a.b": 10}, book, date(2026, 7, 31)).euros == 18
    part = cost_of_run({"a.b": 10}, book, AUGUST).parts[0]
    assert part.euros == 16
    assert part.rate is not None
    assert part.rate.since == AUGUST


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        ([], "no price"),
        ([price("a.b", None)], "no price"),
        ([price("a.b", "1"), price("a.b", None, since=AUGUST)], "no price"),
        ([price("a.b", "1", since=date(2026, 9, 1))], "no price before 2026-09-01"),
        ([price("a.b", "1", currency="USD")], "no rate of USD"),
        ([price("a.b", "1", currency="USD"), price("rate.USD", "1", since=date(2027, 1, 1))], "no rate of USD"),
    ],
)
def test_what_has_no_price_has_no_cost_and_is_named(prices, why):
    cost = cost_of_run({"a.b": 5, "c.d": 2}, PriceBook([*prices, price("c.d", "1")]), TODAY)
    assert cost.euros == 2
    assert cost.unpriced == ("a.b",)
    assert (cost.parts[-1].euros, cost.parts[-1].missing) == (None, why)
    alone = cost_of_run({"a.b": 5}, PriceBook(prices), TODAY)
    assert alone.euros is None
    assert alone.per_thousand(10) is None


def test_what_is_free_costs_nothing_and_is_known():
    cost = cost_of_run({"a.b": 5}, PriceBook([price("a.b", "0", currency="USD")]), TODAY)
    assert (cost.euros, cost.unpriced) == (0, ())


def test_a_price_that_changes_within_a_time_costs_each_day_its_own():
    book = PriceBook([price("a.b", "1"), price("a.b", "3", since=AUGUST)])
    used = [Used(date(2026, 7, 31), "s", "a.b", 10), Used(AUGUST, "s", "a.b", 10)]
    cost = cost_of(used, book)
    assert cost.euros == 40
    assert (cost.parts[0].quantity, cost.parts[0].euros) == (20, 40)
    assert book.changes() == (JULY, AUGUST)


def test_failed_repeated_and_idle_stand_on_lines_of_their_own():
    book = PriceBook([price("a.b", "1"), price("warehouse.idle_pool_seconds", "2", per=3600)])
    cost = cost_of(
        [Used(TODAY, "s", "a.b", 10, failed=3, repeated=2), Used(TODAY, "", "warehouse.idle_pool_seconds", 7200)], book
    )
    assert (cost.euros, cost.failed, cost.repeated, cost.idle) == (14, 3, 2, 4)


def test_a_part_that_is_known_on_some_days_alone_is_not_known():
    book = PriceBook([price("a.b", "1", since=AUGUST)])
    cost = cost_of([Used(JULY, "s", "a.b", 1), Used(AUGUST, "s", "a.b", 1)], book)
    assert (cost.parts[0].quantity, cost.parts[0].euros) == (2, None)
    assert (cost.euros, cost.unpriced) == (1, ("a.b",))


def test_sizes_are_no_amounts():
    assert cost_of_run({"process.peak_memory_bytes": 10**9}, PriceBook([]), TODAY) == Cost()


def test_a_thousand_rows():
    cost = Cost(euros=Decimal("0.5"))
    assert cost.per_thousand(2_000) == Decimal("0.25")
    assert cost.per_thousand(0) is None
    assert cost.per_thousand(None) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12)), max_size=20))
def test_the_whole_is_the_sum_of_its_parts(amounts):
    book = PriceBook([price(f"{name}.x", f"0.0{number}", per=10**6) for number, name in enumerate("abc", 1)])
    cost = cost_of([Used(TODAY, "s", f"{name}.x", quantity) for name, quantity in amounts], book)
    assert (cost.euros or 0) == sum(part.euros or 0 for part in cost.parts)


def test_what_a_run_uses_has_a_price_in_the_configuration():
    """Each meter of the sources and landings that there are; a new one needs its line."""
    known = load_settings(environ={}).prices
    meters = {
        "salesforce.api_calls", "salesforce.bytes_in", "salesforce.bulk_jobs", "landing.bytes_written",
        "landing.bytes_read", "process.cpu_ms",
    } | {f"landing.{kind}_operations" for kind in ("write", "list", "read", "other")}  # fmt: skip
    assert meters <= known.keys()
    assert {p.currency for p in known.values()} == {"EUR", "USD"}
    assert all(p.source for p in known.values())
    assert {Basis(p.basis) for p in known.values()} == set(Basis)


def test_what_it_cost_before():
    assert BASELINES["salesforce"].euros == Decimal(50) / 200 * 1000
    assert "drift" not in BASELINES
