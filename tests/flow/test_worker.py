"""The worker: queued runs are executed in child processes, and what dead ones left is put right."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jobs.scheduler import start_worker
from novade_core.ledger.models import RunState
from novade_core.ledger.requests import ask_to_cancel
from novade_core.sections import ServerlessSettings
from novade_core.wiring import build_services, utc_now
from tests.homes import PROJECT, Home, Sandbox


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """Wait for something to become true; answers it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def states(home: Home) -> dict[str, str]:
    return {row.subject: row.state for row in home.ledger_rows("SELECT subject, state FROM runs ORDER BY id")}


def with_first_sync(home: Home) -> Home:
    text = (home.folder / "novade.toml").read_text().replace("first_sync = false", "first_sync = true")
    (home.folder / "novade.toml").write_text(text)
    return Home.open(home.folder)


def test_a_fresh_start_syncs_every_stream_by_itself(home: Home) -> None:
    home = with_first_sync(home)
    worker = start_worker(home.environment)
    try:
        until(lambda: len(states(home)) == 7 and set(states(home).values()) == {"succeeded"}, 60)
    finally:
        worker.stop()
    assert {row.origin for row in home.ledger_rows("SELECT origin FROM runs")} == {"start"}
    workers = home.ledger_rows("SELECT stopped_at FROM workers")
    assert len(workers) == 1
    assert workers[0].stopped_at is not None
    # A second start asks for nothing: every stream has been loaded.
    worker = start_worker(home.environment)
    worker.stop()
    assert len(home.ledger_rows("SELECT id FROM runs")) == 7


def test_a_killed_child_is_noticed_and_its_run_is_done_again(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(slow=0.4)
    run_id = home.ask()
    worker = start_worker(home.environment)
    try:
        running = "SELECT worker FROM runs WHERE id = :r AND state = 'running'"
        holder = until(lambda: home.ledger_rows(running, r=run_id))[0].worker
        pid = int(holder.split(":")[-2])
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        sandbox.faults(slow=None)
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE origin = 'retry' AND state = 'succeeded'"))
    finally:
        worker.stop()
    first, retry = home.ledger_rows("SELECT * FROM runs ORDER BY id")
    assert (first.state, first.error_kind) == ("abandoned", "WorkerVanished")
    assert (retry.attempt, retry.source_count == retry.warehouse_count) == (2, True)


def test_the_process_of_a_run_goes_behind_the_pages(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(slow=0.4)
    run_id = home.ask()
    worker = start_worker(home.environment)
    try:
        running = "SELECT worker FROM runs WHERE id = :r AND state = 'running'"
        holder = until(lambda: home.ledger_rows(running, r=run_id))[0].worker
        priority = os.getpriority(os.PRIO_PROCESS, int(holder.split(":")[-2]))
        assert priority == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        sandbox.faults(slow=None)
    finally:
        worker.stop()


def test_a_running_sync_can_be_cancelled(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(slow=0.3)
    run_id = home.ask()
    worker = start_worker(home.environment)
    try:
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE id = :r AND state = 'running'", r=run_id))
        ask_to_cancel(home.services.ledger, run_id=run_id, who="test", now=utc_now())
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE id = :r AND state = 'cancelled'", r=run_id), 20)
        sandbox.faults(slow=None)
    finally:
        worker.stop()
    assert home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL") == []
    assert home.sync().state is RunState.SUCCEEDED


def test_stopping_the_worker_leaves_its_run_resumable(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(slow=0.4)
    run_id = home.ask()
    worker = start_worker(home.environment)
    until(lambda: home.ledger_rows("SELECT id FROM runs WHERE id = :r AND state = 'running'", r=run_id))
    begun = time.monotonic()
    worker.stop()
    assert time.monotonic() - begun < 10
    sandbox.faults(slow=None)
    assert home.ledger_rows("SELECT state FROM runs WHERE id = :r", r=run_id)[0].state == "abandoned"
    [retry] = home.ledger_rows("SELECT state FROM runs WHERE origin = 'retry'")
    assert retry.state == "queued"
    assert home.sync().counts["source_count"]


def test_a_command_follows_the_worker_that_lives(home: Home) -> None:
    script = "import sys; from jobs.__main__ import app; app(['worker'])"
    worker = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, env=home.environ)
    try:
        until(lambda: home.ledger_rows("SELECT id FROM workers"))
        done = home.jobs("sync", "salesforce.user")
        assert done.returncode == 0, done.stderr
        [run] = home.ledger_rows("SELECT worker FROM runs")
        assert int(run.worker.split(":")[-2]) not in (worker.pid, os.getpid())
    finally:
        worker.terminate()
        assert worker.wait(timeout=15) == 0


def test_a_run_whose_child_cannot_start_fails_with_the_command_to_try(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "executable", str(Path("/bin/false")))
    run_id = home.ask()
    worker = start_worker(home.environment)
    try:
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE state = 'failed'"))
    finally:
        worker.stop()
    [run] = home.ledger_rows("SELECT error_kind, error_hint FROM runs WHERE id = :r", r=run_id)
    assert run.error_kind == "WorkerBroken"
    assert f"jobs execute {run_id}" in run.error_hint


@pytest.mark.parametrize(
    ("has_views", "state", "idle", "is_killed"),
    [
        (False, "succeeded", 10, True),
        (True, "landed", 10, False),
        (True, "abandoned", 10, True),
        (True, "landed", 301, True),
    ],
)
def test_a_child_that_renews_a_view_after_its_run_has_time(
    home: Home, has_views: bool, state: str, idle: float, is_killed: bool
) -> None:
    from jobs.supervisor import Child, Supervisor

    run_id = home.ask()
    with home.services.ledger.write() as connection:
        connection.execute(text("UPDATE runs SET state = :s, ended_at = requested_at"), {"s": state})
    views = ServerlessSettings() if has_views else None
    environment = home.environment.model_copy(update={"serverless": views})
    supervisor = Supervisor(build_services(environment))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        child = Child(process=process, run_id=run_id, subject="salesforce.contact", source="salesforce")
        child.idle_since = time.monotonic() - idle
        supervisor._children.append(child)
        supervisor.look(more=False)
        if is_killed:
            assert process.wait(timeout=10) == -signal.SIGKILL
        else:
            time.sleep(0.2)
            assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_an_abandoned_run_that_wakes_can_neither_register_nor_move_the_checkpoint(home: Home) -> None:
    from jobs.supervisor import Supervisor

    def observer(name: str, details: Any) -> None:
        if name == "land.manifest":
            [lease] = home.ledger_rows("SELECT * FROM leases WHERE holder IS NOT NULL AND stream LIKE '%.%'")
            Supervisor(home.services)._abandon(1, lease.stream, lease.holder, lease.beat)

    outcome = home.sync(observer=observer)
    assert outcome.error is not None
    assert outcome.error.kind == "LeaseLost"
    assert home.ledger_rows("SELECT id FROM landed_files") == []
    assert home.ledger_rows("SELECT stream FROM checkpoints") == []
    assert [r.state for r in home.ledger_rows("SELECT state FROM runs ORDER BY id")] == ["abandoned", "queued"]
    assert home.sync().state is RunState.SUCCEEDED


def test_a_holder_that_beats_is_not_abandoned(home: Home) -> None:
    from jobs.supervisor import Supervisor

    def observer(name: str, details: Any) -> None:
        if name == "load.started":
            [lease] = home.ledger_rows("SELECT * FROM leases WHERE holder IS NOT NULL AND stream LIKE '%.%'")
            Supervisor(home.services)._abandon(1, lease.stream, lease.holder, lease.beat - 1)

    assert home.sync(observer=observer).state is RunState.SUCCEEDED


def test_a_locked_ledger_makes_nobody_dead(home: Home, sandbox: Sandbox) -> None:
    """While nobody can write, no beat can move; a watcher that could not write either judges nobody."""
    sandbox.faults(slow=0.3)
    run_id = home.ask()
    worker = start_worker(home.environment)
    try:
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE id = :r AND state = 'running'", r=run_id))
        with sqlite3.connect(home.environment.ledger_url.removeprefix("sqlite:///"), isolation_level=None) as locker:
            locker.execute("BEGIN IMMEDIATE")
            time.sleep(home.environment.worker.lease_seconds * 2)
            locker.execute("ROLLBACK")
        sandbox.faults(slow=None)
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE id = :r AND state = 'succeeded'", r=run_id))
    finally:
        worker.stop()
    assert len(home.ledger_rows("SELECT id FROM runs")) == 1


def test_a_worker_that_a_power_cut_took_holds_up_no_command(home: Home) -> None:
    from sqlalchemy import insert

    from novade_core.ledger.models import WorkerRow

    with home.services.ledger.write() as connection:
        connection.execute(
            insert(WorkerRow).values(id="oldhost-dead:1:1", kind="console", started_at=utc_now(), beat=9)
        )
    done = home.jobs("sync", "salesforce.user", timeout=60)
    assert done.returncode == 0, done.stderr
    worker = start_worker(home.environment)
    try:
        gone = "SELECT id FROM workers WHERE id LIKE 'oldhost%' AND stopped_at IS NOT NULL"
        until(lambda: home.ledger_rows(gone), 20)
    finally:
        worker.stop()
