"""The dedicated pool: its database, who may log in, whether it is online, what ran on it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from .catalog import Catalog
from .engine import Engine, Request, now
from .errors import SqlError
from .faults import Faults
from .locks import Locks
from .tds import Login

if TYPE_CHECKING:
    from .connection import Connection

ADMIN = "sandbox_admin"
#: Settings with their defaults, where the real behaviour is uncertain or a test wants another.
SETTINGS: dict[str, Any] = {
    #: ROLLBACK after an error in the transaction: "refused" (111214) or "accepted".
    "rollback_after_error": "refused",
    #: Seconds from resume to Online, and from there until logins stop answering 42109.
    "resume_seconds": 0.0,
    "warm_up_seconds": 0.0,
    #: Seconds from pause to Paused.
    "pause_seconds": 0.0,
    #: COPY answers its row count to the client (unconfirmed on a real pool).
    "copy_row_count": True,
    #: Parquet by managed identity from the blob endpoint too (the documentation says dfs only).
    "managed_identity_on_blob": False,
    #: The workspace's identity has its role on the storage account.
    "managed_identity_granted": True,
    #: SERVERPROPERTY('ProductVersion').
    "product_version": "10.0.23106.0",
    #: Which management routes know the pool: "workspace" (Microsoft.Synapse) or "server" (Microsoft.Sql).
    "management_route": "workspace",
    #: COPY without a matching file: "error" or "nothing" (unconfirmed).
    "copy_no_files": "error",
    #: @@LANGUAGE of a session.
    "language": "us_english",
    #: SERVERPROPERTY('EngineEdition').
    "engine_edition": "6",
    #: The pool's size, for sessions and for Azure's management.
    "size": "DW100c",
    #: The resource class of requests.
    "resource_class": "smallrc",
    #: READ_COMMITTED_SNAPSHOT of a pool on which nobody has set it.
    "rcsi": False,
    #: sys.dm_pdw_exec_sessions lists a session of the pool's own, with the login System.
    "sessions_of_its_own": False,
    #: Columns that system views lack: {view: [column, ...]}.
    "missing_columns": {},
    #: Other numbers of refusals than the stand-in's own: {"105216": 104999}.
    "numbers": {},
    #: Of the serverless endpoint: the number of refusals whose real number is not known.
    "serverless_unknown_number": 104998,
}


class Pool:
    """One dedicated pool over one DuckDB file."""

    session: type[Engine] = Engine

    def __init__(self, folder: Path, password: str, database: str = "novade", storage: dict[str, Any] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = database
        self.password = password
        #: account -> {"endpoint": "http://127.0.0.1:10000/account", "key": "..."}: where its blobs really are.
        self.storage: dict[str, Any] = storage or {}
        self.con = duckdb.connect(
            str(folder / "synapse.duckdb"), config={"threads": "2", "autoinstall_known_extensions": "false"}
        )
        self.con.execute("SET TimeZone = 'UTC'")
        self.con.create_function("pool_utf16", _utf16, ["VARCHAR"], "BLOB", type="arrow")  # type: ignore[arg-type, list-item]  # the stub knows only the enumerations, the function takes their names
        self.catalog = Catalog(self.con)
        #: What ``settings`` goes back to.
        self.defaults = dict(SETTINGS)
        #: Access token -> the user that it is of.
        self.tokens: dict[str, str] = {}
        self.settings = dict(SETTINGS)
        self.faults = Faults()
        self.locks = Locks()
        self.lock = threading.Lock()
        self.connections: list[Connection] = []
        self.foreign: list[dict[str, Any]] = []
        self.requests: deque[Request] = deque(maxlen=10_000)
        self.clock = 0
        self.versions: dict[str, int] = {}
        self.state = "Online"
        self.moves_at = 0.0
        self.warm_at = 0.0

    def behave_as(self, settings: dict[str, Any]) -> None:
        """Settings that a reset keeps: those of a real pool."""
        self.defaults.update(settings)
        self.settings.update(settings)

    # What is committed

    def changed(self, tables: Iterable[str]) -> None:
        """Note that these tables have a new committed state."""
        with self.lock:
            self.clock += 1
            self.versions.update(dict.fromkeys(tables, self.clock))

    def version(self, table: str) -> int:
        """When a table's committed state changed last, by ``clock``."""
        return self.versions.get(table, 0)

    # Sessions

    def enter(self, connection: Connection, login: Login) -> Engine:
        """A session for a login, or the refusal that the gateway would give."""
        self.faults.login()
        state = self.status()
        if state in ("Paused", "Pausing"):
            raise SqlError(
                42108,
                "Can not connect to the SQL pool since it is paused. Please resume the SQL pool and try again.",
                20,
            )
        if state != "Online" or time.monotonic() < self.warm_at:
            raise SqlError(42109, "The SQL pool is warming up. Please try again.", 20)
        if login.token is not None:
            return self._of_token(connection, login, login.token)
        known = self.password if login.user == ADMIN else None
        principal = self.catalog.named("login", login.user)
        if principal is not None:
            known = principal["password"]
        if known is None or login.password != known:
            raise SqlError(18456, f"Login failed for user '{login.user}'.", 14)
        return self._session(connection, login)

    def _of_token(self, connection: Connection, login: Login, token: str) -> Engine:
        user = self.tokens.get(token)
        if user is None:
            raise SqlError(18456, "Login failed for user '<token-identified principal>'.", 14)
        return self._session(connection, replace(login, user=user))

    def _session(self, connection: Connection, login: Login) -> Engine:
        if login.database.lower() not in (self.database.lower(), "master"):
            raise SqlError(
                4060, f'Cannot open database "{login.database}" requested by the login. The login failed.', 11
            )
        if login.database.lower() == "master" and login.user != ADMIN:
            raise SqlError(
                916,
                f'The server principal "{login.user}" is not able to access the database "master" under the current '
                "security context.",
                14,
            )
        engine = self.session(self, self.con.cursor(), login.user, login.application, login.host)
        engine.database = login.database or self.database
        with self.lock:
            self.connections.append(connection)
        return engine

    def leave(self, connection: Connection) -> None:
        with self.lock:
            if connection in self.connections:
                self.connections.remove(connection)

    def cut_all(self) -> None:
        """Every session ends where it is; its transaction is rolled back."""
        with self.lock:
            open_now = list(self.connections)
        for connection in open_now:
            connection.close()

    # State

    def status(self) -> str:
        """Online, Pausing, Paused or Resuming, as time goes by."""
        with self.lock:
            if self.state in ("Pausing", "Resuming") and time.monotonic() >= self.moves_at:
                if self.state == "Resuming":
                    self.warm_at = self.moves_at + float(self.settings["warm_up_seconds"])
                self.state = "Paused" if self.state == "Pausing" else "Online"
            return self.state

    def pause(self) -> None:
        """End all sessions, empty the views of what ran, go to sleep."""
        if self.status() != "Online":
            return
        with self.lock:
            self.state = "Pausing"
            self.moves_at = time.monotonic() + float(self.settings["pause_seconds"])
        self.cut_all()
        self.requests.clear()
        self.foreign.clear()

    def resume(self) -> None:
        if self.status() != "Paused":
            return
        with self.lock:
            self.state = "Resuming"
            self.moves_at = time.monotonic() + float(self.settings["resume_seconds"])

    @property
    def rcsi(self) -> bool:
        """READ_COMMITTED_SNAPSHOT."""
        return bool((self.catalog.named("option", "rcsi") or {}).get("on", self.settings["rcsi"]))

    def sessions(self) -> list[dict[str, Any]]:
        """Rows of sys.dm_pdw_exec_sessions."""
        with self.lock:
            engines = [c.engine for c in self.connections if c.engine is not None]
        system = {"session_id": "SID0", "login_name": "System", "app_name": None}
        return [
            {
                "session_id": e.session_id,
                "status": "Active" if e.busy else "Idle",
                "request_id": e.request.request_id if e.request else None,
                "login_name": e.user,
                "login_time": e.login_time,
                "app_name": e.application,
                "client_id": "127.0.0.1",
            }
            for e in engines
        ] + [
            {"status": "Idle", "request_id": None, "client_id": "10.0.0.9", "login_time": now(), **f}
            for f in [*self.foreign, *([system] if self.settings["sessions_of_its_own"] else [])]
        ]

    def close(self) -> None:
        self.cut_all()
        self.con.close()


def _utf16(texts: Any) -> Any:
    return pa.array([None if t is None else t.encode("utf-16-le") for t in texts.to_pylist()], pa.binary())
