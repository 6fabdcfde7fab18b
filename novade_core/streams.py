"""The nouns that all stages share. Values only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

#: Columns that Novade adds to every table in the warehouse.
LOADED_COLUMNS = ("_novade_run_id", "_novade_loaded_at")
#: Columns that Novade adds at landing.
LANDED_COLUMNS = ("_novade_source_version", "_novade_row_hash", "_novade_deleted_at", "_novade_landed_seq")


class ColumnType(StrEnum):
    """What a column can hold, whatever the engine."""

    TEXT = "text"  #: characters; ``length`` is the source's limit, None = unlimited
    BOOLEAN = "boolean"
    INTEGER = "integer"  #: 32 bits
    BIGINT = "bigint"  #: 64 bits
    DECIMAL = "decimal"  #: exact, with ``precision`` and ``scale``
    DOUBLE = "double"  #: 64-bit binary
    DATE = "date"
    TIMESTAMP = "timestamp"  #: UTC, microseconds
    TIME = "time"  #: kept as text hh:mm:ss.fff, because Parquet TIME(MICROS) is refused by a pool
    JSON = "json"  #: text that holds JSON


class SchemaPolicy(StrEnum):
    """What happens when the source's schema changes."""

    EVOLVE = "evolve"  #: add columns, widen types; what cannot widen lands in name__type
    FREEZE = "freeze"  #: fail, naming column and rule
    QUARANTINE = "quarantine"  #: rows aside, to be replayed


class DeleteMode(StrEnum):
    """What a delete at the source does in the warehouse."""

    SOFT = "soft"  #: _novade_deleted_at is set, the row stays
    HARD = "hard"  #: the row goes, a tombstone (key, version) stays


class RunKind(StrEnum):
    """Why a run exists."""

    INCREMENTAL = "incremental"  #: from the checkpoint on; the first one is the double import
    FULL = "full"  #: everything, replacing the table
    BACKFILL = "backfill"  #: one window, never moving the checkpoint


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a stream."""

    name: str
    type: ColumnType
    length: int | None = None  #: characters, for TEXT
    precision: int | None = None  #: digits in all, for DECIMAL; 6 for a TIMESTAMP finer than milliseconds
    scale: int | None = None  #: digits after the point, for DECIMAL
    note: str = ""  #: what people should know, such as "formula: changes do not move SystemModstamp"

    def describe(self) -> str:
        """The type in words: ``decimal(18,2)``, ``text(80)``."""
        if self.type is ColumnType.DECIMAL:
            return f"decimal({self.precision},{self.scale})"
        if self.type is ColumnType.TEXT and self.length:
            return f"text({self.length})"
        return self.type.value

    def to_json(self) -> dict[str, Any]:
        """As stored in plans and manifests."""
        return {
            "name": self.name,
            "type": self.type.value,
            "length": self.length,
            "precision": self.precision,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Column:
        """The reverse of :meth:`to_json`."""
        return cls(
            name=value["name"],
            type=ColumnType(value["type"]),
            length=value["length"],
            precision=value["precision"],
            scale=value["scale"],
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One table's worth of a source. ``id`` is ``source.name`` and unique."""

    source: str  #: "salesforce"
    name: str  #: "contact"; lower case, also the warehouse table
    label: str  #: as people say it: "Salesforce Contact"
    object_name: str  #: as the source says it: "Contact"
    primary_key: tuple[str, ...]
    cursor_field: str | None  #: None: every sync is a full one
    created_field: str | None = None  #: immutable; windows for counting are cut by it
    deleted_field: str | None = None  #: a boolean column that is true on deleted records
    version_field: str | None = None  #: the newest wins; usually the cursor
    delete_mode: DeleteMode = DeleteMode.SOFT
    schema_policy: SchemaPolicy = SchemaPolicy.EVOLVE
    reject_limit: int = 100  #: more rejects than this fail the run
    overlap_seconds: int = 600  #: re-read before the checkpoint, since rows can become visible late
    fresh_within_minutes: int = 1440
    transport: str = "auto"  #: source-specific: for Salesforce auto, rest or bulk
    fields: tuple[str, ...] = ()  #: only these, if given

    @property
    def id(self) -> str:
        """``salesforce.contact``: in URLs, commands and the ledger."""
        return f"{self.source}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class StreamSchema:
    """What a source says a stream looks like now."""

    columns: tuple[Column, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)  #: field -> why it is not loaded

    def column(self, name: str) -> Column | None:
        """The column of this name, if there is one."""
        return next((c for c in self.columns if c.name == name), None)

    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(c.name for c in self.columns)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open part of a stream: ``low <= cursor < high``. None = unbounded."""

    low: datetime | None
    high: datetime | None
    part: str = "live"  #: "history", "live", "full" or "backfill"
    expected: int | None = None  #: rows that the source counted, where it did

    def __post_init__(self) -> None:
        for instant in (self.low, self.high):
            if instant is not None and instant.tzinfo is None:
                raise ValueError(f"window bound {instant!r} has no time zone")
        if self.low is not None and self.high is not None and self.high <= self.low:
            raise ValueError(f"window ends at {self.high} before it starts at {self.low}")

    def halves(self, now: datetime) -> tuple[Window, Window] | None:
        """Two windows of half the length, or None where less than a minute is left to share.

        A window that is open above is cut between its start and ``now``, and its later half stays open. More
        than two hours are cut at a whole hour: some sources give whole hours alone.
        """
        if self.low is None:
            return None
        length = (self.high or now) - self.low
        if length.total_seconds() < 60:
            return None
        middle = self.low + length / 2
        hour = middle.replace(minute=0, second=0, microsecond=0)
        middle = hour if length > timedelta(hours=2) else middle
        return replace(self, high=middle, expected=None), replace(self, low=middle, expected=None)

    def to_json(self) -> dict[str, Any]:
        """As stored in plans."""
        return {
            "low": self.low.isoformat() if self.low else None,
            "high": self.high.isoformat() if self.high else None,
            "part": self.part,
            "expected": self.expected,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Window:
        """The reverse of :meth:`to_json`."""
        return cls(
            low=datetime.fromisoformat(value["low"]) if value["low"] else None,
            high=datetime.fromisoformat(value["high"]) if value["high"] else None,
            part=value["part"],
            expected=value["expected"],
        )


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Records as CSV on disk: UTF-8, comma, double quotes, LF, one header line, no NUL byte.

    An unquoted empty cell is NULL. A quoted one is an empty text, unless the source cannot tell the two apart.
    """

    path: Path
    header: tuple[str, ...]
    quoted_empty_is_null: bool


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Records as JSON objects on disk, one a line: UTF-8, LF, no line empty or above 16 MiB, no raw control character.

    Which value becomes which text is said in ``sync.reading``.
    """

    path: Path
    fields: tuple[str, ...]  #: names of columns; what is absent is NULL
    as_json: frozenset[str] = frozenset()  #: of them, those whose strings keep their quotes
    rest: str | None = None  #: of them, the one that takes whatever has another name, as a JSON object
    inner: Mapping[str, tuple[str, str]] = field(default_factory=dict)  #: of them, one that is inside another: where
    first_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: of them, the first of others with a value


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A record that a source could not even hand over."""

    reason: str
    record: str  #: as much of it as people need to find it


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a source hands over: up to some ten thousand records, every value still text.

    Values are the source's own spelling ("1.5E+7", "2024-01-01T00:00:00.000Z"); typing them is the
    engine's work, so that what cannot be typed is rejected by one rule for all sources, and so that
    the records go from disk through one columnar pass without ever being Python objects.
    The file is the source's: it is gone when the next batch is asked for.
    ``resume`` is the source's own position after this batch; handed back to ``extract`` it goes on
    from here. None means that the window ends with this batch.
    """

    text: TextFile | JsonLines
    resume: Mapping[str, Any] | None
    rows: int  #: as the source announced them; a file with another number is broken
    bytes_in: int = 0  #: received from the source for this batch
    refused: tuple[Refused, ...] = ()  #: beside the ``rows`` of the file

    @property
    def records(self) -> int:
        """All that was read, taken or not."""
        return self.rows + len(self.refused)


class WindowCount(NamedTuple):
    """Rows and order-free hashes of one hour, as a manifest holds them. A tuple: a page of history has thousands."""

    hour: str  #: "2024-11-18T14" UTC, or "" where the stream has no cursor
    rows: int
    key_hash: str  #: sum of the 63-bit hashes of (key, version), in decimal
    row_hash: str  #: sum of the row hashes, in decimal


@dataclass(frozen=True, kw_only=True)
class LandedFile:
    """One manifest and its file: the unit that is landed, registered and loaded once."""

    seq: int  #: the ledger's number, rising in the order of registration
    stream: str
    run_id: int
    plan_id: int
    window: int  #: index into the plan's windows
    chunk: int  #: running number within the run
    manifest_path: str  #: in the landing
    load_id: str  #: sha256 of the manifest
    files: tuple[str, ...]
    rows: int
    rejected: int
    columns: tuple[Column, ...]

    @property
    def piece(self) -> int:
        """What every row of its files says in ``_novade_piece``."""
        return piece(self.run_id, self.chunk)


@dataclass(frozen=True, kw_only=True)
class PlanVersion:
    """A version of a tracking plan that was read once; the plan itself is kept beside it."""

    plan: str  #: its name
    version: str  #: twelve digits that change with any event or property
    file: str  #: where it stood when it became current
    format: str  #: segment, amplitude, rudderstack, iglu or plain
    events: int
    properties: int  #: of all events, nested ones included
    current: bool  #: whether the plan stands like this now
    first_seen_at: datetime
    changed_at: datetime  #: when it became current, or ceased to be


def piece(run_id: int, chunk: int) -> int:
    """One number for a chunk of a run; a run has fewer than a million."""
    return run_id * 1_000_000 + chunk


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What one load did with one manifest's rows: the parts add up to ``staged``."""

    load_id: str
    staged: int
    loaded: int  #: written to the target, delete marks included
    deleted: int  #: of the loaded, those that mark or remove a deleted record
    unchanged: int  #: equal version and equal row hash
    superseded: int  #: older than what the target holds
    duplicates: int  #: another record of the same key in the same load was newer

    def __add__(self, other: LoadResult) -> LoadResult:
        return LoadResult(
            load_id=other.load_id,
            staged=self.staged + other.staged,
            loaded=self.loaded + other.loaded,
            deleted=self.deleted + other.deleted,
            unchanged=self.unchanged + other.unchanged,
            superseded=self.superseded + other.superseded,
            duplicates=self.duplicates + other.duplicates,
        )


def utc(value: datetime) -> datetime:
    """The same instant in UTC; refuses a naive one (ValueError)."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return value.astimezone(UTC)
