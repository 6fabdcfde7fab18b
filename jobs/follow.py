"""A run's progress on a terminal: a bar with rows and rows per second, from the ledger or from the engine itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from sqlalchemy import select

from novade_core.ledger.models import ENDED, Run, RunState
from novade_core.wiring import Services


class Bar:
    """A progress bar on a terminal; silent elsewhere, so that output can be piped."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = label
        self._progress: Any = None
        self._task: Any = None
        self._rows = 0
        self._total: int | None = None
        self._begun = time.monotonic()
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f} rows"),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Bar:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task(self._label, total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, progress: Mapping[str, Any]) -> None:
        """Draw a progress value as the ledger holds it."""
        if self._progress is None or not progress:
            return
        rate = progress.get("rows_per_second")
        self._progress.update(
            self._task,
            description=f"{self._label} · {progress.get('step', '')}",
            completed=progress.get("rows") or 0,
            total=progress.get("total"),
            rate=f"{rate:,}/s" if rate else "",
        )

    def point(self, name: str, details: Mapping[str, Any]) -> None:
        """An engine's observer for a run in this process."""
        if name == "land.registered":
            self._rows += int(details["rows"])
        elif name == "plan.ended":
            self._total = sum(w.expected or 0 for w in details["plan"].windows) or None
        rate = round(self._rows / max(time.monotonic() - self._begun, 0.001))
        self.show({"step": name.partition(".")[0], "rows": self._rows, "total": self._total, "rows_per_second": rate})


def follow(
    services: Services, run_id: int, bar: Bar, is_worked: Callable[[], bool], poll_seconds: float = 0.3
) -> Mapping[str, Any] | None:
    """Watch a run until it ends; answers its row, or None where it waits and nobody takes runs any more."""
    looked = time.monotonic()
    while True:
        with services.ledger.read() as connection:
            row = connection.execute(select(Run.__table__).where(Run.id == run_id)).one()
        if row.state in ENDED:
            return dict(row._mapping)
        if row.state == RunState.QUEUED and time.monotonic() - looked > services.environment.worker.lease_seconds:
            if not is_worked():
                return None
            looked = time.monotonic()
        bar.show(row.progress or {})
        time.sleep(poll_seconds)
