"""One run for people: why it failed, what happens by itself, what changed, what is kept, what it waits for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
import streamlit as st
from sqlalchemy import insert, select, update

from novade_core.ledger.models import Fire, LandedFileRow, Run, ScheduleRow, SourceStatus, SyncPlan
from tests.pages import seed
from tests.pages.conftest import text_of

NOW = datetime.now(UTC)
CONTEXT = {
    "configuration": {"overlap_seconds": 600, "fields": [], "transport": "auto"},
    "credentials": "a1b2c3d4e5f6",
    "source": {"API version": "67.0", "instance": "acme.my.salesforce.com"},
}


def plain(app) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text_of(app)))).replace(" .", ".").replace(" ,", ",")


def ago(**length: float) -> datetime:
    """Before this moment: pages look at the clock, and the module may have been imported minutes ago."""
    return datetime.now(UTC) - timedelta(**length)


def failed_once(
    ledger, *, after: dict[str, Any] | None = None, kind: str | None = None, **more: Any
) -> tuple[int, int | None]:
    """A run that worked, one that failed, and the next attempt where there is one."""
    with ledger.write() as c:
        seed.add_run(c, stream="contact", at=ago(hours=2), context=CONTEXT, code_version="1.0")
        values = {"context": CONTEXT, "code_version": "1.0"} | more
        failed = seed.failure(c, stream="contact", at=ago(minutes=3), **values)
        if kind is not None:
            c.execute(update(Run).where(Run.id == failed).values(error_kind=kind))
        if after is None:
            return failed, None
        again = {"state": "queued", "origin": "retry", "attempt": 2, "retry_of": failed} | after
        return failed, seed.add_run(c, stream="contact", at=ago(minutes=2), **again)


def test_the_next_attempt_is_counted_down(ledger, visit):
    failed, after = failed_once(ledger, after={"not_before": datetime.now(UTC) + timedelta(seconds=90)})
    app = visit("runs", run=str(failed))
    said = plain(app)
    assert re.search(rf"tried again in 1 min \d+ s, at [\d:]+ UTC \(attempt 2 of 5\), as run {after}\.", said), said
    assert "SourceUnavailable; the fault lies with the source." in said
    assert f"Attempts: run {failed} cancel failed → run {after} hourglass_empty queued" in said
    queued = plain(visit("runs", run=str(after)))
    assert re.search(r"Attempt 2 of 5 starts in 1 min \d+ s, at", queued)
    assert f"Same request as run {failed}" in queued


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ({}, "It is tried again as soon as there is a place (attempt 2 of 5), as run 3."),
        ({"state": "running"}, "It is being tried again (attempt 2 of 5) as run 3."),
        ({"state": "succeeded"}, "It was tried again (attempt 2 of 5) as run 3, which succeeded 1 min ago."),
        ({"state": "cancelled"}, "It was tried again (attempt 2 of 5) as run 3, which was cancelled."),
        (
            {"origin": "person", "requested_by": "ada", "attempt": 1},
            "Nothing, but ada asked for it again as run 3, which is queued.",
        ),
        ({"retry_of": None}, "The same is queued already as run 3."),
    ],
)
def test_what_happens_by_itself(ledger, visit, after, sentence):
    failed, _ = failed_once(ledger, after=after)
    assert sentence in plain(visit("runs", run=str(failed)))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"attempt": 5}, "All 5 attempts failed; nothing more is tried."),
        ({"kind": "AuthenticationFailed"}, "Nothing: a fault of this class does not pass by itself."),
        ({"attempt": 2}, "Nothing: no further attempt was asked for."),
    ],
)
def test_nothing_more_is_tried(ledger, visit, more, sentence):
    failed, _ = failed_once(ledger, **more)
    assert sentence in plain(visit("runs", run=str(failed)))


def test_nothing_changed_is_said(ledger, visit):
    failed, _ = failed_once(ledger)
    said = plain(visit("runs", run=str(failed)))
    assert "Nothing that we know of changed: same code, configuration, credentials and source." in said
    assert "Not known: columns." in said


def test_what_changed_is_named_with_both_values(ledger, visit):
    other = {
        "configuration": {"overlap_seconds": 300, "fields": ["Id", "Name"], "transport": "auto", "new_key": True},
        "credentials": "ffffffffffff",
        "source": {"API version": "68.0", "instance": "acme.my.salesforce.com"},
    }
    failed, _ = failed_once(ledger, context=other, code_version="1.1")
    with ledger.write() as c:
        c.execute(insert(SourceStatus).values(source="salesforce", at=NOW, calls_used=14_900, calls_allowed=15_000))
    app = visit("runs", run=str(failed))
    said = plain(app)
    assert "Code, configuration, credentials and source changed. Not known: columns." in said
    assert "Setting overlap_seconds 600 300" in said
    assert "Setting fields none Id, Name" in said
    assert "Setting new_key – yes" in said
    assert "Credentials a1b2c3d4e5f6 ffffffffffff" in said
    assert "Source: API version 67.0 68.0" in said
    assert "14,900 of 15,000 API calls" in said
    # What is the same is not listed, and what differs is what stands out.
    assert "transport" not in said
    assert "instance" not in said
    assert "<strong>300</strong>" in text_of(app)


def test_a_run_without_context_says_not_known(ledger, visit):
    failed, _ = failed_once(ledger, context=None)
    said = plain(visit("runs", run=str(failed)))
    assert (
        "Nothing that we know of changed: same code. Not known: columns, configuration, credentials and source." in said
    )


@pytest.mark.parametrize(("read", "emphasised"), [(480, False), (2_000, True), (100, False)])
def test_an_unusual_volume_stands_out(ledger, visit, read, emphasised):
    failed, _ = failed_once(ledger, rows=read)
    html = text_of(visit("runs", run=str(failed)))
    # A run that was stopped has read less in any case.
    assert (f"<strong>{read:,}</strong>" in html) is emphasised


def test_a_success_without_rows_is_marked(ledger, visit):
    with ledger.write() as c:
        run = seed.add_run(
            c, stream="contact", at=ago(minutes=3), rows=0, notice="It read nothing, where 480 rows are usual."
        )
        seed.status(c, stream="contact", run_id=run, load_at=ago(minutes=3))
    assert "No rows. It read nothing, where 480 rows are usual." in plain(visit("runs", run=str(run)))
    for page in ("runs", "overview"):
        listed = text_of(visit(page))
        mark = r'title="It read nothing, where 480 rows are usual."[^<]*><span[^>]*>\w+</span>no rows'
        assert re.search(mark, listed), page


def test_a_fire_leads_to_its_schedule_and_a_window_to_its_backfill(ledger, visit):
    with ledger.write() as c:
        schedule = c.execute(
            insert(ScheduleRow)
            .values(
                name="every quarter", streams=["*"], kind="incremental", cron="*/15 * * * *", timezone="UTC",
                jitter_seconds=0, outage="once", since=NOW, changed_at=NOW, changed_by="test",
            )
            .returning(ScheduleRow.id)
        ).scalar_one()  # fmt: skip
        fire = c.execute(
            insert(Fire)
            .values(schedule_id=schedule, promised=NOW, due_at=NOW, booked_at=NOW, state="on time", booked_by="x")
            .returning(Fire.id)
        ).scalar_one()
        fired = seed.add_run(c, stream="contact", at=ago(minutes=3), fire_id=fire)
        window = seed.add_run(c, stream="lead", at=ago(minutes=3), backfill_id=7, kind="backfill")
    assert 'href="/schedules?schedule=every+quarter"' in text_of(visit("runs", run=str(fired)))
    assert 'href="/sync?backfill=7"' in text_of(visit("runs", run=str(window)))


def leave_open(ledger, run_id: int, *, windows: int, done: int, chunks: int, **more: Any) -> None:
    """A plan of so many windows, of which some have landed; further chunks belong to the window after them."""
    with ledger.write() as c:
        plan = c.execute(
            insert(SyncPlan)
            .values(
                **{"stream": "salesforce.contact", "kind": "incremental", "state": "open", "details": {}} | more,
                run_id=run_id, created_at=NOW, windows=[{"part": "history"}] * windows, columns=[],
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        for n in range(chunks):
            c.execute(
                insert(LandedFileRow).values(
                    stream="salesforce.contact", run_id=run_id, plan_id=plan, window=min(n, done), chunk=n,
                    manifest_path=f"m{n}", load_id=f"l{n}", files=[], rows=100, rejected=0, bytes=1,
                    window_done=n < done, fence=1, registered_at=NOW,
                )
            )  # fmt: skip


@pytest.mark.parametrize(
    ("windows", "done", "chunks", "sentence"),
    [
        (7, 3, 5, "500 rows have landed and are not fetched again: 3 of 7 windows are complete."),
        (7, 1, 1, "100 rows have landed and are not fetched again: 1 of 7 windows is complete."),
        (1, 0, 2, "200 rows have landed and are not fetched again."),
        (2, 2, 2, "All 2 windows (200 rows have landed) are there and are not fetched again; loading is left."),
    ],
)
def test_resume_says_what_is_kept(ledger, visit, windows, done, chunks, sentence):
    with ledger.write() as c:
        run = seed.add_run(c, stream="contact", at=ago(minutes=3), state="cancelled")
    leave_open(ledger, run, windows=windows, done=done, chunks=chunks)
    app = visit("runs", run=str(run))
    assert app.button(key="run_again").label == "Resume"
    said = plain(app)
    assert sentence in said
    assert f"python -m jobs retry {run}" in said
    app.button(key="run_again").click().run()
    assert "It goes on from what has landed." in plain(app)
    with ledger.read() as c:
        assert c.execute(select(Run.retry_of).order_by(Run.id.desc()).limit(1)).scalar() == run


@pytest.mark.parametrize(
    "plan", [{"state": "done"}, {"kind": "full"}, {"details": {"parameters": {"since": "x"}}}, {"chunks": 0}]
)
def test_without_anything_to_go_on_with_it_is_run_again(ledger, visit, plan):
    with ledger.write() as c:
        run = seed.add_run(c, stream="contact", at=ago(minutes=3), state="cancelled")
    leave_open(ledger, run, **{"windows": 3, "done": 1, "chunks": 1} | plan)
    assert visit("runs", run=str(run)).button(key="run_again").label == "Run again"


def test_a_cancel_that_came_too_late_is_no_contradiction(ledger, visit):
    with ledger.write() as c:
        run = seed.add_run(
            c,
            stream="contact",
            at=ago(minutes=3),
            headline="Salesforce Contact: 480 rows loaded. The cancel came after its data was committed.",
            cancel_requested_at=ago(minutes=2),
            cancel_requested_by="ada",
        )
    said = plain(visit("runs", run=str(run)))
    assert "succeeded" in said
    assert "by ada, too late: its data was committed" in said


def waiting(ledger, reason: str, until: datetime | None, **more: Any) -> int:
    at = datetime.now(UTC)
    with ledger.write() as c:
        progress = {
            "step": "extract", "rows": 1_200, "total": 4_800, "bytes": 2_400_000, "rows_per_second": 300,
            "at": at.isoformat(), "waiting": {"for": reason, "until": until and until.isoformat()},
        }  # fmt: skip
        return seed.add_run(c, stream="contact", at=ago(minutes=1), state="running", progress=progress, **more)


@pytest.mark.parametrize("name", ["overview", "sync", "runs"])
def test_a_wait_is_shown_wherever_the_run_is(ledger, visit, name):
    run = waiting(ledger, "Salesforce answered 503.", datetime.now(UTC) + timedelta(seconds=40))
    said = plain(visit(name, **({"run": str(run)} if name == "runs" else {})))
    assert re.search(r"waiting \d\d s left, until [\d:]{8} UTC: Salesforce answered 503\.", said), said
    assert "1,200 of 4,800 rows" in said
    assert "2.4 MB" in said
    # While it waits, a rate says nothing.
    assert "rows/s" not in said


def test_a_wait_for_a_place_has_no_countdown(ledger, visit):
    run = waiting(ledger, "a free place at Salesforce", None)
    said = plain(visit("runs", run=str(run)))
    assert "waiting for a free place at Salesforce." in said
    assert "Under way, waits: a free place at Salesforce." in plain(visit("runs"))
    assert "s left" not in said


def test_a_wait_that_is_over_is_not_shown(ledger, visit):
    run = waiting(ledger, "Salesforce answered 503.", datetime.now(UTC) - timedelta(seconds=4))
    assert "answered 503" not in plain(visit("runs", run=str(run)))


def test_a_run_that_is_silent_is_noticed(ledger, visit):
    run = waiting(ledger, "x", None)
    with ledger.write() as c:
        old = {"step": "load", "rows": 5, "at": ago(seconds=75).isoformat()}
        c.execute(update(Run).where(Run.id == run).values(progress=old))
    assert "Nothing was heard of it for 1 min" in plain(visit("runs", run=str(run)))


def test_the_rest_and_the_rate_of_a_run_that_moves(ledger, visit):
    ids = seed.normal(ledger)
    said = plain(visit("runs", run=str(ids["running"])))
    assert "reading 12,400 of 20,014 rows 7.9 MB 412 rows/s about 18 s left" in said
    assert "12,400 records have been read and landed so far." in said


def test_a_queued_run_says_why_it_waits(ledger, visit):
    with ledger.write() as c:
        same = seed.add_run(c, stream="contact", at=ago(minutes=1), state="queued")
        other = seed.add_run(c, stream="lead", at=ago(minutes=1), state="queued")
    assert "Waits for a worker." in plain(visit("runs", run=str(other)))
    st.cache_data.clear()
    run = waiting(ledger, "x", None)
    with ledger.write() as c:
        full = seed.add_run(c, stream="user", at=ago(minutes=1), state="running", progress={"step": "load"})
    assert f"Waits for run {run}, which works on the same stream." in plain(visit("runs", run=str(same)))
    assert "Waits for a free worker: 2 runs under way." in plain(visit("runs", run=str(other)))
    with ledger.write() as c:
        c.execute(update(Run).where(Run.id == full).values(progress={"step": "extract"}))
    st.cache_data.clear()
    assert "Waits for a free place at Salesforce: 2 runs read from it." in plain(visit("overview"))
