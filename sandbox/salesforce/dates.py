"""Date literals of SOQL as half-open ranges of days. The org's time zone is UTC."""

from __future__ import annotations

from datetime import date, timedelta

from .soql import DateLiteral


def _months(day: date, count: int) -> date:
    """The first of the month `count` months away."""
    index = day.year * 12 + day.month - 1 + count
    return date(index // 12, index % 12 + 1, 1)


def bounds(literal: DateLiteral, today: date) -> tuple[date, date]:
    """First day inside and first day after."""
    day, n = timedelta(days=1), literal.count
    week = today - day * ((today.weekday() + 1) % 7)
    table = {
        "TODAY": (today, today + day),
        "YESTERDAY": (today - day, today),
        "TOMORROW": (today + day, today + day * 2),
        "THIS_WEEK": (week, week + day * 7),
        "LAST_WEEK": (week - day * 7, week),
        "THIS_MONTH": (_months(today, 0), _months(today, 1)),
        "LAST_MONTH": (_months(today, -1), _months(today, 0)),
        "NEXT_MONTH": (_months(today, 1), _months(today, 2)),
        "THIS_QUARTER": (_months(today, -((today.month - 1) % 3)), _months(today, 3 - (today.month - 1) % 3)),
        "THIS_YEAR": (date(today.year, 1, 1), date(today.year + 1, 1, 1)),
        "LAST_YEAR": (date(today.year - 1, 1, 1), date(today.year, 1, 1)),
        "NEXT_YEAR": (date(today.year + 1, 1, 1), date(today.year + 2, 1, 1)),
        "LAST_90_DAYS": (today - day * 90, today + day),
        # LAST_N_DAYS includes today, as the real one does.
        "LAST_N_DAYS": (today - day * n, today + day),
        "NEXT_N_DAYS": (today + day, today + day * (n + 1)),
        "LAST_N_MONTHS": (_months(today, -n), _months(today, 0)),
        "LAST_N_YEARS": (date(today.year - n, 1, 1), date(today.year, 1, 1)),
        "N_DAYS_AGO": (today - day * n, today - day * (n - 1)),
    }
    return table[literal.name]
