"""A load window on the stand-in of a pool: Azure's management over HTTP, sessions and work through the real driver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from novade_core.ledger import leases, windows
from novade_core.ledger.models import LandedFileRow, PlanState, Run, RunState, SyncPlan, WindowState
from novade_core.settings import load_settings
from novade_core.sync.load_window import LoadWindows
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from novade_core.wiring import Services, build_services, utc_now
from tests import pools
from tests.pools import RunningPool

FILE = """
default_environment = "test"
[environments.test.landing]
kind = "azure_blob"
account = "acme"
[environments.test.warehouse]
kind = "synapse"
server = "127.0.0.1"
port = {port}
database = "{database}"
auth = "sql"
user = "{user}"
password = '{password}'
encrypt = false
[environments.test.pool]
kind = "workspace"
subscription = "s-1"
resource_group = "novade"
workspace = "acme"
endpoint = "http://127.0.0.1:{arm}"
token = "a-token"
gather_minutes = 0
idle_minutes = 0
[streams]
"salesforce.contact" = {{}}
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[RunningPool]:
    yield pools.pool_in(tmp_path)
    pools.end(tmp_path)


@pytest.fixture
def management(pool: RunningPool) -> Iterator[int]:
    """The port of what pauses and resumes the stand-in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"properties": {"status": pool.pool.status()}, "sku": {"name": "DW100c"}})

        def do_POST(self) -> None:
            pool.pool.pause() if "/pause?" in self.path else pool.pool.resume()
            self.answer(202, {})

        def answer(self, code: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def services(pool: RunningPool, management: int, tmp_path: Path) -> Iterator[Services]:
    given = pool.settings()
    assert given.password is not None
    file = tmp_path / "novade.toml"
    file.write_text(
        FILE.format(
            port=pool.port,
            database=given.database,
            user=given.user,
            password=given.password.get_secret_value(),
            arm=management,
        )
    )
    made = build_services(load_settings(file=file, environ={}))
    yield made
    made.ledger.close()


def land(services: Services) -> None:
    now = utc_now()
    with services.ledger.write() as connection:
        plan = connection.execute(
            insert(SyncPlan)
            .values(
                stream="salesforce.contact", kind="incremental", state=PlanState.OPEN, run_id=1, created_at=now,
                windows=[], columns=[], details={},
            )
            .returning(SyncPlan.id)
        ).scalar_one()  # fmt: skip
        connection.execute(
            insert(LandedFileRow).values(
                stream="salesforce.contact", run_id=1, plan_id=plan, window=0, chunk=0, manifest_path="m", load_id="l",
                files=[], rows=1, rejected=0, bytes=1, window_done=True, fence=1, registered_at=now,
            )
        )  # fmt: skip


def until(services: Services, worker: LoadWindows, state: WindowState) -> windows.Window:
    """Tick until the newest window is in this state."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        worker.tick()
        found = windows.recent(services.ledger, 1)
        if found and found[0].state is state:
            return found[0]
        time.sleep(0.06)
    raise AssertionError(f"no window became {state}: {found}")


def test_paused_resumed_loaded_paused(services: Services, pool: RunningPool) -> None:
    pool.pool.pause()
    land(services)
    worker = services.load_windows(leases.Watcher(0.1))
    assert worker is not None
    until(services, worker, WindowState.OPEN)
    assert pool.pool.status() == "Online"
    worker.tick()
    time.sleep(0.06)
    worker.tick()
    with services.ledger.read() as connection:
        run = connection.execute(select(Run.subject, Run.kind, Run.origin, Run.state)).one()
    assert tuple(run) == ("salesforce.contact", "incremental", "window", RunState.QUEUED)
    # What the run's load would do: labelled statements, and its manifest in the warehouse.
    link = Link(services.environment.warehouse)
    link.tag = (1, "contact")
    link.rows(Statement("count", "SELECT COUNT_BIG(*) FROM sys.tables"))
    link.close()
    with services.ledger.write() as connection:
        connection.execute(update(Run).values(state=RunState.SUCCEEDED, ended_at=utc_now()))
        connection.execute(update(LandedFileRow).values(loaded_at=utc_now()))
    window = until(services, worker, WindowState.CLOSED)
    assert pool.pool.status() == "Paused"
    assert window.work is not None
    assert set(window.work["labels"]) == {"nv_1_contact_count"}
    assert (window.ours, window.size, window.trouble, window.loads) == (True, "DW100c", None, 1)
    assert window.online_seconds is not None


def test_a_foreign_session_keeps_it_awake(services: Services, pool: RunningPool) -> None:
    master = Link(pool.settings(database="master"))
    master.hit(Statement("login", "CREATE LOGIN bob WITH PASSWORD = 'B0b-and-his-secret'", labelled=False))
    master.close()
    pool.execute("CREATE USER bob FOR LOGIN bob")
    pool.pool.pause()
    land(services)
    worker = services.load_windows(leases.Watcher(0.1))
    assert worker is not None
    until(services, worker, WindowState.OPEN)
    theirs = Link(pool.settings(user="bob", password="B0b-and-his-secret"))
    theirs.open()
    with services.ledger.write() as connection:
        connection.execute(update(LandedFileRow).values(loaded_at=utc_now()))
    until(services, worker, WindowState.CLOSING)
    for _ in range(5):
        time.sleep(0.06)
        worker.tick()
    held = windows.recent(services.ledger, 1)[0]
    assert (held.state, held.others) == (WindowState.CLOSING, ("bob (novade)",))
    assert pool.pool.status() == "Online"
    assert theirs.rows(Statement("ask", "SELECT 1", labelled=False)) == [(1,)]
    theirs.close()
    until(services, worker, WindowState.CLOSED)
    assert pool.pool.status() == "Paused"
