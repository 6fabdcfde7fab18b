"""What pages read: paging by key, filters, bounded searches, totals; and the pure functions on top."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, insert, text

from novade_core.ledger import queries, run_history, summaries
from novade_core.ledger.database import open_ledger
from novade_core.ledger.models import LandedFileRow, Run, RunState, SyncPlan, WorkerRow
from novade_core.ledger.queries import RunFilter
from novade_core.ledger.summaries import StreamHistory
from novade_core.monitoring.estimates import preview_of, total_of
from novade_core.monitoring.freshness import FreshState, freshness_of, spoken
from novade_core.settings import load_settings
from novade_core.streams import RunKind
from tests.pages import seed

NOW = datetime(2024, 11, 18, 14, 30, tzinfo=UTC)
STREAMS = load_settings(environ={}).streams


@pytest.fixture
def ledger(ledger_url):
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def fill(ledger, count: int, **given) -> list[int]:
    """Runs a minute apart, the last one a minute ago; every tenth failed, every third of Lead."""
    with ledger.write() as c:
        rows = [
            {
                "subject": "salesforce.lead" if i % 3 == 0 else "salesforce.contact",
                "source": "salesforce",
                "kind": "incremental",
                "state": "failed" if i % 10 == 0 else "succeeded",
                "origin": "schedule",
                "requested_by": "schedule",
                "requested_at": NOW - timedelta(minutes=count - i),
                "parameters": {},
                "error_message": f"503 in window {i}" if i % 10 == 0 else None,
            }
            | given
            for i in range(count)
        ]
        c.execute(insert(Run), rows)
        return list(c.execute(text("SELECT id FROM runs ORDER BY id")).scalars())


def walk(ledger, **filters) -> list[int]:
    """All pages downwards."""
    found, before = [], None
    while True:
        page = queries.recent_runs(ledger, filters=RunFilter(**filters), before=before, limit=7)
        found += [r.id for r in page.rows]
        before = page.older if page.older is not None else page.looked_to
        if before is None:
            return found


def test_pages_downwards_show_every_run_once(ledger):
    ids = fill(ledger, 40)
    assert walk(ledger) == ids[::-1]


def test_the_page_above_is_the_page_one_came_from(ledger):
    fill(ledger, 40)
    first = queries.recent_runs(ledger, limit=10)
    second = queries.recent_runs(ledger, before=first.older, limit=10)
    third = queries.recent_runs(ledger, before=second.older, limit=10)
    up = queries.recent_runs(ledger, after=third.newer, limit=10)
    assert [r.id for r in up.rows] == [r.id for r in second.rows]
    assert first.newer is None
    top = queries.recent_runs(ledger, after=up.newer, limit=10)
    assert [r.id for r in top.rows] == [r.id for r in first.rows]
    assert top.newer is None


@pytest.mark.parametrize(
    ("filters", "right"),
    [
        ({"states": (RunState.FAILED,)}, lambda i: i % 10 == 0),
        ({"states": (RunState.FAILED, RunState.SUCCEEDED)}, lambda i: True),
        ({"subject": "salesforce.lead"}, lambda i: i % 3 == 0),
        ({"subject": "salesforce.lead", "states": (RunState.FAILED,)}, lambda i: i % 30 == 0),
        ({"subject": "salesforce.lead", "states": (RunState.SUCCEEDED,)}, lambda i: i % 3 == 0 and i % 10),
        ({"source": "salesforce"}, lambda i: True),
        ({"source": "drift"}, lambda i: False),
        ({"kind": "full"}, lambda i: False),
        ({"since": NOW - timedelta(minutes=20)}, lambda i: i >= 40),
        ({"until": NOW - timedelta(minutes=20)}, lambda i: i < 40),
        ({"since": NOW - timedelta(minutes=30), "until": NOW - timedelta(minutes=20)}, lambda i: 30 <= i < 40),
        ({"since": NOW + timedelta(days=1)}, lambda i: False),
        ({"until": NOW - timedelta(days=1)}, lambda i: False),
        ({"text": "WINDOW 20"}, lambda i: i == 20),
        ({"text": "100%"}, lambda i: False),
        ({"text": "lead"}, lambda i: i % 3 == 0),
        ({"text": "17"}, lambda i: i == 16),
        ({"text": "99999999999999999999999"}, lambda i: False),
    ],
)
def test_filters(ledger, filters, right):
    ids = fill(ledger, 60)
    assert walk(ledger, **filters) == [run_id for i, run_id in reversed(list(enumerate(ids))) if right(i)]


def test_a_search_stops_and_says_where_and_goes_on_from_there(ledger, monkeypatch):
    monkeypatch.setattr(queries, "SCAN", 10)
    ids = fill(ledger, 60)
    page = queries.recent_runs(ledger, filters=RunFilter(text="window 20"))
    assert page.rows == ()
    assert page.looked_to == ids[50]
    assert walk(ledger, text="window 20") == [ids[20]]
    both = (RunState.FAILED, RunState.SUCCEEDED)
    assert walk(ledger, kind="incremental", states=both) == ids[::-1]


def test_no_query_of_the_list_reads_a_whole_table(ledger):
    fill(ledger, 200)
    statements: list[tuple] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *a: statements.append((a[2], a[3])))
    for filters in (
        {},
        {"states": queries.PROBLEMS},
        {"subject": "salesforce.lead"},
        {"source": "salesforce"},
        {"subject": "salesforce.lead", "states": (RunState.FAILED,)},
    ):
        queries.recent_runs(ledger, filters=RunFilter(**filters))
    queries.open_runs(ledger)
    run_history.around(ledger, run_id=150)
    summaries.histogram(ledger, since=NOW - timedelta(days=1), until=NOW)
    summaries.queue_length(ledger)
    asked = [s for s in statements if s[0].startswith("SELECT")]
    assert len(asked) > 10
    with ledger.read() as c:
        if not ledger.is_sqlite:
            # So few rows are read fastest from the table; the question is whether an index could serve.
            c.execute(text("SET LOCAL enable_seqscan = off"))
        for statement, parameters in asked:
            if not ledger.is_sqlite:
                lines = "\n".join(c.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
                assert "Seq Scan on runs" not in lines, f"{lines}: {statement}"
                continue
            plan = c.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            for line in plan:
                if line.detail.startswith("SCAN runs") and "ORDER BY runs.id" not in statement:
                    pytest.fail(f"{line.detail}: {statement}")
                assert "TEMP B-TREE FOR ORDER BY" not in line.detail or "IN (" in statement, statement


def test_one_run_with_its_parts(ledger):
    ids = seed.failed(ledger, NOW)
    run = queries.run(ledger, ids["failed"])
    assert run is not None
    assert [s.name for s in run.steps] == ["plan", "extract", "land", "load"]
    assert run.steps[-1].state == "failed"
    assert queries.run(ledger, 10**9) is None
    assert {u.meter for u in queries.usage(ledger, run.id)} >= {"salesforce.api_calls"}
    assert queries.comparisons(ledger, ids["worked"])[0].state == "equal"
    assert [a.kind for a in queries.artifacts(ledger, ids["partial"])] == ["rejects"]
    columns = queries.plan_columns(ledger, [run.plan_id])[run.plan_id]
    assert columns["Amount"] == "text(40)"
    assert {r.id for r in queries.runs_by_id(ledger, [ids["failed"], ids["worked"]])} == {ids["failed"], ids["worked"]}


def test_before_a_failed_run(ledger):
    ids = seed.failed(ledger, NOW)
    before = queries.before_run(ledger, queries.run(ledger, ids["failed"]))
    assert before.worked is not None
    assert before.worked.id == ids["worked"]
    assert before.failures == 3
    assert before.failing_since is not None
    assert before.failing_since.id == ids["failed"] - 2


def test_attempts_are_followed_to_both_sides(ledger):
    with ledger.write() as c:
        first = seed.failure(c, stream="lead", at=NOW)
        seed.add_run(c, stream="lead", at=NOW)
        second = seed.failure(c, stream="lead", at=NOW, retry_of=first, origin="retry", attempt=2)
        seed.failure(c, stream="contact", at=NOW)
        third = seed.add_run(c, stream="lead", at=NOW, retry_of=second, origin="retry", attempt=3)
    for run in (first, second, third):
        around = run_history.around(ledger, run_id=run)
        assert around is not None
        assert [a.id for a in around.attempts] == [first, second, third]
    assert around.following(third) is None
    after = around.following(first)
    assert after is not None
    assert after.id == second
    assert run_history.around(ledger, run_id=10**9) is None


def test_what_is_unfinished_counts_halves_and_not_the_window_that_was_halved(ledger):
    with ledger.write() as c:
        run = seed.add_run(c, stream="lead", at=NOW, state="cancelled")
        windows = [{"part": "halved"}, {"part": "live"}, {"part": "history"}, {"part": "history"}]
        plan = c.execute(
            insert(SyncPlan)
            .values(
                stream="salesforce.lead", kind="full", state="open", run_id=run, created_at=NOW, windows=windows,
                columns=[], details={"parameters": {}},
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        for n, (window, done) in enumerate([(2, False), (2, True), (3, False)]):
            c.execute(
                insert(LandedFileRow).values(
                    stream="salesforce.lead", run_id=run, plan_id=plan, window=window, chunk=n, manifest_path=f"m{n}",
                    load_id=f"l{n}", files=[], rows=40, rejected=0, bytes=1, window_done=done, fence=1,
                    registered_at=NOW,
                )
            )  # fmt: skip
    # The request was an incremental one; a stream without a cursor is read whole all the same.
    around = run_history.around(ledger, run_id=run, whole=True)
    assert around is not None
    assert around.unfinished == run_history.Unfinished(windows=3, done=1, rows=120)
    around = run_history.around(ledger, run_id=run)
    assert around is not None
    assert around.unfinished is None


def test_the_log_is_followed_paged_and_filtered(ledger):
    ids = seed.failed(ledger, NOW)
    lines = queries.log(ledger, ids["failed"])
    assert [line.level for line in lines] == ["info", "info", "warning", "error"]
    assert queries.log(ledger, ids["failed"], after=lines[1].id) == lines[2:]
    assert queries.log(ledger, ids["failed"], limit=2) == lines[2:]
    assert queries.log(ledger, ids["failed"], before=lines[2].id, limit=1) == lines[1:2]
    assert queries.log(ledger, ids["failed"], level="error") == lines[3:]


def test_running_comes_before_queued_and_queued_in_their_order(ledger):
    ids = seed.normal(ledger, NOW)
    runs = queries.open_runs(ledger)
    assert [r.id for r in runs] == [ids["running"], ids["queued"], ids["queued"] + 1]
    assert runs[0].progress is not None
    assert summaries.queue_length(ledger) == 2


def test_the_histogram_by_hour_and_by_day(ledger):
    fill(ledger, 120)
    hours = summaries.histogram(ledger, since=NOW - timedelta(hours=3), until=NOW)
    assert {b.start for b in hours} == {"2024-11-18T12", "2024-11-18T13", "2024-11-18T14"}
    assert sum(b.runs for b in hours) == 120
    days = summaries.histogram(ledger, since=NOW - timedelta(days=1), until=NOW, by_day=True, subject="salesforce.lead")
    assert [(b.start, b.state, b.runs) for b in days] == [
        ("2024-11-18", RunState.FAILED, 4),
        ("2024-11-18", RunState.SUCCEEDED, 36),
    ]
    assert summaries.count_by_state(ledger, since=NOW - timedelta(hours=1), until=NOW)[RunState.FAILED] == 6


def test_streams_that_never_loaded_are_there(ledger):
    seed.stale(ledger, NOW)
    facts = {f.stream: f for f in summaries.stream_facts(ledger, STREAMS)}
    assert list(facts) == [s.id for s in STREAMS]
    assert facts["salesforce.case"].last_load_at is None
    assert facts["salesforce.account"].comparison_state == "differs"
    assert facts["salesforce.task"].paused


def test_daily_totals_findings_and_workers(ledger):
    seed.stale(ledger, NOW)
    days = summaries.daily_totals(ledger, since=NOW.date() - timedelta(days=1), until=NOW.date())
    assert {d.day for d in days} == {NOW.date(), NOW.date() - timedelta(days=1)}
    assert [f.severity for f in summaries.open_findings(ledger)] == ["fail"]
    with ledger.write() as c:
        row = {"kind": "worker", "started_at": NOW, "beat": 3}
        c.execute(insert(WorkerRow), [{"id": "a", "stopped_at": NOW, **row}, {"id": "b", "stopped_at": None, **row}])
    assert [w.id for w in summaries.workers(ledger)] == ["b"]


def test_history_is_the_mean_of_what_worked(ledger):
    ids = seed.failed(ledger, NOW)
    history = {h.stream: h for h in summaries.stream_history(ledger, STREAMS, RunKind.INCREMENTAL)}
    assert history["salesforce.user"].runs == 2
    assert history["salesforce.user"].mean_seconds == pytest.approx(42)
    assert history["salesforce.opportunity"].loaded_before
    full = summaries.stream_history(ledger, STREAMS, RunKind.FULL)
    assert all(h.runs == 0 and h.mean_rows is None for h in full)
    assert ids


@pytest.mark.parametrize(
    ("minutes", "paused", "state", "said"),
    [
        (None, False, FreshState.NEVER_LOADED, "Nothing has been loaded yet"),
        (0, False, FreshState.FRESH, "Up to date 0 s ago"),
        (79, False, FreshState.FRESH, "1 h 19 min ago"),
        (80, False, FreshState.LATE, "20 min left"),
        (100, False, FreshState.LATE, "0 s left"),
        (101, False, FreshState.STALE, "1 min over its limit of 1 h 40 min"),
        (-5, False, FreshState.FRESH, "Up to date 0 s ago"),
        (500, True, FreshState.PAUSED, "Paused; last proven"),
        (None, True, FreshState.PAUSED, "never loaded"),
    ],
)
def test_freshness(minutes, paused, state, said):
    load_at = None if minutes is None else NOW - timedelta(minutes=minutes)
    fresh = freshness_of(fresh_within_minutes=100, last_load_at=load_at, paused=paused, now=NOW)
    assert fresh.state is state
    assert said in fresh.sentence
    assert fresh.needs_somebody == (state in (FreshState.LATE, FreshState.STALE))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (640, "10 min"), (3_900, "1 h 5 min"), (180_000, "2 d 2 h")],
)
def test_lengths_as_people_say_them(seconds, said):
    assert spoken(timedelta(seconds=seconds)) == said


def history(**given) -> StreamHistory:
    return StreamHistory(**({"stream": "s", "kind": RunKind.INCREMENTAL} | given))


def test_a_preview_from_history_from_the_count_or_not_at_all():
    known = preview_of(history(runs=2, mean_rows=100.4, mean_seconds=90.0, mean_calls=7.0))
    assert (known.rows, known.calls, known.minutes, known.euros) == (100, 7, 1.5, None)
    counted = preview_of(history(kind=RunKind.FULL, source_count=20_000))
    assert counted.rows == 20_000
    assert counted.calls == 15
    first = preview_of(history(source_count=10))
    assert first.rows == 10
    assert preview_of(history(source_count=10, loaded_before=True)).rows is None
    assert preview_of(history(kind=RunKind.BACKFILL, source_count=10)).rows is None
    assert total_of([known, counted]).rows == 20_100
    assert total_of([known, preview_of(history())]).rows is None
    assert total_of([]).rows is None
