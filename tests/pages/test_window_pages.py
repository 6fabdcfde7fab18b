"""Load windows: none, paused, gathering, under way, kept open by somebody, past; opened and ended by button."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
import streamlit as st
from sqlalchemy import select, update

from novade_core.ledger import costs_of, window_views, windows
from novade_core.ledger.models import Audit, LoadWindow, WindowState
from novade_core.monitoring.costs import cost_of
from novade_core.monitoring.window_costs import costs_of_windows, summary
from pages.ui import money, window_list
from pages.ui import page as shown
from tests.pages import seed_windows, test_pages
from tests.pages.conftest import text_of
from tests.pages.test_pages import headline

WAITS = r"3 streams wait since \d\d:\d\d UTC, the next window opens by \d\d:\d\d UTC"


@pytest.fixture
def pool(tmp_path, ledger):
    """A console whose environment has a pool; its ledger is empty."""
    seed_windows.configure(tmp_path)
    st.cache_resource.clear()
    st.cache_data.clear()
    return ledger


def plain(app) -> str:
    """The page's text, with single blanks."""
    return re.sub(r"\s+([.,;:])", r"\1", " ".join(test_pages.plain(app).split()))


def three_wait(ledger, now) -> None:
    for number, name in enumerate(("contact", "account", "case")):
        seed_windows.gathered(ledger, now, stream=f"salesforce.{name}", rows=400, minutes=20 - number)


def test_an_environment_without_a_pool_says_what_windows_are_and_how_to_set_one_up(ledger, visit):
    app = visit("load_windows")
    assert not app.exception
    assert headline(app).startswith("No load windows here")
    assert "python -m jobs azure plan" in plain(app)
    assert "[environments.local.pool]" in app.code[0].value
    assert [b.label for b in app.button] == []


def test_nothing_yet(pool, visit):
    app = visit("load_windows")
    assert not app.exception
    assert headline(app) == "No load window has been opened yet and nothing waits."
    assert [(b.label, b.disabled) for b in app.button] == [("Open a window now", False), ("End this window", True)]


def test_the_pool_is_paused_and_streams_wait(pool, visit):
    now = datetime.now(UTC)
    seed_windows.priced(pool, now)
    seed_windows.past(pool, now - timedelta(hours=9))
    three_wait(pool, now)
    app = visit("load_windows")
    assert not app.exception
    assert re.fullmatch(rf"The pool is paused; {WAITS}\.", headline(app))
    page = plain(app)
    assert "Goes with the next window, by " in page
    assert "Salesforce Contact" in page
    assert "No worker lives, so nobody opens a window." in page
    said = plain(visit("overview"))
    assert re.search(rf"Load windows: The pool is paused; {WAITS}", said)


def test_what_is_overdue_and_what_is_held_back_say_so(pool, visit):
    now = datetime.now(UTC)
    seed_windows.gathered(pool, now, stream="salesforce.contact", rows=400, minutes=90)
    run = seed_windows.stuck(pool, now, said="A <b>column</b> is gone.")
    app = visit("load_windows")
    assert re.search(
        r"1 stream waits since .*, the next window is due since .*; 1 stream more held back", headline(app)
    )
    assert "Opens no window before something new lands" in plain(app)
    assert f'href="/runs?run={run}"' in text_of(app)
    assert "A &lt;b&gt;column&lt;/b&gt; is gone." in text_of(app)


def test_a_window_under_way_says_what_it_costs_so_far(pool, visit):
    now = datetime.now(UTC)
    seed_windows.priced(pool, now)
    seed_windows.past(pool, now - timedelta(hours=1), minutes=10)
    three_wait(pool, now)
    number = seed_windows.under_way(pool, now)
    for name in ("contact", "account"):
        seed_windows.loading(pool, now, stream=name)
    app = visit("load_windows")
    assert not app.exception
    # Six minutes of 56 at the price of an hour.
    assert re.fullmatch(
        rf"Window {number} is loading 2 of 3 streams, online for 6 min( \d s)?, 0\.1\d EUR so far; "
        r"always-on would have cost 1\.\d\d EUR since the last window\.",
        headline(app),
    )
    page = plain(app)
    for part in ("Azure is asked to resume the pool.", "3 runs asked for, 0 rows loaded.", "running", "waiting"):
        assert part in page
    assert "No worker lives, so nobody pauses the pool." in page
    assert f"Window {number} is loading 2 of 3" in plain(visit("overview"))


def test_a_foreign_session_that_keeps_the_pool_is_shown_with_what_it_costs(pool, visit):
    now = datetime.now(UTC)
    seed_windows.priced(pool, now)
    who = ["bob (SSMS)", "eve (<i>x</i>)"]
    seed_windows.under_way(pool, now, WindowState.CLOSING, others=who, trouble="Kept online by bob (SSMS) and 1 more.")
    app = visit("load_windows")
    assert "is done; bob (SSMS) and eve (<i>x</i>) keep the pool awake, online for" in headline(app)
    page = plain(app)
    assert "Who holds the pool open: bob (SSMS) and eve (<i>x</i>). A pause would end their sessions" in page
    assert "EUR an hour (DW100c) until they are gone." in page
    assert "<i>x</i>" not in text_of(app)


@pytest.mark.parametrize(
    ("state", "more", "said"),
    [
        (WindowState.RESUMING, {}, "waits for the pool to come online"),
        (WindowState.RESUMING, {"size": None}, ", cost not known."),
        (WindowState.OPEN, {}, "has nothing to load at the moment"),
        (WindowState.OPEN, {"ours": False, "resume_asked_at": None}, ", in a pool that somebody else resumed."),
        (WindowState.CLOSING, {}, "looks whether somebody else is in the pool"),
        (WindowState.PAUSING, {"pause_asked_at": datetime.now(UTC)}, "pauses the pool, online"),
        (WindowState.PAUSING, {"trouble": "The pool was not online after 20 minutes."}, "as soon as it is online"),
    ],
)
def test_each_state_of_a_window_has_its_sentence(pool, visit, state, more, said):
    now = datetime.now(UTC)
    seed_windows.under_way(pool, now, state, **more)
    app = visit("load_windows")
    assert not app.exception
    assert said in headline(app)
    assert more.get("trouble", "") in plain(app)


def test_past_windows_their_cost_and_their_csv(pool, visit):
    now = datetime.now(UTC)
    seed_windows.priced(pool, now)
    numbers = seed_windows.fortnight(pool, now)
    app = visit("load_windows")
    assert not app.exception
    page, html = plain(app), text_of(app)
    for part in (
        "28 windows", "A pool that is always on", "pool paused, ended by ada", "left to its owner", "24,000",
        "so all of its time online is booked as idle", "2 streams waited since 10:02 UTC",
    ):  # fmt: skip
        assert part in page
    assert f'href="/load-windows?window={numbers[-1]}"' in html
    found = window_views.past(pool)
    costs = costs_of_windows(found, money.book(shown.open_services()), now)
    rows = list(csv.DictReader(io.StringIO(window_list.csv_of(found, costs))))
    assert [int(r["window"]) for r in rows] == numbers[::-1]
    assert (rows[0]["rows"], rows[0]["ended"], rows[0]["size"]) == ("24000", "pool paused", "DW100c")
    assert 0 < float(rows[0]["eur"]) < float(rows[0]["always_on_eur"])


def test_costs_and_windows_say_the_same(pool, visit):
    """What is booked is what the page Costs adds up, to the cent."""
    now = datetime.now(UTC)
    seed_windows.priced(pool, now)
    seed_windows.fortnight(pool, now)
    visit("load_windows")
    book = money.book(shown.open_services())
    used = costs_of.used_by_day(pool, since=now.date() - timedelta(days=30), until=now.date())
    assert {u.meter for u in used} == {"warehouse.pool_seconds", "warehouse.idle_pool_seconds"}
    assert cost_of(used, book).euros == summary(window_views.past(pool), book, now).euros


def test_one_window_with_its_runs(pool, visit):
    now = datetime.now(UTC)
    number = seed_windows.past(pool, now - timedelta(hours=2))
    app = visit("load_windows", window=str(number))
    assert not app.exception
    assert headline(app).startswith(f"Window {number} was open for 14 min and loaded 24,000 rows. Pool paused.")
    page = plain(app)
    assert "Its cost is not known: warehouse.pool_seconds has no price." in page
    for part in ("Salesforce Contact", "Salesforce Account", "14 statements", "contact_copy"):
        assert part in page
    missing = visit("load_windows", window="4711")
    assert "There is no load window 4711." in plain(missing)
    assert not visit("load_windows", window="x").exception


def test_opening_and_ending_ask_once(pool, visit):
    now = datetime.now(UTC)
    three_wait(pool, now)
    app = visit("load_windows")
    app.button(key="window_open").click().run()
    assert "loads 3 streams (1,200 rows)" in plain(app)
    with pool.read() as c:
        assert windows.current(c) is None
    app.button(key="window_open_yes").click().run()
    assert not app.exception
    with pool.read() as c:
        window = windows.current(c)
    assert window is not None
    assert window.reason == "asked for by local"
    assert f"Window {window.id} was asked for; a worker resumes the pool." in plain(app)
    assert app.button(key="window_open").disabled
    app.button(key="window_end").click().run()
    app.button(key="window_end_yes").click().run()
    assert not app.exception
    with pool.read() as c:
        ended = windows.current(c)
        said = [tuple(row) for row in c.execute(select(Audit.action, Audit.who).order_by(Audit.id))]
    assert ended is not None
    assert ended.end_asked_by == "local"
    assert said == [("open window", "local"), ("end window", "local")]
    assert app.button(key="window_end").disabled
    assert "was ended by local; the pool is paused again as soon as it is online" in headline(app)


def test_what_ended_meanwhile_is_refused_with_a_sentence(pool, visit):
    now = datetime.now(UTC)
    number = seed_windows.under_way(pool, now)
    app = visit("load_windows")
    app.button(key="window_end").click().run()
    with pool.write() as c:
        c.execute(update(LoadWindow).where(LoadWindow.id == number).values(closed_at=now, state=WindowState.CLOSED))
    app.button(key="window_end_yes").click().run()
    assert not app.exception
    assert "No load window is under way." in plain(app)
