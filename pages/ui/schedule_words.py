"""Schedules in words: what, the rule for outages, what differs, and the command that does the same."""

from __future__ import annotations

import shlex
from typing import Any

from novade_core.ledger import leases
from novade_core.ledger.fires import Rules
from novade_core.ledger.schedules import FireFacts, Schedule
from novade_core.schedules import FireState, Outage, ScheduleSpec, interval_text
from pages.ui import status, words
from pages.ui.markup import Markup, address, link
from pages.ui.page import Services

OUTAGES = {
    Outage.ONCE: "The newest one runs late, once",
    Outage.ALL: "Each one runs late, in order",
    Outage.SKIP: "They are missed; the next one comes on time",
}
_FIELDS = {
    "streams": "Streams",
    "kind": "Kind",
    "cron": "Cron expression",
    "every_seconds": "Interval",
    "timezone": "Time zone",
    "jitter_seconds": "Jitter",
    "outage": "After an outage",
}


def rules_of(services: Services) -> Rules:
    """What booking needs, as this process knows it."""
    environment = services.environment
    return Rules(
        streams=environment.streams,
        on_time_seconds=environment.worker.on_time_seconds,
        booked_by=leases.own_name(),
    )


def href(name: str, **more: Any) -> str:
    """The view of one schedule."""
    return address("schedules", schedule=name, **more)


def name_link(name: str) -> Markup:
    """A schedule's name, leading to it."""
    return link(name, href(name))


def streams_in_words(services: Services, spec: ScheduleSpec) -> str:
    """All of Salesforce; Salesforce Contact and Salesforce Lead."""
    if not spec.streams:
        return "none: it measures the scheduler itself"
    return words.listed([stream_in_words(services, name) for name in spec.streams])


def stream_in_words(services: Services, name: str) -> str:
    """One name of a schedule's streams."""
    if name == "*":
        return "all streams"
    if name in {s.source for s in services.environment.streams}:
        return f"all of {name.capitalize()}"
    return services.label(name)


def state_of(schedule: Schedule) -> Markup:
    """Active, or paused and by whom."""
    if schedule.paused_at is None:
        return status.badge("active")
    return status.badge("paused", title=f"Paused by {schedule.paused_by}")


def differences(schedule: Schedule) -> list[tuple[str, str, str]]:
    """What it is, what the configuration says instead, by field."""
    if schedule.seed is None:
        return []
    here, there = schedule.spec.to_json(), schedule.seed.to_json()
    return [(_FIELDS[key], _plain(here[key]), _plain(there[key])) for key in here if here[key] != there[key]]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or words.DASH
    return words.DASH if value is None else str(value)


def late_in_words(fire: FireFacts) -> str:
    """How long after it was due it was booked; a dash where nobody asked for it."""
    if fire.state not in (FireState.ON_TIME, FireState.LATE):
        return words.DASH
    return lateness(fire.late_seconds)


def lateness(seconds: float | None) -> str:
    """0.03 s; 3 min 20 s."""
    if seconds is None:
        return words.DASH
    return f"{seconds:.2f} s" if seconds < 10 else words.duration(seconds)


def command(verb: str, name: str, *more: str) -> str:
    """The same as a command."""
    return shlex.join(["python", "-m", "jobs", "schedule", verb, name, *more])


def add_command(spec: ScheduleSpec) -> str:
    """The command that makes this schedule."""
    return command("add", spec.name, *_options(spec.to_json(), {}))


def edit_command(before: ScheduleSpec, after: ScheduleSpec) -> str:
    """The command that makes the one of the other."""
    return command("edit", after.name, *_options(after.to_json(), before.to_json()))


def _options(after: dict[str, Any], before: dict[str, Any]) -> list[str]:
    usual = {"timezone": "UTC", "jitter_seconds": 0, "kind": "incremental", "outage": "once"} | before
    changed = {key: value for key, value in after.items() if value != usual.get(key)}
    options: list[str] = []
    if "streams" in changed:
        options += ["--streams", ",".join(changed["streams"])]
    if changed.get("cron") is not None:
        options += ["--cron", changed["cron"]]
    if changed.get("every_seconds") is not None:
        options += ["--every", interval_text(changed["every_seconds"])]
    if "timezone" in changed:
        options += ["--timezone", changed["timezone"]]
    if "jitter_seconds" in changed:
        seconds = changed["jitter_seconds"]
        options += ["--jitter", interval_text(seconds) if seconds else "0"]
    for name in ("kind", "outage"):
        if name in changed:
            options += [f"--{name}", changed[name]]
    return options
