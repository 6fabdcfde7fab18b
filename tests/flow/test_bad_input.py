"""Bad input and hostile surroundings: one clear sentence, nothing half written, and the next run succeeds."""

from __future__ import annotations

import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from novade_core.errors import BadWindow, UnknownStream
from novade_core.ledger.models import RunState
from novade_core.streams import RunKind
from tests.homes import PROJECT, Home, Sandbox


def test_a_window_that_is_reversed_naive_or_in_the_future_is_refused_before_anything_runs(home: Home) -> None:
    now = datetime.now(UTC)
    for since, until in (
        (now - timedelta(days=1), now - timedelta(days=2)),
        (datetime(2024, 1, 1), datetime(2024, 1, 2)),  # noqa: DTZ001 - naive on purpose
        (now - timedelta(days=1), now + timedelta(days=1)),
    ):
        with pytest.raises(BadWindow):
            home.ask(kind=RunKind.BACKFILL, since=since, until=until)
    assert home.ledger_rows("SELECT id FROM runs") == []


def test_an_unknown_stream_names_the_near_ones(home: Home) -> None:
    with pytest.raises(UnknownStream, match=r"salesforce\.contact"):
        home.ask("salesforce.contacts")


def test_a_field_that_vanishes_between_runs_keeps_its_values_and_is_a_finding(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    before = home.query("SELECT Id, Title FROM salesforce.contact ORDER BY Id")
    assert any(title for _, title in before)
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "hide": ["Title"]})
    sandbox.change(update=5)
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED
    # The five, and what the overlap reads again: without the field its row hash is another.
    assert (outcome.counts["loaded"] or 0) >= 5
    assert home.query("SELECT Id, Title FROM salesforce.contact ORDER BY Id") == before
    [finding] = home.ledger_rows("SELECT * FROM findings WHERE kind = 'field_vanished' AND closed_at IS NULL")
    assert "Title" in finding.summary
    assert "permission" in finding.next_step
    home.sync()
    assert len(home.ledger_rows("SELECT id FROM findings WHERE kind = 'field_vanished' AND closed_at IS NULL")) == 1
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "show": ["Title"]})
    home.sync()
    assert home.ledger_rows("SELECT id FROM findings WHERE kind = 'field_vanished' AND closed_at IS NULL") == []


def test_a_field_that_vanishes_while_it_is_read_fails_clearly_and_the_next_run_succeeds(
    home: Home, sandbox: Sandbox
) -> None:
    def observer(name: str, details: object) -> None:
        if name == "plan.ended":
            sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "hide": ["Title"]})

    outcome = home.sync(observer=observer)
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "SchemaMoved"
    assert "Title" in outcome.headline
    again = home.sync()
    assert again.state is RunState.SUCCEEDED
    assert again.counts["source_count"] == again.counts["warehouse_count"]


def test_a_new_field_arrives_and_old_rows_stay(home: Home, sandbox: Sandbox) -> None:
    home.sync()
    field = {"New_Score__c": {"type": "double", "precision": 18, "scale": 2, "value": 4.5}}
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "add": field})
    sandbox.change(update=3)
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    filled = home.query('SELECT count(*) FROM salesforce.contact WHERE "New_Score__c" = 4.5')[0][0]
    assert filled >= 3


@pytest.mark.parametrize("policy", ["freeze", "quarantine"])
def test_other_schema_policies_hold_the_change_back(policy: str, tmp_path: Path, sandbox: Sandbox) -> None:
    def streams(name: str) -> str:
        return f'"salesforce.contact" = {{ schema_policy = "{name}" }}'

    home = Home.make(tmp_path, sandbox, streams=streams(policy))
    assert home.sync().state is RunState.SUCCEEDED
    before = home.table()
    sandbox.call(
        "POST", "/_sandbox/fields", {"object": "Contact", "add": {"Extra__c": {"type": "string", "length": 20}}}
    )
    sandbox.change(update=4)
    outcome = home.sync()
    assert outcome.state is (RunState.FAILED if policy == "freeze" else RunState.PARTIAL), outcome.headline
    assert "Extra__c" in outcome.headline or "quarantine" in outcome.headline
    assert home.table() == before
    # Accepting the change lets everything through, what was held back included.
    accepted = Home.make(tmp_path, sandbox, streams=streams("evolve"))
    assert accepted.sync().state is RunState.SUCCEEDED
    assert accepted.sync().counts["loaded"] == 0
    assert "Extra__c" in str(accepted.query("SELECT column_name FROM information_schema.columns"))


def cents_are_not_announced(sandbox: Sandbox) -> None:
    """Describe says that amounts have no decimals, and the records have some."""
    sandbox.call("POST", "/_sandbox/fields", {"object": "Opportunity", "change": {"Amount": {"scale": 0}}})


def test_too_many_records_that_cannot_be_typed_fail_the_run_and_are_kept_aside(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    home = Home.make(tmp_path, sandbox, streams='"salesforce.opportunity" = { reject_limit = 3 }')
    cents_are_not_announced(sandbox)
    outcome = home.sync("salesforce.opportunity")
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "DataRejected"
    lines = [
        line for file in (home.folder / "var/landing").rglob("_rejects/*") for line in file.read_text().splitlines()
    ]
    assert len(lines) > 3
    assert "Amount is not a number of at most 18 digits, 0 of them after the point" in lines[0]
    assert "006" in lines[0]
    # Corrected at the source, the next run reads everything again and loads nothing of what was set aside.
    sandbox.call("POST", "/_sandbox/fields", {"reset": True})
    again = home.sync("salesforce.opportunity")
    assert again.state is RunState.SUCCEEDED, again.headline
    assert again.counts["rejected"] == 0
    assert again.counts["source_count"] == again.counts["warehouse_count"]


def test_a_few_rejects_make_a_partial_run_whose_sum_is_right(tmp_path: Path, sandbox: Sandbox) -> None:
    home = Home.make(tmp_path, sandbox, streams='"salesforce.opportunity" = { reject_limit = 100000 }')
    cents_are_not_announced(sandbox)
    outcome = home.sync("salesforce.opportunity")
    assert outcome.state is RunState.PARTIAL, outcome.headline
    counts = outcome.counts
    assert counts["rejected"]
    assert counts["read"] == sum(
        counts[name] or 0 for name in ("loaded", "unchanged", "superseded", "duplicates", "rejected")
    )
    assert "rejected" in outcome.headline
    assert home.jobs("sync", "salesforce.opportunity", "--full").returncode == 3


def test_a_landing_that_refuses_writes(home: Home) -> None:
    landing = home.environment.landing.path
    landing.parent.mkdir(parents=True, exist_ok=True)
    landing.write_text("a file is in the way")
    outcome = home.sync()
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.origin_of_fault) == ("StorageRefused", "landing")
    assert str(landing) in outcome.headline
    landing.unlink()
    assert home.sync().state is RunState.SUCCEEDED


def test_a_warehouse_file_held_by_another_process(home: Home) -> None:
    home.sync()
    script = (
        "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.readline()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(home.environment.warehouse.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    outcome = home.sync()
    holder.communicate("\n")
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert outcome.error.kind == "WarehouseBusy"
    assert str(holder.pid) in outcome.headline
    again = home.sync()
    assert again.state is RunState.SUCCEEDED


def test_a_warehouse_file_that_is_none(home: Home) -> None:
    path = home.environment.warehouse.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is not a database" * 1000)
    outcome = home.sync()
    assert outcome.state is RunState.FAILED
    assert str(path) in outcome.headline
    path.unlink()
    assert home.sync().state is RunState.SUCCEEDED


@pytest.mark.parametrize("limit_kb", [40, 400, 1500, 3000])
def test_a_disk_that_is_full(limit_kb: int, home: Home) -> None:
    """No file may grow beyond a limit, which is what a full disk does to a process; SIGXFSZ becomes an error."""
    run_id = home.ask()

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1024, limit_kb * 1024))

    done = subprocess.run(
        [sys.executable, "-m", "jobs", "execute", str(run_id), "--json"],
        cwd=PROJECT,
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )
    assert "Traceback" not in done.stdout
    [run] = home.ledger_rows("SELECT state, error_kind, error_hint FROM runs")
    if done.returncode == 0:
        assert limit_kb >= 1500
        return
    if run.state == "failed":
        assert run.error_kind == "StorageRefused", run
        assert "space" in run.error_hint
    outcome = home.sync()
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]


def test_a_configuration_that_cannot_be_read(home: Home) -> None:
    (home.folder / "novade.toml").write_text("[environments.test\n")
    done = home.jobs("streams")
    assert done.returncode == 1
    assert "novade.toml" in done.stderr
    assert "Traceback" not in done.stderr
