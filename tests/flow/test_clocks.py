"""Clocks that jump: who schedules then, what is booked, what runs. docs/operations.md states the results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from jobs.leader import Leader
from novade_core.ledger import leases, schedules
from novade_core.ledger.models import Fire, Lease, Run, RunState, ScheduleRow
from novade_core.ledger.queue import try_again
from novade_core.wiring import utc_now
from tests.flow.test_worker import until
from tests.homes import PROJECT, Home, Sandbox
from tests.ledgers import KINDS, url_of

SCHEDULE = """
[environments.test.ledger]
url = "{url}"

[schedules."every second"]
streams = []
every_seconds = {every}
outage = "{outage}"
"""


def make(folder: Path, sandbox: Sandbox, url: str, *, every: int = 1, outage: str = "once", **worker: float) -> Home:
    Home.make(folder, sandbox)
    file = folder / "novade.toml"
    text = file.read_text()
    for name, value in worker.items():
        text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{name} = "))
        text = text.replace("[environments.test.worker]\n", f"[environments.test.worker]\n{name} = {value}\n")
    file.write_text(text + SCHEDULE.format(url=url, every=every, outage=outage))
    return Home.open(folder)


@contextmanager
def shifted(home: Home, file: Path) -> Iterator[str]:
    """A worker whose clock is off by what ``file`` says, in seconds; answers its name."""
    file.write_text("0")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.flow.shifted", str(home.folder), str(file)], cwd=PROJECT, env=home.environ
    )
    try:
        yield until(lambda: [n for n in names(home) if int(n.split(":")[-2]) == process.pid])[0]
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def names(home: Home) -> list[str]:
    return [row.id for row in home.ledger_rows("SELECT id FROM workers")]


def fires(home: Home) -> list[Any]:
    with home.services.ledger.read() as connection:
        query = select(Fire.promised, Fire.state, Fire.booked_by).join(ScheduleRow).order_by(Fire.promised)
        return list(connection.execute(query.where(ScheduleRow.name == "every second")).all())


def leader(home: Home) -> str | None:
    with home.services.ledger.read() as connection:
        return connection.execute(select(Lease.holder).where(Lease.stream == "novade:scheduler")).scalar()


def set_offset(file: Path, seconds: float) -> None:
    """At once, so that nobody reads half of it."""
    (file.parent / "new").write_text(str(seconds))
    os.replace(file.parent / "new", file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_jumps_an_hour_and_back_beside_a_steady_one(kind: str, tmp_path: Path, sandbox: Sandbox) -> None:
    with url_of(kind, tmp_path) as url:
        home = make(tmp_path, sandbox, url)
        wrong = tmp_path / "wrong"
        (tmp_path / "right").mkdir()
        wrong.mkdir()
        with shifted(home, wrong / "offset") as jumping:
            until(lambda: leader(home) == jumping and len(fires(home)) >= 2)
            with shifted(home, tmp_path / "right" / "offset") as steady:
                retry = _retry_in(home, 1800)
                for offset in (3600, 0):
                    set_offset(wrong / "offset", offset)
                    until(lambda: leader(home) == steady, 5)
                    if offset:
                        # On the fast clock the retry's time has come. It runs early, and once.
                        until(lambda: _state(home, retry) == "succeeded")
                    count = len(fires(home))
                    until(lambda count=count: len(fires(home)) >= count + 2)
                # Nobody was taken for dead, and the jumping one is there to lead again.
                assert [r.stopped_at for r in home.ledger_rows("SELECT stopped_at FROM workers")] == [None, None]
                time.sleep(2 * home.environment.worker.lease_seconds)
            until(lambda: leader(home) == jumping, 10)
            count = len(fires(home))
            until(lambda: len(fires(home)) >= count + 2)
        booked = fires(home)
        home.services.ledger.close()
    promised = [row.promised for row in booked]
    # Every second once: none left out, none of an hour that has not come.
    assert promised == [promised[0] + timedelta(seconds=n) for n in range(len(promised))]
    assert promised[-1] <= utc_now()
    assert {row.state for row in booked} == {"on time"}
    owners = [row.booked_by for row in booked]
    changes = [name for n, name in enumerate(owners) if n == 0 or owners[n - 1] != name]
    assert changes == [jumping, steady, jumping]


def _retry_in(home: Home, seconds: float) -> int:
    """A failed run whose next attempt is due then."""
    with home.services.ledger.write() as connection:
        failed = connection.execute(
            insert(Run)
            .values(
                subject="salesforce.user", source="salesforce", kind="incremental", state=RunState.FAILED,
                origin="command", requested_by="test", requested_at=utc_now(), priority=10, attempt=1, parameters={},
            )
            .returning(Run.__table__)
        ).one()  # fmt: skip
        assert try_again(connection, failed, now=utc_now(), retry_seconds=(0.0,), at_least=seconds)
        return connection.execute(select(Run.id).where(Run.retry_of == failed.id)).scalar_one()


def _state(home: Home, run_id: int) -> str:
    return str(home.ledger_rows("SELECT state FROM runs WHERE id = :r", r=run_id)[0].state)


# --- one worker alone ---------------------------------------------------------------------------------------------


class Alone:
    """The scheduling of one worker, with a clock that can be set."""

    def __init__(self, home: Home) -> None:
        self.home, self.offset = home, 0.0
        environment = home.environment
        schedules.seed(home.services.ledger, environment.schedules, now=self.clock())
        self.watcher = leases.Watcher(environment.worker.lease_seconds)
        self.leader = Leader(home.services, self.watcher, clock=self.clock)

    def clock(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset)

    def work(self, seconds: float) -> None:
        """Tick for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.leader.tick()
            self.watcher.note_write()
            time.sleep(0.02)


@pytest.mark.parametrize(("outage", "late"), [("once", 1), ("all", 60), ("skip", 0)])
def test_alone_a_clock_that_jumped_ahead_is_taken_for_good_after_two_leases(
    outage: str, late: int, tmp_path: Path, sandbox: Sandbox
) -> None:
    home = make(tmp_path, sandbox, f"sqlite:///{tmp_path}/l.sqlite", every=60, outage=outage, lease_seconds=0.5)
    alone = Alone(home)
    alone.work(0.2)
    before = len(fires(home))
    alone.offset = 3600
    alone.work(0.6)
    assert not alone.leader.leads
    assert len(fires(home)) == before
    alone.work(0.8)
    assert alone.leader.leads
    owed = fires(home)[before:]
    # The hour that the clock left out is owed as after an outage; a minute may have begun meanwhile.
    assert 60 <= len(owed) <= 61
    states = [row.state for row in owed]
    assert abs(states.count("late") - late) <= 1
    assert states.count("late") + states.count("missed") + states.count("on time") == len(owed)


def test_alone_a_clock_that_jumped_back_books_nothing_twice(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, f"sqlite:///{tmp_path}/l.sqlite", lease_seconds=0.3, clock_step_seconds=1)
    alone = Alone(home)
    alone.work(2.2)
    before = fires(home)
    assert before
    alone.offset = -3
    alone.work(1.5)
    assert alone.leader.leads
    # The clock shows instants that are booked: nothing is owed, and nothing asked for again.
    assert fires(home) == before
    alone.work(3)
    after = fires(home)
    promised = [row.promised for row in after]
    assert len(after) > len(before)
    assert promised == [promised[0] + timedelta(seconds=n) for n in range(len(promised))]
    assert {row.state for row in after} == {"on time"}


def test_a_jump_while_instants_are_booked_books_none_of_the_wrong_hour(tmp_path: Path, sandbox: Sandbox) -> None:
    """Booking waits for the ledger, so the clock is held against the machine's count once more inside."""
    home = make(tmp_path, sandbox, f"sqlite:///{tmp_path}/l.sqlite", lease_seconds=0.3)
    alone = Alone(home)
    alone.work(0.2)
    before = fires(home)
    time.sleep(1.1)  # one is due now
    looks = 0
    steady = alone.clock

    def clock() -> datetime:
        nonlocal looks
        looks += 1
        return steady() + timedelta(hours=1 if looks > 2 else 0)

    alone.leader._clock = clock
    alone.leader.tick()
    assert looks == 3  # at the tick, before the transaction, and in it
    assert fires(home) == before
    assert not alone.leader.leads


def test_a_lease_is_judged_without_anybodys_clock(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, f"sqlite:///{tmp_path}/l.sqlite", lease_seconds=0.5)
    alone = Alone(home)
    alone.offset = -86_400
    stream = "salesforce.contact"
    with home.services.ledger.write() as connection:
        leases.take(
            connection, stream=stream, holder="elsewhere-1:1:1", run_id=1, now=alone.clock(), watcher=alone.watcher
        )
    for offset in (0, 3600, -3600):
        alone.offset = offset
        assert not alone.watcher.is_expired(stream, "elsewhere-1:1:1", 1)
    time.sleep(0.6)
    assert alone.watcher.is_expired(stream, "elsewhere-1:1:1", 1)
