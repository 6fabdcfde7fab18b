"""Schedules with a day behind them, for pages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, update

from novade_core.ledger import schedules
from novade_core.ledger.database import Ledger
from novade_core.ledger.fires import SCHEDULER
from novade_core.ledger.models import Fire, Lease, ScheduleRow
from novade_core.schedules import FireState, Outage, ScheduleSpec, Timing
from novade_core.settings import load_settings
from novade_core.streams import RunKind
from tests.pages.seed import CONFIG, add_run

#: The four states of past fires: state, reason, seconds late.
TROUBLE = {
    FireState.LATE: ("Nobody scheduled when it was due; booked 312 s later.", 312),
    FireState.SKIPPED: ("Salesforce Contact: run 41 is still under way.", 0),
    FireState.MISSED: (
        "Nobody scheduled when it was due; booked 1,212 s later. The schedule's rule is to skip.",
        1_212,
    ),
}


def scheduled(
    ledger: Ledger,
    now: datetime | None = None,
    *,
    more: tuple[ScheduleSpec, ...] = (),
    trouble: tuple[FireState, ...] = (),
    holder: str | None = "console:41:9",
) -> dict[str, int]:
    """The schedules of novade.toml and ``more``, the canary, and what they did within a day. Gives the ids.

    The newest fires of the first schedule are in the states of ``trouble``.
    """
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    begin = now - timedelta(hours=24)
    planned = load_settings(file=CONFIG, environ={}).schedules
    # As ``configure`` leaves them: of Salesforce alone, and the canary, which asks for nothing.
    planned = tuple(
        replace(s, streams=s.streams and ("salesforce",)) for s in planned if not s.streams or "salesforce" in s.streams
    )
    schedules.seed(ledger, (*planned, *more), now=begin)
    found = schedules.schedules(ledger)
    first = next(s for s in found if not s.is_canary)
    with ledger.write() as c:
        for schedule in found:
            spec = schedule.spec
            due = [(p, spec.timing.due(spec.name, p)) for p in spec.timing.between(begin, now)]
            due = [(promised, at) for promised, at in due if at <= now]
            for back, (promised, at) in enumerate(reversed(due)):
                troubled = schedule is first and back < len(trouble)
                state = trouble[back] if troubled else FireState.ON_TIME
                reason, late = TROUBLE[state] if troubled else (None, 0)
                asked = 1 if spec.streams and state in (FireState.ON_TIME, FireState.LATE) else 0
                booked = at + timedelta(seconds=late, milliseconds=40 + 7 * (back % 30))
                fire = {
                    "schedule_id": schedule.id, "promised": promised, "due_at": at, "booked_at": booked,
                    "state": state.value, "reason": reason, "runs": asked, "booked_by": "console:41:9",
                }  # fmt: skip
                fire_id = c.execute(insert(Fire).values(fire).returning(Fire.id)).scalar_one()
                if asked and back < 6:
                    add_run(c, stream="contact", at=booked, fire_id=fire_id, requested_by=f"schedule {spec.name}")
            if due:
                row = update(ScheduleRow).where(ScheduleRow.id == schedule.id)
                c.execute(row.values(booked_to=due[-1][0]))
        c.execute(insert(Lease).values(stream=SCHEDULER, holder=holder, fence=1, beat=9, taken_at=begin))
    return {s.spec.name: s.id for s in found}


def spec(name: str, **more: Any) -> ScheduleSpec:
    """A schedule every hour."""
    given: dict[str, Any] = {
        "streams": ("salesforce.contact",),
        "kind": RunKind.INCREMENTAL,
        "timing": Timing(every_seconds=3_600),
        "outage": Outage.ONCE,
    }
    return ScheduleSpec(name=name, **(given | more))
