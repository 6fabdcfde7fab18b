"""The serverless stand-in inside the test process, reached through a real ODBC driver; its files lie in Azurite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from novade_core.settings import ServerlessSettings
from novade_core.warehouse.synapse_link import Link
from novade_core.warehouse.synapse_sql import Statement
from sandbox.synapse.connection import Endpoint
from sandbox.synapse.pool import ADMIN, Pool
from sandbox.synapse.serverless import ServerlessPool
from tests.azurite import ACCOUNT, azurite

_PASSWORD = "Tests-0nly; no {secret"


class RunningServerless:
    """A serverless endpoint that listens on loopback, and the pool whose login and settings it shares."""

    def __init__(self, folder: Path) -> None:
        storage = {ACCOUNT: {"endpoint": azurite().endpoint(), "key": azurite().key}}
        self.beside = Pool(folder / "pool", _PASSWORD, storage=storage)
        self.pool = ServerlessPool(folder / "serverless", self.beside)
        self._door = Endpoint(self.pool)
        self._door.start()

    def settings(self, **changes: object) -> ServerlessSettings:
        """As an environment would name it; impatient."""
        given: dict[str, object] = {
            "server": "127.0.0.1",
            "port": self._door.port,
            "database": self.pool.database,
            "auth": "sql",
            "user": ADMIN,
            "password": _PASSWORD,
            "encrypt": False,
            "login_timeout_seconds": 5,
            "statement_timeout_seconds": 60,
        }
        return ServerlessSettings.model_validate(given | changes)

    @contextlib.contextmanager
    def link(self) -> Iterator[Link]:
        """A connection through the driver."""
        link = Link(self.settings().login())
        try:
            yield link
        finally:
            link.close()

    def rows(self, text: str) -> list[tuple[object, ...]]:
        """A query of an analyst."""
        with self.link() as link:
            return link.rows(Statement("look", text, labelled=False))

    def do(self, *texts: str) -> None:
        """Statements from outside."""
        with self.link() as link:
            for text in texts:
                link.hit(Statement("meddle", text, labelled=False))

    def end(self) -> None:
        """Hang up and stop listening."""
        self._door.close()
        self.pool.close()
        self.beside.close()
