"""Control routes under /_sandbox/amplitude/: faults, settings, hours that change, and the truth to compare with.

They need no key, count for no limit and are never faulty; the server listens on loopback only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb

from . import envelope
from .faults import FAULTS, SETTINGS
from .generate import hour_at, hour_number
from .http import Asked, Reply, json_reply
from .project import Amplitude, Project


def handle(amplitude: Amplitude, asked: Asked, name: str) -> Reply:
    """Answer one control call; mistakes are 400 with a sentence."""
    route = _ROUTES.get((asked.method, name.strip("/")))
    if route is None:
        known = ", ".join(f"{m} {n}" for m, n in _ROUTES)
        return json_reply({"error": f"no control route {asked.method} {name}; known: {known}"}, 404)
    try:
        return json_reply(route(amplitude, asked))
    except (ValueError, KeyError, TypeError, duckdb.Error) as error:
        return json_reply({"error": f"{type(error).__name__}: {error}"}, 400)


def read_hour(text: str) -> int:
    """The number of an hour such as 2024-11-20T13; raises ValueError."""
    return hour_number(datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC))


def _project(amplitude: Amplitude, name: str | None) -> Project:
    return amplitude.projects[name or "us"]


def health(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    del asked
    shape = amplitude.projects["us"].shape
    return {
        "ready": True,
        "projects": {region: one.shape.project_id for region, one in amplitude.projects.items()},
        "events_per_hour": shape.events_per_hour,
        "first_hour": shape.first_hour.isoformat() if shape.first_hour else None,
        "newest_hour": hour_at(int(amplitude.clock().timestamp()) // 3600 - 1).isoformat(),
    }


def faults(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    if asked.method == "POST":
        amplitude.faults.update(asked.json())
    return {"faults": dict(amplitude.faults.set), "known": FAULTS}


def settings(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    if asked.method == "POST":
        wanted = asked.json()
        if unknown := sorted(set(wanted) - set(SETTINGS)):
            raise ValueError(f"unknown settings {unknown}; known: {sorted(SETTINGS)}")
        amplitude.settings.update(wanted)
    return {"settings": amplitude.settings}


def change(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    """`{rewrite: [hours], late: [hours], project}`: hours that lose events, and hours that get a file more."""
    wanted = asked.json()
    if unknown := sorted(set(wanted) - {"rewrite", "late", "project"}):
        raise ValueError(f"unknown keys {unknown}; known: late, project, rewrite")
    project = _project(amplitude, wanted.get("project"))
    again = [read_hour(text) for text in wanted.get("rewrite", ())]
    project.late |= {read_hour(text) for text in wanted.get("late", ())}
    for hour in again:
        project.revisions[hour] = project.revisions.get(hour, 0) + 1
    return {
        "revisions": {hour_at(h).isoformat(): n for h, n in sorted(project.revisions.items())},
        "late": [hour_at(h).isoformat() for h in sorted(project.late)],
    }


def truth(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    """Of hours `start` to `end` (both included): events stored, lines written, violations, events by name."""
    project = _project(amplitude, asked.given.get("project"))
    first, last = read_hour(asked.given["start"]), read_hour(asked.given["end"])
    facts = project.facts(first, last)
    asking = project.generator.ask
    within = f"up BETWEEN {first} AND {last}"
    lines = sum(
        bytes(piece).count(b"\n")
        for hour in range(first, last + 1)
        for part in project.parts(hour)
        for piece in project.generator.lines(hour, part, project.revisions.get(hour, 0))
    )
    broken = asking(f"{facts} SELECT v, count(*) FROM facts WHERE v > 0 AND {within} GROUP BY v ORDER BY v")  # noqa: S608  ours
    named = asking(f"{facts} SELECT event_type, count(*) FROM facts WHERE {within} GROUP BY 1 ORDER BY 1")  # noqa: S608  ours
    return {
        "events": sum(number for _, number in named),
        "lines": lines,
        "merges": sum(project.generator.merges(hour).count(b"\n") for hour in range(first, last + 1)),
        "violations": {envelope.VIOLATIONS[v]: number for v, number in broken},
        "by_event": dict(named),
    }


def reset(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    """No faults, default settings, nothing spent, no count; with `data` also every hour as it was made."""
    wanted = asked.json()
    amplitude.faults.clear()
    amplitude.settings = dict(SETTINGS)
    amplitude.stats.clear()
    for project in amplitude.projects.values():
        for spent in (project.requests, project.queries, project.taxonomy):
            spent.past.clear()
        if wanted.get("data"):
            project.revisions.clear()
            project.late.clear()
    return {"reset": True}


def stats(amplitude: Amplitude, asked: Asked) -> dict[str, Any]:
    shown = {
        "requests": dict(amplitude.stats),
        "under_way": {region: one.requests.busy for region, one in amplitude.projects.items()},
        "cost_of_queries": {region: one.queries.within(3600) for region, one in amplitude.projects.items()},
    }
    if asked.method == "POST" and asked.json().get("reset"):
        amplitude.stats.clear()
    return shown


_ROUTES = {
    ("GET", "health"): health,
    ("GET", "faults"): faults,
    ("POST", "faults"): faults,
    ("GET", "settings"): settings,
    ("POST", "settings"): settings,
    ("POST", "change"): change,
    ("GET", "truth"): truth,
    ("POST", "reset"): reset,
    ("GET", "stats"): stats,
    ("POST", "stats"): stats,
}
