"""Backfills: what is refused, one window at a time, pause, cancel and again, and two feeders at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, update

from novade_core.errors import ConfigurationError
from novade_core.ledger import backfills, requests
from novade_core.ledger.backfill_views import grid, listing, preview, sentence, summary
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Audit, Backfill, Run, SyncPlan
from novade_core.ledger.queue import queued
from novade_core.streams import RunKind, Stream
from tests.ledgers import at_once

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
SINCE = datetime(2024, 8, 10, 6, 30, tzinfo=UTC)
UNTIL = datetime(2024, 11, 5, 18, 0, tzinfo=UTC)
CONTACT = Stream(
    source="salesforce",
    name="contact",
    label="Salesforce Contact",
    object_name="Contact",
    primary_key=("Id",),
    cursor_field="SystemModstamp",
)


@pytest.fixture
def ledger(ledger_url):
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def day(number: int, month: int = 9) -> datetime:
    return datetime(2024, month, number, tzinfo=UTC)


def asked(**more):
    given = {"stream": CONTACT, "since": SINCE, "until": UNTIL, "chunk": "month", "newest_first": False}
    return given | {"scope": "all", "now": NOW} | more


def start(ledger: Ledger, **more) -> int:
    return backfills.start(ledger, **asked(who="ada", **more))


def feed(ledger: Ledger) -> int:
    return backfills.feed(ledger, now=NOW)


def end(ledger: Ledger, run_id: int, state: str = "succeeded", rows: int = 10) -> None:
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run_id).values(state=state, read=rows, ended_at=NOW))


def retry(ledger: Ledger, run_id: int) -> int:
    """Fail a run and queue it again, as a worker does."""
    with ledger.write() as c:
        run = c.execute(select(Run.__table__).where(Run.id == run_id)).one()
        c.execute(update(Run).where(Run.id == run_id).values(state="failed"))
        kept = {k: v for k, v in run._mapping.items() if k not in ("id", "idempotency_key", "retry_of", "state")}
        again = insert(Run).values(**kept, state="queued", retry_of=run_id).returning(Run.id)
        return c.execute(again).scalar_one()


def under_way(ledger: Ledger) -> list[int]:
    with ledger.read() as c:
        states = ("queued", "running", "cancelling")
        return list(c.execute(select(Run.id).where(Run.state.in_(states)).order_by(Run.id)).scalars())


def states(ledger: Ledger, backfill_id: int) -> list[str]:
    return [chunk.state for chunk in grid(ledger, backfill_id)]


def work(ledger: Ledger, state: str = "succeeded") -> int:
    """Feed once and end what came of it."""
    assert feed(ledger) == 1
    [run] = under_way(ledger)
    end(ledger, run, state)
    return run


def audits(ledger: Ledger) -> list[str]:
    with ledger.read() as c:
        return list(c.execute(select(Audit.action).order_by(Audit.id)).scalars())


def plan(
    ledger: Ledger, *windows, at: datetime = NOW, kind: str = "incremental", state: str = "done", seam=None
) -> int:
    def iso(instant):
        return instant.isoformat() if instant else None

    with ledger.write() as c:
        return c.execute(
            insert(SyncPlan)
            .values(
                stream=CONTACT.id,
                kind=kind,
                state=state,
                run_id=1,
                created_at=at,
                seam=seam,
                windows=[{"low": iso(w[0]), "high": iso(w[1]), "part": "live", "expected": w[2]} for w in windows],
                columns=[],
                details={"read_from": at.isoformat()},
            )
            .returning(SyncPlan.id)
        ).scalar_one()


# --- asking ---------------------------------------------------------------------------------------


def test_a_backfill_is_a_row_with_its_windows_in_the_order_of_working(ledger):
    number = start(ledger, newest_first=True)
    found = grid(ledger, number)
    assert [c.position for c in found] == [0, 1, 2, 3]
    assert (found[0].low, found[0].high) == (day(1, 11), UNTIL)
    assert (found[-1].low, found[-1].high) == (SINCE, day(1))
    assert {c.state for c in found} == {"waiting"}
    facts = summary(ledger, number)
    assert (facts.state, facts.windows, facts.waiting, facts.requested_by) == ("open", 4, 4, "ada")
    assert audits(ledger) == ["backfill.started"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"since": UNTIL, "until": SINCE}, "not after its start"),
        ({"until": SINCE, "since": SINCE}, "not after its start"),
        ({"until": NOW + timedelta(seconds=1)}, "lies in the future"),
        ({"since": SINCE.replace(tzinfo=None)}, "has no time zone"),
        ({"since": SINCE - timedelta(days=2200), "chunk": "day"}, "more than 2,000 windows"),
        ({"chunk": "hour"}, "'hour'"),
        ({"scope": "some"}, "'some'"),
        ({"stream": replace(CONTACT, cursor_field=None)}, "no cursor"),
        ({"scope": "failed"}, "Nothing of this time is failed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_next_step(ledger, wrong, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        start(ledger, **wrong)
    assert refused.value.hint
    assert listing(ledger) == ()
    assert audits(ledger) == []


def test_two_that_live_do_not_read_the_same_time(ledger):
    first = start(ledger)
    for overlapping in ({}, {"since": UNTIL - timedelta(seconds=1), "until": NOW}):
        with pytest.raises(ConfigurationError, match=f"Backfill {first} .* is open"):
            start(ledger, **overlapping)
    backfills.pause(ledger, first, "ada", NOW)
    with pytest.raises(ConfigurationError, match="is paused"):
        preview(ledger, **asked())
    assert start(ledger, since=UNTIL, until=NOW) > first
    start(ledger, stream=replace(CONTACT, name="lead"))
    backfills.cancel(ledger, first, "ada", NOW)
    last = start(ledger)
    with pytest.raises(ConfigurationError, match=f"Backfill {last}"):
        backfills.again(ledger, first, "missing", who="ada", now=NOW)


def _start(together, url: str) -> str:
    ledger = open_ledger(url)
    together.wait()
    try:
        return str(start(ledger))
    except ConfigurationError as error:
        return error.message


def test_of_two_that_ask_at_once_one_is_refused(ledger, ledger_url):
    answers = at_once(_start, (ledger_url,), (ledger_url,))
    assert sorted(a.isdigit() for a in answers) == [False, True], answers
    assert len(listing(ledger)) == 1


# --- working --------------------------------------------------------------------------------------


def test_one_window_at_a_time_in_order_until_none_waits(ledger):
    number = start(ledger, newest_first=True)
    seen = []
    while feed(ledger):
        assert feed(ledger) == 0, "one window at a time"
        [run] = under_way(ledger)
        with ledger.read() as c:
            row = c.execute(select(Run.__table__).where(Run.id == run)).one()
        assert (row.kind, row.origin, row.priority, row.backfill_id) == ("backfill", "backfill", 80, number)
        assert (row.subject, row.source, row.requested_by) == ("salesforce.contact", "salesforce", "ada")
        assert row.idempotency_key == f"backfill:{number}:{len(seen)}:1"
        seen.append((row.parameters["since"], row.parameters["until"]))
        end(ledger, run, rows=100)
    assert seen == [(c.low.isoformat(), c.high.isoformat()) for c in grid(ledger, number)]
    facts = summary(ledger, number)
    assert (facts.state, facts.ended_at) == ("done", NOW)
    assert facts.headline == "4 windows: 4 read; 400 rows."
    assert feed(ledger) == 0


def test_a_window_is_stored_exactly_as_a_single_backfill_run_stores_it(ledger):
    start(ledger, since=SINCE.astimezone(timezone(timedelta(hours=2))), until=day(1))
    feed(ledger)
    single = requests.ask_for_run(
        ledger, stream=CONTACT, kind=RunKind.BACKFILL, who="x", origin="person", now=NOW, since=SINCE, until=day(1)
    )
    assert under_way(ledger) == [single], "the same wish twice is one row"


def test_people_and_the_clock_go_before_a_backfill(ledger):
    start(ledger)
    feed(ledger)
    [window] = under_way(ledger)
    ids = [
        requests.ask_for_run(ledger, stream=CONTACT, kind=kind, who="x", origin=origin, now=NOW)
        for kind, origin in ((RunKind.INCREMENTAL, "schedule"), (RunKind.FULL, "person"))
    ]
    with ledger.read() as c:
        assert [r.id for r in queued(c, NOW)] == [ids[1], ids[0], window]


def test_a_clock_that_was_set_back_stops_nothing(ledger):
    start(ledger)
    assert backfills.feed(ledger, now=SINCE - timedelta(hours=1)) == 1


def test_two_backfills_are_fed_side_by_side(ledger):
    start(ledger)
    start(ledger, stream=replace(CONTACT, name="lead"))
    assert feed(ledger) == 2
    assert feed(ledger) == 0
    end(ledger, under_way(ledger)[1])
    assert feed(ledger) == 1


def test_windows_that_are_left_out_are_not_asked_for(ledger):
    plan(ledger, (day(1), day(1, 11), 10))
    number = start(ledger, scope="missing")
    while feed(ledger):
        end(ledger, under_way(ledger)[0])
    assert states(ledger, number) == ["succeeded", "left out", "left out", "succeeded"]
    assert summary(ledger, number).headline == "2 windows: 2 read, 2 left out; 20 rows."


def test_a_window_that_is_tried_again_is_still_under_way_and_follows_its_newest_run(ledger):
    number = start(ledger)
    feed(ledger)
    [first] = under_way(ledger)
    second = retry(ledger, first)
    assert grid(ledger, number)[0].run_id == second
    assert states(ledger, number)[0] == "queued"
    assert feed(ledger) == 0
    third = retry(ledger, second)
    end(ledger, third)
    assert feed(ledger) == 1
    assert [c.run_id for c in grid(ledger, number)][:2] == [third, under_way(ledger)[0]]
    assert summary(ledger, number).failed == 0


def test_pause_lets_the_window_end_and_nothing_more_begins(ledger):
    number = start(ledger)
    feed(ledger)
    [run] = under_way(ledger)
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run).values(state="running"))
    backfills.pause(ledger, number, "ada", NOW)
    assert under_way(ledger) == [run]
    end(ledger, run)
    assert feed(ledger) == 0
    assert states(ledger, number) == ["succeeded", "waiting", "waiting", "waiting"]
    backfills.pause(ledger, number, "ada", NOW)
    backfills.continue_(ledger, number, "bob", NOW)
    backfills.continue_(ledger, number, "bob", NOW)
    assert feed(ledger) == 1
    assert audits(ledger) == ["backfill.started", "backfill.paused", "backfill.continued"]


def test_pause_takes_back_what_only_waits_in_the_queue(ledger):
    number = start(ledger)
    feed(ledger)
    backfills.pause(ledger, number, "ada", NOW)
    assert under_way(ledger) == []
    assert set(states(ledger, number)) == {"waiting"}
    backfills.continue_(ledger, number, "ada", NOW)
    run = work(ledger)
    assert [c.run_id for c in grid(ledger, number)] == [run, None, None, None]


def test_a_retry_that_comes_after_the_pause_does_not_begin(ledger):
    number = start(ledger)
    feed(ledger)
    [run] = under_way(ledger)
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run).values(state="running"))
    backfills.pause(ledger, number, "ada", NOW)
    retry(ledger, run)
    assert feed(ledger) == 0
    assert under_way(ledger) == []
    assert set(states(ledger, number)) == {"waiting"}


def test_cancel_ends_it_and_asks_the_run_under_way_to_end(ledger):
    number = start(ledger)
    work(ledger)
    feed(ledger)
    [run] = under_way(ledger)
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run).values(state="running"))
    backfills.cancel(ledger, number, "ada", NOW)
    assert states(ledger, number) == ["succeeded", "cancelling", "left out", "left out"]
    end(ledger, run, "cancelled")
    assert feed(ledger) == 0
    facts = summary(ledger, number)
    assert (facts.state, facts.ended_at, facts.headline) == ("cancelled", NOW, "Cancelled by ada.")
    assert sentence(facts) == "2 windows: 1 read, 1 cancelled, 2 left out; 10 rows."
    for action in (backfills.pause, backfills.continue_, backfills.cancel):
        with pytest.raises(ConfigurationError, match="is cancelled"):
            action(ledger, number, "ada", NOW)


def test_cancel_withdraws_what_waits_in_the_queue(ledger):
    number = start(ledger)
    feed(ledger)
    backfills.cancel(ledger, number, "ada", NOW)
    assert under_way(ledger) == []
    assert set(states(ledger, number)) == {"left out"}


@pytest.mark.parametrize(("which", "windows"), [("failed", 2), ("missing", 3), ("all", 4)])
def test_again_puts_windows_back_and_opens_it(ledger, which, windows):
    number = start(ledger)
    for state in ("succeeded", "failed", "abandoned"):
        work(ledger, state)
    backfills.cancel(ledger, number, "ada", NOW)
    assert backfills.again(ledger, number, which, who="bob", now=NOW) == windows
    facts = summary(ledger, number)
    assert (facts.state, facts.waiting, facts.headline, facts.ended_at) == ("open", windows, None, None)
    runs = 0
    while feed(ledger):
        runs += 1
        end(ledger, under_way(ledger)[0])
    assert runs == windows
    assert summary(ledger, number).state == "done"
    assert audits(ledger)[-1] == "backfill.again"


def test_again_after_again_asks_anew_each_time(ledger):
    number = start(ledger, since=day(1), until=day(2))
    for times in range(1, 4):
        run = work(ledger, "failed")
        with ledger.read() as c:
            assert c.execute(select(Run.idempotency_key).where(Run.id == run)).scalar() == f"backfill:1:0:{times}"
        feed(ledger)
        assert summary(ledger, number).state == "done"
        backfills.again(ledger, number, who="ada", now=NOW)


def test_again_of_nothing_and_of_nobody_is_refused(ledger):
    number = start(ledger)
    feed(ledger)
    retry(ledger, under_way(ledger)[0])
    for which in ("failed", "missing", "all"):
        with pytest.raises(ConfigurationError, match="no window"):
            backfills.again(ledger, number, which, who="ada", now=NOW)
    with pytest.raises(ConfigurationError, match="'some'"):
        backfills.again(ledger, number, "some", who="ada", now=NOW)
    for ask in (
        lambda: grid(ledger, 77),
        lambda: summary(ledger, 77),
        lambda: backfills.pause(ledger, 77, "ada", NOW),
        lambda: backfills.again(ledger, 77, who="ada", now=NOW),
    ):
        with pytest.raises(ConfigurationError, match="no backfill 77"):
            ask()


def test_the_list_has_those_that_live_first(ledger):
    first = start(ledger, since=day(1), until=day(2))
    second = start(ledger, since=day(2), until=day(3))
    third = start(ledger, since=day(3), until=day(4))
    backfills.cancel(ledger, second, "ada", NOW)
    backfills.cancel(ledger, third, "ada", NOW)
    assert [f.id for f in listing(ledger)] == [first, third, second]
    assert [f.id for f in listing(ledger, limit=1)] == [first]


# --- races ----------------------------------------------------------------------------------------


def _feed(together, url: str, rounds: int) -> int:
    ledger = open_ledger(url)
    asked = 0
    for _ in range(rounds):
        together.wait()
        asked += feed(ledger)
        together.wait()
    return asked


def _end_all(together, url: str, rounds: int) -> list[int]:
    ledger = open_ledger(url)
    most = []
    for _ in range(rounds):
        together.wait()
        together.wait()
        runs = under_way(ledger)
        most.append(len(runs))
        for run in runs:
            end(ledger, run)
    return most


def test_two_feeders_at_once_never_ask_for_two_windows(ledger, ledger_url):
    rounds = 20
    number = start(ledger, since=day(1), until=day(21), chunk="day")
    given = (ledger_url, rounds)
    first, second = [number], at_once(_both, (*given, "feed"), (*given, "feed"), (*given, "end"))
    assert first == [number]
    assert second[0] + second[1] == rounds
    assert second[2] == [1] * rounds
    runs = [c.run_id for c in grid(ledger, number)]
    assert len(set(runs)) == rounds
    assert None not in runs


def _both(together, url: str, rounds: int, part: str):
    return _feed(together, url, rounds) if part == "feed" else _end_all(together, url, rounds)


def test_nothing_open_is_one_reading(ledger):
    from sqlalchemy import event

    number = start(ledger)
    backfills.cancel(ledger, number, "ada", NOW)
    said: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    assert feed(ledger) == 0
    assert len([s for s in said if "backfills" in s]) == 1
    assert not any("runs" in s for s in said)
    with ledger.read() as c:
        assert c.execute(select(Backfill.state)).scalar() == "cancelled"
