"""Tracking plans as a source: files are read, every version that was ever read is remembered, and rows come of both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from novade_core.errors import ConfigurationError
from novade_core.sections import TrackingPlanSettings
from novade_core.sources.base import Facts
from novade_core.sources.textfile import write_text
from novade_core.streams import Batch, PlanVersion, Stream, StreamSchema, Window

from .files import Found, read_plans
from .model import Plan
from .rows import COLUMNS, number_of_rows, rows

#: A batch ends with the version that passes so many rows.
BATCH_ROWS = 20_000


class Memory(Protocol):
    """Where versions are remembered, for a file holds the newest one alone."""

    def note(self, seen: Sequence[tuple[PlanVersion, Mapping[str, Any]]], read_at: datetime) -> None:
        """These are the plans now, each with Plan.to_json: new versions are added, others are no longer current."""

    def versions(self) -> Sequence[PlanVersion]:
        """All that were ever read."""

    def model(self, plan: str, version: str) -> Mapping[str, Any] | None:
        """What ``Plan.to_json`` gave."""


class TrackingPlans:
    """See sources.base.Source. The files are read once a run, before anything is asked of them."""

    name = "tracking_plan"

    def __init__(self, settings: TrackingPlanSettings, temp: Path, memory: Memory) -> None:
        self._settings = settings
        self._temp = temp
        self._memory = memory
        self._known: tuple[PlanVersion, ...] | None = None
        self.on_wait: Callable[[float, str], None] = lambda _seconds, _why: None

    def close(self) -> None:
        """See Source.close."""

    def usage(self) -> Mapping[str, int]:
        """See Source.usage. Files of one's own are not metered."""
        return {}

    def facts(self) -> Facts:
        """See Source.facts."""
        return Facts(about={})

    def now(self) -> datetime:
        """See Source.now. To the millisecond, which is what lands."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def schema(self, stream: Stream) -> StreamSchema:
        """See Source.schema. Raises ConfigurationError where a file cannot be read."""
        self._versions()
        columns = COLUMNS[stream.object_name]
        if stream.fields:
            kept = {*stream.fields, *stream.primary_key, stream.cursor_field, stream.created_field}
            columns = tuple(c for c in columns if c.name in kept)
        return StreamSchema(columns=columns)

    def count(self, stream: Stream) -> int:
        """See Source.count."""
        return sum(number_of_rows(stream.object_name, version) for version in self._versions())

    def counts_by_month(self, stream: Stream, field: str, *, include_deleted: bool) -> dict[str, int]:
        """See Source.counts_by_month; nothing is ever deleted."""
        del include_deleted
        counts: dict[str, int] = {}
        for version in self._versions():
            month = f"{_instant(version, field):%Y-%m}"
            counts[month] = counts.get(month, 0) + number_of_rows(stream.object_name, version)
        return counts

    def window_count(self, stream: Stream, window: Window) -> int:
        """See Source.window_count."""
        return sum(number_of_rows(stream.object_name, version) for version in self._within(stream, window))

    def keys(self, stream: Stream, field: str, month: str) -> Iterator[str]:
        """See Source.keys."""
        for version in self._versions():
            if f"{_instant(version, field):%Y-%m}" == month:
                yield from (str(row[0]) for row in rows(stream.object_name, version, self._plan(version)))

    def extract(
        self, stream: Stream, schema: StreamSchema, window: Window, resume: Mapping[str, Any] | None
    ) -> Generator[Batch, None, None]:
        """See Source.extract."""
        left = [v for v in self._within(stream, window) if resume is None or _place(stream, v) > tuple(resume["after"])]
        names = [column.name for column in COLUMNS[stream.object_name]]
        chosen = [names.index(name) for name in schema.names()]
        while left:
            taken: list[PlanVersion] = []
            size = 0
            while left and size < BATCH_ROWS:
                taken.append(left.pop(0))
                size += number_of_rows(stream.object_name, taken[-1])
            if not size:
                continue
            made = chain.from_iterable(rows(stream.object_name, version, self._plan(version)) for version in taken)
            with tempfile.NamedTemporaryFile(dir=self._temp, prefix="plan-", suffix=".csv") as file:
                text = write_text(Path(file.name), schema.names(), ([row[n] for n in chosen] for row in made))
                following = {"after": list(_place(stream, taken[-1]))} if left else None
                yield Batch(text=text, resume=following, rows=size, bytes_in=Path(file.name).stat().st_size)

    def _versions(self) -> tuple[PlanVersion, ...]:
        if self._known is None:
            path = self._settings.path
            if path is None:
                raise ConfigurationError(
                    "It is not said where the tracking plans are: tracking_plan.path is missing.",
                    hint="Set NOVADE_TRACKING_PLAN_PATH, or path in [tracking_plan] of a secrets file or environment.",
                )
            # The clock is read first: who reads later knows better.
            read_at = self.now()
            self._memory.note([_seen(found, read_at) for found in read_plans(path, self._settings.files)], read_at)
            self._known = tuple(self._memory.versions())
        return self._known

    def _within(self, stream: Stream, window: Window) -> list[PlanVersion]:
        """Versions whose cursor lies in the window, in its order."""
        field = str(stream.cursor_field)
        chosen = [
            version
            for version in self._versions()
            if (window.low is None or _instant(version, field) >= window.low)
            and (window.high is None or _instant(version, field) < window.high)
        ]
        return sorted(chosen, key=lambda version: _place(stream, version))

    def _plan(self, version: PlanVersion) -> Plan:
        model = self._memory.model(version.plan, version.version)
        if model is None:
            raise ConfigurationError(
                f"Version {version.version} of the plan {version.plan} is no longer remembered.",
                hint="Restore the ledger's table plan_versions from its backup.",
                origin="us",
            )
        return Plan.from_json(model)


def _instant(version: PlanVersion, field: str) -> datetime:
    return version.changed_at if field == "changed_at" else version.first_seen_at


def _place(stream: Stream, version: PlanVersion) -> tuple[str, str, str]:
    return _instant(version, str(stream.cursor_field)).isoformat(), version.plan, version.version


def _seen(found: Found, read_at: datetime) -> tuple[PlanVersion, dict[str, Any]]:
    plan = found.plan
    version = PlanVersion(
        plan=plan.name,
        version=plan.version,
        file=found.file,
        format=plan.source,
        events=len(plan.events),
        properties=plan.size,
        current=True,
        first_seen_at=read_at,
        changed_at=read_at,
    )
    return version, plan.to_json()
