"""What a run counts and times while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from novade_core.ledger.writer import RunWriter


@dataclass
class Tally:
    """What a run counts while it goes; written to its row at the end, whatever the end is."""

    read: int = 0
    landed: int = 0
    rejected: int = 0
    bytes_in: int = 0
    loaded: int = 0
    deleted: int = 0
    unchanged: int = 0
    superseded: int = 0
    duplicates: int = 0
    source_count: int | None = None
    warehouse_count: int | None = None
    data_to: datetime | None = None
    api_calls: int = 0
    cpu_from: float = field(default_factory=time.process_time)

    def columns(self) -> dict[str, Any]:
        """As columns of the run."""
        counts = ("read", "landed", "rejected", "loaded", "deleted", "unchanged", "superseded", "duplicates")
        names = (*counts, "bytes_in", "source_count", "warehouse_count", "data_to", "api_calls")
        values = {name: getattr(self, name) for name in names}
        return values | {"cpu_ms": round((time.process_time() - self.cpu_from) * 1000)}


class StepTimer:
    """One step's row, with the time that was really spent in it."""

    def __init__(
        self, writer: RunWriter, clock: Callable[[], datetime], name: str, still_open: list[StepTimer]
    ) -> None:
        self.rows = 0
        self.size = 0
        self.busy = 0.0
        self.message: str | None = None
        self._writer = writer
        self._clock = clock
        self._id = writer.start_step(name, clock())
        self._open = still_open
        still_open.append(self)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time of the block for this step."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.busy += time.perf_counter() - begun

    def end(self, state: str = "succeeded") -> None:
        """Close the row with its figures."""
        self._open.remove(self)
        self._writer.end_step(
            self._id,
            self._clock(),
            state=state,
            busy_seconds=self.busy,
            rows=self.rows,
            size=self.size,
            message=self.message,
        )
