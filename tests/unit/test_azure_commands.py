"""`python -m jobs azure` without a pool: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core.errors import ConfigurationError
from novade_core.settings import load_settings
from novade_core.warehouse import synapse_bootstrap as bootstrap

FILE = """
default_environment = "azure"
[environments.azure.landing]
kind = "azure_blob"
account = "acmelake"
[environments.azure.warehouse]
kind = "synapse"
server = "acme.sql.azuresynapse.net"
database = "dw"
[environments.azure.pool]
kind = "{kind}"
{pool}
[streams]
"salesforce.contact" = {{}}
"""
POOL = 'subscription = "s-1"\nresource_group = "novade"\nworkspace = "acme-ws"'


def write(folder: Path, kind: str = "workspace", pool: str = POOL) -> Path:
    file = folder / "novade.toml"
    file.write_text(FILE.format(kind=kind, pool=pool))
    return file


@pytest.fixture
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVADE_CONFIG", str(write(tmp_path)))


@pytest.mark.usefixtures("_configured")
def test_an_offline_plan_is_every_statement_and_every_role() -> None:
    ended = CliRunner().invoke(
        commands.app, ["azure", "plan", "--offline", "--console-identity", "c", "--analyst", "a", "--json"]
    )
    assert ended.exit_code == 0, ended.output
    answer = json.loads(ended.stdout)
    wanted = bootstrap.Wanted(pool="dw", sources=("salesforce",), console="c", analysts=("a",))
    whole = bootstrap.changes(wanted, bootstrap.NOTHING)
    assert [(s["on"], s["statement"]) for s in answer["statements"]] == [(c.on, c.statement.text) for c in whole]
    assert all("/subscriptions/s-1/resourceGroups/novade" in role["command"] for role in answer["roles"])


@pytest.mark.usefixtures("_configured")
def test_the_printed_plan_can_be_run_as_it_stands() -> None:
    ended = CliRunner().invoke(commands.app, ["azure", "plan", "--offline", "--console-identity", "c"])
    sql, _, roles = ended.stdout.partition("-- roles to assign in Azure")
    for batch in sql.split("\nGO\n"):
        lines = batch.strip().splitlines()
        assert all(line.startswith("-- ") for line in lines[:-1])
        assert not lines or lines[-1].endswith(";")
    assert roles.count("\naz ") == 4


def test_only_a_synapse_pool_is_prepared() -> None:
    ended = CliRunner().invoke(commands.app, ["azure", "plan", "--offline", "--console-identity", "c", "--json"])
    assert ended.exit_code == 1
    assert "only a Synapse pool is prepared" in json.loads(ended.stdout)["error"]


@pytest.mark.parametrize(
    ("kind", "pool", "said"),
    [
        ("workspace", 'subscription = "s-1"', "needs resource_group, workspace"),
        ("workspace", POOL + '\nendpoint = "http://example.com"', "endpoint must be https"),
        ("paused", POOL, "pool.kind"),
    ],
)
def test_a_pool_that_cannot_be_reached_is_told_at_start(tmp_path: Path, kind: str, pool: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_settings(file=write(tmp_path, kind, pool), environ={})


def test_the_pools_name_is_the_warehouses_database(tmp_path: Path) -> None:
    assert load_settings(file=write(tmp_path), environ={}).pool.name == "dw"
    assert load_settings(file=write(tmp_path), environ={"NOVADE_POOL_NAME": "other"}).pool.name == "other"
    token = load_settings(file=write(tmp_path), environ={"NOVADE_POOL_TOKEN": "t"}).pool.token
    assert token is not None
    assert "t" not in repr(token).replace("SecretStr", "")
