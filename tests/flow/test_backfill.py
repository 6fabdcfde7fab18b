"""Backfills against the stand-in: nothing newer is touched, normal syncs go between, and what breaks is read again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import select, text

from jobs.execute import perform
from jobs.scheduler import start_worker
from novade_core.ledger import backfills, leases
from novade_core.ledger.backfill_views import Summary, grid, preview, summary
from novade_core.ledger.models import BackfillState, Lease, RunState
from novade_core.ledger.queue import abandon, queued
from novade_core.streams import RunKind
from novade_core.wiring import utc_now
from tests.flow.test_worker import until
from tests.homes import PROJECT, STREAMS, Home, Sandbox

#: Some months of the small org, each with records.
SINCE = utc_now().replace(hour=6, minute=30, second=0, microsecond=0) - timedelta(days=400)
UNTIL = SINCE + timedelta(days=100)
CONTACT = "salesforce.contact"


def begin(home: Home, **more: Any) -> int:
    """Open a backfill of four or five months."""
    given = {"since": SINCE, "until": UNTIL, "chunk": "month", "newest_first": False, "scope": "all"} | more
    stream = home.environment.stream(CONTACT)
    return backfills.start(home.services.ledger, stream=stream, who="ada", now=utc_now(), **given)


def step(home: Home) -> int | None:
    """What a worker does in one round: feed, take the most urgent run, perform it. The run, None where none waits."""
    backfills.feed(home.services.ledger, now=utc_now())
    with home.services.ledger.read() as connection:
        waiting = queued(connection, utc_now() + timedelta(hours=1))
    if not waiting:
        return None
    perform(home.services, waiting[0].id)
    return int(waiting[0].id)


def work(home: Home) -> list[int]:
    """Rounds until nothing waits."""
    done = []
    while (run := step(home)) is not None:
        done.append(run)
    return done


def facts(home: Home, number: int) -> Summary:
    return summary(home.services.ledger, number)


def states(home: Home, number: int) -> list[str]:
    return [chunk.state for chunk in grid(home.services.ledger, number)]


def checkpoint(home: Home) -> list[Any]:
    return home.ledger_rows("SELECT * FROM checkpoints")


def forget_loads(home: Home, plan: int) -> int:
    """As if what a plan landed had never been loaded; the number of manifests."""
    rows = home.ledger_rows("SELECT id, load_id FROM landed_files WHERE plan_id = :plan", plan=plan)
    with home.services.ledger.write() as connection:
        connection.execute(text("UPDATE landed_files SET loaded_at = NULL WHERE plan_id = :plan"), {"plan": plan})
    with duckdb.connect(str(home.environment.warehouse.path)) as outside:
        outside.execute("DELETE FROM novade.novade_loads WHERE list_contains(?, load_id)", [[r.load_id for r in rows]])
    return len(rows)


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_older_manifests_after_newer_ones_change_and_revive_nothing(
    tmp_path: Path, sandbox: Sandbox, deletes: str
) -> None:
    streams = STREAMS.replace('"salesforce.contact" = {}', f'"salesforce.contact" = {{ delete_mode = "{deletes}" }}')
    home = Home.make(tmp_path, sandbox, streams=streams)
    home.sync()
    whole = home.table()
    gone = sandbox.change(update=25, delete=12)["delete"]
    home.sync()
    content, moved = home.table(), checkpoint(home)
    assert content != whole
    # The first sync's manifests, with every record as it was, are offered again by the first window's run.
    assert forget_loads(home, 1) > 0
    number = begin(home)
    runs = work(home)
    assert home.table() == content
    assert checkpoint(home) == moved
    [again] = home.ledger_rows("SELECT superseded, unchanged, loaded FROM runs WHERE id = :run", run=runs[0])
    assert (again.loaded, again.superseded) == (0, 37)
    assert again.superseded + again.unchanged >= len(whole)
    assert facts(home, number).state is BackfillState.DONE
    kept = home.query("SELECT IsDeleted FROM salesforce.contact WHERE list_contains(?, Id)", gone)
    assert kept == ([] if deletes == "hard" else [(True,)] * 12)
    # And another one over the same time, the other way round, finds everything as it should be.
    begin(home, newest_first=True, chunk="week")
    work(home)
    assert home.table() == content


def test_what_is_missing_in_the_warehouse_comes_back_and_the_checkpoint_stays(home: Home) -> None:
    home.sync()
    content, moved = home.table(), checkpoint(home)
    lost = "SystemModstamp >= ? AND SystemModstamp < ?"
    ends = [SINCE.replace(tzinfo=None), UNTIL.replace(tzinfo=None)]
    [(rows,)] = home.query(f"SELECT count(*) FROM salesforce.contact WHERE {lost}", *ends)
    assert rows > 0
    with duckdb.connect(str(home.environment.warehouse.path)) as outside:
        outside.execute(f"DELETE FROM salesforce.contact WHERE {lost}", ends)
    number = begin(home)
    work(home)
    assert home.table() == content
    assert checkpoint(home) == moved
    done = facts(home, number)
    assert (done.windows, done.read, done.rows) == (len(states(home, number)), done.windows, rows)
    assert done.headline == f"{done.windows} windows: {done.windows} read; {rows:,} rows."
    assert [c.rows for c in grid(home.services.ledger, number)] == [
        row.expected
        for row in home.ledger_rows(
            "SELECT json_extract(windows, '$[0].expected') AS expected FROM sync_plans"
            " WHERE kind = 'backfill' ORDER BY id"
        )
    ]


def test_a_backfill_before_the_first_sync_leaves_it_to_come(home: Home) -> None:
    begin(home)
    work(home)
    assert checkpoint(home) == []
    outcome = home.sync()
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def test_normal_syncs_go_between_the_windows(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    number = begin(home)
    first = step(home)
    backfills.feed(home.services.ledger, now=utc_now())
    [waiting] = home.ledger_rows("SELECT id FROM runs WHERE state = 'queued'")
    sandbox.change(update=3, new=2)
    between = home.ask()
    assert between > waiting.id > (first or 0)
    assert step(home) == between
    assert home.ledger_rows("SELECT loaded FROM runs WHERE id = :run", run=between)[0].loaded == 5
    assert step(home) == waiting.id
    work(home)
    assert facts(home, number).read == facts(home, number).windows


def test_missing_reads_nothing_that_was_read(home: Home) -> None:
    asked = {
        "stream": home.environment.stream(CONTACT), "since": SINCE, "until": UNTIL, "chunk": "month",
        "newest_first": False, "now": utc_now(),
    }  # fmt: skip
    ledger = home.services.ledger
    assert len(preview(ledger, **asked, scope="missing").read) == len(preview(ledger, **asked, scope="all").chunks)
    home.sync(kind=RunKind.BACKFILL, since=SINCE, until=SINCE + timedelta(days=45))
    proposal = preview(ledger, **asked, scope="missing")
    there = [c.high <= SINCE + timedelta(days=45) for c in proposal.chunks]
    assert [c.left_out is not None for c in proposal.chunks] == there
    assert True in there
    assert False in there
    home.sync()
    assert preview(ledger, **asked, scope="missing").read == ()
    expected = sum(c.expected or 0 for c in preview(ledger, **asked, scope="all").chunks)
    [(rows,)] = home.query(
        "SELECT count(*) FROM salesforce.contact WHERE SystemModstamp >= ? AND SystemModstamp < ?",
        SINCE.replace(tzinfo=None),
        UNTIL.replace(tzinfo=None),
    )
    # Rows are taken for evenly spread over a window of the history, so this is a size and no count.
    assert 0 < expected <= 40 * max(rows, 1)


def test_pause_in_the_middle_of_a_window_lets_it_end(home: Home) -> None:
    home.sync()
    number = begin(home)
    step(home)
    backfills.feed(home.services.ledger, now=utc_now())
    [run] = home.ledger_rows("SELECT id FROM runs WHERE state = 'queued'")

    def observer(name: str, _details: object) -> None:
        if name == "extract.batch" and facts(home, number).state is BackfillState.OPEN:
            backfills.pause(home.services.ledger, number, "ada", utc_now())

    assert perform(home.services, run.id, observer).state is RunState.SUCCEEDED
    assert facts(home, number).state is BackfillState.PAUSED
    assert step(home) is None
    assert facts(home, number).read == 2
    backfills.continue_(home.services.ledger, number, "ada", utc_now())
    work(home)
    assert set(states(home, number)) == {"succeeded"}


def test_cancel_in_the_middle_of_a_window_ends_it(home: Home) -> None:
    home.sync()
    content = home.table()
    number = begin(home)
    backfills.feed(home.services.ledger, now=utc_now())
    [run] = home.ledger_rows("SELECT id FROM runs WHERE state = 'queued'")

    def observer(name: str, _details: object) -> None:
        if name == "plan.ended":
            backfills.cancel(home.services.ledger, number, "ada", utc_now())
            time.sleep(3 * home.environment.worker.beat_seconds)  # until the run has looked

    assert perform(home.services, run.id, observer).state is RunState.CANCELLED
    assert step(home) is None
    assert states(home, number)[0] == "cancelled"
    assert set(states(home, number)[1:]) == {"left out"}
    assert home.table() == content
    backfills.again(home.services.ledger, number, "missing", who="ada", now=utc_now())
    work(home)
    assert set(states(home, number)) == {"succeeded"}


def test_a_window_that_fails_does_not_stop_the_next_and_is_read_again(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    number = begin(home)
    step(home)
    sandbox.faults(bad_credentials=True)
    step(home)
    sandbox.faults(bad_credentials=None)
    work(home)
    windows = facts(home, number).windows
    assert facts(home, number).headline.startswith(f"{windows} windows: {windows - 1} read, 1 failed; ")
    assert states(home, number)[1] == "failed"
    assert backfills.again(home.services.ledger, number, "failed", who="ada", now=utc_now()) == 1
    assert len(work(home)) == 1
    assert (facts(home, number).read, facts(home, number).state) == (windows, BackfillState.DONE)


@pytest.mark.parametrize("point", ["extract.batch", "land.registered", "load.before_commit", "load.committed"])
def test_a_window_killed_at(point: str, home: Home) -> None:
    home.sync()
    content, moved = home.table(), checkpoint(home)
    number = begin(home)
    step(home)
    backfills.feed(home.services.ledger, now=utc_now())
    [run] = home.ledger_rows("SELECT id FROM runs WHERE state = 'queued'")
    done = subprocess.run(
        [sys.executable, "-m", "tests.flow.killed", str(home.folder), str(run.id), point, "1"],
        cwd=PROJECT, env=home.environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    # As the supervisor does that finds the process gone.
    with home.services.ledger.write() as connection:
        held = connection.execute(select(Lease.holder, Lease.beat).where(Lease.stream == CONTACT)).one()
        assert leases.take_away(connection, stream=CONTACT, holder=held.holder, beat=held.beat, run_id=run.id)
        assert abandon(connection, run_id=run.id, now=utc_now())
    assert backfills.feed(home.services.ledger, now=utc_now()) == 0, "its retry is the window's next try"
    retry = step(home)
    [tried] = home.ledger_rows("SELECT retry_of, backfill_id, attempt FROM runs WHERE id = :run", run=retry)
    assert (tried.retry_of, tried.backfill_id, tried.attempt) == (run.id, number, 2)
    plans = home.ledger_rows("SELECT state FROM sync_plans WHERE run_id = :run", run=retry)
    assert plans == [], "it goes on with the plan of the one that died"
    work(home)
    assert facts(home, number).headline.startswith(f"{facts(home, number).windows} windows: ")
    assert facts(home, number).read == facts(home, number).windows
    assert grid(home.services.ledger, number)[1].run_id == retry
    assert (home.table(), checkpoint(home)) == (content, moved)


def test_a_real_worker_fills_the_grid(home: Home) -> None:
    home.sync()
    content = home.table()
    number = begin(home, newest_first=True)
    worker = start_worker(home.environment)
    try:
        until(lambda: facts(home, number).state is BackfillState.DONE, 90)
    finally:
        worker.stop()
    chunks = grid(home.services.ledger, number)
    assert {c.state for c in chunks} == {"succeeded"}
    runs = [c.run_id for c in chunks]
    assert runs == sorted(r for r in runs if r is not None)
    assert chunks[0].high == UNTIL
    assert home.table() == content


def test_everything_by_command(home: Home) -> None:
    window = ("--since", SINCE.isoformat(), "--until", UNTIL.isoformat())

    def backfill(*arguments: str, code: int = 0) -> Any:
        done = home.jobs("backfill", *arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    dry = backfill("start", CONTACT, *window, "--oldest-first", "--dry-run")
    assert (dry["windows"], dry["left_out"]) == (len(dry["chunks"]), 0)
    assert backfill("list") == []
    begun = backfill("start", CONTACT, *window, "--oldest-first", "--chunk", "month", "--scope", "missing")
    number = str(begun["id"])
    assert (begun["state"], begun["windows"], begun["newest_first"]) == ("open", dry["windows"], False)
    refused = backfill("start", CONTACT, *window, code=1)
    assert f"backfill cancel {number}" in refused["hint"]
    assert backfill("start", CONTACT, *window, "--chunk", "hour", code=2)["class"] == "BadWindow"
    assert backfill("pause", number)["state"] == "paused"
    assert step(home) is None
    assert backfill("continue", number)["state"] == "open"
    assert step(home) is not None
    assert backfill("cancel", number)["state"] == "cancelled"
    shown = backfill("show", number)
    assert [c["state"] for c in shown["chunks"]] == ["succeeded"] + ["left out"] * (dry["windows"] - 1)
    assert "failed again" in backfill("again", number, code=1)["error"]
    assert backfill("again", number, "--which", "missing")["waiting"] == dry["windows"] - 1
    assert [f["id"] for f in backfill("list")] == [begun["id"]]
    said = home.jobs("backfill", "show", number)
    assert "is open" in said.stderr
    assert "succeeded" in said.stdout
    assert home.jobs("backfill", "start", "salesforce.nothing", *window).returncode == 2
