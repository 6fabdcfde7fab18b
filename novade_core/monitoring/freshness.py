"""How old is what we look at? From a stream's limit and its latest facts to a state and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
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
