"""The environment stack as novade.toml has it: from the source through Azurite into the stand-in of a pool."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from jobs import sandbox
from jobs.execute import perform
from novade_core.errors import RetryableError
from novade_core.landing.azure_blob import AzureBlob
from novade_core.ledger import leases, windows
from novade_core.ledger.models import RunState, WindowState
from novade_core.rowhash import quote, row_hash_duckdb
from novade_core.settings import Environment, load_settings
from novade_core.sources.amplitude import fields
from novade_core.streams import RunKind
from novade_core.warehouse.pool import ArmPool, PoolState
from novade_core.warehouse.schema import duckdb_type
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from tests.homes import PROJECT, Home

Look = Callable[[str], list[tuple[Any, ...]]]


def write(folder: Path, *, with_pool: bool) -> Environment:
    """The project's file, smaller and on free ports; without the pool nothing is ever paused."""
    text = (PROJECT / "novade.toml").read_text()
    changes = {
        'default_environment = "local"': 'default_environment = "stack"\nfirst_sync = false',
        "contacts = 2000": "contacts = 200",
        "port = 8544": "port = 0",
        "poll_seconds = 0.2": "poll_seconds = 0.02",
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    if not with_pool:
        text, cut = re.subn(r"\[environments\.stack\.pool\]\n(\w.*\n)+", "", text)
        assert cut == 1
    (folder / "novade.toml").write_text(text)
    return load_settings(file=folder / "novade.toml", environ={})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("stack")
    environment = write(folder, with_pool=False)
    sandbox.start(environment, parent=os.getpid())
    home = Home.open(folder)
    yield home
    home.services.ledger.close()
    sandbox.stop(environment)


@pytest.fixture
def look(stack: Home) -> Iterator[Look]:
    """Queries of the pool through the driver."""
    link = Link(stack.environment.warehouse)
    yield lambda text: link.rows(Statement("look", text, labelled=False))
    link.close()


def org(stack: Home, name: str) -> list[dict[str, Any]]:
    """All records of an object as the stand-in knows them."""
    answer = sandbox.control(stack.environment, "GET", f"/_sandbox/records?object={name}&limit=100000")
    return list(answer["records"])


def test_streams_arrive_and_a_second_sync_brings_nothing_new(stack: Home, look: Look) -> None:
    streams = {"salesforce.contact": "Contact", "salesforce.account": "Account", "salesforce.user": "User"}
    first = stack.jobs("sync", *streams, "--json")
    assert first.returncode == 0, first.stderr
    for stream, name in streams.items():
        there = {(r["Id"], r.get("LastName", r.get("Name"))) for r in org(stack, name)}
        shown = "Name" if name == "Account" else "LastName"
        held = look(f"SELECT Id, {shown} FROM {stream}")
        assert len(held) == len(there) > 4
        assert set(held) == there
    again = stack.jobs("sync", *streams, "--json")
    assert again.returncode == 0, again.stderr
    answers = [r for a in (first, again) for r in json.loads(a.stdout)]
    assert [a["state"] for a in answers] == ["succeeded"] * 6
    assert all(a["source_count"] == a["warehouse_count"] for a in answers)
    assert [a["loaded"] for a in answers[3:]] == [0, 0, 0]
    landing = stack.services.landing
    assert isinstance(landing, AzureBlob)
    manifests = [p for p in landing.paths("") if "manifest" in p]
    registered = stack.ledger_rows("SELECT count(*) FROM landed_files")[0][0]
    assert len(manifests) == registered >= 3
    assert stack.ledger_rows(
        "SELECT count(*) FROM usage WHERE meter = 'landing.write_operations' AND quantity >= 2"
    ) == [(6,)]


def test_drift_arrives_and_a_second_sync_brings_nothing_new(stack: Home, look: Look) -> None:
    answer = sandbox.control(stack.environment, "GET", "/_sandbox/drift/records?stream=messages&count=100000")
    there = {(r["id"], r["body"].replace("\0", "")) for r in answer["records"]}
    assert max(len(body) for _, body in there) > 4_000
    first = stack.sync("drift.messages")
    assert (first.state, first.counts["loaded"]) == (RunState.SUCCEEDED, len(there)), first.headline
    assert set(look("SELECT id, body FROM drift.messages")) == there
    again = stack.sync("drift.messages")
    assert (again.state, again.counts["loaded"]) == (RunState.SUCCEEDED, 0), again.headline


def test_a_full_reload_replaces_the_table(stack: Home, look: Look) -> None:
    assert stack.sync("salesforce.lead").state is RunState.SUCCEEDED
    gone = sandbox.control(stack.environment, "POST", "/_sandbox/change", {"object": "Lead", "purge": 3})["ids"][
        "purge"
    ]
    assert stack.sync("salesforce.lead", RunKind.FULL).state is RunState.SUCCEEDED
    held = {row[0] for row in look("SELECT Id FROM salesforce.lead")}
    assert held == {r["Id"] for r in org(stack, "Lead")}
    assert len(gone) == 3
    assert not held & set(gone)


def test_a_new_field_becomes_a_column_with_its_values(stack: Home, look: Look) -> None:
    assert stack.sync("salesforce.opportunity").state is RunState.SUCCEEDED
    field = {"Colour__c": {"type": "string", "length": 40}}
    sandbox.control(stack.environment, "POST", "/_sandbox/fields", {"object": "Opportunity", "add": field})
    key = org(stack, "Opportunity")[0]["Id"]
    change = {"object": "Opportunity", "set": {key: {"Colour__c": "grün 緑"}}}
    sandbox.control(stack.environment, "POST", "/_sandbox/change", change)
    assert stack.sync("salesforce.opportunity").state is RunState.SUCCEEDED
    assert look(f"SELECT Colour__c FROM salesforce.opportunity WHERE Id = '{key}'") == [("grün 緑",)]


def test_events_keep_their_microseconds_and_their_row_hash(stack: Home, look: Look) -> None:
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    window = {"since": until - timedelta(hours=2), "until": until}
    outcome = stack.sync("amplitude.events", RunKind.BACKFILL, **window)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    assert outcome.counts["loaded"] > 10
    assert stack.sync("amplitude.events", RunKind.BACKFILL, **window).counts["loaded"] == 0
    environment = stack.environment
    columns = fields.schema(environment.stream("amplitude.events"), environment.amplitude).columns
    listed = ", ".join(f"[{c.name}]" for c in columns)
    rows = look(f"SELECT {listed}, _novade_row_hash FROM amplitude.events")
    uploaded = [c.name for c in columns].index("server_upload_time")
    assert any(row[uploaded].microsecond % 1000 for row in rows)
    types = ", ".join(f"{quote(c.name)} {duckdb_type(c)}" for c in columns)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE held ({types}, in_the_pool BIGINT)")
        connection.executemany(f"INSERT INTO held VALUES ({', '.join('?' * (len(columns) + 1))})", [*map(list, rows)])
        differing = f"SELECT count(*) FROM held WHERE {row_hash_duckdb(columns)} <> in_the_pool"
        assert connection.execute(differing).fetchall() == [(0,)]


@pytest.fixture
def windowed(tmp_path: Path) -> Iterator[Home]:
    """With the pool, which begins paused and then moves fast; nobody waits longer than it takes."""
    before = write(tmp_path, with_pool=True)
    sandbox.start(before, parent=os.getpid())
    file = tmp_path / "novade.toml"
    text = file.read_text()
    file.write_text(re.sub(r"(gather|idle)_minutes = .*", r"\1_minutes = 0", text))
    home = Home.open(tmp_path)
    yield home
    home.services.ledger.close()
    sandbox.stop(before)


def test_a_load_window_loads_what_landed_and_the_pool_sleeps_again(windowed: Home) -> None:
    services, environment = windowed.services, windowed.environment
    control = ArmPool(environment.pool)
    assert control.status().state is PoolState.PAUSED
    with pytest.raises(RetryableError, match="SSLError"):
        ArmPool(environment.pool.model_copy(update={"ca_file": None})).status()
    fast = {"resume_seconds": 0.3, "warm_up_seconds": 0.2, "pause_seconds": 0.2}
    sandbox.control(environment, "POST", "/_sandbox/synapse/settings", fast)
    landed = windowed.sync("salesforce.contact")
    assert (landed.state, landed.counts["loaded"]) == (RunState.LANDED, 0)

    worker = services.load_windows(leases.Watcher(0.1))
    assert worker is not None
    last, loaded = time.monotonic() + 30, []
    while not (closed := [w for w in windows.recent(services.ledger, 1) if w.state is WindowState.CLOSED]):
        assert time.monotonic() < last
        worker.tick()
        for (run,) in windowed.ledger_rows("SELECT id FROM runs WHERE state = 'queued'"):
            loaded.append(perform(services, run))
        time.sleep(0.06)
    assert [(r.state, r.counts["loaded"]) for r in loaded] == [(RunState.SUCCEEDED, 200)]
    assert "Equal" in loaded[0].headline
    assert (closed[0].ours, closed[0].trouble, closed[0].loads) == (True, None, 1)
    assert control.status().state is PoolState.PAUSED
