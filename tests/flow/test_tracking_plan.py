"""Tracking plans from files into the warehouse: every version stays, and a sync without a change brings nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from novade_core.ledger.models import RunState
from novade_core.streams import RunKind
from tests.homes import Home

CONFIGURATION = """
default_environment = "test"
first_sync = false

[environments.test.tracking_plan]
path = "plans"

[streams]
"tracking_plan.plans" = {}
"tracking_plan.events" = {}
"tracking_plan.properties" = {}
"""
STREAMS = PLANS, _, PROPERTIES = ("tracking_plan.plans", "tracking_plan.events", "tracking_plan.properties")
#: A name that only case tells from another, one that is SQL, a formula and markup; a value of each type.
SCHEMA = {
    "properties": {
        "properties": {
            "required": ["a.b"],
            "properties": {
                "a.b": {"type": ["string", "null"], "enum": ["x", 1, True, None, "1"]},
                "a": {"type": "object", "properties": {"b": {"type": "integer", "minimum": -0.5, "maximum": 1e300}}},
                "=1+1": {"description": "line\none, \"two\" \u0000 'three' \ud83d\udea7"},
            },
        }
    }
}
NAMES = ("order placed", "Order Placed", "'; DROP TABLE x --", "<b>42_--terrible==\\\"event'++name~!3</b>", "none")


def write(home: Path, *names: str, plan: str = "Shop") -> None:
    rules = [{"key": name, "jsonSchema": SCHEMA if name != "none" else {}} for name in names]
    (home / "plans").mkdir(exist_ok=True)
    (home / "plans" / "plan.json").write_text(json.dumps({"name": plan, "id": "tp_1", "rules": rules}))


@pytest.fixture
def home(tmp_path: Path):
    (tmp_path / "novade.toml").write_text(CONFIGURATION)
    write(tmp_path, *NAMES)
    opened = Home.open(tmp_path)
    yield opened
    opened.services.ledger.close()


def sync(home: Home, *streams: str, **kind: RunKind) -> list[tuple[int, str]]:
    """Loaded rows and headline of each stream."""
    done = [home.sync(stream, **kind) for stream in streams or STREAMS]
    assert {one.state for one in done} == {RunState.SUCCEEDED}, [one.headline for one in done]
    return [(one.counts["loaded"], one.headline) for one in done]


def test_versions_arrive_with_every_value_and_stay(home: Home):
    assert [loaded for loaded, _ in sync(home)] == [1, 5, 16]
    said = sync(home)
    assert [loaded for loaded, _ in said] == [0, 0, 0]
    assert said[0][1] == "Tracking plans: nothing new. Equal: 1 on both sides."
    assert {name for (name,) in home.query("SELECT event FROM tracking_plan.events")} == set(NAMES)
    of_one = "FROM tracking_plan.properties WHERE event = 'Order Placed' ORDER BY path, types"
    columns = "path, types, required, enum, minimum, maximum, description, section"
    assert home.query(f"SELECT {columns} {of_one}") == [
        ("=1+1", '["any"]', False, None, None, None, "line\none, \"two\"  'three' \U0001f6a7", "properties"),
        ("a", '["object"]', False, None, None, None, None, "properties"),
        ("a.b", '["integer"]', False, None, -0.5, 1e300, None, "properties"),
        ("a.b", '["null", "string"]', True, '["x", 1, true, null, "1"]', None, None, None, "properties"),
    ]
    first = home.query("SELECT version FROM tracking_plan.plans")[0][0]
    write(home.folder, *NAMES[:2])
    assert [loaded for loaded, _ in sync(home, PLANS, PROPERTIES)] == [2, 8]
    listed = home.query("SELECT version, is_current, events FROM tracking_plan.plans ORDER BY first_seen_at")
    assert [(current, events) for _, current, events in listed] == [(False, 5), (True, 2)]
    write(home.folder, *NAMES)
    assert [loaded for loaded, _ in sync(home, PLANS)] == [2]
    assert home.query("SELECT version FROM tracking_plan.plans WHERE is_current") == [(first,)]
    # A full reload brings back what no file holds any more.
    before = home.table(PROPERTIES)
    assert len(before) == 24
    sync(home, PROPERTIES, kind=RunKind.FULL)
    assert home.table(PROPERTIES) == before


def test_a_bad_file_fails_and_the_plans_stay(home: Home):
    sync(home, PLANS)
    before = home.table("tracking_plan.plans")
    (home.folder / "plans" / "plan.json").write_text('{"rules": [')
    done = home.sync("tracking_plan.plans")
    assert done.state is RunState.FAILED
    assert done.error is not None
    assert done.error.kind == "ConfigurationError"
    assert done.error.message.startswith("plan.json, line 1: is not JSON")
    assert home.table("tracking_plan.plans") == before
    write(home.folder, *NAMES)
    assert home.sync("tracking_plan.plans").headline == "Tracking plans: nothing new. Equal: 1 on both sides."


def test_the_command_line_tells_versions_apart(home: Home):
    def plan(*arguments: str) -> Any:
        environ = {"NOVADE_CONFIG": str(home.folder / "novade.toml")}
        return json.loads(CliRunner().invoke(app, ["plan", *arguments, "--json"], env=environ).stdout)

    assert plan("show")["error"] == "No tracking plan has been read yet."
    home.sync("tracking_plan.plans")
    write(home.folder, *NAMES[:2])
    home.sync("tracking_plan.plans")
    shown = plan("show")
    assert [(one["plan"], one["current"], one["events"], one["properties"]) for one in shown] == [
        ("Shop", True, 2, 8),
        ("Shop", False, 5, 16),
    ]
    differing = plan("diff")
    assert (differing["old"], differing["new"]) == (shown[1]["version"], shown[0]["version"])
    assert sorted(d["event"] for d in differing["differences"]) == sorted(NAMES[2:])
    whole = plan("show", "--version", shown[1]["version"][:6])
    assert [event["name"] for event in whole["events"]] == list(NAMES)
    assert "No version of 'Nothing'" in plan("diff", "--plan", "Nothing")["error"]


def test_without_a_path_the_run_says_what_to_set(home: Home):
    text = CONFIGURATION.replace('path = "plans"', "")
    (home.folder / "novade.toml").write_text(text)
    done = Home.open(home.folder).sync("tracking_plan.plans")
    assert done.error is not None
    assert "tracking_plan.path is missing" in done.error.message
    assert "NOVADE_TRACKING_PLAN_PATH" in (done.error.hint or "")
