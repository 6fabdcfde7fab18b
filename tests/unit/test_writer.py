"""What is written about a run: claimed once, ended once, counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from novade_core.errors import ConfigurationError, LeaseHeld, LeaseLost, RunCancelled, SourceUnavailable
from novade_core.ledger import leases, queue, writer
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import (
    Artifact,
    Comparison,
    ComparisonState,
    Daily,
    FindingRow,
    Lease,
    LogEntry,
    Run,
    RunState,
    Step,
    StreamStatus,
    Usage,
)
from novade_core.ledger.queue import Claimed
from novade_core.ledger.writer import Counts, RunWriter
from novade_core.streams import RunKind
from tests.ledgers import at_once

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=90)
STREAM = "salesforce.contact"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def ask(ledger: Ledger, subject: str = STREAM, **more: Any) -> int:
    given: dict[str, Any] = {
        "subject": subject,
        "source": "salesforce",
        "kind": "incremental",
        "state": RunState.QUEUED,
        "origin": "person",
        "requested_by": "ada",
        "requested_at": NOW,
        "priority": 50,
        "attempt": 1,
        "parameters": {},
    }
    with ledger.write() as connection:
        return connection.execute(insert(Run).values(**(given | more)).returning(Run.id)).scalar_one()


def claim(ledger: Ledger, run: int, holder: str = "elsewhere-1:1:1", watcher: leases.Watcher | None = None) -> Claimed:
    return queue.claim(
        ledger, run_id=run, holder=holder, now=NOW, watcher=watcher or leases.Watcher(60), code_version="1.2.3"
    )


@pytest.fixture
def run(ledger: Ledger) -> RunWriter:
    """A claimed run."""
    return RunWriter(ledger, claim(ledger, ask(ledger)))


def rows(ledger: Ledger, table: Any, *conditions: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(
            connection.execute(select(table.__table__).where(*conditions).order_by(*table.__table__.primary_key))
        )


def finish(run: RunWriter, now: datetime = LATER, state: RunState = RunState.SUCCEEDED, **more: Any) -> None:
    given = {"headline": "done", "values": {"read": 5, "loaded": 4, "rejected": 1, "bytes_in": 10, "api_calls": 2}}
    with run.ledger.write() as connection:
        run.finish(connection, now, state=state, **(given | more))


# --- claiming -------------------------------------------------------------------------------------


def test_a_claim_takes_the_stream_and_the_run(ledger):
    run_id = ask(ledger, parameters={"since": "x"}, attempt=2)
    claimed = claim(ledger, run_id)
    assert claimed == Claimed(
        id=run_id,
        subject=STREAM,
        kind=RunKind.INCREMENTAL,
        attempt=2,
        parameters={"since": "x"},
        fence=1,
        requested_by="ada",
    )
    (row,) = rows(ledger, Run)
    assert (row.state, row.worker, row.fence, row.started_at, row.code_version) == (
        "running",
        "elsewhere-1:1:1",
        1,
        NOW,
        "1.2.3",
    )
    assert [(r.stream, r.run_id) for r in rows(ledger, Lease)] == [(STREAM, run_id)]


def test_a_second_run_of_a_stream_waits_untouched(ledger):
    first, second = ask(ledger), ask(ledger)
    claim(ledger, first)
    with pytest.raises(LeaseHeld, match=f"run {first}"):
        claim(ledger, second)
    assert [r.state for r in rows(ledger, Run)] == ["running", "queued"]


@pytest.mark.parametrize("state", [s for s in RunState if s is not RunState.QUEUED])
def test_only_a_queued_run_is_claimed_and_otherwise_the_stream_stays_free(ledger, state):
    run_id = ask(ledger, state=state)
    with pytest.raises(ConfigurationError, match=f"is {state.value}, not queued"):
        claim(ledger, run_id)
    assert rows(ledger, Lease) == []


def test_a_run_that_does_not_exist_is_named(ledger):
    with pytest.raises(ConfigurationError, match="There is no run 99"):
        claim(ledger, 99)


def test_taking_over_from_a_dead_worker_abandons_its_run_and_closes_its_steps(ledger):
    dead = ask(ledger)
    victim = RunWriter(ledger, claim(ledger, dead))
    victim.start_step("extract", NOW)
    watcher = leases.Watcher(0)
    heir = ask(ledger)
    with pytest.raises(LeaseHeld):
        claim(ledger, heir, "b:1:1", watcher)
    assert claim(ledger, heir, "b:1:1", watcher).fence == 2
    first, second = rows(ledger, Run)
    assert (first.state, first.ended_at, first.error_kind, first.error_origin) == (
        "abandoned",
        NOW,
        "WorkerVanished",
        "us",
    )
    assert first.headline
    assert second.state == "running"
    assert [(s.state, s.ended_at) for s in rows(ledger, Step)] == [("failed", NOW)]
    with pytest.raises(LeaseLost):
        victim.progress({"rows": 1})


def test_what_the_abandoned_worker_says_at_the_end_is_not_heard(ledger):
    dead = ask(ledger)
    victim = RunWriter(ledger, claim(ledger, dead))
    watcher = leases.Watcher(0)
    heir = ask(ledger)
    with pytest.raises(LeaseHeld):
        claim(ledger, heir, "b:1:1", watcher)
    claim(ledger, heir, "b:1:1", watcher)
    victim.fail(LATER, SourceUnavailable("too late"), {"read": 7})
    with pytest.raises(LeaseLost):
        finish(victim)
    first, second = rows(ledger, Run)
    assert (first.state, first.read, second.state) == ("abandoned", None, "running")
    [day] = rows(ledger, Daily)
    assert (day.runs, day.failed, day.read) == (1, 1, 0)
    assert rows(ledger, Lease)[0].run_id == heir


def test_the_queue_gives_the_most_urgent_first_and_hides_what_waits(ledger):
    ids = [
        ask(ledger, "s.a", priority=50),
        ask(ledger, "s.b", priority=10),
        ask(ledger, "s.c", priority=50),
        ask(ledger, "s.d", not_before=NOW),
        ask(ledger, "s.e", not_before=NOW + timedelta(microseconds=1)),
        ask(ledger, "s.f", state=RunState.RUNNING),
    ]
    with ledger.read() as connection:
        assert [r.id for r in queue.queued(connection, NOW)] == [ids[1], ids[0], ids[2], ids[3]]
        assert ids[4] in [r.id for r in queue.queued(connection, LATER)]


# --- while it runs --------------------------------------------------------------------------------


def test_a_step_is_opened_and_closed_with_its_figures(ledger, run):
    step = run.start_step("extract", NOW)
    assert rows(ledger, Step)[0].state == "running"
    run.end_step(step, LATER, state="succeeded", busy_seconds=1.2346, rows=7, size=9, message="ok")
    (row,) = rows(ledger, Step)
    assert (row.name, row.state, row.started_at, row.ended_at) == ("extract", "succeeded", NOW, LATER)
    assert (row.busy_ms, row.rows, row.bytes, row.message) == (1235, 7, 9, "ok")


def test_progress_is_published_moves_the_beat_and_hears_of_a_cancel(ledger, run):
    before = rows(ledger, Lease)[0].beat
    assert run.progress({"step": "load", "rows": 3}) is False
    assert rows(ledger, Run)[0].progress == {"step": "load", "rows": 3}
    assert rows(ledger, Lease)[0].beat == before + 1
    with ledger.write() as connection:
        connection.execute(update(Run).values(state=RunState.CANCELLING))
    assert run.progress({}) is True


def test_progress_under_a_lost_lease_is_not_published(ledger, run):
    run.progress({"rows": 1})
    with ledger.write() as connection:
        connection.execute(update(Lease).values(fence=5))
    with pytest.raises(LeaseLost):
        run.progress({"rows": 2})
    assert rows(ledger, Run)[0].progress == {"rows": 1}


def test_usage_leaves_out_zeros(ledger, run):
    run.usage("extract", {"a": 3, "b": 0})
    run.usage("extract", {"c": 0})
    assert [(u.step, u.meter, u.quantity) for u in rows(ledger, Usage)] == [("extract", "a", 3)]


def test_log_artifacts_and_comparisons_are_kept_with_the_run(ledger, run):
    run.log(NOW, "warning", "A constant sentence.", rows=3)
    run.artifact(NOW, "missing_keys", [{"key": "a"}])
    run.comparisons(NOW, [Counts(window="all", source=1, warehouse=None, state=ComparisonState.UNKNOWN, sentence="?")])
    run.comparisons(NOW, [])
    (line,), (artifact,), (comparison,) = rows(ledger, LogEntry), rows(ledger, Artifact), rows(ledger, Comparison)
    assert (line.run_id, line.level, line.fields) == (run.run.id, "warning", {"rows": 3})
    assert (artifact.stream, artifact.content) == (STREAM, [{"key": "a"}])
    assert (comparison.source_count, comparison.warehouse_count, comparison.state) == (1, None, "unknown")


# --- findings -------------------------------------------------------------------------------------


def find(run: RunWriter, now: datetime = NOW, kind: str = "count_difference", **evidence: Any) -> None:
    run.finding(now, kind=kind, severity="warn", summary=f"{evidence}", evidence=evidence, next_step="look")


def test_an_open_finding_is_renewed_and_keeps_the_day_it_was_opened(ledger, run):
    find(run, missing=1)
    find(run, LATER, missing=2)
    (row,) = rows(ledger, FindingRow)
    assert (row.opened_at, row.closed_at, row.evidence) == (NOW, None, {"missing": 2})
    assert run.open_finding("count_difference") == {"missing": 2}


def test_a_closed_finding_stays_and_the_next_is_a_new_one(ledger, run):
    find(run, missing=1)
    run.close_finding(LATER, "count_difference")
    assert run.open_finding("count_difference") is None
    find(run, LATER + timedelta(days=1), missing=3)
    first, second = rows(ledger, FindingRow)
    assert (first.closed_at, first.evidence, second.closed_at) == (LATER, {"missing": 1}, None)
    run.close_finding(LATER + timedelta(days=2), "count_difference")
    assert rows(ledger, FindingRow)[0].closed_at == LATER


def test_findings_of_other_kinds_and_streams_are_left_alone(ledger, run):
    other = RunWriter(ledger, claim(ledger, ask(ledger, "salesforce.lead")))
    find(run, missing=1)
    find(run, kind="field_vanished", fields=["a"])
    find(other, missing=9)
    run.close_finding(LATER, "count_difference")
    assert run.open_finding("field_vanished") == {"fields": ["a"]}
    assert other.open_finding("count_difference") == {"missing": 9}
    run.close_finding(LATER, "never_opened")


# --- the end --------------------------------------------------------------------------------------


def test_the_end_closes_the_run_frees_the_stream_and_tells_the_status(ledger, run):
    run.progress({"rows": 1})
    finish(run, status={"last_load_at": LATER, "source_count": 5})
    (row,) = rows(ledger, Run)
    assert (row.state, row.ended_at, row.headline, row.progress, row.loaded) == ("succeeded", LATER, "done", None, 4)
    assert rows(ledger, Lease)[0].holder is None
    (status,) = rows(ledger, StreamStatus)
    assert (status.last_run_id, status.last_run_state, status.source_count) == (run.run.id, "succeeded", 5)
    assert (status.first_loaded_at, status.last_load_at, status.paused) == (LATER, LATER, False)


def test_a_run_ends_once(ledger, run):
    finish(run)
    before = [rows(ledger, t) for t in (Run, Daily, StreamStatus, Lease)]
    with pytest.raises(LeaseLost):
        finish(run, LATER + timedelta(days=1), RunState.FAILED, headline="again")
    run.fail(LATER, SourceUnavailable("and again"), {})
    assert [rows(ledger, t) for t in (Run, Daily, StreamStatus, Lease)] == before


def test_the_first_load_is_remembered_and_a_failure_takes_nothing_back(ledger):
    at = NOW
    for state, status in (
        (RunState.FAILED, None),
        (RunState.SUCCEEDED, {"last_load_at": NOW + timedelta(hours=1)}),
        (RunState.PARTIAL, {"last_load_at": NOW + timedelta(hours=2)}),
        (RunState.FAILED, None),
    ):
        finish(RunWriter(ledger, claim(ledger, ask(ledger))), at, state, status=status)
        at += timedelta(hours=1)
    (row,) = rows(ledger, StreamStatus)
    assert row.first_loaded_at == NOW + timedelta(hours=1)
    assert row.last_load_at == NOW + timedelta(hours=2)
    assert row.last_run_state == "failed"


def test_a_failure_is_told_by_the_error_and_closes_what_was_open(ledger, run):
    run.start_step("extract", NOW)
    error = SourceUnavailable("Salesforce answered 503.", hint="Wait.")
    run.fail(LATER, error, {"read": 3})
    (row,), (step,), (line,) = rows(ledger, Run), rows(ledger, Step), rows(ledger, LogEntry)
    assert (row.state, row.headline, row.read) == ("failed", "Salesforce answered 503.", 3)
    assert (row.error_kind, row.error_origin, row.error_message, row.error_hint) == (
        "SourceUnavailable",
        "source",
        "Salesforce answered 503.",
        "Wait.",
    )
    assert (step.state, step.ended_at, step.message) == ("failed", LATER, "Salesforce answered 503.")
    assert line.fields == {"class": "SourceUnavailable", "origin": "source", "hint": "Wait."}
    assert rows(ledger, Lease)[0].holder is None


def test_a_cancelled_run_is_no_failure(ledger, run):
    run.fail(LATER, RunCancelled("The run was cancelled."), {})
    assert rows(ledger, Run)[0].state == "cancelled"
    assert rows(ledger, Daily)[0].failed == 0


ENDS = st.tuples(
    st.sampled_from(["s.a", "s.b"]),
    st.integers(0, 2),
    st.sampled_from([RunState.SUCCEEDED, RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED]),
    st.fixed_dictionaries({}, optional={n: st.none() | st.integers(0, 99) for n in ("read", "loaded", "api_calls")}),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ends=st.lists(ENDS, min_size=1, max_size=6))
def test_daily_totals_add_up(ledger, ends):
    with ledger.write() as connection:
        connection.execute(Daily.__table__.delete())
    expected: dict[tuple[date, str], dict[str, int]] = {}
    for stream, day, state, values in ends:
        at = LATER + timedelta(days=day)
        finish(RunWriter(ledger, claim(ledger, ask(ledger, stream))), at, state, values=values)
        total = expected.setdefault((at.date(), stream), dict.fromkeys(("runs", "failed", "busy_ms"), 0))
        total["runs"] += 1
        total["failed"] += state is RunState.FAILED
        total["busy_ms"] += round((at - NOW).total_seconds() * 1000)
        for name in ("read", "loaded", "api_calls"):
            total[name] = total.get(name, 0) + (values.get(name) or 0)
    found = {(r.day, r.stream): {n: getattr(r, n) for n in next(iter(expected.values()))} for r in rows(ledger, Daily)}
    assert found == expected


# --- races ----------------------------------------------------------------------------------------

ROUNDS = 25


def _claim_all(together, url: str, me: int, run_ids: list[int]) -> list[bool]:
    ledger = open_ledger(url)
    found = []
    for run_id in run_ids:
        together.wait()
        try:
            claim(ledger, run_id, f"host{me}:1:1")
            found.append(True)
        except LeaseHeld:
            found.append(False)
    ledger.close()
    return found


def test_of_several_workers_exactly_one_claims_each_run(ledger, ledger_url):
    run_ids = [ask(ledger, f"s.{number}") for number in range(ROUNDS)]
    answers = at_once(_claim_all, *[(ledger_url, me, run_ids) for me in range(3)])
    assert [sum(won) for won in zip(*answers, strict=True)] == [1] * ROUNDS
    assert [(r.state, r.fence) for r in rows(ledger, Run)] == [("running", 1)] * ROUNDS
    winners = [f"host{won.index(True)}:1:1" for won in zip(*answers, strict=True)]
    assert [r.worker for r in rows(ledger, Run)] == winners


def _end_or_inherit(together, url: str, heir: bool, pairs: list[tuple[int, int]]) -> list[str]:
    """One process ends a run in the moment in which the other takes it for dead."""
    ledger = open_ledger(url)
    found = []
    for number, (dead, successor) in enumerate(pairs):
        watcher = leases.Watcher(0)
        if heir:
            watcher.is_expired(f"s.{number}", "elsewhere-1:1:1", 1)
        else:
            run = RunWriter(ledger, replace(claimed_as(dead), subject=f"s.{number}"))
        together.wait()
        try:
            if heir:
                claim(ledger, successor, "b:1:1", watcher)
                found.append("claimed")
            elif number % 2:
                run.fail(LATER, SourceUnavailable("no"), {"read": 1})
                found.append("ended")
            else:
                finish(run)
                found.append("ended")
        except LeaseHeld:
            found.append("held")
    ledger.close()
    return found


def claimed_as(run_id: int) -> Claimed:
    return Claimed(
        id=run_id, subject="", kind=RunKind.INCREMENTAL, attempt=1, parameters={}, fence=1, requested_by="ada"
    )


def test_an_end_and_a_takeover_at_the_same_moment_count_the_run_once(ledger, ledger_url):
    pairs = []
    for number in range(ROUNDS):
        dead = ask(ledger, f"s.{number}")
        RunWriter(ledger, claim(ledger, dead)).start_step("load", NOW)
        pairs.append((dead, ask(ledger, f"s.{number}")))
    ended, inherited = at_once(_end_or_inherit, (ledger_url, False, pairs), (ledger_url, True, pairs))
    assert set(ended) == {"ended"}
    assert set(inherited) <= {"claimed", "held"}
    states = {r.id: r.state for r in rows(ledger, Run)}
    for (dead, successor), said in zip(pairs, inherited, strict=True):
        assert states[dead] in ("succeeded", "failed", "abandoned")
        assert states[successor] == ("running" if said == "claimed" else "queued")
    assert [r.runs for r in rows(ledger, Daily)] == [1] * ROUNDS
    assert "running" not in {s.state for s in rows(ledger, Step) if states[s.run_id] != "succeeded"}


def test_who_ends_a_run_and_who_takes_it_over_never_wait_for_each_other_in_a_circle(postgresql_url, monkeypatch):
    """Both begin with the lease; an end that began with its run would be shot down as one half of a deadlock."""
    ledger = open_ledger(postgresql_url)
    dead, heir = ask(ledger), ask(ledger)
    run = RunWriter(ledger, claim(ledger, dead))
    watcher = leases.Watcher(0)
    with pytest.raises(LeaseHeld):
        claim(ledger, heir, "b:1:1", watcher)
    faults: list[Exception] = []

    def take_over() -> None:
        try:
            claim(ledger, heir, "b:1:1", watcher)
        except Exception as error:
            faults.append(error)

    thread, status = threading.Thread(target=take_over), writer.set_stream_status

    def in_the_middle(*arguments: Any) -> None:
        thread.start()
        time.sleep(0.3)
        status(*arguments)

    monkeypatch.setattr(writer, "set_stream_status", in_the_middle)
    finish(run)
    thread.join(timeout=30)
    assert [type(fault) for fault in faults] == [LeaseHeld]
    assert [r.state for r in rows(ledger, Run)] == ["succeeded", "queued"]
    ledger.close()
