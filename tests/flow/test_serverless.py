"""An environment without a dedicated pool: what lands in Azurite is published as views, through the real driver."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from novade_core.ledger import published_views
from novade_core.ledger.models import RunState
from novade_core.ledger.published_views import ViewState
from novade_core.settings import WarehouseSettings
from novade_core.streams import Column, LandedFile, RunKind
from novade_core.sync import publish
from novade_core.warehouse import external_views
from novade_core.warehouse.base import LoadRequest
from novade_core.warehouse.duckdb import DuckDBWarehouse
from novade_core.wiring import utc_now
from tests.azurite import azurite
from tests.flow.test_killed import kill
from tests.homes import CONFIGURATION, Home, Sandbox
from tests.serverless import RunningServerless

SECTIONS = """
[environments.test.landing]
kind = "azure_blob"
account = "{account}"
container = "{container}"
endpoint = "{endpoint}"
credential = "key"

[environments.test.serverless]
server = "127.0.0.1"
port = {port}
database = "{database}"
auth = "sql"
user = "{user}"
encrypt = false
external_tables = false

[streams]
"""
STREAM = "salesforce.contact"


class Remote:
    """An environment whose warehouse is the serverless pool, and the stand-in behind it."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.pool = RunningServerless(folder)
        settings, landing = self.pool.settings(), azurite().settings()
        assert settings.password is not None
        assert landing.key is not None
        sections = SECTIONS.format(
            account=landing.account, container=landing.container, endpoint=landing.endpoint, port=settings.port,
            database=settings.database, user=settings.user,
        )  # fmt: skip
        text = CONFIGURATION.format(
            secrets=sandbox.folder / "secrets.toml", salesforce="bulk_from_rows = 50", streams=f'"{STREAM}" = {{}}'
        )
        text = text.replace("busy_wait_seconds = 3", 'kind = "serverless"').replace("[streams]\n", sections)
        (folder / "novade.toml").write_text(text)
        (folder / ".streamlit").mkdir()
        (folder / ".streamlit/secrets.toml").write_text(
            f"[serverless]\npassword = '{settings.password.get_secret_value()}'\n"
            f"[landing]\nkey = '{landing.key.get_secret_value()}'\n"
        )
        self.home = Home.open(folder)

    @property
    def definition(self) -> str:
        """The view's text."""
        ((text,),) = self.pool.rows("SELECT definition FROM sys.sql_modules")
        return str(text)

    def rows(self) -> list[tuple[Any, ...]]:
        """The view's content by an analyst's query, columns by name."""
        found = self.pool.rows(
            "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = N'salesforce' ORDER BY COLUMN_NAME"
        )
        names = sorted(str(name) for (name,) in found)
        listed = ", ".join(f"[{name}]" for name in names)
        rows = self.pool.rows(f"SELECT {listed} FROM [salesforce].[contact]")
        return sorted((tuple(zip(names, row, strict=True)) for row in rows), key=repr)

    def there(self) -> set[str]:
        """Keys of the records that live at the source."""
        found = self.sandbox.call("GET", "/_sandbox/records?object=Contact&limit=100000")["records"]
        return {r["Id"] for r in found if not r["IsDeleted"]}

    def keys(self) -> set[str]:
        """Keys that the view shows."""
        return {str(key) for (key,) in self.pool.rows("SELECT [Id] FROM [salesforce].[contact]")}

    def in_duckdb(self, folder: Path) -> list[tuple[Any, ...]]:
        """What the adapter for DuckDB makes of the same manifests."""
        landing, stream = self.home.services.landing, self.home.environment.stream(STREAM)
        warehouse = DuckDBWarehouse(WarehouseSettings(path=folder / "warehouse.duckdb"))
        rows = self.home.ledger_rows(
            "SELECT l.*, p.kind, p.columns FROM landed_files l JOIN sync_plans p ON p.id = l.plan_id ORDER BY l.id"
        )
        for _, group in itertools.groupby(rows, key=lambda row: row.plan_id):
            landed = list(group)
            manifests = [_manifest(row) for row in landed]
            local = [[_fetched(landing.read(f), folder / f.replace("/", "-")) for f in m.files] for m in manifests]
            with warehouse.session() as session:
                work = session.replace if landed[0].kind == RunKind.FULL else session.load
                work(
                    LoadRequest(
                        stream=stream,
                        manifests=manifests,
                        locations=local,
                        fence=1,
                        run_id=1,
                        now=utc_now(),
                        before_commit=lambda: None,
                    )
                )
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
            left_out = "_novade_run_id, _novade_loaded_at, _novade_landed_seq, _novade_deleted_at"
            cursor = connection.execute(
                f"SELECT * EXCLUDE ({left_out}) FROM salesforce.contact WHERE _novade_deleted_at IS NULL"
            )
            names = [column[0] for column in cursor.description or ()]
            return sorted((tuple(sorted(zip(names, row, strict=True))) for row in cursor.fetchall()), key=repr)


def _manifest(row: Any) -> LandedFile:
    return LandedFile(
        seq=row.id, stream=row.stream, run_id=row.run_id, plan_id=row.plan_id, window=row.window, chunk=row.chunk,
        manifest_path=row.manifest_path, load_id=row.load_id, files=tuple(json.loads(row.files)), rows=row.rows,
        rejected=row.rejected, columns=tuple(Column.from_json(c) for c in json.loads(row.columns)),
    )  # fmt: skip


def _fetched(content: bytes, to: Path) -> str:
    to.write_bytes(content)
    return str(to)


@pytest.fixture
def remote(tmp_path: Path, sandbox: Sandbox) -> Iterator[Remote]:
    made = Remote(tmp_path, sandbox)
    yield made
    made.home.services.ledger.close()
    made.pool.end()


def _desk(home: Home) -> publish.Desk:
    desk = home.services.views()
    assert desk is not None
    return desk


def equal(outcome: Any) -> bool:
    """Did the run end well, with as many records on both sides?"""
    assert outcome.state is RunState.SUCCEEDED, outcome.headline
    return bool(outcome.counts["source_count"] == outcome.counts["warehouse_count"])


def test_what_lands_is_published_and_equals_the_source_and_another_warehouse(remote: Remote) -> None:
    home, sandbox = remote.home, remote.sandbox
    first = home.sync()
    assert equal(first)
    assert "rows published" in first.headline
    assert remote.keys() == remote.there()
    text = remote.definition
    again = home.sync()
    assert equal(again)
    assert external_views.stamp_of(remote.definition) is not None

    field = {"Colour__c": {"type": "string", "length": 40}}
    sandbox.call("POST", "/_sandbox/fields", {"object": "Contact", "add": field})
    key = min(remote.there())
    sandbox.change(update=20, new=10, delete=5)
    sandbox.change(set={key: {"Colour__c": "grün 緑"}})
    assert equal(home.sync())
    assert remote.definition != text
    assert remote.keys() == remote.there()
    assert remote.pool.rows(f"SELECT [Colour__c] FROM [salesforce].[contact] WHERE [Id] = N'{key}'") == [("grün 緑",)]

    newest = remote.definition
    remote.pool.do(text.replace("CREATE VIEW", "ALTER VIEW", 1))  # as a late worker could, at the worst moment
    assert remote.keys() != remote.there()
    publish.refresh(home.services, home.environment.stream(STREAM))
    assert external_views.stamp_of(remote.definition) == external_views.stamp_of(newest)
    remote.pool.do("DROP VIEW [salesforce].[contact]")
    assert [item.statements != () for item in publish.apply(_desk(home), [home.environment.stream(STREAM)]).items]
    assert remote.keys() == remote.there()

    gone = set(sandbox.change(purge=3)["purge"])
    assert remote.keys() - remote.there() == gone
    assert equal(home.sync(kind=RunKind.FULL))
    sandbox.change(update=2)
    assert equal(home.sync())
    assert remote.rows() == remote.in_duckdb(home.folder)
    assert len(remote.rows()) == len(remote.there())

    (view,) = [v for v in published_views.views(home.services.ledger) if v.kind == "view"]
    assert (view.state, view.trouble) == (ViewState.CURRENT, None)
    read = home.ledger_rows("SELECT run_id, quantity FROM usage WHERE meter = 'warehouse.bytes_processed'")
    assert len({row.run_id for row in read}) == len(read) == 5
    assert all(row.quantity >= 10_000_000 for row in read)
    daily = home.ledger_rows("SELECT sum(quantity) AS n FROM daily_usage WHERE meter = 'warehouse.bytes_processed'")
    assert daily[0].n == sum(row.quantity for row in read)


def test_a_reload_that_died_after_its_view_was_published_stays_done(remote: Remote) -> None:
    home, sandbox = remote.home, remote.sandbox
    home.sync()
    gone = set(sandbox.change(purge=3)["purge"])
    assert kill(home, home.ask(kind=RunKind.FULL), "load.committed", 1)
    published = external_views.stamp_of(remote.definition)
    assert published is not None
    assert remote.keys() == remote.there()
    # The plan of the reload is void then, so that the ledger alone would let the purged records come back.
    assert equal(home.sync())
    assert not remote.keys() & gone
    assert remote.rows() == remote.in_duckdb(home.folder)
    stamp = external_views.stamp_of(remote.definition)
    assert stamp is not None
    assert (stamp.fence > published.fence, stamp.reloaded) == (True, max(stamp.reloaded, published.reloaded))
