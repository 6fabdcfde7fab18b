"""Figures, times and lengths as people read them. A dash for "not known", never a zero in its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from novade_core.monitoring.freshness import spoken
from novade_core.settings import Environment
from pages.ui.markup import Markup, tag

DASH = "–"

KINDS = {"incremental": "Incremental", "full": "Full reload", "backfill": "A window of the past"}
STEPS = {"plan": "planning", "extract": "reading", "land": "landing", "load": "loading", "verify": "comparing"}
_CONJUNCTION = " and "


def number(value: float | None) -> str:
    """12,345."""
    return DASH if value is None else f"{value:,.0f}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """1 run, 2 runs."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def size(value: int | None) -> str:
    """7.9 MB."""
    if value is None:
        return DASH
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:,.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:,.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def quantity(meter: str, value: int | None) -> str:
    """So much of a meter, in the unit that its name says."""
    if value is None:
        return DASH
    if "bytes" in meter:
        return size(value)
    if meter.endswith("_ms"):
        return duration(value / 1000)
    return duration(value) if meter.endswith("_seconds") else number(value)


def money(value: Decimal | None, currency: str = " EUR") -> str:
    """0.41 EUR; of what is below a cent the first two digits that say something."""
    if value is None:
        return DASH
    if not value:
        return f"0{currency}"
    if value < Decimal("0.000001"):
        return f"under 0.000001{currency}"
    if value < Decimal("0.01"):
        # As many places as the second digit after the zeros needs.
        return f"{value:.{1 - value.adjusted()}f}{currency}"
    return f"{value:,.0f}{currency}" if value >= 1000 else f"{value:,.2f}{currency}"


def duration(seconds: float | None) -> str:
    """3 min 20 s."""
    if seconds is None:
        return DASH
    return "under 1 s" if 0 < seconds < 1 else spoken(timedelta(seconds=seconds))


def minutes(value: float | None) -> str:
    """About how long, for previews."""
    return DASH if value is None else "under 1 min" if value < 1 else f"{value:,.0f} min"


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return _CONJUNCTION.join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def relative(instant: datetime, now: datetime) -> str:
    """12 min ago; in 2 min."""
    distance = now - instant
    if abs(distance) < timedelta(seconds=1):
        return "now"
    length = abs(distance)
    # "4 min ago" is enough; the exact instant is on hover.
    said = spoken(length - timedelta(seconds=length.seconds % 60)) if length >= timedelta(minutes=1) else spoken(length)
    return f"{said} ago" if distance > timedelta(0) else f"in {said}"


def zone_of(name: str | None) -> tzinfo:
    """The viewer's zone as the browser says it; UTC where it says nothing that is known."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def utc(instant: datetime) -> str:
    """2024-11-18 14:00:05 UTC."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def exact(instant: datetime, zone: tzinfo) -> str:
    """In the viewer's zone, then UTC."""
    local = instant.astimezone(zone)
    return utc(instant) if zone is UTC else f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()} · {utc(instant)}"


def clock(instant: datetime, zone: tzinfo) -> str:
    """14:03:20 in the viewer's zone; UTC is said where that is it."""
    return f"{instant.astimezone(zone):%H:%M:%S}" + (" UTC" if zone is UTC else "")


def countdown(until: datetime, now: datetime) -> str:
    """24 s: how long it still takes; never less than a second."""
    return spoken(timedelta(seconds=max(1, math.ceil((until - now).total_seconds()))))


def when(instant: datetime | None, now: datetime, zone: tzinfo = UTC) -> Markup | str:
    """Relative, with the exact instant on hover."""
    if instant is None:
        return DASH
    return tag("time", relative(instant, now), datetime=instant.isoformat(), title=exact(instant, zone))


def change(current: float, before: float) -> str | None:
    """+12 %, against a week earlier; None where there is nothing to compare with."""
    return None if not before else f"{(current - before) / before * 100:+.0f} %"


def label_of(environment: Environment, subject: str) -> str:
    """A stream as people say it; its id where it is not configured any more."""
    return next((s.label for s in environment.streams if s.id == subject), subject)


def command(*, kind: str, streams: Iterable[str], since: str | None = None, until: str | None = None) -> str:
    """The same as a command."""
    parts = ["python -m jobs sync", *streams]
    if kind == "full":
        parts.append("--full")
    if since:
        parts.append(f"--since {since}")
    if until:
        parts.append(f"--until {until}")
    return " ".join(parts)
