"""Warehouses under test, and rows of text that become landed files on the way that a sync takes.

Another warehouse joins the whole suite with one entry in ``ADAPTERS``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from novade_core.settings import WarehouseSettings
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, Column, ColumnType, LandedFile, LoadResult, Stream
from novade_core.sync.chunks import ChunkWriter
from novade_core.warehouse.base import LoadOutcome, LoadRequest, Session, Warehouse
from novade_core.warehouse.duckdb import DuckDBWarehouse
from tests import pools

NOW = datetime(2024, 11, 18, 14, 0, tzinfo=UTC)

Row = Sequence[str | None]
Query = Callable[[str], list[tuple[Any, ...]]]


def column(name: str, type_: ColumnType = ColumnType.TEXT, **more: Any) -> Column:
    """A column in one word."""
    return Column(name=name, type=type_, **more)


#: Most tests need a key, a version, a delete mark and something that changes.
COLUMNS = (
    column("Id"),
    column("Stamp", ColumnType.TIMESTAMP),
    column("IsDeleted", ColumnType.BOOLEAN),
    column("Name"),
)


def stream(name: str = "thing", **more: Any) -> Stream:
    """A stream over COLUMNS."""
    given: dict[str, Any] = {
        "source": "test",
        "name": name,
        "label": "Thing",
        "object_name": "Thing",
        "primary_key": ("Id",),
        "cursor_field": "Stamp",
        "version_field": "Stamp",
        "deleted_field": "IsDeleted",
    }
    return Stream(**(given | more))


def stamp(version: int) -> str:
    """Versions 0, 1, 2 … as instants, a second apart."""
    return f"2024-11-18T{version // 3600:02d}:{version // 60 % 60:02d}:{version % 60:02d}.000Z"


def row(key: str, version: int, name: str | None = "x", *, deleted: bool = False) -> Row:
    """A record of COLUMNS."""
    return (key, stamp(version), "true" if deleted else "false", name)


@dataclass(frozen=True)
class Adapter:
    """How to make one warehouse, and how to look into it from outside the protocol."""

    make: Callable[[Path], Warehouse]
    look: Callable[[Path], AbstractContextManager[Query]]
    execute: Callable[[Path, str], None]
    locate: Callable[[str], str]  #: where the engine finds a local file
    end: Callable[[Path], None]  #: nothing is left running


def _duckdb(folder: Path) -> Warehouse:
    return DuckDBWarehouse(WarehouseSettings(path=folder / "warehouse.duckdb", busy_wait_seconds=0.3))


@contextmanager
def _duckdb_look(folder: Path) -> Iterator[Query]:
    one_thread = {"threads": "1"}
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True, config=one_thread) as connection:
        yield lambda statement: connection.execute(statement).fetchall()


def _duckdb_execute(folder: Path, statement: str) -> None:
    with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        connection.execute(statement)


ADAPTERS: Mapping[str, Adapter] = {
    "duckdb": Adapter(
        make=_duckdb, look=_duckdb_look, execute=_duckdb_execute, locate=lambda path: path, end=lambda folder: None
    ),
    "synapse": Adapter(
        make=lambda folder: pools.pool_in(folder).warehouse(),
        look=lambda folder: pools.pool_in(folder).look(),
        execute=lambda folder, statement: pools.pool_in(folder).execute(statement),
        locate=pools.blob_of,
        end=pools.end,
    ),
}


def quoted(name: str) -> str:
    """An identifier in standard SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass
class House:
    """One warehouse in a folder of its own, and the landed files that it loads."""

    adapter: Adapter
    folder: Path
    #: manifests by sequence number, for loading them again
    landed: dict[int, LandedFile] = field(default_factory=dict)
    _writers: dict[Any, ChunkWriter] = field(default_factory=dict)

    @property
    def warehouse(self) -> Warehouse:
        """A fresh adapter, as every run makes one."""
        return self.adapter.make(self.folder)

    def session(self) -> AbstractContextManager[Session]:
        """An open warehouse."""
        return self.warehouse.session()

    def land(self, to: Stream, *rows: Row, columns: Sequence[Column] = COLUMNS, files: int = 1) -> LandedFile:
        """Rows of text as one manifest, typed and written by the engine's own writer; its number rises."""
        seq = len(self.landed) + 1
        # A chunk depends on these alone, so streams that share them share a writer: opening one is not cheap.
        shared = (to.primary_key, to.version_field, to.deleted_field, tuple(columns))
        if shared not in self._writers:
            name = f"writer{len(self._writers)}"
            self._writers[shared] = ChunkWriter(to, columns, self.folder, name)
        writer = self._writers[shared]
        writer.run_id = seq + 100
        paths, rejected = [], 0
        for number in range(files):
            part = rows[number * len(rows) // files : (number + 1) * len(rows) // files]
            text = write_text(self.folder / "batch.csv", [c.name for c in columns], part)
            chunk = writer.write(Batch(text=text, resume=None, rows=len(part)), seq, part=number)
            rejected += len(chunk.rejects)
            paths += [str(chunk.file)] if chunk.file else []
        self.landed[seq] = LandedFile(
            seq=seq,
            stream=to.id,
            run_id=writer.run_id,
            plan_id=1,
            window=0,
            chunk=seq,
            manifest_path=f"manifest-{seq}",
            load_id=hashlib.sha256(f"{to.id}:{seq}".encode()).hexdigest(),
            files=tuple(paths),
            rows=len(rows) - rejected,
            rejected=rejected,
            columns=tuple(columns),
        )
        return self.landed[seq]

    def request(
        self,
        to: Stream,
        manifests: Iterable[LandedFile],
        *,
        fence: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        older_waiting: bool = True,
    ) -> LoadRequest:
        """What a run would ask for."""
        given = list(manifests)
        return LoadRequest(
            stream=to,
            manifests=given,
            locations=[[self.adapter.locate(f) for f in m.files] for m in given],
            fence=fence,
            run_id=7,
            now=NOW,
            before_commit=before_commit,
            older_waiting=older_waiting,
        )

    def load(self, to: Stream, *manifests: LandedFile, **more: Any) -> LoadOutcome:
        """Load in one transaction, in a session of its own."""
        with self.session() as session:
            return session.load(self.request(to, manifests, **more))

    def replace(self, to: Stream, *manifests: LandedFile, **more: Any) -> LoadOutcome:
        """Replace the table, in a session of its own."""
        with self.session() as session:
            return session.replace(self.request(to, manifests, **more))

    def count(self, to: Stream) -> int | None:
        """Live rows."""
        with self.session() as session:
            return session.count(to)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into the warehouse from outside."""
        with self.adapter.look(self.folder) as query:
            return query(statement)

    def execute(self, statement: str) -> None:
        """Meddle with the warehouse from outside."""
        self.adapter.execute(self.folder, statement)

    def rows(self, to: Stream, *names: str) -> list[tuple[Any, ...]]:
        """These columns of the table, in the order of all of them."""
        listed = ", ".join(quoted(n) for n in names)
        order = ", ".join(str(i + 1) for i in range(len(names)))
        return self.query(f"SELECT {listed} FROM {quoted(to.source)}.{quoted(to.name)} ORDER BY {order}")

    def names(self, to: Stream) -> dict[str, str]:
        """Key -> Name of a table over COLUMNS."""
        return dict(self.rows(to, "Id", "Name"))

    def columns_of(self, to: Stream) -> dict[str, str]:
        """The table's own columns and their types, ours left out."""
        found = self.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = '{to.source}' AND table_name = '{to.name}' ORDER BY ordinal_position"
        )
        return {name: kind for name, kind in found if not name.startswith("_novade_")}

    def everything(self) -> list[tuple[tuple[str, str], list[list[tuple[str, Any]]]]]:
        """All tables but the fences, with their content: two of these are equal where nothing changed.

        A column of NULLs is as good as none, and so is an empty table of an engine that cannot take one back.
        """
        with self.adapter.look(self.folder) as query:
            columns = query(
                "SELECT table_schema, table_name, column_name FROM information_schema.columns "
                "WHERE table_schema <> 'main' AND table_name <> 'novade_fence' ORDER BY 1, 2, ordinal_position"
            )
            names: dict[tuple[str, str], list[str]] = {}
            for schema, table, name in columns:
                names.setdefault((schema, table), []).append(name)
            content = {
                (s, t): _sorted(query(f"SELECT * FROM {quoted(s)}.{quoted(t)}"), listed)
                for (s, t), listed in names.items()
            }
        keeps_empty = self.warehouse.capabilities.transactional_ddl
        return [(table, rows) for table, rows in content.items() if rows or keeps_empty]

    def taken_back(self, to: Stream) -> bool:
        """Is there no table of the stream, or an empty one where the engine cannot take a new table back?"""
        count = self.count(to)
        return count is None or (count == 0 and not self.warehouse.capabilities.transactional_ddl)

    def close(self) -> None:
        """Give the writers' memory back."""
        for writer in self._writers.values():
            writer.close()
        self.adapter.end(self.folder)


def _sorted(rows: list[tuple[Any, ...]], names: list[str]) -> list[list[tuple[str, Any]]]:
    named = ([(n, v) for n, v in zip(names, row, strict=True) if v is not None] for row in rows)
    return sorted(named, key=repr)


def parts(result: LoadResult) -> tuple[int, int, int, int]:
    """loaded, unchanged, superseded, duplicates."""
    return result.loaded, result.unchanged, result.superseded, result.duplicates
