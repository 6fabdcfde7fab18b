"""Prices of the ledger: seeded once, dated, audited; totals per day of what runs used and how old streams became."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import insert, select

from novade_core.errors import ConfigurationError
from novade_core.ledger import ages, comparisons_of, costs_of, leases, prices, requests
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Audit, Comparison, DailyAge, Run, RunState
from novade_core.ledger.prices import Price
from novade_core.ledger.queue import abandon, claim
from novade_core.ledger.totals import add_pool_usage, ages_between
from novade_core.ledger.writer import RunWriter
from novade_core.monitoring.costs import PriceBook, cost_of
from novade_core.settings import PriceSettings, load_settings
from novade_core.streams import RunKind

NOW = datetime(2026, 8, 15, 12, tzinfo=UTC)
CPU = Price(
    meter="process.cpu_ms", since=date(2026, 8, 1), price=Decimal("61.50"), per=2_628_000_000, unit="1 vCPU for 730 h",
    source="a contract",
)  # fmt: skip


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_url)
    yield opened
    opened.close()


def said(**parts: object) -> dict[str, PriceSettings]:
    values = {"price": "0.1", "unit": "1 call", "since": "2026-01-01", "source": "a list"} | parts
    return {"a.calls": PriceSettings.model_validate(values)}


def test_the_configuration_is_taken_over_once(ledger):
    prices.seed(ledger, said(), now=NOW)
    prices.seed(ledger, said(price="0.2"), now=NOW)
    (found,) = prices.prices(ledger)
    assert (found.price, found.since, found.changed_by) == (Decimal("0.1"), date(2026, 1, 1), "novade.toml")
    prices.seed(ledger, load_settings(environ={}).prices, now=NOW)
    assert len({p.meter for p in prices.prices(ledger)}) == len(load_settings(environ={}).prices) + 1


def test_a_price_keeps_every_digit_and_is_audited(ledger):
    exact = replace(CPU, price=Decimal("0.000000000000000000123"))
    prices.enter(ledger, exact, now=NOW, who="ada")
    prices.enter(ledger, exact, now=NOW, who="bob")
    assert prices.prices(ledger)[0].price == exact.price
    prices.enter(ledger, replace(CPU, price=None), now=NOW, who="bob")
    (found,) = prices.prices(ledger)
    assert (found.price, found.changed_by) == (None, "bob")
    prices.enter(ledger, replace(CPU, since=date(2026, 9, 1)), now=NOW, who="bob")
    assert [p.since for p in prices.prices(ledger)] == [date(2026, 9, 1), CPU.since]
    with ledger.read() as c:
        lines = [
            (a.who, a.action, a.details.get("price")) for a in c.execute(select(Audit.__table__).order_by(Audit.id))
        ]
    assert lines == [
        ("ada", "price.entered", "0.000000000000000000123"),
        ("bob", "price.corrected", ["0.000000000000000000123", "None"]),
        ("bob", "price.entered", "61.50"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"meter": "cpu"}, "is no meter"),
        ({"meter": "a.b; drop"}, "is no meter"),
        ({"per": 0}, "at least one"),
        ({"currency": "EURO"}, "is no currency"),
        ({"source": " "}, "its source is missing"),
        ({"unit": ""}, "the unit must be there"),
        ({"meter": "rate.USD", "currency": "USD"}, "in EUR"),
    ],
)
def test_a_price_that_says_nothing_is_refused(ledger, changes, reason):
    with pytest.raises(ConfigurationError, match=reason):
        prices.enter(ledger, replace(CPU, **changes), now=NOW, who="ada")
    assert prices.prices(ledger) == ()


@pytest.mark.parametrize(
    ("typed", "amount"), [("0.055", "0.055"), (" 1 ", "1"), ("0,055", "0.055"), ("1e-3", "0.001"), ("", None)]
)
def test_a_price_as_people_type_it(typed, amount):
    assert prices.amount(typed) == (None if amount is None else Decimal(amount))


@pytest.mark.parametrize("typed", ["-1", "free", "NaN", "Infinity", "1e400", "1,000,000", "1.0.0"])
def test_what_is_no_number_is_no_price(typed):
    with pytest.raises(ConfigurationError, match="is no price"):
        prices.amount(typed)


# What runs used


def begun(ledger: Ledger, *, attempt: int = 1) -> RunWriter:
    stream = load_settings(environ={}).stream("salesforce.contact")
    run_id = requests.ask_for_run(ledger, stream=stream, kind=RunKind.INCREMENTAL, who="t", origin="person", now=NOW)
    with ledger.write() as c:
        c.execute(Run.__table__.update().where(Run.id == run_id).values(attempt=attempt))
    return RunWriter(
        ledger,
        claim(ledger, run_id=run_id, holder="h:1:1", now=NOW, watcher=leases.Watcher(20), code_version="1"),
    )


def end(writer: RunWriter, state: RunState, now: datetime = NOW, **status: object) -> None:
    with writer.ledger.write() as c:
        writer.finish(c, now, state=state, headline="", values={}, status=status)


def used(ledger: Ledger) -> dict[str, tuple[int, int, int]]:
    found = costs_of.used_by_stream(ledger, since=NOW.date(), until=NOW.date())
    return {u.meter: (u.quantity, u.failed, u.repeated) for u in found}


def test_usage_counts_once_before_and_after_the_end_of_a_run(ledger):
    writer = begun(ledger)
    writer.usage("land", {"landing.write_operations": 3, "landing.read_operations": 0})
    assert used(ledger) == {}
    end(writer, RunState.SUCCEEDED)
    writer.usage("extract", {"salesforce.api_calls": 7, "landing.write_operations": 1})
    writer.usage("run", {"process.peak_memory_bytes": 10**9})
    assert used(ledger) == {"landing.write_operations": (4, 0, 0), "salesforce.api_calls": (7, 0, 0)}
    again = begun(ledger, attempt=2)
    again.usage("extract", {"salesforce.api_calls": 5})
    end(again, RunState.PARTIAL)
    assert used(ledger)["salesforce.api_calls"] == (12, 0, 5)


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_the_work_of_a_run_that_did_not_arrive_is_failed(ledger, state):
    writer = begun(ledger, attempt=2)
    writer.usage("extract", {"salesforce.api_calls": 7})
    end(writer, state)
    assert used(ledger) == {"salesforce.api_calls": (7, 7, 0)}


def test_so_is_that_of_one_whose_worker_vanished(ledger):
    writer = begun(ledger)
    writer.usage("land", {"landing.write_operations": 3})
    with ledger.write() as c:
        abandon(c, run_id=writer.run.id, now=NOW)
    writer.usage("extract", {"salesforce.api_calls": 7})  # it wakes
    assert used(ledger) == {"landing.write_operations": (3, 3, 0), "salesforce.api_calls": (7, 7, 0)}


def test_usage_is_cut_where_a_price_begins_and_grouped_by_day_and_run(ledger):
    ids = []
    for day in (1, 2, 3):
        writer = begun(ledger)
        writer.usage("extract", {"salesforce.api_calls": 10**day})
        end(writer, RunState.SUCCEEDED, NOW + timedelta(days=day))
        ids.append(writer.run.id)
    first, last = NOW.date() + timedelta(days=1), NOW.date() + timedelta(days=3)
    cut = costs_of.used_by_stream(ledger, since=first, until=last, cuts=(first, last, date(2030, 1, 1)))
    assert [(u.day, u.quantity) for u in cut] == [(first, 110), (last, 1000)]
    by_day = costs_of.used_by_day(ledger, since=first, until=last, stream="salesforce.contact")
    assert [(u.day.day, u.quantity) for u in by_day] == [(16, 10), (17, 100), (18, 1000)]
    assert costs_of.used_by_day(ledger, since=first, until=last, stream="salesforce.lead") == ()
    assert costs_of.used_by_run(ledger, ids[:2]) == {
        ids[0]: {"salesforce.api_calls": 10}, ids[1]: {"salesforce.api_calls": 100}
    }  # fmt: skip
    assert costs_of.first_day(ledger) == first


def test_idle_time_of_a_pool_is_nobodys(ledger):
    for seconds in (0, 600, 300):
        with ledger.write() as c:
            add_pool_usage(c, NOW.date(), idle_seconds=seconds)
    (found,) = costs_of.used_by_stream(ledger, since=NOW.date(), until=NOW.date())
    assert (found.stream, found.meter, found.quantity) == ("warehouse pool", "warehouse.idle_pool_seconds", 900)
    cost = cost_of([found], PriceBook(prices.from_settings(load_settings(environ={}).prices)))
    assert cost.idle == cost.euros == Decimal("1.51") / 4 * Decimal("0.90")


# How old streams became


def test_a_gap_counts_on_each_of_its_days():
    monday, thursday = datetime(2026, 8, 10, 18, tzinfo=UTC), datetime(2026, 8, 13, 6, tzinfo=UTC)
    hours = {day.day: seconds / 3600 for day, seconds in ages_between(monday, thursday).items()}
    assert hours == {10: 6, 11: 30, 12: 54, 13: 60}
    assert ages_between(None, monday) == {monday.date(): 0}
    assert ages_between(thursday, monday) == {monday.date(): 0}
    assert len(ages_between(monday - timedelta(days=3000), monday)) == 401


def test_each_load_notes_how_old_its_stream_had_become(ledger):
    for hours in (0, 1, 30):
        at = NOW + timedelta(hours=hours)
        end(begun(ledger), RunState.SUCCEEDED, at, last_load_at=at)
    end(begun(ledger), RunState.FAILED, NOW + timedelta(hours=40))
    found = ages.daily_ages(ledger, since=date(2026, 8, 15), until=date(2026, 8, 17))
    assert [(a.day.day, a.loads, a.oldest_seconds) for a in found] == [(15, 2, 11 * 3600), (16, 1, 29 * 3600)]
    loads = ages.loads(ledger, stream="salesforce.contact", since=NOW - timedelta(days=1))
    assert ([at - NOW for at in loads.at], loads.whole) == ([timedelta(hours=h) for h in (0, 1, 30)], True)
    later = ages.loads(ledger, stream="salesforce.contact", since=NOW + timedelta(hours=20))
    assert later.at == loads.at[1:]
    (culprit,) = ages.culprits(ledger, stream="salesforce.contact", since=NOW, until=NOW + timedelta(days=9))
    assert culprit.state is RunState.FAILED
    with ledger.read() as c:
        assert {row.stream for row in c.execute(select(DailyAge.stream))} == {"salesforce.contact"}


# Comparisons


def test_the_latest_comparison_of_each_stream_and_month(ledger):
    with ledger.write() as c:
        for number, (stream, window, here) in enumerate(
            [("s.a", "all", 9), ("s.a", "2026-01", 4), ("s.a", "all", 10), ("s.b", "2026-01", 1), ("s.a", "2026-01", 5)]
        ):
            state = "equal" if here in (5, 10) else "differs"
            values = {"at": NOW + timedelta(hours=number), "source_count": 10, "warehouse_count": here, "state": state}
            c.execute(insert(Comparison).values(stream=stream, window=window, sentence="", **values))
    assert {s: f.warehouse_count for s, f in comparisons_of.latest(ledger, ("s.a", "s.b", "s.c")).items()} == {
        "s.a": 10
    }
    assert [(m.window, m.difference) for m in comparisons_of.by_month(ledger, "s.a")] == [("2026-01", -5)]
    assert [h.warehouse_count for h in comparisons_of.history(ledger, "s.a")] == [10, 9]
    assert comparisons_of.waiting(ledger, ("s.a",)) == {}
