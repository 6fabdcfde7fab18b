"""Whole load windows, with crashes and faults, against a pool with a clock of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from novade_core.errors import ConfigurationError, RetryableError
from novade_core.ledger import leases, windows
from novade_core.ledger.database import Ledger, open_ledger
from novade_core.ledger.models import LandedFileRow, Lease, PlanState, Run, RunState, SyncPlan, WindowState
from novade_core.ledger.windows import Window
from novade_core.sync.load_window import Hands, LoadWindows, Rules, Step
from novade_core.warehouse.pool import PoolState, PoolStatus
from tests.templates import sqlite_ledger

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(
    gather=timedelta(minutes=60), idle=timedelta(minutes=5), longest=timedelta(minutes=120), wait=timedelta(minutes=20)
)


class Crash(BaseException):
    """The process ends here."""


class Azure:
    """A pool whose resume and pause take minutes of the test's clock."""

    def __init__(self, state: str = "Paused", takes: timedelta = timedelta(minutes=4)) -> None:
        self.now = NOW
        self.state, self.until, self.then = state, NOW, state
        self.takes = takes
        self.others: list[str] = []
        self.calls: list[str] = []
        self.fault: Exception | None = None
        self.crash: tuple[str, bool] | None = None  #: at which call, and whether Azure still takes it

    def said(self) -> str:
        if self.now >= self.until:
            self.state = self.then
        return self.state

    def status(self) -> PoolStatus:
        if self.fault is not None:
            raise self.fault
        said = self.said()
        known = {"Paused": PoolState.PAUSED, "Online": PoolState.ONLINE}
        return PoolStatus(state=known.get(said, PoolState.MOVING), said=said, size="DW100c")

    def resume(self) -> None:
        self._ask("resume", "Paused", "Resuming", "Online")

    def pause(self) -> None:
        assert not self.others, "somebody else was thrown out"
        self._ask("pause", "Online", "Pausing", "Paused")

    def _ask(self, name: str, before: str, during: str, after: str) -> None:
        crash, self.crash = (self.crash, None) if self.crash and self.crash[0] == name else (None, self.crash)
        if crash and not crash[1]:
            raise Crash
        self.calls.append(name)
        if self.fault is not None:
            raise self.fault
        if self.said() == before:
            self.state, self.then, self.until = during, after, self.now + self.takes
        if crash:
            raise Crash


class World:
    """A ledger, a pool, and workers that come and go."""

    def __init__(self, ledger: Ledger, azure: Azure) -> None:
        self.ledger, self.azure = ledger, azure
        self.asked: list[str] = []
        self.look_fault: Exception | None = None
        self.work: dict[str, Any] | Exception = {"statements": 3, "ms": 900}
        self.worker = self.start()

    def start(self) -> LoadWindows:
        def others() -> tuple[str, ...]:
            assert self.azure.said() == "Online", "a connection to a pool that is not online"
            if self.look_fault is not None:
                raise self.look_fault
            return tuple(self.azure.others)

        def work() -> dict[str, Any]:
            if isinstance(self.work, Exception):
                raise self.work
            return dict(self.work)

        hands = Hands(
            control=self.azure,
            others=others,
            work=work,
            ask=self.ask,
            streams=frozenset({"s.a", "s.b"}),
        )
        return LoadWindows(
            self.ledger, hands, RULES, leases.Watcher(0.05), clock=lambda: self.azure.now, look_seconds=0
        )

    def ask(self, stream: str, now: datetime) -> None:
        self.asked.append(stream)
        with self.ledger.write() as connection:
            connection.execute(
                insert(Run).values(
                    subject=stream, source="s", kind="incremental", state=RunState.QUEUED, origin=windows.ORIGIN,
                    requested_by="novade", requested_at=now, started_at=now,
                )
            )  # fmt: skip

    def land(self, stream: str) -> None:
        """A registered manifest that waits."""
        with self.ledger.write() as connection:
            plan = connection.execute(
                insert(SyncPlan)
                .values(
                    stream=stream, kind="incremental", state=PlanState.OPEN, run_id=1, created_at=self.azure.now,
                    windows=[], columns=[], details={},
                )
                .returning(SyncPlan.id)
            ).scalar_one()  # fmt: skip
            connection.execute(
                insert(LandedFileRow).values(
                    stream=stream, run_id=1, plan_id=plan, window=0, chunk=0, manifest_path=f"m{plan}",
                    load_id=f"l{plan}", files=[], rows=1, rejected=0, bytes=1, window_done=True, fence=1,
                    registered_at=self.azure.now,
                )
            )  # fmt: skip

    def finish_runs(self, state: RunState = RunState.SUCCEEDED) -> None:
        """Runs that windows asked for end; those that succeed have loaded their files."""
        with self.ledger.write() as connection:
            subjects = connection.execute(select(Run.subject).where(Run.state == RunState.QUEUED)).scalars().all()
            connection.execute(
                update(Run).where(Run.state == RunState.QUEUED).values(state=state, ended_at=self.azure.now)
            )
            if state is RunState.SUCCEEDED:
                connection.execute(
                    update(LandedFileRow).where(LandedFileRow.stream.in_(subjects)).values(loaded_at=self.azure.now)
                )

    def crash(self) -> None:
        """The worker is gone; its lease runs out, and another one comes."""
        with self.ledger.write() as connection:
            connection.execute(update(Lease).where(Lease.stream == windows.POOL).values(holder="gone:1:1"))
        self.worker = self.start()
        self.worker.tick()
        time.sleep(0.06)

    def run(self, minutes: float, each: Callable[[], None] = lambda: None) -> list[Step]:
        """Ticks, half a minute of the clock apart."""
        steps: list[Step] = []
        for _ in range(int(minutes * 2)):
            self.azure.now += timedelta(seconds=30)
            try:
                decision = self.worker.tick()
            except Crash:
                self.crash()
                continue
            if decision is not None and (not steps or steps[-1] is not decision.step):
                steps.append(decision.step)
            each()
        return steps

    @property
    def window(self) -> Window:
        return windows.recent(self.ledger, 1)[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = open_ledger(sqlite_ledger(tmp_path / "ledger.sqlite"))
    yield World(ledger, Azure())
    ledger.close()


def test_a_window_from_paused_to_paused(world: World) -> None:
    world.land("s.a")
    world.land("s.b")
    assert world.run(59) == [Step.WAIT]
    assert world.azure.calls == []
    steps = world.run(10)
    assert [s for s in steps if s is not Step.WAIT] == [Step.OPEN, Step.RESUME, Step.ONLINE, Step.LOAD]
    assert world.window.state is WindowState.OPEN
    with world.ledger.read() as connection:
        assert windows.admits_loads(connection)
    assert world.asked == ["s.a", "s.b"]
    world.finish_runs()
    world.run(20)
    window = world.window
    assert window.state is WindowState.CLOSED
    assert world.azure.calls == ["resume", "pause"]
    assert world.azure.said() == "Paused"
    assert (window.ours, window.loads, window.size, window.trouble) == (True, 2, "DW100c", None)
    assert window.work is not None
    assert (window.work["statements"], window.work["ms"]) == (3, 900)
    assert window.reason == "2 streams waited since 2026-03-01 12:00 UTC"
    assert window.resume_asked_at is not None
    assert window.pause_asked_at is not None
    assert window.online_seconds == (window.pause_asked_at - window.resume_asked_at).total_seconds()
    assert window.online_seconds == 14 * 60  # resume 4, loads and their wait 5, idle 5
    assert world.run(5) == [Step.NOTHING]
    with world.ledger.read() as connection:
        assert connection.execute(select(Lease.holder).where(Lease.stream == windows.POOL)).scalar() is None


def test_a_window_on_each_kind_of_ledger(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    world = World(ledger, Azure())
    world.land("s.a")
    world.run(62)
    world.crash()
    world.run(30, each=world.finish_runs)
    assert world.azure.calls == ["resume", "pause"]
    assert (world.window.state, world.window.reason) == (
        WindowState.CLOSED,
        "1 stream waited since 2026-03-01 12:00 UTC",
    )
    ledger.close()


def test_somebody_elses_session_keeps_the_pool_awake_and_is_named(world: World) -> None:
    world.land("s.a")
    world.azure.others = ["bob (SSMS)"]
    world.run(75)
    world.finish_runs()
    world.run(60)
    assert world.window.state is WindowState.CLOSING
    assert world.window.others == ("bob (SSMS)",)
    assert world.window.trouble == "Kept online by bob (SSMS)."
    assert world.azure.calls == ["resume"]
    world.land("s.b")  # the pool is online anyway
    world.run(3)
    assert world.asked == ["s.a", "s.b"]
    world.finish_runs()
    world.azure.others = []
    world.run(20)
    assert world.window.state is WindowState.CLOSED
    assert world.azure.calls == ["resume", "pause"]
    assert world.window.trouble is None


def test_a_pool_that_somebody_else_resumed_is_used_and_left_alone(world: World) -> None:
    world.azure.state = world.azure.then = "Online"
    world.land("s.a")
    world.run(2)
    assert world.asked == ["s.a"]
    world.finish_runs()
    world.run(20)
    assert world.window.state is WindowState.CLOSED
    assert (world.window.ours, world.window.online_seconds, world.window.trouble) == (False, None, None)
    assert world.azure.calls == []
    assert world.azure.said() == "Online"


def test_who_is_quicker_than_we_keeps_the_pool(world: World) -> None:
    windows.ask_for_window(world.ledger, who="ada", now=NOW)
    world.land("s.a")
    world.azure.state = world.azure.then = "Online"
    world.run(2)
    assert not world.window.ours
    world.finish_runs()
    world.run(20)
    assert world.azure.calls == []


@pytest.mark.parametrize("taken", [False, True], ids=["before Azure took it", "after Azure took it"])
@pytest.mark.parametrize("call", ["resume", "pause"])
def test_a_crash_at_a_call_to_azure_is_gone_on_with(world: World, call: str, taken: bool) -> None:
    world.land("s.a")
    world.azure.crash = (call, taken)
    world.run(200, each=world.finish_runs)
    assert world.azure.crash is None
    assert world.azure.said() == "Paused"
    assert [w.state for w in windows.recent(world.ledger)] == [WindowState.CLOSED]
    assert world.asked == ["s.a"]


@pytest.mark.parametrize("minute", range(60, 84, 1))
def test_a_worker_that_dies_at_any_minute_leaves_nothing_online(world: World, minute: int) -> None:
    world.land("s.a")
    world.run(minute, each=world.finish_runs)
    world.crash()
    world.run(60, each=world.finish_runs)
    assert world.azure.said() == "Paused"
    assert world.azure.calls == ["resume", "pause"]
    assert [w.state for w in windows.recent(world.ledger)] == [WindowState.CLOSED]


def test_of_two_workers_one_acts(world: World) -> None:
    world.land("s.a")
    world.run(61)
    second = world.start()
    with world.ledger.write() as connection:
        connection.execute(update(Lease).where(Lease.stream == windows.POOL).values(holder="elsewhere-1:1:1"))
    assert second.tick() is None
    assert second.tick() is None


def test_an_end_while_it_resumes_pauses_what_comes_up(world: World) -> None:
    world.land("s.a")
    world.run(61)
    assert windows.ask_to_end(world.ledger, who="ada", now=world.azure.now) == world.window.id
    world.run(30)
    newest = windows.recent(world.ledger)[-1]
    assert newest.state is WindowState.CLOSED
    assert newest.trouble == "Ended by ada while the pool was being resumed."
    assert world.azure.calls == ["resume", "pause"]


def test_an_end_in_an_open_window_begins_nothing_more(world: World) -> None:
    world.land("s.a")
    world.run(75)
    windows.ask_to_end(world.ledger, who="ada", now=world.azure.now)
    with world.ledger.read() as connection:
        assert not windows.admits_loads(connection)
    world.run(8)
    assert world.window.state is WindowState.CLOSED
    assert world.window.end_asked_by == "ada"
    world.run(45)  # the file still waits, and gathers anew
    assert world.azure.calls == ["resume", "pause"]
    world.run(30)
    assert world.azure.calls == ["resume", "pause", "resume"]


def test_nothing_to_end_is_said(world: World) -> None:
    with pytest.raises(ConfigurationError, match="No load window"):
        windows.ask_to_end(world.ledger, who="ada", now=NOW)


def test_a_resume_that_hangs_is_given_up_and_the_pool_paused_when_it_comes(world: World) -> None:
    world.azure.takes = timedelta(minutes=45)
    world.land("s.a")
    world.run(85)
    assert world.window.state is WindowState.PAUSING
    assert world.window.trouble == "The pool was not online after 20 minutes."
    windows.ask_to_end(world.ledger, who="ada", now=world.azure.now)
    world.run(75)  # up after 45 minutes, down after 45 more
    assert world.azure.calls == ["resume", "pause"]
    assert windows.recent(world.ledger)[-1].state is WindowState.CLOSED


def test_a_pool_that_comes_up_late_is_used_all_the_same(world: World) -> None:
    world.azure.takes = timedelta(minutes=30)
    world.land("s.a")
    world.run(100)
    assert world.window.state is WindowState.OPEN
    assert world.window.trouble is None
    assert world.asked == ["s.a"]


def test_a_pause_that_hangs_is_told(world: World) -> None:
    world.land("s.a")
    world.run(70)
    world.finish_runs()
    world.azure.takes = timedelta(minutes=50)
    world.run(32)
    assert world.window.state is WindowState.PAUSING
    assert world.window.trouble == "The pool is not paused after 20 minutes."
    world.run(30)
    assert world.window.state is WindowState.CLOSED


def test_a_right_that_is_missing_is_told_with_its_next_step(world: World) -> None:
    world.land("s.a")
    world.run(59)
    denied = ConfigurationError("Our identity may not resume the SQL pool.", hint="Assign it the role.")
    world.azure.status = lambda: PoolStatus(state=PoolState.PAUSED, said="Paused", size=None)  # type: ignore[method-assign]  # this fault
    world.azure.fault = denied
    world.run(3)
    assert world.window.state is WindowState.RESUMING
    assert world.window.trouble == "Our identity may not resume the SQL pool. Assign it the role."
    world.run(19)
    assert "Our identity may not resume" in (windows.recent(world.ledger)[-1].trouble or "")


def test_who_cannot_look_does_not_pause_and_says_so(world: World) -> None:
    world.land("s.a")
    world.look_fault = RetryableError("The pool did not answer.")
    world.run(75)
    world.finish_runs()
    world.run(30)
    assert world.azure.calls == ["resume"]
    assert "It cannot be seen who else is in the pool" in (world.window.trouble or "")
    world.look_fault = None
    world.run(10)
    assert world.window.state is WindowState.CLOSED


def test_azure_that_does_not_answer_changes_nothing(world: World) -> None:
    world.land("s.a")
    world.azure.fault = RetryableError("Azure's management was not reached.")
    assert world.run(90) == [Step.WAIT]
    assert windows.recent(world.ledger) == []
    world.azure.fault = None
    world.run(1)
    assert world.window.state is WindowState.RESUMING


def test_files_that_land_while_a_window_is_open_go_with_it(world: World) -> None:
    world.land("s.a")
    world.run(70)
    world.finish_runs()
    world.run(3)
    world.land("s.b")
    world.run(1)
    assert world.asked == ["s.a", "s.b"]


@pytest.mark.parametrize("end", [RunState.FAILED, RunState.PARTIAL])
def test_a_load_that_leaves_files_opens_no_window_again_until_something_new_landed(world: World, end: RunState) -> None:
    world.land("s.a")
    world.run(70)
    world.finish_runs(end)
    world.run(30)
    assert world.window.state is WindowState.CLOSED
    assert world.run(180) == [Step.NOTHING]
    with world.ledger.read() as connection:
        assert windows.waiting(connection, ["s.a"]).stuck == ("s.a",)
    assert world.azure.calls == ["resume", "pause"]
    assert world.asked == ["s.a"]
    world.land("s.a")
    world.run(70)
    assert world.asked == ["s.a", "s.a"]


def test_a_load_that_failed_is_tried_again_after_a_run_that_found_nothing_new(world: World) -> None:
    world.land("s.a")
    world.run(70)
    world.finish_runs(RunState.FAILED)
    world.run(30)
    with world.ledger.write() as connection:
        connection.execute(
            insert(Run).values(
                subject="s.a", source="s", kind="full", state=RunState.LANDED, origin="person", requested_by="p",
                requested_at=world.azure.now, started_at=world.azure.now, ended_at=world.azure.now,
            )
        )  # fmt: skip
    world.run(70)
    assert world.asked == ["s.a", "s.a"]


def test_a_pool_that_somebody_else_resumes_stays_when_a_window_that_asked_for_nothing_is_ended(world: World) -> None:
    azure = world.azure
    azure.state, azure.then, azure.until = "Resuming", "Online", azure.now + azure.takes
    windows.ask_for_window(world.ledger, who="anna", now=azure.now)
    assert world.run(1) == [Step.WAIT]
    windows.ask_to_end(world.ledger, who="anna", now=azure.now)
    world.run(15)
    assert (azure.calls, azure.said(), world.window.state) == ([], "Online", WindowState.CLOSED)


def test_files_of_a_stream_that_is_gone_open_no_window(world: World) -> None:
    world.land("s.gone")
    assert world.run(70) == [Step.NOTHING]


def test_a_window_has_an_end_even_where_loads_have_none(world: World) -> None:
    world.land("s.a")
    world.run(70)
    world.run(125)
    first = windows.recent(world.ledger)[-1]
    assert first.state is WindowState.CLOSED
    assert world.azure.calls[:2] == ["resume", "pause"]


def test_what_is_written_without_the_lease_is_refused(world: World) -> None:
    world.land("s.a")
    world.run(61)
    with world.ledger.write() as connection:
        connection.execute(update(Lease).where(Lease.stream == windows.POOL).values(fence=Lease.fence + 1))
    assert world.worker.tick() is None
    assert world.window.state is WindowState.RESUMING
