"""What did a load window cost, and what would a pool have cost that is always on? Pure functions, in euros.

Prices are for a DW100c, so a pool of DW300c costs three times as much. What has no price, and a pool whose size is
not known, has no cost: None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from novade_core.ledger.window_usage import IDLE, WORKED, booked, factor, online, seconds_by_day
from novade_core.ledger.windows import Window
from novade_core.monitoring.costs import PriceBook


@dataclass(frozen=True, kw_only=True)
class WindowCost:
    """Of one window, of what is known when it is asked for."""

    euros: Decimal | None  #: so far, while it is under way; of somebody else's pool, what it did for us
    online_seconds: int | None  #: None: the pool was not online for us
    always_on: Decimal | None  #: of the same pool from ``since`` to the window's end
    since: datetime  #: when the window before closed, else when this one opened
    missing: str | None = None  #: why a cost is not known, half a sentence


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Windows of a time together, against a pool that is always on."""

    since: datetime
    days: Decimal  #: from ``since`` to now
    windows: int = 0
    online_seconds: int = 0
    euros: Decimal | None = None  #: of the windows whose cost is known; None: of none is it
    always_on: Decimal | None = None
    unknown: int = 0  #: windows that ``euros`` leaves out


def cost_of_window(window: Window, book: PriceBook, *, since: datetime | None, now: datetime) -> WindowCost:
    """The cost of one window; ``since`` is when the window before it closed, None where it is the first."""
    times = factor(window.size)
    start, end = since or window.opened_at, window.closed_at or now
    span = online(window, now)
    found = booked(window)
    by_meter: Mapping[str, Mapping[date, int]]
    euros: Decimal | None = None
    always: Decimal | None = None
    missing: str | None = "the pool's size is not known"
    if times is not None:
        if found is not None:
            by_meter = {WORKED: found.worked, IDLE: found.idle}
        else:
            # Only at its end it is known for whom the pool worked, and both are billed alike.
            days = seconds_by_day(*span) if span else {}
            by_meter = {IDLE: {day: seconds * times for day, seconds in days.items()}}
        euros, missing = _priced(by_meter, book)
        always, why = _always_on(start, end, times, book)
        missing = missing or why
    if found is None and not window.ours:
        euros, missing = None, "somebody else's pool; what it does for us is known when the window closes"
    if euros == 0 and _no_price(book, end):
        euros = None  # nothing used at an unknown price
    return WindowCost(
        euros=euros,
        online_seconds=int((span[1] - span[0]).total_seconds()) if span else None,
        always_on=always,
        since=start,
        missing=missing,
    )


def costs_of_windows(windows: Sequence[Window], book: PriceBook, now: datetime) -> dict[int, WindowCost]:
    """The cost of each; ``windows`` are newest first without a gap, and the last one only says since when."""
    found = {}
    for place, window in enumerate(windows):
        before = windows[place + 1] if place + 1 < len(windows) else None
        since = before.closed_at if before is not None else None
        found[window.id] = cost_of_window(window, book, since=since, now=now)
    return found


def summary(windows: Sequence[Window], book: PriceBook, now: datetime, *, days: int = 30) -> Summary:
    """What the windows of so many days cost, against a pool of the newest one's size that is on all the time.

    Where the first window is younger, from that on. A window counts where it closed, or is under way, in that time.
    """
    earliest = now - timedelta(days=days)
    own = [window for window in windows if (window.closed_at or now) >= earliest]
    since = max(earliest, min((w.opened_at for w in windows), default=earliest))
    span = Decimal((now - since).total_seconds()) / 86_400
    if not own:
        return Summary(since=since, days=span)
    costs = [cost_of_window(window, book, since=None, now=now) for window in own]
    known = [cost.euros for cost in costs if cost.euros is not None]
    # One that is under way and was not resumed yet leaves nothing out.
    due = [cost for cost, w in zip(costs, own, strict=True) if w.closed_at or cost.online_seconds is not None]
    times = next((times for window in own if (times := factor(window.size)) is not None), None)
    return Summary(
        since=since,
        days=span,
        windows=len(own),
        online_seconds=sum(cost.online_seconds or 0 for cost in costs),
        euros=sum(known, Decimal(0)) if known else None,
        always_on=None if times is None else _always_on(since, now, times, book)[0],
        unknown=sum(cost.euros is None for cost in due),
    )


def _always_on(start: datetime, end: datetime, times: int, book: PriceBook) -> tuple[Decimal | None, str | None]:
    days = {day: seconds * times for day, seconds in seconds_by_day(start, end).items()}
    return _priced({IDLE: days}, book)


def hour(size: str | None, book: PriceBook, day: date) -> Decimal | None:
    """What an hour of a pool of this size costs while it is online; None where that is not known."""
    times = factor(size)
    return None if times is None else book.price(IDLE, 3_600 * times, day).euros


def _no_price(book: PriceBook, at: datetime) -> bool:
    return book.price(IDLE, 1, at.date()).euros is None


def _priced(by_meter: Mapping[str, Mapping[date, int]], book: PriceBook) -> tuple[Decimal | None, str | None]:
    total = Decimal(0)
    for meter, by_day in by_meter.items():
        for day, seconds in by_day.items():
            part = book.price(meter, seconds, day)
            if part.euros is None:
                return None, f"{meter} has {part.missing or 'no price'}"
            total += part.euros
    return total, None
