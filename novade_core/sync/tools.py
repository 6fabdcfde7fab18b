"""What an execution works with, and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from novade_core.errors import NovadeError
from novade_core.landing.base import Landing
from novade_core.ledger.database import Ledger
from novade_core.ledger.models import RunState
from novade_core.sources.base import Source
from novade_core.streams import Stream
from novade_core.warehouse.base import Warehouse

#: Told the name of each point that the run passes; the progress bar listens, and so do tests that kill it there.
Observer = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What an execution works with; made by ``wiring``."""

    ledger: Ledger
    landing: Landing
    warehouse: Warehouse
    source: Callable[[str, Path], Source]  #: a fresh source by name, with a folder for its files; the engine closes it
    stream: Callable[[str], Stream]
    temp: Path
    clock: Callable[[], datetime]
    beat_seconds: float
    lease_seconds: float
    retry_seconds: tuple[float, ...]  #: before each further attempt of a run that a worker executes
    slots: Callable[[str], int]  #: how many runs may read from a source at the same time
    fingerprint: Callable[[str], str]  #: of a source's credentials, to see that they changed
    history_rows: int  #: about so many rows a window of history
    #: Whether the warehouse may be opened now; a pool that is resumed for load windows is paused in between.
    admits_loads: Callable[[], bool] = lambda: True
    has_windows: bool = False  #: whether that can ever be false


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, for the command line and for tests."""

    run_id: int
    stream: str
    state: RunState
    headline: str
    counts: Mapping[str, int | None]
    seconds: float
    error: NovadeError | None = None
