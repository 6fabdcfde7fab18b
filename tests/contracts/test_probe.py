"""The probe on the stand-in, through the Microsoft driver, with Azurite and the routes of Azure's management."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from typer.testing import CliRunner

import jobs.__main__ as commands
from novade_core.errors import AuthenticationFailed, ConfigurationError
from novade_core.settings import Environment, load_settings
from novade_core.warehouse import probe as probing
from novade_core.warehouse.probe import FACTS, Report
from novade_core.warehouse.synapse_link import Link, Refused
from novade_core.warehouse.synapse_sql import Statement
from sandbox.synapse import facts as followed
from sandbox.synapse.control import with_synapse
from tests import pools
from tests.azurite import ACCOUNT, azurite
from tests.pools import RunningPool

FILE = """
default_environment = "test"
[environments.test.landing]
kind = "azure_blob"
account = "{account}"
container = "{container}"
prefix = "landed"
endpoint = "{blobs}"
credential = "key"
key = "{key}"
[environments.test.warehouse]
kind = "synapse"
server = "127.0.0.1"
port = {port}
database = "novade"
auth = "sql"
user = "{user}"
password = '{password}'
encrypt = false
copy_credential = "key"
copy_secret = "{key}"
[environments.test.pool]
kind = "workspace"
subscription = "subscription-hunter2"
resource_group = "group-hunter2"
workspace = "workspace-hunter2"
endpoint = "http://127.0.0.1:{arm}"
token = "token-hunter2"
[streams]
"salesforce.contact" = {{}}
"""
SCHEMA = "novade_probe"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def management() -> Iterator[tuple[int, list[RunningPool]]]:
    """A port with Azure's routes, and the pool that stands behind them."""
    behind: list[RunningPool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await with_synapse(nowhere, behind[0].pool)(scope, receive, send)

    async def nowhere(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("only the pool's own routes are asked for")

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1], behind
    server.should_exit = True
    thread.join(timeout=5)


class Site:
    """A pool with its storage and management, and the environment that names them."""

    def __init__(self, folder: Path, arm: int) -> None:
        self.folder = folder
        self.running = pools.pool_in(folder)
        self.pool = self.running.pool
        self.container = azurite().service.create_container(f"c{uuid4().hex}")
        self.arm = arm
        self.file = folder / "novade.toml"
        self.name("sandbox_admin", self.pool.password)

    def name(self, user: str, password: str) -> Environment:
        """The environment, with this login."""
        self.file.write_text(
            FILE.format(
                account=ACCOUNT, container=self.container.container_name, blobs=azurite().endpoint(), arm=self.arm,
                key=azurite().key, port=self.running.port, user=user, password=password,
            )
        )  # fmt: skip
        return self.environment

    @property
    def environment(self) -> Environment:
        return load_settings(file=self.file, environ={})

    def probe(self, schema: str | None = None) -> Report:
        return probing.probe(self.environment, schema, NOW, "test", lambda _: None)

    def refused(self, *statements: str) -> list[int | None]:
        """The numbers with which one connection's statements are refused; None for those that are accepted."""
        link = Link(self.running.settings())
        numbers: list[int | None] = []
        for text in statements:
            try:
                link.hit(Statement("look", text, labelled=False))
                numbers.append(None)
            except Refused as refused:
                numbers.append(refused.number)
        link.close()
        return numbers


@pytest.fixture
def site(tmp_path: Path, management: tuple[int, list[RunningPool]]) -> Iterator[Site]:
    port, behind = management
    made = Site(tmp_path, port)
    behind[:] = [made.running]
    yield made
    pools.end(tmp_path)


def answers(report: Report) -> dict[str, str | None]:
    return {f.fact.id: f.answer for f in report.findings}


def test_the_stand_in_does_not_differ_from_itself(site: Site) -> None:
    report = site.probe(SCHEMA)
    assert {f.fact.id: f.answer or f.reason for f in report.of("differs", "not asked", "left out")} == {}
    assert report.headline == f"Your pool differs from the stand-in in 0 of {len(FACTS)} facts."


def test_what_was_written_is_removed(site: Site) -> None:
    site.container.upload_blob("landed/kept.parquet", b"ours")
    site.running.execute("CREATE SCHEMA ours")
    site.running.execute("CREATE TABLE ours.t (k int) WITH (HEAP)")
    site.probe(SCHEMA)
    with site.running.look() as look:
        assert [n for (n,) in look("SELECT name FROM sys.schemas WHERE name IN ('ours', 'novade_probe')")] == ["ours"]
        assert look("SELECT name FROM sys.objects WHERE type <> 'S'") == [("t",)]
        assert look("SELECT name FROM sys.external_file_formats") == []
    assert list(site.container.list_blob_names()) == ["landed/kept.parquet"]


def test_what_was_written_is_removed_when_the_connection_breaks(site: Site) -> None:
    site.pool.faults.update({"cut": {"match": "RENAME OBJECT"}})
    report = site.probe(SCHEMA)
    [lost] = report.of("not asked")
    assert lost.fact.id == "table.rename_view"
    assert (lost.reason or "").startswith("the connection was lost")
    with site.running.look() as look:
        assert look("SELECT name FROM sys.schemas WHERE name = 'novade_probe'") == []
    assert list(site.container.list_blob_names()) == []


def test_without_a_schema_nothing_is_written(site: Site) -> None:
    site.pool.faults.clear()
    report = site.probe()
    left = report.of("left out")
    assert {f.fact.id for f in left} == {f.id for f in FACTS if f.writes}
    assert report.headline == (
        f"Your pool differs from the stand-in in 0 of {len(FACTS) - len(left)} facts. "
        f"{len(left)} were left out, since they need --write SCHEMA."
    )
    sent = [text.split()[0].upper() for text in site.pool.faults.seen]
    assert set(sent) <= {"SELECT", "BEGIN", "COMMIT", "ROLLBACK", "SET", "EXEC"}
    assert list(site.container.list_blob_names()) == []


def test_a_schema_or_folder_that_is_there_is_left_alone(site: Site) -> None:
    site.running.execute(f"CREATE SCHEMA {SCHEMA}")
    site.running.execute(f"CREATE TABLE {SCHEMA}.t (k int) WITH (HEAP)")
    with pytest.raises(ConfigurationError, match="exists already"):
        site.probe(SCHEMA)
    with site.running.look() as look:
        assert look(f"SELECT COUNT(*) FROM {SCHEMA}.t") == [(0,)]
    site.container.upload_blob("landed/another_one/x", b"ours")
    with pytest.raises(ConfigurationError, match="lie below landed/another_one/ already"):
        site.probe("another_one")
    assert list(site.container.list_blob_names()) == ["landed/another_one/x"]
    with site.running.look() as look:
        assert look("SELECT name FROM sys.schemas WHERE name = 'another_one'") == []


def test_three_changed_settings_are_three_differences(site: Site) -> None:
    site.pool.settings |= {
        "rollback_after_error": "accepted",
        "product_version": "10.0.9.1",
        "copy_no_files": "nothing",
    }
    report = site.probe(SCHEMA)
    assert {f.fact.id: f.answer for f in report.of("differs", "not asked")} == {
        "version.product": "10.0.9.1",
        "transaction.rollback_after_error": "accepted",
        "copy.no_files": "accepted",
    }
    assert report.headline.startswith("Your pool differs from the stand-in in 3 of ")


#: A pool that differs wherever the stand-in has a setting for it.
OTHER = {
    "rollback_after_error": "accepted",
    "copy_no_files": "nothing",
    "copy_row_count": False,
    "managed_identity_on_blob": True,
    "product_version": "12.0.2000.8",
    "management_route": "server",
    "language": "Deutsch",
    "engine_edition": "7",
    "size": "DW200c",
    "resource_class": "largerc",
    "rcsi": True,
    "sessions_of_its_own": True,
    "missing_columns": {"sys.dm_pdw_request_steps": ["row_count", "status"]},
    "numbers": {"105216": 104001, "46519": 104002, "111212": 226},
}


def test_the_stand_in_behaves_as_the_file_says(site: Site, tmp_path: Path) -> None:
    site.pool.settings |= OTHER
    real = site.probe(SCHEMA)
    file = tmp_path / "facts.json"
    probing.save(real, file)
    site.pool.settings |= site.pool.defaults
    assert site.refused("BEGIN TRANSACTION", "SELECT 1 FROM nowhere.t", "ROLLBACK") == [None, 208, 111214]

    taken = followed.read(file)
    assert taken.beyond == []
    site.pool.behave_as(taken.settings)
    assert site.refused("BEGIN TRANSACTION", "SELECT 1 FROM nowhere.t", "ROLLBACK") == [None, 208, None]
    assert site.refused("BEGIN TRANSACTION", "CREATE TABLE dbo.t (k int) WITH (HEAP)") == [None, 226]
    with site.running.look() as look:
        assert look("SELECT CAST(SERVERPROPERTY('ProductVersion') AS varchar(128))") == [("12.0.2000.8",)]
        assert look("SELECT @@LANGUAGE") == [("Deutsch",)]
    assert answers(site.probe(SCHEMA)) == answers(real)
    assert len(real.of("differs")) >= len(OTHER)


def test_facts_beyond_the_stand_in_are_named(tmp_path: Path) -> None:
    entry = {"answer": "apart", "stand_in": "equal"}
    same = {"answer": "refused 208", "stand_in": "refused 208"}
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"format": 1, "facts": {"text.trailing_blank": entry, "query.missing_table": same}}))
    assert followed.read(file) == followed.Facts({}, ["text.trailing_blank"])
    file.write_text(json.dumps({"format": 2, "facts": {}}))
    with pytest.raises(followed.NoFacts, match="its format is 2"):
        followed.read(file)


def test_a_missing_right_is_no_answer(site: Site) -> None:
    link = Link(site.running.settings(database="master"))
    link.hit(Statement("meddle", "CREATE LOGIN weak WITH PASSWORD = 'W3ak; no more'", labelled=False))
    link.close()
    site.running.execute("CREATE USER weak FOR LOGIN weak")
    site.name("weak", "W3ak; no more")
    reasons = {f.fact.id: f.reason for f in site.probe().of("not asked")}
    assert set(reasons) >= {"view.sessions", "view.requests", "session.own_row", "request.label"}
    assert all(reason and "a right is missing" in reason for reason in reasons.values())


def test_a_wrong_password_ends_the_probe(site: Site) -> None:
    site.name("sandbox_admin", "wrong")
    with pytest.raises(AuthenticationFailed):
        site.probe()


def test_the_file_holds_no_name_and_no_secret(site: Site, tmp_path: Path) -> None:
    """A pool that says its secrets wherever it is asked, also in the texts of its errors."""
    site.running.execute("CREATE SCHEMA hunter2")
    site.running.execute("CREATE TABLE hunter2.hunter2 (hunter2 nvarchar(99)) WITH (HEAP)")
    site.running.execute("INSERT INTO hunter2.hunter2 SELECT N'value hunter2'")
    site.pool.foreign.append({"session_id": "SID9", "login_name": "hunter2@acme.com", "app_name": "hunter2"})
    for name in ("product_version", "engine_edition", "language", "size", "resource_class"):
        site.pool.settings[name] = "hunter2; PWD=hunter2"
    site.pool.faults.update(
        {
            "error": {
                "match": "DM_PDW_EXEC_SESSIONS|sp_describe", "number": 8630, "times": 99,
                "message": "Login hunter2 on server hunter2.sql.azuresynapse.net failed for value 'hunter2'.",
            }
        }
    )  # fmt: skip
    report = site.probe(SCHEMA)
    file = tmp_path / "facts.json"
    probing.save(report, file)
    text = file.read_text()
    warehouse = site.environment.warehouse
    assert warehouse.password is not None
    secrets = ("hunter2", "127.0.0.1", "sandbox_admin", ACCOUNT, azurite().key, site.container.container_name,
               warehouse.password.get_secret_value(), "novade_probe", str(site.running.port))  # fmt: skip
    assert [secret for secret in secrets if secret in text] == []
    found = answers(report)
    assert {found[n] for n in ("version.product", "session.language", "pool.size", "management.size")} == {
        "something else"
    }
    assert found["procedure.describe_first_result_set"] == "refused 8630"
    assert set(json.loads(text)) == {"format", "tool", "taken_on", "facts"}
    assert all(set(e) in ({"answer", "stand_in"}, {"not_asked"}) for e in json.loads(text)["facts"].values())


# --- the command ----------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(commands.app, ["probe", *arguments])


def test_the_command_asks_writes_and_compares(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVADE_CONFIG", str(site.file))
    ended = run()
    assert ended.exit_code == 0, ended.output
    assert "in 0 of " in ended.stderr
    assert "were left out" in ended.stderr
    file = site.folder / "var" / "probe-test.json"
    assert file.exists()

    site.pool.settings["language"] = "Deutsch"
    ended = run("--to", str(file), "--json")
    assert ended.exit_code == 3
    shown = json.loads(ended.stdout)
    assert [f["fact"] for f in shown["facts"] if f["verdict"] == "differs"] == ["session.language"]
    assert len(shown["facts"]) == len(FACTS)

    pools.end(site.folder)  # nobody is asked any more
    ended = run("--compare", str(file))
    assert ended.exit_code == 3
    assert "session.language  Deutsch    us_english" in ended.stdout
    assert "in 1 of " in ended.stderr


def test_a_file_of_another_version_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    facts = {f.id: {"answer": f.stand_in, "stand_in": f.stand_in} for f in FACTS[1:]} | {"gone": {"answer": "1"}}
    file.write_text(json.dumps({"format": 1, "tool": "t", "taken_on": "2026-01-02", "facts": facts}))
    ended = run("--compare", str(file))
    assert ended.exit_code == 3
    assert f"{FACTS[0].id}  not in the file" in ended.stdout
    assert "not compared: gone" in ended.stderr
    file.write_text("[]")
    assert run("--compare", str(file)).exit_code == 1


def test_other_warehouses_and_names_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVADE_CONFIG", str(site.file))
    assert run("--write", "Robert'); DROP").exit_code == 1
    monkeypatch.delenv("NOVADE_CONFIG")
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("NOVADE_ENVIRONMENT")
    ended = run("--json", "--environment", "local")
    assert ended.exit_code == 1
    assert "only a Synapse pool is probed" in json.loads(ended.stdout)["error"]
