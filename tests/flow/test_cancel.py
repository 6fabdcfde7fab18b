"""A cancel ends a run wherever it is; afterwards nothing is held, and the next sync brings what is missing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.execute import perform
from jobs.scheduler import start_worker
from novade_core.ledger import leases
from novade_core.ledger.models import RunState
from novade_core.ledger.requests import ask_to_cancel
from novade_core.streams import RunKind
from novade_core.sync.slots import slot_name
from novade_core.warehouse.duckdb_session import DuckDBSession
from novade_core.wiring import utc_now
from tests.flow.test_worker import until
from tests.homes import Home, Sandbox

#: How long a cancelled run may take to end here; where nobody set shorter waits it is 30 s.
SECONDS = 12
#: A statement that would run for minutes.
LONG = "SELECT sum(range) FROM range(1000000000000)"


def cancel(home: Home, run_id: int) -> None:
    ask_to_cancel(home.services.ledger, run_id=run_id, who="test", now=utc_now())


def one(home: Home, run_id: int) -> Any:
    return home.ledger_rows("SELECT * FROM runs WHERE id = :r", r=run_id)[0]


def held(home: Home) -> list[str]:
    found = home.ledger_rows("SELECT stream FROM leases WHERE holder IS NOT NULL AND stream NOT LIKE 'novade:%'")
    return [row.stream for row in found]


def is_clean(home: Home, *, retries: int = 0) -> None:
    """Nothing is held, nobody tries it again, and the next sync brings the warehouse equal to the source."""
    until(lambda: held(home) == [], 5)
    assert len(home.ledger_rows("SELECT id FROM runs WHERE origin = 'retry'")) == retries
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"] > 0
    assert home.sync().counts["loaded"] == 0


@contextmanager
def worker_of(home: Home) -> Iterator[None]:
    worker = start_worker(home.environment)
    try:
        yield
    finally:
        worker.stop()


def ended(home: Home, run_id: int) -> Any:
    """The cancelled run's row once it has ended; the time from the cancel to its end is checked."""
    until(lambda: one(home, run_id).ended_at, SECONDS + 5)
    run = one(home, run_id)
    took = run_times(home, run_id)
    assert took < SECONDS, f"the cancel took {took:.1f} s"
    return run


def run_times(home: Home, run_id: int) -> float:
    """Seconds from the cancel to the end."""
    from sqlalchemy import select

    from novade_core.ledger.models import Run

    with home.services.ledger.read() as connection:
        row = connection.execute(select(Run.cancel_requested_at, Run.ended_at).where(Run.id == run_id)).one()
    return float((row.ended_at - row.cancel_requested_at).total_seconds())


# --- in a worker's child ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "transport"),
    [
        ("hang", "bulk_page", "bulk"),
        ("trickle", "bulk_page", "bulk"),
        ("hang", "query", "rest"),
        ("hang", "describe", ""),
    ],
)
def test_a_long_http_read(fault: str, kind: str, transport: str, tmp_path: Path, sandbox: Sandbox) -> None:
    bulk = "bulk_from_rows = 50" if transport == "bulk" else ""
    home = Home.make(tmp_path, sandbox, salesforce=bulk)
    sandbox.faults(**{fault: kind})
    run_id = home.ask()
    with worker_of(home):
        until(lambda: one(home, run_id).state == "running")
        until(lambda: sandbox.requests(kind) > 0)
        time.sleep(0.3)
        cancel(home, run_id)
        run = ended(home, run_id)
    assert (run.state, run.error_kind) == ("cancelled", "RunCancelled")
    assert home.ledger_rows("SELECT load_id FROM landed_files WHERE loaded_at IS NOT NULL") == []
    sandbox.faults(**{fault: None})
    is_clean(home)


def test_what_has_landed_before_the_cancel_is_not_fetched_again(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 50")
    run_id = home.ask()
    registered = "SELECT id FROM landed_files"

    def observer(name: str, _details: Mapping[str, Any]) -> None:
        if name == "land.registered":
            cancel(home, run_id)
            time.sleep(0.7)  # so that the beat hears of it

    outcome = perform(home.services, run_id, observer)
    assert outcome.state is RunState.CANCELLED
    assert len(home.ledger_rows(registered)) == 1
    asked = len(sandbox.stats()["bulk_pages"])
    is_clean(home)
    pages = sandbox.stats()["bulk_pages"]
    assert pages[0] not in pages[asked:]


@pytest.mark.parametrize("kind", ["salesforce", "warehouse"])
def test_waiting_for_a_slot(kind: str, home: Home) -> None:
    count = home.environment.slots("salesforce") if kind == "salesforce" else 1
    others = []
    for number in range(count):
        with home.services.ledger.write() as connection:
            others.append(
                leases.take(
                    connection,
                    stream=slot_name(kind, number),
                    holder=leases.own_name(),
                    run_id=None,
                    now=utc_now(),
                    watcher=leases.Watcher(60),
                )
            )
    run_id = home.ask()
    stop = threading.Event()
    beats = threading.Thread(target=_keep, args=(home, kind, [t.fence for t in others], stop))
    beats.start()
    try:
        # A worker would not even start a run whose source is full.
        if kind == "salesforce":
            threading.Timer(1.0, lambda: cancel(home, run_id)).start()
            assert perform(home.services, run_id).state is RunState.CANCELLED
        else:
            with worker_of(home):
                until(lambda: "warehouse" in (one(home, run_id).progress or ""))
                waits = one(home, run_id).progress
                cancel(home, run_id)
                assert ended(home, run_id).state == "cancelled"
            assert '"until": null' in waits
        assert run_times(home, run_id) < SECONDS
        assert sorted(held(home)) == [slot_name(kind, n) for n in range(count)]
    finally:
        stop.set()
        beats.join()
    for number, taken in enumerate(others):
        with home.services.ledger.write() as connection:
            leases.release(connection, stream=slot_name(kind, number), fence=taken.fence)
    is_clean(home)


def _keep(home: Home, kind: str, fences: list[int], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        with home.services.ledger.write() as connection:
            leases.keep(connection, {slot_name(kind, n): fence for n, fence in enumerate(fences)})


def test_waiting_for_the_end_of_a_rate_limit(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(status={"status": 503, "on": "query", "retry_after": 60})
    run_id = home.ask()
    with worker_of(home):
        until(lambda: '"until": "' in (one(home, run_id).progress or ""))
        cancel(home, run_id)
        assert ended(home, run_id).state == "cancelled"
    sandbox.faults(status=None)
    is_clean(home)


def test_a_child_that_hears_nothing_is_killed(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    before = home.table()
    sandbox.change(update=5, delete=2)
    sandbox.faults(hang="query")
    run_id = home.ask()
    with worker_of(home):
        asked = sandbox.requests("query")
        until(lambda: one(home, run_id).state == "running" and sandbox.requests("query") > asked)
        pid = int(one(home, run_id).worker.split(":")[-2])
        os.kill(pid, signal.SIGSTOP)
        cancel(home, run_id)
        assert ended(home, run_id).state == "cancelled"
        # It takes no place of the worker's for ever, either.
        until(lambda: not Path(f"/proc/{pid}").exists())
    assert home.table() == before
    sandbox.faults(hang=None)
    is_clean(home)


def test_a_child_that_waits_in_a_query_is_not_taken_for_a_fault_of_ours_when_the_worker_stops(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM without a cancel: the run goes on later, whatever was interrupted."""
    run_id = home.ask()
    monkeypatch.setattr(DuckDBSession, "_classify", lambda session, *_: session._c.execute(LONG))

    def observer(name: str, _details: Mapping[str, Any]) -> None:
        if name == "load.group":
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            perform(home.services, run_id, observer, as_worker=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    monkeypatch.undo()
    assert one(home, run_id).state == "running"  # its worker says so when it sees that the process is gone


# --- in this process ----------------------------------------------------------------------------------------------


def test_while_a_large_chunk_is_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from novade_core.sync.chunks import ChunkWriter

    run_id = home.ask()
    begun = threading.Event()

    def slow(_writer: ChunkWriter, *_arguments: Any, **_more: Any) -> Any:
        begun.set()
        while True:  # parsing, say: Python's own code, without an end
            sum(range(1000))

    monkeypatch.setattr(ChunkWriter, "write", slow)
    before = signal.getsignal(signal.SIGTERM)

    def press() -> None:
        begun.wait(10)
        cancel(home, run_id)
        time.sleep(1.5)  # the supervisor gives the beat so long
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=press).start()
    try:
        outcome = perform(home.services, run_id, as_worker=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (outcome.state, run_times(home, run_id) < SECONDS) == (RunState.CANCELLED, True)
    assert home.ledger_rows("SELECT id FROM landed_files") == []
    monkeypatch.undo()
    is_clean(home)


@pytest.mark.parametrize("kind", [RunKind.INCREMENTAL, RunKind.FULL])
def test_a_query_of_the_load_is_interrupted(
    kind: RunKind, home: Home, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.sync()
    before = home.table()
    sandbox.change(update=20, delete=5)
    run_id = home.ask(kind=kind)
    monkeypatch.setattr(DuckDBSession, "_classify", lambda session, *_: session._c.execute(LONG))

    def observer(name: str, _details: Mapping[str, Any]) -> None:
        if name == "load.group":
            threading.Timer(0.7, lambda: cancel(home, run_id)).start()

    outcome = perform(home.services, run_id, observer)
    assert outcome.state is RunState.CANCELLED
    assert outcome.error is not None
    assert outcome.error.kind == "RunCancelled"
    assert run_times(home, run_id) < SECONDS
    monkeypatch.undo()
    assert home.table() == before
    is_clean(home)


def _cancel_in_commit(
    home: Home, run_id: int, monkeypatch: pytest.MonkeyPatch, *, nth: int = 1, signals: bool = False
) -> Callable[[], int]:
    """The cancel is asked for while the nth COMMIT runs, and pressed for; answers how many COMMITs there were."""
    commits = 0
    execute = DuckDBSession._hit

    def slowly(session: DuckDBSession, statement: str, parameters: Any) -> int:
        nonlocal commits
        if statement == "COMMIT":
            commits += 1
            if commits == nth:
                cancel(home, run_id)
                time.sleep(1.3)  # the beat has heard of it by now, and interrupts what may be interrupted
                if signals:
                    os.kill(os.getpid(), signal.SIGTERM)
        return execute(session, statement, parameters)

    monkeypatch.setattr(DuckDBSession, "_hit", slowly)
    return lambda: commits


@pytest.mark.parametrize("signals", [False, True])
def test_a_cancel_in_the_last_commit_comes_too_late(
    signals: bool, home: Home, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.sync()
    sandbox.change(update=20)
    run_id = home.ask()
    _cancel_in_commit(home, run_id, monkeypatch, signals=signals)
    before = signal.getsignal(signal.SIGTERM)
    try:
        outcome = perform(home.services, run_id, as_worker=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.headline.endswith("The cancel came after its data was committed.")
    assert one(home, run_id).state == "succeeded"
    assert home.ledger_rows("SELECT run_id FROM checkpoints")[0].run_id == run_id
    is_clean(home)


def test_a_cancel_in_an_earlier_groups_commit_ends_before_the_next_group(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 50")
    from dataclasses import replace

    warehouse = home.services.warehouse
    few = replace(warehouse.capabilities, max_rows_per_load=100)
    monkeypatch.setattr(warehouse, "capabilities", few)
    run_id = home.ask()
    commits = _cancel_in_commit(home, run_id, monkeypatch)
    outcome = perform(home.services, run_id)
    assert (outcome.state, commits()) == (RunState.CANCELLED, 1)
    monkeypatch.undo()
    # What was committed stays, is known as loaded, and is neither read nor loaded again.
    [loaded] = home.query("SELECT count(*) FROM salesforce.contact")[0]
    assert 0 < loaded < 300
    assert home.ledger_rows("SELECT stream FROM checkpoints") == []
    last = home.sync()
    assert last.counts["loaded"] == 300 - loaded
    is_clean(home)


# --- before it starts ---------------------------------------------------------------------------------------------


def test_a_queued_run_and_a_queued_retry_end_at_once(home: Home) -> None:
    from sqlalchemy import select

    from novade_core.ledger.models import Run
    from novade_core.ledger.queue import try_again

    first = home.ask()
    cancel(home, first)
    assert one(home, first).state == "cancelled"
    with home.services.ledger.write() as connection:
        row = connection.execute(select(Run.__table__).where(Run.id == first)).one()
        assert try_again(connection, row, now=utc_now(), retry_seconds=(0.2,))
    [retry] = home.ledger_rows("SELECT id FROM runs WHERE origin = 'retry'")
    cancel(home, retry.id)
    with worker_of(home):
        time.sleep(1)
    run = one(home, retry.id)
    assert (run.state, run.started_at, run.headline) == ("cancelled", None, "Cancelled by test before it started.")
    is_clean(home, retries=1)
