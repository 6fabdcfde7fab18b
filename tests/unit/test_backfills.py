"""Backfills: windows without gap or overlap, what a scope leaves out, one window at a time, and its ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import insert, select, update

from novade_core.errors import BadWindow, ConfigurationError
from novade_core.ledger import backfills, requests
from novade_core.ledger.backfill_views import Basis, Effort, Quota, grid, listing, preview, sentence, summary
from novade_core.ledger.backfill_windows import MOST, ChunkSize, Reading, covered, cut, expected
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Audit, Backfill, LandedFileRow, Run, SourceStatus, SyncPlan
from novade_core.ledger.queue import queued
from novade_core.monitoring.estimates import forecast_of
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


# --- windows --------------------------------------------------------------------------------------

instants = some.datetimes(
    min_value=datetime(2023, 6, 1),  # noqa: DTZ001 (the zone is given beside)
    max_value=datetime(2026, 2, 1),  # noqa: DTZ001
    timezones=some.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-9))]),
)


@given(
    ends=some.tuples(instants, instants).map(sorted).filter(lambda e: e[0] < e[1]), size=some.sampled_from(ChunkSize)
)
def test_windows_tile_the_time_and_are_cut_at_utc_boundaries(ends, size):
    windows = cut(*ends, size)
    assert (windows[0][0], windows[-1][1]) == tuple(ends)
    assert all(low < high for low, high in windows)
    assert all(before[1] == after[0] for before, after in pairwise(windows))
    for boundary, _ in windows[1:]:
        assert boundary.astimezone(UTC).timetz() == datetime.min.time().replace(tzinfo=UTC)
        assert size is not ChunkSize.WEEK or boundary.weekday() == 0
        assert size is not ChunkSize.MONTH or boundary.day == 1
    longest = {ChunkSize.DAY: 1, ChunkSize.WEEK: 7, ChunkSize.MONTH: 31}[size]
    assert all(high - low <= timedelta(days=longest) for low, high in windows)


def test_a_leap_year_has_its_day():
    windows = cut(datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC), ChunkSize.DAY)
    assert [low.day for low, _ in windows] == [28, 29, 1]
    months = cut(datetime(2024, 1, 31, 12, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), ChunkSize.MONTH)
    assert [(low.month, low.day, high.month, high.day) for low, high in months] == [(1, 31, 2, 1), (2, 1, 3, 1)]


def test_the_clock_change_of_a_zone_changes_nothing():
    berlin_october = cut(datetime(2024, 10, 26, tzinfo=UTC), datetime(2024, 10, 29, tzinfo=UTC), ChunkSize.DAY)
    assert {high - low for low, high in berlin_october} == {timedelta(days=1)}


def test_too_many_windows_are_refused_and_the_most_are_not():
    low = datetime(2015, 1, 1, tzinfo=UTC)
    assert len(cut(low, low + timedelta(days=MOST), ChunkSize.DAY)) == MOST
    with pytest.raises(BadWindow, match="more than 2,000 windows") as refused:
        cut(low, low + timedelta(days=MOST, seconds=1), ChunkSize.DAY)
    assert "by week or month" in refused.value.hint


@given(
    spans=some.lists(some.tuples(some.integers(0, 60), some.integers(1, 20)), max_size=12),
    chosen=some.tuples(some.integers(0, 59), some.integers(1, 15)),
)
def test_covered_is_what_a_set_of_hours_says(spans, chosen):
    def hour(n: int) -> datetime:
        return NOW + timedelta(hours=n)

    read = [Reading(low=hour(a), high=hour(a + n), rows=None) for a, n in spans]
    hours = {h for a, n in spans for h in range(a, a + n)}
    window = (hour(chosen[0]), hour(sum(chosen)))
    assert covered([window], read) == [set(range(chosen[0], sum(chosen))) <= hours]


def test_expected_rows_are_spread_and_the_newest_reading_counts():
    windows = cut(day(1), day(5), ChunkSize.DAY)
    newest = Reading(low=day(1), high=day(2), rows=7)
    older = Reading(low=day(1), high=day(3), rows=200)
    assert expected(windows, [newest, older]) == [7, 100, None, None]
    half = Reading(low=day(3), high=day(3) + timedelta(hours=12), rows=30)
    less = Reading(low=day(4), high=day(4) + timedelta(hours=11), rows=30)
    assert expected(windows, [half, less]) == [None, None, 60, None]


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


# --- scope and forecast ---------------------------------------------------------------------------


def test_missing_leaves_out_what_finished_readings_cover_together(ledger):
    plan(ledger, (day(1), day(20), None), at=day(20))
    plan(ledger, (day(19), None, 40), at=day(2, 10))  # open above: read up to its beginning
    plan(ledger, (day(1, 10), day(1, 11), 5), state="open")
    plan(ledger, (SINCE, day(1), 5), state="void")
    proposal = preview(ledger, **asked(scope="missing"))
    assert [c.left_out is not None for c in proposal.chunks] == [False, True, False, False]
    assert [c.low.month for c in proposal.read] == [8, 10, 11]
    assert preview(ledger, **asked()).read == preview(ledger, **asked()).chunks
    assert listing(ledger) == ()


def test_a_first_import_has_read_everything_before_its_seam(ledger):
    plan(ledger, (day(1, 10), day(20, 10), 5), (day(20, 10), None, 0), at=day(20, 10), seam=day(20, 10))
    chunks = preview(ledger, **asked(scope="missing")).chunks
    assert [c.left_out is not None for c in chunks] == [True, True, False, False]


def test_an_incremental_reading_long_after_the_window_is_found(ledger):
    for month in (11, 10, 9):  # each goes on where the one before it ended, a month earlier
        plan(ledger, (day(1, month - 1), None, 30), at=day(1, month))
    plan(ledger, (day(1, 11), None, 30), at=day(10, 11))
    chunks = preview(ledger, **asked(since=day(1, 8), until=day(15, 8), scope="missing")).chunks
    assert [bool(c.left_out) for c in chunks] == [True]


def test_failed_takes_windows_whose_newest_backfill_ended_badly(ledger):
    first = start(ledger)
    runs = [work(ledger, state) for state in ("failed", "succeeded", "failed", "abandoned")]
    feed(ledger)
    assert summary(ledger, first).headline == "4 windows: 1 read, 3 failed; 10 rows."
    second = start(ledger, since=day(1, 10), until=day(20, 10), chunk="week")
    while feed(ledger):
        end(ledger, under_way(ledger)[0])
    proposal = preview(ledger, **asked(scope="failed"))
    assert [c.low.month for c in proposal.read] == [8, 11]
    assert str(runs[1]) in proposal.chunks[1].left_out
    assert "has read it" in proposal.chunks[2].left_out
    assert summary(ledger, second).state == "done"


def test_expected_comes_from_plans_or_from_what_landed(ledger):
    counted = plan(ledger, (day(1), day(1, 10), 300))
    landed = plan(ledger, (day(1, 10), day(1, 11), None), at=NOW)
    with ledger.write() as c:
        for chunk, rows in enumerate((400, 200)):
            c.execute(
                insert(LandedFileRow).values(
                    stream=CONTACT.id, run_id=1, plan_id=landed, window=0, chunk=chunk,
                    manifest_path=f"m{chunk}", load_id=f"l{chunk}", files=[], rows=rows, rejected=5, bytes=1,
                    window_done=chunk == 1, fence=1, registered_at=NOW,
                )
            )  # fmt: skip
    assert counted < landed
    chunks = preview(ledger, **asked()).chunks
    assert [c.expected for c in chunks] == [None, 300, 610, None]
    start(ledger)
    assert [c.expected for c in grid(ledger, 1)] == [None, 300, 610, None]


def test_the_basis_is_what_earlier_runs_took_and_what_the_source_allows(ledger):
    assert preview(ledger, **asked()).basis == Basis(efforts=(), quota=None)
    start(ledger)
    run = work(ledger)
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == run).values(api_calls=8, started_at=NOW - timedelta(seconds=4)))
        c.execute(
            insert(SourceStatus).values(source="salesforce", at=NOW, calls_used=50, calls_allowed=1_000, facts={})
        )
    basis = preview(ledger, **asked(since=UNTIL, until=NOW)).basis
    assert basis.efforts == (Effort(rows=10, calls=8, seconds=4.0),)
    assert basis.quota == Quota(used=50, allowed=1_000, at=NOW)


def test_a_forecast_counts_what_each_run_takes_and_what_rows_take():
    efforts = (Effort(rows=0, calls=6, seconds=3.0), Effort(rows=1_000, calls=16, seconds=8.0))
    basis = Basis(efforts=efforts, quota=Quota(used=0, allowed=800, at=NOW))
    forecast = forecast_of([1_000, 3_000, None, 2_000], basis)
    assert (forecast.windows, forecast.rows, forecast.calls) == (4, 8_000, 4 * 6 + 80)
    assert forecast.minutes == pytest.approx((4 * 3.0 + 8_000 * 0.005) / 60)
    assert forecast.share == pytest.approx(104 / 800)
    unknown = forecast_of([None, None, 4], basis)
    assert (unknown.rows, unknown.calls, unknown.minutes, unknown.share) == (None, None, None, None)
    assert forecast_of([10], Basis(efforts=(), quota=None)).calls == 5


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
