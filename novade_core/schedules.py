"""Promised instants: which ones a cron expression or an interval promises. Values only: no ledger, no clock.

An instant is promised as the expression says and due a little later where the schedule has jitter; the promise is
what is booked exactly once, so a changed jitter neither doubles nor loses one.

Daylight saving is Debian cron's rule (cron(8), "Daylight saving time"): a job at fixed times that the spring change
leaves out comes right after the gap, in the doubled autumn hour it comes once, at the first of the two; a job whose
minute or hour begins with a star follows the clock on the wall, so every quarter of an hour stays that. ``cronsim``
reads the expressions and knows the calendar; its own treatment of clock changes is not used, because where it is
begun changes what it answers (within a doubled hour, and in zones that change by half an hour).
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from novade_core.errors import ConfigurationError
from novade_core.streams import RunKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
#: Seconds of the longest interval: a leap year.
_LONGEST = 366 * 86_400


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
        if self.every_seconds is not None and not 1 <= self.every_seconds <= _LONGEST:
            raise ConfigurationError(
                f"An interval of {self.every_seconds:,} s is none.",
                hint=f"It lasts from 1 s to {_LONGEST:,} s, which is a year.",
            )
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"{self.timezone!r} is no time zone.", hint="Name one as the IANA does: Europe/Berlin, say."
            ) from error
        if self.cron is not None:
            self._check_cron(self.cron)
        if self.jitter_seconds < 0:
            raise ConfigurationError("Jitter cannot be negative.", hint="0 is none.")
        if self.jitter_seconds and self.jitter_seconds >= (gap := self._shortest_gap()):
            raise ConfigurationError(
                f"A jitter of {self.jitter_seconds:,} s is not shorter than the {gap:,.0f} s between two fires.",
                hint="Take a shorter jitter, so that fires stay in their order.",
            )

    @staticmethod
    def _check_cron(cron: str) -> None:
        if len(cron.split()) != 5 or len(cron) > 100:
            raise ConfigurationError(
                f"{cron[:100]!r} is no cron expression of five fields.",
                hint="*/15 * * * * is every quarter of an hour.",
            )
        try:
            next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ConfigurationError(
                f"{cron!r} is no cron expression: {str(error).rstrip('.').lower()}.",
                hint="Fields are minute, hour, day, month, weekday: 0 6 * * 1-5 is 06:00 from Monday to Friday.",
            ) from error
        except StopIteration as error:
            raise ConfigurationError(
                f"{cron!r} names a moment that never comes.", hint="Look at its day and its month."
            ) from error

    def _shortest_gap(self) -> float:
        if self.every_seconds is not None:
            return float(self.every_seconds)
        some = list(islice(self.instants(datetime(2024, 1, 1, tzinfo=UTC)), 60))
        return min(((later - earlier).total_seconds() for earlier, later in pairwise(some)), default=float(_LONGEST))

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
        zone = ZoneInfo(self.timezone)
        minute, hour = self.cron.split()[:2]
        found = _wall(self.cron, zone, after) if minute[0] == "*" or hour[0] == "*" else _fixed(self.cron, zone, after)
        for instant in found:
            # Several jobs that one spring gap leaves out come together, and that is one fire.
            if instant > after:
                after = instant
                yield instant

    def between(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Promised instants later than ``since`` and not later than ``until``."""
        if self.every_seconds is not None:
            return tuple(takewhile(lambda instant: instant <= until, self.instants(since)))
        day, found = since.astimezone(UTC).date(), list[datetime]()
        while day <= until.astimezone(UTC).date():
            found += [instant for instant in _of_day(self, day) if since < instant <= until]
            day += _DAY
        return tuple(found)

    def count(self, since: datetime, until: datetime) -> int:
        """How many instants :meth:`between` would give."""
        if self.every_seconds is not None:
            step = timedelta(seconds=self.every_seconds)
            return max(0, (until - _EPOCH) // step - (since - _EPOCH) // step)
        return len(self.between(since, until))

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
            assert self.cron is not None
            said = _described(self.cron)
            if self.cron.split()[1:] != ["*"] * 4:
                said += f", {self.timezone} time"
        return f"{said}, up to {self.jitter_seconds:,} s later" if self.jitter_seconds else said


def _wall(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Each instant at which the clock on the wall shows what the expression says: none in a gap, twice in a doubled
    hour.
    """
    local = after.astimezone(zone)
    naive = local.replace(tzinfo=None, fold=0)
    if not local.fold and local.replace(fold=1).utcoffset() != local.utcoffset():
        # The hour comes again: what it showed before ``after`` it will show once more.
        naive -= _DAY
    second: list[datetime] = []
    for said in CronSim(cron, naive):
        first, again = (said.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
        before, later = first.utcoffset(), again.utcoffset()
        assert before is not None
        assert later is not None
        if before < later:
            continue
        instant = first.astimezone(UTC)
        while second and second[0] < instant:
            yield heapq.heappop(second)
        if before > later:
            heapq.heappush(second, again.astimezone(UTC))
        yield instant


def _fixed(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """One instant for each local time that the expression says; one within a gap comes right after it."""
    for said in CronSim(cron, after.astimezone(zone).replace(tzinfo=None, fold=0)):
        at = said
        while at.replace(tzinfo=zone).utcoffset() < at.replace(tzinfo=zone, fold=1).utcoffset():  # type: ignore[operator] # a zone always knows its offset
            at += _MINUTE
        yield at.replace(tzinfo=zone).astimezone(UTC)


@lru_cache(maxsize=512)
def _of_day(timing: Timing, day: date) -> tuple[datetime, ...]:
    """The instants of one day, UTC; pages ask for the same ones again and again."""
    begin = datetime.combine(day, time(), tzinfo=UTC)
    return tuple(takewhile(lambda i: i < begin + _DAY, timing.instants(begin - timedelta(microseconds=1))))


@lru_cache(maxsize=512)
def _described(cron: str) -> str:
    from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped] # it ships no types

    try:
        text = ExpressionDescriptor(cron, Options(use_24hour_time_format=True, locale_code="en_US")).get_description()
    except Exception:  # it knows less than cronsim does, and says so in many ways
        return f"as cron says, {cron}"
    return f"{text[0].lower()}{text[1:]}"


#: Units of intervals, the longest first: letter, name, seconds.
UNITS = (("d", "day", 86_400), ("h", "hour", 3_600), ("m", "minute", 60), ("s", "second", 1))


def _split(seconds: int) -> tuple[int, str, str]:
    return next((seconds // size, letter, name) for letter, name, size in UNITS if seconds % size == 0)


def _length(seconds: int) -> str:
    count, _, name = _split(seconds)
    return name if count == 1 else f"{count:,} {name}s"


def interval_text(seconds: int) -> str:
    """``15m``: an interval as commands take it."""
    count, letter, _ = _split(seconds)
    return f"{count}{letter}"


def interval_of(text: str) -> int:
    """Seconds of ``90``, ``90s``, ``15m``, ``6h`` or ``1d``. Raises ConfigurationError for anything else."""
    found = re.fullmatch(r"([0-9]{1,9}) ?([dhms]?)", text.strip())
    if found is None:
        raise ConfigurationError(f"{text[:40]!r} is no interval.", hint="Write 90s, 15m, 6h or 1d.")
    sizes = {letter: size for letter, _, size in UNITS} | {"": 1}
    return int(found[1]) * sizes[found[2]]


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
        try:
            kind, outage = RunKind(value["kind"]), Outage(value["outage"])
        except ValueError as error:
            raise ConfigurationError(f"The schedule {name!r} cannot be read: {error}.") from error
        return cls(name=name, streams=tuple(value["streams"]), kind=kind, timing=Timing(**timing), outage=outage)


#: Fires each minute and asks for nothing: its lateness says how well this scheduler keeps time.
CANARY = ScheduleSpec(
    name="canary", streams=(), kind=RunKind.INCREMENTAL, timing=Timing(every_seconds=60), outage=Outage.SKIP
)
