"""Promised instants: which ones a cron expression or an interval promises. Values only: no ledger, no clock.

An instant is promised as the expression says and due a little later where the schedule has jitter; the promise is
what is booked exactly once, so a changed jitter neither doubles nor loses one.

Daylight saving is Debian cron's rule, which ``cronsim`` implements (https://github.com/cuu508/cronsim): a job at a
fixed time that the spring change leaves out comes right after the gap, one in the doubled autumn hour comes once;
a job of every hour or every n minutes follows real time and is neither left out nor doubled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from novade_core.errors import ConfigurationError
from novade_core.streams import RunKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Outage(StrEnum):
    """What a schedule does about instants that passed while nobody scheduled."""

    ONCE = "once"  #: the newest one runs late, the others are missed: one sync brings all that changed anyway
    ALL = "all"  #: each one runs late, in order
    SKIP = "skip"  #: all of them are missed; the next one comes on time


class FireState(StrEnum):
    """What became of a promised instant."""

    ON_TIME = "on time"
    LATE = "late"  #: asked for, but later than promised
    SKIPPED = "skipped"  #: on purpose, with the reason
    MISSED = "missed"  #: nobody scheduled then, and the rule for outages left it out


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When. Either ``cron`` (five fields, local time of ``timezone``) or ``every_seconds`` (counted from 1970, UTC)."""

    cron: str | None = None
    every_seconds: int | None = None
    timezone: str = "UTC"
    jitter_seconds: int = 0

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.every_seconds is None):
            raise ConfigurationError("A schedule has either a cron expression or an interval.")
        if self.every_seconds is not None and self.every_seconds < 1:
            raise ConfigurationError(f"An interval of {self.every_seconds} s is none; it is at least 1 s.")
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"{self.timezone!r} is no time zone.", hint="Name one as the IANA does, e.g. Europe/Berlin."
            ) from error
        if self.cron is not None:
            self._check_cron(self.cron, zone)
        if self.jitter_seconds < 0:
            raise ConfigurationError("Jitter cannot be negative.")
        if self.jitter_seconds and self.jitter_seconds >= (gap := self._shortest_gap()):
            raise ConfigurationError(
                f"A jitter of {self.jitter_seconds} s is not shorter than the {gap:g} s between two fires."
            )

    @staticmethod
    def _check_cron(cron: str, zone: ZoneInfo) -> None:
        if len(cron.split()) != 5:
            raise ConfigurationError(
                f"{cron!r} is no cron expression of five fields.", hint='"*/15 * * * *" is every quarter of an hour.'
            )
        try:
            next(CronSim(cron, datetime(2024, 1, 1, tzinfo=zone)))
        except CronSimError as error:
            raise ConfigurationError(
                f"{cron!r} is no cron expression: {error}.",
                hint="Fields are minute, hour, day, month, weekday: 0 6 * * 1-5.",
            ) from error
        except StopIteration as error:
            raise ConfigurationError(f"{cron!r} names a moment that never comes.") from error

    def _shortest_gap(self) -> float:
        if self.every_seconds is not None:
            return float(self.every_seconds)
        some = list(islice(self.instants(datetime(2024, 1, 1, tzinfo=UTC)), 60))
        return min((later - earlier).total_seconds() for earlier, later in pairwise(some))

    def instants(self, after: datetime) -> Iterator[datetime]:
        """Promised instants later than ``after``, in order, aware UTC, without end.

        Where it is begun makes no difference: the instants after one of them are the same as those that follow it.
        """
        if self.every_seconds is not None:
            step = timedelta(seconds=self.every_seconds)
            instant = _EPOCH + ((after - _EPOCH) // step + 1) * step
            while True:
                yield instant
                instant += step
        assert self.cron is not None
        for local in CronSim(self.cron, after.astimezone(ZoneInfo(self.timezone))):
            yield local.astimezone(UTC)

    def due(self, name: str, promised: datetime) -> datetime:
        """When a promised instant of the schedule ``name`` is due: the same on every machine, spread by jitter."""
        if not self.jitter_seconds:
            return promised
        digest = hashlib.sha256(f"{name} {promised.isoformat()}".encode()).digest()
        share = int.from_bytes(digest[:4], "big") / 2**32
        return promised + timedelta(milliseconds=round(share * self.jitter_seconds * 1000))

    def words(self) -> str:
        """``every 15 minutes``, ``at 06:00, Monday through Friday, Europe/Berlin time``."""
        if self.every_seconds is not None:
            said = f"every {_length(self.every_seconds)}"
        else:
            from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped] # it ships no types

            assert self.cron is not None
            options = Options(use_24hour_time_format=True, locale_code="en_US")
            text = ExpressionDescriptor(self.cron, options).get_description()
            said = f"{text[0].lower()}{text[1:]}, {self.timezone} time"
        return f"{said}, up to {self.jitter_seconds:,} s later" if self.jitter_seconds else said


def _length(seconds: int) -> str:
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return name if count == 1 else f"{count:,} {name}s"
    raise AssertionError("whole seconds are divisible by one")


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec:
    """A schedule as people describe it: what, when, and what about outages."""

    name: str
    streams: tuple[str, ...]  #: stream ids, sources, or "*" for all; empty: its fires are booked and ask for nothing
    kind: RunKind
    timing: Timing
    outage: Outage

    def to_json(self) -> dict[str, Any]:
        """As stored beside the row, to show what the configuration said."""
        return {
            "streams": list(self.streams),
            "kind": self.kind.value,
            "cron": self.timing.cron,
            "every_seconds": self.timing.every_seconds,
            "timezone": self.timing.timezone,
            "jitter_seconds": self.timing.jitter_seconds,
            "outage": self.outage.value,
        }

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> ScheduleSpec:
        """The reverse of :meth:`to_json`. Raises ConfigurationError for values that make no sense."""
        timing = {key: value[key] for key in ("cron", "every_seconds", "timezone", "jitter_seconds")}
        return cls(
            name=name,
            streams=tuple(value["streams"]),
            kind=RunKind(value["kind"]),
            timing=Timing(**timing),
            outage=Outage(value["outage"]),
        )


#: Fires each minute and asks for nothing: its lateness says how well this scheduler keeps time.
CANARY = ScheduleSpec(
    name="canary", streams=(), kind=RunKind.INCREMENTAL, timing=Timing(every_seconds=60), outage=Outage.SKIP
)
