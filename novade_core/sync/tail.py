"""The newest span of a stream, by row hash. Every incremental sync reads it again, to miss no late commit.

Where the warehouse is open that costs an upsert that changes nothing. Where a pool would have to be resumed for it, a
run must know that there is nothing new; so the hashes of that span are kept with the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from novade_core.ledger.plans import Plan
from novade_core.streams import Stream
from novade_core.sync.chunks import Chunk, ChunkWriter

#: More rows than this are not kept: then they count as new, and wait for the warehouse.
MOST = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Tail:
    """Row hash -> version (microseconds of the epoch) of what a plan read last; unknown where that is not whole."""

    def __init__(self, stream: Stream, plan: Plan, *, fresh: bool) -> None:
        """``fresh``: nothing of the plan has landed yet. Otherwise what earlier runs kept is gone on with."""
        kept = plan.details.get("tail")
        self._rows: dict[int, int] | None = {int(k): int(v) for k, v in kept.items()} if kept is not None else None
        if fresh:
            self._rows = {}
        #: Whether it holds every row that the plan read.
        self.whole = fresh
        self._overlap = timedelta(seconds=stream.overlap_seconds)
        self._read_from = plan.details.get("read_from")
        if stream.cursor_field is None or self._read_from is None:
            self._rows = None

    def add(self, writer: ChunkWriter, chunk: Chunk) -> None:
        """Take in a chunk that has just been written."""
        if self._rows is None or chunk.file is None:
            return
        if chunk.cursor_high is None:
            self._rows = None
            return
        found = writer.hashes_from(chunk.file, self._bound(_micros(chunk.cursor_high)), MOST + 1)
        self.whole &= len(found) == chunk.rows
        self._rows.update(found)
        bound = self._bound(max(self._rows.values(), default=0))
        rows = {hash_: version for hash_, version in self._rows.items() if version >= bound}
        self.whole &= len(rows) == len(self._rows)
        self._rows = rows if len(rows) <= MOST else None

    def holds_nothing_but(self, before: Mapping[str, Any] | None) -> bool:
        """Whether all that the plan read is in the ``tail`` of a plan that was loaded."""
        known = (before or {}).get("tail")
        return self._rows is not None and self.whole and known is not None and set(map(str, self._rows)) <= set(known)

    def to_json(self) -> dict[str, int] | None:
        """For the plan's details."""
        return None if self._rows is None else {str(hash_): version for hash_, version in self._rows.items()}

    def _bound(self, high: int) -> int:
        # The next sync begins at the checkpoint less the overlap, and the checkpoint never passes ``read_from``.
        read_from = _micros(datetime.fromisoformat(self._read_from or ""))
        return min(high, read_from) - self._overlap // timedelta(microseconds=1)


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)
