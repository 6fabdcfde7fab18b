"""The embedded warehouse: one DuckDB file. Says only how DuckDB opens, locks and fails; SQL is in ``duckdb_session``.

A second process cannot open the file at all while one has it, not even to read; waiting for it is normal and
bounded. Open late, close early.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from novade_core.errors import NovadeError, RetryableError, StorageRefused, WarehouseBusy
from novade_core.settings import WarehouseSettings
from novade_core.warehouse.base import Capabilities
from novade_core.warehouse.duckdb_session import DuckDBSession

CAPABILITIES = Capabilities(
    engine="DuckDB",
    transactional_ddl=True,  # https://duckdb.org/docs/stable/sql/statements/transactions
    enforces_keys=False,  # it could, but its index would keep every key in memory
    concurrent_processes=False,  # https://duckdb.org/docs/stable/connect/concurrency
    max_rows_per_load=1_000_000,  # only keys are staged, and each transaction looks at the whole table once
)

_DDL = """
CREATE SCHEMA IF NOT EXISTS novade;
CREATE TABLE IF NOT EXISTS novade.novade_fence (stream VARCHAR, fence BIGINT);
CREATE TABLE IF NOT EXISTS novade.novade_loads (
    load_id VARCHAR, stream VARCHAR, landed_seq BIGINT, run_id BIGINT, loaded_at TIMESTAMP, staged BIGINT,
    loaded BIGINT, deleted BIGINT, unchanged BIGINT, superseded BIGINT, duplicates BIGINT);
CREATE TABLE IF NOT EXISTS novade.novade_tombstones (
    stream VARCHAR, key VARCHAR, version BIGINT, row_hash BIGINT, landed_seq BIGINT);
"""


class DuckDBWarehouse:
    """A DuckDB file that can be opened by one process at a time."""

    capabilities = CAPABILITIES

    def __init__(self, settings: WarehouseSettings) -> None:
        self.settings = settings

    @contextlib.contextmanager
    def session(self) -> Iterator[DuckDBSession]:
        """Open the file, waiting up to ``busy_wait_seconds`` for another process to let go of it."""
        connection = self._connect()
        try:
            connection.execute("SET TimeZone='UTC'")
            connection.execute("SET preserve_insertion_order=false")
            connection.execute(_DDL)
            yield DuckDBSession(connection)
        except duckdb.Error as error:
            raise _translate(error, self.settings.path) from error
        finally:
            connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        path = self.settings.path
        deadline = time.monotonic() + self.settings.busy_wait_seconds
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return duckdb.connect(
                    str(path),
                    config={
                        "memory_limit": f"{self.settings.memory_limit_mb}MB",
                        "threads": str(self.settings.threads),
                        "temp_directory": f"{path}.tmp",
                        "autoinstall_known_extensions": "false",
                    },
                )
            except (duckdb.Error, OSError) as error:
                if "Could not set lock" not in str(error) or time.monotonic() >= deadline:
                    raise _translate(error, path) from error
                time.sleep(0.1)

    def usage(self) -> Mapping[str, int]:
        """See Warehouse.usage: nothing is billed."""
        return {}


def _translate(error: Exception, path: Path) -> NovadeError:
    """One of our errors for one of DuckDB's; never the statement, which could hold values."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    lowered = text.lower()
    if "could not set lock" in lowered:
        holder = re.search(r"PID (\d+)", text)
        who = f"process {holder[1]}" if holder else "another process"
        return WarehouseBusy(
            f"The warehouse file {path} is held by {who}.",
            hint=f"Wait for {who} to close it, or end it, then start the run again.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return StorageRefused(
            f"DuckDB reached its memory limit: {text}",
            hint="Raise warehouse.memory_limit_mb in novade.toml or free space for its temporary folder.",
            origin="warehouse",
        )
    if isinstance(error, OSError | duckdb.IOException) or "no space" in lowered or "disk" in lowered:
        return StorageRefused(
            f"The warehouse file {path} cannot be written: {text}",
            hint=f"Check that {path.parent} is writable and has free space, then start the run again.",
            origin="warehouse",
        )
    if isinstance(error, duckdb.TransactionException):
        return RetryableError(f"Another transaction was faster: {text}", origin="warehouse")
    return NovadeError(
        f"DuckDB refused a statement ({type(error).__name__}).",
        hint="This is a fault of ours; the worker's own log holds the statement.",
        origin="warehouse",
    )
