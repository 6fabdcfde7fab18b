"""The main job: a stream arrives, again and again, and both sides are counted."""

from __future__ import annotations

import json
from pathlib import Path

from novade_core.ledger.models import RunState
from novade_core.streams import RunKind
from tests.homes import Home, Sandbox


def test_first_sync_brings_everything_and_counts_agree(home: Home, sandbox: Sandbox) -> None:
    outcome = home.sync()
    truth = sandbox.call("GET", "/_sandbox/health")
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    assert outcome.counts["loaded"] == home.query("SELECT count(*) FROM salesforce.contact")[0][0]
    assert "Equal" in outcome.headline
    assert truth["ready"]


def test_second_sync_loads_nothing_and_leaves_the_warehouse_alone(home: Home) -> None:
    home.sync()
    before = home.query("SELECT * FROM salesforce.contact ORDER BY ALL")
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["loaded"] == 0
    assert home.query("SELECT * FROM salesforce.contact ORDER BY ALL") == before


def test_exactly_the_changed_new_and_deleted_records_are_loaded(home: Home, sandbox: Sandbox) -> None:
    first = home.sync()
    ids = sandbox.change(update=10, new=5, delete=3)
    outcome = home.sync()
    assert (outcome.counts["loaded"], outcome.counts["deleted"]) == (18, 3)
    loaded = home.query("SELECT Id FROM salesforce.contact WHERE _novade_run_id = ?", outcome.run_id)
    assert {row[0] for row in loaded} == {*ids["update"], *ids["new"], *ids["delete"]}
    marked = home.query("SELECT Id FROM salesforce.contact WHERE _novade_run_id = ? AND IsDeleted", outcome.run_id)
    assert {row[0] for row in marked} == set(ids["delete"])
    assert outcome.counts["warehouse_count"] == first.counts["warehouse_count"] + 5 - 3
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def test_a_restored_record_lives_again(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    [key] = sandbox.change(delete=1)["delete"]
    home.sync()
    assert home.query("SELECT _novade_deleted_at FROM salesforce.contact WHERE Id = ?", key)[0][0] is not None
    sandbox.change(undelete=[key])
    outcome = home.sync()
    assert home.query("SELECT _novade_deleted_at FROM salesforce.contact WHERE Id = ?", key)[0][0] is None
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def test_a_purged_record_is_a_difference_and_is_named(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    [key] = home.query("SELECT Id FROM salesforce.contact WHERE NOT IsDeleted LIMIT 1")[0]
    sandbox.change(purge=[key])
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["warehouse_count"] == outcome.counts["source_count"] + 1
    assert key in outcome.headline
    [finding] = home.ledger_rows("SELECT summary, evidence FROM findings WHERE closed_at IS NULL")
    assert key in finding.summary
    [artifact] = home.ledger_rows("SELECT content FROM artifacts WHERE kind = 'extra_keys'")
    assert json.loads(artifact.content) == [{"key": key}]

    full = home.sync(kind=RunKind.FULL)
    assert full.counts["source_count"] == full.counts["warehouse_count"]
    assert home.query("SELECT count(*) FROM salesforce.contact WHERE Id = ?", key) == [(0,)]
    assert home.ledger_rows("SELECT id FROM findings WHERE closed_at IS NULL") == []


def test_a_record_missing_in_the_warehouse_is_named(home: Home) -> None:
    import duckdb

    home.sync()
    [key] = home.query("SELECT Id FROM salesforce.contact WHERE NOT IsDeleted ORDER BY SystemModstamp LIMIT 1")[0]
    with duckdb.connect(str(home.environment.warehouse.path)) as outside:
        outside.execute("DELETE FROM salesforce.contact WHERE Id = ?", [key])
    outcome = home.sync()
    assert f"1 record of Salesforce Contact at the source not in the warehouse: {key}" in outcome.headline


def test_a_full_reload_equals_a_fresh_import(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    sandbox.change(update=5, new=2, delete=1)
    home.sync()
    grown = home.table()
    outcome = home.sync(kind=RunKind.FULL)
    assert outcome.state is RunState.SUCCEEDED
    assert home.table() == grown
    assert home.sync().counts["loaded"] == 0


def test_a_backfill_window_leaves_the_checkpoint_and_changes_nothing_newer(home: Home) -> None:
    from datetime import UTC, datetime, timedelta

    home.sync()
    content = home.table()
    before = home.ledger_rows("SELECT cursor, run_id FROM checkpoints")
    now = datetime.now(UTC)
    outcome = home.sync(kind=RunKind.BACKFILL, since=now - timedelta(days=1200), until=now - timedelta(days=30))
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["read"] > 0
    assert outcome.counts["unchanged"] == outcome.counts["read"]
    assert home.table() == content
    assert home.ledger_rows("SELECT cursor, run_id FROM checkpoints") == before


def test_every_run_adds_up_and_records_what_it_used(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    sandbox.change(update=4, delete=2)
    home.sync()
    for run in home.ledger_rows("SELECT * FROM runs"):
        assert run.read == run.loaded + run.unchanged + run.superseded + run.duplicates + run.rejected
        used = {
            row.meter: row.quantity
            for row in home.ledger_rows("SELECT meter, quantity FROM usage WHERE run_id = :run", run=run.id)
        }
        assert used["salesforce.api_calls"] == run.api_calls > 0
        assert used["salesforce.bytes_in"] > 0
        sizes = home.ledger_rows("SELECT sum(bytes) AS bytes FROM landed_files WHERE run_id = :run", run=run.id)
        assert used["landing.bytes_written"] > sizes[0].bytes > 0
        assert used["process.cpu_ms"] > 0
        steps = home.ledger_rows("SELECT name, state FROM steps WHERE run_id = :run ORDER BY id", run=run.id)
        assert [s.name for s in steps] == ["plan", "extract", "land", "load", "verify"]
        assert {s.state for s in steps} == {"succeeded"}


def test_all_seven_streams_arrive(home: Home) -> None:
    for stream in home.environment.streams:
        outcome = home.sync(stream.id)
        assert outcome.state is RunState.SUCCEEDED, outcome.headline
        assert outcome.counts["source_count"] == outcome.counts["warehouse_count"], outcome.headline
    # Tasks that Salesforce archived come too: they are in queryAll, not in query.
    archived = home.query("SELECT count(*) FROM salesforce.task WHERE IsArchived AND _novade_deleted_at IS NULL")
    assert archived[0][0] > 0


def test_bulk_and_rest_bring_the_same_values(tmp_path: Path, sandbox: Sandbox) -> None:
    content = []
    for name, rows in (("rest", 1_000_000), ("bulk", 0)):
        (tmp_path / name).mkdir()
        home = Home.make(tmp_path / name, sandbox, salesforce=f"bulk_from_rows = {rows}")
        sandbox.call("POST", "/_sandbox/stats", {"reset": True})
        assert home.sync().state is RunState.SUCCEEDED
        content.append(home.table())
        assert (sandbox.requests("bulk_create") > 0) == (name == "bulk")
    assert content[0] == content[1]
