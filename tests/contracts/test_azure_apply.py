"""`python -m jobs azure` as a command against a pool: what it makes, says, and leaves alone the second time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core.warehouse import synapse_bootstrap as bootstrap
from novade_core.warehouse.synapse_bootstrap import Wanted
from tests import pools
from tests.homes import PROJECT
from tests.pools import RunningPool

FILE = """
default_environment = "azure"
[environments.azure.landing]
kind = "azure_blob"
account = "acmelake"
[environments.azure.warehouse]
kind = "synapse"
server = "127.0.0.1"
port = {port}
database = "novade"
auth = "sql"
user = "{user}"
encrypt = false
tries = 1
[streams]
"salesforce.contact" = {{}}
"""
WANTED = Wanted(pool="novade", sources=("salesforce",), console="acme-console", analysts=("Data Analysts",))
OPTIONS = ("--console-identity", "acme-console", "--analyst", "Data Analysts")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RunningPool]:
    yield pools.pool_in(tmp_path)
    pools.end(tmp_path)


@pytest.fixture
def _configured(pool: RunningPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose warehouse is the pool."""
    settings = pool.settings()
    assert settings.password is not None
    (tmp_path / "novade.toml").write_text(FILE.format(port=pool.port, user=settings.user))
    monkeypatch.setenv("NOVADE_CONFIG", str(tmp_path / "novade.toml"))
    monkeypatch.setenv("NOVADE_WAREHOUSE_PASSWORD", settings.password.get_secret_value())


def azure(*arguments: str) -> Result:
    """`python -m jobs azure ...` in this process: starting one takes longer than what it does."""
    return CliRunner().invoke(commands.app, ["azure", *arguments, *OPTIONS])


@pytest.mark.usefixtures("_configured")
def test_the_first_apply_makes_what_the_plan_says_and_the_second_nothing(
    pool: RunningPool, monkeypatch: pytest.MonkeyPatch
):
    whole = bootstrap.changes(WANTED, bootstrap.NOTHING)
    first = subprocess.run(
        [sys.executable, "-m", "jobs", "azure", "apply", *OPTIONS, "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    assert [(s["on"], s["statement"]) for s in made["statements"]] == [(c.on, c.statement.text) for c in whole]
    assert len(made["roles"]) == 4

    second = azure("apply")
    assert second.exit_code == 0
    assert "Nothing was missing." in second.stderr
    assert second.stdout.count("\naz ") == 4

    pool.execute("REVOKE DELETE ON SCHEMA::[salesforce] FROM [novade_loader]")
    planned = azure("plan", "--json")
    assert planned.exit_code == 0
    assert [s["statement"] for s in json.loads(planned.stdout)["statements"]] == [
        "GRANT DELETE ON SCHEMA::[salesforce] TO [novade_loader]"
    ]

    monkeypatch.setenv("NOVADE_WAREHOUSE_PASSWORD", "wrong-9c1")
    refused = azure("apply", "--json")
    assert refused.exit_code == 1
    told = json.loads(refused.stdout)
    assert (told["class"], "refused the login" in told["error"]) == ("AuthenticationFailed", True)
    assert "wrong-9c1" not in refused.output
