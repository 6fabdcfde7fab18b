"""A Synapse stand-in inside the test process, reached through a real ODBC driver; files for it lie in Azurite.

One pool a folder: it starts when it is first asked for and ends with ``end``. Its faults and what it was told are at
hand, so that a test can cut the connection at any statement.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from novade_core.settings import WarehouseSettings
from novade_core.warehouse.synapse import SynapseWarehouse
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from sandbox.synapse.connection import Connection
from sandbox.synapse.pool import ADMIN, Pool
from tests.azurite import ACCOUNT, azurite

_PASSWORD = "Tests-0nly; no {secret"  # without a closing brace: FreeTDS 1.3 does not know a doubled one
_pools: dict[Path, RunningPool] = {}


class RunningPool:
    """A pool that listens on loopback."""

    def __init__(self, folder: Path) -> None:
        storage = {ACCOUNT: {"endpoint": azurite().endpoint(), "key": azurite().key}}
        self.pool = Pool(folder / "pool", _PASSWORD, storage=storage)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Connection(client, self.pool).start()

    def settings(self, **changes: Any) -> WarehouseSettings:
        """As an environment would name it; impatient."""
        given: dict[str, Any] = {
            "kind": "synapse",
            "server": "127.0.0.1",
            "port": self.port,
            "database": self.pool.database,
            "auth": "sql",
            "user": ADMIN,
            "password": _PASSWORD,
            "encrypt": False,
            "copy_credential": "key",
            "copy_secret": azurite().key,
            "login_timeout_seconds": 5,
            "statement_timeout_seconds": 60,
            "tries": 1,
            "retry_base_seconds": 0.01,
        }
        return WarehouseSettings.model_validate(given | changes)

    def warehouse(self, **changes: Any) -> SynapseWarehouse:
        """A fresh adapter."""
        return SynapseWarehouse(self.settings(**changes))

    @contextlib.contextmanager
    def look(self) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """Queries from outside the protocol, through the driver too."""
        link = Link(self.settings())
        try:
            yield lambda text: link.rows(Statement("look", text, labelled=False))
        finally:
            link.close()

    def execute(self, text: str) -> None:
        """Meddle with it from outside."""
        link = Link(self.settings())
        try:
            link.hit(Statement("meddle", text, labelled=False))
        finally:
            link.close()

    def end(self) -> None:
        """Hang up and stop listening."""
        self._door.close()
        self.pool.close()


def pool_in(folder: Path) -> RunningPool:
    """The pool of a folder."""
    if folder not in _pools:
        _pools[folder] = RunningPool(folder)
    return _pools[folder]


def end(folder: Path) -> None:
    """End the pool of a folder, where there is one."""
    if folder in _pools:
        _pools.pop(folder).end()


def copy_pool(source: Path, folder: Path) -> None:
    """What the pool of one folder holds now is what the pool of another, which is not running yet, will begin with."""
    pool_in(source).pool.con.execute("CHECKPOINT")
    (folder / "pool").mkdir(parents=True)
    shutil.copy(source / "pool" / "synapse.duckdb", folder / "pool")


@functools.cache
def _container() -> ContainerClient:
    return azurite().service.create_container(f"p{uuid4().hex}")


def blob_of(path: str) -> str:
    """Where a pool finds a local file: its present content is put into a blob, a file that is gone has none."""
    name = path.strip("/").replace("[", "_").replace("]", "_")
    blob = _container().get_blob_client(name)
    if Path(path).exists():
        blob.upload_blob(Path(path).read_bytes(), overwrite=True)
    else:
        with contextlib.suppress(ResourceNotFoundError):
            blob.delete_blob()
    return f"https://{ACCOUNT}.blob.core.windows.net/{_container().container_name}/{name}"
