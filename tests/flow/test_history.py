"""The double import: history up to T0, live from there, and a seam without gap or double."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

from novade_core.ledger.models import RunState
from tests.homes import Home, Sandbox


def test_records_older_than_thirteen_months_arrive(home: Home) -> None:
    home.sync()
    limit = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=13 * 31)
    old = home.query("SELECT count(*) FROM salesforce.contact WHERE CreatedDate < ?", limit)[0][0]
    untouched = home.query("SELECT count(*) FROM salesforce.contact WHERE SystemModstamp < ?", limit)[0][0]
    assert old > 50
    assert untouched > 0


def test_the_first_sync_is_history_and_live(home: Home) -> None:
    home.sync()
    [plan] = home.ledger_rows("SELECT windows, seam FROM sync_plans")
    import json

    windows = json.loads(plan.windows)
    assert [w["part"] for w in windows][-1] == "live"
    history = [w for w in windows if w["part"] == "history"]
    assert history
    # History tiles everything before the seam; live begins before it by the overlap, and is open above.
    for before, after in itertools.pairwise(history):
        assert before["high"] == after["low"]
    seam = datetime.fromisoformat(history[-1]["high"])
    overlap = home.environment.stream("salesforce.contact").overlap_seconds
    assert datetime.fromisoformat(windows[-1]["low"]) == seam - timedelta(seconds=overlap)
    assert windows[-1]["high"] is None


def test_the_seam_is_proven_by_counts_per_month(home: Home) -> None:
    outcome = home.sync()
    rows = home.ledger_rows("SELECT * FROM comparisons WHERE run_id = :run AND window <> 'all'", run=outcome.run_id)
    assert len(rows) >= 30
    assert {row.state for row in rows} == {"equal"}
    assert sum(row.source_count for row in rows) == outcome.counts["source_count"]
    assert sum(row.warehouse_count for row in rows) == outcome.counts["warehouse_count"]
    doubled = home.query("SELECT Id FROM salesforce.contact GROUP BY Id HAVING count(*) > 1")
    assert doubled == []


def test_what_changes_at_the_seam_is_neither_lost_nor_doubled(home: Home, sandbox: Sandbox) -> None:
    """Records change between the planning and the reading of history, and between history and live."""
    touched: list[str] = []

    def observer(name: str, details: object) -> None:
        if name == "plan.ended":
            touched.extend(sandbox.change(update=15, new=3)["update"])
        if name == "land.registered" and len(touched) < 20:
            changed = sandbox.change(update=10, new=4, delete=2)
            touched.extend(changed["update"])

    outcome = home.sync(observer=observer)
    assert outcome.state is RunState.SUCCEEDED
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"], outcome.headline
    assert home.query("SELECT count(*) - count(DISTINCT Id) FROM salesforce.contact") == [(0,)]
    truth = sandbox.call("GET", f"/_sandbox/records?object=Contact&ids={','.join(touched)}")["records"]
    here = dict(home.query("SELECT Id, LastModifiedDate FROM salesforce.contact WHERE list_contains(?, Id)", touched))
    for record in truth:
        wanted = datetime.fromisoformat(record["LastModifiedDate"]).replace(tzinfo=None)
        assert here[record["Id"]] == wanted, record["Id"]


def test_a_back_dated_record_is_found_by_the_count(home: Home, sandbox: Sandbox) -> None:
    """An import may back-date a record behind the checkpoint; no cursor can see it, the counts do."""
    home.sync()
    [key] = sandbox.change(new=1, months_ago=14)["new"]
    outcome = home.sync()
    assert key in outcome.headline
    assert "at the source not in the warehouse" in outcome.headline


def test_a_record_that_changes_while_it_is_verified_is_in_flight(home: Home, sandbox: Sandbox) -> None:
    def observer(name: str, details: object) -> None:
        if name == "verify.started":
            sandbox.change(new=2)

    outcome = home.sync(observer=observer)
    [row] = home.ledger_rows("SELECT state, sentence FROM comparisons WHERE window = 'all'")
    assert row.state == "in flight"
    assert "the next sync brings them" in row.sentence
    assert outcome.state is RunState.SUCCEEDED
    assert home.sync().counts["loaded"] == 2


def test_a_window_that_times_out_is_halved_until_it_works(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(query_timeout=60)
    outcome = home.sync()
    sandbox.faults(query_timeout=None)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    halved = home.ledger_rows("SELECT message FROM run_log WHERE message LIKE '%halved%'")
    assert halved


def test_a_live_window_that_times_out_is_halved_too(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, streams='"salesforce.contact" = { overlap_seconds = 17280000 }')
    home.sync()
    sandbox.faults(query_timeout=12)
    outcome = home.sync()
    sandbox.faults(query_timeout=None)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    assert home.ledger_rows("SELECT message FROM run_log WHERE message LIKE '%halved%'")


def test_a_user_who_may_not_read_limits_can_make_the_first_sync(home: Home, sandbox: Sandbox) -> None:
    sandbox.faults(status={"status": 403, "count": 50, "on": "limits"})
    assert home.sync().state is RunState.SUCCEEDED


def test_a_failed_run_keeps_the_figures_of_its_steps(home: Home, sandbox: Sandbox) -> None:
    def observer(name: str, details: object) -> None:
        if name == "land.registered":
            sandbox.faults(api_disabled=True)

    outcome = home.sync(observer=observer)
    sandbox.reset()
    assert outcome.state is RunState.FAILED
    steps = {row.name: row for row in home.ledger_rows("SELECT * FROM steps")}
    assert steps["extract"].state == "failed"
    assert steps["extract"].rows > 0
    assert steps["land"].busy_ms > 0
