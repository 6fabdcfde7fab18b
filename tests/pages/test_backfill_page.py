"""Backfills on the Sync page: asking for one, and those that there are, window by window."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from sqlalchemy import select

from novade_core.ledger import backfills
from novade_core.ledger.backfill_views import grid, listing, summary
from novade_core.ledger.models import Backfill, Run
from tests.pages import seed
from tests.pages.conftest import text_of

#: A quarter and a half, cut by month.
ASKED = {"kind": "backfill", "since": "2024-01-01T00:00", "until": "2024-05-15T00:00", "chunk": "month"}


def plain(app) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text_of(app))))


def cells(app) -> list[str]:
    """What a screen reader says of each window."""
    return [unescape(said) for said in re.findall(r'class="nv-cell nv-[^>]*?aria-label="([^"]*)"', text_of(app))]


def keys(app) -> set[str]:
    return {b.key for b in app.button if b.key.startswith("backfill_")}


def test_nothing_is_said_of_backfills_where_there_are_none(ledger, visit):
    app = visit("sync")
    assert not app.exception
    assert "Backfills" not in [h.value for h in app.header]


def test_one_window_asks_for_neither_order_nor_scope(ledger, visit):
    app = visit("sync", **(ASKED | {"streams": "salesforce.lead", "chunk": "one"}))
    assert [r.key for r in app.radio] == ["sync_kind", "sync_chunk"]
    assert app.code[0].value.startswith("python -m jobs sync salesforce.lead --since 2024-01-01T00:00Z")
    assert app.button(key="sync_start").label == "Start sync"


def test_the_form_shows_what_it_would_do_and_the_command(ledger, visit):
    app = visit("sync", **ASKED, streams="salesforce.lead,salesforce.user")
    assert not app.exception
    assert app.code[0].value.splitlines() == [
        f"python -m jobs backfill start salesforce.{name} --since 2024-01-01T00:00:00Z --until 2024-05-15T00:00:00Z"
        " --chunk month --newest-first --scope all"
        for name in ("lead", "user")
    ]
    assert "What this backfill will probably take" in text_of(app)
    assert "not known; most of these windows were never read" in plain(app)
    app.radio(key="sync_chunk").set_value("week").run()
    app.radio(key="sync_order").set_value("oldest").run()
    assert "--chunk week --oldest-first" in app.code[0].value
    assert app.query_params["chunk"] == "week"
    assert app.query_params["order"] == "oldest"


def test_many_windows_ask_once_then_the_grid_is_there(ledger, visit):
    app = visit("sync", **ASKED, streams="salesforce.lead")
    app.button(key="sync_start").click().run()
    assert "5 windows are read one after another" in plain(app)
    assert listing(ledger) == ()
    app.button(key="sync_confirm").click().run()
    assert not app.exception
    [facts] = listing(ledger)
    assert (facts.stream, facts.windows, facts.requested_by) == ("salesforce.lead", 5, "local")
    assert "Backfill 1 was started" in plain(app)
    assert len(cells(app)) == 5
    assert cells(app)[0] == "2024-01-01 to 2024-02-01: waiting."
    assert cells(app)[-1] == "2024-05-01 to 2024-05-15: waiting."
    assert keys(app) == {"backfill_pause_1", "backfill_cancel_1"}


def test_a_single_month_starts_without_asking(ledger, visit):
    app = visit("sync", **(ASKED | {"until": "2024-01-20T00:00"}), streams="salesforce.lead")
    app.button(key="sync_start").click().run()
    assert [f.windows for f in listing(ledger)] == [1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"since": "2012-01-01T00:00", "chunk": "day"}, "more than 2,000 windows"),
        ({"scope": "failed"}, "all windows would be left out"),
        ({"until": "2023-01-01T00:00"}, "ends before it starts"),
    ],
)
def test_what_is_refused_cannot_be_started_and_says_why(ledger, visit, wrong, words):
    app = visit("sync", **(ASKED | wrong), streams="salesforce.lead")
    assert not app.exception
    assert words in plain(app)
    assert app.button(key="sync_start").disabled
    assert "Now and next" in [h.value for h in app.header]


def test_each_window_says_its_state_without_colour(ledger, visit):
    ids = seed.backfilled(ledger)
    app = visit("sync")
    assert not app.exception
    said = plain(app)
    assert "30 windows: 10 read, 2 failed, 1 under way, 17 waiting, 3 left out; 12,355 rows." in said
    assert "12 of 30 windows" in said
    assert re.search(r"Still to come: 17 windows, about 21,080 rows, [\d,]+ API calls \(\S+ .*?% of a day's\)", said)
    chunks = [*grid(ledger, ids["day"]), *grid(ledger, ids["month"])]
    assert len(cells(app)) == len(chunks)
    for state in ("succeeded", "partial", "failed", "abandoned", "running", "waiting", "left out", "cancelled"):
        assert sum(f": {state}" in cell for cell in cells(app)) == sum(c.state == state for c in chunks) > 0
    assert any(cell.endswith("left out, about 1,240 rows expected. It has been read already.") for cell in cells(app))
    runs = {c.run_id for c in chunks if c.run_id}
    assert {int(n) for n in re.findall(r'class="nv-cell[^>]*href="/runs\?run=(\d+)"', text_of(app))} == runs


def test_the_link_to_one_backfill_puts_it_first_with_its_windows(ledger, visit):
    ids = seed.backfilled(ledger)
    app = visit("sync", backfill=str(ids["week"]))
    names = re.findall(r">Backfill (\d)<", text_of(app))
    assert names[0] == str(ids["week"])
    assert len(cells(app)) > 100
    assert "Show its windows" not in plain(app)
    assert "Show its windows" in plain(visit("sync"))


@pytest.mark.parametrize("given", ["77", "x", "-1", "9" * 30])
def test_a_link_to_no_backfill_says_so(ledger, visit, given):
    app = visit("sync", backfill=given)
    assert not app.exception
    assert ("There is no backfill 77." in plain(app)) == (given == "77")


def test_the_buttons_pause_continue_read_again_and_cancel(ledger, visit):
    ids = seed.backfilled(ledger)
    number = ids["month"]
    app = visit("sync")
    assert f"`python -m jobs backfill pause {number}`" in {b.help for b in app.button}
    for name, state in (("pause", "paused"), ("continue", "open"), ("failed", "open"), ("cancel", "cancelled")):
        app.button(key=f"backfill_{name}_{number}").click().run()
        assert not app.exception
        assert summary(ledger, number).state == state, name
    assert summary(ledger, number).failed == 0
    assert f"backfill_pause_{number}" not in keys(app)
    with ledger.read() as c:
        [state] = c.execute(select(Run.state).where(Run.backfill_id == number, Run.state == "cancelling")).scalars()
    assert state == "cancelling"


def test_what_somebody_else_did_meanwhile_is_said(ledger, visit):
    ids = seed.backfilled(ledger)
    app = visit("sync")
    backfills.cancel(ledger, ids["month"], "ada", datetime.now(UTC))
    app.button(key=f"backfill_pause_{ids['month']}").click().run()
    assert f"Backfill {ids['month']} is cancelled." in plain(app)


def test_without_a_worker_an_open_backfill_says_what_to_start(ledger, visit):
    now = datetime.now(UTC)
    contact = next(s for s in seed_streams() if s.name == "contact")
    backfills.start(
        ledger, stream=contact, since=now - timedelta(days=40), until=now, chunk="week", newest_first=True,
        scope="all", who=seed.HOSTILE, now=now,
    )  # fmt: skip
    app = visit("sync")
    assert "No worker lives" in plain(app)
    assert "<img src=x" not in text_of(app), "names are text"
    assert seed.HOSTILE.split(" ", 1)[0] in plain(app)
    with ledger.read() as c:
        assert c.execute(select(Backfill.state)).scalars().all() == ["open"]


def seed_streams():
    from novade_core.settings import load_settings

    return load_settings().streams
