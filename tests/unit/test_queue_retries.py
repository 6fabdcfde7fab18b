"""Trying again by class: when, how often, as what, and when not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from novade_core import errors
from novade_core.errors import NovadeError, RetryableError
from novade_core.ledger import queue
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import LogEntry, Run, RunState
from novade_core.ledger.queue import RETRY_SECONDS, Ending
from novade_core.ledger.requests import ask_to_cancel
from novade_core.ledger.writer import RunWriter
from tests.unit.test_writer import LATER, NOW, ask, claim, rows


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def classes(root: type[NovadeError] = NovadeError) -> list[type[NovadeError]]:
    found = [root]
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found += classes(child)
    return found


def fail(ledger: Ledger, error: NovadeError, retry_seconds: tuple[float, ...] = RETRY_SECONDS, **run: Any) -> list[Any]:
    """Fail a claimed run with this error; answers the runs that were asked for because of it."""
    run_id = ask(ledger, **run)
    RunWriter(ledger, claim(ledger, run_id), retry_seconds).fail(LATER, error, {})
    return [row for row in rows(ledger, Run) if row.retry_of == run_id]


@pytest.mark.parametrize("kind", classes())
def test_what_may_pass_is_tried_again_and_nothing_else(kind, ledger):
    again = fail(ledger, kind("It went wrong."))
    assert len(again) == int(issubclass(kind, RetryableError))
    expected = "cancelled" if kind is errors.RunCancelled else "failed"
    assert rows(ledger, Run)[0].state == expected


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
def test_each_attempt_waits_longer_spread_by_a_quarter(attempt, ledger):
    waits = set()
    for number in range(8):
        [again] = fail(ledger, RetryableError("Busy."), attempt=attempt, subject=f"salesforce.s{number}")
        assert (again.attempt, again.state, again.origin) == (attempt + 1, "queued", "retry")
        waits.add((again.not_before - LATER).total_seconds())
    usual = RETRY_SECONDS[attempt - 1]
    assert all(0.75 * usual <= wait <= 1.25 * usual for wait in waits)
    assert len(waits) > 1


def test_after_one_more_attempt_than_there_are_waits_it_ends(ledger):
    assert fail(ledger, RetryableError("Busy."), attempt=5) == []
    assert fail(ledger, RetryableError("Busy."), (1.0,), attempt=2, subject="salesforce.lead") == []


def test_the_settings_say_how_long(ledger):
    [again] = fail(ledger, RetryableError("Busy."), (1000.0,))
    assert timedelta(seconds=750) <= again.not_before - LATER <= timedelta(seconds=1250)


def test_who_said_how_long_is_waited_for(ledger):
    [long] = fail(ledger, RetryableError("Busy.", retry_after=3600))
    assert long.not_before == LATER + timedelta(seconds=3600)
    [short] = fail(ledger, RetryableError("Busy.", retry_after=1), subject="salesforce.lead")
    assert short.not_before - LATER >= timedelta(seconds=7.5)


def test_the_next_attempt_asks_for_the_same(ledger):
    window = {"since": "2024-01-01T00:00:00+00:00", "until": "2024-02-01T00:00:00+00:00"}
    [again] = fail(
        ledger, RetryableError("Busy."), kind="backfill", parameters=window, priority=90, requested_by="ada",
        idempotency_key="k", source="salesforce",
    )  # fmt: skip
    assert (again.kind, again.parameters, again.priority, again.requested_by) == ("backfill", window, 90, "ada")
    assert (again.subject, again.source) == ("salesforce.contact", "salesforce")
    # The key stays with the run that it asked for.
    assert again.idempotency_key is None
    assert again.started_at is None


def test_a_window_of_a_backfill_is_tried_again_as_its_window(ledger):
    from sqlalchemy import insert

    from novade_core.ledger.models import Backfill

    with ledger.write() as connection:
        backfill = connection.execute(
            insert(Backfill)
            .values(
                stream="salesforce.contact", since=NOW, until=LATER, chunk="month", newest_first=True, scope="all",
                state="open", requested_by="ada", requested_at=NOW,
            )
            .returning(Backfill.id)
        ).scalar_one()  # fmt: skip
    [again] = fail(ledger, RetryableError("Busy."), backfill_id=backfill)
    assert again.backfill_id == backfill


def test_none_where_its_end_was_asked_for_and_it_counts_as_cancelled(ledger):
    run_id = ask(ledger)
    writer = RunWriter(ledger, claim(ledger, run_id), RETRY_SECONDS)
    ask_to_cancel(ledger, run_id=run_id, who="ada", now=NOW)
    writer.fail(LATER, RetryableError("The connection broke."), {})
    [only] = rows(ledger, Run)
    assert (only.state, only.error_kind) == ("cancelled", "RetryableError")


def test_none_where_a_queued_run_would_do_the_same(ledger):
    run_id = ask(ledger)
    claimed = claim(ledger, run_id)
    ask(ledger)
    RunWriter(ledger, claimed, RETRY_SECONDS).fail(LATER, RetryableError("Busy."), {})
    assert [r.state for r in rows(ledger, Run)] == ["failed", "queued"]


def test_one_of_another_kind_or_window_takes_nobodys_place(ledger):
    run_id = ask(ledger)
    claimed = claim(ledger, run_id)
    ask(ledger, kind="full")
    ask(ledger, parameters={"since": "x"})
    RunWriter(ledger, claimed, RETRY_SECONDS).fail(LATER, RetryableError("Busy."), {})
    assert [r.retry_of for r in rows(ledger, Run)] == [None, None, None, run_id]


def test_none_for_who_is_there_to_see_it(ledger):
    """A command without a worker gives no waits."""
    assert fail(ledger, RetryableError("Busy."), ()) == []


def test_the_log_says_when(ledger):
    [again] = fail(ledger, RetryableError("Busy."))
    said = [e for e in rows(ledger, LogEntry) if e.message == "It is tried again."]
    assert [e.fields for e in said] == [{"not_before": again.not_before.isoformat()}]


def test_a_run_that_was_abandoned_meanwhile_asks_for_nothing_more(ledger):
    claimed = claim(ledger, ask(ledger))
    with ledger.write() as connection:
        assert queue.abandon(connection, run_id=claimed.id, now=LATER)
    RunWriter(ledger, claimed, RETRY_SECONDS).fail(LATER, RetryableError("Busy."), {})
    assert [(r.state, r.attempt) for r in rows(ledger, Run)] == [("abandoned", 1), ("queued", 2)]


# --- runs that ended without a word -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attempt", "next_attempt", "waits"),
    [
        ("WorkerVanished", 1, 2, False),
        ("WorkerVanished", 2, 3, True),
        ("RunStalled", 1, 2, False),
        ("RunStalled", 3, 4, True),
        ("WorkerStopped", 1, 1, False),
        ("WorkerStopped", 5, 5, False),
    ],
)
def test_what_ended_without_a_word_is_tried_again(
    kind: Ending, attempt: int, next_attempt: int, waits: bool, ledger: Ledger
) -> None:
    run_id = ask(ledger, state=RunState.RUNNING, attempt=attempt)
    with ledger.write() as connection:
        assert queue.abandon(connection, run_id=run_id, now=LATER, kind=kind)
    first, again = rows(ledger, Run)
    assert (first.state, first.error_kind, first.error_origin) == ("abandoned", kind, "us")
    assert (again.attempt, again.retry_of, again.not_before is not None) == (next_attempt, run_id, waits)


def test_a_retry_that_waits_is_not_startable_before_its_time(ledger):
    [again] = fail(ledger, RetryableError("Busy.", retry_after=60))
    with ledger.read() as connection:
        assert queue.queued(connection, LATER + timedelta(seconds=59)) == []
        [row] = queue.queued(connection, LATER + timedelta(seconds=60))
    assert row.id == again.id
    with ledger.read() as connection:
        assert connection.execute(select(Run.state).where(Run.id == again.id)).scalar() == "queued"


def test_a_source_without_room_hides_nobody(ledger):
    for number in range(60):
        ask(ledger, f"salesforce.s{number}")
    other = ask(ledger, "drift.conversations", source="drift")
    with ledger.read() as connection:
        found = queue.queued(connection, NOW, not_of={"salesforce"}, not_on={"salesforce.s1"}, limit=1)
    assert [run.id for run in found] == [other]
