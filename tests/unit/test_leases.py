"""One holder a stream: a fence that only rises, and death judged by the watcher's own clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from novade_core.errors import LeaseHeld, LeaseLost
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.leases import Taken, Watcher
from novade_core.ledger.models import Lease
from tests.ledgers import at_once

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)
STREAM = "salesforce.contact"
FOREIGN = "elsewhere-1234abcd:77:1"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


def take(
    ledger: Ledger, holder: str = FOREIGN, run: int = 1, watcher: Watcher | None = None, stream: str = STREAM
) -> Taken:
    with ledger.write() as connection:
        return leases.take(
            connection, stream=stream, holder=holder, run_id=run, now=NOW, watcher=watcher or Watcher(60)
        )


def beat(ledger: Ledger, fence: int) -> None:
    with ledger.write() as connection:
        leases.beat(connection, stream=STREAM, fence=fence)


def release(ledger: Ledger, fence: int) -> None:
    with ledger.write() as connection:
        leases.release(connection, stream=STREAM, fence=fence)


def row(ledger: Ledger):
    with ledger.read() as connection:
        return connection.execute(select(Lease.__table__).where(Lease.stream == STREAM)).one()


def test_the_first_to_come_takes_the_lease(ledger):
    assert take(ledger) == Taken(fence=1, from_run=None)
    held = row(ledger)
    assert (held.holder, held.fence, held.run_id, held.taken_at) == (FOREIGN, 1, 1, NOW)


def test_a_held_lease_is_refused_and_names_the_run(ledger):
    take(ledger, run=7)
    before = row(ledger)
    with pytest.raises(LeaseHeld, match=r"salesforce\.contact is being worked on by run 7") as held:
        take(ledger, "another-host:1:1", run=8)
    assert "run 7" in held.value.hint
    assert held.value.retryable
    assert row(ledger) == before


def test_the_same_holder_cannot_take_it_twice(ledger):
    take(ledger, leases.own_name())
    with pytest.raises(LeaseHeld):
        take(ledger, leases.own_name(), run=2)


def test_streams_do_not_hinder_each_other(ledger):
    take(ledger)
    assert take(ledger, stream="salesforce.lead").fence == 1


def test_the_fence_rises_with_every_holder_and_never_falls(ledger):
    fences = []
    for _ in range(5):
        fences.append(take(ledger).fence)
        release(ledger, fences[-1])
        assert row(ledger).fence == fences[-1]
    assert fences == [1, 2, 3, 4, 5]


def test_a_released_lease_was_taken_from_nobody(ledger):
    release(ledger, take(ledger, run=1).fence)
    assert row(ledger).holder is None
    assert take(ledger, run=2).from_run is None


def test_only_its_holder_releases_a_lease(ledger):
    first = take(ledger)
    release(ledger, first.fence)
    second = take(ledger, run=2)
    release(ledger, first.fence)
    assert row(ledger).run_id == 2
    beat(ledger, second.fence)


def test_a_beat_under_an_old_fence_is_a_lost_lease(ledger):
    first = take(ledger)
    release(ledger, first.fence)
    take(ledger, run=2)
    with pytest.raises(LeaseLost, match="ours was fence 1"):
        beat(ledger, first.fence)
    with pytest.raises(LeaseLost):
        beat(ledger, 99)


def test_a_lease_that_nobody_has_is_lost(ledger):
    with pytest.raises(LeaseLost), ledger.write() as connection:
        leases.require(connection, stream="salesforce.never", fence=1)


# --- expiry ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The watcher's monotonic clock; the wall clock is of no interest to it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_lease_dies_when_its_beat_stood_still_for_its_length_on_our_clock(ledger, clock):
    take(ledger, run=7)
    watcher = Watcher(20)
    for seconds in (0.0, 10.0, 9.9):
        clock[0] += seconds
        with pytest.raises(LeaseHeld):
            take(ledger, "b:1:1", 8, watcher)
    clock[0] += 0.1
    assert take(ledger, "b:1:1", 8, watcher) == Taken(fence=2, from_run=7)


def test_a_beat_starts_the_time_anew(ledger, clock):
    fence = take(ledger).fence
    watcher = Watcher(20)
    for _ in range(4):
        clock[0] += 19
        with pytest.raises(LeaseHeld):
            take(ledger, "b:1:1", 8, watcher)
        beat(ledger, fence)


def test_a_watcher_that_just_came_judges_nobody(ledger, clock):
    """However long ago the lease was taken: clocks of machines are never compared."""
    take(ledger)
    clock[0] += 10_000
    with pytest.raises(LeaseHeld):
        take(ledger, "b:1:1", 8, Watcher(20))


def test_another_holder_with_the_same_beat_starts_the_time_anew(clock):
    watcher = Watcher(20)
    assert not watcher.is_expired(STREAM, "a:1:1", 5)
    clock[0] += 30
    assert not watcher.is_expired(STREAM, "b:1:1", 5)
    clock[0] += 30
    assert watcher.is_expired(STREAM, "b:1:1", 5)


def test_a_real_lease_expires_in_real_time(ledger):
    take(ledger, run=7)
    watcher = Watcher(0.2)
    with pytest.raises(LeaseHeld):
        take(ledger, "b:1:1", 8, watcher)
    time.sleep(0.25)
    assert take(ledger, "b:1:1", 8, watcher).from_run == 7


def test_the_dead_holder_that_wakes_up_has_lost_its_lease(ledger):
    old = take(ledger)
    watcher = Watcher(0)
    with pytest.raises(LeaseHeld):
        take(ledger, "b:1:1", 8, watcher)
    new = take(ledger, "b:1:1", 8, watcher)
    with pytest.raises(LeaseLost):
        beat(ledger, old.fence)
    release(ledger, old.fence)
    beat(ledger, new.fence)


# --- holders on this machine ----------------------------------------------------------------------

NAME = "from novade_core.ledger import leases; print(leases.own_name(), flush=True); input()"


def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(ledger):
    with subprocess.Popen(
        [sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as process:
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        take(ledger, holder, run=7)
        assert not leases.is_dead_here(holder)
        with pytest.raises(LeaseHeld):
            take(ledger, run=8)
        process.kill()
        time.sleep(0.1)  # now it is a corpse that nobody has collected yet
        assert leases.is_dead_here(holder)
        assert take(ledger, run=8) == Taken(fence=2, from_run=7)
    assert leases.is_dead_here(holder)


def test_a_process_that_got_the_number_of_a_dead_one_is_not_it():
    host, pid, ticks = leases.own_name().rsplit(":", 2)
    assert not leases.is_dead_here(f"{host}:{pid}:{ticks}")
    assert leases.is_dead_here(f"{host}:{pid}:{int(ticks) - 1}")


@pytest.mark.parametrize("holder", ["", "x", "a:b", "elsewhere:1:1", ":1:1"])
def test_of_other_machines_nothing_is_known(holder):
    assert not leases.is_dead_here(holder)


def test_the_own_name_says_machine_process_and_start():
    assert leases.own_name() == leases.own_name()
    assert leases.own_name().split(":")[1] == str(os.getpid())


# --- races ----------------------------------------------------------------------------------------


def test_of_two_threads_exactly_one_takes_the_lease_in_every_round(ledger):
    rounds = 60
    start = threading.Barrier(2)
    won: list[list[int]] = [[], []]

    def contend(me: int) -> None:
        for number in range(rounds):
            start.wait(timeout=30)
            try:
                won[me].append(take(ledger, f"host{me}:1:1", number).fence)
            except LeaseHeld:
                won[me].append(0)
            start.wait(timeout=30)
            if won[me][-1]:
                release(ledger, won[me][-1])

    threads = [threading.Thread(target=contend, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [sorted(pair) for pair in zip(*won, strict=True)] == [[0, n] for n in range(1, rounds + 1)]


def _contend(together: Any, url: str, me: int, rounds: int) -> list[int]:
    ledger, got = open_ledger(url), []
    together.wait()
    for number in range(rounds):
        try:
            got.append(take(ledger, f"host{me}:1:1", me, stream=f"s{number}").fence)
        except LeaseHeld:
            got.append(0)
    ledger.close()
    return got


def test_of_two_processes_exactly_one_takes_each_lease(ledger, ledger_url):
    rounds = 40
    one, other = at_once(_contend, *[(ledger_url, me, rounds) for me in (1, 2)])
    assert [sorted(pair) for pair in zip(one, other, strict=True)] == [[0, 1]] * rounds


def test_taken_at_is_of_no_interest_to_expiry(ledger, clock):
    watcher = Watcher(20)
    with ledger.write() as connection:
        leases.take(connection, stream=STREAM, holder=FOREIGN, run_id=1, now=NOW - timedelta(days=900), watcher=watcher)
    clock[0] += 19
    with pytest.raises(LeaseHeld):
        take(ledger, "b:1:1", 2, watcher)
