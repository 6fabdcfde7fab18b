"""A shop publishes views: a ledger, a landing in Azurite, a serverless pool, and DuckDB beside it to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert

from novade_core.landing.azure_blob import AzureBlob
from novade_core.ledger import leases, plans
from novade_core.ledger.database import open_ledger
from novade_core.ledger.models import PlanState, StreamStatus
from novade_core.streams import Column, LandedFile, RunKind, Stream, Window
from novade_core.sync.publish import Desk
from novade_core.warehouse.serverless import Serverless
from novade_core.warehouse.synapse_sql import Statement, identifier
from tests.azurite import azurite
from tests.contracts.houses import ADAPTERS, COLUMNS, NOW, House, Row, quoted
from tests.serverless import RunningServerless
from tests.templates import sqlite_ledger


class Shop:
    """``land`` takes a manifest all the way that a run takes it; what it leaves out is left out on purpose."""

    def __init__(self, folder: Path) -> None:
        self.ledger = open_ledger(sqlite_ledger(folder / "ledger.sqlite"))
        self.house = House(adapter=ADAPTERS["duckdb"], folder=folder)
        self.landing_settings = azurite().settings(prefix="some/where")
        self.landing = AzureBlob(self.landing_settings, folder / "scratch")
        self.remote = RunningServerless(folder)
        self.desk = self.desk_with()

    def desk_with(self, **changes: Any) -> Desk:
        """What publishes; ``changes`` go to the settings of the pool."""
        pool = Serverless(self.remote.settings(**changes), self.landing_settings)
        return Desk(self.ledger, pool, lambda: NOW)

    def land(
        self,
        to: Stream,
        *rows: Row,
        columns: Sequence[Column] = COLUMNS,
        kind: RunKind = RunKind.INCREMENTAL,
        state: PlanState = PlanState.DONE,
        registered: bool = True,
        loaded: bool = True,
    ) -> LandedFile:
        """Rows as a manifest of a plan of its own, in the landing, in the ledger and in DuckDB."""
        made = self.house.land(to, *rows, columns=columns)
        files = []
        for number, file in enumerate(made.files):
            path = f"{to.source}/{to.name}/2024/11/18/{made.run_id}/part-{number:05d}.parquet"
            copy = self.house.folder / f"copy-{made.seq}.parquet"
            copy.write_bytes(Path(file).read_bytes())
            self.landing.put_file(path, copy)
            files.append(path)
        if registered:
            made = replace(made, seq=self._register(to, made, files, kind, state, columns))
        if loaded:
            (self.house.replace if kind is RunKind.FULL else self.house.load)(to, made)
            with self.ledger.write() as connection:
                plans.mark_loaded(connection, stream=to.id, fence=1, run_id=1, now=NOW, seqs=[made.seq])
            self.note_count(to)
        return made

    def _register(
        self, to: Stream, made: LandedFile, files: list[str], kind: RunKind, state: PlanState, columns: Sequence[Column]
    ) -> int:
        with self.ledger.write() as connection:
            if plans.last_columns(connection, to.id) is None:
                leases.take(connection, stream=to.id, holder="x:1:1", run_id=1, now=NOW, watcher=leases.Watcher(60))
                leases.release(connection, stream=to.id, fence=1)
            plan = plans.add_plan(
                connection, stream=to.id, kind=kind, run_id=made.run_id, now=NOW, seam=NOW,
                windows=(Window(low=None, high=NOW),), columns=columns, details={},
            )  # fmt: skip
            seq = plans.register(
                connection, fence=1, now=NOW, stream=to.id, run_id=made.run_id, plan_id=plan.id, window=0,
                chunk=made.chunk, manifest_path=f"{to.id}-{made.seq}", load_id=made.load_id, files=files,
                rows=made.rows, rejected=0, size=sum(Path(f).stat().st_size for f in made.files),
                max_cursor=NOW + timedelta(seconds=1),
                resume=None,
            )  # fmt: skip
            plans.close_plan(connection, plan.id, state)
        return seq

    def note_count(self, to: Stream) -> None:
        """Let the ledger know what DuckDB holds, as a run does at its end."""
        with self.ledger.write() as connection:
            connection.execute(delete(StreamStatus).where(StreamStatus.stream == to.id))
            connection.execute(
                insert(StreamStatus).values(
                    stream=to.id, source=to.source, paused=False, warehouse_count=self.house.count(to)
                )
            )

    def table(self, to: Stream) -> list[tuple[Any, ...]]:
        """Living rows of DuckDB's table, as the view of the stream should show them."""
        names = [*self.house.columns_of(to), "_novade_source_version", "_novade_row_hash"]
        listed = ", ".join(quoted(name) for name in sorted(names))
        found = self.house.query(
            f'SELECT {listed} FROM {quoted(to.source)}.{quoted(to.name)} WHERE "_novade_deleted_at" IS NULL'
        )
        return sorted(found, key=repr)

    def view(self, to: Stream) -> list[tuple[Any, ...]]:
        """The same of the view, through the driver."""
        with self.remote.link() as link:
            names = [
                name
                for (name,) in link.rows(
                    Statement(
                        "look",
                        "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS "
                        f"WHERE TABLE_SCHEMA = N'{to.source}' AND TABLE_NAME = N'{to.name}'",
                        labelled=False,
                    )
                )
            ]
            listed = ", ".join(identifier(name) for name in sorted(names))
            text = f"SELECT {listed} FROM {identifier(to.source)}.{identifier(to.name)}"
            return sorted(link.rows(Statement("look", text, labelled=False)), key=repr)

    def end(self) -> None:
        """Nothing is left running."""
        self.remote.end()
        self.house.close()
        self.ledger.close()
