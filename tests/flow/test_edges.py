"""Edges where rows, rejects or streams could be lost without a word; each was once a defect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from novade_core.errors import WindowTooLarge
from novade_core.ledger.models import RunState
from novade_core.sources.salesforce.source import Salesforce
from novade_core.streams import RunKind
from tests.flow.test_killed import kill
from tests.homes import Home, Sandbox


def cents_are_not_announced(sandbox: Sandbox) -> None:
    sandbox.call("POST", "/_sandbox/fields", {"object": "Opportunity", "change": {"Amount": {"scale": 0}}})


def test_the_checkpoint_does_not_pass_the_beginning_of_reading(home: Home, sandbox: Sandbox) -> None:
    """A record of an early page can change while a later, newer one is still to come."""
    home.sync()
    sandbox.change(update=3)
    seen: list[datetime] = []

    def observer(name: str, details: Mapping[str, Any]) -> None:
        if name == "plan.ended":
            seen.append(datetime.fromisoformat(details["plan"].details["read_from"]))

    outcome = home.sync(observer=observer)
    assert outcome.counts["loaded"] == 3
    [row] = home.ledger_rows("SELECT cursor FROM checkpoints")
    moved = datetime.fromisoformat(str(row.cursor)).replace(tzinfo=UTC)
    newest = home.query("SELECT max(SystemModstamp) FROM salesforce.contact")[0][0].replace(tzinfo=UTC)
    assert moved == min(newest, seen[0])


def test_rejects_of_a_run_that_died_are_not_forgotten(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, streams='"salesforce.opportunity" = { reject_limit = 100000 }')
    cents_are_not_announced(sandbox)
    assert kill(home, home.ask("salesforce.opportunity"), "load.marked", 1)
    outcome = home.sync("salesforce.opportunity")
    assert outcome.state is RunState.PARTIAL
    [landed] = home.ledger_rows("SELECT sum(rejected) AS n FROM landed_files")
    assert outcome.counts["rejected"] == landed.n > 0
    counts = outcome.counts
    parts = ("loaded", "unchanged", "superseded", "duplicates", "rejected")
    assert counts["read"] == sum(counts[name] or 0 for name in parts)


def test_a_kill_does_not_evade_the_reject_limit(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, streams='"salesforce.opportunity" = { reject_limit = 100000 }')
    cents_are_not_announced(sandbox)
    assert kill(home, home.ask("salesforce.opportunity"), "land.ended", 1)
    strict = Home.make(tmp_path, sandbox, streams='"salesforce.opportunity" = { reject_limit = 3 }')
    sandbox.change("Opportunity", update=1)
    outcome = strict.sync("salesforce.opportunity")
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "DataRejected"


def test_a_continuation_that_is_lost_for_good_ends_the_run(sandboxes: Callable[..., Sandbox], tmp_path: Path) -> None:
    sandbox = sandboxes(4500)
    sandbox.reset()
    home = Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 1000000")
    sandbox.faults(expired_locator=True)
    outcome = home.sync()
    sandbox.reset()
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "ExtractionLost"
    assert home.ledger_rows("SELECT count(*) AS n FROM landed_files")[0].n <= 3
    assert home.sync().state is RunState.SUCCEEDED


def test_a_comparison_that_fails_holds_up_no_stream(
    home: Home, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.sync()
    keys = [row[0] for row in home.query("SELECT Id FROM salesforce.contact WHERE NOT IsDeleted LIMIT 40")]
    sandbox.change(purge=keys)

    def broken(*arguments: Any) -> Any:
        raise WindowTooLarge("too much")

    monkeypatch.setattr(Salesforce, "keys", broken)
    for _ in range(2):
        new = sandbox.change(new=5)["new"]
        outcome = home.sync()
        assert outcome.state is RunState.SUCCEEDED, outcome.headline
        assert outcome.counts["loaded"] == 5
        assert len(home.query("SELECT Id FROM salesforce.contact WHERE list_contains(?, Id)", new)) == 5
    [row] = home.ledger_rows("SELECT comparison_state FROM stream_status")
    assert row.comparison_state == "differs"


def test_purged_records_do_not_come_back_after_a_full_reload(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    new = sandbox.change(new=3)["new"]
    assert kill(home, home.ask(), "load.started", 1)
    sandbox.change(purge=new)
    assert kill(home, home.ask(kind=RunKind.FULL), "load.committed", 1)
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    assert home.query("SELECT Id FROM salesforce.contact WHERE list_contains(?, Id)", new) == []
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def test_a_killed_window_that_then_times_out_is_cut_and_read_afresh(
    sandboxes: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = sandboxes(4500)
    sandbox.reset()
    home = Home.make(tmp_path, sandbox, salesforce="bulk_from_rows = 1000000")
    assert kill(home, home.ask(), "land.registered", 1)
    # The adopted position is of the whole window; once that is lost, the window is cut.
    sandbox.faults(expired_locator=1, query_timeout=1500)
    outcome = home.sync()
    sandbox.reset()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    import json

    windows = [
        json.loads((home.folder / "var/landing" / row.manifest_path).read_bytes())["window"]
        for row in home.ledger_rows("SELECT manifest_path FROM landed_files WHERE run_id = 2")
    ]
    assert windows
    assert all(window["part"] in ("history", "live") for window in windows)
    assert len({str(window) for window in windows}) > 2


def test_a_backfill_does_not_make_a_stream_fresh(home: Home) -> None:
    now = datetime.now(UTC)
    outcome = home.sync(kind=RunKind.BACKFILL, since=now - timedelta(days=400), until=now - timedelta(days=390))
    assert outcome.state is RunState.SUCCEEDED
    assert home.ledger_rows("SELECT id FROM findings") == []
    [row] = home.ledger_rows("SELECT last_load_at, first_loaded_at FROM stream_status")
    assert (row.last_load_at, row.first_loaded_at) == (None, None)
    assert home.sync().counts["source_count"]


def test_quarantine_goes_on_noticing_what_is_new_and_leaks_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    def with_policy(name: str) -> Home:
        return Home.make(tmp_path, sandbox, streams=f'"salesforce.contact" = {{ schema_policy = "{name}" }}')

    home = with_policy("quarantine")
    home.sync()
    extra = {"object": "Contact", "add": {"Extra__c": {"type": "string", "length": 20}}}
    sandbox.call("POST", "/_sandbox/fields", extra)
    for _ in range(2):
        sandbox.change(new=4)
        outcome = home.sync()
        assert outcome.state is RunState.PARTIAL
        assert (outcome.counts["landed"] or 0) >= 4
    sandbox.call("POST", "/_sandbox/fields", {"reset": True})
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    assert "Extra__c" not in str(home.query("SELECT column_name FROM information_schema.columns"))


def test_landings_of_different_columns_do_not_lose_values_to_each_other(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    keys = [row[0] for row in home.query("SELECT Id FROM salesforce.contact WHERE NOT IsDeleted LIMIT 3")]
    sandbox.change(set={key: {"Title": "Landed title"} for key in keys})
    assert kill(home, home.ask(), "load.started", 1)
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "hide": ["Title"]})
    sandbox.change(update=keys)
    assert home.sync().state is RunState.SUCCEEDED
    titles = home.query("SELECT DISTINCT Title FROM salesforce.contact WHERE list_contains(?, Id)", keys)
    assert titles == [("Landed title",)]


def test_what_a_killed_run_left_in_scratch_is_tidied_by_the_next(home: Home) -> None:
    for point in ("extract.batch", "land.written", "land.file"):
        assert kill(home, home.ask(), point, 1)
    assert home.sync().state is RunState.SUCCEEDED
    var = home.folder / "var"
    assert list((var / "tmp" / "test").iterdir()) == []
    assert list((var / "landing" / ".scratch").iterdir()) == []
