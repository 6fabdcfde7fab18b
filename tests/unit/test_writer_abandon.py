"""What becomes of a run whose worker vanished: ended, asked for again, or given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from novade_core.errors import LeaseHeld
from novade_core.ledger import leases, queue
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Run, RunState
from tests.unit.test_writer import LATER, ask, claim, rows


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("state", list(RunState))
def test_only_what_runs_is_abandoned(ledger, state):
    run_id = ask(ledger, state=state, headline="before")
    with ledger.write() as connection:
        hit = queue.abandon(connection, run_id=run_id, now=LATER)
    assert hit == (state in (RunState.RUNNING, RunState.CANCELLING))
    row, *asked = rows(ledger, Run)
    # Whoever asked for its end gets it; everybody else gets another try.
    expected = {RunState.RUNNING: "abandoned", RunState.CANCELLING: "cancelled"}
    assert row.state == expected.get(state, state.value)
    assert (row.headline == "before") == (not hit)
    assert [(r.state, r.origin, r.attempt) for r in asked] == (
        [("queued", "retry", 2)] if state is RunState.RUNNING else []
    )


def test_a_run_that_vanishes_again_and_again_is_given_up(ledger):
    run_id = ask(ledger, state=RunState.RUNNING, attempt=len(queue.RETRY_SECONDS) + 1)
    with ledger.write() as connection:
        assert queue.abandon(connection, run_id=run_id, now=LATER)
    assert [r.state for r in rows(ledger, Run)] == ["abandoned"]


def test_a_successor_of_another_kind_does_not_swallow_the_request(ledger):
    full = ask(ledger, kind="full")
    claim(ledger, full)
    watcher = leases.Watcher(0)
    heir = ask(ledger)
    with pytest.raises(LeaseHeld):
        claim(ledger, heir, "b:1:1", watcher)
    claim(ledger, heir, "b:1:1", watcher)
    assert [(r.kind, r.state) for r in rows(ledger, Run)] == [
        ("full", "abandoned"),
        ("incremental", "running"),
        ("full", "queued"),
    ]
