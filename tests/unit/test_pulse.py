"""The heartbeat of a run: what it publishes and keeps alive, and how an end that was asked for gets through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select, update

from novade_core.errors import LeaseLost, NovadeError, RunCancelled, StorageRefused
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Lease, Run, RunState
from novade_core.ledger.requests import ask_to_cancel
from novade_core.ledger.writer import RunWriter
from novade_core.sync.pulse import Pulse
from tests.unit.test_writer import NOW, STREAM, ask, claim, rows

BEAT = 0.02


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def writer(ledger: Ledger) -> RunWriter:
    return RunWriter(ledger, claim(ledger, ask(ledger)))


def until(condition: Callable[[], Any], seconds: float = 5) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")


def cancel(ledger: Ledger) -> None:
    assert ask_to_cancel(ledger, run_id=1, who="ada", now=NOW) is RunState.CANCELLING


def beat_of(ledger: Ledger, stream: str = STREAM) -> int:
    with ledger.read() as connection:
        return connection.execute(select(Lease.beat).where(Lease.stream == stream)).scalar_one()


def take_away(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(update(Lease).where(Lease.stream == STREAM).values(fence=Lease.fence + 1))


# --- beats --------------------------------------------------------------------------------------------------------


def test_each_beat_moves_the_lease_and_publishes_progress(ledger, writer):
    with Pulse(writer, BEAT) as pulse:
        pulse.update(step="extract", rows=7, total=9)
        before = beat_of(ledger)
        until(lambda: beat_of(ledger) >= before + 3)
        shown = rows(ledger, Run)[0].progress
    assert {k: shown[k] for k in ("step", "rows", "total", "bytes")} == {
        "step": "extract", "rows": 7, "total": 9, "bytes": 0,
    }  # fmt: skip
    assert "waiting" not in shown


def test_each_beat_keeps_the_slots_alive(ledger, writer):
    with ledger.write() as connection:
        taken = leases.take(connection, stream="slot:x:0", holder="h:1:1", run_id=1, now=NOW, watcher=leases.Watcher(9))
    with Pulse(writer, BEAT) as pulse:
        pulse.slots = {"slot:x:0": taken.fence, "slot:x:9": 1}  # one that was lost is no harm
        before = beat_of(ledger, "slot:x:0")
        until(lambda: beat_of(ledger, "slot:x:0") >= before + 3)
        pulse.check()


def test_a_beat_that_cannot_be_written_is_tried_again(ledger, writer, monkeypatch):
    failing = [True]
    progress = writer.progress

    def refused(*arguments: Any) -> bool:
        if failing:
            raise StorageRefused("The disk is full.")
        return progress(*arguments)

    monkeypatch.setattr(writer, "progress", refused)
    with Pulse(writer, BEAT) as pulse:
        before = beat_of(ledger)
        time.sleep(5 * BEAT)
        assert beat_of(ledger) == before
        pulse.check()
        failing.clear()
        until(lambda: beat_of(ledger) > before)


def test_after_the_end_it_beats_no_more(ledger, writer):
    with Pulse(writer, BEAT):
        pass
    before = beat_of(ledger)
    time.sleep(5 * BEAT)
    assert beat_of(ledger) == before


# --- waits and pauses ---------------------------------------------------------------------------------------------


def test_a_wait_is_said_with_its_end_and_then_no_more(writer):
    pulse = Pulse(writer, BEAT)
    pulse.wait(0.05, "the end of a rate limit")
    said = pulse.snapshot()["waiting"]
    assert said["for"] == "the end of a rate limit"
    assert datetime.fromisoformat(said["until"]).tzinfo is not None
    time.sleep(0.06)
    assert "waiting" not in pulse.snapshot()
    pulse.wait(None, "a free place")
    time.sleep(0.06)
    assert pulse.snapshot()["waiting"] == {"for": "a free place", "until": None}
    pulse.waited()
    assert "waiting" not in pulse.snapshot()


def test_the_longest_pause_leaves_out_what_was_waited_on_purpose(writer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pulse = Pulse(writer, BEAT)
    now[0] += 3
    pulse.update(rows=1)
    assert pulse.stillest_ms == 3000
    now[0] += 1
    pulse.wait(60, "the end of a rate limit")
    now[0] += 62  # two seconds longer than it meant to
    pulse.update(rows=2)
    assert pulse.stillest_ms == 3000
    pulse.wait(None, "a free place")
    now[0] += 500
    pulse.waited()
    pulse.update(rows=3)
    assert pulse.stillest_ms == 3000
    # What the source said just before the wait is seen in the middle of it.
    pulse.vital = lambda: 1
    pulse.wait(60, "the end of a rate limit")
    now[0] += 1
    pulse.snapshot()
    now[0] += 59
    pulse.update(rows=4)
    assert pulse.stillest_ms == 3000
    now[0] += 4
    assert pulse.stillest_ms == 4000


def test_a_sign_of_life_of_the_source_ends_a_pause(writer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pulse = Pulse(writer, BEAT)
    signs = [0]
    pulse.vital = lambda: signs[0]
    for _ in range(4):
        now[0] += 2
        signs[0] += 1
        pulse.snapshot()
    assert pulse.stillest_ms == 2000


# --- an end that was asked for ------------------------------------------------------------------------------------


def test_a_cancel_is_heard_and_interrupts_again_and_again(ledger, writer):
    interrupts: list[int] = []
    with Pulse(writer, BEAT) as pulse, pulse.interruptible(lambda: interrupts.append(1)):
        pulse.check()
        cancel(ledger)
        # A statement may begin right after an interrupt, so there is more than one.
        until(lambda: len(interrupts) >= 3)
        with pytest.raises(RunCancelled):
            pulse.check()


def test_a_lost_lease_is_heard_and_interrupts(ledger, writer):
    interrupts: list[int] = []
    with Pulse(writer, BEAT) as pulse, pulse.interruptible(lambda: interrupts.append(1)):
        take_away(ledger)
        until(lambda: interrupts)
        with pytest.raises(LeaseLost):
            pulse.check()


def test_outside_of_its_block_nothing_is_interrupted(ledger, writer):
    interrupts: list[int] = []
    with Pulse(writer, BEAT) as pulse:
        with pulse.interruptible(lambda: interrupts.append(1)):
            pass
        cancel(ledger)
        until(lambda: pulse.cancelled)
        time.sleep(3 * BEAT)
    assert interrupts == []


def test_nobody_interrupts_a_commit(ledger, writer):
    interrupts: list[int] = []
    with Pulse(writer, BEAT) as pulse, pulse.interruptible(lambda: interrupts.append(1)):
        pulse.shield()
        cancel(ledger)
        until(lambda: pulse.cancelled)
        pulse.interrupt()
        time.sleep(3 * BEAT)
        assert interrupts == []
        with pytest.raises(RunCancelled):
            pulse.unshield()  # a signal came meanwhile
        with pytest.raises(RunCancelled):
            pulse.check()


def test_after_the_last_commit_a_cancel_comes_too_late(ledger, writer):
    interrupts: list[int] = []
    with Pulse(writer, BEAT) as pulse, pulse.interruptible(lambda: interrupts.append(1)):
        pulse.shield()
        cancel(ledger)
        until(lambda: pulse.cancelled)
        pulse.interrupt()
        pulse.unshield(last=True)
        pulse.interrupt()
        pulse.check()
        time.sleep(3 * BEAT)
    assert interrupts == []


def test_a_cancel_that_is_known_stops_before_the_commit(ledger, writer):
    with Pulse(writer, BEAT) as pulse:
        cancel(ledger)
        until(lambda: pulse.cancelled)
        with pytest.raises(RunCancelled):
            pulse.shield()


def test_a_signal_without_a_cancel_ends_the_process_after_the_commit(writer):
    with Pulse(writer, BEAT) as pulse:
        pulse.shield()
        pulse.interrupt()
        with pytest.raises(SystemExit) as ended:
            pulse.unshield(last=True)
        assert ended.value.code == 143
        # Whatever it surfaced as, the end is known from now on.
        with pytest.raises(SystemExit):
            pulse.check()


def test_a_signal_does_not_keep_a_run_from_recording_its_end(ledger, writer):
    with Pulse(writer, BEAT) as pulse:
        cancel(ledger)
        until(lambda: pulse.cancelled)
    pulse.interrupt()


@pytest.mark.parametrize("raised", [RuntimeError("Query interrupted"), NovadeError("DuckDB refused a statement.")])
def test_what_an_end_surfaced_as_is_traced_to_it(raised, ledger, writer):
    with Pulse(writer, BEAT) as pulse:
        assert pulse.cause(raised) is raised
        cancel(ledger)
        until(lambda: pulse.cancelled)
        assert isinstance(pulse.cause(raised), RunCancelled)
        lost = LeaseLost("Gone.")
        assert pulse.cause(lost) is lost


def test_what_a_stop_surfaced_as_is_traced_to_it(writer):
    pulse = Pulse(writer, BEAT)
    with pytest.raises(SystemExit):
        pulse.interrupt()
    assert isinstance(pulse.cause(RuntimeError("Query interrupted")), SystemExit)
