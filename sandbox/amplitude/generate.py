"""Events of one hour, written as SQL.

Every value is a function of (seed, hour, row): an hour comes out byte for byte the same whenever it is asked for, and
no other hour has to be made first.

An hour is named by `server_upload_time`, as Amplitude names its files. It holds `events_per_hour` new events, and one
line in a hundred repeats an event: the same `uuid` again (from this hour or the one before), or the same `$insert_id`
under another `uuid` once more than seven days have passed, which is when Amplitude stops looking for it.
"""

# ruff: noqa: S608 - the SQL is made of our own plan and of numbers.
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

import duckdb
import pyarrow as pa

from . import envelope

#: Rows of one query: large enough for the engine, small enough that text of 2 KB a row stays below 40 MB.
CHUNK = 16_384

#: Share of an hour's events that a late file brings in addition, in percent.
LATE_PERCENT = 5

#: Events wait on a device no longer than this before they are uploaded.
LATEST_HOURS = 72


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What decides the data of a project; equal shapes give equal bytes."""

    seed: int = 7
    #: New events of every hour.
    events_per_hour: int = 100
    #: Files that an hour is divided into.
    files_per_hour: int = 1
    #: Amplitude's number of the project, and of the organisation that merges are recorded for.
    project_id: int = 187520
    org_id: int = 36958
    #: Nothing was uploaded before this hour (UTC); None: there is no beginning.
    first_hour: datetime | None = None
    #: Whether some events break the plan.
    violations: bool = True
    #: Hours until an `$insert_id` comes again: longer than the seven days in which Amplitude drops repeats.
    repeat_after_hours: int = 192

    def __post_init__(self) -> None:
        if not 1 <= self.events_per_hour <= 5_000_000:
            raise ValueError(f"events_per_hour must lie between 1 and 5,000,000, not {self.events_per_hour}")
        if not 1 <= self.files_per_hour <= 1000:
            raise ValueError(f"files_per_hour must lie between 1 and 1,000, not {self.files_per_hour}")

    @property
    def devices(self) -> int:
        """Devices in use at any time."""
        return max(40, self.events_per_hour * 3)


def hour_number(hour: datetime) -> int:
    """Hours since 1970 of a whole hour; naive instants are UTC. Raises ValueError for anything finer."""
    aware = hour.replace(tzinfo=UTC) if hour.tzinfo is None else hour.astimezone(UTC)
    if (aware.minute, aware.second, aware.microsecond) != (0, 0, 0):
        raise ValueError(f"{hour.isoformat()} is not a whole hour")
    return int(aware.timestamp()) // 3600


def hour_at(number: int) -> datetime:
    """The hour of a number."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=number)


class Generator:
    """Makes the lines of any hour of a project. One object may be used by several threads."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._base = duckdb.connect(":memory:", config={"threads": 1})
        for macro in envelope.macros(shape.seed):
            self._base.execute(macro)
        self._idle: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()
        self._first = hour_number(shape.first_hour) if shape.first_hour is not None else -1

    def exists(self, hour: int) -> bool:
        """Whether anything was uploaded in that hour."""
        return hour >= self._first

    def rows_sql(self, hour: int, low: int, high: int, revision: int = 0) -> str:
        """Identities of new events `low` to `high` of an hour: (hh, k, kind, up, rev). A revision loses some."""
        kept = f" WHERE hash(k, {hour}, {revision}, 'kept') % 20 > 0" if revision else ""
        number = f"{hour}::BIGINT"
        columns = f"{number} AS hh, k, 0 AS kind, {number} AS up, {revision} AS rev"
        return f"SELECT {columns} FROM range({low}, {high}) r(k){kept}"

    def repeats_sql(self, hour: int, revision: int = 0) -> str:
        """Lines of an hour that repeat an event, of this hour (1), the one before (1) and more than a week ago (2)."""
        count, far = self.shape.events_per_hour, self.shape.repeat_after_hours
        parts = []
        for then, kind, low, high in ((hour, 1, 0, 5), (hour - 1, 1, 5, 8), (hour - far, 2, 8, 11)):
            if self.exists(then):
                kept = f" AND hash(k, {hour}, {revision}, 'kept') % 20 > 0" if revision and then == hour else ""
                parts.append(
                    f"SELECT {then}::BIGINT AS hh, k, {kind} AS kind, {hour}::BIGINT AS up, 0 AS rev "
                    f"FROM range(0, {count}) r(k) WHERE hash(k, {then}, {self.shape.seed}, 'again') % 1000 "
                    f"BETWEEN {low} AND {high - 1}{kept}"
                )
        return " UNION ALL ".join(parts)

    def bounds(self, part: int) -> tuple[int, int]:
        """Which new events file `part` of an hour holds, counted from 0; after the last one comes the late file."""
        count, files = self.shape.events_per_hour, self.shape.files_per_hour
        if part == files:
            return count, count + max(1, count * LATE_PERCENT // 100)
        return count * part // files, count * (part + 1) // files

    def lines(self, hour: int, part: int = 0, revision: int = 0) -> Iterator[memoryview]:
        """JSON lines of one file of an hour, in pieces of whole lines; nothing where the hour does not exist."""
        if not self.exists(hour):
            return
        low, high = self.bounds(part)
        sources = [self.rows_sql(hour, start, min(start + CHUNK, high), revision) for start in range(low, high, CHUNK)]
        if part == self.shape.files_per_hour - 1 and (repeats := self.repeats_sql(hour, revision)):
            # With the last piece: each query costs as much as some thousand rows.
            last = f"SELECT * FROM ({sources.pop()}) UNION ALL " if sources else ""
            sources.append(last + repeats)
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._prepared()
        try:
            for source in sources:
                connection.execute("TRUNCATE given")
                connection.execute(f"INSERT INTO given {source}")
                for piece in connection.sql("EXECUTE lines").to_arrow_table().column("line").chunks:
                    yield _text_of(piece)
        finally:
            self._idle.put(connection)

    def _prepared(self) -> duckdb.DuckDBPyConnection:
        """A connection with the large query planned once: that takes longer than a small hour's rows."""
        connection = self._base.cursor()
        connection.execute("CREATE TEMP TABLE given (hh BIGINT, k BIGINT, kind INTEGER, up BIGINT, rev INTEGER)")
        connection.execute("PREPARE lines AS " + envelope.lines_sql(self.shape, "SELECT * FROM given"))
        return connection

    def merges(self, hour: int) -> bytes:
        """JSON lines of the ids merged in an hour, as the native destination writes them."""
        if not self.exists(hour):
            return b""
        table = self._base.cursor().sql(envelope.merges_sql(self.shape, hour)).to_arrow_table()
        return b"".join(bytes(_text_of(piece)) for piece in table.column("line").chunks)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query over `envelope.facts_sql`, for counts."""
        return self._base.cursor().sql(query).fetchall()


def _text_of(array: Any) -> memoryview:
    """The text of a column of strings, one after the other: every line ends with a line feed already."""
    if len(array) == 0:
        return memoryview(b"")
    wide = pa.types.is_large_string(array.type)
    _, offsets, data = array.buffers()
    ends = memoryview(offsets).cast("q" if wide else "i")
    return memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]]
