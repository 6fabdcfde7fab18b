"""How old is what we look at? From a stream's limit and its latest facts to a state and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

#: From this share of the limit on, a stream is late though not yet stale.
LATE_FROM = 0.8


class FreshState(StrEnum):
    """What a stream's age means."""

    FRESH = "fresh"
    LATE = "late"  #: inside the limit's warning
    STALE = "stale"  #: older than its limit
    NEVER_LOADED = "never loaded"
    PAUSED = "paused"  #: somebody asked for silence


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """One stream's age against its limit."""

    state: FreshState
    age: timedelta | None  #: since a run last proved the stream up to date
    limit: timedelta
    due: datetime | None  #: when it becomes stale
    sentence: str

    @property
    def needs_somebody(self) -> bool:
        """Whether a person should look."""
        return self.state in (FreshState.LATE, FreshState.STALE)


def freshness_of(*, fresh_within_minutes: int, last_load_at: datetime | None, paused: bool, now: datetime) -> Freshness:
    """The state now. A load instant after ``now`` (another machine's clock) counts as this moment."""
    limit = timedelta(minutes=fresh_within_minutes)
    within = spoken(limit)
    age = None if last_load_at is None else max(now - last_load_at, timedelta(0))
    due = None if last_load_at is None else last_load_at + limit
    if paused:
        known = "never loaded" if age is None else f"last proven up to date {spoken(age)} ago"
        return Freshness(state=FreshState.PAUSED, age=age, limit=limit, due=due, sentence=f"Paused; {known}.")
    if age is None:
        return Freshness(
            state=FreshState.NEVER_LOADED, age=None, limit=limit, due=None, sentence="Nothing has been loaded yet."
        )
    if age > limit:
        sentence = f"{spoken(age - limit)} over its limit of {within}."
        return Freshness(state=FreshState.STALE, age=age, limit=limit, due=due, sentence=sentence)
    if age >= limit * LATE_FROM:
        sentence = f"{spoken(limit - age)} left of its limit of {within}."
        return Freshness(state=FreshState.LATE, age=age, limit=limit, due=due, sentence=sentence)
    return Freshness(
        state=FreshState.FRESH,
        age=age,
        limit=limit,
        due=due,
        sentence=f"Up to date {spoken(age)} ago, limit {within}.",
    )


def spoken(length: timedelta) -> str:
    """A length as people say it, two units at most: ``3 min 20 s``, ``1 h 5 min``, ``2 d``."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    for size, unit, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            # Seconds after ten minutes and hours after ten days are noise.
            tail = rest // below if whole < 10 else 0
            return f"{whole:,} {unit} {tail} {small}" if tail else f"{whole:,} {unit}"
    return f"{seconds} s"


# How it was


def days_between(since: date, until: date) -> tuple[date, ...]:
    """All days, both included."""
    return tuple(since + timedelta(days=n) for n in range((until - since).days + 1))


def ages_by_day(
    recorded: Mapping[date, int],
    days: Sequence[date],
    *,
    first_loaded_at: datetime | None,
    last_load_at: datetime | None,
    now: datetime,
) -> dict[date, timedelta | None]:
    """How old a stream became on each UTC day; None before its first load and where nothing is known.

    ``recorded`` are seconds by day, written at each load; what passed since the last one is added here.
    """
    ages: dict[date, timedelta | None] = {}
    for day in days:
        if first_loaded_at is None or last_load_at is None or day < first_loaded_at.date() or day > now.date():
            ages[day] = None
            continue
        known = [timedelta(seconds=recorded[day])] if day in recorded else []
        if day >= last_load_at.date():
            end = min(now, datetime.combine(day + timedelta(days=1), time(), UTC))
            known.append(max(end - last_load_at, timedelta(0)))
        ages[day] = max(known, default=None)
    return ages


def state_of_age(age: timedelta | None, limit: timedelta) -> FreshState:
    """What an age means against a limit; never loaded where none is known."""
    if age is None:
        return FreshState.NEVER_LOADED
    if age > limit:
        return FreshState.STALE
    return FreshState.LATE if age >= limit * LATE_FROM else FreshState.FRESH


def attainment(ages: Iterable[timedelta | None], limit: timedelta) -> float | None:
    """The share of days on which the limit was kept all day; None where no day is known."""
    known = [age <= limit for age in ages if age is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A time in which a stream was over its limit."""

    loaded: datetime  #: the load before it
    since: datetime  #: when its limit passed
    until: datetime | None  #: the load that ended it; None: it lasts


def overdue(loads: Sequence[datetime], limit: timedelta, now: datetime) -> tuple[Overdue, ...]:
    """When a stream was over its limit, the latest first. ``loads`` in their order."""
    ends: list[datetime | None] = [*loads[1:], None]
    found = [
        Overdue(loaded=load, since=load + limit, until=end)
        for load, end in zip(loads, ends, strict=True)
        if (end or now) - load > limit
    ]
    return tuple(reversed(found))


def age_curve(loads: Sequence[datetime], since: datetime, now: datetime, parts: int) -> list[timedelta | None]:
    """The oldest that a stream became in each of so many equal parts of a time; None where nothing is known yet."""
    step = (now - since) / parts
    curve: list[timedelta | None] = []
    position, last = 0, None
    for number in range(parts):
        end = now if number == parts - 1 else since + step * (number + 1)
        oldest: timedelta | None = None
        while position < len(loads) and loads[position] <= end:
            if last is not None and loads[position] > since + step * number:
                oldest = max(oldest or timedelta(0), loads[position] - last)
            last = loads[position]
            position += 1
        if last is not None:
            oldest = max(oldest or timedelta(0), end - last)
        curve.append(oldest)
    return curve
