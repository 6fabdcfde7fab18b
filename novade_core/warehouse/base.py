"""The warehouse protocol. SQL is written by hand for each engine; differences that generic code needs are data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from novade_core.streams import LandedFile, LoadResult, Stream


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """How an engine differs, as data. Generic code asks here, never for the type."""

    engine: str  #: as people say it
    transactional_ddl: bool  #: CREATE, ALTER and DROP roll back
    enforces_keys: bool  #: a primary key is a promise that the engine keeps
    concurrent_processes: bool  #: several processes can have it open
    max_rows_per_load: int  #: rows of manifests taken into one transaction
    #: Rows are only made visible by a load; which of a key is the newest is decided whenever somebody reads.
    decides_at_reading: bool = False


@dataclass(frozen=True, kw_only=True)
class SchemaChange:
    """One change that a load made to a table."""

    kind: str  #: added, widened, sidelined (a new name__type column), absent (the source no longer has it)
    column: str
    detail: str  #: "text(80)", "integer -> bigint"


@dataclass(frozen=True, kw_only=True)
class LoadOutcome:
    """What one transaction did."""

    results: tuple[LoadResult, ...]  #: one a manifest
    changes: tuple[SchemaChange, ...]


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """Manifests to load and everything that a load may depend on. ``columns`` are in the stream's order."""

    stream: Stream
    manifests: Sequence[LandedFile]
    locations: Sequence[Sequence[str]]  #: for each manifest, where its files can be read
    fence: int
    run_id: int
    now: datetime
    before_commit: Callable[[], None]  #: raises where the lease is lost; called last before COMMIT
    #: May a manifest that landed before these still be loaded after them? Where none can, a row that landed again
    #: unchanged need not note its later landing, and a sync without news writes no row at all.
    older_waiting: bool = True
    #: For ``replace``: manifests that landed before and wait; the new table contains them, so they count as loaded.
    contained: Sequence[LandedFile] = ()


class Session(Protocol):
    """An open warehouse. Short-lived: the engine opens it late and closes it early."""

    def load(self, request: LoadRequest) -> LoadOutcome:
        """Upsert the manifests in one fenced transaction; one that is already in is answered from its marker."""

    def replace(self, request: LoadRequest) -> LoadOutcome:
        """Put exactly the manifests' rows in the place of the table, in one fenced transaction."""

    def count(self, stream: Stream) -> int | None:
        """Live rows (not marked deleted), None where there is no table."""

    def counts_by_month(self, stream: Stream, field: str) -> dict[str, int]:
        """Live rows by UTC month of a timestamp column."""

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """Primary keys of the live rows of one month (composite keys joined by U+001F)."""

    def interrupt(self) -> None:
        """End the statement that runs at the moment, from another thread; nothing happens where none does."""


class Warehouse(Protocol):
    """A warehouse that can be opened."""

    capabilities: Capabilities

    def session(self) -> AbstractContextManager[Session]:
        """Open it; raises WarehouseBusy where another process holds it for too long."""

    def usage(self) -> Mapping[str, int]:
        """What this object's sessions used so far, by meter, such as ``warehouse.bytes_processed``; all that is
        billed by what a statement does, so nothing where time is billed."""
