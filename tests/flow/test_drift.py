"""Drift from its stand-in into the warehouse: every value, nothing lost while the list moves, deletes, faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from novade_core.ledger.models import RunState
from novade_core.sources.drift.records import FIELDS
from novade_core.streams import ColumnType, RunKind
from novade_core.sync.tools import Outcome
from tests.flow.test_cancel import cancel, ended, one, run_times, worker_of
from tests.flow.test_worker import until
from tests.homes import Home, Sandbox

STREAMS = ("conversations", "messages", "contacts", "users", "accounts")
SETTINGS = """
[environments.test.drift]
retry_base_seconds = 0.01
page_rows = 4
batch_rows = 40
{more}
"""


class Workspace:
    """The stand-in's control routes."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def call(self, route: str, **wanted: Any) -> Any:
        return self._sandbox.call("POST", f"/_sandbox/drift/{route}", wanted)

    def records(self, stream: str) -> list[dict[str, Any]]:
        path = f"/_sandbox/drift/records?stream={stream}&count=1000000"
        return list(self._sandbox.call("GET", path)["records"])

    def requests(self) -> dict[str, int]:
        return dict(self._sandbox.call("POST", "/_sandbox/drift/stats", {"reset": True})["requests"])


@pytest.fixture
def drift(sandbox: Sandbox) -> Iterator[Workspace]:
    """The workspace as seeded, without faults, before and after."""
    workspace = Workspace(sandbox)
    workspace.call("reset", data=True)
    yield workspace
    workspace.call("reset", data=True)


def make(folder: Path, sandbox: Sandbox, more: str = 'count = "always"') -> Home:
    streams = "\n".join(f'"drift.{name}" = {{}}' for name in STREAMS)
    return Home.make(folder, sandbox, streams=streams + SETTINGS.format(more=more))


@pytest.fixture
def home(tmp_path: Path, sandbox: Sandbox) -> Home:
    return make(tmp_path, sandbox)


def synced(home: Home, stream: str, kind: RunKind = RunKind.INCREMENTAL) -> Outcome:
    outcome = home.sync(f"drift.{stream}", kind)
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    return outcome


def held(home: Home, stream: str) -> dict[str, dict[str, Any]]:
    """Living rows by key."""
    names = [f.column.name for f in FIELDS[stream]]
    listed = ", ".join(f'"{name}"' for name in names)
    rows = home.query(f"SELECT {listed} FROM drift.{stream} WHERE _novade_deleted_at IS NULL")
    return {str(row[0]): dict(zip(names, row, strict=True)) for row in rows}


def expected(stream: str, record: dict[str, Any]) -> dict[str, Any]:
    """What the columns must hold, worked out from the record by itself."""
    made: dict[str, Any] = {}
    for field in FIELDS[stream]:
        value: Any = record
        for name in field.path:
            value = value.get(name) if isinstance(value, dict) else None
        if not field.path or value is None:
            value = None
        elif field.column.type is ColumnType.TIMESTAMP:
            value = datetime.fromtimestamp(value / 1000, UTC).replace(tzinfo=None)
        elif field.column.type is ColumnType.TEXT:
            value = str(value).replace("\0", "")
        made[field.column.name] = value
    return made


def same(home: Home, stream: str, records: list[dict[str, Any]]) -> None:
    """The warehouse holds exactly these records, value by value."""
    rows = held(home, stream)
    key = "accountId" if stream == "accounts" else "id"
    assert set(rows) == {str(r[key]) for r in records}
    for record in records:
        row = dict(rows[str(record[key])])
        for field in FIELDS[stream]:
            if field.column.type is ColumnType.JSON and row[field.column.name] is not None:
                row[field.column.name] = json.loads(row[field.column.name])
            if field.column.name in ("_changed_at", "_deleted", "_blocked"):
                del row[field.column.name]
        assert row == {name: value for name, value in expected(stream, record).items() if name in row}


def living(drift: Workspace, stream: str) -> list[dict[str, Any]]:
    """What is there to be found: of contacts, those that a conversation names."""
    records = [r for r in drift.records(stream) if not r.get("deleted")]
    if stream != "contacts":
        return records
    named = {c.get("contactId") for c in drift.records("conversations")}
    return [c for c in records if c["id"] in named]


def test_every_value_arrives_then_nothing_new_then_what_changed(home: Home, drift: Workspace) -> None:
    done = home.jobs("sync", "drift", "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert [(a["stream"], a["state"]) for a in first] == [(f"drift.{s}", "succeeded") for s in STREAMS]
    assert all(a["source_count"] == a["warehouse_count"] > 0 for a in first)
    for stream in STREAMS:
        same(home, stream, living(drift, stream))
    meters = home.ledger_rows("SELECT sum(quantity) FROM usage WHERE meter = 'drift.api_calls'")
    assert meters == [(sum(drift.requests().values()),)]

    assert [synced(home, stream).counts["loaded"] for stream in STREAMS] == [0] * 5
    again = drift.requests()

    change = {"new_conversations": 2, "new_messages": 3, "touched": 2}
    drift.call("change", **change, users_edited=1, accounts_edited=2, accounts_deleted=1)
    for stream in STREAMS:
        synced(home, stream)
        same(home, stream, living(drift, stream))
    asked = drift.requests()
    # Beside what the overlap reads again, those that moved, and three pages for one of them.
    assert asked["conversation"] <= again["conversation"] + 7
    assert asked["contact"] <= again["contact"] + 7
    assert asked["messages"] <= again["messages"] + 7 + 2
    assert home.query("SELECT count(*) FROM drift.accounts WHERE _novade_deleted_at IS NOT NULL") == [(1,)]


def test_nothing_is_lost_while_the_list_moves_under_the_reader(home: Home, drift: Workspace) -> None:
    drift.call("faults", reorder={"moved": 2, "new": 1, "count": 5})
    outcome = synced(home, "conversations")
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    same(home, "conversations", drift.records("conversations"))
    assert len(held(home, "conversations")) == 35
    # The same with a cursor that goes on behind a row, in the other paging style.
    drift.call("settings", cursor="key", conversation_paging="pagination")
    drift.call("faults", reorder={"moved": 2, "new": 1, "count": 5})
    synced(home, "messages")
    same(home, "messages", drift.records("messages"))


def test_deleted_and_blocked_contacts_are_told_apart(home: Home, drift: Workspace) -> None:
    drift.call("settings", deleted_conversations="anonymised")
    for stream in ("contacts", "messages"):
        synced(home, stream)
    # Not those that the overlap reads again.
    known = [int(i) for i, row in sorted(held(home, "contacts").items(), key=lambda one: one[1]["_changed_at"])]
    drift.call("change", contacts_deleted=[known[0]], contacts_blocked=[known[1]], contacts_edited=[known[2]])
    # None of it moves a conversation: only a full reload sees it.
    assert synced(home, "contacts").counts["loaded"] == 0
    outcome = synced(home, "contacts", RunKind.FULL)
    assert outcome.counts["source_count"] == outcome.counts["warehouse_count"]
    rows = held(home, "contacts")
    assert str(known[0]) not in rows
    [gone] = home.query("SELECT attributes, _deleted FROM drift.contacts WHERE id = ?", known[0])
    assert gone == (None, True)
    assert (rows[str(known[1])]["_blocked"], rows[str(known[1])]["attributes"]) == (True, None)
    assert json.loads(rows[str(known[2])]["attributes"])["name"].startswith("Edited")
    # Bodies that were wiped at Drift are wiped here by a full reload, too.
    synced(home, "messages", RunKind.FULL)
    same(home, "messages", drift.records("messages"))


def test_conversations_that_went_are_named_and_a_full_reload_takes_them_out(home: Home, drift: Workspace) -> None:
    synced(home, "conversations")
    contact = next(c["contactId"] for c in drift.records("conversations") if "contactId" in c)
    before = len(drift.records("conversations"))
    drift.call("change", contacts_deleted=[contact])
    outcome = synced(home, "conversations")
    after = len(drift.records("conversations"))
    assert (outcome.counts["source_count"], outcome.counts["warehouse_count"]) == (after, before)
    assert "no longer at the source" in outcome.headline
    assert "Equal" in synced(home, "conversations", RunKind.FULL).headline
    same(home, "conversations", drift.records("conversations"))


def test_without_a_count_the_run_says_so_and_goes_on(tmp_path: Path, sandbox: Sandbox, drift: Workspace) -> None:
    home = make(tmp_path, sandbox, more="details = false")
    assert "Equal" in synced(home, "conversations").headline
    drift.requests()
    outcome = synced(home, "conversations")
    assert "nothing new. Not compared: Drift has no count of conversations" in outcome.headline
    assert outcome.counts["warehouse_count"] == len(drift.records("conversations"))
    assert set(drift.requests()) == {"conversations"}
    assert not home.ledger_rows("SELECT id FROM run_log WHERE level <> 'info'")


def test_a_retired_service_is_told_and_the_data_stays(home: Home, drift: Workspace) -> None:
    synced(home, "users")
    before = home.table("drift.users")
    drift.call("faults", retired=410)
    outcome = home.sync("drift.users", RunKind.FULL)
    assert (outcome.state, outcome.error and outcome.error.kind) == (RunState.FAILED, "SourceRetired")
    assert "retired" in outcome.headline
    assert outcome.error is not None
    assert "stays" in outcome.error.hint
    assert home.table("drift.users") == before


def test_a_cancel_ends_a_call_that_hangs(home: Home, drift: Workspace) -> None:
    drift.call("faults", hang="messages")
    run_id = home.ask("drift.messages")
    with worker_of(home):
        until(lambda: one(home, run_id).state == "running")
        until(lambda: drift.requests().get("messages", 0) > 0)
        time.sleep(0.3)
        cancel(home, run_id)
        run = ended(home, run_id)
    drift.call("faults", hang=None)
    assert (run.state, run.error_kind) == ("cancelled", "RunCancelled")
    assert run_times(home, run_id) < 4


def test_the_bulk_export_arrives_value_by_value(tmp_path: Path, sandbox: Sandbox, drift: Workspace) -> None:
    folder = drift.call("export", name="flow", format="jsonl", gzip=True, rows_per_file=90)["target"]
    streams = "\n".join(f'"drift.{name}" = {{ transport = "files" }}' for name in ("messages", "contacts"))
    home = Home.make(tmp_path, sandbox, streams=streams + SETTINGS.format(more=f'export = "{folder}"'))
    for stream in ("messages", "contacts"):
        assert "Equal" in synced(home, stream).headline
        same(home, stream, drift.records(stream))
    assert synced(home, "contacts").counts["loaded"] == 0
    assert drift.requests() == {}


def test_a_run_that_died_goes_on_behind_what_landed(home: Home, drift: Workspace) -> None:
    def die(point: str, details: Any) -> None:
        if point == "land.registered" and details["chunk"] == 5:
            raise OSError("the machine went")

    assert home.sync("drift.messages", observer=die).state is RunState.FAILED
    landed = home.ledger_rows("SELECT sum(rows) FROM landed_files")[0][0]
    drift.requests()
    drift.call("change", touched=[home_id(drift)])
    outcome = synced(home, "messages")
    same(home, "messages", drift.records("messages"))
    assert landed >= 200
    assert drift.requests()["messages"] < len(drift.records("conversations"))
    assert "Not compared" in outcome.headline


def home_id(drift: Workspace) -> int:
    """The conversation that is read first."""
    return int(min(drift.records("conversations"), key=lambda c: c["createdAt"])["id"])
