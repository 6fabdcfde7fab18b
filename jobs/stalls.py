"""Which runs live but do not move: no progress for three times what their stream is used to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from novade_core.ledger.models import Run
from novade_core.ledger.queries import WORKED
from novade_core.wiring import Services

#: Runs of a stream that its usual pause is taken from, and how many there must be.
_USUAL_OF, _USUAL_FROM = 10, 3


class Stalls:
    """Watches the progress of running runs on our own monotonic clock.

    Progress is a step, rows, bytes, or any sign of life of the source. A wait on purpose (for a slot, for the end of
    a rate limit) is no stall while it lasts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.environment.worker
        self._seen: dict[int, tuple[tuple[Any, ...], float]] = {}
        self._limits: dict[int, float] = {}

    def is_stalled(self, run_id: int, subject: str, progress: Mapping[str, Any] | None) -> bool:
        """Look at a run now; call it again later to let time judge."""
        value = progress or {}
        sign = tuple(value.get(key) for key in ("step", "rows", "bytes", "signs"))
        seen, since = self._seen.get(run_id, (None, 0.0))
        # The run itself ends what it says of a wait; its clock is not compared with ours.
        if seen != sign or value.get("waiting") is not None:
            self._seen[run_id] = (sign, time.monotonic())
            return False
        return time.monotonic() - since > self._limit(run_id, subject)

    def keep_only(self, run_ids: set[int]) -> None:
        """Forget runs that have ended."""
        self._seen = {run: seen for run, seen in self._seen.items() if run in run_ids}
        self._limits = {run: limit for run, limit in self._limits.items() if run in run_ids}

    def forget(self) -> None:
        """All judging starts over: nobody could write progress while the ledger was blocked."""
        self._seen.clear()

    def _limit(self, run_id: int, subject: str) -> float:
        if run_id not in self._limits:
            query = (
                select(Run.stillest_ms)
                .where(Run.subject == subject, Run.id < run_id, Run.state.in_([s.value for s in WORKED]))
                .order_by(Run.id.desc())
                .limit(_USUAL_OF)
            )
            with self._services.ledger.read() as connection:
                pauses = [ms / 1000 for ms in connection.execute(query).scalars() if ms is not None]
            limit = self._settings.stall_seconds
            if len(pauses) >= _USUAL_FROM:
                limit = min(limit, max(3 * max(pauses), self._settings.stall_floor_seconds))
            self._limits[run_id] = limit
        return self._limits[run_id]
