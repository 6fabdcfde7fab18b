"""So many runs at a time at a source and in the warehouse: never more, whoever dies; always in the same order."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from novade_core.errors import RunCancelled
from novade_core.ledger import leases
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import Lease
from novade_core.ledger.requests import ask_to_cancel
from novade_core.ledger.writer import RunWriter
from novade_core.sync.pulse import Pulse
from novade_core.sync.slots import Slots, slot_name
from novade_core.wiring import utc_now
from tests.homes import Home
from tests.ledgers import at_once
from tests.unit.test_writer import NOW, ask, claim

BEAT, LEASE = 0.05, 0.6


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = open_ledger(ledger_url)
    yield ledger
    ledger.close()


class Worker:
    """A run with its pulse and slots."""

    def __init__(self, ledger: Ledger, subject: str = "salesforce.contact", lease_seconds: float = LEASE) -> None:
        run = claim(ledger, ask(ledger, subject=subject))
        self.pulse = Pulse(RunWriter(ledger, run), BEAT)
        self.slots = Slots(ledger, self.pulse, run_id=run.id, lease_seconds=lease_seconds, clock=utc_now)

    def __enter__(self) -> Worker:
        self.pulse.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self.pulse.__exit__(None, None, None)


def held(ledger: Ledger) -> dict[str, str]:
    with ledger.read() as connection:
        query = select(Lease.stream, Lease.holder).where(Lease.holder.is_not(None), Lease.stream.like("slot:%"))
        return {row.stream: row.holder for row in connection.execute(query)}


def occupy(ledger: Ledger, holder: str, number: int = 0) -> int:
    with ledger.write() as connection:
        return leases.take(
            connection, stream=slot_name("src", number), holder=holder, run_id=None, now=NOW, watcher=leases.Watcher(60)
        ).fence


def _work(together: Any, url: str, folder: str, number: int, count: int, rounds: int) -> int:
    """Hold a slot again and again; answers how many held one at the same time at most, as seen from inside."""
    ledger, most = open_ledger(url), 0
    place = Path(folder) / str(number)
    with Worker(ledger, f"src.s{number}") as worker:
        together.wait()
        for _ in range(rounds):
            with worker.slots.hold("src", count, "a free place"):
                place.touch()
                most = max(most, len(list(Path(folder).iterdir())))
                time.sleep(0.02)
                place.unlink()
    ledger.close()
    return most


@pytest.mark.parametrize("count", [1, 2])
def test_six_processes_never_hold_more_slots_than_there_are(count, ledger, ledger_url, tmp_path):
    folder = tmp_path / "holding"
    folder.mkdir()
    seen = at_once(_work, *[(ledger_url, str(folder), number, count, 3) for number in range(6)])
    assert max(seen) == count
    assert held(ledger) == {}


NAME = "from novade_core.ledger import leases; print(leases.own_name(), flush=True); input()"


def test_the_slot_of_a_dead_process_of_this_machine_is_free_at_once(ledger):
    with subprocess.Popen(
        [sys.executable, "-c", NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as process:
        assert process.stdout is not None
        occupy(ledger, process.stdout.readline().strip())
        process.kill()
    with Worker(ledger, lease_seconds=60) as worker:
        begun = time.monotonic()
        with worker.slots.hold("src", 1, "a free place"):
            assert list(held(ledger).values()) == [leases.own_name()]
        assert time.monotonic() - begun < 2


def test_the_slot_of_a_silent_holder_elsewhere_is_free_after_a_lease(ledger):
    occupy(ledger, "elsewhere-1234abcd:7:7")
    with Worker(ledger) as worker:
        begun = time.monotonic()
        with worker.slots.hold("src", 1, "a free place"):
            took = time.monotonic() - begun
    assert LEASE <= took < 10 * LEASE


def test_a_slot_whose_holder_beats_is_never_taken(ledger):
    """Held for several lease lengths, and the one that waits says that it waits."""
    first, second = Worker(ledger, "src.a"), Worker(ledger, "src.b")
    with first, second:
        with first.slots.hold("src", 1, "a free place"):
            cancelled_at = time.monotonic() + 4 * LEASE
            while time.monotonic() < cancelled_at:
                assert second.slots._free([slot_name("src", 0)]) == []
                time.sleep(0.05)
            ask_to_cancel(ledger, run_id=2, who="ada", now=NOW)
            with pytest.raises(RunCancelled), second.slots.hold("src", 1, "a free place"):
                raise AssertionError("it got a slot")
            assert second.pulse.snapshot()["waiting"] == {"for": "a free place", "until": None}
        assert held(ledger) == {}


@pytest.mark.parametrize("raised", [None, ValueError, KeyboardInterrupt, SystemExit, RunCancelled])
def test_a_slot_is_given_back_however_its_block_ends(raised, ledger):
    with Worker(ledger) as worker:
        try:
            with worker.slots.hold("src", 2, "a free place"):
                assert list(worker.pulse.slots) == list(held(ledger)) == [slot_name("src", 0)]
                if raised is not None:
                    raise raised("It ends here.")
        except (ValueError, KeyboardInterrupt, SystemExit, RunCancelled):
            assert raised is not None
        assert (held(ledger), worker.pulse.slots) == ({}, {})


def test_the_beat_lives_through_slots_that_come_and_go(ledger):
    with Worker(ledger) as worker:
        worker.pulse._interval = 0.001
        for _ in range(60):
            with worker.slots.hold("a", 1, ""), worker.slots.hold("b", 1, ""), worker.slots.hold("c", 1, ""):
                pass
        assert worker.pulse._thread.is_alive()


def test_the_order_is_stream_then_source_then_warehouse(home: Home) -> None:
    """And while it loads, a run keeps nobody from the source."""
    seen: dict[str, set[str]] = {}

    def observer(name: str, _details: Any) -> None:
        found = home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL")
        seen.setdefault(name, {row.stream for row in found})

    home.sync(observer=observer)
    stream, source, warehouse = "salesforce.contact", slot_name("salesforce", 0), slot_name("warehouse", 0)
    assert seen["plan.started"] == seen["land.registered"] == seen["verify.started"] == {stream, source}
    assert seen["load.started"] == seen["load.ended"] == {stream}
    assert seen["load.group"] == seen["load.before_commit"] == {stream, warehouse}
    # All are given back; the warehouse was taken once more to count it, while the source was held.
    taken = home.ledger_rows("SELECT stream, fence FROM leases WHERE holder IS NULL")
    assert {r.stream for r in taken} == {stream, source, warehouse}
    assert {r.stream: r.fence for r in taken}[warehouse] > 1
