"""A run's heartbeat: keeps the lease alive, publishes progress, hears of a cancel. One thread per run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError

from novade_core.errors import LeaseLost, NovadeError, RunCancelled
from novade_core.ledger.writer import RunWriter

_log = logging.getLogger(__name__)


class Pulse:
    """Beats every ``beat_seconds``, oftener while progress moves. ``check()`` raises what the beat learnt."""

    def __init__(self, writer: RunWriter, beat_seconds: float) -> None:
        self._writer = writer
        self._interval = min(beat_seconds, 1.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)
        self._lock = threading.Lock()
        self._progress: dict[str, Any] = {"step": "plan", "rows": 0, "total": None, "bytes": 0}
        self._begun = time.monotonic()
        self._cancel = False
        self._lost: LeaseLost | None = None

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=35)

    def update(self, **values: Any) -> None:
        """Change the progress that the next beat publishes."""
        with self._lock:
            if values.get("step") not in (None, self._progress.get("step")):
                self._begun = time.monotonic()
            self._progress.update(values)

    def check(self) -> None:
        """Raise RunCancelled or LeaseLost if either was learnt."""
        if self._lost is not None:
            raise self._lost
        if self._cancel:
            raise RunCancelled("The run was cancelled.")

    def snapshot(self) -> Mapping[str, Any]:
        """The progress as it would be published now."""
        with self._lock:
            value = dict(self._progress)
        seconds = max(time.monotonic() - self._begun, 0.001)
        value["rows_per_second"] = round(value["rows"] / seconds)
        value["at"] = datetime.now(UTC).isoformat()
        return value

    def _loop(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._cancel = self._writer.progress(self.snapshot()) or self._cancel
            except LeaseLost as error:
                self._lost = error
                return
            except (NovadeError, DBAPIError) as error:
                # A full disk, a busy ledger: the next beat tries again, and the run's own writes report it.
                _log.warning("beat not written: %s", type(error).__name__)
