"""What may pass is tried again by itself, what hangs is ended and tried again, and what waits on purpose is left alone.

Also: what is loaded late, or a second time, changes nothing newer.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from sqlalchemy import select, update

from jobs.execute import perform
from jobs.supervisor import Supervisor
from novade_core.errors import QuotaReserved, SourceUnavailable
from novade_core.ledger import leases
from novade_core.ledger.models import LandedFileRow, Run, RunState, WorkerRow
from novade_core.sources.salesforce.client import _retry_after
from novade_core.streams import RunKind
from novade_core.sync.slots import slot_name
from novade_core.wiring import utc_now
from tests.flow.test_cancel import held, one, worker_of
from tests.flow.test_worker import until
from tests.homes import Home, Sandbox


def make(folder: Path, sandbox: Sandbox, *, salesforce: str = "", streams: str | None = None, **worker: Any) -> Home:
    more = {"streams": streams} if streams else {}
    Home.make(folder, sandbox, salesforce=salesforce, **more)
    file = folder / "novade.toml"
    lines = "".join(f"{name} = {value}\n" for name, value in worker.items())
    marker = "[environments.test.worker]\n"
    file.write_text(file.read_text().replace(marker, marker + lines))
    return Home.open(folder)


def test_a_run_of_a_worker_is_tried_again_and_keeps_what_had_landed(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(
        tmp_path, sandbox, salesforce="bulk_from_rows = 50\ntries = 1", retry_seconds="[0.3, 0.3, 0.3]"
    )  # fmt: skip
    sandbox.faults(cut_page={"n": 2, "times": 9, "on": "bulk_page"})
    first = home.ask()
    with worker_of(home):
        until(lambda: one(home, first).state == "failed")
        pages = sandbox.stats()["bulk_pages"]
        sandbox.faults(cut_page=None)
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE state = 'succeeded'"))
    failed, *others = home.ledger_rows("SELECT * FROM runs ORDER BY id")
    assert (failed.error_kind, failed.attempt) == ("TransferBroken", 1)
    assert [r.attempt for r in others] == list(range(2, 2 + len(others)))
    assert [r.retry_of for r in others] == [failed.id, *(r.id for r in others[:-1])]
    # The page that had landed before is not fetched again.
    assert pages[0] not in sandbox.stats()["bulk_pages"][len(pages) :]
    assert len(home.table()) == 300


def test_attempts_are_used_up_and_what_will_not_pass_is_not_tried(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, salesforce="tries = 1", retry_seconds="[0.1]")
    sandbox.faults(status={"status": 503, "on": "describe"})
    home.ask("salesforce.user")
    with worker_of(home):
        until(lambda: len(home.ledger_rows("SELECT id FROM runs WHERE state = 'failed'")) == 2)
        sandbox.faults(status=None, api_disabled=True)
        other = home.ask("salesforce.lead")
        until(lambda: one(home, other).state == "failed")
        time.sleep(0.6)
    assert [(r.attempt, r.state) for r in home.ledger_rows("SELECT * FROM runs ORDER BY id")] == [
        (1, "failed"),
        (2, "failed"),
        (1, "failed"),
    ]


def test_a_command_without_a_worker_is_told_and_tries_nothing_by_itself(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, salesforce="tries = 1")
    sandbox.faults(status={"status": 503, "on": "describe"})
    outcome = home.sync("salesforce.user")
    assert isinstance(outcome.error, SourceUnavailable)
    assert len(home.ledger_rows("SELECT id FROM runs")) == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"status": {"status": 503, "on": "describe", "retry_after": 300}}, 300),
        ({"limit_exceeded": True}, 1800),
    ],
)
def test_the_next_attempt_waits_as_long_as_the_source_says(
    fault: dict[str, Any], seconds: float, tmp_path: Path, sandbox: Sandbox
) -> None:
    home = make(tmp_path, sandbox, salesforce="bulk_from_rows = 50")
    sandbox.faults(**fault)
    begun = utc_now()
    run_id = home.ask()
    outcome = _as_worker(home, run_id)
    # A long wait is not sat out in the run, which would hold its place at the source.
    assert (utc_now() - begun).total_seconds() < 60
    assert outcome.error is not None
    with home.services.ledger.read() as connection:
        retry = connection.execute(select(Run.not_before).where(Run.retry_of == run_id)).scalar_one()
    assert seconds <= (retry - begun).total_seconds() < seconds + 60


def test_the_reserve_of_the_quota_is_asked_for_again_later(home: Home, sandbox: Sandbox) -> None:
    sandbox.call("POST", "/_sandbox/quota", {"max": 1000, "used": 799})
    outcome = home.sync()
    assert isinstance(outcome.error, QuotaReserved)
    assert outcome.error.retry_after == 1800


def _as_worker(home: Home, run_id: int) -> Any:
    before = signal.getsignal(signal.SIGTERM)
    try:
        return perform(home.services, run_id, as_worker=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_child_that_somebody_kills_before_it_claims_is_started_again_a_few_times(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []

    def command(_supervisor: Supervisor, run_id: int) -> list[str]:
        starts.append(run_id)
        return ["sh", "-c", "kill -9 $$"]

    monkeypatch.setattr(Supervisor, "command", command)
    run_id = home.ask()
    with worker_of(home):
        until(lambda: len(starts) >= 2)
        until(lambda: one(home, run_id).state == "failed")
        time.sleep(0.5)
    assert starts == [run_id] * 3
    assert one(home, run_id).error_kind == "WorkerBroken"


def test_a_worker_that_was_taken_for_dead_and_wakes_is_there_again(home: Home) -> None:
    with worker_of(home):
        stopped = "SELECT stopped_at FROM workers"
        until(lambda: home.ledger_rows(stopped))
        with home.services.ledger.write() as connection:
            connection.execute(update(WorkerRow).values(stopped_at=utc_now()))
        until(lambda: home.ledger_rows(stopped)[0].stopped_at is None, 5)
    assert home.ledger_rows(stopped)[0].stopped_at is not None


# --- stalls -------------------------------------------------------------------------------------------------------


def test_a_run_that_makes_no_progress_is_ended_and_tried_again(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, stall_seconds=1.5)
    sandbox.faults(hang="query")
    first = home.ask()
    with worker_of(home):
        until(lambda: one(home, first).state == "abandoned", 20)
        sandbox.faults(hang=None)
        until(lambda: home.ledger_rows("SELECT id FROM runs WHERE state = 'succeeded'"), 20)
    stalled, *others = home.ledger_rows("SELECT * FROM runs ORDER BY id")
    assert (stalled.error_kind, stalled.error_origin) == ("RunStalled", "us")
    assert {r.error_kind for r in others} <= {"RunStalled", None}
    assert held(home) == []
    assert len(home.table()) == 300


def test_a_run_that_waits_for_the_source_as_told_is_not_ended(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, stall_seconds=1.5)
    sandbox.faults(status={"status": 503, "on": "query", "count": 1, "retry_after": 5})
    run_id = home.ask()
    with worker_of(home):
        until(lambda: one(home, run_id).ended_at, 30)
    [run] = home.ledger_rows("SELECT * FROM runs")
    assert run.state == "succeeded"
    # The wait is none of the stream's usual pauses.
    assert run.stillest_ms < 4500


def test_a_run_that_waits_for_the_warehouse_is_not_ended(tmp_path: Path, sandbox: Sandbox) -> None:
    home = make(tmp_path, sandbox, stall_seconds=4)
    slot, stop = slot_name("warehouse", 0), threading.Event()
    with home.services.ledger.write() as connection:
        fence = leases.take(
            connection, stream=slot, holder=leases.own_name(), run_id=None, now=utc_now(), watcher=leases.Watcher(60)
        ).fence

    def keep() -> None:
        while not stop.wait(0.2):
            with home.services.ledger.write() as connection:
                leases.keep(connection, {slot: fence})

    beats = threading.Thread(target=keep)
    beats.start()
    run_id = home.ask()
    try:
        with worker_of(home):
            until(lambda: "warehouse" in (one(home, run_id).progress or ""))
            time.sleep(6)
            assert one(home, run_id).state == "running"
            stop.set()
            beats.join()
            with home.services.ledger.write() as connection:
                leases.release(connection, stream=slot, fence=fence)
            until(lambda: one(home, run_id).state == "succeeded")
    finally:
        stop.set()
        beats.join()
    assert len(home.ledger_rows("SELECT id FROM runs")) == 1


# --- loaded late --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_an_old_landing_that_is_loaded_again_changes_no_newer_row_and_revives_none(
    mode: str, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repair: what landed long ago is marked as not loaded and goes through the load once more, markers gone or not."""
    home = make(tmp_path, sandbox, streams=f'"salesforce.contact" = {{ delete_mode = "{mode}" }}')
    warehouse = home.services.warehouse
    # Each manifest in a transaction of its own: what is newer is in the table, not beside it.
    monkeypatch.setattr(warehouse, "capabilities", replace(warehouse.capabilities, max_rows_per_load=1))
    home.sync()
    first = [r.seq for r in home.ledger_rows("SELECT id AS seq FROM landed_files")]
    sandbox.change(update=20, delete=10, new=5)
    home.sync()
    expected = home.table()
    for forget_markers in (False, True):
        with home.services.ledger.write() as connection:
            connection.execute(update(LandedFileRow).where(LandedFileRow.id.in_(first)).values(loaded_at=None))
        if forget_markers:
            with duckdb.connect(str(home.environment.warehouse.path)) as tables:
                tables.execute("DELETE FROM novade.novade_loads")
        outcome = home.sync()
        assert outcome.state is RunState.SUCCEEDED
        assert home.ledger_rows("SELECT id FROM landed_files WHERE loaded_at IS NULL") == []
        assert home.table() == expected
        assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
        if forget_markers:
            assert (outcome.counts["superseded"] or 0) >= 30


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_an_old_landing_that_waited_is_loaded_after_newer_ones_and_changes_nothing(
    mode: str, tmp_path: Path, sandbox: Sandbox
) -> None:
    """A run landed, died before its load, and a full reload came first; then the old files are loaded after all."""
    home = make(tmp_path, sandbox, streams=f'"salesforce.contact" = {{ delete_mode = "{mode}" }}')

    class Died(Exception):
        pass

    def die(name: str, _details: Any) -> None:
        if name == "load.started":
            raise Died

    home.sync(observer=die)
    waiting = [r.seq for r in home.ledger_rows("SELECT id AS seq FROM landed_files WHERE loaded_at IS NULL")]
    assert waiting
    sandbox.change(update=20, delete=10)
    home.sync(kind=RunKind.FULL)
    expected = home.table()
    with home.services.ledger.write() as connection:
        connection.execute(update(LandedFileRow).where(LandedFileRow.id.in_(waiting)).values(loaded_at=None))
    with duckdb.connect(str(home.environment.warehouse.path)) as warehouse:
        warehouse.execute("DELETE FROM novade.novade_loads")
    assert home.sync().state is RunState.SUCCEEDED
    assert home.table() == expected


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("60", 60.0),
        ("Mon, 18 Nov 2024 14:02:00 GMT", 120.0),  # by the clock of the answer, not by ours
        ("Mon, 18 Nov 2024 13:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_how_long_an_answer_asks_to_wait(told: str, seconds: float | None) -> None:
    answer = requests.Response()
    answer.headers.update({"Retry-After": told, "Date": "Mon, 18 Nov 2024 14:00:00 GMT"})
    assert _retry_after(answer) == seconds
