"""Which runs live but do not move: three times what their stream is used to, between a floor and a ceiling."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.stalls import Stalls
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import RunState
from novade_core.settings import WorkerSettings
from tests.templates import sqlite_ledger
from tests.unit.test_writer import ask

STREAM = "salesforce.contact"
FIRST = {"step": "extract", "rows": 0, "bytes": 0, "signs": 1}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(sqlite_ledger(tmp_path / "ledger.sqlite"))
    yield ledger
    ledger.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def stalls(ledger: Ledger, **settings: Any) -> Stalls:
    given = WorkerSettings(**{"stall_seconds": 900, "stall_floor_seconds": 120} | settings)
    services: Any = SimpleNamespace(ledger=ledger, environment=SimpleNamespace(worker=given))
    return Stalls(services)


def pauses(ledger: Ledger, *seconds: float, state: RunState = RunState.SUCCEEDED, subject: str = STREAM) -> None:
    for value in seconds:
        ask(ledger, subject=subject, state=state, stillest_ms=round(1000 * value))


def limit(ledger: Ledger, clock: list[float], **settings: Any) -> float:
    """After how many seconds without progress the next run of the stream is ended."""
    watch, run_id = stalls(ledger, **settings), ask(ledger, state=RunState.RUNNING)
    assert not watch.is_stalled(run_id, STREAM, FIRST)
    begun = clock[0]
    while not watch.is_stalled(run_id, STREAM, FIRST):
        clock[0] += 1
    return clock[0] - begun - 1


def test_a_stream_without_a_past_has_the_ceiling(ledger, clock):
    assert limit(ledger, clock) == 900
    pauses(ledger, 50, 50)  # too few to know what is usual
    assert limit(ledger, clock) == 900


def test_three_times_the_longest_pause_of_the_last_runs(ledger, clock):
    pauses(ledger, 10, 100, 20)
    assert limit(ledger, clock) == 300


def test_never_below_the_floor_and_never_above_the_ceiling(ledger, clock):
    pauses(ledger, 1, 1, 1)
    assert limit(ledger, clock) == 120
    pauses(ledger, 400)
    assert limit(ledger, clock) == 900
    assert limit(ledger, clock, stall_seconds=60) == 60


def test_only_the_last_ten_that_worked_count_and_only_of_this_stream(ledger, clock):
    pauses(ledger, 290)
    pauses(ledger, *[100] * 9)
    assert limit(ledger, clock) == 870
    pauses(ledger, 100)
    pauses(ledger, 290, state=RunState.FAILED)
    pauses(ledger, 290, subject="salesforce.lead")
    assert limit(ledger, clock) == 300


@pytest.mark.parametrize("moved", [{"step": "load"}, {"rows": 1}, {"bytes": 1}, {"signs": 2}])
def test_any_progress_starts_the_time_anew(moved, ledger, clock):
    watch = stalls(ledger)
    watch.is_stalled(1, STREAM, FIRST)
    clock[0] += 899
    assert not watch.is_stalled(1, STREAM, FIRST | moved)
    clock[0] += 899
    assert not watch.is_stalled(1, STREAM, FIRST | moved)
    clock[0] += 2
    assert watch.is_stalled(1, STREAM, FIRST | moved)


def test_that_the_beat_moves_is_no_progress(ledger, clock):
    watch = stalls(ledger)
    watch.is_stalled(1, STREAM, FIRST | {"at": "a", "rows_per_second": 9})
    clock[0] += 901
    assert watch.is_stalled(1, STREAM, FIRST | {"at": "b", "rows_per_second": 3})


@pytest.mark.parametrize("until", [None, "2024-11-18T15:00:00+00:00", "1999-01-01T00:00:00+00:00"])
def test_who_waits_on_purpose_is_not_stalled_whatever_the_clocks_say(until, ledger, clock):
    watch, waits = stalls(ledger), FIRST | {"waiting": {"for": "a free place", "until": until}}
    watch.is_stalled(1, STREAM, FIRST)
    for _ in range(5):
        clock[0] += 800
        assert not watch.is_stalled(1, STREAM, waits)
    # From the end of the wait on, it is judged as before.
    clock[0] += 899
    assert not watch.is_stalled(1, STREAM, FIRST)
    clock[0] += 2
    assert watch.is_stalled(1, STREAM, FIRST)


def test_a_run_without_progress_yet_is_judged_too(ledger, clock):
    watch = stalls(ledger)
    assert not watch.is_stalled(1, STREAM, None)
    clock[0] += 901
    assert watch.is_stalled(1, STREAM, None)


def test_while_nobody_could_write_nobody_is_judged(ledger, clock):
    watch = stalls(ledger)
    watch.is_stalled(1, STREAM, FIRST)
    clock[0] += 5000
    watch.forget()
    assert not watch.is_stalled(1, STREAM, FIRST)


def test_runs_that_ended_are_forgotten(ledger, clock):
    watch = stalls(ledger)
    watch.is_stalled(1, STREAM, FIRST)
    watch.keep_only(set())
    clock[0] += 5000
    assert not watch.is_stalled(1, STREAM, FIRST)
