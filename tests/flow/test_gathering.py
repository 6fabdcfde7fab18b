"""A pool that is paused between load windows: runs land, later ones add what changed, a window's run loads it all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import LoadWindowClosed
from novade_core.ledger import leases, windows
from novade_core.ledger.models import RunState, WindowState
from novade_core.streams import RunKind
from novade_core.sync import tail
from novade_core.sync.tools import Tools
from novade_core.wiring import Services, utc_now
from tests.homes import Home, Sandbox


class Windowed(Services):
    """The warehouse may be opened in load windows alone, as they stand in the ledger."""

    def _admits_loads(self) -> bool:
        with self.ledger.read() as connection:
            return windows.admits_loads(connection)

    def tools(self) -> Tools:
        return replace(super().tools(), has_windows=True)


@pytest.fixture
def home(tmp_path: Path, sandbox: Sandbox) -> Home:
    made = Home.make(tmp_path, sandbox)
    return replace(made, services=Windowed(made.environment))


@contextmanager
def window(home: Home) -> Iterator[None]:
    """A load window, as its worker would write it."""
    ledger, watcher = home.services.ledger, leases.Watcher(1)
    with ledger.write() as connection:
        fence = leases.take(
            connection, stream=windows.POOL, holder="w", run_id=None, now=utc_now(), watcher=watcher
        ).fence
    windows.open_window(ledger, fence=fence, now=utc_now(), ours=False, reason="test", size=None)
    with ledger.read() as connection:
        opened = windows.current(connection)
    assert opened is not None
    yield
    windows.note(ledger, opened.id, fence=fence, state=WindowState.CLOSED, closed_at=utc_now())
    with ledger.write() as connection:
        leases.release(connection, stream=windows.POOL, fence=fence)


def waits(home: Home) -> windows.Waiting:
    with home.services.ledger.read() as connection:
        return windows.waiting(connection, {"salesforce.contact"})


def live(home: Home) -> int:
    return int(home.query("SELECT count(*) FROM salesforce.contact WHERE _novade_deleted_at IS NULL")[0][0])


def plan_states(home: Home) -> list[str]:
    return [row.state for row in home.ledger_rows("SELECT state FROM sync_plans ORDER BY id")]


def test_what_lands_while_the_pool_is_paused_waits_and_is_not_fetched_again(home: Home, sandbox: Sandbox) -> None:
    first = home.sync()
    assert (first.state, first.error) == (RunState.LANDED, None)
    assert "wait for the pool's next load window" in first.headline
    assert not home.environment.warehouse.path.exists(), "no connection is opened while the pool is paused"
    assert waits(home).streams == ("salesforce.contact",)
    landed = first.counts["landed"]

    changed = sandbox.change(update=3, delete=2, new=4)
    second = home.sync()
    assert second.state is RunState.LANDED
    new = second.counts["landed"]
    assert new is not None
    assert landed is not None
    assert 9 <= new < landed
    assert plan_states(home) == ["landed"], "the second run went on with the plan of the first"

    with window(home):
        third = home.sync()
    assert third.state is RunState.SUCCEEDED, third.headline
    assert third.counts["source_count"] == third.counts["warehouse_count"] == live(home)
    assert set(changed["new"]) <= {row[0] for row in home.query("SELECT Id FROM salesforce.contact")}
    assert plan_states(home) == ["done"]
    assert waits(home).streams == ()

    sandbox.change(update=2)
    fourth = home.sync()
    again = fourth.counts["landed"]
    assert again is not None
    assert (fourth.state, 2 <= again < landed) == (RunState.LANDED, True), "the checkpoint moved to what was added"


def test_the_table_ends_as_without_windows(home: Home, tmp_path: Path, sandbox: Sandbox) -> None:
    for _ in range(3):
        home.sync()
        sandbox.change(update=5, delete=1, new=1, undelete=1)
    with window(home):
        home.sync()
    (tmp_path / "plain").mkdir()
    plain = Home.make(tmp_path / "plain", sandbox)
    plain.sync()
    ids = "SELECT Id, SystemModstamp, _novade_deleted_at, _novade_row_hash FROM salesforce.contact ORDER BY ALL"
    assert home.query(ids) == plain.query(ids)


def test_nothing_new_needs_no_window(home: Home) -> None:
    with window(home):
        home.sync()
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["landed"] == outcome.counts["unchanged"] > 0, "the newest span is read again"
    assert "the pool is paused" in outcome.headline
    assert waits(home).streams == ()
    [row] = home.ledger_rows("SELECT comparison_state, warehouse_count FROM stream_status")
    assert (row.comparison_state, row.warehouse_count) == ("equal", live(home)), "the last comparison stands"


def test_a_full_reload_that_waits_takes_in_what_an_incremental_sync_finds(home: Home, sandbox: Sandbox) -> None:
    with window(home):
        home.sync()
    before = live(home)
    assert home.sync(kind=RunKind.FULL).state is RunState.LANDED
    sandbox.change(new=3)
    added = home.sync()
    assert added.state is RunState.LANDED
    assert 3 <= (added.counts["landed"] or 0) < before
    assert waits(home).streams == ("salesforce.contact",)
    with window(home):
        home.services._ask_to_load("salesforce.contact", utc_now())
        assert home.ledger_rows("SELECT kind, origin FROM runs ORDER BY id DESC LIMIT 1") == [("full", "window")]
        outcome = home.sync(kind=RunKind.FULL)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert live(home) == before + 3


def test_a_backfill_leaves_what_waits_alone_and_is_loaded_with_it(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    backfill = home.sync(kind=RunKind.BACKFILL, since=datetime(2020, 1, 1, tzinfo=UTC), until=utc_now())
    assert backfill.state is RunState.LANDED
    assert plan_states(home) == ["landed", "done"]
    with window(home):
        outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert plan_states(home) == ["done", "done"]
    assert waits(home).streams == ()
    assert home.ledger_rows("SELECT id FROM landed_files WHERE loaded_at IS NULL AND rows > 0") == []


def test_a_window_that_closes_before_its_load_begins_leaves_everything_waiting(home: Home) -> None:
    home.sync()

    def close(name: str, _: Any) -> None:
        if name == "load.started":
            windows.ask_to_end(home.services.ledger, who="test", now=utc_now())

    with window(home):
        outcome = home.sync(observer=close)
    assert (outcome.state, outcome.error) == (RunState.LANDED, None)
    assert home.ledger_rows("SELECT name FROM steps WHERE state = 'running'") == []
    with window(home):
        assert home.sync().state is RunState.SUCCEEDED


@pytest.mark.parametrize("point", ["extract.batch", "gather.before", "gather.after"])
def test_a_run_that_fails_while_it_gathers_is_gone_on_with(home: Home, sandbox: Sandbox, point: str) -> None:
    home.sync()
    sandbox.change(new=2)

    def fail(name: str, _: Any) -> None:
        if name == point:
            raise OSError("caused by the test")

    home.sync(observer=fail)
    with window(home):
        outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def fails_to_read(name: str, _: Any) -> None:
    if name == "extract.batch":
        raise OSError("caused by the test")


def kinds_and_states(home: Home) -> list[tuple[str, str]]:
    return [tuple(row) for row in home.ledger_rows("SELECT kind, state FROM sync_plans ORDER BY id")]


@pytest.mark.parametrize("after", [RunKind.INCREMENTAL, RunKind.BACKFILL])
def test_a_full_reload_that_waits_outlives_a_sync_that_dies_over_it(home: Home, after: RunKind) -> None:
    """The sync had added to its plan, and neither its next attempt nor a backfill may turn the reload into rows."""
    with window(home):
        home.sync()
    assert home.sync(kind=RunKind.FULL).state is RunState.LANDED
    assert home.sync(observer=fails_to_read).state is RunState.FAILED
    span = {"since": datetime(2020, 1, 1, tzinfo=UTC), "until": utc_now()} if after is RunKind.BACKFILL else {}
    assert home.sync(kind=after, **span).state is RunState.LANDED
    assert ("full", "void") not in kinds_and_states(home)
    with window(home):
        home.services._ask_to_load("salesforce.contact", utc_now())
        assert home.ledger_rows("SELECT kind FROM runs ORDER BY id DESC LIMIT 1") == [("full",)]
        assert home.sync(kind=RunKind.FULL).state is RunState.SUCCEEDED
    assert ("full", "done") in kinds_and_states(home)
    assert waits(home).streams == ()


def test_a_full_reload_that_waits_is_read_again_where_the_schema_changes(home: Home, sandbox: Sandbox) -> None:
    with window(home):
        home.sync()
    home.sync(kind=RunKind.FULL)
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "hide": ["Title"]})
    try:
        assert home.sync().state is RunState.LANDED
    finally:
        sandbox.call("POST", "/_sandbox/fields", {"reset": True})
    assert kinds_and_states(home)[1:] == [("full", "void"), ("full", "landed")]


def test_only_the_newest_plan_keeps_its_newest_rows(home: Home) -> None:
    with window(home):
        home.sync()
        home.sync()
    home.sync()
    kept = ["tail" in row.details for row in home.ledger_rows("SELECT details FROM sync_plans ORDER BY id")]
    assert kept == [False, False, True]
    assert home.sync().state is RunState.SUCCEEDED


def test_a_run_that_has_begun_to_load_keeps_the_window_until_it_ends(home: Home) -> None:
    seen: dict[str, int] = {}

    def look(name: str, _: Any) -> None:
        seen[name] = waits(home).loading

    with window(home):
        home.sync(observer=look)
    assert seen["extract.batch"] == 0
    assert (seen["load.committed"], seen["verify.started"], seen["checkpoint.before"]) == (1, 1, 1)
    assert waits(home).loading == 0


def test_a_span_of_too_many_rows_waits_although_it_may_be_known(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MOST", 0)
    with window(home):
        home.sync()
    assert home.sync().state is RunState.LANDED
    assert waits(home).streams == ("salesforce.contact",)


def test_what_is_still_being_read_opens_no_window_and_keeps_none_open(home: Home) -> None:
    seen: list[tuple[str, ...]] = []

    def look(name: str, _: Any) -> None:
        if name == "land.registered":
            seen.append(waits(home).streams)

    home.sync(observer=look)
    assert seen
    assert set(seen) == {()}
    assert waits(home).streams == ("salesforce.contact",)


def test_a_closed_window_is_an_error_with_a_next_step(home: Home) -> None:
    error = LoadWindowClosed("The pool is paused until its next load window.")
    assert error.retryable
    assert "jobs window open" in error.hint
