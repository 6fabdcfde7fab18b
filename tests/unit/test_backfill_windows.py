"""Windows of a backfill: cut without gap or overlap, left out by scope, and what they will probably bring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import insert, update

from novade_core.errors import BadWindow
from novade_core.ledger.backfill_views import Basis, Effort, Quota, grid, listing, preview, summary
from novade_core.ledger.backfill_windows import MOST, ChunkSize, Reading, covered, cut, expected
from novade_core.ledger.models import LandedFileRow, Run, SourceStatus
from novade_core.monitoring.estimates import forecast_of
from tests.unit.test_backfills import (
    CONTACT,
    NOW,
    SINCE,
    UNTIL,
    asked,
    day,
    end,
    feed,
    ledger,  # noqa: F401 (the fixture)
    plan,
    start,
    under_way,
    work,
)

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


# --- scope and forecast ---------------------------------------------------------------------------


def test_missing_leaves_out_what_finished_readings_cover_together(ledger):  # noqa: F811 (the fixture)
    plan(ledger, (day(1), day(20), None), at=day(20))
    plan(ledger, (day(19), None, 40), at=day(2, 10))  # open above: read up to its beginning
    plan(ledger, (day(1, 10), day(1, 11), 5), state="open")
    plan(ledger, (SINCE, day(1), 5), state="void")
    proposal = preview(ledger, **asked(scope="missing"))
    assert [c.left_out is not None for c in proposal.chunks] == [False, True, False, False]
    assert [c.low.month for c in proposal.read] == [8, 10, 11]
    assert preview(ledger, **asked()).read == preview(ledger, **asked()).chunks
    assert listing(ledger) == ()


def test_a_first_import_has_read_everything_before_its_seam(ledger):  # noqa: F811 (the fixture)
    plan(ledger, (day(1, 10), day(20, 10), 5), (day(20, 10), None, 0), at=day(20, 10), seam=day(20, 10))
    chunks = preview(ledger, **asked(scope="missing")).chunks
    assert [c.left_out is not None for c in chunks] == [True, True, False, False]


def test_an_incremental_reading_long_after_the_window_is_found(ledger):  # noqa: F811 (the fixture)
    for month in (11, 10, 9):  # each goes on where the one before it ended, a month earlier
        plan(ledger, (day(1, month - 1), None, 30), at=day(1, month))
    plan(ledger, (day(1, 11), None, 30), at=day(10, 11))
    chunks = preview(ledger, **asked(since=day(1, 8), until=day(15, 8), scope="missing")).chunks
    assert [bool(c.left_out) for c in chunks] == [True]


def test_failed_takes_windows_whose_newest_backfill_ended_badly(ledger):  # noqa: F811 (the fixture)
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


def test_expected_comes_from_plans_or_from_what_landed(ledger):  # noqa: F811 (the fixture)
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


def test_the_basis_is_what_earlier_runs_took_and_what_the_source_allows(ledger):  # noqa: F811 (the fixture)
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
