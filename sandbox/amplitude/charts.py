"""Counts as Amplitude's charts show them: event segmentation and the list of events.

Charts count stored events, each `uuid` once, by `event_time` in days of the project's zone; uniques follow merges.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from . import plan
from .generate import LATEST_HOURS
from .http import Asked, Refused, Reply, json_reply
from .project import Amplitude, Project

#: An event is in a file of an hour at most so many hours after it happened, a repeated `$insert_id` aside.
_MARGIN = LATEST_HOURS + 2


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise Refused(400, f"Invalid date {text!r}: start and end must have the form YYYYMMDD") from None


def _event(text: str) -> str:
    try:
        return str(json.loads(text)["event_type"])
    except (ValueError, KeyError, TypeError):
        raise Refused(400, f"Invalid event {text!r}: an object with event_type is expected") from None


def segmentation(amplitude: Amplitude, project: Project, asked: Asked) -> Reply:
    """GET /api/2/events/segmentation by day: `m` is uniques (the default), totals or average; `e`, `e2` name events."""
    given = asked.given
    if "e" not in given:
        raise Refused(400, "Missing required parameter: e")
    events = [_event(given[name]) for name in ("e", "e2") if name in given]
    first, last = _day(given.get("start", "")), _day(given.get("end", ""))
    measure = given.get("m", "uniques")
    if not 0 <= (last - first).days < 365:
        raise Refused(400, "Invalid range: start and end must span 1 to 365 days")
    if measure not in ("uniques", "totals", "average") or given.get("i", "1") != "1":
        raise Refused(400, "stand-in: not offered; m is uniques, totals or average, and i is 1")
    if {"s", "g", "g2"} & set(given):
        raise Refused(400, "stand-in: segments and group-bys are not offered")
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    limits = ((300, int(amplitude.settings["cost_per_5_minutes"])), (3600, int(amplitude.settings["cost_per_hour"])))
    if not project.queries.spend(len(days) * len(events), *limits):
        raise Refused(429, f"Exceeded the cost limit: {limits[0][1]} in 5 minutes, {limits[1][1]} per hour")
    series = [_series(amplitude, project, event, days, measure) for event in events]
    return json_reply(
        {
            "data": {
                "series": series,
                "seriesLabels": list(range(len(events))),
                "seriesCollapsed": [[{"setId": "", "value": sum(one)}] for one in series],
                "xValues": [day.isoformat() for day in days],
            }
        }
    )


def _series(amplitude: Amplitude, project: Project, event: str, days: list[date], measure: str) -> list[float]:
    zone = ZoneInfo(str(amplitude.settings["time_zone"]))
    edges = [
        int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) for day in (*days, days[-1] + timedelta(1))
    ]
    counted = counts(amplitude, project, edges)
    dropped = set(amplitude.settings["dropped_events"])
    wanted = [
        (place, total, people)
        for place, name, total, people in counted
        if name == event or (event in ("_all", "_active") and name is None)
    ]
    if event in dropped:
        wanted = []
    if dropped and event in ("_all", "_active"):
        gone = dict.fromkeys(range(len(days)), 0)
        for place, name, total, _ in counted:
            gone[place] += total if name in dropped else 0
        wanted = [(place, total - gone[place], people) for place, total, people in wanted]
    made = [0.0] * len(days)
    for place, total, people in wanted:
        made[place] = {"totals": total, "uniques": people}.get(measure, round(total / people, 6) if people else 0)
    return made


def counts(amplitude: Amplitude, project: Project, edges: list[int]) -> list[tuple[int, str | None, int, int]]:
    """Per day (between two edges, in seconds since 1970) and event: (day, event or None for all, totals, uniques)."""
    now = amplitude.clock().timestamp()
    last = min(edges[-1] // 3600 + project.shape.repeat_after_hours + _MARGIN, int(now) // 3600)
    values = ", ".join(f"({n}, {a}000000, {b}000000)" for n, (a, b) in enumerate(pairwise(edges)))
    return project.generator.ask(
        f"{project.facts(edges[0] // 3600 - 1, last)}, "  # noqa: S608  numbers of ours
        f"days(place, low, high) AS (VALUES {values}) "
        "SELECT place, event_type, count(*)::BIGINT, count(DISTINCT CASE WHEN merged_hour <= "
        f"{int(now) // 3600} THEN user_ampl ELSE device_ampl END)::BIGINT FROM facts JOIN days "
        f"ON event_us >= low AND event_us < high WHERE t0 + shift <= {int(now * 1_000_000)} "
        "GROUP BY GROUPING SETS ((place), (place, event_type)) ORDER BY 1, 2"
    )


def events_list(amplitude: Amplitude, project: Project, asked: Asked) -> Reply:
    """GET /api/2/events/list: every visible event with its totals of this week."""
    del asked
    today = amplitude.clock().date()
    monday = today - timedelta(days=today.weekday())
    start = int(datetime(monday.year, monday.month, monday.day, tzinfo=UTC).timestamp())
    totals = {name: total for _, name, total, _ in counts(amplitude, project, [start, start + 7 * 86400])}
    settings = amplitude.settings
    names = [event.name for event in plan.tracking_plan(settings["plan_version"])]
    rows: list[dict[str, Any]] = [
        {
            "value": name,
            "display": name,
            "totals": totals.get(name, 0),
            "hidden": name in settings["hidden_events"],
            "deleted": name in settings["deleted_events"],
            "non_active": False,
            "flow_hidden": False,
        }
        for name in [*names, *(n for n in totals if n is not None and n not in names)]
    ]
    return json_reply({"data": [row for row in rows if not row["hidden"] and not row["deleted"]]})
