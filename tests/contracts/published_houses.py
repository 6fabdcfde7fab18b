"""Houses whose tables are views: on one serverless stand-in, and with what a ledger would know of their manifests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from novade_core.streams import LandedFile, Stream
from novade_core.warehouse.external_views import Stamp
from novade_core.warehouse.published import PublishedWarehouse, Shown
from novade_core.warehouse.serverless import Serverless
from novade_core.warehouse.synapse_sql import Statement, Table
from tests import pools
from tests.azurite import azurite
from tests.contracts.houses import Adapter, House, Query
from tests.serverless import RunningServerless


@dataclass
class _Behind:
    """What a house stands on; ``remote`` outlives it, its views do not."""

    remote: RunningServerless
    house: House | None = None

    def make(self, _folder: Path) -> PublishedWarehouse:
        return PublishedWarehouse(self.pool, self.book)

    def pool(self) -> Serverless:
        """Over the container into which a house puts its files."""
        container = urlsplit(pools.blob_of("/nothing")).path.split("/")[1]
        return Serverless(self.remote.settings(), azurite().settings(container=container))

    def book(self, stream: str, stamp: Stamp) -> Shown:
        """A ledger that knows a view's manifests and no others."""
        landed: dict[int, LandedFile] = self.house.landed if self.house is not None else {}
        manifests = [landed[seq] for seq in stamp.seqs if seq in landed and landed[seq].stream == stream]
        return Shown(manifests=manifests, reloaded=stamp.reloaded, bytes=1)

    @contextlib.contextmanager
    def look(self, _folder: Path) -> Iterator[Query]:
        with self.remote.link() as link:
            yield lambda text: link.rows(Statement("look", text, labelled=False))

    def execute(self, _folder: Path, statement: str) -> None:
        self.remote.do(statement)

    def end(self, _folder: Path) -> None:
        views = "SELECT s.name, v.name FROM sys.views v JOIN sys.schemas s ON s.schema_id = v.schema_id"
        found: list[tuple[Any, ...]] = self.remote.rows(views)
        self.remote.do(*(f"DROP VIEW {Table(schema, name).sql}" for schema, name in found))


def house_on(remote: RunningServerless, folder: Path) -> House:
    """An empty one."""
    behind = _Behind(remote)
    behind.house = House(
        adapter=Adapter(
            make=behind.make, look=behind.look, execute=behind.execute, locate=pools.blob_of, end=behind.end
        ),
        folder=folder,
    )
    return behind.house


def definition(house: House, to: Stream) -> str:
    """The text of a stream's view."""
    ((text,),) = house.query(
        "SELECT m.definition FROM sys.views v JOIN sys.sql_modules m ON m.object_id = v.object_id "
        f"WHERE v.name = '{to.name}'"
    )
    return str(text)
