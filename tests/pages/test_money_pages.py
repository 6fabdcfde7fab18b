"""Costs, Freshness and Reconciliation: empty, normal, stale; prices by form; what other pages say of money."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from novade_core.ledger import prices
from novade_core.ledger.models import Audit
from novade_core.monitoring import freshness
from novade_core.monitoring.freshness import FreshState
from novade_core.settings import load_settings
from pages.ui import words
from tests.pages import seed, seed_money
from tests.pages.conftest import text_of
from tests.pages.test_pages import headline, plain

HOUR = timedelta(hours=1)


@pytest.fixture
def normal(ledger):
    """A console with prices, two months of usage, ages and comparisons."""
    ids = seed.normal(ledger)
    seed_money.all_of_it(ledger, ids["case"])
    return ids


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("costs", f"{datetime.now(UTC):%B %Y} so far: nothing was used."),
        ("freshness", "Nothing has been loaded yet: 7 streams configured."),
        ("reconciliation", "Nothing has been compared yet: 7 streams configured."),
    ],
)
def test_empty(ledger, visit, name, sentence):
    app = visit(name)
    assert not app.exception
    assert headline(app).replace(" so far", "") == sentence.replace(" so far", "")
    assert 'href="/sync"' in text_of(app)


def test_the_costs_of_a_month(ledger, normal, visit):
    app = visit("costs")
    assert not app.exception
    said = headline(app)
    for part in (
        " EUR for ",
        " rows, 0.00",
        " per 1,000, against 250 EUR with the old Salesforce script",
        "without landing.archive, ",
    ):
        assert part in said
    page = plain(app)
    for part in (
        "Work that arrived",
        "Failed work",
        "Idle pool time",
        "our container's contract",
        "times less",
        "measured",
    ):
        assert part in page
    assert "Differs from novade.toml" in page
    assert "126.29 USD per vCPU for 730 h, since 2024-07-01" in page
    assert 'href="/costs?view=price&amp;meter=landing.archive"' in text_of(app)


def test_the_parts_make_the_sum_and_the_csv_says_all_of_it(ledger, normal, visit):
    from novade_core.monitoring.costs import PriceBook
    from pages.ui import cost_month, money, page

    visit("costs")
    services = page.open_services()
    today = services.now().date()
    found = money.spent(services, PriceBook(prices.prices(ledger)), today.replace(day=1), today)
    rows = list(csv.DictReader(io.StringIO(cost_month.csv_of(services, found))))
    assert sum(Decimal(row["eur"]) for row in rows if row["eur"]) == pytest.approx(found.total.euros)
    assert {row["eur"] for row in rows if row["meter"] == "landing.archive"} == {""}
    assert {row["stream"] for row in rows} == {f"salesforce.{name}" for name in seed.STREAMS}


def test_one_stream_and_one_month_are_links(ledger, normal, visit):
    now = datetime.now(UTC)
    before = now.replace(day=1) - timedelta(days=1)
    app = visit("costs", stream="salesforce.contact", month=f"{before:%Y-%m}")
    assert headline(app).startswith(f"{before:%B %Y}, Salesforce Contact: ")
    assert "Prices" not in [h.value for h in app.header]
    for nonsense in ({"month": "soon"}, {"month": "9999-12"}, {"stream": "nobody.knows"}):
        assert not visit("costs", **nonsense).exception


def test_without_prices_everything_is_a_dash(ledger, visit):
    ids = seed.normal(ledger)
    seed_money.used(ledger, datetime.now(UTC))
    said = headline(visit("costs"))
    assert "what they cost is not known" in said
    assert "0 EUR" not in said
    assert "cost not known yet" in headline(visit("overview"))
    assert "at these prices" not in plain(visit("runs", run=str(ids["contact"])))


def test_other_pages_say_what_it_costs(ledger, normal, visit):
    overview = visit("overview")
    assert " arrived today for 0.0" in headline(overview)
    assert "Cost this month" in plain(overview)
    assert 'href="/costs?stream=salesforce.contact"' in text_of(overview)
    assert "at these prices" in plain(visit("runs", run=str(normal["contact"])))
    sync = plain(visit("sync", streams="salesforce.contact"))
    row = sync[sync.index("Salesforce Contact", sync.index("What this sync")) :] if "What this sync" in sync else sync
    assert "0.0000" in row


def test_a_price_is_entered_and_audited(ledger, normal, visit):
    app = visit("costs", view="price", meter="landing.archive")
    assert app.button(key="price_save").disabled
    app.text_input(key="price_price").set_value("0,5")
    app.text_input(key="price_unit").set_value("1 file")
    app.text_input(key="price_source").set_value("our contract").run()
    assert "This month so far costs " in plain(app)
    day = datetime.now(UTC).date()
    assert [c.value for c in app.code] == [
        f"python -m jobs price set landing.archive 0.5 --since {day} --per 1 --unit '1 file' --currency EUR "
        "--basis measured --source 'our contract'"
    ]
    app.button(key="price_save").click().run()
    assert not app.exception
    assert "landing.archive costs 0.5 EUR per file" in plain(app)
    assert "without" not in headline(app)
    found = next(p for p in prices.prices(ledger) if p.meter == "landing.archive")
    assert (found.price, found.since, found.changed_by) == (Decimal("0.5"), datetime.now(UTC).date(), "local")
    with ledger.read() as c:
        assert c.execute(select(Audit.who).where(Audit.subject.contains("landing.archive"))).scalars().all() == [
            "local"
        ]


def test_a_price_that_is_none_is_said_and_cannot_be_saved(ledger, normal, visit):
    app = visit("costs", view="price", meter="process.cpu_ms")
    assert app.button(key="price_save").disabled
    app.text_input(key="price_price").set_value("cheap").run()
    assert "'cheap' is no price." in plain(app)
    assert app.button(key="price_save").disabled
    app.text_input(key="price_price").set_value("70").run()
    assert "It was 61.5 EUR per vCPU for 730 h." in plain(app)
    assert not app.button(key="price_save").disabled


def test_the_files_price_is_taken_over_again(ledger, normal, visit):
    app = visit("costs")
    app.button(key="price_reset_process.cpu_ms").click().run()
    assert "Differs from novade.toml" not in plain(app)
    newest = next(p for p in prices.prices(ledger) if p.meter == "process.cpu_ms")
    file = load_settings(environ={}).prices["process.cpu_ms"]
    assert (newest.price, newest.since) == (file.price, datetime.now(UTC).date())


def test_freshness_by_day(ledger, normal, visit):
    app = visit("freshness")
    assert not app.exception
    assert headline(app).startswith("All 7 streams are within their limits; the oldest is Salesforce User, ")
    assert "Limits were kept on 98.6 % of all days of the last 30 days." in headline(app)
    assert "6 of 7 streams kept the limit each day" in [h.value for h in app.header]
    assert text_of(app).count("Salesforce Account, ") == 2 * 30  # on hover and to a screen reader
    assert text_of(visit("freshness", span="90 days")).count("not known") == 45 * 7


def test_freshness_of_streams_that_are_late(ledger, visit):
    ids = seed.stale(ledger)
    seed_money.aged(ledger, datetime.now(UTC))
    app = visit("freshness")
    assert headline(app).startswith(
        "1 of 7 is over the limit, 1 never loaded: Salesforce Contact 3 h over its limit of 1 d; Salesforce Lead"
    )
    one = visit("freshness", stream="salesforce.contact")
    assert "What was to blame" in [h.value for h in one.header]
    assert "No run was asked for." in plain(one)
    assert ids


@pytest.mark.parametrize("query", [{"stream": "nobody.knows"}, {"stream": "salesforce.case"}, {"span": "a year"}])
def test_freshness_of_nothing(ledger, visit, query):
    seed.stale(ledger)
    assert not visit("freshness", **query).exception


def test_blame_names_the_run(ledger, visit):
    now = datetime.now(UTC)
    with ledger.write() as c:
        first = seed.add_run(c, stream="contact", at=now - 40 * HOUR)
        bad = seed.failure(c, stream="contact", at=now - 20 * HOUR)
        seed.status(c, stream="contact", run_id=first, load_at=now - 40 * HOUR)
    app = visit("freshness", stream="salesforce.contact")
    assert f'href="/runs?run={bad}"' in text_of(app)
    assert "it lasts" in plain(app)


def test_reconciliation(ledger, normal, visit):
    app = visit("reconciliation")
    assert headline(app).startswith("1 of 7 streams differs: Salesforce Case has 3 records fewer in the warehouse. ")
    assert "412 rows in 1 file not loaded" in plain(app)
    assert text_of(visit("reconciliation", state="differs")).count("<tr") == 2
    assert "No stream is in this state." in plain(visit("reconciliation", state="unknown"))


def test_one_comparison_says_what_to_do(ledger, normal, visit):
    app = visit("reconciliation", stream="salesforce.case")
    assert headline(app).startswith("Salesforce Case has 3 records fewer in the warehouse, as run ")
    assert "1 of 10 months differ" in [h.value for h in app.header]
    assert "python -m jobs sync salesforce.case --full" in [c.value for c in app.code]
    assert "500000000000000AAA" in plain(app)
    assert 'href="/sync?streams=salesforce.case&amp;kind=full"' in text_of(app)
    assert "No month has been compared" in plain(visit("reconciliation", stream="salesforce.user"))
    assert not visit("reconciliation", stream="nobody.knows").exception


@pytest.mark.parametrize("name", ["costs", "freshness", "reconciliation"])
def test_a_foreign_text_is_text(tmp_path, ledger, visit, name):
    seed.configure(tmp_path, hostile=True)
    ids = seed.normal(ledger)
    seed_money.all_of_it(ledger, ids["case"], text=seed.HOSTILE)
    app = visit(name)
    assert not app.exception
    assert "<img src=x" not in text_of(app)
    assert "&lt;img src=x" in text_of(app)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"), ("0", "0 EUR"), ("0.41", "0.41 EUR"), ("0.0036", "0.0036 EUR"), ("0.00994", "0.0099 EUR"),
        ("0.0000042", "0.0000042 EUR"), ("0.0000000001", "under 0.000001 EUR"), ("12.346", "12.35 EUR"),
        ("1234.5", "1,234 EUR"),
    ],
)  # fmt: skip
def test_money_in_words(value, said):
    assert words.money(None if value is None else Decimal(value)) == said


def test_ages_and_attainment():
    now, limit = datetime(2026, 8, 15, 12, tzinfo=UTC), timedelta(hours=24)
    loads = [now - 60 * HOUR, now - 30 * HOUR, now - 2 * HOUR]
    found = freshness.overdue(loads, limit, now)
    assert [(o.since, o.until) for o in found] == [(loads[1] + limit, loads[2]), (loads[0] + limit, loads[1])]
    curve = freshness.age_curve(loads, now - 72 * HOUR, now, 6)
    assert [None if age is None else age / HOUR for age in curve] == [0, 12, 24, 30, 18, 28]
    days = freshness.days_between(date(2026, 8, 12), date(2026, 8, 15))
    ages = freshness.ages_by_day(
        {date(2026, 8, 14): 100_000}, days, first_loaded_at=now - 2 * limit, last_load_at=now - 5 * HOUR, now=now
    )
    assert list(ages.values()) == [None, None, timedelta(seconds=100_000), 5 * HOUR]
    assert freshness.attainment(ages.values(), limit) == 0.5
    assert freshness.attainment([None], limit) is None
    assert freshness.state_of_age(limit * 0.9, limit) is FreshState.LATE
